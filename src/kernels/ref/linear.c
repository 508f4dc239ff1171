/* y = W x, the exact arithmetic that kernels.h states and every level equals bit for bit. */
#include "kernels/ref/ref.h"
#include "kernels/scalar.h"
#include "tensor/dtype_rows.h"

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

/* Element (k, c), without what escaped. */
static uint16_t brain12_element(const struct brain12_head *head, const uint8_t *groups, size_t k, size_t c)
{
    const uint8_t *group = groups + k / BRAIN12_K * BRAIN12_GROUP;
    size_t line = k / 2 % 4, n = 2 * c + k % 2, byte = n / 8 * 16 + line % 2 * 8 + n % 8;
    uint8_t code = line / 2 ? group[byte] >> 4 : group[byte] & 15;
    return (uint16_t)(head->high[code] << 8 | group[64 + line / 2 * 64 + byte]);
}

static void linear_brain12_ref(const void *panels, size_t n_panels, size_t k, const struct act *x, size_t rows,
                               float *y, size_t ldy)
{
    for (size_t p = 0; p < n_panels; p++) {
        const void *panel = (const uint8_t *)panels + p * brain12_bytes(k);
        const uint32_t *list = brain12_list(panel, k);
        for (size_t r = 0; r < rows; r++) memset(y + r * ldy + p * PANEL_COLS, 0, PANEL_COLS * sizeof *y);
        for (size_t i = 0; i < k; i++)
            for (size_t c = 0; c < PANEL_COLS; c++) {
                uint16_t h = brain12_element(panel, brain12_groups(panel), i, c);
                if (*list >> 8 == i * PANEL_COLS + c) h = (uint16_t)((*list++ & 255) << 8 | (h & 255));
                for (size_t r = 0; r < rows; r++) {
                    float *at = y + r * ldy + p * PANEL_COLS + c;
                    *at = fmaf(brain_to_float(h), x->f[r * x->ldf + i], *at);
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
#define FLOAT(T, ...) LINEAR(T, float)
#define QUANT(T, ...) LINEAR(T, quant)
DTYPES_FLOAT(FLOAT)
DTYPES_CODED(QUANT)

void linear_init_ref(struct kernels *k)
{
#define X(T, ...) k->linear[DT_##T] = linear_##T##_ref, k->linear_level[DT_##T] = "ref";
    DTYPES(X)
#undef X
    k->brain12 = linear_brain12_ref;
    k->brain12_level = "ref";
}
