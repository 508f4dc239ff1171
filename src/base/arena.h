/* A block of memory handed out front to back and given back all at once.
 *
 * Plan first: run the same code with base == NULL and `top` ends up being the bytes it needs. Then
 * reserve that many and run it again for real. One code path sizes and fills, so the two cannot
 * disagree. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H
#include <stddef.h>
#include <stdint.h>

struct arena { unsigned char *base; size_t cap, top, peak; };

/* 64-byte aligned bytes; NULL while measuring or when `cap` is passed. Callers tell the two apart by
 * `base`; while measuring they must not touch what they were given. */
static inline void *arena_take(struct arena *a, size_t bytes)
{
    size_t at = (a->top + 63) & ~(size_t)63;         /* one cache line */
    if (at < a->top || bytes > SIZE_MAX - at) return NULL;
    if (a->base && at + bytes > a->cap) return NULL;
    a->top = at + bytes;
    if (a->top > a->peak) a->peak = a->top;
    return a->base ? a->base + at : NULL;
}

static inline size_t arena_mark(const struct arena *a) { return a->top; }
static inline void   arena_drop(struct arena *a, size_t mark) { a->top = mark; }
#endif
