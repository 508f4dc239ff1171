/* AVX-512 VBMI: bytes from anywhere in two vectors, so numbers in 12 bits take fewer instructions to put together. */
#define OPS512_VBMI
#include "kernels/kernels.h"
#include "kernels/x86/ops512.h"
/* after the operations it is written in */
#include "kernels/wide_brain12.h"

void kernels_init_avx512vbmi(struct kernels *k) { wide_brain12_init(k, "avx512vbmi"); }
