/* Rows of sets: what a step says of them, as the kinds of rows that the graph has. A set's rows are its own among all
 * rows, and those that ask are found where the graph reads any. */
#include "backend/cpu/cpu.h"

static bool has_asking(const struct graph *g)
{
    bool has = false;
    for (size_t v = 0; v < g->n_values; v++)
        has |= rows_are_set(g->values[v].rows) && rows_whole(g->values[v].rows) == ROWS_ASKING;
    return has;
}

void sets_buffers(struct program *p, struct arena *a)
{
    const struct graph *g = p->g;
    size_t n = g->n_sets, rows = p->limits.max_rows, asks = p->limits.max_asks;
    if (!n) return;
    p->lists = arena_take(a, 2 * n * sizeof *p->lists);
    if (has_asking(g)) {
        p->mark = arena_take(a, rows * sizeof *p->mark);
        p->asked = arena_take(a, n * asks * sizeof *p->asked);
        p->asked_weight = arena_take(a, n * asks * sizeof *p->asked_weight);
    }
    if (g->loss) p->inverse = arena_take(a, 2 * n * rows * sizeof *p->inverse);
}

/* Those that ask, in the order of the asks. */
static struct row_list asked(struct program *p, size_t set, const struct row_list *all)
{
    const struct step *s = p->step;
    int32_t *at = p->asked + set * p->limits.max_asks;
    float *weight = p->asked_weight + set * p->limits.max_asks;
    struct row_list list = { at, weight, 0 };
    if (!all->n) return list;
    for (size_t r = 0; r < s->n_rows; r++) p->mark[r] = -1;
    for (size_t i = 0; i < all->n; i++) p->mark[all->at[i]] = (int32_t)i;
    for (size_t i = 0; i < s->n_asks; i++) {
        int32_t in = p->mark[s->ask_row[i]];
        if (in < 0) continue;
        at[list.n] = (int32_t)i;
        weight[list.n++] = all->weight[in];
    }
    return list;
}

static void invert(struct program *p, size_t kind)
{
    int32_t *to = p->inverse + kind * p->limits.max_rows;
    for (size_t r = 0; r < p->limits.max_rows; r++) to[r] = -1;
    for (size_t i = 0; i < p->lists[kind].n; i++) to[p->lists[kind].at[i]] = (int32_t)i;
}

void sets_begin(struct program *p)
{
    const struct step *s = p->step;
    for (size_t k = 0; k < p->g->n_sets; k++) {
        struct row_list *all = &p->lists[2 * k], *asking = &p->lists[2 * k + 1];
        *all = *asking = (struct row_list){ 0 };
        if (s->set_at) *all = (struct row_list){ s->set_row + s->set_at[k], s->set_weight + s->set_at[k],
                                                 (size_t)(s->set_at[k + 1] - s->set_at[k]) };
        if (p->asked) *asking = asked(p, k, all);
        for (size_t kind = 2 * k; p->inverse && kind < 2 * k + 2; kind++) invert(p, kind);
    }
}

int32_t sets_unask(const struct program *p, enum rows_kind kind, size_t row)
{
    return rows_are_set(kind) ? p->inverse[(size_t)(kind - ROWS_SETS) * p->limits.max_rows + row] : p->ask_at[row];
}
