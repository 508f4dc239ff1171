/* Prompt lookup (Saxena 2023, github.com/apoorvumang/prompt-lookup-decoding): what followed the last
 * time the text ended like this will follow again. The longest agreement is asked first, then the
 * newest place. How sure a guess is: by the number of tokens that agree, its own ancestors included,
 * for a guess deep in a copy has been confirmed by everything before it. */
#include "decode/strategy.h"

enum { CANDIDATES = 4 };

/* 0..11 for the first candidate, 12..15 for the others. */
static unsigned bucket_of(uint32_t agree, bool first)
{
    static const uint32_t limits[11] = { 1, 2, 3, 4, 5, 6, 8, 11, 15, 23, 31 };
    unsigned b = 0;
    while (b < 11 && agree > limits[b]) b++;
    return first ? b : b < 1 ? 12 : b < 3 ? 13 : b < 6 ? 14 : 15;
}

/* Each place where the text has ended like this before is copied on from, the longest agreement first. */
static stretto_status lookup_propose(void *state, const struct timeline *t,
                                     const struct proposal *p, struct error *err)
{
    struct ngram_match match[CANDIDATES];
    (void)state; (void)err;
    uint32_t n = ngram_find(t->index, t->tokens, t->n, match, CANDIDATES);
    for (uint32_t i = 0; i < n; i++) {
        int32_t parent = TREE_ROOT, copied[TREE_ROWS];
        float path = 1;
        for (uint32_t d = 0; d < TREE_ROWS; d++) {
            /* A copy that reaches the text's end goes on with what it has itself written. */
            uint32_t place = match[i].place + d;
            copied[d] = place < t->n ? t->tokens[place] : copied[place - t->n];
            unsigned b = bucket_of(match[i].length + d, i == 0);
            parent = propose_token(p, parent, copied[d], b, false);
            path *= p->p_of_bucket[b];
            if (parent < 0 || path < p->floor) break;
        }
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
    .propose = lookup_propose,
};
