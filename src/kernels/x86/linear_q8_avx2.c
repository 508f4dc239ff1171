/* Q8_0. */
#include "kernels/x86/avx2.h"
#include "kernels/x86/linear_avx2.h"

INLINE void unpack_Q8_0(const uint8_t *panel, size_t g, struct unpacked *out)
{
    const uint8_t *unit = panel + g / 2 * PANEL_Q8_0, *codes = unit + g % 2 * 512;
    UNROLL
    for (int quad = 0; quad < 8; quad++) {
        UNROLL
        for (int c = 0; c < 2; c++) out->code[quad][c] = load_i(codes + 64 * quad + 32 * c);
    }
    for (size_t c = 0; c < 2; c++) out->d[c] = half_8(unit + 1024 + g % 2 * 32 + 16 * c);
}

LINEAR_AVX2(Q8_0, .sign = true, .quads = 1)

void linear_q8_init_avx2(struct kernels *k) { linear_set_avx2(k, DT_Q8_0, linear_Q8_0_avx2); }
