/* Prompt lookup (Saxena 2023, github.com/apoorvumang/prompt-lookup-decoding): what followed the last
 * time the text ended like this will follow again. The longest agreement is asked first, then the
 * newest place. A text that the caller expects is one more place to copy from, from its beginning on.
 * How sure a guess is: by the number of tokens that agree, its own ancestors included, for a guess deep
 * in a copy has been confirmed by everything before it. */
#include "decode/strategy.h"

enum { CANDIDATES = 4, PREDICTED = 8 };        /* what a prediction's beginning counts as */

struct lookup { const struct prediction *prediction; };

static void *lookup_plan(struct arena *a, const struct strategy_setup *s)
{
    struct lookup *x = arena_take(a, sizeof *x);
    if (a->base && x) x->prediction = s->prediction;
    return x;
}

/* 0..11 for the first candidate, 12..15 for the others. */
static unsigned bucket_of(uint32_t agree, bool first)
{
    static const uint32_t limits[11] = { 1, 2, 3, 4, 5, 6, 8, 11, 15, 23, 31 };
    unsigned b = 0;
    while (b < 11 && agree > limits[b]) b++;
    return first ? b : b < 1 ? 12 : b < 3 ? 13 : b < 6 ? 14 : 15;
}

static void copy(const struct proposal *p, const int32_t *from, uint32_t n, uint32_t agree, bool first)
{
    int32_t parent = TREE_ROOT;
    float path = 1;
    for (uint32_t d = 0; d < n; d++) {
        unsigned b = bucket_of(agree + d, first);
        parent = propose_token(p, parent, from[d], b, false);
        path *= p->p_of_bucket[b];
        if (parent < 0 || path < p->floor) return;
    }
}

/* How many tokens before place `at` of the prediction are the text's last. */
static uint32_t agreement(const struct prediction *x, const struct timeline *t, uint32_t at)
{
    uint32_t k = 0, written = t->n - x->from;
    while (k < NGRAM_LONGEST && k < at && k < written && x->tokens[at - 1 - k] == t->tokens[t->n - 1 - k]) k++;
    return k == at && k == written ? k + PREDICTED : k;
}

/* The place with the longest agreement, of equal ones that which is as far in the prediction as the text is. */
static bool predict(const struct prediction *x, const struct timeline *t, const struct proposal *p)
{
    uint32_t best = 0, place = 0, far = 0;
    if (!x || !x->n || t->n < x->from) return false;
    for (uint32_t at = 0; at < x->n; at++) {
        uint32_t k = agreement(x, t, at), written = t->n - x->from;
        uint32_t away = at > written ? at - written : written - at;
        if (k < best || !k || (k == best && away >= far)) continue;
        best = k;
        place = at;
        far = away;
    }
    if (best) copy(p, x->tokens + place, x->n - place < TREE_ROWS ? x->n - place : TREE_ROWS, best, true);
    return best > 0;
}

/* Each place where the text has ended like this before is copied on from, the longest agreement first. */
static stretto_status lookup_propose(void *state, const struct timeline *t,
                                     const struct proposal *p, struct error *err)
{
    struct ngram_match match[CANDIDATES];
    (void)err;
    bool predicted = predict(((const struct lookup *)state)->prediction, t, p);
    uint32_t n = ngram_find(t->index, t->tokens, t->n, match, CANDIDATES);
    for (uint32_t i = 0; i < n; i++) {
        int32_t copied[TREE_ROWS];
        for (uint32_t d = 0; d < TREE_ROWS; d++) {
            /* A copy that reaches the text's end goes on with what it has itself written. */
            uint32_t place = match[i].place + d;
            copied[d] = place < t->n ? t->tokens[place] : copied[place - t->n];
        }
        copy(p, copied, TREE_ROWS, match[i].length, i == 0 && !predicted);
    }
    return STRETTO_OK;
}

extern const struct strategy strategy_lookup;
const struct strategy strategy_lookup = {
    .name = "lookup",
    .what = "copies what followed when the text last ended like this",
    .paper = "prompt lookup decoding, Saxena 2023",
    .automatic = true,
    .prior = { 0.20F, 0.55F, 0.60F, 0.70F, 0.75F, 0.75F, 0.80F, 0.85F, 0.90F, 0.93F, 0.95F, 0.98F,
               0.12F, 0.18F, 0.18F, 0.30F },
    .plan = lookup_plan, .propose = lookup_propose,
};
