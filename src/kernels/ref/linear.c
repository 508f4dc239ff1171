/* y = W x, the exact arithmetic that kernels.h states and every level equals bit for bit. */
#include "kernels/ref/ref.h"
#include "kernels/scalar.h"

static float float_weight(enum dtype t, const void *panel, size_t k, size_t c)
{
    if (t == DT_F32) return ((const float *)panel)[k * PANEL_COLS + c];
    const uint16_t *h = panel;
    return t == DT_F16 ? half_to_float(h[k * PANEL_COLS + c])
                       : brain_to_float(h[(k / 2 * PANEL_COLS + c) * 2 + k % 2]);
}

static void linear_float(enum dtype t, const uint8_t *panels, size_t n_panels, size_t k,
                         const struct act *x, size_t rows, float *y, size_t ldy)
{
    for (size_t p = 0; p < n_panels; p++)
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < PANEL_COLS; c++) {
                const void *panel = panels + p * panel_bytes(t, k);
                float sum = 0;
                for (size_t i = 0; i < k; i++)
                    sum = fmaf(float_weight(t, panel, i, c), x->f[r * x->ldf + i], sum);
                y[r * ldy + p * PANEL_COLS + c] = sum;
            }
}

/* Column c of one group for one row of 32 codes: y plus the group's share. */
static float add_group(enum panel_min min, const struct panel_group *w, size_t c, const int8_t *q,
                       float d, float s, float y)
{
    int dot = 0, mins = 0;
    for (size_t i = 0; i < PANEL_GROUP; i++) {
        dot += w->sub[i / 16][c] * w->code[i][c] * q[i];
        mins += w->submin[i / 16][c] * q[i];
    }
    y = fmaf((float)dot, w->d[c] * d, y);
    if (min == PANEL_MIN) y = fmaf(-w->m[c], s, y);
    if (min == PANEL_SUBMIN) y = fmaf(-(float)mins, w->m[c] * d, y);
    return y;
}

static void linear_quant(enum dtype t, const uint8_t *panels, size_t n_panels, size_t k,
                         const struct act *x, size_t rows, float *y, size_t ldy)
{
    struct panel_group w;
    for (size_t p = 0; p < n_panels; p++) {
        for (size_t r = 0; r < rows; r++)
            memset(y + r * ldy + p * PANEL_COLS, 0, PANEL_COLS * sizeof *y);
        for (size_t g = 0; g < k / PANEL_GROUP; g++) {
            panel_group(t, panels + p * panel_bytes(t, k), g, &w);
            for (size_t r = 0; r < rows; r++)
                for (size_t c = 0; c < PANEL_COLS; c++) {
                    float *at = y + r * ldy + p * PANEL_COLS + c;
                    *at = add_group(panel_min(t), &w, c, x->q + r * x->ldq + g * PANEL_GROUP,
                                    x->d[r * x->ldd + g], x->s[r * x->ldd + g], *at);
                }
        }
    }
}

#define LINEAR(T, kind)                                                                  \
    static void linear_##T##_ref(const void *panels, size_t n_panels, size_t k,          \
                                 const struct act *x, size_t rows, float *y, size_t ldy) \
    {                                                                                    \
        linear_##kind(DT_##T, panels, n_panels, k, x, rows, y, ldy);                     \
    }
LINEAR(F32, float)
LINEAR(F16, float)
LINEAR(BF16, float)
LINEAR(Q4_0, quant)
LINEAR(Q4_1, quant)
LINEAR(Q5_0, quant)
LINEAR(Q5_1, quant)
LINEAR(Q8_0, quant)
LINEAR(Q2_K, quant)
LINEAR(Q3_K, quant)
LINEAR(Q4_K, quant)
LINEAR(Q5_K, quant)
LINEAR(Q6_K, quant)

void linear_init_ref(struct kernels *k)
{
    linear_fn *const table[DT_COUNT] = {
        [DT_F32] = linear_F32_ref,   [DT_F16] = linear_F16_ref,   [DT_BF16] = linear_BF16_ref,
        [DT_Q4_0] = linear_Q4_0_ref, [DT_Q4_1] = linear_Q4_1_ref, [DT_Q5_0] = linear_Q5_0_ref,
        [DT_Q5_1] = linear_Q5_1_ref, [DT_Q8_0] = linear_Q8_0_ref, [DT_Q2_K] = linear_Q2_K_ref,
        [DT_Q3_K] = linear_Q3_K_ref, [DT_Q4_K] = linear_Q4_K_ref, [DT_Q5_K] = linear_Q5_K_ref,
        [DT_Q6_K] = linear_Q6_K_ref,
    };
    for (size_t t = 0; t < DT_COUNT; t++) {
        k->linear[t] = table[t];
        k->linear_level[t] = "ref";
    }
}
