/* Numbers to blocks with the least squared error that a search finds: for every type of codes, from its row
 * alone. The plain roundings of the published formats are dtype_table[].encode. */
#ifndef TENSOR_ENCODE_H
#define TENSOR_ENCODE_H
#include "tensor/dtype.h"

/* n numbers, a multiple of the block, to blocks of t, a type of codes. What counts is the sum of
 * weight[i] * (what the block says - in[i])^2; weight may be NULL: all count alike. Weights that are not
 * positive numbers count as 0, and a group of 16 or 32 without any other counts all alike.
 * No input is undefined: NaN counts as 0, and what the format cannot reach as its outermost value. Zeros, and
 * numbers below half of the smallest scale there is (2^-25, for exponents 2^-129), become zeros. Where the
 * type has a plain rounding the answer is never worse than that. Takes no memory; the same bits on every machine. */
void encode_search(enum dtype t, const float *in, const float *weight, void *out, size_t n);
#endif
