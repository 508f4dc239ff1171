/* The roofs of AVX2: VPMADDUBSW and VPADDW for int8 (4-bit codes leave room for several sums in
 * int16, so widening is not counted), VFMADD for float32. */
#include "kernels/x86/avx2.h"
#include <immintrin.h>

static inline __m256i int8_step(__m256i sum, const uint8_t *p)
{
    __m256i w = _mm256_load_si256((const void *)p);
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, w));
}

static inline __m256 f32_step(__m256 sum, const uint8_t *p)
{
    __m256 w = _mm256_load_ps((const void *)p);
    return _mm256_fmadd_ps(w, w, sum);
}

PEAK_FUNCTION(peak_int8, __m256i, _mm256_setzero_si256(), 12, int8_step, 32)
PEAK_FUNCTION(peak_f32, __m256, _mm256_setzero_ps(), 12, f32_step, 8)

void peak_init_avx2(struct kernels *k)
{
    k->peak[ARITHMETIC_INT8] = peak_int8;
    k->peak[ARITHMETIC_F32] = peak_f32;
}
