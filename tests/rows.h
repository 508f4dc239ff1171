/* For tests that send rows themselves. */
#ifndef TESTS_ROWS_H
#define TESTS_ROWS_H
#include "engine/engine.h"

/* Hands consecutive places of `width` floats, from `out` on, to the rows that want logits or a hidden
 * state; not both. */
static inline void answers_place(struct answer *answers, const struct row *rows, size_t n, float *out, size_t width)
{
    for (size_t i = 0, k = 0; i < n; i++) {
        bool wants = (rows[i].wants & (WANT_LOGITS | WANT_HIDDEN)) != 0;
        answers[i].logits = answers[i].hidden = wants ? out + width * k++ : NULL;
    }
}
#endif
