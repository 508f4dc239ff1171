/* SMMLA: eight products of int8 for two rows times two columns per instruction, twice SDOT's work. Two
 * quads of a column side by side are its eight, so the panel layout serves as it is; one row takes SDOT.
 * Verified against `ref` under qemu-user; not timed on an Arm CPU yet. */
#include "kernels/kernels.h"
#include "kernels/arm/bytes128.h"

static inline vi i_dot(vi sum, vb codes, vb quad)
{
    return vdotq_s32(sum, vreinterpretq_s8_u8(codes), vreinterpretq_s8_u8(quad));
}

#define QUANT_PAIRS 1

/* Quads 2i and 2i + 1 of four columns become [column 0: 8][column 1: 8] and the same of columns 2, 3. */
static inline void i_pair_up(vb w[8])
{
    for (int i = 0; i < 8; i += 2) {
        uint32x4_t a = vreinterpretq_u32_u8(w[i]), b = vreinterpretq_u32_u8(w[i + 1]);
        w[i] = vreinterpretq_u8_u32(vzip1q_u32(a, b));
        w[i + 1] = vreinterpretq_u8_u32(vzip2q_u32(a, b));
    }
}

/* [row 0: columns a b][row 1: columns a b], twice, to rows of four columns */
static inline void i_part(vi ab, vi cd, vi *row0, vi *row1)
{
    int64x2_t x = vreinterpretq_s64_s32(ab), y = vreinterpretq_s64_s32(cd);
    *row0 = vreinterpretq_s32_s64(vzip1q_s64(x, y));
    *row1 = vreinterpretq_s32_s64(vzip2q_s64(x, y));
}

static inline void i_dot_pair(const vb w[8], const int8_t *q0, const int8_t *q1, bool halves, vi dot0[2],
                              vi dot1[2])
{
    vi ab[2] = { vdupq_n_s32(0), vdupq_n_s32(0) }, cd[2] = { ab[0], ab[0] };
    for (int i = 0; i < 4; i++) {
        int8x16_t q = vcombine_s8(vld1_s8(q0 + 8 * i), vld1_s8(q1 + 8 * i));
        int h = halves ? i / 2 : 0;
        ab[h] = vmmlaq_s32(ab[h], q, vreinterpretq_s8_u8(w[2 * i]));
        cd[h] = vmmlaq_s32(cd[h], q, vreinterpretq_s8_u8(w[2 * i + 1]));
    }
    i_part(ab[0], cd[0], &dot0[0], &dot1[0]);
    if (halves) i_part(ab[1], cd[1], &dot0[1], &dot1[1]);
}

/* after the operations it is written in */
#include "kernels/wide_quant.h"

static inline int32x4_t peak_step(int32x4_t sum, const uint8_t *p)
{
    int8x16_t w = vreinterpretq_s8_u8(vld1q_u8(p));
    return vmmlaq_s32(sum, w, w);
}
PEAK_FUNCTION(peak_int8, int32x4_t, vdupq_n_s32(0), 16, peak_step, 32)

void kernels_init_i8mm(struct kernels *k)
{
    wide_quant_init(k, "i8mm");
    k->peak[ARITHMETIC_INT8] = peak_int8;
}
