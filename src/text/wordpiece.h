/* WordPiece: the longest token that begins the word, then the longest that continues it, and so on;
 * a word that cannot be covered is one unknown token. */
#ifndef TEXT_WORDPIECE_H
#define TEXT_WORDPIECE_H
#include "text/tokenizer.h"
#include "text/vocab.h"

/* How the vocabulary spells beginnings and continuations: "" and "##" in tokenizer.json, U+2581 and ""
 * in GGUF. */
struct wordpiece {
    char begin[16], inside[16];
    size_t n_begin, n_inside;
    size_t max_chars;             /* longer words are unknown */
    int32_t unk;
};

stretto_status wordpiece_encode(const struct wordpiece *wp, const struct vocab *v, const char *p,
                                size_t n, struct tokens *out);
#endif
