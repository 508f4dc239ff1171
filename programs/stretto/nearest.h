/* "Did you mean": the one of several words that a mistyped word is closest to. Case and dashes count
 * for nothing, '_' is '-', and a word that begins another one is close to it. */
#ifndef STRETTO_NEAREST_H
#define STRETTO_NEAREST_H
#include <stddef.h>

enum { NEAREST_MAX = 256 };

struct nearest {
    const char *word;
    char best[NEAREST_MAX];        /* "" while nothing is close enough */
    unsigned distance;
};

void nearest_begin(struct nearest *n, const char *word);
void nearest_try(struct nearest *n, const char *candidate, size_t length);
/* All words of a list, such as "a|b|c", whose members the character separates. */
void nearest_try_list(struct nearest *n, const char *list, char separator);
/* "; did you mean 'x'?", or "" when nothing is close; lives as long as *n is not used again. */
const char *nearest_words(struct nearest *n);

/* Insertions, deletions, replacements and exchanges of two neighbours that make one word the other
 * (optimal string alignment). */
unsigned edit_distance(const char *a, size_t na, const char *b, size_t nb);
#endif
