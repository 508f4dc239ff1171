/* F32, F16, BF16: y = fmaf(w, x, y) in ascending k, 8 columns to a register. A sum is one chain of
 * FMAs (latency 4, two a cycle), so at least 8 must run side by side: several panels for few rows,
 * rows times panels for many. */
#include "kernels/brain12_linear.h"
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

/* `more`: sums go on from y. `ahead`: what stands so far behind the weights is fetched meanwhile. */
INLINE void block(enum dtype t, int rows, int panels, const uint8_t *w, size_t pb, size_t k,
                  const float *x, size_t ldx, float *y, size_t ldy, bool more, size_t ahead)
{
    __m256 f[6][8];
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int c = 0; c < 2 * panels; c++)
            f[r][c] = more ? _mm256_loadu_ps(y + (size_t)r * ldy + 8 * c) : _mm256_setzero_ps();
    }
    for (size_t i = 0; i < k; i++) {
        __m256 v[8];
        UNROLL
        for (int c = 0; c < 2 * panels; c++) v[c] = weight(t, w + (size_t)(c / 2) * pb, i, c % 2);
        if (ahead) __builtin_prefetch(w + ahead + i * (t == DT_F32 ? 64 : 32), 0, 2);
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

/* Fewer than six rows of a panel, together: their sums hide each other's latency. */
INLINE void few_rows(enum dtype t, size_t rows, const uint8_t *w, size_t k, const float *x, size_t ldx, float *y,
                     size_t ldy, bool more)
{
    switch (rows) {
    case 1: block(t, 1, 1, w, 0, k, x, ldx, y, ldy, more, 0); return;
    case 2: block(t, 2, 1, w, 0, k, x, ldx, y, ldy, more, 0); return;
    case 3: block(t, 3, 1, w, 0, k, x, ldx, y, ldy, more, 0); return;
    case 4: block(t, 4, 1, w, 0, k, x, ldx, y, ldy, more, 0); return;
    case 5: block(t, 5, 1, w, 0, k, x, ldx, y, ldy, more, 0); return;
    default: return;
    }
}

/* All rows of `panels` neighbouring panels; 12 sums at a time where there are rows enough. */
INLINE void strip(enum dtype t, int panels, const uint8_t *w, size_t pb, size_t k,
                  const struct act *x, size_t rows, float *y, size_t ldy, bool more)
{
    size_t r = 0, step = panels == 1 ? 6 : panels == 2 ? 3 : 1;
    for (; r + step <= rows; r += step)
        block(t, (int)step, panels, w, pb, k, x->f + r * x->ldf, x->ldf, y + r * ldy, ldy, more, 0);
    if (panels == 1) few_rows(t, rows - r, w, k, x->f + r * x->ldf, x->ldf, y + r * ldy, ldy, more);
    for (; r < rows && panels > 1; r++)
        block(t, 1, panels, w, pb, k, x->f + r * x->ldf, x->ldf, y + r * ldy, ldy, more, 0);
}

/* Many rows of a panel: a piece of it that stays in the first-level cache meets all of them, the first of which
 * fetch the next piece. */
enum { PIECE_K = 256, PIECE_ROWS = 24 };

INLINE void tall_strip(enum dtype t, const uint8_t *w, size_t k, const struct act *x, size_t rows, float *y,
                       size_t ldy, bool more)
{
    for (size_t i = 0; i < k || i == 0; i += PIECE_K, more = true) {
        size_t n = k - i < PIECE_K ? k - i : PIECE_K, r = 0, bytes = t == DT_F32 ? 64 : 32;
        const uint8_t *at = w + i * bytes;
        const float *xi = x->f + i;
        block(t, 6, 1, at, 0, n, xi, x->ldf, y, ldy, more, PIECE_K * bytes);
        for (r = 6; r + 6 <= rows; r += 6)
            block(t, 6, 1, at, 0, n, xi + r * x->ldf, x->ldf, y + r * ldy, ldy, more, 0);
        few_rows(t, rows - r, at, n, xi + r * x->ldf, x->ldf, y + r * ldy, ldy, more);
    }
}

INLINE void linear_float(enum dtype t, const uint8_t *w, size_t pb, size_t n_panels, size_t k,
                         const struct act *x, size_t rows, float *y, size_t ldy, bool more)
{
    size_t p = 0;
    if (rows < 3)
        for (; p + 4 <= n_panels; p += 4) strip(t, 4, w + p * pb, pb, k, x, rows, y + 16 * p, ldy, more);
    if (rows < 6)
        for (; p + 2 <= n_panels; p += 2) strip(t, 2, w + p * pb, pb, k, x, rows, y + 16 * p, ldy, more);
    if (rows >= PIECE_ROWS)
        for (; p < n_panels; p++) tall_strip(t, w + p * pb, k, x, rows, y + 16 * p, ldy, more);
    for (; p < n_panels; p++) strip(t, 1, w + p * pb, pb, k, x, rows, y + 16 * p, ldy, more);
}

#define FLOAT_AVX2(T)                                                                     \
    static void linear_##T##_avx2(const void *panels, size_t n_panels, size_t k,          \
                                  const struct act *x, size_t rows, float *y, size_t ldy) \
    {                                                                                     \
        linear_float(DT_##T, panels, panel_bytes(DT_##T, k), n_panels, k, x, rows, y, ldy, false); \
    }
FLOAT_AVX2(F32)
FLOAT_AVX2(F16)
FLOAT_AVX2(BF16)

void times_f32_avx2(const float *panels, size_t apart, size_t n_panels, size_t k, const float *x, size_t ldx,
                    size_t rows, float *y, size_t ldy, bool more)
{
    struct act act = { .f = x, .ldf = ldx };
    linear_float(DT_F32, (const uint8_t *)panels, apart * sizeof *panels, n_panels, k, &act, rows, y, ldy, more);
}

static inline void group_12(const uint8_t *from, const uint8_t *high, uint8_t *lines)
{
    const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)high));
    const __m256i half = _mm256_set1_epi8(15);
    for (int h = 0; h < 2; h++) {
        __m256i codes = load_i(from + 32 * h);
        for (int i = 0; i < 2; i++) {
            __m256i low = load_i(from + 64 + 64 * i + 32 * h);
            __m256i up = _mm256_shuffle_epi8(table, _mm256_and_si256(codes, half));
            uint8_t *to = lines + 128 * i + 32 * h;
            _mm256_storeu_si256((void *)to, _mm256_unpacklo_epi8(low, up));
            _mm256_storeu_si256((void *)(to + 64), _mm256_unpackhi_epi8(low, up));
            codes = _mm256_srli_epi16(codes, 4);
        }
    }
}

static void times_avx2(const uint8_t *lines, size_t bytes, size_t n_panels, size_t k, const struct act *x,
                       size_t rows, float *y, size_t ldy, bool more)
{
    linear_float(DT_BF16, lines, bytes, n_panels, k, x, rows, y, ldy, more);
}

/* 8 columns of a group, one vector for each of 8 of K. */
INLINE void vectors_12(const uint8_t *from, const uint8_t *high, __m256 w[8])
{
    const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)high));
    const __m256i half = _mm256_set1_epi8(15), upper = _mm256_set1_epi32((int)0xffff0000);
    __m256i codes = load_i(from);
    for (int i = 0; i < 2; i++) {
        __m256i low = load_i(from + 64 + 64 * i), up = _mm256_shuffle_epi8(table, _mm256_and_si256(codes, half));
        __m256i a = _mm256_unpacklo_epi8(low, up), b = _mm256_unpackhi_epi8(low, up);
        w[4 * i] = _mm256_castsi256_ps(_mm256_slli_epi32(a, 16));
        w[4 * i + 1] = _mm256_castsi256_ps(_mm256_and_si256(a, upper));
        w[4 * i + 2] = _mm256_castsi256_ps(_mm256_slli_epi32(b, 16));
        w[4 * i + 3] = _mm256_castsi256_ps(_mm256_and_si256(b, upper));
        codes = _mm256_srli_epi16(codes, 4);
    }
}

/* 8 columns of group g of one panel. */
INLINE __m256 few_group(const uint8_t *panel, size_t g, int c, const float *x, __m256 sum)
{
    __m256 w[8];
    vectors_12(brain12_groups(panel) + g * BRAIN12_GROUP + 32 * c, panel, w);
    UNROLL
    for (int i = 0; i < 8; i++) sum = _mm256_fmadd_ps(w[i], _mm256_set1_ps(x[g * 8 + (size_t)i]), sum);
    return sum;
}

/* A group in some of whose panels something escaped: sums go on in y, those panels by way of lines. */
INLINE void few_escaped(size_t panels, const uint8_t *at, size_t bytes, size_t g, const uint32_t **list,
                        const float *x, float *y)
{
    for (size_t p = 0; p < panels; p++, y += PANEL_COLS) {
        const uint8_t *panel = at + p * bytes;
        if (brain12_escape(list[p]) == g) {
            _Alignas(64) uint8_t lines[4 * 64];
            list[p] = brain12_lines(group_12, panel, g * BRAIN12_K, (g + 1) * BRAIN12_K, list[p], lines);
            block(DT_BF16, 1, 1, lines, 0, BRAIN12_K, x + g * BRAIN12_K, 0, y, 0, true, 0);
        } else {
            UNROLL
            for (int c = 0; c < 2; c++)
                _mm256_storeu_ps(y + 8 * c, few_group(panel, g, c, x, _mm256_loadu_ps(y + 8 * c)));
        }
    }
}

INLINE void few_tile(size_t panels, const uint8_t *at, size_t bytes, size_t groups, const uint32_t **list,
                     const float *x, float *y)
{
    __m256 f[8];
    size_t g = 0;
    UNROLL
    for (size_t c = 0; c < 2 * panels; c++) f[c] = _mm256_setzero_ps();
    for (;; g++) {
        size_t end = brain12_next(list, panels, groups);
        for (; g < end; g++) {
            brain12_ask(at, bytes, panels, g, groups);
            UNROLL
            for (size_t c = 0; c < 2 * panels; c++) f[c] = few_group(at + c / 2 * bytes, g, (int)(c % 2), x, f[c]);
        }
        UNROLL
        for (size_t c = 0; c < 2 * panels; c++) _mm256_storeu_ps(y + 8 * c, f[c]);
        if (g == groups) return;
        brain12_ask(at, bytes, panels, g, groups);
        few_escaped(panels, at, bytes, g, list, x, y);
        UNROLL
        for (size_t c = 0; c < 2 * panels; c++) f[c] = _mm256_loadu_ps(y + 8 * c);
    }
}

static void few_avx2(const uint8_t *panels, size_t bytes, size_t n_panels, size_t groups, const uint32_t **list,
                     const float *x, float *y)
{
    if (n_panels == 4) few_tile(4, panels, bytes, groups, list, x, y);
    else if (n_panels == 2) few_tile(2, panels, bytes, groups, list, x, y);
    else few_tile(1, panels, bytes, groups, list, x, y);
}

static void brain12_avx2(const void *panels, size_t n_panels, size_t k, const struct act *x, size_t rows,
                         float *y, size_t ldy)
{
    static const struct brain12_ops ops = { 4, 2, group_12, times_avx2, few_avx2 };
    brain12_linear(ops, panels, n_panels, k, x, rows, y, ldy);
}

void linear_float_init_avx2(struct kernels *k)
{
    linear_set_avx2(k, DT_F32, linear_F32_avx2);
    linear_set_avx2(k, DT_F16, linear_F16_avx2);
    linear_set_avx2(k, DT_BF16, linear_BF16_avx2);
    k->times = times_f32_avx2;
    k->brain12 = brain12_avx2;
    k->brain12_level = "avx2";
}
