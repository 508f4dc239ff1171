/* SDOT: four products of int8 per lane and instruction, exactly a quad of the panel layout.
 * Verified against `ref` under qemu-user; not timed on an Arm CPU yet. */
#include "kernels/kernels.h"
#include "kernels/arm/bytes128.h"

static inline vi i_dot(vi sum, vb codes, vb quad)
{
    return vdotq_s32(sum, vreinterpretq_s8_u8(codes), vreinterpretq_s8_u8(quad));
}

/* after the operations it is written in */
#include "kernels/wide_quant.h"

static inline int32x4_t peak_step(int32x4_t sum, const uint8_t *p)
{
    int8x16_t w = vreinterpretq_s8_u8(vld1q_u8(p));
    return vdotq_s32(sum, w, w);
}
PEAK_FUNCTION(peak_int8, int32x4_t, vdupq_n_s32(0), 16, peak_step, 16)

void kernels_init_dotprod(struct kernels *k)
{
    wide_quant_init(k, "dotprod");
    k->peak[ARITHMETIC_INT8] = peak_int8;
}
