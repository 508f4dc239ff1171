/* AVX-512 VNNI: quantised linear layers. One row is bound by memory; the prefetch distance is that of a
 * probe on a 2-core Granite Rapids machine. */
#include "kernels/code_sums.h"
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

static void code_sums_avx512vnni(const int8_t *x, size_t ldx, size_t rows, const int8_t *w, size_t ldw, size_t cols,
                                 size_t n, int32_t *sum, size_t ld_sum)
{
    code_sums_loop(x, ldx, rows, w, ldw, cols, n, sum, ld_sum);
}

void kernels_init_avx512vnni(struct kernels *k)
{
    wide_quant_init(k, "avx512vnni");
    k->peak[ARITHMETIC_INT8] = peak_int8;
    k->code_sums = code_sums_avx512vnni;
}
