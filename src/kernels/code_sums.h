/* Sums of codes times codes, a plain loop that compilers make wide instructions of. It is compiled once for each
 * level; sums of integers are exact, so all levels give the same. Four rows at a time share what is read of w. */
#ifndef KERNELS_CODE_SUMS_H
#define KERNELS_CODE_SUMS_H
#include <stddef.h>
#include <stdint.h>

static inline int32_t code_sum(const int8_t *x, const int8_t *w, size_t n)
{
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i] * w[i];
    return sum;
}

static inline void code_sums_of_four(const int8_t *x, size_t ldx, const int8_t *w, size_t n, int32_t *sum,
                                     size_t ld_sum)
{
    const int8_t *x1 = x + ldx, *x2 = x1 + ldx, *x3 = x2 + ldx;
    int32_t a = 0, b = 0, c = 0, d = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t v = w[i];
        a += x[i] * v;
        b += x1[i] * v;
        c += x2[i] * v;
        d += x3[i] * v;
    }
    sum[0] = a;
    sum[ld_sum] = b;
    sum[2 * ld_sum] = c;
    sum[3 * ld_sum] = d;
}

static inline void code_sums_loop(const int8_t *x, size_t ldx, size_t rows, const int8_t *w, size_t ldw, size_t cols,
                                  size_t n, int32_t *sum, size_t ld_sum)
{
    for (size_t c = 0; c < cols; c++) {
        size_t r = 0;
        for (; r + 4 <= rows; r += 4) code_sums_of_four(x + r * ldx, ldx, w + c * ldw, n, sum + r * ld_sum + c, ld_sum);
        for (; r < rows; r++) sum[r * ld_sum + c] = code_sum(x + r * ldx, w + c * ldw, n);
    }
}
#endif
