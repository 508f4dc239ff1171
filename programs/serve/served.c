#include "serve/served.h"
#include <string.h>

static bool is(const char *name, const char *p, size_t n) { return strlen(name) == n && memcmp(name, p, n) == 0; }

const struct served *served_find(const struct served_list *l, const char *p, size_t n)
{
    for (size_t i = 0; i < l->n; i++) {
        if (is(l->v[i].name, p, n)) return &l->v[i];
        for (size_t k = 0; k < l->v[i].n_aliases; k++)
            if (is(l->v[i].alias[k], p, n)) return &l->v[i];
    }
    return l->n == 1 || !n ? &l->v[0] : NULL;
}
