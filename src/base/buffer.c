#include "base/buffer.h"
#include "base/memory.h"
#include <stdio.h>
#include <string.h>

void buffer_done(struct buffer *b)
{
    mem_free(b->data);
    *b = buffer_make(b->max);
}

void buffer_clear(struct buffer *b)
{
    b->len = 0;
    if (b->data) b->data[0] = '\0';
}

stretto_status buffer_reserve(struct buffer *b, size_t more)
{
    if (more > b->max || b->len > b->max - more) return STRETTO_E_FULL;
    size_t need = b->len + more + 1;
    if (need <= b->cap) return STRETTO_OK;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need) cap += cap / 2 + 64;
    char *p = mem_resize(b->data, cap);
    if (!p) return STRETTO_E_NOMEM;
    b->data = p;
    b->cap = cap;
    return STRETTO_OK;
}

stretto_status buffer_append(struct buffer *b, const void *p, size_t n)
{
    TRY(buffer_reserve(b, n));
    if (n) memcpy(b->data + b->len, p, n);
    b->len += n;
    b->data[b->len] = '\0';
    return STRETTO_OK;
}

stretto_status buffer_str(struct buffer *b, const char *s) { return buffer_append(b, s, strlen(s)); }

stretto_status buffer_printf(struct buffer *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) return STRETTO_E_ARG;
    TRY(buffer_reserve(b, (size_t)n));
    va_start(ap, fmt);
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
    return STRETTO_OK;
}
