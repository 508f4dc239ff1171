/* What a step's rows asked of the head, gathered from parts of the vocabulary by several threads: the likeliest
 * token and the list of the likeliest, ties to the lowest id. */
#ifndef BACKEND_ANSWERS_H
#define BACKEND_ANSWERS_H
#include "graph/step.h"
#include <stdbool.h>

struct best { float value; int32_t id; bool nan; };    /* id -1: none yet */

static inline bool top_above(float value, int32_t id, const struct step_top *t, int i)
{
    return t->id[i] < 0 || value > t->logit[i] || (value == t->logit[i] && id < t->id[i]);
}

static inline void top_insert(struct step_top *t, float value, int32_t id)
{
    int i = STEP_TOP - 1;
    for (; i > 0 && top_above(value, id, t, i - 1); i--) {
        t->id[i] = t->id[i - 1];
        t->logit[i] = t->logit[i - 1];
    }
    t->id[i] = id;
    t->logit[i] = value;
}

/* Folds x[0..n), tokens id.., whose largest is x[at], into the list: rarely more than one look. at == n: there is
 * none, since one of them is no number. */
static inline void top_scan(struct step_top *t, const float *x, size_t n, size_t at, int32_t id)
{
    if (at == n || !top_above(x[at], id + (int32_t)at, t, STEP_TOP - 1)) return;
    for (size_t i = 0; i < n; i++)
        if (top_above(x[i], id + (int32_t)i, t, STEP_TOP - 1)) top_insert(t, x[i], id + (int32_t)i);
}

static inline void best_scan(struct best *b, const float *x, size_t n, size_t at, int32_t id)
{
    if (at == n) b->nan = true;
    else if (b->id < 0 || x[at] > b->value || (x[at] == b->value && id + (int32_t)at < b->id)) {
        b->value = x[at];
        b->id = id + (int32_t)at;
    }
}

/* What the threads found of one ask in their parts: lists that stand `stride` apart. */
static inline struct best best_join(const struct best *x, unsigned n, size_t stride)
{
    struct best b = *x;
    for (unsigned t = 1; t < n; t++) {
        struct best c = x[t * stride];
        c.nan |= b.nan;
        b.nan = c.nan;
        if (c.id >= 0 && (b.id < 0 || c.value > b.value || (c.value == b.value && c.id < b.id))) b = c;
    }
    return b;
}

static inline struct step_top top_join(const struct step_top *x, unsigned n, size_t stride)
{
    struct step_top all = *x;
    for (unsigned t = 1; t < n; t++)
        for (int k = 0; k < STEP_TOP && x[t * stride].id[k] >= 0; k++)
            if (top_above(x[t * stride].logit[k], x[t * stride].id[k], &all, STEP_TOP - 1))
                top_insert(&all, x[t * stride].logit[k], x[t * stride].id[k]);
    return all;
}
#endif
