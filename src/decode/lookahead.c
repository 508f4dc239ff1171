/* Lookahead decoding (arXiv 2402.02057): while a few guesses are verified, rows of the same step
 * run a Jacobi iteration over a window, and what its columns say becomes n-grams for later guesses.
 *
 * The window has n - 1 levels of w columns; the token of level l, column i stands at the position
 * i + l behind the last certain token, which is level 0, column 0. Level 0 is a chain, and below
 * it every column hangs on its own level before: the parent of (l, i) is (l - 1, i), so the mask of
 * the paper is a tree. The answer of the deepest level completes an n-gram per column, and levels move
 * up by one. N-grams that begin with the last certain token hang on the root as guesses. */
#include "base/random.h"
#include "decode/strategy.h"
#include <string.h>

enum {
    COLUMNS = 4, GRAM = 3, GUESSES = 4,          /* defaults: 7 rows of window, 8 of guesses */
    MAX_COLUMNS = 24, MAX_GRAM = 8, MAX_GUESSES = 16, POOL = 4096, WINDOW_BUCKET = 15
};

/* N-grams that begin with `key`, newest first; a token in a place that another needs loses it. */
struct grams { int32_t key; uint32_t n; };

struct lookahead {
    uint32_t columns, gram, guesses;
    uint64_t seed;
    uint32_t levels, at;               /* filled so far; timeline they belong to, 0: none    */
    uint32_t asked;                    /* timeline that it last proposed for                 */
    int32_t window[MAX_GRAM - 1][MAX_COLUMNS], node[MAX_GRAM - 1][MAX_COLUMNS];
    struct grams *pool;                /* [POOL]                                             */
    int32_t *tails;                    /* [POOL][guesses][gram - 1]                          */
};

static void *lookahead_plan(struct arena *a, const struct strategy_setup *s)
{
    struct lookahead *x = arena_take(a, sizeof *x);
    uint32_t columns = s->window ? s->window : COLUMNS, gram = s->ngram ? s->ngram : GRAM;
    uint32_t guesses = s->guesses ? s->guesses : GUESSES;
    /* No wider than the rows of a step. */
    uint32_t most = gram > 1 ? (s->rows + 1) / (gram - 1) : 0;
    if (most > MAX_COLUMNS) most = MAX_COLUMNS;
    if (columns > most) columns = most;
    size_t places = gram < 2 || gram > MAX_GRAM || guesses > MAX_GUESSES ? 0 : POOL;
    struct grams *pool = arena_take(a, places * sizeof *pool);
    int32_t *tails = arena_take(a, places * guesses * (gram - 1) * sizeof *tails);
    if (a->base && x)
        *x = (struct lookahead){ .columns = columns, .gram = gram, .guesses = guesses,
                                 .seed = s->seed, .pool = pool, .tails = tails };
    return x;
}

static stretto_status lookahead_open(void *state, const struct strategy_setup *s,
                                     struct error *err)
{
    const struct lookahead *x = state;
    if (x->gram < 2 || x->gram > MAX_GRAM || x->guesses > MAX_GUESSES)
        return fail(err, STRETTO_E_ARG,
                    "lookahead with n-grams of %u and %u guesses; it takes 2 to %d and at most %d",
                    x->gram, x->guesses, MAX_GRAM, MAX_GUESSES);
    if (x->columns == 0)
        return fail(err, STRETTO_E_ARG,
                    "lookahead with n-grams of %u needs %u guesses in a step, and %u are allowed",
                    x->gram, x->gram - 2, s->rows);
    return STRETTO_OK;
}

static void lookahead_reset(void *state, uint32_t kept)
{
    struct lookahead *x = state;
    (void)kept;
    x->at = 0;
}

/* ---- the pool ------------------------------------------------------------------------------- */

static struct grams *place_of(const struct lookahead *x, int32_t key)
{
    return &x->pool[random_mix((uint32_t)key) % POOL];
}

static int32_t *tails_of(const struct lookahead *x, const struct grams *g)
{
    return x->tails + (size_t)(g - x->pool) * x->guesses * (x->gram - 1);
}

static void remember(struct lookahead *x, int32_t key, const int32_t *tail)
{
    struct grams *g = place_of(x, key);
    uint32_t size = x->gram - 1, at = 0;
    int32_t *t = tails_of(x, g);
    if (!x->guesses) return;
    if (g->key != key || !g->n) *g = (struct grams){ .key = key };
    while (at < g->n && memcmp(t + (size_t)at * size, tail, size * sizeof *t) != 0) at++;
    if (at == g->n) {
        if (g->n < x->guesses) g->n++;
        else at--;
    }
    memmove(t + size, t, (size_t)at * size * sizeof *t);
    memcpy(t, tail, size * sizeof *t);
}

/* ---- the window ----------------------------------------------------------------------------- */

static int32_t any_token(const struct lookahead *x, const struct timeline *t, uint32_t i)
{
    return t->tokens[random_at(x->seed, 1, t->n, i) % t->n];
}

static void begin_window(struct lookahead *x, const struct timeline *t)
{
    x->levels = 1;
    x->at = t->n;
    for (uint32_t i = 1; i < x->columns; i++) x->window[0][i] = any_token(x, t, i);
}

static unsigned bucket_of(uint32_t rank, uint32_t depth)
{
    return 4 * (rank < 2 ? rank : 2) + (depth < 3 ? depth : 3);
}

static void propose_pool(const struct lookahead *x, const struct timeline *t,
                         const struct proposal *p)
{
    int32_t last = t->tokens[t->n - 1];
    const struct grams *g = place_of(x, last);
    const int32_t *tail = tails_of(x, g);
    if (g->key != last) return;
    for (uint32_t r = 0; r < g->n; r++) {
        int32_t parent = TREE_ROOT;
        for (uint32_t k = 0; k + 1 < x->gram; k++) {
            parent = propose_token(p, parent, *tail++, bucket_of(r, k), false);
            if (parent < 0) return;
        }
    }
}

static stretto_status lookahead_propose(void *state, const struct timeline *t,
                                        const struct proposal *p, struct error *err)
{
    struct lookahead *x = state;
    (void)err;
    if (x->at != t->n) begin_window(x, t);
    x->asked = t->n;
    x->window[0][0] = t->tokens[t->n - 1];
    for (uint32_t l = 0; l < x->levels; l++)
        for (uint32_t i = 0; i < x->columns; i++) {
            int32_t parent = l ? x->node[l - 1][i] : i ? x->node[0][i - 1] : TREE_ROOT;
            x->node[l][i] = TREE_ROOT;
            if (l + i == 0) continue;
            if (parent != TREE_FULL)
                parent = propose_token(p, parent, x->window[l][i], WINDOW_BUCKET, true);
            x->node[l][i] = parent;
        }
    propose_pool(x, t, p);
    return STRETTO_OK;
}

/* What the model says after (l, i); -1 where that was not asked. */
static int32_t answer_of(const struct lookahead *x, const struct outcome *o, uint32_t l, uint32_t i)
{
    if (l + i == 0) return o->root_answer;
    int32_t node = x->node[l][i];
    return node >= 0 && o->tree->node[node].row ? o->tree->node[node].answer : -1;
}

static void learn_columns(struct lookahead *x, const int32_t *deepest)
{
    int32_t tail[MAX_GRAM];
    for (uint32_t i = 0; i < x->columns; i++) {
        if (deepest[i] < 0) continue;
        for (uint32_t l = 1; l < x->levels; l++) tail[l - 1] = x->window[l][i];
        tail[x->levels - 1] = deepest[i];
        remember(x, x->window[0][i], tail);
    }
}

/* Levels move up by one when all are there, and every column by as many places as the text grew
 * beyond that; new columns begin with tokens of the text. */
static void lookahead_observe(void *state, const struct outcome *o)
{
    struct lookahead *x = state;
    int32_t deepest[MAX_COLUMNS] = { 0 }, old[MAX_GRAM][MAX_COLUMNS];
    uint32_t gone = o->n_path + 1, full = x->gram - 1;
    if (x->at + gone != o->now.n || x->asked != x->at) { x->at = 0; return; }
    for (uint32_t i = 0; i < x->columns; i++) deepest[i] = answer_of(x, o, x->levels - 1, i);
    if (x->levels == full) learn_columns(x, deepest);
    memcpy(old, x->window, x->levels * sizeof *old);
    memcpy(old[x->levels], deepest, x->columns * sizeof *deepest);
    uint32_t up = x->levels == full, levels = up ? full : x->levels + 1;
    for (uint32_t l = 0; l < levels; l++)
        for (uint32_t i = 0; i < x->columns; i++) {
            uint32_t from = i + gone - up;
            bool have = from < x->columns && old[l + up][from] >= 0 && (l + up || from);
            x->window[l][i] =
                have ? old[l + up][from] : any_token(x, &o->now, l * MAX_COLUMNS + i);
        }
    x->levels = levels;
    x->at = o->now.n;
}

/* The window's rows are sent whatever they are worth. */
static struct guess_price lookahead_price(void *state, const struct timeline *t, double spend)
{
    const struct lookahead *x = state;
    (void)spend;
    uint32_t levels = x->at == t->n ? x->levels : 1;
    return (struct guess_price){ .rows = levels * x->columns - 1 };
}

extern const struct strategy strategy_lookahead;
const struct strategy strategy_lookahead = {
    .name = "lookahead",
    .what = "refines a window beside its guesses, and guesses the n-grams it has seen there",
    .paper = "lookahead decoding, arXiv 2402.02057",
    .prior = { 0.25F, 0.30F, 0.30F, 0.30F, 0.12F, 0.25F, 0.25F, 0.25F, 0.08F, 0.20F, 0.20F, 0.20F,
               0.02F, 0.02F, 0.02F, 0.02F },
    .plan = lookahead_plan,
    .open = lookahead_open,
    .reset = lookahead_reset,
    .propose = lookahead_propose,
    .observe = lookahead_observe,
    .price = lookahead_price,
};
