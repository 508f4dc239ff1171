/* Token recycling (arXiv 2408.08696): what the model once held likely after a token it will hold
 * likely again. Every answered row teaches, rejected guesses too: its eight likeliest tokens replace
 * those of the row's token. Beside the paper's matrix there is one for pairs of tokens, and a
 * candidate remembers how likely it was, which is what tells good guesses from bad ones. */
#include "decode/recycle.h"
#include "base/random.h"
#include "decode/strategy.h"
#include <math.h>

enum { FRONTIER = 64, CHANCES = RECYCLE_CHANCES };

struct recycle { struct recycle_memory memory; uint32_t rows; };

void recycle_memory_plan(struct recycle_memory *m, struct arena *a, uint32_t vocab)
{
    m->vocab = vocab;
    m->after_token = arena_take(a, vocab * sizeof *m->after_token);
    m->after_pair = arena_take(a, RECYCLE_PAIRS * sizeof *m->after_pair);
}

static void *recycle_plan(struct arena *a, const struct strategy_setup *s)
{
    struct recycle *x = arena_take(a, sizeof *x);
    struct recycle_memory own;
    if (s->memory) own = *s->memory;
    else recycle_memory_plan(&own, a, s->vocab);
    if (a->base && x) *x = (struct recycle){ own, s->rows };
    return x;
}

/* The entry of a pair; *check tells whether it is really its own. */
static struct followers *pair_entry(const struct recycle_memory *m, int32_t before, int32_t token,
                               uint32_t *check)
{
    uint64_t h = random_mix((uint64_t)(uint32_t)before << 32 | (uint32_t)token);
    *check = (uint32_t)(h >> 32) | 1;
    return &m->after_pair[h % RECYCLE_PAIRS];
}

/* Class of a probability. */
static uint8_t class_of(float p)
{
    static const float limits[CHANCES - 1] = { 0.03F, 0.08F, 0.16F, 0.3F, 0.5F, 0.7F, 0.9F };
    uint8_t c = 0;
    while (c < CHANCES - 1 && p >= limits[c]) c++;
    return c;
}

/* The probabilities are those among the eight, which hold nearly all of it where it matters. */
static void remember(struct followers *s, uint32_t check, const struct step_top *top)
{
    float e[STEP_TOP], sum = 0;
    s->check = check;
    for (int i = 0; i < STEP_TOP; i++) {
        e[i] = top->id[i] < 0 ? 0 : expf(top->logit[i] - top->logit[0]);
        sum += e[i];
    }
    for (int i = 0; i < STEP_TOP; i++) {
        bool keep = top->id[i] >= 0 && e[i] > 0.01F * sum;
        s->token[i] = keep ? top->id[i] + 1 : 0;
        s->chance[i] = class_of(e[i] / sum);
    }
}

void recycle_learn(const struct recycle_memory *m, int32_t before, int32_t token,
                   const struct step_top *top)
{
    uint32_t check;
    if ((uint32_t)token >= m->vocab || top->id[0] < 0) return;
    remember(&m->after_token[token], 0, top);
    struct followers *s = pair_entry(m, before, token, &check);
    remember(s, check, top);
}

static void recycle_observe(void *state, const struct outcome *o)
{
    struct recycle *x = state;
    const struct guess_tree *d = o->tree;
    uint32_t last = o->now.n - o->n_path - 2;
    int32_t token = o->now.tokens[last];
    recycle_learn(&x->memory, last ? o->now.tokens[last - 1] : -1, token, &o->answers[0].top);
    for (uint32_t i = 0; i < d->n_sent; i++) {
        const struct guess_node *n = &d->node[d->order[i]];
        recycle_learn(&x->memory, n->parent < 0 ? token : d->node[n->parent].token, n->token,
                      &o->answers[n->row].top);
    }
}

struct open_node { int32_t node, before, token; float path; };

/* Adds the candidates of an entry below a node to the tree and to the frontier. */
static void grow(const struct proposal *p, struct open_node at, const struct followers *s, unsigned kind,
                 struct open_node *list, uint32_t *n)
{
    for (unsigned i = 0; i < STEP_TOP && s->token[i] > 0; i++) {
        unsigned b = CHANCES * kind + s->chance[i];
        float path = at.path * p->p_of_bucket[b];
        int32_t token = s->token[i] - 1;
        if (path < p->floor || *n == FRONTIER) continue;
        bool known = kind == 1 && tree_find(p->tree, at.node, token) >= 0;
        int32_t node = propose_token(p, at.node, token, b, false);
        if (node >= 0 && !known) list[(*n)++] = (struct open_node){ node, at.token, token, path };
    }
}

/* Best first: the likeliest open node gets its followers, those after the pair of tokens before those after
 * the last one alone, until as many nodes have grown as rows could be sent. */
static stretto_status recycle_propose(void *state, const struct timeline *t,
                                      const struct proposal *p, struct error *err)
{
    struct recycle *x = state;
    struct open_node list[FRONTIER];
    uint32_t n = 1, check;
    (void)err;
    list[0] = (struct open_node){ TREE_ROOT, t->n > 1 ? t->tokens[t->n - 2] : -1,
                                  t->tokens[t->n - 1], 1 };
    for (uint32_t grown = 0; n && grown < x->rows; grown++) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < n; i++) if (list[i].path > list[best].path) best = i;
        struct open_node at = list[best];
        list[best] = list[--n];
        if ((uint32_t)at.token >= x->memory.vocab) continue;
        const struct followers *pair = pair_entry(&x->memory, at.before, at.token, &check);
        if (pair->check == check) grow(p, at, pair, 0, list, &n);
        grow(p, at, &x->memory.after_token[at.token], 1, list, &n);
    }
    return STRETTO_OK;
}

extern const struct strategy strategy_recycle;
const struct strategy strategy_recycle = {
    .name = "recycle",
    .what = "expects what the model last held likely after these tokens",
    .paper = "token recycling, arXiv 2408.08696",
    .automatic = true,
    .prior = { 0.02F, 0.05F, 0.10F, 0.20F, 0.35F, 0.50F, 0.60F, 0.75F,
               0.01F, 0.02F, 0.04F, 0.08F, 0.12F, 0.18F, 0.25F, 0.35F },
    .plan = recycle_plan,
    .propose = recycle_propose,
    .observe = recycle_observe,
};
