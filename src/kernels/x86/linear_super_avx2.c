/* Types of super-blocks of 256. */
#include "kernels/x86/avx2.h"
#include "kernels/x86/linear_avx2.h"

DTYPES_SUPER(LINEAR_AVX2)

void linear_super_init_avx2(struct kernels *k)
{
    DTYPES_SUPER(LINEAR_SET_AVX2)
}
