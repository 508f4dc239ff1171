#include "decode/text_stream.h"
#include <string.h>

enum { MOST = 1 << 16 };

stretto_status text_stream_open(struct text_stream *x, const struct tokenizer *t)
{
    *x = (struct text_stream){ .tokenizer = t };
    x->piece = x->next = x->stop.held = buffer_make(MOST);
    TRY(buffer_reserve(&x->piece, 4096));
    TRY(buffer_reserve(&x->next, 4096));
    return buffer_reserve(&x->stop.held, 8192);
}

void text_stream_close(struct text_stream *x)
{
    buffer_done(&x->piece);
    buffer_done(&x->next);
    buffer_done(&x->stop.held);
}

void text_stream_begin(struct text_stream *x, const char *const *stops)
{
    memset(&x->reread, 0, sizeof x->reread);
    x->whole.n = 0;
    x->stop.stops = stops;
    buffer_clear(&x->stop.held);
}

/* The piece becomes what a filter made of it. */
static void turn_over(struct text_stream *x)
{
    struct buffer b = x->piece;
    x->piece = x->next;
    x->next = b;
    buffer_clear(&x->next);
}

static stretto_status reread(struct text_stream *x, bool end)
{
    const struct tokenizer *t = x->tokenizer;
    if (!t || !tokenizer_rereads(t)) return STRETTO_OK;
    if (x->piece.len) TRY(tokenizer_reread(t, &x->reread, x->piece.data, x->piece.len, &x->next));
    if (end) TRY(tokenizer_reread_end(t, &x->reread, &x->next));
    turn_over(x);
    return STRETTO_OK;
}

static stretto_status push(struct text_stream *x, bool end, struct buffer *out, bool *stopped)
{
    buffer_clear(&x->next);
    TRY(reread(x, end));
    if (x->piece.len) TRY(utf8_stream_push(&x->whole, x->piece.data, x->piece.len, &x->next));
    if (end) TRY(utf8_stream_end(&x->whole, &x->next));
    turn_over(x);
    return stop_push(&x->stop, x->piece.data ? x->piece.data : "", x->piece.len, out, stopped);
}

stretto_status text_stream_push(struct text_stream *x, int32_t id, struct buffer *out, bool *stopped)
{
    *stopped = false;
    buffer_clear(&x->piece);
    /* The embedding may have rows behind the vocabulary's end; they are no text. */
    if (x->tokenizer && id >= 0 && (size_t)id < tokenizer_size(x->tokenizer))
        TRY(tokenizer_piece(x->tokenizer, id, false, false, &x->piece));
    return push(x, false, out, stopped);
}

stretto_status text_stream_end(struct text_stream *x, struct buffer *out, bool *stopped)
{
    *stopped = false;
    buffer_clear(&x->piece);
    TRY(push(x, true, out, stopped));
    return *stopped ? STRETTO_OK : stop_end(&x->stop, out);
}

size_t text_stream_held(const struct text_stream *x)
{
    size_t n = x->whole.n + x->stop.held.len;
    for (size_t i = 0; i < sizeof x->reread.n; i++) n += x->reread.n[i];
    return n;
}
