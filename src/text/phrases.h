/* Phrases: tokens that each stand for several others, learned from what a model is to say (`stretto teach --phrases`):
 * an answer takes fewer steps. No text is tokenised with them; whoever has an answer's tokens joins them. They follow
 * the vocabulary's own tokens and stand in tokenizer.ggml.tokens, where any reader of GGUF finds their text; of what
 * they are made stands beside them (docs/gguf-keys.md). As AdaptiVocab (arXiv 2503.19693) and zip2zip (2506.01084) add
 * n-grams of tokens to a vocabulary. Immutable once made. */
#ifndef TEXT_PHRASES_H
#define TEXT_PHRASES_H
#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

struct source;
struct tokens;
struct tokenizer;
struct buffer;

enum { PHRASES_MOST = 1 << 16, PHRASE_PIECES = 64 };

struct phrases {
    int32_t first;          /* the id of phrase 0; the others follow                                        */
    uint32_t n, longest;    /* longest: of one, in pieces                                                   */
    uint32_t *at;           /* [n + 1] phrase i is piece[at[i] .. at[i + 1])                                */
    int32_t *piece;         /* ids below `first`                                                            */
    uint32_t *order;        /* [n] by their pieces                                                          */
};

/* Copies: phrase i has length[i] pieces, behind those of i - 1. E_FORMAT where a phrase is shorter than two pieces or
 * longer than PHRASE_PIECES, of a piece that is none, or there twice. */
stretto_status phrases_make(struct phrases *p, int32_t first, const uint32_t *length, size_t n, const int32_t *piece,
                            struct error *err);
/* Those of a file; n is 0 where it has none. */
stretto_status phrases_from_source(struct phrases *p, const struct source *src, size_t vocab, struct error *err);
void phrases_done(struct phrases *p);

static inline uint32_t phrase_length(const struct phrases *p, size_t i) { return p->at[i + 1] - p->at[i]; }

/* The longest phrase that id[0 .. n) begins with: how many pieces it has, 0 where there is none. */
size_t phrases_match(const struct phrases *p, const int32_t *id, size_t n, int32_t *phrase);
/* Appends: from the left, always the longest phrase. */
stretto_status phrases_join(const struct phrases *p, const int32_t *id, size_t n, struct tokens *out);
/* Appends what phrases are made of; other tokens as they are. */
stretto_status phrases_split(const struct phrases *p, const int32_t *id, size_t n, struct tokens *out);

/* How a vocabulary would spell these tokens as one (appended): E_ARG, and nothing is wrong, where they may not be one:
 * a token among them that is no ordinary one (control, unknown, added), a text that is in the vocabulary already, that
 * has a control token's words in it, or that texts would be tokenised with. E_UNSUP: no vocabulary of this kind. */
stretto_status tokenizer_phrase(const struct tokenizer *t, const int32_t *id, size_t n, struct buffer *out,
                                struct error *err);
#endif
