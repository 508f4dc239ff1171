/* AMX: gradients of weights in bf16 (kernels/train.h: learn_grad). A tile of the gradient is 16 inputs of a panel; a
 * group of 32 rows is one TDPBF16PS of x, turned so that a tile row is an input, and of dy in pairs of rows as weights
 * are in pairs of inputs. Forwards, and backwards through the transposed, it is given rows' path (level_amx.c). */
#include "kernels/x86/amx.h"
#include "kernels/x86/pairs512.h"

/* Groups, inputs and panels that are worked on at once: 256 rows of 32 inputs and of 256 outputs. */
enum { GRAD_GROUPS = 8, GRAD_INPUTS = 32, GRAD_PANELS = 16 };

struct grad_tiles {
    _Alignas(64) uint32_t x[GRAD_INPUTS][GRAD_GROUPS * LEARN_ROWS / 2];    /* pairs of rows */
    _Alignas(64) uint32_t dy[GRAD_PANELS][GRAD_GROUPS][LEARN_ROWS / 2][PANEL_COLS];
};

static void pack_x(struct grad_tiles *t, const struct row_group *group, size_t groups, const float *x, size_t ldx,
                   size_t cols)
{
    for (size_t g = 0; g < groups; g++)
        for (size_t i = 0; i < cols; i += VL) {
            vf pair[VL];
            for (size_t r = 0; r < VL; r++)
                pair[r] = _mm512_castsi512_ps(group_pair(&group[g], 2 * r, x + i, ldx, cols - i));
            v_transpose(pair);
            for (size_t c = 0; c < VL; c++)
                _mm512_store_si512(t->x[i + c] + g * LEARN_ROWS / 2, _mm512_castps_si512(pair[c]));
        }
}

static void pack_dy(struct grad_tiles *t, const struct row_group *group, size_t groups, const float *dy, size_t lddy,
                    size_t n)
{
    for (size_t g = 0; g < groups; g++)
        for (size_t r = 0; r < LEARN_ROWS; r += 2)
            for (size_t o = 0; o < n; o += PANEL_COLS)
                _mm512_store_si512(t->dy[o / PANEL_COLS][g][r / 2], group_pair(&group[g], r, dy + o, lddy, n - o));
}

static const uint16_t *halves(const void *p) { return p; }

/* Up to 32 inputs of all the panels; g: their place in the first. */
static void times(const struct grad_tiles *t, size_t groups, size_t inputs, size_t panels, float *g, size_t k,
                  size_t *configured)
{
    if (inputs != *configured) {
        tiles_configure(inputs < 16 ? inputs : 16, inputs > 16 ? inputs - 16 : 0);
        *configured = inputs;
    }
    for (size_t p = 0; p < panels; p += 2) {
        bool two = panels - p > 1;
        const uint16_t *const dy[2] = { halves(t->dy[p]), two ? halves(t->dy[p + 1]) : NULL };
        tiles_times(inputs > 16, two, dy, groups, halves(t->x), 2 * (sizeof *t->x / sizeof **t->x),
                    g + p * PANEL_COLS * k, PANEL_COLS, PANEL_COLS * k, true);
    }
}

static void learn_grad_amx(const float *x, size_t ldx, size_t cols, const float *dy, size_t lddy, size_t n,
                           const struct row_group *group, size_t groups, float *g, size_t k)
{
    struct grad_tiles t;
    size_t configured = 0;
    enum { OUTPUTS = GRAD_PANELS * PANEL_COLS };
    for (size_t o = 0; o < n; o += OUTPUTS)
        for (size_t from = 0, some; from < groups; from += some) {
            size_t outputs = n - o < OUTPUTS ? n - o : OUTPUTS;
            some = groups - from < GRAD_GROUPS ? groups - from : GRAD_GROUPS;
            pack_dy(&t, group + from, some, dy + o, lddy, outputs);
            for (size_t i = 0, nc; i < cols; i += nc) {
                nc = cols - i < GRAD_INPUTS ? cols - i : GRAD_INPUTS;
                pack_x(&t, group + from, some, x + i, ldx, nc);
                tile_fence(&t);
                times(&t, some, nc, (outputs + PANEL_COLS - 1) / PANEL_COLS, g + o * k + i * PANEL_COLS, k,
                      &configured);
            }
        }
    _tile_release();
}

void learn_init_amx(struct kernels *k) { k->learn_grad = learn_grad_amx; }
