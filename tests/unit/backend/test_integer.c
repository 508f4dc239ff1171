/* The integer backend's arithmetic (backend/integer/fixed.h, rows.h) against real numbers in double: functions over
 * all of their domain or a dense grid of it, operations on rows of random sizes and exponents. Bounds are those that
 * the definitions say, or follow from them; each is given where it is used. Sums of codes are exact.
 *
 * That this notices what it is for was tried by planting faults by hand, each noticed: a coefficient of 2^-t, of the
 * sine or of the error function one part in 10^5 off; a shift that does not round; a quadrant of the sine; a mean
 * over one number too many; an exponent of a settled row one too large; codes by 128 instead of 127. */
#include "backend/integer/integer.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WIDTH = 700, ROUNDS = 300 };

static uint64_t seed = 88172645463325252u;

static uint64_t any(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}
static uint32_t below(uint32_t n) { return (uint32_t)((any() >> 32) % n); }
static double uniform(void) { return (double)(any() >> 11) / 9007199254740992.0 * 2 - 1; }

static void hold(const char *what, double worst, double allowed)
{
    print_message("%s: %.3g of %.3g\n", what, worst, allowed);
    assert_true(worst <= allowed);
}

static double value(struct scale s) { return ldexp(s.m, s.e); }
static void keep(double *worst, double off) { if (!(off <= *worst)) *worst = off; }

/* ---- numbers ------------------------------------------------------------------------------------ */

static void shifts(void **state)
{
    (void)state;
    for (int i = 0; i < 2000000; i++) {
        int64_t x = (int64_t)any() >> (1 + below(62));
        int s = (int)below(70);
        long double real = ldexpl(x, -s);
        if (x > (int64_t)1 << 62 || x < -((int64_t)1 << 62)) continue;
        assert_true(round_shift(x, s) == (s > 62 ? 0 : (int64_t)floorl(real + 0.5L)));
        int e = (int)below(200) - 100, q = (int)below(40);
        int64_t most = (int64_t)1 << below(62);
        long double is = floorl(ldexpl(x, e + q) + 0.5L);
        int64_t want = e + q < -62 ? 0 : is > most ? most : is < -(long double)most ? -most : (int64_t)is;
        assert_true(to_q(x, e, q, most) == want);
        uint64_t u = any() >> below(64);
        assert_int_equal(bits_of(u), u ? 64 - __builtin_clzll(u) : 0);
        uint64_t r = root(u);
        assert_true(r * r <= u && (r == UINT32_MAX || (r + 1) * (r + 1) > u));
    }
    assert_int_equal(bits_of(0), 0);
    assert_int_equal(root(UINT64_MAX), UINT32_MAX);
}

static void scales(void **state)
{
    double product = 0, ratio = 0, inverse = 0, sum = 0, read = 0;
    (void)state;
    for (int i = 0; i < 1000000; i++) {
        struct scale a = scale_of(exp(20 * uniform())), b = scale_of(exp(20 * uniform()));
        double x = value(a) * value(b);
        keep(&product, fabs(value(scale_mul(a, b)) / x - 1));
        double y = exp(20 * uniform());
        keep(&read, fabs(value(scale_of(y)) / y - 1));
        uint32_t n = (uint32_t)(any() >> (33 + below(31))) + 1, d = (uint32_t)(any() >> (32 + below(31))) + 1;
        if (d == 0) d = 1;
        struct scale r = scale_ratio(n, d, 3);
        assert_true(r.m >= 1 << 30);
        keep(&ratio, fabs(value(r) / (8.0 * n / d) - 1));
        struct wide w = wide_of(any() >> below(63), (int)below(40) - 20);
        struct wide v = wide_of(any() >> below(63), (int)below(40) - 20);
        double ww = ldexp((double)w.m, w.e), vv = ldexp((double)v.m, v.e);
        struct wide both = wide_add(w, v);
        if (w.m || v.m) keep(&sum, fabs(ldexp((double)both.m, both.e) / (ww + vv) - 1));
        if (w.m) keep(&inverse, fabs(value(inverse_root(w)) * sqrt(ww) - 1));
    }
    hold("scale from a number", read, ldexp(1, -31));
    hold("product of scales", product, ldexp(1, -30));
    hold("ratio as a scale", ratio, ldexp(1, -30));
    hold("sum of wide numbers", sum, ldexp(1, -50));
    hold("inverse root", inverse, ldexp(1, -28));
    assert_int_equal(scale_mul((struct scale){ 0, 0 }, scale_of(3)).m, 0);
    assert_int_equal(inverse_root(wide_of(0, 5)).m, 0);
}

/* All fractions, and all whole numbers with some of them. */
static void powers(void **state)
{
    double worst = 0;
    (void)state;
    for (uint32_t f = 0; f < 1 << 24; f++)
        keep(&worst, fabs(exp2_neg(f) / 2147483648.0 - exp2(-(double)f / 16777216)));
    for (uint32_t n = 1; n < 256; n++)
        for (uint32_t f = 0; f < 1 << 24; f += 65521)
            keep(&worst, fabs(exp2_neg(n << 24 | f) / 2147483648.0 - exp2(-(double)n - (double)f / 16777216)));
    hold("2^-t", worst, ldexp(1, -28));
    assert_true(exp2_neg(0) == (uint32_t)1 << 31);
    assert_int_equal(exp2_neg(UINT32_MAX), 0);
}

static double normal(double x) { return erfc(-x / sqrt(2)) / 2; }

/* Shares: what they say of 2^-t, with its derivatives of at most 1/4 (sigmoid) and 2 (tanh), and one unit. */
static void shares(void **state)
{
    double logistic = 0, tangent = 0, by_tanh = 0, by_erf = 0;
    (void)state;
    for (uint32_t x = 0; x < (uint32_t)40 << 20; x += 7) {
        double z = x / 1048576.0, s = 1 / (1 + exp(-z));
        uint32_t t = exponent_of(x, -20);
        keep(&logistic, fabs(sigmoid(t, 0) / 2147483648.0 - s));
        keep(&logistic, fabs(sigmoid(t, 1) / 2147483648.0 - exp(-z) * s));
        keep(&tangent, fabs(tanh_of(exponent_of(x, -19)) / 2147483648.0 - tanh(z)));
    }
    hold("sigmoid", logistic, ldexp(1, -26));
    hold("tanh", tangent, ldexp(1, -24));
    for (int64_t z = 0; z <= (int64_t)16 << 24; z += 41) {
        double x = (double)z / 16777216, t = tanh(0.79788456080286536 * (x + 0.044715 * x * x * x));
        keep(&by_tanh, fabs(gelu_tanh_share(z, 0) / 2147483648.0 - (1 + t) / 2));
        keep(&by_tanh, fabs(gelu_tanh_share(z, 1) / 2147483648.0 - (1 - t) / 2));
        keep(&by_erf, fabs(gelu_erf_share(z, 0) / 2147483648.0 - normal(x)));
        keep(&by_erf, fabs(gelu_erf_share(z, 1) / 2147483648.0 - normal(-x)));
    }
    hold("gelu, tanh", by_tanh, ldexp(1, -24));
    hold("gelu, erf", by_erf, 1.1e-7);
}

static void sines(void **state)
{
    double worst = 0;
    (void)state;
    for (uint64_t turn = 0; turn < (uint64_t)1 << 32; turn += 499) {
        double a = (double)turn * 6.283185307179586 / 4294967296.0;
        keep(&worst, fabs(sine((uint32_t)turn) / 1073741824.0 - sin(a)));
        keep(&worst, fabs(cosine((uint32_t)turn) / 1073741824.0 - cos(a)));
    }
    hold("sine and cosine", worst, ldexp(1, -27));
    assert_int_equal(sine(0), 0);
    assert_int_equal(cosine(0), 1 << 30);
    assert_int_equal(sine((uint32_t)3 << 30), -(1 << 30));
}

/* ---- rows ------------------------------------------------------------------------------------------ */

static int32_t xs[4][WIDTH], es[4];
static int64_t scratch[WIDTH];
static double reals[4][WIDTH], most[4];

/* Random numbers, some large, of some size, in place i. */
static struct row random_row(int i, size_t n, int size)
{
    float f[WIDTH] = { 0 };
    double by = ldexp(1, size);
    for (size_t k = 0; k < n; k++) f[k] = (float)(uniform() * uniform() * by * (below(50) ? 1 : 20));
    struct row r = { xs[i], &es[i] };
    row_from_float(f, n, r);
    most[i] = 0;
    for (size_t k = 0; k < n; k++) {
        reals[i][k] = ldexp(xs[i][k], es[i]);
        most[i] = fmax(most[i], fabs(reals[i][k]));
        assert_true(fabs(reals[i][k] - (double)f[k]) <= ldexp(1, es[i] - 1));
    }
    return r;
}

static double off(struct row r, size_t n, const double *want)
{
    double worst = 0, top = 0;
    for (size_t k = 0; k < n; k++) {
        keep(&worst, fabs(ldexp(r.x[k], *r.e) - want[k]));
        top = fmax(top, fabs(want[k]));
        assert_true(r.x[k] <= 1 << 30 && r.x[k] >= -(1 << 30));
    }
    return top > 0 ? worst / top : worst;
}

/* A settled row is off by half a unit, the unit at most 2^-29 of its largest: 2^-30 of it; two roundings are
 * twice that. Bounds are against the largest number of the answer, with 2^-40 for the double arithmetic. */
static void elementwise(void **state)
{
    double want[WIDTH], add = 0, mul = 0, by = 0, cap = 0;
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        size_t n = 1 + below(WIDTH);
        struct row x = random_row(0, n, (int)below(20) - 10), y = random_row(1, n, (int)below(40) - 20);
        struct row z = { xs[2], &es[2] };
        for (size_t k = 0; k < n; k++) want[k] = reals[0][k] + reals[1][k];
        row_add(x, y, n, scratch, z);
        double largest_term = fmax(most[0], most[1]), top = 0;
        for (size_t k = 0; k < n; k++) top = fmax(top, fabs(want[k]));
        if (top > 0) keep(&add, off(z, n, want) * top / largest_term);
        for (size_t k = 0; k < n; k++) want[k] = reals[0][k] * reals[1][k];
        row_mul(x, y, n, scratch, z);
        keep(&mul, off(z, n, want));
        double f = exp(4 * uniform()) * (below(2) ? 1 : -1);
        for (size_t k = 0; k < n; k++) want[k] = reals[0][k] * f;
        row_scale(x, scale_of(f), n, scratch, z);
        keep(&by, off(z, n, want));
        double c = 1 + 40 * fabs(uniform());
        for (size_t k = 0; k < n; k++) want[k] = c * tanh(reals[0][k] / c);
        row_softcap(x, scale_of(c), scale_of(2 * 1.4426950408889634 / c), n, scratch, z);
        keep(&cap, off(z, n, want) * fmin(1, most[0] / c));
    }
    hold("x + y, of the largest term", add, ldexp(1, -28));
    hold("x * y", mul, ldexp(1, -30) * 1.001);
    hold("a * x", by, ldexp(1, -29));
    hold("cap tanh(x / cap), of the cap", cap, ldexp(1, -24) * 2);
}

static double act_of(enum act_kind kind, double x)
{
    if (kind == ACT_SILU) return x / (1 + exp(-x));
    if (kind == ACT_GELU_TANH) return x / 2 * (1 + tanh(0.79788456080286536 * (x + 0.044715 * x * x * x)));
    return x * normal(x);
}

/* x times a share: off by x times what the share is off, and a rounding. */
static void activations(void **state)
{
    double want[WIDTH], worst[3] = { 0 }, with = 0;
    static const double allowed[3] = { 0x1p-26, 0x1p-24, 1.1e-7 };
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        size_t n = 1 + below(WIDTH);
        struct row x = random_row(0, n, (int)below(12) - 4), y = random_row(1, n, (int)below(20) - 10);
        struct row z = { xs[2], &es[2] };
        for (int kind = 0; kind < 3; kind++) {
            double top = 0;
            for (size_t k = 0; k < n; k++) top = fmax(top, fabs(want[k] = act_of((enum act_kind)kind, reals[0][k])));
            row_act(x, (enum act_kind)kind, NULL, n, scratch, z);
            keep(&worst[kind], off(z, n, want) * top / most[0]);
            if (kind) continue;
            for (size_t k = 0; k < n; k++) want[k] = act_of(ACT_SILU, reals[0][k]) * reals[1][k];
            row_act(x, ACT_SILU, &y, n, scratch, z);
            top = 0;
            for (size_t k = 0; k < n; k++) top = fmax(top, fabs(want[k]));
            keep(&with, off(z, n, want) * top / (most[0] * most[1]));
        }
    }
    hold("silu, of the largest input", worst[ACT_SILU], allowed[0] + 0x1p-30);
    hold("gelu (tanh)", worst[ACT_GELU_TANH], allowed[1] + 0x1p-30);
    hold("gelu (erf)", worst[ACT_GELU_ERF], allowed[2] + 0x1p-30);
    hold("silu(x) y, of the largest inputs", with, allowed[0] + 0x1p-29);
}

/* Squares are of numbers rounded to 22 bits of the largest: the root of their mean is off by at most half a unit,
 * 2^-22 of the largest, which is at most sqrt(step) times the root. */
static void norms(void **state)
{
    double want[WIDTH], worst[2] = { 0 }, w[WIDTH], b[WIDTH];
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        size_t step = 1 + below(128), n = step * (1 + below(5));
        double eps = exp2(-8 - (double)below(16)), allowed = 0;
        struct row x = random_row(0, n, (int)below(30) - 15), ws = random_row(1, step, 3), bs = random_row(2, step, 2);
        struct row z = { xs[3], &es[3] };
        int e;
        double bits = frexp(eps, &e);
        memcpy(w, reals[1], sizeof w);
        memcpy(b, reals[2], sizeof b);
        for (int kind = 0; kind < 2; kind++) {
            struct vector bias = { bs.x, *bs.e };
            struct norm m = { kind ? NORM_LAYER : NORM_RMS, step, wide_of((uint64_t)ldexp(bits, 53), e - 53),
                              { ws.x, *ws.e }, kind ? &bias : NULL };
            double top = 0;
            for (size_t at = 0; at < n; at += step) {
                double mean = 0, square = 0;
                for (size_t k = 0; kind && k < step; k++) mean += reals[0][at + k] / (double)step;
                for (size_t k = 0; k < step; k++) square += pow(reals[0][at + k] - mean, 2) / (double)step;
                for (size_t k = 0; k < step; k++) {
                    want[at + k] = (reals[0][at + k] - mean) / sqrt(square + eps) * w[k] + (kind ? b[k] : 0);
                    top = fmax(top, fabs(want[at + k]));
                }
                /* A mean is rounded to a unit of x: beside a small deviation that counts. */
                allowed = fmax(allowed, sqrt((double)step) * most[1] * (0x1p-22 * sqrt((double)step) + 0x1p-27)
                               + kind * ldexp(most[1], es[0]) / sqrt(square + eps));
            }
            row_norm(x, &m, n, scratch, z);
            keep(&worst[kind], off(z, n, want) * top / allowed);
        }
    }
    hold("rms norm, of its bound", worst[0], 1);
    hold("layer norm, of its bound", worst[1], 1);
}

static void rotations(void **state)
{
    double want[WIDTH], worst = 0, angle_off = 0;
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        uint32_t hd = 2 * (1 + below(40)), heads = 1 + below(4), n_rot = 2 * (1 + below(hd / 2));
        size_t n = (size_t)hd * heads, half = n_rot / 2;
        enum rope_style style = below(2) ? ROPE_PAIRS : ROPE_HALVES;
        uint64_t turn[ROPE_MAX_HALF];
        int32_t cs[2 * ROPE_MAX_HALF], position = (int32_t)below(1 << 20);
        double length = below(2) ? 1 : 1.3;
        struct row x = random_row(0, n, (int)below(20) - 10), z = { xs[2], &es[2] };
        for (size_t k = 0; k < half; k++) turn[k] = any() >> below(40);
        angles_of(turn, half, scale_of(length), position, cs);
        memcpy(want, reals[0], sizeof want);
        for (size_t k = 0; k < half; k++) {
            long double a = fmodl(ldexpl((long double)turn[k], -64) * position, 1) * 6.283185307179586476925L;
            double c = (double)cosl(a) * length, s = (double)sinl(a) * length;
            keep(&angle_off, fabs(ldexp(cs[k], -29) - c) / length);
            keep(&angle_off, fabs(ldexp(cs[half + k], -29) - s) / length);
            for (uint32_t h = 0; h < heads; h++) {
                size_t u = (size_t)h * hd + (style == ROPE_PAIRS ? 2 * k : k), v = u + (style == ROPE_PAIRS ? 1 : half);
                want[u] = reals[0][u] * c - reals[0][v] * s;
                want[v] = reals[0][u] * s + reals[0][v] * c;
            }
        }
        row_rope(x, style, heads, hd, n_rot, cs, scratch, n, z);
        double top = 0;
        for (size_t k = 0; k < n; k++) top = fmax(top, fabs(want[k]));
        keep(&worst, off(z, n, want) * top / (most[0] * length));
    }
    /* The circle is 2^32 parts, then the sine's bound; two products of a row's numbers with them. */
    hold("angles", angle_off, 6.2832 * 0x1p-32 + 0x1p-27 + 0x1p-30);
    hold("rotated rows, of their largest", worst, 2 * (6.2832 * 0x1p-32 + 0x1p-27 + 0x1p-30) + 0x1p-29);
}

/* ---- codes and sums -------------------------------------------------------------------------------- */

static void codes(void **state)
{
    double worst = 0, wide = 0, given = 0, unit = 0;
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        size_t n = 1 + below(WIDTH);
        int8_t q[WIDTH];
        int16_t q16[WIDTH];
        struct row x = random_row(0, n, (int)below(60) - 30);
        for (size_t k = 0; i % 3 == 0 && k < n; k++) x.x[k] /= 1 << below(29);
        double top = 0;
        for (size_t k = 0; k < n; k++) top = fmax(top, fabs(reals[0][k] = ldexp(x.x[k], *x.e)));
        struct scale s = row_codes(x.x, *x.e, n, q), s16 = row_codes16(x.x, *x.e, n, q16);
        if (top > 0) keep(&unit, fabs(value(s) * 127 / top - 1));
        struct scale fixed = scale_of(top > 0 ? top / 127 / (1 + below(3)) : 1);
        for (size_t k = 0; k < n && top > 0; k++) {
            keep(&worst, fabs(reals[0][k] * 127 / top - q[k]));
            keep(&wide, fabs(reals[0][k] * 32767 / top - q16[k]));
            if (fabs(reals[0][k]) == top) assert_int_equal(abs(q[k]), 127);
        }
        assert_true(top <= 0 || fabs(value(s16) * 32767 / top - 1) <= 0x1p-30);
        row_codes_by(x.x, *x.e, n, scale_of(1 / value(fixed)), q);
        for (size_t k = 0; k < n; k++)
            keep(&given, fabs(fmax(-127, fmin(127, reals[0][k] / value(fixed))) - q[k]));
    }
    hold("codes", worst, 0.5 + 127 * 0x1p-30);
    hold("codes of 16 bits", wide, 0.5 + 32767 * 0x1p-30);
    hold("codes by a given scale", given, 0.5 + 127 * 0x1p-28);
    hold("their scale", unit, 0x1p-30);
    int8_t q[4] = { 1, 1, 1, 1 };
    int32_t none[4] = { 0 };
    assert_int_equal(row_codes(none, EXPONENT_NAN, 4, q).e, EXPONENT_NAN);
    assert_int_equal(row_codes(none, 0, 4, q).m, 0);
    assert_int_equal(q[0], 0);
}

/* Against 64 bits, with the largest codes there are over the longest sum; and what becomes of sums. */
static void sums(void **state)
{
    enum { ROWS = 5, COLS = 7 };
    _Static_assert((int64_t)127 * 127 * INTEGER_INPUTS <= INT32_MAX, "sums fit");
    _Static_assert((int64_t)32767 * 127 * INTEGER_HEAD <= INT32_MAX, "scores fit");
    int8_t *x = malloc(ROWS * INTEGER_INPUTS), *w = malloc(COLS * INTEGER_INPUTS);
    int32_t sum[ROWS * COLS], out[ROWS * COLS];
    double worst = 0;
    (void)state;
    assert_non_null(x);
    assert_non_null(w);
    for (int i = 0; i < 60; i++) {
        size_t n = i ? 1 + below(i < 40 ? 300 : 5000) : INTEGER_INPUTS;
        for (size_t k = 0; k < ROWS * n; k++) x[k] = (int8_t)(i ? (int)below(255) - 127 : -127);
        for (size_t k = 0; k < COLS * n; k++) w[k] = (int8_t)(i ? (int)below(255) - 127 : k / n % 2 ? 127 : -127);
        struct kernels by;
        uint32_t bits = 0;
        const char *const *levels = kernels_levels();      /* all that this CPU has, in turn */
        int n_levels = 0;
        while (levels[n_levels]) n_levels++;
        cpu_ceiling(levels[i % n_levels], &bits);
        kernels_init(&by, cpu_detect() & bits);
        by.code_sums(x, n, ROWS, w, n, COLS, n, sum, COLS);
        for (size_t r = 0; r < ROWS; r++)
            for (size_t c = 0; c < COLS; c++) {
                int64_t want = 0;
                for (size_t k = 0; k < n; k++) want += x[r * n + k] * w[c * n + k];
                assert_true(sum[r * COLS + c] == want);
            }
        int32_t m[COLS], e, sum_e = -40 + (int32_t)below(20);
        double want[COLS];
        for (size_t c = 0; c < COLS; c++) m[c] = (int32_t)(any() >> (33 + below(8)));
        struct scale s = scale_of(exp(5 * uniform()));
        for (size_t c = 0; c < COLS; c++) want[c] = ldexp((double)sum[c] * m[c], sum_e) * value(s);
        row_requantise(sum, m, sum_e, s, COLS, scratch, (struct row){ out, &e });
        double top = 0, least = 0;
        for (size_t c = 0; c < COLS; c++) top = fmax(top, fabs(want[c]));
        /* The scale of an output is rounded to 2^-31 of what its weight's exponent says. */
        for (size_t c = 0; c < COLS; c++) least = fmax(least, fabs(ldexp(sum[c], sum_e)) * value(s));
        if (top > 0) keep(&worst, off((struct row){ out, &e }, COLS, want) * top / (top * 0x1p-30 + least * 0.51 * 2));
    }
    hold("requantised rows, of their bound", worst, 1);
    free(x);
    free(w);
}

/* What is no number stays none, zeros leave others as they are, and what is out of range says so. */
static void edges(void **state)
{
    float f[4] = { 1, NAN, 2, 3 }, back[4];
    int32_t zero[4] = { 0 };
    int64_t p[4] = { 1, 2, 3, 4 };
    (void)state;
    struct row x = { xs[0], &es[0] }, y = random_row(1, 4, 0), z = { xs[2], &es[2] };
    row_from_float(f, 4, x);
    assert_int_equal(*x.e, EXPONENT_NAN);
    row_to_float(x, 4, back);
    assert_true(isnan(back[0]) && isnan(back[3]));
    f[1] = INFINITY;
    row_from_float(f, 4, x);
    assert_int_equal(*x.e, EXPONENT_NAN);
    void (*const two[])(struct row, struct row, size_t, int64_t *, struct row) = { row_add, row_mul };
    for (int i = 0; i < 2; i++) {
        two[i](x, y, 4, scratch, z);
        assert_int_equal(*z.e, EXPONENT_NAN);
        two[i](y, x, 4, scratch, z);
        assert_int_equal(*z.e, EXPONENT_NAN);
    }
    row_act(x, ACT_SILU, NULL, 4, scratch, z);
    assert_int_equal(*z.e, EXPONENT_NAN);
    int32_t e = EXPONENT_ZERO;
    row_add(y, (struct row){ zero, &e }, 4, scratch, z);
    for (int i = 0; i < 4; i++) assert_true(ldexp(z.x[i], *z.e) == ldexp(y.x[i], *y.e));
    row_settle(p, 4, 2 * EXPONENT_MOST, z);
    assert_int_equal(*z.e, EXPONENT_NAN);
    row_settle(p, 4, -2 * EXPONENT_MOST, z);
    assert_int_equal(*z.e, EXPONENT_ZERO);
    memset(p, 0, sizeof p);
    row_settle(p, 4, 0, z);
    assert_int_equal(*z.e, EXPONENT_ZERO);
    f[0] = f[1] = f[2] = f[3] = 0;
    row_from_float(f, 4, x);
    assert_int_equal(*x.e, EXPONENT_ZERO);
    f[2] = 1e-45F;
    f[1] = -3e38F;
    row_from_float(f, 4, x);
    row_to_float(x, 4, back);
    assert_true(back[1] == f[1] && back[2] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shifts), cmocka_unit_test(scales), cmocka_unit_test(powers), cmocka_unit_test(shares),
        cmocka_unit_test(sines), cmocka_unit_test(elementwise), cmocka_unit_test(activations), cmocka_unit_test(norms),
        cmocka_unit_test(rotations), cmocka_unit_test(codes), cmocka_unit_test(sums), cmocka_unit_test(edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
