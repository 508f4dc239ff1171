/* Sums of outer products for AVX2: six rows of two vectors stay in registers. */
#include "kernels/x86/avx2.h"
#include "kernels/x86/ops256.h"
/* after the operations they are written in */
#include "kernels/wide_outer.h"

void outer_init_avx2(struct kernels *k) { wide_outer_init(k); }
