/* Linear layers over the panels of brain12.h for any vector width. Operations, besides those of wide_tile.h: v_brain12,
 * v_brain12_vectors. */
#ifndef KERNELS_WIDE_BRAIN12_H
#define KERNELS_WIDE_BRAIN12_H
#include "kernels/brain12_linear.h"
#include "kernels/wide_tile.h"

static void wide_times(const uint8_t *lines, size_t bytes, size_t n_panels, size_t k, const struct act *x,
                       size_t rows, float *y, size_t ldy, bool more)
{
    float_linear(DT_BF16, lines, bytes, n_panels, k, x, rows, y, ldy, more);
}
/* Vector v of group g of one panel, whose sum goes on through all groups. */
WIDE_INLINE vf wide_few_group(const uint8_t *panel, size_t g, size_t v, const float *x, vf sum)
{
    vf w[BRAIN12_K];
    v_brain12_vectors(brain12_groups(panel) + g * BRAIN12_GROUP + v * VL * 4, panel, w);
    WIDE_UNROLL
    for (size_t i = 0; i < BRAIN12_K; i++) sum = v_fma(w[i], v_set1(x[g * BRAIN12_K + i]), sum);
    return sum;
}
/* A group in some of whose panels something escaped: sums go on in y, those panels by way of lines. */
WIDE_INLINE void wide_few_escaped(size_t np, const uint8_t *panels, size_t bytes, size_t g, const uint32_t **list,
                                  const float *x, float *y)
{
    for (size_t p = 0; p < np; p++, y += PANEL_COLS) {
        const uint8_t *panel = panels + p * bytes;
        if (brain12_escape(list[p]) == g) {
            _Alignas(64) uint8_t lines[4 * 64];
            list[p] = brain12_lines(v_brain12, panel, g * BRAIN12_K, (g + 1) * BRAIN12_K, list[p], lines);
            float_tile(DT_BF16, 1, 1, lines, 0, BRAIN12_K, x + g * BRAIN12_K, 0, y, 0, true);
        } else {
            WIDE_UNROLL
            for (size_t v = 0; v < FLOAT_LANES; v++)
                v_store(y + v * VL, wide_few_group(panel, g, v, x, v_load(y + v * VL)));
        }
    }
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
                sum[v] = wide_few_group(panels + v / FLOAT_LANES * bytes, g, v % FLOAT_LANES, x, sum[v]);
        }
        WIDE_UNROLL
        for (size_t v = 0; v < nv; v++) v_store(y + v * VL, sum[v]);
        if (g == groups) return;
        brain12_ask(panels, bytes, np, g, groups);
        wide_few_escaped(np, panels, bytes, g, list, x, y);
        WIDE_UNROLL
        for (size_t v = 0; v < nv; v++) sum[v] = v_load(y + v * VL);
    }
}
static void wide_few(const uint8_t *panels, size_t bytes, size_t n_panels, size_t groups, const uint32_t **list,
                     const float *x, float *y)
{
    if (n_panels == FLOAT_ONE) wide_few_tile(FLOAT_ONE, panels, bytes, groups, list, x, y);
    else if (n_panels == FLOAT_ONE / 2) wide_few_tile(FLOAT_ONE / 2, panels, bytes, groups, list, x, y);
    else if (n_panels > 1) wide_few_tile(FLOAT_LANES == 1 ? FLOAT_ONE / 4 : 1, panels, bytes, groups, list, x, y);
    else wide_few_tile(1, panels, bytes, groups, list, x, y);
}
static void wide_brain12(const void *panels, size_t n_panels, size_t k, const struct act *x, size_t rows,
                         float *y, size_t ldy)
{
    static const struct brain12_ops ops = { FLOAT_ONE, 1, v_brain12, wide_times, wide_few };
    brain12_linear(ops, panels, n_panels, k, x, rows, y, ldy);
}

static inline void wide_brain12_init(struct kernels *k, const char *level)
{
    k->brain12 = wide_brain12;
    k->brain12_level = level;
}
#endif
