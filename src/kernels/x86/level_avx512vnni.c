/* AVX-512 VNNI: quantised linear layers. One row is bound by memory; the prefetch distance is that of a
 * probe on a 2-core Granite Rapids machine. */
#include "kernels/x86/avx512vnni.h"
#include "kernels/x86/bytes512.h"
/* after the operations it is written in */
#include "kernels/wide_quant.h"

linear_fn *linear_avx512vnni(enum dtype t) { return wide_quant_linear(t); }

static inline vi peak_step(vi sum, const uint8_t *p)
{
    vb w = _mm512_load_si512(p);
    return _mm512_dpbusd_epi32(sum, w, w);
}
PEAK_FUNCTION(peak_int8, vi, _mm512_setzero_si512(), 12, peak_step, 64)

void kernels_init_avx512vnni(struct kernels *k)
{
    wide_quant_init(k, "avx512vnni");
    k->peak[ARITHMETIC_INT8] = peak_int8;
}
