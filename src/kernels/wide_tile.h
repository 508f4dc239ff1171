/* Rows times panels of float weights, for any vector width: what wide_float.h and wide_brain12.h multiply with.
 * Operations: wide_math.h, v_load_half, v_load_brain_pairs. Static inline only. */
#ifndef KERNELS_WIDE_TILE_H
#define KERNELS_WIDE_TILE_H
#include "kernels/kernels.h"
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
        for (np = most; np > n_panels - p; np = rows < 4 ? np / 2 : 1) {}
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
            else if (np == FLOAT_ONE / 2)
                float_tile(t, 1, FLOAT_ONE / 2, at, bytes, k, xr, x->ldf, yr, ldy, more);
            else if (np > 1)
                float_tile(t, 1, FLOAT_LANES == 1 ? FLOAT_ONE / 4 : 1, at, bytes, k, xr, x->ldf, yr, ldy, more);
            else
                float_tile(t, 1, 1, at, bytes, k, xr, x->ldf, yr, ldy, more);
        }
    }
}
#endif
