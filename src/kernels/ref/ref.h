/* Reference kernels: scalar, for reading, never made faster. What the other levels must equal
 * (linear, quantize, arg-max, cache stores) or come close to (everything with a double accumulator
 * here). */
#ifndef KERNELS_REF_H
#define KERNELS_REF_H
#include "kernels/kernels.h"

void linear_init_ref(struct kernels *k);
void vec_init_ref(struct kernels *k);
void attn_init_ref(struct kernels *k);
void outer_init_ref(struct kernels *k);
void train_init_ref(struct kernels *k);
void peak_init_ref(struct kernels *k);
/* The rule of kernels.h for n <= 32 elements: codes, scale and the sum of the codes. */
int quantize_group_ref(const float *x, size_t n, int8_t *q, float *d);
/* One element of silu and gelu_tanh. */
float act_silu_ref(float x);
float act_gelu_tanh_ref(float x);
#endif
