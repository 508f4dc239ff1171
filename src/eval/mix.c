#include "eval/mix.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "engine/writers.h"
#include <time.h>

struct mixing {
    struct engine *e;
    const struct mix_test *t;
    struct writers w;
    struct mix_times *out;
    double *arrived, *last;            /* [requests] */
    double begin;
    uint32_t joined, done;
    uint64_t seed;
};

static double arrival(const struct mixing *x, uint32_t i)
{
    return x->begin + x->t->spread * i / x->t->requests;
}

static stretto_status join(struct mixing *x, uint32_t i, struct error *err)
{
    const struct plain_writer *w = &x->w.w[i];
    uint32_t vocab = engine_model(x->e)->config.vocab, n = x->t->prompt, id;
    int32_t *ids = mem_alloc(n * sizeof *ids);
    if (!ids) return fail(err, STRETTO_E_NOMEM, "out of memory");
    for (uint32_t k = 0; k < n; k++) ids[k] = (int32_t)(random_at(x->seed, i, k, 0) % vocab);
    engine_set(x->e, w->seq, ids, n, 0);
    mem_free(ids);
    writer_begin(w->writer);
    writer_limit(w->writer, n + x->t->answer, NULL, NULL);
    x->arrived[i] = arrival(x, i);
    /* The request's number finds its times again. */
    struct request r = { .seq = w->seq, .writer = w->writer, .ud = &x->arrived[i] };
    return request_add(x->e, &r, &id, err);
}

static void wait_until(double when)
{
    double s = when - clock_seconds();
    if (s <= 0) return;
    struct timespec t = { (time_t)s, (long)((s - (double)(time_t)s) * 1e9) };
    nanosleep(&t, NULL);
}

static stretto_status take(struct mixing *x, const struct event *v, double now, struct error *err)
{
    size_t i = (size_t)((double *)v->ud - x->arrived);
    if (v->error.status != STRETTO_OK) return fail(err, v->error.status, "%s", v->error.text);
    for (uint32_t k = 0; k < v->wrote; k++) {
        if (x->last[i] > 0) x->out->gap[x->out->n_gaps++] = (now - x->last[i]) / v->wrote;
        else x->out->first[i] = now - x->arrived[i];
        if (k + 1 == v->wrote || !(x->last[i] > 0)) x->last[i] = now;
    }
    x->done += v->done;
    return STRETTO_OK;
}

static stretto_status run(struct mixing *x, struct error *err)
{
    uint32_t n = x->t->requests;
    x->begin = clock_seconds();
    while (x->done < n) {
        while (x->joined < n && clock_seconds() >= arrival(x, x->joined)) TRY(join(x, x->joined++, err));
        if (!requests_count(x->e)) {
            wait_until(arrival(x, x->joined));
            continue;
        }
        size_t events;
        TRY(engine_turn(x->e, x->w.events, n, &events, err));
        double now = clock_seconds();
        for (size_t i = 0; i < events; i++) TRY(take(x, &x->w.events[i], now, err));
    }
    x->out->seconds = clock_seconds() - x->begin;
    return STRETTO_OK;
}

stretto_status mix_once(struct engine *e, const struct mix_test *t, uint64_t seed, struct mix_times *out,
                        struct error *err)
{
    struct mixing x = { .e = e, .t = t, .out = out, .seed = seed };
    struct schedule s = { .whole = t->whole };
    out->n_gaps = 0;
    x.arrived = mem_zalloc(t->requests, sizeof *x.arrived);
    x.last = mem_zalloc(t->requests, sizeof *x.last);
    stretto_status st = x.arrived && x.last ? writers_open(e, &x.w, t->requests, err)
                                            : fail(err, STRETTO_E_NOMEM, "out of memory");
    engine_schedule(e, &s);
    if (st == STRETTO_OK) st = run(&x, err);
    requests_drop(e);
    engine_schedule(e, &(struct schedule){ .whole = false });
    writers_close(e, &x.w);
    mem_free(x.arrived);
    mem_free(x.last);
    return st;
}
