#include "format/names.h"
#include <string.h>

static const char *name_at(const struct names *names, uint32_t row)
{
    const char *name;
    memcpy(&name, (const unsigned char *)names->rows + row * names->stride, sizeof name);
    return name;
}

static void sift(const struct names *names, uint32_t *heap, size_t root, size_t n)
{
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n
            && strcmp(name_at(names, heap[child]), name_at(names, heap[child + 1])) < 0)
            child++;
        if (strcmp(name_at(names, heap[root]), name_at(names, heap[child])) >= 0) return;
        uint32_t t = heap[root];
        heap[root] = heap[child];
        heap[child] = t;
    }
}

const char *names_sort(const struct names *names, uint32_t *order)
{
    size_t n = names->n;
    for (size_t i = 0; i < n; i++) order[i] = (uint32_t)i;
    for (size_t i = n / 2; i-- > 0;) sift(names, order, i, n);
    for (size_t i = n; i-- > 1;) {
        uint32_t t = order[0];
        order[0] = order[i];
        order[i] = t;
        sift(names, order, 0, i);
    }
    for (size_t i = 1; i < n; i++)
        if (strcmp(name_at(names, order[i - 1]), name_at(names, order[i])) == 0)
            return name_at(names, order[i]);
    return NULL;
}

size_t names_find(const struct names *names, const uint32_t *order, const char *name)
{
    size_t low = 0, high = names->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int c = strcmp(name, name_at(names, order[middle]));
        if (c == 0) return order[middle];
        if (c < 0) high = middle; else low = middle + 1;
    }
    return SIZE_MAX;
}
