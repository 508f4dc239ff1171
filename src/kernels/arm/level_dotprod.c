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

void kernels_init_dotprod(struct kernels *k) { wide_quant_init(k, "dotprod"); }
