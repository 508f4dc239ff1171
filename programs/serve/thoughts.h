/* What a model thinks before it answers, taken out of its text as it comes: <think>words</think>. White space around
 * both is left out. */
#ifndef SERVE_THOUGHTS_H
#define SERVE_THOUGHTS_H
#include "base/buffer.h"
#include <stdbool.h>

enum { THOUGHTS_HELD = 64 };           /* bytes that may become a tag; longer white space goes out */

enum thoughts_at {
    THOUGHTS_BEFORE,                   /* the text may begin with `open`              */
    THOUGHTS_FIRST,                    /* inside, behind white space alone            */
    THOUGHTS_INSIDE,
    THOUGHTS_BEHIND,                   /* the answer begins behind white space        */
    THOUGHTS_OVER                      /* all that comes is the answer                */
};

struct thoughts {
    const char *open, *close;          /* static; close NULL: nothing is taken out    */
    enum thoughts_at at;
    char held[THOUGHTS_HELD];
    size_t n_held;
};

/* inside: the prompt has opened them. */
void thoughts_begin(struct thoughts *t, const char *open, const char *close, bool inside);
/* Appends what is thought and what is said of the next n bytes. */
stretto_status thoughts_take(struct thoughts *t, const char *p, size_t n, struct buffer *thought, struct buffer *said);
/* The text is over: what was held goes out. */
stretto_status thoughts_end(struct thoughts *t, struct buffer *thought, struct buffer *said);
#endif
