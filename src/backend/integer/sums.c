/* The sums of linear layers: exact, so any order of adding gives the same bits. A plain loop, which compilers make
 * wide instructions of. */
#include "backend/integer/integer.h"

static int32_t dot(const int8_t *x, const int8_t *w, size_t n)
{
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i] * w[i];
    return sum;
}

void code_sums(const int8_t *x, size_t ldx, size_t rows, const int8_t *w, size_t ldw, size_t cols, size_t n,
               int32_t *sum, size_t ld_sum)
{
    for (size_t c = 0; c < cols; c++)
        for (size_t r = 0; r < rows; r++) sum[r * ld_sum + c] = dot(x + r * ldx, w + c * ldw, n);
}
