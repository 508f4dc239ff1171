#include "text/wordpiece.h"
#include "base/utf8.h"
#include <string.h>

stretto_status wordpiece_encode(const struct wordpiece *wp, const struct vocab *v, const char *p,
                                size_t n, struct tokens *out)
{
    char key[16 + 4096];
    size_t chars = 0;
    for (size_t at = 0; at < n && chars <= wp->max_chars; chars++) {
        int32_t cp;
        at += utf8_decode(p + at, n - at, &cp);
    }
    size_t had = out->n;
    for (size_t at = 0; chars <= wp->max_chars && at < n;) {
        const char *prefix = at ? wp->inside : wp->begin;
        size_t n_prefix = at ? wp->n_inside : wp->n_begin;
        size_t len = n - at;
        if (len > sizeof key - n_prefix) len = sizeof key - n_prefix;
        if (n_prefix + len > v->max_len) len = v->max_len > n_prefix ? v->max_len - n_prefix : 0;
        memcpy(key, prefix, n_prefix);
        memcpy(key + n_prefix, p + at, len);
        int32_t id = -1;
        /* A piece ends where a character ends: the last bytes of `len` may cut one. */
        for (; len; len--) {
            bool border = at + len == n || ((unsigned char)p[at + len] & 0xC0) != 0x80;
            if (border && (id = vocab_piece(v, key, n_prefix + len)) >= 0) break;
        }
        if (id < 0) { out->n = had; break; }
        TRY(tokens_push(out, id));
        at += len;
    }
    if (out->n > had || !n) return STRETTO_OK;
    return wp->unk >= 0 ? tokens_push(out, wp->unk) : STRETTO_E_UNSUP;
}
