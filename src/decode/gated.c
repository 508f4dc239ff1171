/* Guesses of a gated adapter (arXiv 2507.11851; with the base's rows beside them 2604.11035): an adapter that acts on
 * rows apart was taught to guess, and the base, on whose rows it does not act, writes. A step carries the guesses that
 * the last one made, as rows of the base that verify them, and a chain of rows apart behind the last certain token that
 * refines them: the likeliest guesses there are and stopgaps behind them, as the noisy states of consistency training
 * (2403.00835). Row j's answer is the next step's guess of what stands behind token j, as in Jacobi decoding; the rows
 * themselves are forgotten. So text and pages are the base's. */
#include "decode/strategy.h"

enum { WINDOW = 8 };

struct gated {
    bool here;                         /* the model has an adapter of guesses           */
    uint32_t window;                   /* rows apart where nobody weighs them           */
    uint64_t seed;
    uint32_t n, at;                    /* guesses, after a timeline of `at` tokens      */
    int32_t guess[TREE_ROWS];
    uint8_t bucket[TREE_ROWS];
};

static void *gated_plan(struct arena *a, const struct strategy_setup *s)
{
    struct gated *x = arena_take(a, sizeof *x);
    if (a->base && x)
        *x = (struct gated){ .here = s->gated, .window = s->window ? s->window : WINDOW, .seed = s->seed };
    return x;
}

static stretto_status gated_open(void *state, const struct strategy_setup *s, struct error *err)
{
    const struct gated *x = state;
    (void)s;
    return x->here ? STRETTO_OK
                   : fail(err, STRETTO_E_ARG, "'gated' needs an adapter that acts on guesses: --lora FILE");
}

static void gated_reset(void *state, uint32_t kept)
{
    struct gated *x = state;
    (void)kept;
    x->n = 0;
}

static bool gated_silent(void *state, const struct timeline *t)
{
    const struct gated *x = state;
    return !x->n || x->at != t->n;
}

static stretto_status gated_propose(void *state, const struct timeline *t, const struct proposal *p, struct error *err)
{
    struct gated *x = state;
    int32_t parent = TREE_ROOT;
    (void)t;
    (void)err;
    for (uint32_t i = 0; i < x->n; i++) {
        parent = propose_token(p, parent, x->guess[i], x->bucket[i], false);
        if (parent < 0) break;
        p->tree->node[parent].foretold = true;
    }
    return STRETTO_OK;
}

static int32_t likeliest(const struct guess_tree *d, int32_t first)
{
    int32_t best = -1;
    for (int32_t i = first; i >= 0; i = d->node[i].sibling)
        if (best < 0 || d->node[i].path > d->node[best].path) best = i;
    return best;
}

static uint32_t gated_ahead(void *state, const struct timeline *t, const struct proposal *p, uint32_t rows,
                            int32_t *out)
{
    const struct gated *x = state;
    const struct guess_tree *d = p->tree;
    int32_t at = likeliest(d, d->first);
    if (rows == UINT32_MAX) rows = x->window;
    if (rows > TREE_ROWS) rows = TREE_ROWS;
    if (rows > d->deepest) rows = d->deepest;
    for (uint32_t i = 0; i < rows; i++) {
        out[i] = at >= 0 ? d->node[at].token : stopgap_token(t, out, i, x->seed);
        if (at >= 0) at = likeliest(d, d->node[at].child);
    }
    return rows;
}

/* Row apart j stood one place further back than what it answers. */
static void gated_observe(void *state, const struct outcome *o)
{
    struct gated *x = state;
    x->n = 0;
    x->at = o->now.n;
    for (uint32_t j = o->n_path; j < o->n_apart; j++) {
        float b = top_probability(&o->apart[j].top, o->apart_next[j]) * STOPGAP_BUCKET;
        x->guess[x->n] = o->apart_next[j];
        x->bucket[x->n++] = (uint8_t)(b < STOPGAP_BUCKET ? b : STOPGAP_BUCKET - 1);
    }
}

extern const struct strategy strategy_gated;
const struct strategy strategy_gated = {
    .name = "gated",
    .what = "an adapter of guesses guesses, and the base writes",
    .paper = "gated adapters, arXiv 2507.11851 and 2604.11035",
    .prior = { 0.05F, 0.08F, 0.12F, 0.16F, 0.20F, 0.25F, 0.30F, 0.35F, 0.40F, 0.45F, 0.50F, 0.58F,
               0.66F, 0.76F, 0.90F, 0.05F },
    .plan = gated_plan,
    .open = gated_open,
    .reset = gated_reset,
    .propose = gated_propose,
    .observe = gated_observe,
    .ahead = gated_ahead,
    .apart = true,
    .ahead_prior = 0.5F,
    .silent = gated_silent,
};
