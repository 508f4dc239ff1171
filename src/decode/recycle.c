/* Token recycling (arXiv 2408.08696): what the model once said after a token it will say again.
 * Every answered row teaches, rejected guesses too: the last two answers after each token, and after
 * each pair of tokens. The paper keeps eight candidates of each row's logits; here only the best
 * token of a row is known, which costs nothing to get. */
#include "base/random.h"
#include "decode/strategy.h"

enum { PAIRS = 1 << 14, FRONTIER = 64 };

/* Answers + 1, newest first; 0: none. streak: how often answer[0] came again in a row, up to 3. */
struct said { uint32_t check; int32_t answer[2]; uint32_t streak; };

struct recycle { struct said *after_token, *after_pair; uint32_t vocab, rows; };

static void *recycle_plan(struct arena *a, const struct strategy_setup *s)
{
    struct recycle *x = arena_take(a, sizeof *x);
    struct said *token = arena_take(a, s->vocab * sizeof *token);
    struct said *pair = arena_take(a, PAIRS * sizeof *pair);
    if (a->base && x) *x = (struct recycle){ token, pair, s->vocab, s->rows };
    return x;
}

/* The entry of a pair; *check tells whether it is really its own. */
static struct said *pair_entry(const struct recycle *x, int32_t before, int32_t token,
                               uint32_t *check)
{
    uint64_t h = random_mix((uint64_t)(uint32_t)before << 32 | (uint32_t)token);
    *check = (uint32_t)(h >> 32) | 1;
    return &x->after_pair[h % PAIRS];
}

static void learn(struct said *s, int32_t answer)
{
    if (s->answer[0] == answer + 1) {
        if (s->streak < 3) s->streak++;
        return;
    }
    s->answer[1] = s->answer[0];
    s->answer[0] = answer + 1;
    s->streak = 0;
}

static void learn_row(struct recycle *x, int32_t before, int32_t token, int32_t answer)
{
    uint32_t check;
    if (answer < 0 || (uint32_t)token >= x->vocab) return;
    learn(&x->after_token[token], answer);
    struct said *s = pair_entry(x, before, token, &check);
    if (s->check != check) *s = (struct said){ .check = check };
    learn(s, answer);
}

static void recycle_observe(void *state, const struct outcome *o)
{
    struct recycle *x = state;
    const struct draft *d = o->draft;
    uint32_t last = o->now.n - o->n_path - 2;
    int32_t token = o->now.tokens[last];
    learn_row(x, last ? o->now.tokens[last - 1] : -1, token, o->root_answer);
    for (uint32_t i = 0; i < d->n_sent; i++) {
        const struct draft_node *n = &d->node[d->order[i]];
        learn_row(x, n->parent < 0 ? token : d->node[n->parent].token, n->token, n->answer);
    }
}

struct open_node { int32_t node, before, token; float path; };

/* Adds both answers of an entry below a node to the draft and to the frontier. */
static void grow(const struct recycle *x, const struct proposal *p, struct open_node at,
                 const struct said *s, unsigned kind, struct open_node *list, uint32_t *n)
{
    (void)x;
    for (unsigned rank = 0; rank < 2 && s->answer[rank] > 0; rank++) {
        unsigned b = 8 * kind + 4 * rank + s->streak;
        float path = at.path * p->p_of_bucket[b];
        int32_t token = s->answer[rank] - 1;
        if (path < p->floor || *n == FRONTIER) continue;
        bool known = draft_find(p->draft, at.node, token) >= 0 && kind == 1;
        int32_t node = propose_token(p, at.node, token, b, false);
        if (node >= 0 && !known) list[(*n)++] = (struct open_node){ node, at.token, token, path };
    }
}

static stretto_status recycle_propose(void *state, const struct timeline *t,
                                      const struct proposal *p, struct error *err)
{
    struct recycle *x = state;
    struct open_node list[FRONTIER];
    uint32_t n = 1, check;
    (void)err;
    list[0] = (struct open_node){ DRAFT_ROOT, t->n > 1 ? t->tokens[t->n - 2] : -1,
                                  t->tokens[t->n - 1], 1 };
    for (uint32_t grown = 0; n && grown < x->rows; grown++) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < n; i++) if (list[i].path > list[best].path) best = i;
        struct open_node at = list[best];
        list[best] = list[--n];
        if ((uint32_t)at.token >= x->vocab) continue;
        const struct said *pair = pair_entry(x, at.before, at.token, &check);
        if (pair->check == check) grow(x, p, at, pair, 0, list, &n);
        grow(x, p, at, &x->after_token[at.token], 1, list, &n);
    }
    return STRETTO_OK;
}

extern const struct strategy strategy_recycle;
const struct strategy strategy_recycle = {
    .name = "recycle",
    .what = "expects what the model last said after these tokens",
    .source = "token recycling, arXiv 2408.08696",
    .automatic = true,
    .prior = { 0.55F, 0.85F, 0.93F, 0.97F, 0.30F, 0.12F, 0.08F, 0.06F,
               0.16F, 0.30F, 0.45F, 0.60F, 0.12F, 0.12F, 0.10F, 0.08F },
    .plan = recycle_plan,
    .propose = recycle_propose,
    .observe = recycle_observe,
};
