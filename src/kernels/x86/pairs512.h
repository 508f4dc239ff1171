/* Rows as products of bf16 read them: two of them at once, whose elements stand side by side. Static inline only. */
#ifndef KERNELS_X86_PAIRS512_H
#define KERNELS_X86_PAIRS512_H
#include "kernels/train.h"
#include "kernels/wide.h"
#include "kernels/x86/ops512.h"

typedef __m512i vpair;   /* lane i: an element of the first row in the lower half, of the second in the upper one */

static inline vpair v_pairs(vf first, vf second)
{
    const __m512i at = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                        5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(at, (__m512i)_mm512_cvtne2ps_pbh(second, first));
}

enum { PAIRS_AHEAD = 8 };          /* rows that are asked for beforehand */

/* The first n columns from x on of rows r and r + 1 of a group; rows that it has not are zeros. */
static inline vpair group_pair(const struct row_group *g, size_t r, const float *x, size_t ldx, size_t n)
{
    const float *at = x + (g->first + r) * ldx;
    __builtin_prefetch(at + PAIRS_AHEAD * ldx);
    __builtin_prefetch(at + (PAIRS_AHEAD + 1) * ldx);
    vf first = r < g->n ? v_load_n(at, n) : v_set1(0), second = r + 1 < g->n ? v_load_n(at + ldx, n) : v_set1(0);
    return v_pairs(first, second);
}
#endif
