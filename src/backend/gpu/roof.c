/* What a card can do at all, as bench holds its operations against it: kernels/roof.cl. A rate is the best of
 * several passes, each of so many launches that what is enqueued hides the enqueueing. */
#include "backend/gpu/program.h"
#include "base/clock.h"
#include "base/memory.h"
#include <stdio.h>

enum { LANES = 256, GROUPS_EACH = 16, PASSES = 5, ROUNDS = 512, ROUNDS_MATRICES = 32, MOST_LAUNCHES = 4096 };
static const uint64_t most_read = (uint64_t)2 << 30;   /* larger than any cache of a card */
static const double pass_seconds = 0.02, enough_seconds = 1;

struct gpu_roof {
    const struct gpu_driver *driver;
    struct gpu_code *code;
    struct gpu_kernel *read, *macs[ARITHMETIC_KINDS];
    double each[ARITHMETIC_KINDS];     /* multiply-adds of a round and lane */
    uint32_t lanes, groups, rounds[ARITHMETIC_KINDS];
};

stretto_status gpu_roof_open(struct gpu_device *d, struct gpu_roof **out, struct error *err)
{
    static const char *const plain[] = { "roof.cl", NULL }, *const matrices[] = { "mma.cl", "roof.cl", NULL };
    bool mma = d->about.arch >= 80;
    char options[64];
    struct gpu_roof *r = mem_alloc(sizeof *r);
    if (!r) return fail(err, STRETTO_E_NOMEM, "out of memory");
    *r = (struct gpu_roof){ .driver = d->driver, .each = { [ARITHMETIC_INT8] = mma ? 1024 : 64,
                                                           [ARITHMETIC_F32] = 16, [ARITHMETIC_BF16] = 512 },
                              .rounds = { [ARITHMETIC_INT8] = mma ? ROUNDS_MATRICES : ROUNDS,
                                          [ARITHMETIC_F32] = ROUNDS, [ARITHMETIC_BF16] = ROUNDS_MATRICES } };
    for (r->lanes = LANES; r->lanes > 32 && r->lanes > d->about.group;) r->lanes /= 2;
    r->groups = GROUPS_EACH * (d->about.units ? d->about.units : 1);
    snprintf(options, sizeof options, "-DROOF_LANES=%u -DROOF_MATRICES=%d", r->lanes, mma);
    stretto_status s = gpu_build(d, mma ? matrices : plain, options, &r->code, err);
    if (s == STRETTO_OK) s = d->driver->kernel(r->code, "roof_read", &r->read, err);
    if (s == STRETTO_OK) s = d->driver->kernel(r->code, "roof_int8", &r->macs[ARITHMETIC_INT8], err);
    if (s == STRETTO_OK) s = d->driver->kernel(r->code, "roof_f32", &r->macs[ARITHMETIC_F32], err);
    if (s == STRETTO_OK && mma) s = d->driver->kernel(r->code, "roof_bf16", &r->macs[ARITHMETIC_BF16], err);
    if (s == STRETTO_OK) *out = r;
    else gpu_roof_close(r);
    return s;
}

void gpu_roof_close(struct gpu_roof *r)
{
    if (!r) return;
    r->driver->code_close(r->code);
    mem_free(r);
}

/* Seconds of n launches, one behind the other. */
static stretto_status timed(struct gpu_device *d, struct gpu_kernel *k, const struct gpu_arg *args,
                            size_t n_args, uint32_t n, double *seconds, struct error *err)
{
    const uint32_t groups[3] = { d->roof->groups, 1, 1 };
    TRY(d->driver->finish(d->card, err));
    double begin = clock_seconds();
    for (uint32_t i = 0; i < n; i++)
        TRY(d->driver->launch(d->card, k, groups, d->roof->lanes, args, n_args, err));
    TRY(d->driver->finish(d->card, err));
    *seconds = clock_seconds() - begin;
    return STRETTO_OK;
}

/* Raises *rate to the most of `work` a second. */
static stretto_status raise(struct gpu_device *d, struct gpu_kernel *k, const struct gpu_arg *args,
                            size_t n_args, double work, double *rate, struct error *err)
{
    double t = 0;
    uint32_t n = 1;
    TRY(timed(d, k, args, n_args, 1, &t, err));        /* what comes first is slow */
    for (;; n *= 2) {
        TRY(timed(d, k, args, n_args, n, &t, err));
        if (t >= pass_seconds || n >= MOST_LAUNCHES) break;
    }
    double begin = clock_seconds();
    for (int i = 0; i < PASSES && (i == 0 || clock_seconds() - begin < enough_seconds); i++) {
        TRY(timed(d, k, args, n_args, n, &t, err));
        if (t > 0 && work * n / t > *rate) *rate = work * n / t;
    }
    return STRETTO_OK;
}

static stretto_status read_rate(struct gpu_device *d, uint64_t bytes, double *rate, struct error *err)
{
    struct gpu_memory *data = NULL, *out = NULL;
    if (!d->roof) TRY(gpu_roof_open(d, &d->roof, err));
    stretto_status s = d->driver->alloc(d->card, (uint64_t)d->roof->groups * d->roof->lanes * 4, &out, err);
    if (s == STRETTO_OK) s = d->driver->alloc(d->card, bytes, &data, err);
    if (s == STRETTO_OK) s = d->driver->zero(d->card, data, 0, bytes, err);
    const struct gpu_arg args[] = { { data, 0 }, { out, 0 }, { NULL, (int32_t)(bytes / 16) },
                                    { NULL, (int32_t)d->roof->groups } };
    if (s == STRETTO_OK) s = raise(d, d->roof->read, args, 4, (double)bytes, rate, err);
    d->driver->free(data);
    d->driver->free(out);
    return s;
}

static stretto_status macs_rates(struct gpu_device *d, double rate[ARITHMETIC_KINDS], struct error *err)
{
    struct gpu_memory *out = NULL;
    if (!d->roof) TRY(gpu_roof_open(d, &d->roof, err));
    const struct gpu_roof *r = d->roof;
    double lanes = (double)r->groups * r->lanes;
    stretto_status s = d->driver->alloc(d->card, (uint64_t)r->groups * r->lanes * 4, &out, err);
    for (int k = 0; k < ARITHMETIC_KINDS && s == STRETTO_OK; k++) {
        const struct gpu_arg args[] = { { out, 0 }, { NULL, (int32_t)r->rounds[k] } };
        if (r->macs[k]) s = raise(d, r->macs[k], args, 2, lanes * r->rounds[k] * r->each[k], &rate[k], err);
    }
    d->driver->free(out);
    return s;
}

/* Of memory beside the weights, as much as they are, or `bytes`, but no more than is free or worth reading. */
stretto_status gpu_roof_bytes(const struct weights *w, unsigned threads, size_t bytes, double *rate,
                              struct error *err)
{
    struct gpu_device *d = w->device;
    uint64_t want = bytes ? bytes : w->bytes, most = d->about.largest < most_read ? d->about.largest : most_read;
    (void)threads;
    pthread_mutex_lock(&d->lock);
    uint64_t left = d->driver->free_memory(d->card) / 2;
    if (left && left < most) most = left;
    if (want > most) want = most;
    want &= ~(uint64_t)15;
    stretto_status s = want ? gpu_not_opened(d, read_rate(d, want, rate, err), err) : STRETTO_OK;
    pthread_mutex_unlock(&d->lock);
    return s;
}

stretto_status gpu_roof_macs(const struct weights *w, unsigned threads, double rate[ARITHMETIC_KINDS],
                             struct error *err)
{
    struct gpu_device *d = w->device;
    (void)threads;
    pthread_mutex_lock(&d->lock);
    stretto_status s = gpu_not_opened(d, macs_rates(d, rate, err), err);
    pthread_mutex_unlock(&d->lock);
    return s;
}
