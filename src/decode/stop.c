#include "decode/stop.h"
#include <string.h>

/* Length of the longest tail of text[0..n) that begins some stop string. */
static size_t tail_of_stop(const char *const *stops, const char *text, size_t n)
{
    size_t best = 0;
    for (; stops && *stops; stops++) {
        size_t len = strlen(*stops);
        for (size_t k = len - 1 < n ? len - 1 : n; len && k > best; k--)
            if (memcmp(text + n - k, *stops, k) == 0) {
                best = k;
                break;
            }
    }
    return best;
}

/* Where the first complete stop string begins, or n. */
static size_t find_stop(const char *const *stops, const char *text, size_t n, const char **which)
{
    size_t at = n;
    for (; stops && *stops; stops++) {
        size_t len = strlen(*stops);
        const char *hit = len && len <= n ? memmem(text, n, *stops, len) : NULL;
        if (!hit || (size_t)(hit - text) >= at) continue;
        at = (size_t)(hit - text);
        *which = *stops;
    }
    return at;
}

stretto_status stop_push(struct stop_filter *f, const char *piece, size_t n, struct buffer *out,
                         bool *stopped)
{
    *stopped = false;
    if (!f->stops || !*f->stops) return buffer_append(out, piece, n);
    TRY(buffer_append(&f->held, piece, n));
    size_t at = find_stop(f->stops, f->held.data, f->held.len, &f->hit);
    if (at < f->held.len) {
        *stopped = true;
        TRY(buffer_append(out, f->held.data, at));
        buffer_clear(&f->held);
        return STRETTO_OK;
    }
    size_t keep = tail_of_stop(f->stops, f->held.data, f->held.len), go = f->held.len - keep;
    TRY(buffer_append(out, f->held.data, go));
    memmove(f->held.data, f->held.data + go, keep);
    f->held.len = keep;
    return STRETTO_OK;
}

stretto_status stop_end(struct stop_filter *f, struct buffer *out)
{
    TRY(buffer_append(out, f->held.data, f->held.len));
    buffer_clear(&f->held);
    return STRETTO_OK;
}
