/* Finding rows by name: an array of row numbers sorted by name. Sorting is heapsort and finding is
 * binary search, so that no choice of names in a hostile file makes either slow. A row's first
 * member is its NUL-terminated name. */
#ifndef FORMAT_NAMES_H
#define FORMAT_NAMES_H
#include <stddef.h>
#include <stdint.h>

struct names { const void *rows; size_t stride, n; };

/* order: n slots. Returns a row whose name stands twice, or NULL. */
const char *names_sort(const struct names *names, uint32_t *order);
/* The row number, or SIZE_MAX. */
size_t names_find(const struct names *names, const uint32_t *order, const char *name);
#endif
