/* y = W x with float weights for any vector width: y = fmaf(w[k], x[k], y), k ascending, in every lane,
 * so the blocking below moves no bit. Operations: wide_math.h, v_load_half, v_load_brain_pairs. */
#ifndef KERNELS_WIDE_FLOAT_H
#define KERNELS_WIDE_FLOAT_H
#include "kernels/kernels.h"
#include "kernels/wide_vec.h"

/* Vectors of a panel; panels at once for four rows (16 accumulators) and for one (8). */
enum { FLOAT_LANES = PANEL_COLS / VL, FLOAT_VECS = 8, FLOAT_MANY = 4 / FLOAT_LANES, FLOAT_ONE = 8 / FLOAT_LANES };

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

/* nr rows times np panels: nr * np * FLOAT_LANES accumulators */
WIDE_INLINE void float_tile(enum dtype t, size_t nr, size_t np, const uint8_t *panels, size_t bytes, size_t k,
                            const float *x, size_t ldx, float *y, size_t ldy)
{
    vf sum[4][FLOAT_VECS];
    size_t nv = np * FLOAT_LANES, step = t == DT_BF16 ? 2 : 1;
    WIDE_UNROLL
    for (size_t r = 0; r < nr; r++)
        WIDE_UNROLL
        for (size_t v = 0; v < nv; v++) sum[r][v] = v_set1(0);
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

WIDE_INLINE void float_linear(enum dtype t, const void *panels, size_t n_panels, size_t k,
                              const struct act *x, size_t rows, float *y, size_t ldy)
{
    size_t bytes = panel_bytes(t, k), most = rows < 4 ? FLOAT_ONE : FLOAT_MANY, np;
    for (size_t p = 0; p < n_panels; p += np) {
        const uint8_t *at = (const uint8_t *)panels + p * bytes;
        np = n_panels - p < most ? 1 : most;
        for (size_t r = 0, nr; r < rows; r += nr) {
            const float *xr = x->f + r * x->ldf;
            float *yr = y + r * ldy + p * PANEL_COLS;
            nr = rows - r < 4 ? 1 : 4;
            if (nr == 4 && np == FLOAT_MANY)
                float_tile(t, 4, FLOAT_MANY, at, bytes, k, xr, x->ldf, yr, ldy);
            else if (nr == 4)
                float_tile(t, 4, 1, at, bytes, k, xr, x->ldf, yr, ldy);
            else if (np == FLOAT_ONE)
                float_tile(t, 1, FLOAT_ONE, at, bytes, k, xr, x->ldf, yr, ldy);
            else if (np == FLOAT_MANY)
                float_tile(t, 1, FLOAT_MANY, at, bytes, k, xr, x->ldf, yr, ldy);
            else
                float_tile(t, 1, 1, at, bytes, k, xr, x->ldf, yr, ldy);
        }
    }
}

#define FLOAT_TYPE(T)                                                                                    \
    static void wide_linear_##T(const void *panels, size_t n_panels, size_t k, const struct act *x,      \
                                size_t rows, float *y, size_t ldy)                                       \
    {                                                                                                    \
        float_linear(DT_##T, panels, n_panels, k, x, rows, y, ldy);                                      \
    }
FLOAT_TYPE(F32)
FLOAT_TYPE(F16)
FLOAT_TYPE(BF16)
#endif
