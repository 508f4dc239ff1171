/* y = W x with float weights for any vector width: y = fmaf(w[k], x[k], y), k ascending, in every lane,
 * so the blocking below moves no bit. Operations: wide_math.h, v_load_half, v_load_brain_pairs, v_brain12,
 * v_brain12_vectors. */
#ifndef KERNELS_WIDE_FLOAT_H
#define KERNELS_WIDE_FLOAT_H
#include "kernels/brain12_linear.h"
#include "kernels/wide_vec.h"

/* Vectors of a panel; panels at once for four rows (16 accumulators) and for one (8). */
enum { FLOAT_LANES = PANEL_COLS / VL, FLOAT_VECS = 8, FLOAT_MANY = 4 / FLOAT_LANES, FLOAT_ONE = 8 / FLOAT_LANES };
enum { FLOAT_TALL = 12 };               /* rows at once of a single panel of one vector */

/* The weights of K = k (and k + 1 for pairs) of vector v of a panel. */
WIDE_INLINE void float_weights(enum dtype t, const uint8_t *panel, size_t k, size_t v, vf w[2])
{
    if (t == DT_F32)
        w[0] = v_load((const float *)(const void *)panel + k * PANEL_COLS + v * VL);
    else if (t == DT_F16)
        w[0] = v_load_half((const uint16_t *)(const void *)panel + k * PANEL_COLS + v * VL);
    else
        v_load_brain_pairs((const uint16_t *)(const void *)panel + k * PANEL_COLS + 2 * v * VL, &w[0],
                           &w[1]);
}

/* nr rows times np panels: nr * np * FLOAT_LANES accumulators; `more`: they go on from y */
WIDE_INLINE void float_tile(enum dtype t, size_t nr, size_t np, const uint8_t *panels, size_t bytes, size_t k,
                            const float *x, size_t ldx, float *y, size_t ldy, bool more)
{
    vf sum[FLOAT_TALL][FLOAT_VECS];
    size_t nv = np * FLOAT_LANES, step = t == DT_BF16 ? 2 : 1;
    WIDE_UNROLL
    for (size_t r = 0; r < nr; r++)
        WIDE_UNROLL
        for (size_t v = 0; v < nv; v++) sum[r][v] = more ? v_load(y + r * ldy + v * VL) : v_set1(0);
    for (size_t i = 0; i < k; i += step) {
        vf w[FLOAT_VECS][2];
        WIDE_UNROLL
        for (size_t v = 0; v < nv; v++)
            float_weights(t, panels + v / FLOAT_LANES * bytes, i, v % FLOAT_LANES, w[v]);
        WIDE_UNROLL
        for (size_t r = 0; r < nr; r++)
            WIDE_UNROLL
            for (size_t v = 0; v < nv; v++) sum[r][v] = v_fma(w[v][0], v_set1(x[r * ldx + i]), sum[r][v]);
        if (step == 2 && i + 1 < k)
            WIDE_UNROLL
            for (size_t r = 0; r < nr; r++)
                WIDE_UNROLL
                for (size_t v = 0; v < nv; v++)
                    sum[r][v] = v_fma(w[v][1], v_set1(x[r * ldx + i + 1]), sum[r][v]);
    }
    WIDE_UNROLL
    for (size_t r = 0; r < nr; r++)
        WIDE_UNROLL
        for (size_t v = 0; v < nv; v++) v_store(y + r * ldy + v * VL, sum[r][v]);
}

/* `bytes`: from one panel to the next. `more`: y is gone on from, for K in pieces. */
WIDE_INLINE void float_linear(enum dtype t, const void *panels, size_t bytes, size_t n_panels, size_t k,
                              const struct act *x, size_t rows, float *y, size_t ldy, bool more)
{
    size_t most = rows < 4 ? FLOAT_ONE : FLOAT_MANY, np;
    for (size_t p = 0; p < n_panels; p += np) {
        const uint8_t *at = (const uint8_t *)panels + p * bytes;
        np = n_panels - p < most ? 1 : most;
        for (size_t r = 0, nr; r < rows; r += nr) {
            const float *xr = x->f + r * x->ldf;
            float *yr = y + r * ldy + p * PANEL_COLS;
            nr = rows - r < 4 ? 1 : np == 1 && FLOAT_LANES == 1 && rows - r >= FLOAT_TALL ? FLOAT_TALL : 4;
            if (nr == FLOAT_TALL)
                float_tile(t, FLOAT_LANES == 1 ? FLOAT_TALL : 1, 1, at, bytes, k, xr, x->ldf, yr, ldy, more);
            else if (nr == 4 && np == FLOAT_MANY)
                float_tile(t, 4, FLOAT_MANY, at, bytes, k, xr, x->ldf, yr, ldy, more);
            else if (nr == 4)
                float_tile(t, 4, 1, at, bytes, k, xr, x->ldf, yr, ldy, more);
            else if (np == FLOAT_ONE)
                float_tile(t, 1, FLOAT_ONE, at, bytes, k, xr, x->ldf, yr, ldy, more);
            else if (np == FLOAT_MANY)
                float_tile(t, 1, FLOAT_MANY, at, bytes, k, xr, x->ldf, yr, ldy, more);
            else
                float_tile(t, 1, 1, at, bytes, k, xr, x->ldf, yr, ldy, more);
        }
    }
}

#define FLOAT_TYPE(T)                                                                                    \
    static void wide_linear_##T(const void *panels, size_t n_panels, size_t k, const struct act *x,      \
                                size_t rows, float *y, size_t ldy)                                       \
    {                                                                                                    \
        float_linear(DT_##T, panels, panel_bytes(DT_##T, k), n_panels, k, x, rows, y, ldy, false);       \
    }
FLOAT_TYPE(F32)
FLOAT_TYPE(F16)
FLOAT_TYPE(BF16)

static void wide_times_f32(const float *panels, size_t apart, size_t n_panels, size_t k, const float *x, size_t ldx,
                           size_t rows, float *y, size_t ldy, bool more)
{
    struct act act = { .f = x, .ldf = ldx };
    float_linear(DT_F32, panels, apart * sizeof *panels, n_panels, k, &act, rows, y, ldy, more);
}

static void wide_times(const uint8_t *lines, size_t bytes, size_t n_panels, size_t k, const struct act *x,
                       size_t rows, float *y, size_t ldy, bool more)
{
    float_linear(DT_BF16, lines, bytes, n_panels, k, x, rows, y, ldy, more);
}
/* Vector v of group g of one panel, whose sum goes on through all groups; `lines`: the group as lines of BF16, where
 * something escaped. */
WIDE_INLINE vf wide_few_group(const uint8_t *panel, const uint8_t *lines, size_t g, size_t v, const float *x, vf sum)
{
    vf w[BRAIN12_K];
    if (!lines) v_brain12_vectors(brain12_groups(panel) + g * BRAIN12_GROUP + v * VL * 4, panel, w);
    WIDE_UNROLL
    for (size_t i = 0; lines && i < BRAIN12_K; i += 2) float_weights(DT_BF16, lines, i, v, w + i);
    WIDE_UNROLL
    for (size_t i = 0; i < BRAIN12_K; i++) sum = v_fma(w[i], v_set1(x[g * BRAIN12_K + i]), sum);
    return sum;
}
WIDE_INLINE void wide_few_tile(size_t np, const uint8_t *panels, size_t bytes, size_t groups, const uint32_t **list,
                               const float *x, float *y)
{
    vf sum[FLOAT_VECS];
    size_t nv = np * FLOAT_LANES, g = 0;
    WIDE_UNROLL
    for (size_t v = 0; v < nv; v++) sum[v] = v_set1(0);
    for (;; g++) {
        size_t end = brain12_next(list, np, groups);
        for (; g < end; g++) {
            brain12_ask(panels, bytes, np, g, groups);
            WIDE_UNROLL
            for (size_t v = 0; v < nv; v++)
                sum[v] = wide_few_group(panels + v / FLOAT_LANES * bytes, NULL, g, v % FLOAT_LANES, x, sum[v]);
        }
        if (g == groups) break;
        WIDE_UNROLL
        for (size_t p = 0; p < np; p++) {
            _Alignas(64) uint8_t lines[4 * 64];
            list[p] = brain12_lines(v_brain12, panels + p * bytes, g * BRAIN12_K, (g + 1) * BRAIN12_K, list[p], lines);
            WIDE_UNROLL
            for (size_t v = 0; v < FLOAT_LANES; v++)
                sum[p * FLOAT_LANES + v] = wide_few_group(NULL, lines, g, v, x, sum[p * FLOAT_LANES + v]);
        }
    }
    WIDE_UNROLL
    for (size_t v = 0; v < nv; v++) v_store(y + v * VL, sum[v]);
}
static void wide_few(const uint8_t *panels, size_t bytes, size_t n_panels, size_t groups, const uint32_t **list,
                     const float *x, float *y)
{
    if (n_panels == 1) wide_few_tile(1, panels, bytes, groups, list, x, y);
    else wide_few_tile(FLOAT_ONE, panels, bytes, groups, list, x, y);
}
static void wide_brain12(const void *panels, size_t n_panels, size_t k, const struct act *x, size_t rows,
                         float *y, size_t ldy)
{
    static const struct brain12_ops ops = { FLOAT_ONE, 1, v_brain12, wide_times, wide_few };
    brain12_linear(ops, panels, n_panels, k, x, rows, y, ldy);
}

static inline void wide_float_init(struct kernels *k, const char *level)
{
    k->linear[DT_F32] = wide_linear_F32;
    k->linear[DT_F16] = wide_linear_F16;
    k->linear[DT_BF16] = wide_linear_BF16;
    k->times = wide_times_f32;
    k->brain12 = wide_brain12;
    k->linear_level[DT_F32] = k->linear_level[DT_F16] = k->linear_level[DT_BF16] = k->brain12_level = level;
}
#endif
