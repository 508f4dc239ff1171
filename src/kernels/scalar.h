/* Scalar helpers that kernels of every level share with their reference. Static inline only: a copy belongs
 * to the file it is compiled in. */
#ifndef KERNELS_SCALAR_H
#define KERNELS_SCALAR_H
#include "tensor/half.h"
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The sum of 16 codes, as activations carry it. */
static inline int16_t sum_codes(const int8_t *q)
{
    int sum = 0;
    for (size_t i = 0; i < 16; i++) sum += q[i];
    return (int16_t)sum;
}

static inline uint32_t load_word(const void *p)
{
    uint32_t w;
    memcpy(&w, p, sizeof w);
    return w;
}
#endif
