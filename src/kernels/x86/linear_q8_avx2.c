/* Q8_0. */
#include "kernels/x86/avx2.h"
#include "kernels/x86/linear_avx2.h"

INLINE void line_Q8_0(const uint8_t *panel, size_t g, int l, struct line *out)
{
    const uint8_t *codes = panel + g / 2 * PANEL_Q8_0 + g % 2 * 512 + 64 * (size_t)l;
    UNROLL
    for (int c = 0; c < 2; c++) {
        out->lo[c] = load_i(codes + 32 * c);
        out->hi[c] = load_i(codes + 256 + 32 * c);
    }
}

INLINE void scales_Q8_0(const uint8_t *panel, size_t g, struct scales *out)
{
    const uint8_t *d = panel + g / 2 * PANEL_Q8_0 + 1024 + g % 2 * 32;
    for (size_t c = 0; c < 2; c++) out->d[c] = half_8(d + 16 * c);
}

LINEAR_AVX2(Q8_0, PANEL_Q8_0, 64, .sign = true, .quads = 1)

void linear_q8_init_avx2(struct kernels *k) { linear_set_avx2(k, DT_Q8_0, linear_Q8_0_avx2); }
