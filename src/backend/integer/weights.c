/* Upload: weights become int8 codes with a scale for each output, vectors rows of integers. Here, and only here,
 * is floating point: each step is one correctly rounded operation, so every machine makes the same codes. */
#include "backend/integer/integer.h"
#include "backend/params.h"
#include "base/memory.h"
#include "kernels/panel.h"
#include <math.h>
#include <string.h>

enum { COLUMNS = PANEL_COLS };         /* outputs that a thread takes at once */

struct upload {
    struct weights *w;
    const struct graph *g;
    const struct param_bytes *src;     /* [n] */
    const bool *linear;                /* [n] */
    float *column[TEAM_MAX];           /* per thread: COLUMNS columns as float32, and as stored */
    float *unit;                       /* [most outputs] of one weight */
    const struct upload_options *o;
    size_t param;                      /* whose turn it is */
    atomic_size_t ticket, failed;      /* failed: a parameter with a number that is none, and 1 */
    atomic_uint_fast64_t done;
    uint64_t total;
};

static bool cancelled(const struct upload *u) { return u->o->cancel && *u->o->cancel; }

struct scale scale_of(double x)
{
    int e;
    double m = frexp(x, &e);
    if (x == 0) return (struct scale){ 0, 0 };
    int64_t n = llrint(ldexp(m, 31));
    if (n == (int64_t)1 << 31 || n == -((int64_t)1 << 31)) n /= 2, e++;
    return (struct scale){ (int32_t)n, e - 31 };
}

/* The codes of one output: the largest weight is 127, others the nearest to w * 127 / largest, ties to even. The
 * product is exact, and no quotient of floats is nearer to a tie than a double can tell. */
static bool column_codes(const float *w, uint32_t n, int8_t *code, float *unit)
{
    float most = 0;
    bool number = true;
    for (uint32_t i = 0; i < n; i++) {
        number &= isfinite(w[i]) != 0;
        most = fabsf(w[i]) > most ? fabsf(w[i]) : most;
    }
    *unit = most / CODE_MOST;
    double by = most > 0 ? (double)most : 1;
    for (uint32_t i = 0; i < n && number; i++) code[i] = (int8_t)lrint((double)w[i] * CODE_MOST / by);
    return number;
}

static void encode_thread(void *arg, unsigned rank)
{
    struct upload *u = arg;
    struct weight *w = &u->w->weight[u->param];
    const struct param_bytes *s = &u->src[u->param];
    uint32_t n_items = (w->n_out + COLUMNS - 1) / COLUMNS;
    float *column = u->column[rank];
    for (size_t i; (i = atomic_fetch_add(&u->ticket, 1)) < n_items && !cancelled(u);) {
        uint32_t first = (uint32_t)i * COLUMNS, n = w->n_out - first < COLUMNS ? w->n_out - first : COLUMNS;
        struct linear_columns x = param_columns(s, first, n, column + (size_t)COLUMNS * w->n_in);
        for (uint32_t c = 0; c < n; c++) {
            dtype_table[x.type].decode((const char *)x.at + c * x.stride, column, w->n_in);
            int8_t *code = (int8_t *)(uintptr_t)w->code + (size_t)(first + c) * w->ld;
            if (!column_codes(column, w->n_in, code, &u->unit[first + c])) atomic_store(&u->failed, u->param + 1);
        }
        param_release(s, (uint32_t)i, n_items);
        uint64_t done = atomic_fetch_add(&u->done, (uint64_t)n * w->ld);
        if (rank == 0 && u->o->progress) u->o->progress(u->o->ud, done, u->total);
    }
}

/* One exponent for all outputs: that of the largest scale. */
static void column_scales(struct weight *w, const float *unit)
{
    float most = 0;
    int32_t *m = (int32_t *)(uintptr_t)w->m;
    for (uint32_t i = 0; i < w->n_out; i++) most = unit[i] > most ? unit[i] : most;
    w->e = scale_of((double)most).e;
    for (uint32_t i = 0; i < w->n_out; i++) {
        double x = rint(ldexp((double)unit[i], -w->e));
        m[i] = x > INT32_MAX ? INT32_MAX : (int32_t)x;
    }
}

static stretto_status take_vector(struct weight *w, const struct param_bytes *s, const char *name, int32_t *to,
                                  struct error *err)
{
    float *f = mem_alloc(s->n_in * sizeof *f);
    if (!f) return fail(err, STRETTO_E_NOMEM, "out of memory while loading");
    stretto_status st = param_vector(s, f);
    row_from_float(f, s->n_in, (struct row){ to, &w->vector.e });
    mem_free(f);
    if (st == STRETTO_OK && w->vector.e == EXPONENT_NAN)
        st = fail(err, STRETTO_E_FORMAT, "%s has an element that is no finite number", name);
    w->vector.x = to;
    return st;
}

/* Sizes and, when a->base is set, places. */
static stretto_status place_weights(struct upload *u, const bool *table, struct arena *a, struct error *err)
{
    struct weights *w = u->w;
    for (size_t i = 0; i < w->n; i++) {
        const struct param_bytes *s = &u->src[i];
        const char *name = u->g->params[i].name;
        struct weight *x = &w->weight[i];
        TRY(param_check(s, name, err));
        *x = (struct weight){ .n_in = s->n_in, .n_out = s->n_out };
        if (table[i]) x->table = *s;
        if (u->linear[i]) {
            if (s->n_in > INTEGER_INPUTS)
                return fail(err, STRETTO_E_UNSUP, "%s has %u inputs; sums of more than %d products of codes do not "
                            "fit into 32 bits, so this model cannot be computed in integers", name, s->n_in,
                            INTEGER_INPUTS);
            x->ld = (s->n_in + 63) & ~(size_t)63;
            x->code = arena_take(a, x->ld * s->n_out);
            x->m = arena_take(a, s->n_out * sizeof *x->m);
        } else if (!table[i]) {
            int32_t *to = arena_take(a, s->n_in * sizeof *to);
            if (a->base) TRY(take_vector(x, s, name, to, err));
        }
    }
    return STRETTO_OK;
}

static stretto_status encode_all(struct upload *u, struct error *err)
{
    struct weights *w = u->w;
    uint32_t n_in = 0, n_out = 0;
    unsigned threads = u->o->threads ? u->o->threads : team_size(w->device->team);
    for (size_t i = 0; i < w->n; i++) {
        if (u->linear[i] && w->weight[i].n_in > n_in) n_in = w->weight[i].n_in;
        if (u->linear[i] && w->weight[i].n_out > n_out) n_out = w->weight[i].n_out;
    }
    TRY(team_grow(w->device->team, threads, err));
    u->unit = mem_alloc((n_out + 1) * sizeof *u->unit);
    bool all = u->unit != NULL;
    for (unsigned r = 0; r < threads; r++)
        all &= (u->column[r] = mem_alloc(2 * COLUMNS * (size_t)(n_in + 1) * sizeof(float))) != NULL;
    if (!all) return fail(err, STRETTO_E_NOMEM, "out of memory while loading");
    for (u->param = 0; u->param < w->n && !cancelled(u); u->param++) {
        if (!u->linear[u->param]) continue;
        atomic_store(&u->ticket, 0);
        team_run(w->device->team, threads, encode_thread, u);
        column_scales(&w->weight[u->param], u->unit);
    }
    size_t failed = atomic_load(&u->failed);
    if (failed)
        return fail(err, STRETTO_E_FORMAT, "%s has a weight that is no finite number", u->g->params[failed - 1].name);
    if (cancelled(u)) return fail(err, STRETTO_E_CANCEL, "loading was cancelled");
    if (u->o->progress) u->o->progress(u->o->ud, u->total, u->total);
    return STRETTO_OK;
}

static stretto_status upload_into(struct upload *u, const bool *table, struct error *err)
{
    struct weights *w = u->w;
    struct arena a = { 0 };
    TRY(place_weights(u, table, &a, err));
    u->total = w->bytes = a.top;
    struct device *d = &w->device->device;
    TRY(params_fit(w->bytes, d->backend->memory(d), false,
                   " (of the machine, or what its control group leaves): close other programs, raise the limit, or "
                   "take a smaller model", err));
    w->memory = mem_map(w->bytes);
    if (!w->memory)
        return fail(err, STRETTO_E_NOMEM, "no memory for %.0f MB of weights; close other programs or take a smaller "
                    "model", (double)w->bytes / 1e6);
    atomic_fetch_add(&w->device->taken, w->bytes);
    a = (struct arena){ .base = w->memory, .cap = w->bytes };
    TRY(place_weights(u, table, &a, err));
    return encode_all(u, err);
}

stretto_status integer_upload(struct weights **out, struct device *on, const struct graph *g, const struct binding *b,
                              const struct upload_options *o, struct error *err)
{
    size_t n = g->n_params;
    if (o->reference)
        return fail(err, STRETTO_E_ARG, "the float32 path (--reference) and integer arithmetic exclude each other");
    struct upload u = { .o = o, .g = g };
    struct weights *w = mem_zalloc(1, sizeof *w);
    struct param_bytes *src = mem_zalloc(n, sizeof *src);
    bool *use = mem_zalloc(2 * n, sizeof *use);
    if (w) w->weight = mem_zalloc(n, sizeof *w->weight);
    if (w) w->seen = mem_zalloc(n, sizeof *w->seen);
    stretto_status s = STRETTO_OK;
    if (!w || !src || !use || !w->weight || !w->seen) s = fail(err, STRETTO_E_NOMEM, "out of memory while loading");
    else {
        w->device = (struct integer_device *)(void *)on;
        device_hold(on);
        w->n = n;
        for (size_t i = 0; i < n && s == STRETTO_OK; i++)
            s = b->find(b->ud, g->params[i].name, g->params[i].n_in, g->params[i].n_out, &src[i], err);
        u.w = w;
        u.src = src;
        u.linear = use;
        params_used(g, use, use + n);
        if (s == STRETTO_OK) s = upload_into(&u, use + n, err);
        if (s == STRETTO_OK && o->scales) s = scales_read(w, g, o->scales, err);
        for (unsigned r = 0; r < TEAM_MAX; r++) mem_free(u.column[r]);
        mem_free(u.unit);
    }
    mem_free(src);
    mem_free(use);
    if (s != STRETTO_OK) integer_weights_close(w);
    else *out = w;
    return s;
}

void integer_weights_close(struct weights *w)
{
    if (!w) return;
    if (w->memory) atomic_fetch_sub(&w->device->taken, w->bytes);
    mem_unmap(w->memory, w->bytes);
    mem_free(w->weight);
    mem_free(w->seen);
    if (w->device) device_drop(&w->device->device);
    mem_free(w);
}
