#include "engine/writers.h"
#include "base/memory.h"

void writers_close(struct engine *e, struct writers *x)
{
    for (uint32_t i = 0; x->w && i < x->n; i++) {
        writer_close(x->w[i].writer);
        if (x->w[i].seq < 0) continue;
        engine_rewind(e, x->w[i].seq, 0);          /* nothing is to be found again */
        engine_seq_close(e, x->w[i].seq);
    }
    mem_unmap(x->arena.base, x->arena.cap);
    mem_free(x->w);
    mem_free(x->events);
    *x = (struct writers){ .n = 0 };
}

static stretto_status open_one(struct engine *e, struct writers *x, struct plain_writer *w,
                               const struct writer_options *how, struct error *err)
{
    static const struct sampling greedy = { .top_p = 1, .repeat_penalty = 1, .repeat_last_n = 64 };
    TRY(engine_seq_open(e, &w->seq, err));
    sampler_plan(&w->sampler, &x->arena, engine_model(e)->config.vocab);
    TRY(sampler_set(&w->sampler, &greedy, err));
    return writer_open(&w->writer, e, w->seq, &w->sampler, &x->calibration, how, err);
}

stretto_status writers_open(struct engine *e, struct writers *x, uint32_t n, struct error *err)
{
    const struct writer_options plain = { .most = 1 };
    return writers_open_as(e, x, n, &plain, err);
}

stretto_status writers_open_as(struct engine *e, struct writers *x, uint32_t n, const struct writer_options *how,
                               struct error *err)
{
    struct arena size = { 0 };
    struct sampler s;
    *x = (struct writers){ .n = n };
    sampler_plan(&s, &size, engine_model(e)->config.vocab);
    size_t bytes = n * (size.top + 64);
    x->w = mem_zalloc(n, sizeof *x->w);
    x->events = mem_zalloc(n, sizeof *x->events);
    x->arena = (struct arena){ .base = mem_map(bytes), .cap = bytes };
    stretto_status st = x->w && x->events && x->arena.base
                            ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "out of memory");
    calibration_init(&x->calibration);
    for (uint32_t i = 0; x->w && i < n; i++) x->w[i].seq = -1;
    for (uint32_t i = 0; i < n && st == STRETTO_OK; i++) st = open_one(e, x, &x->w[i], how, err);
    if (st != STRETTO_OK) writers_close(e, x);
    return st;
}

uint32_t writers_find(const struct writers *x, int32_t seq)
{
    uint32_t k = 0;
    while (x->w[k].seq != seq) k++;
    return k;
}
