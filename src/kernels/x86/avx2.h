/* The files of the AVX2 level, each of which fills its part of the table. */
#ifndef KERNELS_AVX2_H
#define KERNELS_AVX2_H
#include "kernels/kernels.h"

void linear_block_init_avx2(struct kernels *k);
void linear_super_init_avx2(struct kernels *k);
void linear_float_init_avx2(struct kernels *k);
void vec_init_avx2(struct kernels *k);
void attn_init_avx2(struct kernels *k);
void outer_init_avx2(struct kernels *k);
void train_init_avx2(struct kernels *k);
void peak_init_avx2(struct kernels *k);

times_fn times_f32_avx2;

static inline void linear_set_avx2(struct kernels *k, enum dtype t, linear_fn *fn)
{
    k->linear[t] = fn;
    k->linear_level[t] = "avx2";
}
#endif
