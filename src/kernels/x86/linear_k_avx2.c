/* Q2_K, Q3_K, Q6_K: sub-blocks of 16. VPMADDWD that widens the 16-bit sums also multiplies them
 * with the sub-scale. */
#include "kernels/x86/avx2.h"
#include "kernels/x86/linear_avx2.h"

/* Sub-scales as int16 (first half, second half) of 8 columns to each of them twice. */
INLINE void spread_sub(__m256i pair, int c, struct scales *out)
{
    __m256i first = _mm256_slli_epi32(pair, 16), second = _mm256_srli_epi32(pair, 16);
    out->sub[0][c] = _mm256_or_si256(first, _mm256_srli_epi32(first, 16));
    out->sub[1][c] = _mm256_or_si256(second, _mm256_slli_epi32(second, 16));
}

INLINE __m128i load_16(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

INLINE void signed_sub(const uint8_t *p, int zero, struct scales *out)
{
    UNROLL
    for (int c = 0; c < 2; c++) {
        __m256i pair = _mm256_cvtepi8_epi16(load_16(p + 16 * c));
        out->pair[c] = _mm256_mullo_epi16(pair, _mm256_set1_epi16((short)zero));
        spread_sub(pair, c, out);
    }
}

INLINE void line_Q6_K(const uint8_t *panel, size_t g, int l, struct line *out)
{
    const uint8_t *codes = panel + g / 8 * PANEL_Q6_K + PANEL_SUPER + g % 8 * 384;
    nib_line(codes, l, out);
    UNROLL
    for (int c = 0; c < 2; c++) {
        out->lo[c] = _mm256_or_si256(out->lo[c], two_bits(codes + 256, l, c, 4));
        out->hi[c] = _mm256_or_si256(out->hi[c], two_bits(codes + 256, l + 4, c, 4));
    }
}

INLINE void scales_Q6_K(const uint8_t *panel, size_t g, struct scales *out)
{
    const uint8_t *unit = panel + g / 8 * PANEL_Q6_K;
    signed_sub(unit + PANEL_SUB + g % 8 * 32, 32, out);
    for (size_t c = 0; c < 2; c++) out->d[c] = half_8(unit + 16 * c);
}

INLINE void line_Q3_K(const uint8_t *panel, size_t g, int l, struct line *out)
{
    const uint8_t *codes = panel + g / 8 * PANEL_Q3_K + PANEL_SUPER + g % 8 * 192;
    UNROLL
    for (int c = 0; c < 2; c++) {
        out->lo[c] = _mm256_or_si256(two_bits(codes, l, c, 0), one_bit(codes + 128, l, c, 2));
        out->hi[c] =
            _mm256_or_si256(two_bits(codes, l + 4, c, 0), one_bit(codes + 128, l + 4, c, 2));
    }
}

INLINE void scales_Q3_K(const uint8_t *panel, size_t g, struct scales *out)
{
    const uint8_t *unit = panel + g / 8 * PANEL_Q3_K;
    signed_sub(unit + PANEL_SUB + g % 8 * 32, 4, out);
    for (size_t c = 0; c < 2; c++) out->d[c] = half_8(unit + 16 * c);
}

INLINE void line_Q2_K(const uint8_t *panel, size_t g, int l, struct line *out)
{
    const uint8_t *codes = panel + g / 8 * PANEL_Q2_K + PANEL_SUPER + g % 8 * 128;
    UNROLL
    for (int c = 0; c < 2; c++) {
        out->lo[c] = two_bits(codes, l, c, 0);
        out->hi[c] = two_bits(codes, l + 4, c, 0);
    }
}

INLINE void scales_Q2_K(const uint8_t *panel, size_t g, struct scales *out)
{
    const uint8_t *unit = panel + g / 8 * PANEL_Q2_K, *sub = unit + PANEL_SUB + g % 8 * 32;
    UNROLL
    for (int c = 0; c < 2; c++) {
        __m256i pair = _mm256_cvtepu8_epi16(load_16(sub + 16 * c));
        out->pair[c] = _mm256_srli_epi16(pair, 4);
        spread_sub(_mm256_and_si256(pair, _mm256_set1_epi16(15)), c, out);
    }
    for (size_t c = 0; c < 2; c++) {
        out->d[c] = half_8(unit + 16 * c);
        out->m[c] = half_8(unit + 32 + 16 * c);
    }
}

LINEAR_AVX2(Q6_K, PANEL_Q6_K, 256, .quads = 2, .sub = true, .zero = 32)
LINEAR_AVX2(Q3_K, PANEL_Q3_K, 256, .quads = 4, .sub = true, .zero = 4)
LINEAR_AVX2(Q2_K, PANEL_Q2_K, 256, .quads = 4, .sub = true, .min = -2)

void linear_k_init_avx2(struct kernels *k)
{
    linear_set_avx2(k, DT_Q6_K, linear_Q6_K_avx2);
    linear_set_avx2(k, DT_Q3_K, linear_Q3_K_avx2);
    linear_set_avx2(k, DT_Q2_K, linear_Q2_K_avx2);
}
