/* Q5_0, Q5_1, Q5_K: nibbles and a plane of fifth bits; half a group fits in 16 bits, 4 x 2 x 31 x 127. */
#include "kernels/x86/avx2.h"
#include "kernels/x86/linear_avx2.h"

INLINE void unpack_five(const uint8_t *p, struct unpacked *out)
{
    unpack_nib(p, out);
    UNROLL
    for (int quad = 0; quad < 8; quad++) {
        UNROLL
        for (int c = 0; c < 2; c++)
            out->code[quad][c] = _mm256_or_si256(out->code[quad][c], one_bit(p + 256, quad, c, 4));
    }
}

INLINE void unpack_Q5_0(const uint8_t *panel, size_t g, struct unpacked *out)
{
    const uint8_t *unit = panel + g / 2 * PANEL_Q5_0;
    unpack_five(unit + g % 2 * 320, out);
    for (size_t c = 0; c < 2; c++) out->d[c] = half_8(unit + 640 + g % 2 * 32 + 16 * c);
}

INLINE void unpack_Q5_1(const uint8_t *panel, size_t g, struct unpacked *out)
{
    const uint8_t *unit = panel + g * PANEL_Q5_1;
    unpack_five(unit, out);
    for (size_t c = 0; c < 2; c++) {
        out->d[c] = half_8(unit + 320 + 16 * c);
        out->m[c] = half_8(unit + 352 + 16 * c);
    }
}

INLINE void unpack_Q5_K(const uint8_t *panel, size_t g, struct unpacked *out)
{
    const uint8_t *unit = panel + g / 8 * PANEL_Q5_K;
    unpack_five(unit + PANEL_SUPER + g % 8 * 320, out);
    unpack_sub32(unit, g % 8, out);
}

LINEAR_AVX2(Q5_0, .quads = 4, .zero = 16)
LINEAR_AVX2(Q5_1, .quads = 4, .min = 1)
LINEAR_AVX2(Q5_K, .quads = 4, .min = -1)

void linear_q5_init_avx2(struct kernels *k)
{
    linear_set_avx2(k, DT_Q5_0, linear_Q5_0_avx2);
    linear_set_avx2(k, DT_Q5_1, linear_Q5_1_avx2);
    linear_set_avx2(k, DT_Q5_K, linear_Q5_K_avx2);
}
