#include "backend/integer/rows.h"
#include <math.h>
#include <string.h>

/* ---- rows ------------------------------------------------------------------------------------- */

void row_nan(size_t n, struct row to)
{
    memset(to.x, 0, n * sizeof *to.x);
    *to.e = EXPONENT_NAN;
}

static void row_zero(size_t n, struct row to)
{
    memset(to.x, 0, n * sizeof *to.x);
    *to.e = EXPONENT_ZERO;
}

/* The bits of all |p| together are those of the largest. */
static int bits_of_all(const int64_t *p, size_t n)
{
    uint64_t all = 0;
    for (size_t i = 0; i < n; i++) all |= (uint64_t)(p[i] < 0 ? -p[i] : p[i]);
    return bits_of(all);
}

static uint32_t largest(const int32_t *x, size_t n)
{
    int32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t a = x[i] < 0 ? -x[i] : x[i];
        most = a > most ? a : most;
    }
    return (uint32_t)most;
}

void row_settle(const int64_t *p, size_t n, int32_t e, struct row to)
{
    int bits = bits_of_all(p, n), s = bits - ROW_BITS;
    if (!bits || e + s < -EXPONENT_MOST) {
        row_zero(n, to);
        return;
    }
    if (e + s > EXPONENT_MOST) {
        row_nan(n, to);
        return;
    }
    *to.e = e + s;
    int64_t half = s > 0 ? (int64_t)1 << (s - 1) : 0, up = s < 0 ? (int64_t)1 << -s : 1;
    if (s > 0) for (size_t i = 0; i < n; i++) to.x[i] = (int32_t)((p[i] + half) >> s);
    else for (size_t i = 0; i < n; i++) to.x[i] = (int32_t)(p[i] * up);
}

void row_from_float(const float *in, size_t n, struct row to)
{
    float most = 0;
    int e;
    bool number = true;
    for (size_t i = 0; i < n; i++) {
        number &= isfinite(in[i]) != 0;
        most = fabsf(in[i]) > most ? fabsf(in[i]) : most;
    }
    if (!number) {
        row_nan(n, to);
        return;
    }
    if (most == 0) {
        row_zero(n, to);
        return;
    }
    (void)frexpf(most, &e);
    *to.e = e - ROW_BITS;
    double unit = ldexp(1, ROW_BITS - e);
    for (size_t i = 0; i < n; i++) to.x[i] = (int32_t)lrint((double)in[i] * unit);
}

void row_to_float(struct row x, size_t n, float *out)
{
    double unit = *x.e == EXPONENT_NAN ? NAN : ldexp(1, *x.e);
    for (size_t i = 0; i < n; i++) out[i] = (float)(x.x[i] * unit);
}

/* ---- elementwise ------------------------------------------------------------------------------ */

static bool is_nan(struct row x) { return *x.e == EXPONENT_NAN; }

/* y has `step` numbers, for each so many of x. */
static void add(struct row x, const int32_t *y, int32_t ey, size_t step, size_t n, int64_t *p, struct row to)
{
    if (is_nan(x) || ey == EXPONENT_NAN) {
        row_nan(n, to);
        return;
    }
    int32_t ex = *x.e, e = (ex > ey ? ex : ey) - ROW_BITS;
    int sx = ex - e, sy = ey - e;                  /* 30, and 30 or less */
    for (size_t i = 0; i < n; i++)                 /* 2^60 */
        p[i] = sx >= 0 ? x.x[i] * ((int64_t)1 << sx) : round_shift(x.x[i], -sx);
    for (size_t i = 0; i < n; i += step)
        for (size_t k = 0; k < step; k++)          /* 2^61 */
            p[i + k] += sy >= 0 ? y[k] * ((int64_t)1 << sy) : round_shift(y[k], -sy);
    row_settle(p, n, e, to);
}

void row_add(struct row x, struct row y, size_t n, int64_t *p, struct row to) { add(x, y.x, *y.e, n, n, p, to); }

void row_add_vector(struct row x, const struct vector *y, size_t n, int64_t *p, struct row to)
{
    add(x, y->x, y->e, n, n, p, to);
}

void row_mul(struct row x, struct row y, size_t n, int64_t *p, struct row to)
{
    if (is_nan(x) || is_nan(y)) {
        row_nan(n, to);
        return;
    }
    for (size_t i = 0; i < n; i++) p[i] = (int64_t)x.x[i] * y.x[i];            /* 2^60 */
    row_settle(p, n, *x.e + *y.e, to);
}

void row_scale(struct row x, struct scale by, size_t n, int64_t *p, struct row to)
{
    if (is_nan(x)) {
        row_nan(n, to);
        return;
    }
    for (size_t i = 0; i < n; i++) p[i] = (int64_t)x.x[i] * by.m;              /* 2^61 */
    row_settle(p, n, *x.e + by.e, to);
}

static uint32_t share_of(enum act_kind kind, int32_t x, int32_t e)
{
    if (kind == ACT_SILU) return sigmoid(exponent_of(x, e), x < 0);
    int64_t z = to_q(x < 0 ? -(int64_t)x : x, e, 24, (int64_t)16 << 24);
    return kind == ACT_GELU_TANH ? gelu_tanh_share(z, x < 0) : gelu_erf_share(z, x < 0);
}

void row_act(struct row x, enum act_kind kind, const struct row *y, size_t n, int64_t *p, struct row to)
{
    if (is_nan(x) || (y && is_nan(*y))) {
        row_nan(n, to);
        return;
    }
    int32_t e = *x.e;
    for (size_t i = 0; i < n; i++) {
        p[i] = (int64_t)x.x[i] * share_of(kind, x.x[i], e);                    /* 2^61 */
        if (y) p[i] = round_shift(p[i], 31) * y->x[i];                         /* 2^60 */
    }
    row_settle(p, n, y ? e + *y->e : e - 31, to);
}

int64_t softcap_of(int64_t p, int32_t e, struct scale cap, struct scale by)
{
    uint32_t t = (uint32_t)to_q((p < 0 ? -p : p) * by.m, e + by.e, 24, UINT32_MAX);
    int64_t y = (int64_t)tanh_of(t) * cap.m;                                   /* < 2^62 */
    return p < 0 ? -y : y;
}

void row_softcap(struct row x, struct scale cap, struct scale by, size_t n, int64_t *p, struct row to)
{
    if (is_nan(x)) {
        row_nan(n, to);
        return;
    }
    for (size_t i = 0; i < n; i++) p[i] = softcap_of(x.x[i], *x.e, cap, by);
    row_settle(p, n, cap.e - 31, to);
}

/* ---- norms ------------------------------------------------------------------------------------ */

enum { SQUARE_BITS = 22 };             /* of what is squared: the sum of 2^20 squares is below 2^64 */

/* x of `step` numbers, |x| <= 2^31, exponent e, by the root of their mean square, into Q(30 - l). */
static void by_root(int64_t *x, size_t step, int32_t e, struct wide eps, int l)
{
    int s = bits_of_all(x, step) - SQUARE_BITS;
    uint64_t sum = 0;
    if (s < 0) s = 0;
    for (size_t i = 0; i < step; i++) {
        int64_t a = round_shift(x[i], s);
        sum += (uint64_t)(a * a);
    }
    struct wide mean = wide_of(sum, 2 * (e + s));
    mean = wide_add(wide_of(mean.m / step, mean.e), eps);
    struct scale r = inverse_root(mean);
    for (size_t i = 0; i < step; i++)              /* |x| <= 2^31: 2^62; the quotient is at most sqrt(step) */
        x[i] = to_q(x[i] * r.m, e + r.e, ROW_BITS - l, (int64_t)1 << 31);
}

static void less_mean(int64_t *x, size_t step)
{
    int64_t sum = 0, half = (int64_t)step / 2, n = (int64_t)step;
    for (size_t i = 0; i < step; i++) sum += x[i];
    int64_t mean = sum >= 0 ? (sum + half) / n : -((-sum + half) / n);
    for (size_t i = 0; i < step; i++) x[i] -= mean;
}

void row_norm(struct row x, const struct norm *m, size_t n, int64_t *p, struct row to)
{
    if (is_nan(x)) {
        row_nan(n, to);
        return;
    }
    int l = (bits_of(m->step - 1) + 1) / 2;
    for (size_t i = 0; i < n; i++) p[i] = x.x[i];
    for (size_t i = 0; i < n; i += m->step) {
        if (m->kind == NORM_LAYER) less_mean(p + i, m->step);
        by_root(p + i, m->step, *x.e, m->eps, l);
        for (size_t k = 0; k < m->step; k++) p[i + k] *= m->w.x[k];            /* 2^61 */
    }
    row_settle(p, n, l - ROW_BITS + m->w.e, to);
    if (m->b) add(to, m->b->x, m->b->e, m->step, n, p, to);
}

/* ---- rotary positions -------------------------------------------------------------------------- */

void angles_of(const uint64_t *step, size_t half, struct scale magnitude, int32_t position, int32_t *cs)
{
    for (size_t i = 0; i < half; i++) {
        uint32_t turn = (uint32_t)((step[i] * (uint64_t)position) >> 32);
        cs[i] = (int32_t)round_shift((int64_t)cosine(turn) * magnitude.m, 1 - magnitude.e);
        cs[half + i] = (int32_t)round_shift((int64_t)sine(turn) * magnitude.m, 1 - magnitude.e);
    }
}

void row_rope(struct row x, enum rope_style style, uint32_t heads, uint32_t head_dim, uint32_t n_rot,
              const int32_t *cs, int64_t *p, size_t n, struct row to)
{
    if (is_nan(x)) {
        row_nan(n, to);
        return;
    }
    size_t half = n_rot / 2, apart = style == ROPE_PAIRS ? 1 : half, next = style == ROPE_PAIRS ? 2 : 1;
    for (uint32_t h = 0; h < heads; h++) {
        const int32_t *a = x.x + (size_t)h * head_dim;
        int64_t *y = p + (size_t)h * head_dim;
        for (size_t i = 0; i < half; i++) {        /* 2^30 * 2^31 twice */
            int64_t u = a[i * next], v = a[i * next + apart];
            y[i * next] = u * cs[i] - v * cs[half + i];
            y[i * next + apart] = u * cs[half + i] + v * cs[i];
        }
        for (size_t i = n_rot; i < head_dim; i++) y[i] = a[i] * ((int64_t)1 << 29);
    }
    row_settle(p, n, *x.e - 29, to);
}

/* ---- codes ------------------------------------------------------------------------------------- */

static int clamp(int64_t c, int most) { return (int)(c > most ? most : c < -most ? -most : c); }

struct scale row_codes(const int32_t *x, int32_t e, size_t n, int8_t *q)
{
    uint32_t most = e == EXPONENT_NAN ? 0 : largest(x, n);
    if (!most) {
        memset(q, 0, n);
        return (struct scale){ 0, e == EXPONENT_NAN ? EXPONENT_NAN : EXPONENT_ZERO };
    }
    struct scale by = scale_ratio(CODE_MOST, most, 0);
    int64_t half = (int64_t)1 << (-by.e - 1);
    for (size_t i = 0; i < n; i++) q[i] = (int8_t)((x[i] * (int64_t)by.m + half) >> -by.e);    /* 2^61 */
    return scale_ratio(most, CODE_MOST, e);
}

struct scale row_codes16(const int32_t *x, int32_t e, size_t n, int16_t *q)
{
    uint32_t most = e == EXPONENT_NAN ? 0 : largest(x, n);
    if (!most) {
        memset(q, 0, n * sizeof *q);
        return (struct scale){ 0, e == EXPONENT_NAN ? EXPONENT_NAN : EXPONENT_ZERO };
    }
    struct scale by = scale_ratio(QUERY_MOST, most, 0);
    int64_t half = (int64_t)1 << (-by.e - 1);
    for (size_t i = 0; i < n; i++) q[i] = (int16_t)((x[i] * (int64_t)by.m + half) >> -by.e);
    return scale_ratio(most, QUERY_MOST, e);
}

void row_codes_by(const int32_t *x, int32_t e, size_t n, struct scale inverse, int8_t *q)
{
    for (size_t i = 0; i < n; i++)
        q[i] = (int8_t)clamp(to_q(x[i] * (int64_t)inverse.m, e + inverse.e, 0, CODE_MOST), CODE_MOST);
}

int64_t column_product(int32_t sum, int32_t m, struct scale s)
{
    return sum * (((int64_t)m * s.m + ((int64_t)1 << 30)) >> 31);              /* 2^31 * 2^31 */
}

void row_requantise(const int32_t *sum, const int32_t *m, int32_t e, struct scale s, size_t n, int64_t *p,
                    struct row to)
{
    if (s.e == EXPONENT_NAN) {
        row_nan(n, to);
        return;
    }
    for (size_t i = 0; i < n; i++) p[i] = column_product(sum[i], m[i], s);
    row_settle(p, n, e + s.e + 31, to);
}
