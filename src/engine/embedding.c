#include "engine/embedding.h"
#include "base/arena.h"
#include "base/memory.h"
#include <math.h>
#include <string.h>

stretto_status embedding_rule(const struct model *m, int asked, bool raw, enum pooling *kind, bool *normalize,
                              struct error *err)
{
    struct pooling_rule rule;
    source_pooling(m->source, &rule);
    if (asked < 0 && rule.refusal[0])
        return fail(err, STRETTO_E_UNSUP,
                    "%s, which is not supported; name a pooling (--pooling mean) to get vectors without it",
                    rule.refusal);
    *kind = asked >= 0 ? (enum pooling)asked : rule.kind;
    *normalize = rule.normalize && !raw && *kind != POOLING_NONE;
    return STRETTO_OK;
}

uint32_t embedding_longest(const struct model *m, const struct engine_info *i)
{
    return m->graph.bidirectional && i->max_rows < i->context ? i->max_rows : i->context;
}

size_t embedding_numbers(const struct embedding *x, const struct model *m)
{
    return (x->kind == POOLING_NONE ? x->count : 1) * m->config.width;
}

static void place(struct embedding *x, struct arena *a, bool own, size_t numbers)
{
    x->places = arena_take(a, x->rows * sizeof *x->places);
    x->sum = arena_take(a, x->width * sizeof *x->sum);
    float *hidden = arena_take(a, x->rows * x->width * sizeof *hidden);
    if (own) x->out = arena_take(a, numbers * sizeof *x->out);
    if (!a->base) return;
    memset(x->places, 0, x->rows * sizeof *x->places);
    memset(x->sum, 0, x->width * sizeof *x->sum);
    for (uint32_t i = 0; i < x->rows; i++) x->places[i].hidden = hidden + i * x->width;
}

stretto_status embedding_open(struct embedding *x, const struct model *m, const struct engine_info *i,
                              struct error *err)
{
    struct arena a = { 0 };
    x->width = m->config.width;
    x->rows = x->count < i->max_rows ? (uint32_t)x->count : i->max_rows;
    bool own = !x->out;
    size_t numbers = embedding_numbers(x, m);
    place(x, &a, own, numbers);
    x->memory = mem_alloc(a.top + 64);
    if (!x->memory) return fail(err, STRETTO_E_NOMEM, "out of memory");
    a = (struct arena){ .base = x->memory, .cap = a.top + 64 };
    place(x, &a, own, numbers);
    return STRETTO_OK;
}

void embedding_close(struct embedding *x)
{
    mem_free(x->memory);
    x->memory = NULL;
}

void embedding_ask(const struct embedding *x, struct request *r)
{
    uint32_t n = (uint32_t)x->count;
    r->wants = WANT_HIDDEN;
    r->first = x->kind == POOLING_LAST ? n - 1 : 0;
    r->end = x->kind == POOLING_CLS ? 1 : n;
    r->room = x->rows;
    r->places = x->places;
}

void embedding_take(struct embedding *x, uint32_t at, const struct answer *a)
{
    if (x->kind == POOLING_NONE)
        memcpy(x->out + at * x->width, a->hidden, x->width * sizeof *x->out);
    else
        for (size_t d = 0; d < x->width; d++) x->sum[d] += (double)a->hidden[d];
}

void embedding_finish(struct embedding *x)
{
    double norm = 0, n = x->kind == POOLING_MEAN ? (double)x->count : 1;
    if (x->kind == POOLING_NONE) return;
    for (size_t d = 0; d < x->width; d++) {
        x->out[d] = (float)(x->sum[d] / n);
        norm += (double)x->out[d] * (double)x->out[d];
    }
    for (size_t d = 0; x->normalize && d < x->width && norm > 0; d++)
        x->out[d] = (float)((double)x->out[d] / sqrt(norm));
}
