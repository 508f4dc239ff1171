/* From tokens to text that may be shown: pieces, the decoder's second reading where a tokenizer has one,
 * whole UTF-8 characters, stop strings. What may yet change is held back. One for each text being written;
 * once open it allocates only where a text holds back more than any before. */
#ifndef DECODE_TEXT_STREAM_H
#define DECODE_TEXT_STREAM_H
#include "decode/stop.h"
#include "text/tokenizer.h"

struct text_stream {
    const struct tokenizer *tokenizer; /* borrowed; NULL: tokens have no text */
    struct spelling_chain reread;
    struct utf8_stream whole;
    struct stop_filter stop;
    struct buffer piece, next;
};

stretto_status text_stream_open(struct text_stream *x, const struct tokenizer *t);
void text_stream_close(struct text_stream *x);
/* A new text. stops: NULL-terminated or NULL; borrowed until the text ends. */
void text_stream_begin(struct text_stream *x, const char *const *stops);
/* Appends what is certain with this token. *stopped: a stop string is complete; what stands before it has
 * come out and nothing else will. */
stretto_status text_stream_push(struct text_stream *x, int32_t id, struct buffer *out, bool *stopped);
/* The text ends: appends what was held back. */
stretto_status text_stream_end(struct text_stream *x, struct buffer *out, bool *stopped);
/* Bytes that are held back now. */
size_t text_stream_held(const struct text_stream *x);
#endif
