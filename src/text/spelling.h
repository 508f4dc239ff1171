/* From the spelling of tokens to text: what a decoder replaces, in the order it was written down. A chain
 * replaces strings from left to right, the output of one being the input of the next, a byte at a time
 * and without memory: what may be the beginning of a match waits. */
#ifndef TEXT_SPELLING_H
#define TEXT_SPELLING_H
#include "base/buffer.h"
#include <stdbool.h>

enum { SPELLING_STEPS = 8, SPELLING_FROM = 32 };

struct spelling_step { char *from, *to; size_t n_from, n_to; };
struct spelling_steps { struct spelling_step step[SPELLING_STEPS]; size_t n; };

/* The strings are copied. E_UNSUP when `from` is too long, E_FORMAT when there are too many. */
stretto_status spelling_add(struct spelling_steps *s, const char *from, size_t n_from, const char *to,
                            size_t n_to, struct error *err);
void spelling_done(struct spelling_steps *s);

/* What waits, per step. Begins zeroed. */
struct spelling_chain { unsigned char held[SPELLING_STEPS][SPELLING_FROM]; unsigned char n[SPELLING_STEPS]; };
/* Appends to *out what is certain. */
stretto_status spelling_push(const struct spelling_steps *s, struct spelling_chain *c, const char *p, size_t n,
                             struct buffer *out);
/* Nothing follows: what waits comes out. */
stretto_status spelling_end(const struct spelling_steps *s, struct spelling_chain *c, struct buffer *out);
#endif
