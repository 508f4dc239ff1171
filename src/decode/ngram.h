/* Where has this been before? Tokens in a ring, and for n-grams of a few lengths a hash of the last
 * place and a chain of earlier ones (the match finder of LZ77 compressors, Ziv and Lempel 1977).
 * Adding a token takes one look per length; memory is fixed, the oldest tokens fall out. The same
 * index serves prompt lookup, suffix decoding and what fills a Jacobi window. */
#ifndef DECODE_NGRAM_H
#define DECODE_NGRAM_H
#include "base/arena.h"
#include <stdbool.h>

enum {
    NGRAM_KEYS = 5,        /* lengths with a chain: 8, 5, 3, 2, 1                        */
    NGRAM_LONGEST = 32,    /* tokens compared                                            */
    NGRAM_BREAK = -1       /* a token that matches nothing: between texts                */
};

struct ngram_index {
    int32_t *token;                    /* [capacity], by place modulo capacity           */
    uint32_t *before[NGRAM_KEYS];      /* [capacity] last place with the same hash, + 1  */
    uint32_t *head[NGRAM_KEYS];        /* [heads] last place with that hash, + 1         */
    uint32_t mask, head_mask;
    uint32_t end;                      /* places so far; the last token is at end - 1    */
    uint32_t top;                      /* the most there were: what the ring overwrote   */
};

struct ngram_match {
    uint32_t place;                    /* of the token that followed                     */
    uint32_t length;                   /* tokens before it that agree, <= NGRAM_LONGEST  */
};

/* For at least `tokens` tokens; base NULL measures. Memory must come zeroed. */
void ngram_plan(struct ngram_index *x, struct arena *a, uint32_t tokens);
void ngram_add(struct ngram_index *x, int32_t token);
/* Takes tokens away from the end; what is older than the ring is gone all the same. */
void ngram_cut(struct ngram_index *x, uint32_t end);
/* Places that followed what the text [n] ends with: longest key first, then newest first, at most
 * `most`. The text may be the index's own end: only places that hold a token are found. */
uint32_t ngram_find(const struct ngram_index *x, const int32_t *text, uint32_t n,
                    struct ngram_match *out, uint32_t most);
/* The token at a place, NGRAM_BREAK where there is none (any more). */
int32_t ngram_at(const struct ngram_index *x, uint32_t place);
#endif
