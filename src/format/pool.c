#include "base/memory.h"
#include "format/source_int.h"
#include <string.h>

struct chunk { struct chunk *next; size_t used, size; };

enum { CHUNK = 1 << 16, ALIGN = 16 };

static size_t head(void) { return (sizeof(struct chunk) + ALIGN - 1) / ALIGN * ALIGN; }

void *pool_take(struct pool *p, size_t bytes)
{
    if (bytes > SIZE_MAX / 2) return NULL;
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    struct chunk *c = p->first;
    if (!c || bytes > c->size - c->used) {
        size_t size = head() + (bytes > CHUNK ? bytes : CHUNK);
        c = mem_zalloc(1, size);
        if (!c) return NULL;
        *c = (struct chunk){ .next = p->first, .used = head(), .size = size };
        p->first = c;
    }
    void *at = (unsigned char *)c + c->used;
    c->used += bytes;
    return at;
}

char *pool_strndup(struct pool *p, const char *s, size_t n)
{
    if (n > SIZE_MAX / 2) return NULL;
    char *copy = pool_take(p, n + 1);
    if (copy && n) memcpy(copy, s, n);
    return copy;
}

void pool_done(struct pool *p)
{
    for (struct chunk *c = p->first, *next; c; c = next) {
        next = c->next;
        mem_free(c);
    }
    p->first = NULL;
}
