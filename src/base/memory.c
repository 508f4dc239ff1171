#include "base/memory.h"
#include <stdatomic.h>
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <string.h>
#include <sys/mman.h>

static atomic_uint_fast64_t count, fail_at;

static int refused(void)
{
    uint64_t n = atomic_fetch_add_explicit(&count, 1, memory_order_relaxed) + 1;
    uint64_t at = atomic_load_explicit(&fail_at, memory_order_relaxed);
    return at != 0 && n == at;
}

void mem_fail_at(uint64_t n) { atomic_store(&fail_at, n ? atomic_load(&count) + n : 0); }
uint64_t mem_count(void) { return atomic_load(&count); }

void *mem_alloc(size_t bytes) { return refused() ? NULL : malloc(bytes ? bytes : 1); }

void *mem_zalloc(size_t n, size_t size)
{
    return refused() ? NULL : calloc(n ? n : 1, size ? size : 1);
}

void *mem_resize(void *p, size_t bytes) { return refused() ? NULL : realloc(p, bytes ? bytes : 1); }
void mem_trim(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

void mem_free(void *p) { free(p); }

char *mem_strndup(const char *s, size_t n)
{
    char *p = mem_alloc(n + 1);
    if (!p) return NULL;
    memcpy(p, s, n);
    p[n] = '\0';
    return p;
}

char *mem_strdup(const char *s) { return mem_strndup(s, strlen(s)); }

#define HUGE ((size_t)2 << 20)

static size_t round_huge(size_t bytes) { return (bytes + HUGE - 1) & ~(HUGE - 1); }

/* Asks for one huge page more than needed and gives the unaligned ends back. */
void *mem_map(size_t bytes)
{
    if (refused() || bytes > SIZE_MAX / 2) return NULL;
    size_t want = round_huge(bytes ? bytes : 1);
    unsigned char *p = mmap(NULL, want + HUGE, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    unsigned char *at = (unsigned char *)round_huge((uintptr_t)p);
    if (at > p) munmap(p, (size_t)(at - p));
    size_t tail = (size_t)(p + want + HUGE - (at + want));
    if (tail) munmap(at + want, tail);
    madvise(at, want, MADV_HUGEPAGE);
    return at;
}

void mem_unmap(void *p, size_t bytes)
{
    if (p) munmap(p, round_huge(bytes ? bytes : 1));
}
