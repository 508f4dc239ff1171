/* What running a program takes, measured and taken by one code path: the lowered graph with the memory of
 * its values, and the threads' own. */
#include "backend/cpu/cpu.h"
#include <string.h>

static uint8_t forms(const void *w, int32_t param)
{
    return ((const struct weights *)w)->weight[param].forms;
}

static uint8_t forms_back(const void *w, int32_t param)
{
    const struct weight *back = ((const struct weights *)w)->weight[param].back;
    return back ? back->forms : 0;
}

static struct place placed(unsigned char *base, const struct value_place *x)
{
    struct place at = { .ld = x->ld, .ldq = x->ldq, .ldd = x->ldd, .forms = x->forms };
    if (!x->ld) return at;
    at.f = (float *)(void *)(base + x->f);
    if (x->forms & FORM_CODES) {
        at.q = (int8_t *)(base + x->q);
        at.d = (float *)(void *)(base + x->d);
        at.s = (float *)(void *)(base + x->s);
        at.sum = (int16_t *)(void *)(base + x->sum);
    }
    if (x->forms & FORM_BF16) at.h = (uint16_t *)(void *)(base + x->h);
    return at;
}

static uint32_t most_heads(const struct graph *g)
{
    uint32_t heads = 0;
    for (size_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op == OP_ATTENTION && g->nodes[i].attention.heads > heads)
            heads = g->nodes[i].attention.heads;
    return heads;
}

/* Values that another program has room for stand there. */
static stretto_status place_values(struct program *p, const struct lower_rules *r, struct arena *a, struct error *err)
{
    const struct program *other = p->limits.beside;
    struct arena values = { 0 };
    bool beside = a->base && other && other->values_bytes >= p->values_bytes;
    if (a->base) {
        p->values = beside ? other->values : arena_take(a, p->values_bytes);
        values = (struct arena){ .base = p->values, .cap = p->values_bytes };
    }
    TRY(lower(p->g, r, &p->low, a, &values, err));
    p->values_bytes = values.top;
    if (!a->base && !(other && other->values_bytes >= p->values_bytes)) arena_take(a, p->values_bytes);
    return STRETTO_OK;
}

stretto_status cpu_buffers(struct program *p, struct arena *a, struct error *err)
{
    const struct graph *g = p->g;
    const struct program_limits *lim = &p->limits;
    unsigned threads = p->threads;
    struct lower_rules rules = { lim->max_rows, lim->max_asks, lim->strict, forms, p->w, forms_back, lim->likes, true };
    p->place = arena_take(a, g->n_values * sizeof *p->place);
    p->tiles = arena_take(a, lim->max_rows * sizeof *p->tiles);
    p->jobs = arena_take(a, (size_t)SHARED_JOBS * threads * sizeof *p->jobs);
    p->best = arena_take(a, (size_t)threads * lim->max_asks * sizeof *p->best);
    p->top = arena_take(a, (size_t)threads * lim->max_asks * sizeof *p->top);
    p->scratch = arena_take(a, threads * sizeof *p->scratch);
    for (size_t r = 0; r < g->n_rope; r++)
        p->angles[r] = arena_take(a, (size_t)lim->max_rows * g->rope[r].n_rot * sizeof(float));
    p->partial = arena_take(a, SPLIT_ROWS * ((size_t)lim->max_seq_pages + 1) * most_heads(g) *
                                   (p->head_dim + 2) * sizeof(float));
    for (unsigned t = 0; t < threads; t++) {
        struct scratch *s = attention_scratch(a, p);
        if (a->base) p->scratch[t] = s;
    }
    TRY(place_values(p, &rules, a, err));
    p->tickets = arena_take(a, p->low.n_phases * sizeof *p->tickets);
    sets_buffers(p, a);
    if (g->loss) train_buffers(p, a);
    if (a->base) p->logits = placed(p->values, &p->low.logits);
    if (a->base) p->like = placed(p->values, &p->low.like);
    for (size_t v = 0; a->base && v < g->n_values; v++) p->place[v] = placed(p->values, &p->low.place[v]);
    return STRETTO_OK;
}
