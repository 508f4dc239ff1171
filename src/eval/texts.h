/* Texts that quality is measured on, as windows of tokens: each is read on its own from an empty cache, and some
 * of its tokens count, each given those before it in the window.
 *
 * Plain text follows `llama-perplexity`: windows of one size, BOS in place of the first token where the model adds
 * one, the second half counts. Conversations go through the model's template, one in a window, and what the
 * assistant says counts, with the token that ends it. The first two tokens of a window never count: nothing stands
 * before them, or one token, behind which all models are odd. */
#ifndef EVAL_TEXTS_H
#define EVAL_TEXTS_H
#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

struct tokenizer;
struct chat;

struct eval_set {
    char *name;             /* of the text, for people                                       */
    int32_t *id;            /* window w: id[at[w]] .. id[at[w + 1]]                          */
    uint8_t *counts;        /* beside id: 1 where the token counts                           */
    size_t *at, n;          /* n windows                                                     */
    size_t tokens;          /* that count, of all                                            */
    uint32_t longest;       /* tokens of the longest window                                  */
};

/* `most` windows at most, 0: all. E_ARG with a sentence where the text has not one window. bos -1: none. */
stretto_status eval_set_text(struct eval_set *s, const char *name, const int32_t *id, size_t n, uint32_t window,
                             size_t most, int32_t bos, struct error *err);
/* JSON lines {"messages": [{"role": ..., "content": ...}, ...]}; conversations are cut behind `window` tokens. */
stretto_status eval_set_chat(struct eval_set *s, const char *name, const struct tokenizer *t, const struct chat *chat,
                             const char *lines, size_t n, uint32_t window, size_t most, struct error *err);
void eval_set_done(struct eval_set *s);
#endif
