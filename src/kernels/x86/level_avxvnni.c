/* AVX-VNNI: quantised linear layers in 256-bit vectors (Alder Lake and later without AVX-512).
 * Not timed on a CPU whose best level it is yet. */
#include "kernels/kernels.h"
#include "kernels/x86/bytes256.h"
/* after the operations it is written in */
#include "kernels/wide_quant.h"

static inline vi peak_step(vi sum, const uint8_t *p)
{
    vb w = _mm256_load_si256((const void *)p);
    return _mm256_dpbusd_avx_epi32(sum, w, w);
}
PEAK_FUNCTION(peak_int8, vi, _mm256_setzero_si256(), 12, peak_step, 32)

void kernels_init_avxvnni(struct kernels *k)
{
    wide_quant_init(k, "avxvnni");
    k->peak[ARITHMETIC_INT8] = peak_int8;
}
