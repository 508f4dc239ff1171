/* Elementwise and reducing kernels. quantize, to_bf16, add, mul, scale and arg-max are fixed to
 * the bit; the others within the rounding errors of their formula, computed from the data in
 * double. */
#include "kcheck.h"
#include <stdlib.h>

enum { MAX_N = 1100 };
static const double eps = (double)FLT_EPSILON / 2;      /* one rounding */

/* Lengths: every one up to two tiles and one, then a few real widths. */
static size_t length(size_t i)
{
    static const size_t real[] = { 127, 128, 576, 577, 1100 };
    return i < 70 ? i : real[i - 70];
}
enum { N_LENGTHS = 75 };

static void fill(struct kcheck *c, float *x, size_t n, float by)
{
    static const float edges[] = {0.0f,   -0.0f,  1e-40f,  -1e-38f, 87.5f,
                                  -87.5f, 105.0f, -105.0f, 3e4f,    -3e4f};
    for (size_t i = 0; i < n; i++)
        x[i] = kc_u32(c) % 16 ? kc_normal(c) * by : edges[kc_u32(c) % 10];
}

/* ---- exact ----------------------------------------------------------------------------------- */

static void check_quantize(struct kcheck *c)
{
    if (!kc_cell(c, "quantize", c->k->quantize != c->prev->quantize)) return;
    static const float specials[] = {0, 1e-45f, 1e-39f,   3e-37f,    1e-36f,
                                     1, 3e38f,  INFINITY, -INFINITY, NAN};
    for (size_t groups = 0; groups <= 37; groups++) {
        size_t k = 32 * groups;
        float *x = kc_alloc(k * 4, 4), *d = kc_alloc(groups * 4, 4), *s = kc_alloc(groups * 4, 4);
        float *d2 = kc_alloc(groups * 4, 4), *s2 = kc_alloc(groups * 4, 4);
        int8_t *q = kc_alloc(k, 1), *q2 = kc_alloc(k, 1);
        int16_t *sum = kc_alloc(groups * 4, 2), *sum2 = kc_alloc(groups * 4, 2);
        for (size_t run = 0; run < 12; run++) {
            for (size_t i = 0; i < k; i++) x[i] = kc_normal(c) * (run % 3 ? 1.0f : 1e-36f);
            for (size_t g = 0; g < groups && run > 3; g++) {
                float v = specials[kc_u32(c) % 10];
                if (kc_u32(c) % 2 && v < 1)
                    for (size_t i = 0; i < 32; i++) x[32 * g + i] = v * kc_unit(c);
                x[32 * g + kc_u32(c) % 32] = v;
            }
            for (size_t i = 0; i < k && run == 3; i++)
                x[i] = (float)((int)(i % 255) - 127) / 2; /* ties */
            for (size_t i = 0; i < k; i++) q2[i] = 99;
            for (size_t i = 0; i < 2 * groups; i++) sum2[i] = 9999;
            c->ref->quantize(x, k, q, d, s, sum);
            c->k->quantize(x, k, q2, d2, s2, run % 2 ? sum2 : NULL);
            kc_bytes(c, "codes", q, q2, k);
            kc_equal(c, "scale", d, d2, groups);
            kc_equal(c, "scaled sum", s, s2, groups);
            if (run % 2) kc_bytes(c, "sums of 16", sum, sum2, groups * 4);
        }
        kc_free(c, x), kc_free(c, d), kc_free(c, s), kc_free(c, d2), kc_free(c, s2), kc_free(c, q);
        kc_free(c, q2), kc_free(c, sum), kc_free(c, sum2);
    }
}

static void check_bf16(struct kcheck *c)
{
    if (!kc_cell(c, "to_bf16", c->k->to_bf16 != c->prev->to_bf16)) return;
    for (size_t l = 0; l < N_LENGTHS; l++) {
        size_t n = length(l);
        float *x = kc_alloc(n * 4, 4);
        uint16_t *a = kc_alloc(n * 2, 2), *b = kc_alloc(n * 2, 2);
        for (size_t run = 0; run < 4; run++) {
            for (size_t i = 0; i < n; i++) x[i] = run ? float_of(kc_u32(c)) : kc_normal(c);
            c->ref->to_bf16(x, n, a);
            c->k->to_bf16(x, n, b);
            kc_bytes(c, "bf16", a, b, n * 2);
        }
        kc_free(c, x), kc_free(c, a), kc_free(c, b);
    }
}

static void check_argmax(struct kcheck *c)
{
    if (!kc_cell(c, "argmax", c->k->argmax != c->prev->argmax)) return;
    for (size_t l = 0; l < N_LENGTHS; l++) {
        size_t n = length(l);
        float *x = kc_alloc(n * 4, 4);
        for (size_t run = 0; run < 24; run++) {
            for (size_t i = 0; i < n; i++)
                x[i] = run < 8    ? kc_normal(c)
                       : run < 16 ? (float)(kc_u32(c) % 3)
                       : run < 18 ? -INFINITY
                                  : 0.0f;
            if (n && run % 8 == 1) x[kc_u32(c) % n] = NAN;
            if (n && run % 8 == 2) x[kc_u32(c) % n] = INFINITY;
            if (n && run >= 18) x[kc_u32(c) % n] = run % 2 ? -0.0f : -1.0f;
            size_t want = c->ref->argmax(x, n), got = c->k->argmax(x, n);
            c->checks++;
            if (want != got) kc_fail(c, "n %zu: want %zu, got %zu", n, want, got);
        }
        kc_free(c, x);
    }
}

/* ---- elementwise ----------------------------------------------------------------------------- */

/* Two inputs, one output; unused arguments are ignored. */
struct op {
    const char *name;
    size_t at;                                  /* of the pointer in struct kernels           */
    enum { ONE, TWO, NUMBER } shape;
    /* the rounding errors allowed at (a, b, want) */
    double (*bound)(double a, double b, double want);
};

static double exactly(double a, double b, double want)
{
    (void)a, (void)b, (void)want;
    return 0;
}

/* e^y has relative error 4 eps and is 0 below -87.3 and e^88 above; x / (1 + e^y) adds two
 * roundings, and where y was clamped what is left is below |x| e^-87; 2^-149 is the rounding
 * of a denormal. */
static double sigmoid_bound(double x, double y_error, double want)
{
    return fabs(want) * (8 * eps + y_error) + fabs(x) * 2e-38 + 0x1p-149;
}
static double silu_bound(double a, double b, double want)
{
    (void)b;
    return sigmoid_bound(a, 0, want);
}
/* y = 2 u has 4 roundings, and an error of y is a relative error of e^y. */
static double gelu_tanh_bound(double a, double b, double want)
{
    (void)b;
    double y = 1.5957691216 * fabs(a + 0.044715 * a * a * a);
    return sigmoid_bound(a, y > 100 ? 0 : 4 * eps * y, want);
}
/* erfc: 10 steps of coefficients that sum to 2.5; e^(-x^2 / 2) sees 2 roundings of its argument. */
static double gelu_erf_bound(double a, double b, double want)
{
    (void)b;
    double x2 = a * a < 200 ? a * a : 200;
    return fabs(want) * eps * (4 + 2 * x2) + fabs(a) * exp(-x2 / 2) * 30 * eps + fabs(a) * 2e-37;
}
static double mul_silu_bound(double a, double b, double want)
{
    return silu_bound(a, 0, a / (1 + exp(-a))) * fabs(b) + fabs(want) * 2 * eps + 0x1p-149;
}
static double mul_gelu_bound(double a, double b, double want)
{
    double y = 1.5957691216 * (a + 0.044715 * a * a * a), g = a / (1 + exp(-y));
    return gelu_tanh_bound(a, 0, g) * fabs(b) + fabs(want) * 2 * eps + 0x1p-149;
}
/* near 0: x (1 + a few roundings), denormal ones of x / cap too; far: 1 - 2 / (e + 1), both terms
 * rounded */
static double softcap_bound(double a, double cap, double want)
{
    double u = fabs(a / cap);
    return u < 0.5 ? fabs(want) * 10 * eps + 4 * cap * 0x1p-149
                   : cap * (6 + 2 * (u < 20 ? u : 0)) * eps;
}

#define AT(f) offsetof(struct kernels, f)
static const struct op ops[] = {
    { "add", AT(add), TWO, exactly },
    { "mul", AT(mul), TWO, exactly },
    { "scale", AT(scale), NUMBER, exactly },
    { "softcap", AT(softcap), NUMBER, softcap_bound },
    { "silu", AT(silu), ONE, silu_bound },
    { "gelu_tanh", AT(gelu_tanh), ONE, gelu_tanh_bound },
    { "gelu_erf", AT(gelu_erf), ONE, gelu_erf_bound },
    { "silu_mul", AT(silu_mul), TWO, mul_silu_bound },
    { "gelu_tanh_mul", AT(gelu_tanh_mul), TWO, mul_gelu_bound },
};

typedef void one_fn(const float *, size_t, float *);
typedef void two_fn(const float *, const float *, size_t, float *);
typedef void number_fn(const float *, float, size_t, float *);
typedef void any_fn(void);

static any_fn *fn_at(const struct kernels *k, size_t at)
{
    any_fn *f;
    memcpy(&f, (const char *)k + at, sizeof f);
    return f;
}

static void call(const struct op *op, const struct kernels *k, const float *a, const float *b,
                 float number, size_t n, float *out)
{
    any_fn *f = fn_at(k, op->at);
    if (op->shape == ONE) ((one_fn *)f)(a, n, out);
    if (op->shape == TWO) ((two_fn *)f)(a, b, n, out);
    if (op->shape == NUMBER) ((number_fn *)f)(a, number, n, out);
}

static void check_op(struct kcheck *c, const struct op *op, size_t n, float by)
{
    float *a = kc_alloc(n * 4, 4), *b = kc_alloc(n * 4, 4), *want = kc_alloc(n * 4, 4),
          *got = kc_alloc(n * 4, 4);
    float number = 0.5f + 40 * fabsf(kc_unit(c)), one;
    fill(c, a, n, by);
    fill(c, b, n, 1);
    if (n > 3 && by > 5) a[n / 2] = NAN, a[n / 3] = INFINITY, a[n - 1] = -INFINITY;
    call(op, c->ref, a, b, number, n, want);
    call(op, c->k, a, b, number, n, got);
    for (size_t i = 0; i < n; i++) {
        double other = op->shape == NUMBER ? (double)number : (double)b[i];
        double bound = op->bound == exactly ? 0 : op->bound((double)a[i], other, (double)want[i]);
        kc_near(c, op->name, i, (double)want[i], (double)got[i], isfinite(bound) ? bound : 0);
        call(op, c->k, a + i, b + i, number, 1, &one);        /* alone, and so in another lane */
        if (!kc_same(one, got[i]))
            kc_fail(c, "%s: element %zu depends on its neighbours", op->name, i);
    }
    memcpy(want, got, n * 4);
    call(op, c->k, a, b, number, n, a);                       /* in place */
    kc_equal(c, "in place", want, a, n);
    kc_free(c, a), kc_free(c, b), kc_free(c, want), kc_free(c, got);
}

/* A product with a neighbour's function must be that function's own bits. */
static void check_fused(struct kcheck *c, const char *what, one_fn *act, two_fn *fused)
{
    float a[100], b[100], x[100], y[100];
    fill(c, a, 100, 4);
    fill(c, b, 100, 1);
    act(a, 100, x);
    c->k->mul(x, b, 100, x);
    fused(a, b, 100, y);
    kc_equal(c, what, x, y, 100);
}

/* ---- norms and rope -------------------------------------------------------------------------- */

static void check_rmsnorm(struct kcheck *c)
{
    if (!kc_cell(c, "rmsnorm", c->k->rmsnorm != c->prev->rmsnorm)) return;
    for (size_t l = 1; l < N_LENGTHS; l++) {
        size_t n = length(l);
        float *x = kc_alloc(n * 4, 4), *w = kc_alloc(n * 4, 4), *a = kc_alloc(n * 4, 4),
              *b = kc_alloc(n * 4, 4);
        for (size_t run = 0; run < 3; run++) {
            for (size_t i = 0; i < n; i++)
                x[i] = kc_normal(c) * (run == 1 ? 1e-6f : 3.0f), w[i] = kc_normal(c);
            if (run == 2) memset(x, 0, n * 4);
            c->ref->rmsnorm(x, run == 1 ? NULL : w, n, 1e-5f, a);
            c->k->rmsnorm(x, run == 1 ? NULL : w, n, 1e-5f, b);
            /* a sum of n / 32 positive terms a lane, then 8 roundings; the root halves the
             * relative error */
            for (size_t i = 0; i < n; i++)
                kc_near(c, "rmsnorm", i, (double)a[i], (double)b[i],
                        fabs((double)a[i]) * eps * ((double)n / 64 + 12));
            c->k->rmsnorm(x, run == 1 ? NULL : w, n, 1e-5f, x);
            kc_equal(c, "in place", b, x, n);
        }
        x[0] = NAN;
        c->k->rmsnorm(x, w, n, 1e-5f, b);
        if (!isnan(b[n - 1])) kc_fail(c, "a NaN was lost");
        kc_free(c, x), kc_free(c, w), kc_free(c, a), kc_free(c, b);
    }
}

static void check_layernorm(struct kcheck *c)
{
    if (!kc_cell(c, "layernorm", c->k->layernorm != c->prev->layernorm)) return;
    for (size_t l = 1; l < N_LENGTHS; l++) {
        size_t n = length(l);
        float *x = kc_alloc(n * 4, 4), *w = kc_alloc(n * 4, 4), *o = kc_alloc(n * 4, 4);
        float *a = kc_alloc(n * 4, 4), *b = kc_alloc(n * 4, 4);
        for (size_t run = 0; run < 2; run++) {
            double mag = 0, mean = 0, var = 0;
            for (size_t i = 0; i < n; i++) {
                x[i] = kc_normal(c) + 2 * (float)run, w[i] = kc_normal(c), o[i] = kc_normal(c);
                mag += fabs((double)x[i]) / (double)n;
                mean += (double)x[i] / (double)n;
            }
            for (size_t i = 0; i < n; i++) var += pow((double)x[i] - mean, 2) / (double)n;
            double by = 1 / sqrt(var + 1e-5), steps = (double)n / 32 + 12;
            c->ref->layernorm(x, w, run ? o : NULL, n, 1e-5f, a);
            c->k->layernorm(x, w, run ? o : NULL, n, 1e-5f, b);
            /* the mean is off by steps roundings of the mean magnitude, which moves every element
             * and, relative to the deviation, the scale */
            for (size_t i = 0; i < n; i++) {
                double z = fabs(((double)x[i] - mean) * by), shift = steps * eps * mag * by;
                kc_near(c, "layernorm", i, (double)a[i], (double)b[i],
                        fabs((double)w[i]) * (shift * (1 + z) + z * eps * steps +
                                              eps * fabs((double)x[i]) * by) +
                            2 * eps * (fabs((double)a[i]) + fabs((double)o[i])));
            }
            c->k->layernorm(x, w, run ? o : NULL, n, 1e-5f, x);
            kc_equal(c, "in place", b, x, n);
        }
        kc_free(c, x), kc_free(c, w), kc_free(c, o), kc_free(c, a), kc_free(c, b);
    }
}

typedef void rope_fn(float *, size_t, size_t, size_t, const float *);

static void check_rope(struct kcheck *c, const char *name, rope_fn *ref, rope_fn *prev, rope_fn *fn)
{
    if (!kc_cell(c, name, fn != prev)) return;
    for (size_t n_rot = 0; n_rot <= 68; n_rot += 2)
        for (size_t heads = 1; heads <= 3; heads++) {
            size_t dim = n_rot + 3 * (heads - 1), n = dim * heads;
            float *a = kc_alloc(n * 4, 4), *b = kc_alloc(n * 4, 4), *cs = kc_alloc(n_rot * 4, 4);
            double mag = 0;
            for (size_t i = 0; i < n; i++)
                mag = fmax(mag, fabs((double)(a[i] = b[i] = kc_normal(c))));
            for (size_t i = 0; i < n_rot / 2; i++) {
                cs[i] = cosf((float)i);
                cs[n_rot / 2 + i] = sinf((float)i);
            }
            ref(a, heads, dim, n_rot, cs);
            fn(b, heads, dim, n_rot, cs);
            for (size_t i = 0; i < n; i++)
                kc_near(c, name, i, (double)a[i], (double)b[i],
                        i % dim < n_rot ? 4 * eps * mag : 0);
            kc_free(c, a), kc_free(c, b), kc_free(c, cs);
        }
}

void kcheck_vec(struct kcheck *c)
{
    if (!c->prev || c->k->quantize == NULL || strcmp(c->k->level, "ref") == 0) return;
    check_quantize(c);
    check_bf16(c);
    check_argmax(c);
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        if (!kc_cell(c, ops[i].name, fn_at(c->k, ops[i].at) != fn_at(c->prev, ops[i].at))) continue;
        for (size_t l = 0; l < N_LENGTHS; l++)
            for (size_t run = 0; run < 3; run++) check_op(c, &ops[i], length(l), run ? 8.0f : 2.0f);
    }
    check_fused(c, "silu_mul is not mul of silu", c->k->silu, c->k->silu_mul);
    check_fused(c, "gelu_tanh_mul is not mul of gelu_tanh", c->k->gelu_tanh, c->k->gelu_tanh_mul);
    check_rmsnorm(c);
    check_layernorm(c);
    check_rope(c, "rope_pairs", c->ref->rope_pairs, c->prev->rope_pairs, c->k->rope_pairs);
    check_rope(c, "rope_halves", c->ref->rope_halves, c->prev->rope_halves, c->k->rope_halves);
}
