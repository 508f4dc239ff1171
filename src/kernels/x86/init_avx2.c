#include "kernels/x86/avx2.h"

void kernels_init_avx2(struct kernels *k)
{
    linear_block_init_avx2(k);
    linear_super_init_avx2(k);
    linear_float_init_avx2(k);
    vec_init_avx2(k);
    attn_init_avx2(k);
    outer_init_avx2(k);
    train_init_avx2(k);
    peak_init_avx2(k);
}
