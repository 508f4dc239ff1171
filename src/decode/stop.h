/* Stop strings over a stream of text pieces: what could still become a stop string is held back. */
#ifndef DECODE_STOP_H
#define DECODE_STOP_H
#include "base/buffer.h"
#include <stdbool.h>

struct stop_filter {
    const char *const *stops;
    struct buffer held;
    const char *hit;    /* the one that was complete */
}; /* stops: NULL-terminated or NULL */

/* Takes a piece; calls emit for what is certain. *stopped is set when a stop string is complete;
 * the text before it has then been emitted and nothing else will be. */
stretto_status stop_push(struct stop_filter *f, const char *piece, size_t n, struct buffer *out,
                         bool *stopped);
/* The end of the stream: what was held back comes out. */
stretto_status stop_end(struct stop_filter *f, struct buffer *out);
#endif
