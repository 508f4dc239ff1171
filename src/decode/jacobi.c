/* Jacobi decoding (arXiv 2305.10427; as a window arXiv 2403.00835): guess a window of tokens, let the
 * model answer all of its rows in one step, and take the answers as the next guess; what has become
 * a fixed point is right. The window slides and never shrinks: its head is always the last certain
 * token, accepted tokens leave at the front, and the end is filled with what the text's n-grams
 * suggest, or with tokens of the text. In `auto` the answers of rejected rows are proposed, and rows are
 * sent for the next step's guesses where that pays, as it does with a model that was taught to jump
 * (2403.00835). How sure a guess is: by how long it has stayed the same, and by its row's probability of it. */
#include "decode/strategy.h"

enum { WINDOW = 16, STABLE_MOST = 2, SURE_CLASSES = 5 };

struct jacobi {
    uint32_t window;                   /* rows, the certain one included                   */
    uint64_t seed;
    uint32_t n, at;                    /* guesses, after a timeline of `at` tokens         */
    int32_t guess[TREE_ROWS];
    uint8_t stable[TREE_ROWS];        /* steps that left it as it was, up to STABLE_MOST  */
    uint8_t sure[TREE_ROWS];          /* class of its probability; STOPGAP: nobody said it */
    bool foretold[TREE_ROWS];         /* by a row that was sent ahead, and not by another's that was wrong */
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

enum { STOPGAP = SURE_CLASSES };

static uint8_t class_of(float p)
{
    static const float from[] = { 0.3F, 0.5F, 0.75F, 0.92F };
    uint8_t k = 0;
    while (k < sizeof from / sizeof *from && p >= from[k]) k++;
    return k;
}

static unsigned bucket_of(const struct jacobi *x, uint32_t i)
{
    if (x->sure[i] == STOPGAP) return STOPGAP_BUCKET;
    return (unsigned)SURE_CLASSES * x->stable[i] + x->sure[i];
}

static void fill(struct jacobi *x, const struct timeline *t, uint32_t i)
{
    x->guess[i] = stopgap_token(t, x->guess, i, x->seed);
    x->stable[i] = 0;
    x->sure[i] = STOPGAP;
    x->foretold[i] = false;
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
        if (i >= kept) fill(x, t, i);
        parent = propose_token(p, parent, x->guess[i], bucket_of(x, i), true);
        if (parent < 0) break;
        p->tree->node[parent].foretold |= x->foretold[i];
        x->node[i] = parent;
    }
    return STRETTO_OK;
}

/* The first `rows` tokens of the window are sent, stopgaps where nothing was refined. */
static uint32_t jacobi_ahead(void *state, const struct timeline *t, const struct proposal *p, uint32_t rows,
                             int32_t *out)
{
    struct jacobi *x = state;
    (void)out;
    if (rows > TREE_ROWS) return 0;
    for (uint32_t i = 0; i < rows; i++) {
        if (i == x->n) {
            fill(x, t, i);
            int32_t node = propose_token(p, i ? x->node[i - 1] : TREE_ROOT, x->guess[i], STOPGAP_BUCKET, true);
            if (node < 0) break;
            x->node[x->n++] = node;
        }
        p->tree->node[x->node[i]].wanted = true;
    }
    return 0;
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
        x->stable[n] = !same ? 0 : x->stable[gone + n] < STABLE_MOST ? x->stable[gone + n] + 1 : STABLE_MOST;
        x->sure[n] = class_of(top_probability(&o->answers[d->node[at].row].top, answer));
        x->guess[n] = answer;
        x->foretold[n] = d->node[at].wanted;
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
    .prior = { 0.05F, 0.07F, 0.10F, 0.15F, 0.20F, 0.12F, 0.20F, 0.25F, 0.30F, 0.40F, 0.20F, 0.30F, 0.35F, 0.45F, 0.50F,
               0.08F },
    .plan = jacobi_plan,
    .open = jacobi_open,
    .reset = jacobi_reset,
    .propose = jacobi_propose,
    .observe = jacobi_observe,
    .ahead = jacobi_ahead,
    .ahead_prior = 0.1F,
};
