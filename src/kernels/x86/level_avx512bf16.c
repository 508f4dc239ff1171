/* AVX512-BF16: rounding to bf16, and training in it (kernels/train.h). VDPBF16PS adds the products of a pair to a sum
 * one after the other. Linear layers that run stay those of AVX-512, as that is not the rule of kernels.h. */
#include "kernels/kernels.h"
#include "kernels/x86/pairs512.h"
#include <string.h>

/* The instruction makes denormals zero, the rule does not: vectors that have one go the long way. */
static void to_bf16_avx512bf16(const float *x, size_t n, uint16_t *out)
{
    enum { DENORMAL = 0x20 };
    for (size_t i = 0; i < n; i += VL) {
        vf v = v_load_n(x + i, n - i);
        __m256i h = _mm512_fpclass_ps_mask(v, DENORMAL) ? v_to_brain(v) : (__m256i)_mm512_cvtneps_pbh(v);
        _mm256_mask_storeu_epi16(out + i, v_first(n - i), h);
    }
}

static inline vf pair_times(vf sum, vpair many, uint32_t one)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)many, (__m512bh)_mm512_set1_epi32((int)one));
}

/* ---- linear layers --------------------------------------------------------------------------------------- */

enum { PAIR_ROWS = 12, PAIR_PANELS = 2 };

/* nr rows times np panels of k / 2 lines, `bytes` apart. An odd k ends with half a pair. */
WIDE_INLINE void pair_tile(size_t nr, size_t np, const uint8_t *panels, size_t bytes, size_t k, const uint16_t *h,
                           size_t ldh, float *y, size_t ldy)
{
    vf sum[PAIR_ROWS][PAIR_PANELS];
    WIDE_UNROLL
    for (size_t r = 0; r < nr; r++)
        WIDE_UNROLL
        for (size_t p = 0; p < np; p++) sum[r][p] = v_set1(0);
    for (size_t i = 0; i < k; i += 2, panels += 64) {
        vpair w[PAIR_PANELS];
        bool half = i + 1 == k;
        WIDE_UNROLL
        for (size_t p = 0; p < np; p++) w[p] = _mm512_load_si512(panels + p * bytes);
        WIDE_UNROLL
        for (size_t r = 0; r < nr; r++) {
            const uint16_t *at = h + r * ldh + i;
            uint32_t x = *at;
            if (!half) memcpy(&x, at, sizeof x);
            WIDE_UNROLL
            for (size_t p = 0; p < np; p++) sum[r][p] = pair_times(sum[r][p], w[p], x);
        }
    }
    WIDE_UNROLL
    for (size_t r = 0; r < nr; r++)
        WIDE_UNROLL
        for (size_t p = 0; p < np; p++) v_store(y + r * ldy + p * PANEL_COLS, sum[r][p]);
}

static void learn_linear_avx512bf16(const void *panels, size_t n_panels, size_t k, const struct act *x, size_t rows,
                                    float *y, size_t ldy)
{
    size_t bytes = panel_bytes(DT_BF16, k);
    for (size_t p = 0, np; p < n_panels; p += np) {
        const uint8_t *at = (const uint8_t *)panels + p * bytes;
        np = n_panels - p < PAIR_PANELS ? 1 : PAIR_PANELS;
        for (size_t r = 0, nr; r < rows; r += nr) {
            const uint16_t *h = x->h + r * x->ldh;
            float *to = y + r * ldy + p * PANEL_COLS;
            nr = rows - r >= PAIR_ROWS ? PAIR_ROWS : rows - r >= 4 ? 4 : 1;
            if (nr == PAIR_ROWS && np == PAIR_PANELS)
                pair_tile(PAIR_ROWS, PAIR_PANELS, at, bytes, k, h, x->ldh, to, ldy);
            else if (nr == PAIR_ROWS) pair_tile(PAIR_ROWS, 1, at, bytes, k, h, x->ldh, to, ldy);
            else if (nr == 4 && np == PAIR_PANELS) pair_tile(4, PAIR_PANELS, at, bytes, k, h, x->ldh, to, ldy);
            else if (nr == 4) pair_tile(4, 1, at, bytes, k, h, x->ldh, to, ldy);
            else if (np == PAIR_PANELS) pair_tile(1, PAIR_PANELS, at, bytes, k, h, x->ldh, to, ldy);
            else pair_tile(1, 1, at, bytes, k, h, x->ldh, to, ldy);
        }
    }
}

/* ---- gradients of weights -------------------------------------------------------------------------------- */

/* Pairs of rows that are worked on at once; inputs of which a sum and two panels stay in registers; inputs and panels
 * whose pairs are copied together. */
enum { GRAD_PAIRS = 128, GRAD_TALL = 12, GRAD_INPUTS = 120, GRAD_PANELS = 32 };

struct grad_block {
    _Alignas(64) uint32_t x[(GRAD_INPUTS + GRAD_TALL) * GRAD_PAIRS];     /* [input / GRAD_TALL][pair][GRAD_TALL]  */
    _Alignas(64) uint32_t dy[GRAD_PANELS * PANEL_COLS * GRAD_PAIRS];     /* [panel / 2][pair][2][16]              */
    size_t pairs;
};

/* How many of the groups a block takes. */
static size_t grad_take(const struct row_group *group, size_t groups, size_t *pairs)
{
    size_t n = 0;
    *pairs = 0;
    while (n < groups && *pairs + (group[n].n + 1) / 2 <= GRAD_PAIRS) *pairs += (group[n++].n + 1) / 2;
    return n;
}

static void grad_pack_x(struct grad_block *b, const struct row_group *group, size_t groups, const float *x, size_t ldx,
                        size_t cols)
{
    uint32_t *to = b->x;
    for (size_t g = 0; g < groups; g++)
        for (size_t r = 0; r < group[g].n; r += 2, to += GRAD_TALL)
            for (size_t i = 0; i < cols; i += GRAD_TALL) {
                size_t n = cols - i < GRAD_TALL ? cols - i : GRAD_TALL;
                vpair pair = group_pair(&group[g], r, x + i, ldx, n);
                v_store_n((float *)(void *)(to + i * b->pairs), _mm512_castsi512_ps(pair), n);
            }
}

static void grad_pack_dy(struct grad_block *b, const struct row_group *group, size_t groups, const float *dy,
                         size_t lddy, size_t n)
{
    uint32_t *to = b->dy;
    for (size_t g = 0; g < groups; g++)
        for (size_t r = 0; r < group[g].n; r += 2, to += 2 * PANEL_COLS)
            for (size_t o = 0; o < n; o += PANEL_COLS)
                _mm512_store_si512(to + o / (2 * PANEL_COLS) * 2 * PANEL_COLS * b->pairs + o % (2 * PANEL_COLS),
                                   group_pair(&group[g], r, dy + o, lddy, n - o));
}

/* `rows` inputs, one panel or two. */
WIDE_INLINE void grad_sums(size_t rows, size_t np, size_t pairs, const uint32_t *x, const uint32_t *dy, float *left,
                           float *right)
{
    vf sum[GRAD_TALL][2];
    WIDE_UNROLL
    for (size_t r = 0; r < rows; r++) {
        __builtin_prefetch(left + (GRAD_TALL + r) * PANEL_COLS, 1);
        sum[r][0] = v_load(left + r * PANEL_COLS);
        if (np < 2) continue;
        __builtin_prefetch(right + (GRAD_TALL + r) * PANEL_COLS, 1);
        sum[r][1] = v_load(right + r * PANEL_COLS);
    }
    for (size_t i = 0; i < pairs; i++, x += GRAD_TALL, dy += 2 * PANEL_COLS) {
        vpair l = _mm512_load_si512(dy), h = np > 1 ? _mm512_load_si512(dy + PANEL_COLS) : l;
        WIDE_UNROLL
        for (size_t r = 0; r < rows; r++) {
            sum[r][0] = pair_times(sum[r][0], l, x[r]);
            if (np > 1) sum[r][1] = pair_times(sum[r][1], h, x[r]);
        }
    }
    WIDE_UNROLL
    for (size_t r = 0; r < rows; r++) {
        v_store(left + r * PANEL_COLS, sum[r][0]);
        if (np > 1) v_store(right + r * PANEL_COLS, sum[r][1]);
    }
}

#define GRAD_SUMS(NAME, ROWS)                                                                                         \
    __attribute__((noinline)) static void NAME(size_t pairs, const uint32_t *x, const uint32_t *dy, float *left,      \
                                               float *right)                                                          \
    {                                                                                                                 \
        if (right) grad_sums(ROWS, 2, pairs, x, dy, left, right);                                                     \
        else grad_sums(ROWS, 1, pairs, x, dy, left, NULL);                                                            \
    }
GRAD_SUMS(grad_tall, GRAD_TALL)
GRAD_SUMS(grad_four, 4)
GRAD_SUMS(grad_one, 1)

static void grad_strip(const struct grad_block *b, size_t cols, const uint32_t *dy, float *left, float *right)
{
    for (size_t i = 0, n; i < cols; i += n) {
        const uint32_t *x = b->x + i / GRAD_TALL * GRAD_TALL * b->pairs + i % GRAD_TALL;
        float *l = left + i * PANEL_COLS, *r = right ? right + i * PANEL_COLS : NULL;
        n = cols - i >= GRAD_TALL ? GRAD_TALL : cols - i >= 4 ? 4 : 1;
        if (n == GRAD_TALL) grad_tall(b->pairs, x, dy, l, r);
        else if (n == 4) grad_four(b->pairs, x, dy, l, r);
        else grad_one(b->pairs, x, dy, l, r);
    }
}

static void learn_grad_avx512bf16(const float *x, size_t ldx, size_t cols, const float *dy, size_t lddy, size_t n,
                                  const struct row_group *group, size_t groups, float *g, size_t k)
{
    struct grad_block b;
    enum { OUTPUTS = GRAD_PANELS * PANEL_COLS };
    for (size_t o = 0; o < n; o += OUTPUTS)
        for (size_t from = 0, some; from < groups; from += some) {
            size_t outputs = n - o < OUTPUTS ? n - o : OUTPUTS;
            some = grad_take(group + from, groups - from, &b.pairs);
            grad_pack_dy(&b, group + from, some, dy + o, lddy, outputs);
            for (size_t i = 0, nc; i < cols; i += nc) {
                nc = cols - i < GRAD_INPUTS ? cols - i : GRAD_INPUTS;
                grad_pack_x(&b, group + from, some, x + i, ldx, nc);
                for (size_t p = 0; p < outputs; p += 2 * PANEL_COLS) {
                    float *at = g + (o + p) * k + i * PANEL_COLS;
                    grad_strip(&b, nc, b.dy + p * b.pairs, at, outputs - p > PANEL_COLS ? at + PANEL_COLS * k : NULL);
                }
            }
        }
}

static inline vf peak_step(vf sum, const uint8_t *p)
{
    vpair w = _mm512_load_si512(p);
    return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)w);
}
PEAK_FUNCTION(peak_bf16, vf, _mm512_setzero_ps(), 12, peak_step, 32)

void kernels_init_avx512bf16(struct kernels *k)
{
    k->to_bf16 = to_bf16_avx512bf16;
    k->learn_linear = learn_linear_avx512bf16;
    k->learn_grad = learn_grad_avx512bf16;
    k->peak[ARITHMETIC_BF16] = peak_bf16;
}
