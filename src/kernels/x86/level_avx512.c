/* AVX-512 F, BW, DQ, VL: sixteen lanes for float linear layers, attention, norms and elementwise kernels,
 * tails by mask. Quantised linear layers stay those of AVX2 until there is VNNI. */
#include "kernels/kernels.h"
#include "kernels/x86/ops512.h"
/* after the operations they are written in */
#include "kernels/wide_attn.h"
#include "kernels/wide_float.h"
#include "kernels/wide_outer.h"
#include "kernels/wide_vec.h"
#define TRAIN_TIMES wide_times_f32
#define TRAIN_SILU(x) wide_sigmoid_of(x, x)
#define TRAIN_GELU_TANH(x) wide_gelu_tanh(x)
#include "kernels/wide_train.h"

static inline vf peak_step(vf sum, const uint8_t *p)
{
    vf w = _mm512_load_ps(p);
    return _mm512_fmadd_ps(w, w, sum);
}
PEAK_FUNCTION(peak_f32, vf, _mm512_setzero_ps(), 12, peak_step, 16)

void kernels_init_avx512(struct kernels *k)
{
    k->peak[ARITHMETIC_F32] = peak_f32;
    wide_float_init(k, "avx512");
    wide_vec_init(k);
    wide_outer_init(k);
    wide_train_init(k);
    wide_attn_init(k, "avx512");
}
