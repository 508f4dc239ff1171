#include "stretto/nearest.h"
#include <stdio.h>
#include <string.h>

static unsigned least(unsigned a, unsigned b) { return a < b ? a : b; }

unsigned edit_distance(const char *a, size_t na, const char *b, size_t nb)
{
    unsigned rows[3][NEAREST_MAX + 1], *before = rows[0], *last = rows[1], *now = rows[2];
    if (na > NEAREST_MAX || nb > NEAREST_MAX) return NEAREST_MAX;
    for (size_t j = 0; j <= nb; j++) before[j] = last[j] = (unsigned)j;
    for (size_t i = 1; i <= na; i++) {
        now[0] = (unsigned)i;
        for (size_t j = 1; j <= nb; j++) {
            now[j] = least(least(last[j], now[j - 1]) + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = least(now[j], before[j - 2] + 1);
        }
        unsigned *free_row = before;
        before = last;
        last = now;
        now = free_row;
    }
    return last[nb];
}

/* As words are compared; the length, at most NEAREST_MAX - 1. */
static size_t plain(char out[NEAREST_MAX], const char *word, size_t n)
{
    size_t k = 0, at = 0;
    while (at < n && word[at] == '-') at++;
    for (; at < n && k < NEAREST_MAX - 1; at++) {
        char c = word[at];
        out[k++] = (char)(c == '_' ? '-' : c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    return k;
}

/* How far apart words may be that somebody mistook for each other. */
static unsigned allowed(size_t n)
{
    return n < 3 ? 0 : n < 6 ? 1 : n < 10 ? 2 : 3;
}

void nearest_begin(struct nearest *n, const char *word)
{
    *n = (struct nearest){ .word = word, .distance = NEAREST_MAX };
}

void nearest_try(struct nearest *n, const char *candidate, size_t length)
{
    char a[NEAREST_MAX], b[NEAREST_MAX];
    size_t na = plain(a, n->word, strlen(n->word)), nb = plain(b, candidate, length);
    if (!na || !nb || length >= sizeof n->best) return;
    unsigned d = edit_distance(a, na, b, nb);
    if (d > allowed(na)) {
        /* A beginning is far away when the rest is long; several letters of it are meant all the same. */
        if (na < 2 || na >= nb || memcmp(a, b, na) != 0) return;
        d = allowed(na) + 1;
    }
    if (d >= n->distance) return;
    n->distance = d;
    memcpy(n->best, candidate, length);
    n->best[length] = '\0';
}

void nearest_try_list(struct nearest *n, const char *list, char separator)
{
    for (const char *p = list; *p;) {
        const char *end = strchr(p, separator);
        size_t length = end ? (size_t)(end - p) : strlen(p);
        nearest_try(n, p, length);
        p += length + (end != NULL);
    }
}

const char *nearest_words(struct nearest *n)
{
    char name[NEAREST_MAX];
    if (!*n->best || strlen(n->best) > NEAREST_MAX - 24) return "";
    memcpy(name, n->best, strlen(n->best) + 1);
    snprintf(n->best, sizeof n->best, "; did you mean '%.*s'?", NEAREST_MAX - 24, name);
    return n->best;
}
