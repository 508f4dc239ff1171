/* Whole characters only: at most three bytes are ever held back, those of a character that has begun
 * well and may still be completed. Anything else passes through at once, malformed bytes included. */
#include "base/utf8.h"
#include "text/tokenizer.h"
#include <string.h>

/* Could these n < 4 bytes be the beginning of a well-formed character? */
static bool may_continue(const unsigned char *s, size_t n)
{
    unsigned c = s[0];
    size_t len = c >= 0xC2 && c <= 0xDF ? 2 : c >= 0xE0 && c <= 0xEF ? 3
               : c >= 0xF0 && c <= 0xF4 ? 4 : 0;
    if (n >= len) return false;
    if (n >= 2) {
        unsigned lo = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
        unsigned hi = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
        if (s[1] < lo || s[1] > hi) return false;
    }
    return n < 3 || (s[2] & 0xC0) == 0x80;
}

stretto_status utf8_stream_push(struct utf8_stream *u, const char *p, size_t n, struct buffer *out)
{
    /* Reserved first, so that a refusal changes nothing and the caller may push again. */
    TRY(buffer_reserve(out, u->n + n));
    for (size_t i = 0; i < n; i++) {
        u->held[u->n++] = (unsigned char)p[i];
        size_t done = 0;
        while (done < u->n && !may_continue(u->held + done, u->n - done)) {
            int32_t cp;
            size_t len = utf8_decode((const char *)u->held + done, u->n - done, &cp);
            TRY(buffer_append(out, u->held + done, len));
            done += len;
        }
        u->n -= done;
        memmove(u->held, u->held + done, u->n);
    }
    return STRETTO_OK;
}

stretto_status utf8_stream_end(struct utf8_stream *u, struct buffer *out)
{
    TRY(buffer_append(out, u->held, u->n));
    u->n = 0;
    return STRETTO_OK;
}
