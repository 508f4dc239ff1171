/* Types of blocks of 32. */
#include "kernels/x86/avx2.h"
#include "kernels/x86/linear_avx2.h"

DTYPES_BLOCK(LINEAR_AVX2)

void linear_block_init_avx2(struct kernels *k)
{
    DTYPES_BLOCK(LINEAR_SET_AVX2)
}
