/* Q4_0, Q4_1, Q4_K: 32 products of a column fit in two 16-bit sums, 8 x 2 x 15 x 127 = 30480. */
#include "kernels/x86/avx2.h"
#include "kernels/x86/linear_avx2.h"

INLINE void line_Q4_0(const uint8_t *panel, size_t g, int l, struct line *out)
{
    nib_line(panel + g / 2 * PANEL_Q4_0 + g % 2 * 256, l, out);
}

INLINE void scales_Q4_0(const uint8_t *panel, size_t g, struct scales *out)
{
    const uint8_t *d = panel + g / 2 * PANEL_Q4_0 + 512 + g % 2 * 32;
    for (size_t c = 0; c < 2; c++) out->d[c] = half_8(d + 16 * c);
}

INLINE void line_Q4_1(const uint8_t *panel, size_t g, int l, struct line *out)
{
    nib_line(panel + g * PANEL_Q4_1, l, out);
}

INLINE void scales_Q4_1(const uint8_t *panel, size_t g, struct scales *out)
{
    const uint8_t *unit = panel + g * PANEL_Q4_1;
    for (size_t c = 0; c < 2; c++) {
        out->d[c] = half_8(unit + 256 + 16 * c);
        out->m[c] = half_8(unit + 288 + 16 * c);
    }
}

INLINE void line_Q4_K(const uint8_t *panel, size_t g, int l, struct line *out)
{
    nib_line(panel + g / 8 * PANEL_Q4_K + PANEL_SUPER + g % 8 * 256, l, out);
}

INLINE void scales_Q4_K(const uint8_t *panel, size_t g, struct scales *out)
{
    sub32(panel + g / 8 * PANEL_Q4_K, g % 8, out);
}

LINEAR_AVX2(Q4_0, PANEL_Q4_0, 64, .quads = 8, .zero = 8)
LINEAR_AVX2(Q4_1, PANEL_Q4_1, 32, .quads = 8, .min = 1)
LINEAR_AVX2(Q4_K, PANEL_Q4_K, 256, .quads = 8, .min = -1)

void linear_q4_init_avx2(struct kernels *k)
{
    linear_set_avx2(k, DT_Q4_0, linear_Q4_0_avx2);
    linear_set_avx2(k, DT_Q4_1, linear_Q4_1_avx2);
    linear_set_avx2(k, DT_Q4_K, linear_Q4_K_avx2);
}
