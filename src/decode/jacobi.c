/* Jacobi decoding (arXiv 2305.10427; as a window arXiv 2403.00835): guess a window of tokens, let the
 * model answer all of its rows in one step, and take the answers as the next guess; what has become
 * a fixed point is right. The window slides and never shrinks: its head is always the last certain
 * token, accepted tokens leave at the front, and the end is filled with what the text's n-grams
 * suggest, or with tokens of the text. In `auto` only the answers of rejected rows are proposed. */
#include "base/random.h"
#include "decode/strategy.h"

enum { WINDOW = 16, LOOK_BACK = 8 };

struct jacobi {
    uint32_t window;                   /* rows, the certain one included                   */
    uint64_t seed;
    uint32_t n, at;                    /* guesses, after a timeline of `at` tokens         */
    int32_t guess[TREE_ROWS];
    uint8_t stable[TREE_ROWS];        /* steps that left it as it was, up to 2            */
    int32_t node[TREE_ROWS];          /* of the last tree                                */
};

static void *jacobi_plan(struct arena *a, const struct strategy_setup *s)
{
    struct jacobi *x = arena_take(a, sizeof *x);
    if (a->base && x) *x = (struct jacobi){ .window = s->window ? s->window : WINDOW, .seed = s->seed };
    return x;
}

static stretto_status jacobi_open(void *state, const struct strategy_setup *s, struct error *err)
{
    struct jacobi *x = state;
    (void)s;
    if (x->window < 2 || x->window > TREE_ROWS + 1)
        return fail(err, STRETTO_E_ARG, "a Jacobi window of %u; it takes 2 to %d tokens", x->window,
                    TREE_ROWS + 1);
    return STRETTO_OK;
}

static void jacobi_reset(void *state, uint32_t kept)
{
    struct jacobi *x = state;
    (void)kept;
    x->n = 0;
}

/* What might follow the timeline and the first k guesses. */
static int32_t fill(const struct jacobi *x, const struct timeline *t, uint32_t k)
{
    int32_t text[LOOK_BACK + TREE_ROWS];
    uint32_t n = 0, from = t->n > LOOK_BACK ? t->n - LOOK_BACK : 0;
    for (uint32_t i = from; i < t->n; i++) text[n++] = t->tokens[i];
    for (uint32_t i = 0; i < k; i++) text[n++] = x->guess[i];
    struct ngram_match m;
    if (ngram_find(t->index, text, n, &m, 1)) return ngram_at(t->index, m.place);
    return t->tokens[random_at(x->seed, 0, t->n, k) % t->n];
}

static unsigned bucket_of(unsigned stable, uint32_t depth, bool filled)
{
    unsigned d = depth < 2 ? 0 : depth < 3 ? 1 : depth < 5 ? 2 : 3;
    return (filled ? 12 : 4 * stable) + d;
}

/* The window as the model's answers left it, with fresh fillings behind it where it is sent whatever it is
 * worth; under `auto` only what was refined. All of it is wanted: an answer, right or wrong, is the next
 * state's guess (arXiv 2305.10427, 2403.00835). */
static stretto_status jacobi_propose(void *state, const struct timeline *t,
                                     const struct proposal *p, struct error *err)
{
    struct jacobi *x = state;
    int32_t parent = TREE_ROOT;
    (void)err;
    uint32_t kept = x->at == t->n ? x->n : 0, most = p->automatic ? kept : x->window - 1;
    x->at = t->n;
    for (x->n = 0; x->n < most; x->n++) {
        uint32_t i = x->n;
        bool filled = i >= kept;
        if (filled) {
            x->guess[i] = fill(x, t, i);
            x->stable[i] = 0;
        }
        parent = propose_token(p, parent, x->guess[i], bucket_of(x->stable[i], i + 1, filled), true);
        if (parent < 0) break;
        x->node[i] = parent;
    }
    return STRETTO_OK;
}

/* The sent child with the first row, which is the likeliest. */
static int32_t sent_child(const struct guess_tree *d, int32_t first)
{
    int32_t best = -1;
    for (int32_t i = first; i >= 0; i = d->node[i].sibling)
        if (d->node[i].row && (best < 0 || d->node[i].row < d->node[best].row)) best = i;
    return best;
}

/* The rows behind the accepted ones stood at the positions after the new last token, most of them
 * behind a wrong token: their answers are the next guess. Our own chain's, or the likeliest. */
static void jacobi_observe(void *state, const struct outcome *o)
{
    struct jacobi *x = state;
    const struct guess_tree *d = o->tree;
    uint32_t gone = o->n_path + 1, old = x->at + gone == o->now.n ? x->n : 0, n = 0;
    int32_t last = o->n_path ? o->path[o->n_path - 1] : TREE_ROOT;
    int32_t at = sent_child(d, last < 0 ? d->first : d->node[last].child);
    if (o->n_path < old && d->node[x->node[o->n_path]].parent == last &&
        d->node[x->node[o->n_path]].row)
        at = x->node[o->n_path];
    for (; at >= 0 && n < TREE_ROWS && d->node[at].answer >= 0; n++) {
        int32_t answer = d->node[at].answer;
        bool same = gone + n < old && x->guess[gone + n] == answer;
        x->stable[n] = !same ? 0 : x->stable[gone + n] < 2 ? x->stable[gone + n] + 1 : 2;
        x->guess[n] = answer;
        at = gone + n < old && x->node[gone + n] >= 0 && d->node[x->node[gone + n]].parent == at
                 ? x->node[gone + n]
                 : sent_child(d, d->node[at].child);
        if (at >= 0 && !d->node[at].row) at = -1;
    }
    x->n = n;
    x->at = o->now.n;
}

extern const struct strategy strategy_jacobi;
const struct strategy strategy_jacobi = {
    .name = "jacobi",
    .what = "refines a window of guesses until it is a fixed point",
    .paper = "Jacobi decoding, arXiv 2305.10427 and 2403.00835",
    .automatic = true,
    .prior = { 0.10F, 0.10F, 0.10F, 0.10F, 0.30F, 0.25F, 0.20F, 0.20F,
               0.45F, 0.35F, 0.30F, 0.30F, 0.15F, 0.10F, 0.08F, 0.05F },
    .plan = jacobi_plan,
    .open = jacobi_open,
    .reset = jacobi_reset,
    .propose = jacobi_propose,
    .observe = jacobi_observe,
};
