/* F32, F16, BF16: y = fmaf(w, x, y) in ascending k, 8 columns to a register. A sum is one chain of
 * FMAs (latency 4, two a cycle), so at least 8 must run side by side: several panels for few rows,
 * rows times panels for many. */
#include "kernels/x86/avx2.h"
#include "kernels/x86/linear_avx2.h"

/* 8 columns of element k. */
INLINE __m256 weight(enum dtype t, const uint8_t *panel, size_t k, int c)
{
    if (t == DT_F32) return _mm256_loadu_ps((const float *)(const void *)(panel + k * 64) + 8 * c);
    if (t == DT_F16) return half_8(panel + k * 32 + 16 * (size_t)c);
    __m256i v = load_i(panel + k / 2 * 64 + 32 * (size_t)c);
    v = k % 2 ? _mm256_and_si256(v, _mm256_set1_epi32((int)0xffff0000)) : _mm256_slli_epi32(v, 16);
    return _mm256_castsi256_ps(v);
}

INLINE void block(enum dtype t, int rows, int panels, const uint8_t *w, size_t pb, size_t k,
                  const float *x, size_t ldx, float *y, size_t ldy)
{
    __m256 f[6][8];
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int c = 0; c < 2 * panels; c++) f[r][c] = _mm256_setzero_ps();
    }
    for (size_t i = 0; i < k; i++) {
        __m256 v[8];
        UNROLL
        for (int c = 0; c < 2 * panels; c++) v[c] = weight(t, w + (size_t)(c / 2) * pb, i, c % 2);
        UNROLL
        for (int r = 0; r < rows; r++) {
            __m256 b = _mm256_set1_ps(x[(size_t)r * ldx + i]);
            UNROLL
            for (int c = 0; c < 2 * panels; c++) f[r][c] = _mm256_fmadd_ps(v[c], b, f[r][c]);
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int c = 0; c < 2 * panels; c++) _mm256_storeu_ps(y + (size_t)r * ldy + 8 * c, f[r][c]);
    }
}

/* All rows of `panels` neighbouring panels; 12 sums at a time where there are rows enough. */
INLINE void strip(enum dtype t, int panels, const uint8_t *w, size_t pb, size_t k,
                  const struct act *x, size_t rows, float *y, size_t ldy)
{
    size_t r = 0, step = panels == 1 ? 6 : panels == 2 ? 3 : 1;
    for (; r + step <= rows; r += step)
        block(t, (int)step, panels, w, pb, k, x->f + r * x->ldf, x->ldf, y + r * ldy, ldy);
    for (; r < rows; r++)
        block(t, 1, panels, w, pb, k, x->f + r * x->ldf, x->ldf, y + r * ldy, ldy);
}

INLINE void linear_float(enum dtype t, const uint8_t *w, size_t n_panels, size_t k,
                         const struct act *x, size_t rows, float *y, size_t ldy)
{
    size_t pb = panel_bytes(t, k), p = 0;
    if (rows < 3)
        for (; p + 4 <= n_panels; p += 4) strip(t, 4, w + p * pb, pb, k, x, rows, y + 16 * p, ldy);
    if (rows < 6)
        for (; p + 2 <= n_panels; p += 2) strip(t, 2, w + p * pb, pb, k, x, rows, y + 16 * p, ldy);
    for (; p < n_panels; p++) strip(t, 1, w + p * pb, pb, k, x, rows, y + 16 * p, ldy);
}

#define FLOAT_AVX2(T)                                                                     \
    static void linear_##T##_avx2(const void *panels, size_t n_panels, size_t k,          \
                                  const struct act *x, size_t rows, float *y, size_t ldy) \
    {                                                                                     \
        linear_float(DT_##T, panels, n_panels, k, x, rows, y, ldy);                       \
    }
FLOAT_AVX2(F32)
FLOAT_AVX2(F16)
FLOAT_AVX2(BF16)

void linear_float_init_avx2(struct kernels *k)
{
    linear_set_avx2(k, DT_F32, linear_F32_avx2);
    linear_set_avx2(k, DT_F16, linear_F16_avx2);
    linear_set_avx2(k, DT_BF16, linear_BF16_avx2);
}
