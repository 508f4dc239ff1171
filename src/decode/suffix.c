/* Suffix decoding (arXiv 2411.04975): of the places where this text, or finished answers of others,
 * ended like this, what followed how often? The continuations of those places form a trie with
 * counts; its likeliest nodes are proposed. The paper keeps the tries; here they are made when
 * needed, from at most 64 places that the n-gram index finds (longest agreement first, then
 * newest): memory is bounded by the ring alone, and nothing has to be taken out of a trie when old
 * answers go. */
#include "decode/suffix.h"
#include "decode/strategy.h"
#include <string.h>

enum { PLACES = 32, GROUPS = 96 };     /* places looked at in each index; groups of places kept */

struct place { uint32_t at, length; bool global; };

/* Places that agree on a path of the trie: place[from .. from + n). */
struct group { int32_t node; uint32_t from, n, depth; float path; };

struct suffix {
    struct suffix_store *store;
    uint32_t rows;
    struct place place[2 * PLACES];
    struct group group[GROUPS];
};

void suffix_store_plan(struct suffix_store *s, struct arena *a, uint32_t tokens)
{
    ngram_plan(&s->index, a, tokens);
}

void suffix_store_add(struct suffix_store *s, const int32_t *tokens, size_t n)
{
    for (size_t i = 0; i < n; i++) ngram_add(&s->index, tokens[i]);
    ngram_add(&s->index, NGRAM_BREAK);
}

static void *suffix_plan(struct arena *a, const struct strategy_setup *s)
{
    struct suffix *x = arena_take(a, sizeof *x);
    if (a->base && x) {
        x->store = s->store;
        x->rows = s->rows;
    }
    return x;
}

static int32_t token_at(const struct suffix *x, const struct timeline *t, const struct place *p,
                        uint32_t depth)
{
    const struct ngram_index *index = p->global ? &x->store->index : t->index;
    return ngram_at(index, p->at + depth);
}

/* Length of the agreement in four classes, times how often this token followed in four. One place
 * alone is no certainty: the count is held against one more place than there was. */
static unsigned bucket_of(uint32_t agree, uint32_t count, uint32_t of)
{
    unsigned length = agree < 3 ? 0 : agree < 5 ? 1 : agree < 9 ? 2 : 3;
    float share = (float)count / (float)(of + 1);
    return 4 * length + (share < 0.3F ? 0U : share < 0.55F ? 1U : share < 0.8F ? 2U : 3U);
}

/* The trie below the places [from, n), the likeliest paths first. */
static void propose_trie(struct suffix *x, const struct timeline *t, const struct proposal *p,
                         uint32_t from, uint32_t n, uint32_t agree)
{
    uint32_t n_groups = 1, nodes = 0;
    x->group[0] = (struct group){ TREE_ROOT, from, n, 0, 1 };
    while (n_groups && nodes < x->rows) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < n_groups; i++)
            if (x->group[i].path > x->group[best].path) best = i;
        struct group g = x->group[best];
        x->group[best] = x->group[--n_groups];
        for (uint32_t at = g.from; at < g.from + g.n && nodes < x->rows;) {
            int32_t token = token_at(x, t, &x->place[at], g.depth);
            uint32_t end = at + 1;
            for (uint32_t i = end; i < g.from + g.n; i++)
                if (token_at(x, t, &x->place[i], g.depth) == token) {
                    struct place swap = x->place[end];
                    x->place[end++] = x->place[i];
                    x->place[i] = swap;
                }
            unsigned b = bucket_of(agree + g.depth, end - at, g.n);
            float path = g.path * p->p_of_bucket[b];
            if (token != NGRAM_BREAK && path >= p->floor) {
                int32_t node = propose_token(p, g.node, token, b, false);
                nodes++;
                if (node >= 0 && n_groups < GROUPS)
                    x->group[n_groups++] =
                        (struct group){ node, at, end - at, g.depth + 1, path };
            }
            at = end;
        }
    }
}

static uint32_t find(struct suffix *x, const struct timeline *t)
{
    struct ngram_match m[PLACES];
    uint32_t n = 0;
    for (int global = 0; global < 2; global++) {
        if (global && !x->store) break;
        const struct ngram_index *index = global ? &x->store->index : t->index;
        uint32_t k = ngram_find(index, t->tokens, t->n, m, PLACES);
        for (uint32_t i = 0; i < k; i++)
            x->place[n++] = (struct place){ m[i].place, m[i].length, global };
    }
    return n;
}

/* Two tries: of the places that agree longest, and of all. What both propose is one node. */
static stretto_status suffix_propose(void *state, const struct timeline *t,
                                     const struct proposal *p, struct error *err)
{
    struct suffix *x = state;
    (void)err;
    uint32_t n = find(x, t), longest = 0, close = 0, least = NGRAM_LONGEST, least_close = least;
    for (uint32_t i = 0; i < n; i++) if (x->place[i].length > longest) longest = x->place[i].length;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t length = x->place[i].length;
        if (length < least) least = length;
        if (2 * length <= longest) continue;
        if (length < least_close) least_close = length;
        struct place swap = x->place[close];
        x->place[close++] = x->place[i];
        x->place[i] = swap;
    }
    if (close && close < n) propose_trie(x, t, p, 0, close, least_close);
    if (n) propose_trie(x, t, p, 0, n, least);
    return STRETTO_OK;
}

extern const struct strategy strategy_suffix;
const struct strategy strategy_suffix = {
    .name = "suffix",
    .what = "counts what followed in this text and in finished answers",
    .paper = "suffix decoding, arXiv 2411.04975",
    .automatic = true,
    .prior = { 0.05F, 0.28F, 0.45F, 0.60F, 0.08F, 0.60F, 0.80F, 0.85F,
               0.10F, 0.73F, 0.88F, 0.93F, 0.12F, 0.92F, 0.97F, 0.98F },
    .plan = suffix_plan,
    .propose = suffix_propose,
};
