/* Kernels of training for AVX2. */
#include "kernels/x86/avx2.h"
#include "kernels/x86/math_avx2.h"
#include "kernels/x86/ops256.h"
#define TRAIN_TIMES times_f32_avx2
#define TRAIN_SILU(x) silu8(x)
#define TRAIN_GELU_TANH(x) gelu_tanh8(x)
/* after the operations they are written in */
#include "kernels/wide_train.h"

void train_init_avx2(struct kernels *k) { wide_train_init(k); }
