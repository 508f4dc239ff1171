/* AVX512-BF16 (and FP16, which comes with it): rounding activations to bf16. The float linear layers stay
 * those of AVX-512: VDPBF16PS adds products in pairs, which is not the rule of kernels.h. */
#include "kernels/kernels.h"
#include "kernels/x86/ops512.h"

/* The instruction makes denormals zero, the rule does not: vectors that have one go the long way. */
static void to_bf16_avx512fp16(const float *x, size_t n, uint16_t *out)
{
    enum { DENORMAL = 0x20 };
    for (size_t i = 0; i < n; i += VL) {
        vf v = v_load_n(x + i, n - i);
        __m256i h = _mm512_fpclass_ps_mask(v, DENORMAL) ? v_to_brain(v) : (__m256i)_mm512_cvtneps_pbh(v);
        _mm256_mask_storeu_epi16(out + i, v_first(n - i), h);
    }
}

void kernels_init_avx512fp16(struct kernels *k) { k->to_bf16 = to_bf16_avx512fp16; }
