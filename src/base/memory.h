/* The only door to the heap: every room allocates here, so a test can count allocations, fail the
 * n-th one, and a program can see what the library holds. */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H
#include <stddef.h>
#include <stdint.h>

void *mem_alloc(size_t bytes);                    /* malloc; NULL when there is none          */
void *mem_zalloc(size_t count, size_t size);      /* calloc, overflow checked                 */
void *mem_resize(void *p, size_t bytes);          /* realloc                                  */
void  mem_free(void *p);                          /* NULL is fine                             */
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n);

/* Large, zeroed, 2 MiB-aligned pages straight from the kernel, huge pages asked for; untouched pages
 * cost nothing. NULL when there are none. */
void *mem_map(size_t bytes);
void  mem_unmap(void *p, size_t bytes);

/* What was freed goes back to the kernel, where the heap can do that: before something large. */
void mem_trim(void);

/* Test hooks. mem_fail_at(n): the n-th allocation from now (1 = the next) fails, once; 0 = never.
 * mem_count(): allocations made since the process began, mem_map included. */
void   mem_fail_at(uint64_t n);
uint64_t mem_count(void);
#endif
