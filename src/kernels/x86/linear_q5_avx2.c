/* Q5_0, Q5_1, Q5_K: nibbles and a plane of fifth bits; half a group fits in 16 bits, 4 x 2 x 31 x
 * 127. */
#include "kernels/x86/avx2.h"
#include "kernels/x86/linear_avx2.h"

INLINE void five_line(const uint8_t *p, int l, struct line *out)
{
    nib_line(p, l, out);
    UNROLL
    for (int c = 0; c < 2; c++) {
        out->lo[c] = _mm256_or_si256(out->lo[c], one_bit(p + 256, l, c, 4));
        out->hi[c] = _mm256_or_si256(out->hi[c], one_bit(p + 256, l + 4, c, 4));
    }
}

INLINE void line_Q5_0(const uint8_t *panel, size_t g, int l, struct line *out)
{
    five_line(panel + g / 2 * PANEL_Q5_0 + g % 2 * 320, l, out);
}

INLINE void scales_Q5_0(const uint8_t *panel, size_t g, struct scales *out)
{
    const uint8_t *d = panel + g / 2 * PANEL_Q5_0 + 640 + g % 2 * 32;
    for (size_t c = 0; c < 2; c++) out->d[c] = half_8(d + 16 * c);
}

INLINE void line_Q5_1(const uint8_t *panel, size_t g, int l, struct line *out)
{
    five_line(panel + g * PANEL_Q5_1, l, out);
}

INLINE void scales_Q5_1(const uint8_t *panel, size_t g, struct scales *out)
{
    const uint8_t *unit = panel + g * PANEL_Q5_1;
    for (size_t c = 0; c < 2; c++) {
        out->d[c] = half_8(unit + 320 + 16 * c);
        out->m[c] = half_8(unit + 352 + 16 * c);
    }
}

INLINE void line_Q5_K(const uint8_t *panel, size_t g, int l, struct line *out)
{
    five_line(panel + g / 8 * PANEL_Q5_K + PANEL_SUPER + g % 8 * 320, l, out);
}

INLINE void scales_Q5_K(const uint8_t *panel, size_t g, struct scales *out)
{
    sub32(panel + g / 8 * PANEL_Q5_K, g % 8, out);
}

LINEAR_AVX2(Q5_0, PANEL_Q5_0, 64, .quads = 4, .zero = 16)
LINEAR_AVX2(Q5_1, PANEL_Q5_1, 32, .quads = 4, .min = 1)
LINEAR_AVX2(Q5_K, PANEL_Q5_K, 256, .quads = 4, .min = -1)

void linear_q5_init_avx2(struct kernels *k)
{
    linear_set_avx2(k, DT_Q5_0, linear_Q5_0_avx2);
    linear_set_avx2(k, DT_Q5_1, linear_Q5_1_avx2);
    linear_set_avx2(k, DT_Q5_K, linear_Q5_K_avx2);
}
