/* Kernels of training for any vector width; what they keep to is in train.h. Operations besides those of wide_math.h
 * and wide_vec.h: v_sqrt; v_transpose of VL vectors of VL lanes; vd and d_* of wide_outer.h; d_widen(p): VL / 2 floats
 * as doubles; TRAIN_TIMES, TRAIN_SILU, TRAIN_GELU_TANH: the level's `times`, and a vector of its activations. */
#ifndef KERNELS_WIDE_TRAIN_H
#define KERNELS_WIDE_TRAIN_H
#include "kernels/kernels.h"
#include "kernels/scalar.h"
#include "kernels/wide.h"
#include "kernels/wide_math.h"
#include <string.h>

WIDE_INLINE vf train_load(const float *p, size_t n) { return n >= VL ? v_load(p) : v_load_n(p, n); }
WIDE_INLINE void train_store(float *p, vf x, size_t n)
{
    if (n >= VL) v_store(p, x);
    else v_store_n(p, x, n);
}

/* ---- linear layers --------------------------------------------------------------------------------------- */

static void wide_transpose(const float *x, size_t ldx, size_t rows, size_t cols, float *out, size_t ldo)
{
    for (size_t r = 0; r < rows; r += VL)
        for (size_t c = 0; c < cols; c += VL) {
            size_t nr = rows - r < VL ? rows - r : VL, nc = cols - c < VL ? cols - c : VL;
            vf t[VL];
            WIDE_UNROLL
            for (size_t i = 0; i < VL; i++) t[i] = i < nr ? train_load(x + (r + i) * ldx + c, nc) : v_set1(0);
            v_transpose(t);
            WIDE_UNROLL
            for (size_t i = 0; i < VL; i++)
                if (i < nc) train_store(out + (c + i) * ldo + r, t[i], nr);
        }
}

/* Outputs and inputs of a block that is transposed at once, half of a first-level cache, and how many rows it
 * meets. */
enum { BACK_OUTPUTS = 192, BACK_INPUTS = 4 * PANEL_COLS, BACK_ROWS = 512 };

/* The weights of 16 outputs and `rows` inputs from i on: [rows][16] */
WIDE_INLINE const float *back_weights(enum dtype t, const uint8_t *panel, size_t i, size_t rows, float *out)
{
    const uint16_t *h = (const uint16_t *)(const void *)panel;
    if (t == DT_F32) return (const float *)(const void *)panel + i * PANEL_COLS;
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < PANEL_COLS; c++)
            out[r * PANEL_COLS + c] = t == DT_F16 ? half_to_float(h[(i + r) * PANEL_COLS + c])
                                                  : brain_to_float(h[((i + r) / 2 * PANEL_COLS + c) * 2 + (i + r) % 2]);
    return out;
}

/* A block of weights as panels of inputs: t[input / 16][output][input % 16]. */
WIDE_INLINE void back_pack(enum dtype type, const uint8_t *panels, size_t n, size_t k, size_t from, size_t cols,
                           float *t)
{
    float block[PANEL_COLS * PANEL_COLS];
    for (size_t i = 0; i < cols; i += PANEL_COLS)
        for (size_t o = 0; o < n; o += PANEL_COLS) {
            size_t nc = cols - i < PANEL_COLS ? cols - i : PANEL_COLS;
            const uint8_t *panel = panels + o / PANEL_COLS * panel_bytes(type, k);
            for (size_t r = 0; r < nc && type == DT_F32; r++)              /* the next block's */
                __builtin_prefetch(panel + (from + i + BACK_INPUTS + r) * PANEL_COLS * sizeof *t, 0, 2);
            wide_transpose(back_weights(type, panel, from + i, nc, block), PANEL_COLS, nc, PANEL_COLS,
                           t + i * BACK_OUTPUTS + o * PANEL_COLS, PANEL_COLS);
        }
}

/* The last columns, fewer than a panel's, are brought to a place of their own and back. */
static void back_edge(const float *t, size_t n, const float *dy, size_t lddy, size_t rows, float *dx,
                      size_t lddx, size_t cols, bool more)
{
    enum { ROWS = 16 };
    float edge[ROWS * PANEL_COLS] = { 0 };
    for (size_t r = 0; r < rows; r += ROWS) {
        size_t nr = rows - r < ROWS ? rows - r : ROWS;
        for (size_t i = 0; i < nr && more; i++)
            memcpy(edge + i * PANEL_COLS, dx + (r + i) * lddx, cols * sizeof *dx);
        TRAIN_TIMES(t, 0, 1, n, dy + r * lddy, lddy, nr, edge, PANEL_COLS, more);
        for (size_t i = 0; i < nr; i++) memcpy(dx + (r + i) * lddx, edge + i * PANEL_COLS, cols * sizeof *dx);
    }
}

WIDE_INLINE void back_rows(enum dtype type, const uint8_t *panels, size_t n, size_t k, size_t from, size_t cols,
                           const float *dy, size_t lddy, size_t rows, float *dx, size_t lddx, bool more)
{
    _Alignas(64) float t[BACK_OUTPUTS * BACK_INPUTS];
    for (size_t o = 0; o < n || o == 0; o += BACK_OUTPUTS, more = true)
        for (size_t i = 0; i < cols; i += BACK_INPUTS) {
            size_t nc = cols - i < BACK_INPUTS ? cols - i : BACK_INPUTS;
            size_t no = n - o < BACK_OUTPUTS ? n - o : BACK_OUTPUTS, whole = nc / PANEL_COLS;
            back_pack(type, panels + o / PANEL_COLS * panel_bytes(type, k), no, k, from + i, nc, t);
            TRAIN_TIMES(t, BACK_OUTPUTS * PANEL_COLS, whole, no, dy + o, lddy, rows, dx + i, lddx, more);
            if (nc % PANEL_COLS)
                back_edge(t + whole * BACK_OUTPUTS * PANEL_COLS, no, dy + o, lddy, rows, dx + i + whole * PANEL_COLS,
                          lddx, nc % PANEL_COLS, more);
        }
}

WIDE_INLINE void wide_back(enum dtype type, const uint8_t *panels, size_t n, size_t k, size_t from, size_t cols,
                           const float *dy, size_t lddy, size_t rows, float *dx, size_t lddx, bool more)
{
    for (size_t r = 0; r < rows; r += BACK_ROWS)
        back_rows(type, panels, n, k, from, cols, dy + r * lddy, lddy, rows - r < BACK_ROWS ? rows - r : BACK_ROWS,
                  dx + r * lddx, lddx, more);
}

#define BACK_TYPE(T)                                                                                             \
    static void wide_back_##T(const void *panels, size_t n, size_t k, size_t from, size_t cols, const float *dy, \
                              size_t lddy, size_t rows, float *dx, size_t lddx, bool more)                       \
    {                                                                                                            \
        wide_back(DT_##T, panels, n, k, from, cols, dy, lddy, rows, dx, lddx, more);                             \
    }
BACK_TYPE(F32)
BACK_TYPE(F16)
BACK_TYPE(BF16)

/* Two vectors of outputs by OUTER_ROWS inputs stay in registers; dy of a run of rows and some outputs is copied
 * together in strips of so many, and x of those rows in groups, so that both come from near caches. */
enum { GRAD_STRIP = 2 * VL, GRAD_ROWS = 192, GRAD_OUTPUTS = 256, GRAD_INPUTS = 120,
       GRAD_FEW = 24 };

/* What is read next, [t] rows: a kernel fetches a line of each while it multiplies. `own`: nothing is left. */
struct grad_next { const float *at[2]; size_t ld[2], lines[2]; };
struct grad_line { const float *at; size_t ld; };

static struct grad_line grad_ahead(struct grad_next *next, const float *own)
{
    size_t i = next->lines[0] ? 0 : 1;
    if (!next->lines[i]) return (struct grad_line){ own, 0 };
    struct grad_line line = { next->at[i], next->ld[i] };
    next->at[i] += 64 / sizeof *own;
    next->lines[i]--;
    return line;
}

/* Of the strip one vector or both. */
WIDE_INLINE void grad_rows(size_t rows, size_t nv, size_t t, const float *x, const float *dy, size_t lddy, float *left,
                           float *right, struct grad_line next)
{
    vf sum[OUTER_ROWS][2];
    WIDE_UNROLL
    for (size_t r = 0; r < rows; r++) {
        __builtin_prefetch(left + (OUTER_ROWS + r) * PANEL_COLS, 1);
        sum[r][0] = v_load(left + r * PANEL_COLS);
        if (nv < 2) continue;
        __builtin_prefetch(right + (OUTER_ROWS + r) * PANEL_COLS, 1);
        sum[r][1] = v_load(right + r * PANEL_COLS);
    }
    for (size_t i = 0; i < t; i++, x += OUTER_ROWS, dy += lddy, next.at += next.ld) {
        __builtin_prefetch(next.at, 0, 2);
        vf l = v_load(dy), h = nv > 1 ? v_load(dy + VL) : l;
        WIDE_UNROLL
        for (size_t r = 0; r < rows; r++) {
            vf a = v_set1(x[r]);
            sum[r][0] = v_fma(a, l, sum[r][0]);
            if (nv > 1) sum[r][1] = v_fma(a, h, sum[r][1]);
        }
    }
    WIDE_UNROLL
    for (size_t r = 0; r < rows; r++) {
        v_store(left + r * PANEL_COLS, sum[r][0]);
        if (nv > 1) v_store(right + r * PANEL_COLS, sum[r][1]);
    }
}

#define GRAD_SOME(NAME, ROWS)                                                                                        \
    __attribute__((noinline)) static void NAME(size_t t, const float *x, const float *dy, size_t lddy, float *left,  \
                                               float *right, struct grad_line next)                                  \
    {                                                                                                                \
        grad_rows(ROWS, 2, t, x, dy, lddy, left, right, next);                                                       \
    }                                                                                                                \
    __attribute__((noinline)) static void NAME##_half(size_t t, const float *x, const float *dy, size_t lddy,        \
                                                      float *left, struct grad_line next)                            \
    {                                                                                                                \
        grad_rows(ROWS, 1, t, x, dy, lddy, left, NULL, next);                                                        \
    }
GRAD_SOME(grad_many, OUTER_ROWS)
GRAD_SOME(grad_four, 4)
GRAD_SOME(grad_one, 1)

/* right NULL: half a strip */
static void grad_strip(size_t cols, size_t t, const float *x, const float *dy, size_t lddy, float *left, float *right,
                       struct grad_next *next)
{
    size_t i = 0;
    for (; i + OUTER_ROWS <= cols; i += OUTER_ROWS) {
        float *l = left + i * PANEL_COLS;
        if (right) grad_many(t, x + i * t, dy, lddy, l, right + i * PANEL_COLS, grad_ahead(next, x));
        else grad_many_half(t, x + i * t, dy, lddy, l, grad_ahead(next, x));
    }
    for (x += i * t; i + 4 <= cols; i += 4, x += 4) {
        float *l = left + i * PANEL_COLS;
        if (right) grad_four(t, x, dy, lddy, l, right + i * PANEL_COLS, grad_ahead(next, x));
        else grad_four_half(t, x, dy, lddy, l, grad_ahead(next, x));
    }
    for (; i < cols; i++, x++) {
        float *l = left + i * PANEL_COLS;
        if (right) grad_one(t, x, dy, lddy, l, right + i * PANEL_COLS, grad_ahead(next, x));
        else grad_one_half(t, x, dy, lddy, l, grad_ahead(next, x));
    }
}

/* cols neighbours of each of t rows, in groups of OUTER_ROWS: [group][t][OUTER_ROWS]. */
static void grad_pack(const float *x, size_t ldx, size_t cols, size_t t, float *pack)
{
    for (size_t r = 0; r < t; r++, x += ldx, pack += OUTER_ROWS) {
        size_t i = 0;
        for (; i + OUTER_ROWS <= cols; i += OUTER_ROWS) memcpy(pack + i * t, x + i, OUTER_ROWS * sizeof *pack);
        if (i < cols) memcpy(pack + i * t, x + i, (cols - i) * sizeof *pack);
    }
}

/* n neighbours of each of t rows, in strips: [strip][t][GRAD_STRIP], the last filled up with zeros. */
static void grad_pack_strips(const float *dy, size_t lddy, size_t n, size_t t, float *pack)
{
    for (size_t r = 0; r < t; r++, dy += lddy, pack += GRAD_STRIP)
        for (size_t o = 0; o < n; o += GRAD_STRIP) {
            size_t left = n - o;
            v_store(pack + o * t, train_load(dy + o, left));
            v_store(pack + o * t + VL, left > VL ? train_load(dy + o + VL, left - VL) : v_set1(0));
        }
}

static float *grad_at(float *g, size_t k, size_t o) { return g + o / PANEL_COLS * k * PANEL_COLS + o % PANEL_COLS; }

/* The last outputs, fewer than a strip's, are brought to a place of their own and back. */
static void grad_edge(size_t cols, size_t n, size_t t, const float *x, const float *dy, float *g, size_t k, size_t o,
                      struct grad_next *next)
{
    float edge[2][OUTER_ROWS * PANEL_COLS] = { { 0 } };
    for (size_t i = 0; i < cols; i += OUTER_ROWS) {
        size_t nc = cols - i < OUTER_ROWS ? cols - i : OUTER_ROWS;
        for (int back = 0; back < 2; back++) {
            for (size_t r = 0; r < nc; r++)
                for (size_t e = 0; e < n; e++) {
                    float *at = grad_at(g, k, o + e) + (i + r) * PANEL_COLS;
                    float *place = &edge[e / VL][r * PANEL_COLS + e % VL];
                    if (back) *at = *place;
                    else *place = *at;
                }
            if (!back) grad_strip(nc, t, x + i * t, dy, GRAD_STRIP, edge[0], edge[1], next);
        }
    }
}

WIDE_INLINE size_t grad_lines(size_t floats) { return (floats + 15) / 16; }

/* At most GRAD_ROWS rows and GRAD_OUTPUTS outputs, then `after` rows more. */
static void grad_block(const float *x, size_t ldx, size_t cols, const float *dy, size_t lddy, size_t n, size_t t,
                       size_t after, float *g, size_t k)
{
    _Alignas(64) float left[(GRAD_INPUTS + OUTER_ROWS) * GRAD_ROWS], right[GRAD_ROWS * GRAD_OUTPUTS];
    size_t plain = cols <= GRAD_FEW ? n / GRAD_STRIP * GRAD_STRIP : 0;     /* read where they are: it is done once */
    grad_pack_strips(dy + plain, lddy, n - plain, t, right);
    for (size_t i = 0; i < cols; i += GRAD_INPUTS) {
        size_t nc = cols - i < GRAD_INPUTS ? cols - i : GRAD_INPUTS, rest = cols - i - nc;
        bool last = rest == 0;
        struct grad_next next = { { last ? x + t * ldx : x + i + nc, dy + t * lddy }, { ldx, lddy },
                                  { grad_lines(!last ? (rest < GRAD_INPUTS ? rest : GRAD_INPUTS)
                                               : after ? (cols < GRAD_INPUTS ? cols : GRAD_INPUTS) : 0),
                                    last && after ? grad_lines(n) : 0 } };
        grad_pack(x + i, ldx, nc, t, left);
        for (size_t o = 0; o < n; o += GRAD_STRIP) {
            float *at = g + i * PANEL_COLS, *strip = right + (o < plain ? 0 : o - plain) * t;
            float *l = grad_at(at, k, o), *r = grad_at(at, k, o + VL);
            if (o < plain) grad_strip(nc, t, left, dy + o, lddy, l, r, &next);
            else if (n - o == VL) grad_strip(nc, t, left, strip, GRAD_STRIP, l, NULL, &next);
            else if (n - o < GRAD_STRIP) grad_edge(nc, n - o, t, left, strip, at, k, o, &next);
            else grad_strip(nc, t, left, strip, GRAD_STRIP, l, r, &next);
        }
    }
}

static void wide_linear_grad(const float *x, size_t ldx, size_t cols, const float *dy, size_t lddy, size_t n,
                             size_t rows, float *g, size_t k)
{
    for (size_t o = 0; o < n; o += GRAD_OUTPUTS)
        for (size_t r = 0, t; r < rows; r += t) {
            t = rows - r < GRAD_ROWS ? rows - r : GRAD_ROWS;
            grad_block(x + r * ldx, ldx, cols, dy + r * lddy + o, lddy, n - o < GRAD_OUTPUTS ? n - o : GRAD_OUTPUTS, t,
                       rows - r - t, grad_at(g, k, o), k);
        }
}

static void wide_vector_grad(const float *x, size_t ldx, const float *dy, size_t lddy, size_t rows, size_t n, float *dw)
{
    for (size_t i = 0; i < n; i += VL) {
        vf sum = train_load(dw + i, n - i);
        for (size_t r = 0; r < rows; r++) {
            vf d = train_load(dy + r * lddy + i, n - i);
            sum = x ? v_fma(train_load(x + r * ldx + i, n - i), d, sum) : v_add(d, sum);
        }
        train_store(dw + i, sum, n - i);
    }
}

/* ---- norms ----------------------------------------------------------------------------------------------- */

/* What a sum over a row is made of: w dy, and the row less its mean. */
struct norm_row {
    const float *x, *w, *dy;
    vf mean;
};

WIDE_INLINE vf norm_pull(const struct norm_row *s, size_t i, size_t n)
{
    vf d = train_load(s->dy + i, n);
    return s->w ? v_mul(train_load(s->w + i, n), d) : d;
}
WIDE_INLINE vf norm_off(const struct norm_row *s, size_t i, size_t n)
{
    vf v = v_sub(train_load(s->x + i, n), s->mean);
    return n < VL ? v_keep(v, n) : v;
}
WIDE_INLINE vf norm_value(const struct norm_row *s, size_t i, size_t n, vf sum)
{
    return v_add(sum, train_load(s->x + i, n));
}
WIDE_INLINE vf norm_square(const struct norm_row *s, size_t i, size_t n, vf sum)
{
    vf v = norm_off(s, i, n);
    return v_fma(v, v, sum);
}
WIDE_INLINE vf norm_all(const struct norm_row *s, size_t i, size_t n, vf sum) { return v_add(sum, norm_pull(s, i, n)); }
WIDE_INLINE vf norm_along(const struct norm_row *s, size_t i, size_t n, vf sum)
{
    return v_fma(norm_pull(s, i, n), norm_off(s, i, n), sum);
}

/* In four interleaved chains. */
WIDE_INLINE float norm_total(const struct norm_row *s, size_t n, vf (*f)(const struct norm_row *, size_t, size_t, vf))
{
    vf sum[4] = { v_set1(0), v_set1(0), v_set1(0), v_set1(0) };
    size_t i = 0;
    for (; i + 4 * VL <= n; i += 4 * VL)
        WIDE_UNROLL
        for (size_t c = 0; c < 4; c++) sum[c] = f(s, i + c * VL, VL, sum[c]);
    for (; i < n; i += VL) sum[0] = f(s, i, n - i, sum[0]);
    return v_sum(v_add(v_add(sum[0], sum[1]), v_add(sum[2], sum[3])));
}

static void wide_rmsnorm_back(const float *x, const float *w, size_t n, float eps, const float *dy, float *dx)
{
    struct norm_row s = { x, w, dy, v_set1(0) };
    float by = 1 / sqrtf(norm_total(&s, n, norm_square) / (float)n + eps);
    vf part = v_set1(norm_total(&s, n, norm_along) * by * by / (float)n);
    for (size_t i = 0; i < n; i += VL)
        train_store(dx + i, v_mul(v_set1(by), v_fnma(train_load(x + i, n - i), part, norm_pull(&s, i, n - i))), n - i);
}

static void wide_layernorm_back(const float *x, const float *w, size_t n, float eps, const float *dy, float *dx)
{
    struct norm_row s = { x, w, dy, v_set1(0) };
    s.mean = v_set1(norm_total(&s, n, norm_value) / (float)n);
    float by = 1 / sqrtf(norm_total(&s, n, norm_square) / (float)n + eps);
    vf all = v_set1(norm_total(&s, n, norm_all) / (float)n);
    vf along = v_set1(norm_total(&s, n, norm_along) * by * by / (float)n);
    for (size_t i = 0; i < n; i += VL) {
        vf d = v_sub(norm_pull(&s, i, n - i), all);
        train_store(dx + i, v_mul(v_set1(by), v_fnma(norm_off(&s, i, n - i), along, d)), n - i);
    }
}

/* ---- activations ----------------------------------------------------------------------------------------- */

WIDE_INLINE vf wide_sigmoid(vf x) { return v_div(v_set1(1), v_add(v_set1(1), wide_exp(v_sub(v_set1(0), x)))); }

/* s (1 + x (1 - s) by), s = sigmoid(u) */
WIDE_INLINE vf slope_of(vf s, vf x)
{
    return v_mul(s, v_fma(x, v_sub(v_set1(1), s), v_set1(1)));
}
WIDE_INLINE vf slope_silu(vf x) { return slope_of(wide_sigmoid(x), x); }
WIDE_INLINE vf gelu_tanh_2u(vf x, vf *slope)
{
    vf x2 = v_mul(x, x), by = v_set1(1.59576912f);
    *slope = v_fma(x2, v_set1(1.59576912f * 3 * 0.044715f), by);
    return v_mul(v_mul(x, by), v_fma(x2, v_set1(0.044715f), v_set1(1)));
}
WIDE_INLINE vf within_30(vf x) { return v_min(v_set1(30), v_max(v_set1(-30), x)); }
WIDE_INLINE vf slope_gelu_tanh(vf x)
{
    vf slope, c = within_30(x), s = wide_sigmoid(gelu_tanh_2u(c, &slope));
    return slope_of(s, v_mul(c, slope));
}
WIDE_INLINE vf slope_gelu_erf(vf x)
{
    vf c = within_30(x), half = v_mul(wide_erfc(v_mul(v_abs(c), v_set1(0.707106781f))), v_set1(0.5f));
    vf phi = v_pick(v_less(c, v_set1(0)), half, v_sub(v_set1(1), half));
    vf density = v_mul(wide_exp(v_mul(v_mul(c, c), v_set1(-0.5f))), v_set1(0.398942280f));
    return v_fma(c, density, phi);
}

WIDE_INLINE void wide_slope(const float *x, const float *dy, size_t n, float *dx, vf (*slope)(vf))
{
    for (size_t i = 0; i < n; i += VL)
        train_store(dx + i, v_mul(train_load(dy + i, n - i), slope(train_load(x + i, n - i))), n - i);
}
static void wide_silu_back(const float *x, const float *dy, size_t n, float *dx)
{
    wide_slope(x, dy, n, dx, slope_silu);
}
static void wide_gelu_tanh_back(const float *x, const float *dy, size_t n, float *dx)
{
    wide_slope(x, dy, n, dx, slope_gelu_tanh);
}
static void wide_gelu_erf_back(const float *x, const float *dy, size_t n, float *dx)
{
    wide_slope(x, dy, n, dx, slope_gelu_erf);
}

WIDE_INLINE vf train_silu(vf x) { return TRAIN_SILU(x); }
WIDE_INLINE vf train_gelu_tanh(vf x) { return TRAIN_GELU_TANH(x); }

WIDE_INLINE void wide_mul_slope(const float *gate, const float *up, const float *dy, size_t n, float *y, float *dgate,
                                float *dup, vf (*act)(vf), vf (*slope)(vf))
{
    for (size_t i = 0; i < n; i += VL) {
        size_t left = n - i;
        vf g = train_load(gate + i, left), u = train_load(up + i, left), d = train_load(dy + i, left), a = act(g);
        if (y) train_store(y + i, v_mul(a, u), left);
        train_store(dup + i, v_mul(d, a), left);
        train_store(dgate + i, v_mul(v_mul(d, u), slope(g)), left);
    }
}
static void wide_silu_mul_back(const float *gate, const float *up, const float *dy, size_t n, float *y, float *dgate,
                               float *dup)
{
    wide_mul_slope(gate, up, dy, n, y, dgate, dup, train_silu, slope_silu);
}
static void wide_gelu_tanh_mul_back(const float *gate, const float *up, const float *dy, size_t n, float *y,
                                    float *dgate, float *dup)
{
    wide_mul_slope(gate, up, dy, n, y, dgate, dup, train_gelu_tanh, slope_gelu_tanh);
}

static void wide_softcap_back(const float *y, float cap, const float *dy, size_t n, float *dx)
{
    for (size_t i = 0; i < n; i += VL) {
        vf t = v_div(train_load(y + i, n - i), v_set1(cap));
        train_store(dx + i, v_mul(train_load(dy + i, n - i), v_fnma(t, t, v_set1(1))), n - i);
    }
}

/* ---- attention ------------------------------------------------------------------------------------------- */

WIDE_INLINE vf see_score(vf s, const struct see_row *row, vf *t)
{
    vf x = v_mul(s, v_set1(row->scale));
    if (!(row->softcap > 0)) return x;
    *t = wide_tanh(v_div(x, v_set1(row->softcap)));
    return v_mul(*t, v_set1(row->softcap));
}

/* Lanes of the vector at place i that the row sees. */
WIDE_INLINE vmask see_lanes(const struct see_row *row, size_t i)
{
    size_t lo = row->lo > i ? row->lo - i : 0, hi = row->hi > i ? row->hi - i : 0;
    return v_range(lo < VL ? (int)lo : VL, hi < VL ? (int)hi : VL);
}

static void see_clear(float *s, size_t from, size_t to)
{
    if (to > from) memset(s + from, 0, (to - from) * sizeof *s);
}

static float wide_see_softmax(float *s, const struct see_row *row, float *max)
{
    size_t first = row->lo / VL * VL, end = (row->hi + VL - 1) / VL * VL;
    vf most = v_set1(-INFINITY), sum[4] = { v_set1(0), v_set1(0), v_set1(0), v_set1(0) }, t = v_set1(0);
    *max = -INFINITY;
    if (row->hi <= row->lo) {
        see_clear(s, 0, row->n);
        return 0;
    }
    for (size_t i = first; i < end; i += VL) {
        vf x = v_pick(see_lanes(row, i), see_score(v_load(s + i), row, &t), v_set1(-INFINITY));
        most = v_max(most, x);
        v_store(s + i, x);
    }
    *max = v_largest(most);
    vf top = v_set1(*max);
    for (size_t i = first; i < end; i += VL) {
        vf e = v_pick(see_lanes(row, i), wide_exp(v_sub(v_load(s + i), top)), v_set1(0));
        size_t c = i / VL % 4;
        sum[c] = v_add(sum[c], e);
        v_store(s + i, e);
    }
    see_clear(s, 0, first);
    see_clear(s, end, row->n);
    return v_sum(v_add(v_add(sum[0], sum[1]), v_add(sum[2], sum[3])));
}

static void wide_see_back(float *s, float *dp, const float *lse, const float *d, bool each, const struct see_row *row)
{
    size_t first = row->lo / VL * VL, end = row->hi > row->lo ? (row->hi + VL - 1) / VL * VL : first;
    for (size_t i = first; i < end; i += VL) {
        size_t left = row->n - i;
        vf t = v_set1(0), score = see_score(v_load(s + i), row, &t);
        vf sums = each ? train_load(lse + i, left) : v_set1(*lse), dots = each ? train_load(d + i, left) : v_set1(*d);
        vf p = wide_exp(v_sub(score, sums)), g = v_mul(v_mul(v_set1(row->scale), p), v_sub(v_load(dp + i), dots));
        if (row->softcap > 0) g = v_mul(g, v_fnma(t, t, v_set1(1)));
        v_store(s + i, v_pick(see_lanes(row, i), p, v_set1(0)));
        v_store(dp + i, v_pick(see_lanes(row, i), g, v_set1(0)));
    }
    see_clear(s, 0, first), see_clear(dp, 0, first);
    see_clear(s, end, row->n), see_clear(dp, end, row->n);
}

static void wide_dots(const float *a, const float *b, size_t heads, size_t head_dim, float *out)
{
    for (size_t h = 0; h < heads; h++, a += head_dim, b += head_dim) {
        vf sum[4] = { v_set1(0), v_set1(0), v_set1(0), v_set1(0) };
        for (size_t i = 0; i < head_dim; i += VL) {
            size_t c = i / VL % 4;
            sum[c] = v_fma(train_load(a + i, head_dim - i), train_load(b + i, head_dim - i), sum[c]);
        }
        out[h] = v_sum(v_add(v_add(sum[0], sum[1]), v_add(sum[2], sum[3])));
    }
}

/* ---- loss ------------------------------------------------------------------------------------------------ */

/* Sums of floats in pieces, those in double. */
enum { LOSS_PIECE = 1024 };

/* exp(x - max) of a piece and their sum; `keep`: x stays. */
WIDE_INLINE float loss_piece(float *x, size_t n, vf max, bool keep)
{
    vf sum[4] = { v_set1(0), v_set1(0), v_set1(0), v_set1(0) };
    for (size_t i = 0; i < n; i += VL) {
        size_t left = n - i, c = i / VL % 4;
        vf e = wide_exp(v_sub(train_load(x + i, left), max));
        if (left < VL) e = v_keep(e, left);
        sum[c] = v_add(sum[c], e);
        if (!keep) train_store(x + i, e, left);
    }
    return v_sum(v_add(v_add(sum[0], sum[1]), v_add(sum[2], sum[3])));
}

/* The largest logit, or NaN where one is none or infinite; they are capped where there is a cap. */
static float loss_largest(float *x, size_t n, float cap)
{
    vf most = v_set1(-INFINITY);
    vmask bad = v_less(most, most);
    for (size_t i = 0; i < n; i += VL) {
        size_t left = n - i;
        vf v = train_load(x + i, left);
        bad = v_either(bad, v_nan(v_sub(v, v)));
        if (cap > 0) {
            v = v_mul(v_set1(cap), wide_tanh(v_div(v, v_set1(cap))));
            train_store(x + i, v, left);
        }
        most = v_max(most, left < VL ? v_pick(v_range(0, (int)left), v, v_set1(-INFINITY)) : v);
    }
    return v_any(bad) ? NAN : v_largest(most);
}

/* x = x * by; with a cap, x being capped logits: exp(x - max) * by * (1 - (x / cap)^2) */
static void loss_spread(float *x, size_t n, float by, float cap, float max)
{
    for (size_t i = 0; i < n; i += VL) {
        vf v = train_load(x + i, n - i);
        if (cap > 0) {
            vf t = v_div(v, v_set1(cap));
            v = v_mul(wide_exp(v_sub(v, v_set1(max))), v_fnma(t, t, v_set1(1)));
        }
        train_store(x + i, v_mul(v, v_set1(by)), n - i);
    }
}

static float wide_loss_row(float *logits, size_t n, float cap, const struct loss_target *t)
{
    static const float one = 1;
    const int32_t *top = t->n_top ? t->top : &t->token;
    const float *prob = t->n_top ? t->prob : &one;
    size_t n_top = t->n_top ? t->n_top : 1;
    double tail = t->n_top ? (double)t->tail : 0, all = tail, rest = 0, named = 0, loss = 0;
    float was[LOSS_TOP], max = n_top <= LOSS_TOP ? loss_largest(logits, n, cap) : NAN;
    for (size_t i = 0; i < n_top && max == max; i++)
        if (top[i] < 0 || (size_t)top[i] >= n) max = NAN;
    if (max != max) {
        for (size_t i = 0; i < n; i++) logits[i] = NAN;
        return NAN;
    }
    /* those that are named are left out of the sum, and of what is spread */
    for (size_t i = 0; i < n_top; i++) {
        was[i] = logits[top[i]];
        named += exp((double)was[i] - (double)max);
        all += (double)prob[i];
    }
    for (size_t i = 0; i < n_top; i++) logits[top[i]] = -INFINITY;
    for (size_t i = 0; i < n; i += LOSS_PIECE)
        rest += (double)loss_piece(logits + i, n - i < LOSS_PIECE ? n - i : LOSS_PIECE, v_set1(max), cap > 0);
    double sum = rest + named, least = LOSS_LEAST * sum;
    if (rest < least) rest = least;
    loss_spread(logits, n, (float)((double)t->weight * (all / sum - tail / rest)), cap, max);
    for (size_t i = 0; i < n_top; i++) {
        double q = (double)prob[i], off = (double)was[i] - (double)max, y = cap > 0 ? (double)was[i] / (double)cap : 0;
        double d = (double)t->weight * (all * exp(off) / sum - q) * (1 - y * y);
        logits[top[i]] = (float)d;
        if (q > 0) loss += q * (log(q) - (off - log(sum)));
    }
    if (tail > 0) loss += tail * (log(tail) - log(rest / sum));
    return (float)loss;
}

/* ---- optimizer ------------------------------------------------------------------------------------------- */

static double wide_square_sum(const float *x, size_t n)
{
    enum { VECTORS = 32 / VL };
    vd sum[VECTORS];
    double lane[16];
    size_t i = 0;
    WIDE_UNROLL
    for (size_t c = 0; c < VECTORS; c++) sum[c] = d_set1(0);
    for (; i + 16 <= n; i += 16)
        WIDE_UNROLL
        for (size_t c = 0; c < VECTORS; c++) {
            vd v = d_widen(x + i + c * (VL / 2));
            sum[c] = d_fma(v, v, sum[c]);
        }
    WIDE_UNROLL
    for (size_t c = 0; c < VECTORS; c++) d_store(lane + c * (VL / 2), sum[c]);
    for (size_t c = 0; i < n; i++, c++) lane[c] = fma((double)x[i], (double)x[i], lane[c]);
    for (size_t half = 8; half; half /= 2)
        for (size_t c = 0; c < half; c++) lane[c] += lane[c + half];
    return lane[0];
}

static void wide_adamw(float *w, float *m, float *v, const float *g, size_t n, const struct adamw_step *s)
{
    vf scale = v_set1(s->scale), beta1 = v_set1(s->beta1), beta2 = v_set1(s->beta2), eps = v_set1(s->eps);
    vf rest1 = v_set1(1 - s->beta1), rest2 = v_set1(1 - s->beta2), fix1 = v_set1(s->fix1), fix2 = v_set1(s->fix2);
    vf lr = v_set1(-s->lr), decay = v_set1(-s->lr * s->decay);
    for (size_t i = 0; i < n; i += VL) {
        size_t left = n - i;
        vf d = v_mul(train_load(g + i, left), scale);
        vf m1 = v_fma(beta1, train_load(m + i, left), v_mul(rest1, d));
        vf v1 = v_fma(beta2, train_load(v + i, left), v_mul(rest2, v_mul(d, d)));
        vf w1 = train_load(w + i, left);
        w1 = v_fma(decay, w1, w1);
        w1 = v_fma(lr, v_div(v_mul(m1, fix1), v_add(v_sqrt(v_mul(v1, fix2)), eps)), w1);
        train_store(m + i, m1, left);
        train_store(v + i, v1, left);
        train_store(w + i, w1, left);
    }
}

static inline void wide_train_init(struct kernels *k)
{
    k->linear_back[DT_F32] = wide_back_F32;
    k->linear_back[DT_F16] = wide_back_F16;
    k->linear_back[DT_BF16] = wide_back_BF16;
    k->linear_grad = wide_linear_grad;
    k->transpose = wide_transpose;
    k->vector_grad = wide_vector_grad;
    k->rmsnorm_back = wide_rmsnorm_back;
    k->layernorm_back = wide_layernorm_back;
    k->silu_back = wide_silu_back;
    k->gelu_tanh_back = wide_gelu_tanh_back;
    k->gelu_erf_back = wide_gelu_erf_back;
    k->silu_mul_back = wide_silu_mul_back;
    k->gelu_tanh_mul_back = wide_gelu_tanh_mul_back;
    k->softcap_back = wide_softcap_back;
    k->see_softmax = wide_see_softmax;
    k->see_back = wide_see_back;
    k->dots = wide_dots;
    k->loss_row = wide_loss_row;
    k->square_sum = wide_square_sum;
    k->adamw = wide_adamw;
}
#endif
