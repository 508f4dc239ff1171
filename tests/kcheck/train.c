/* Kernels of training. What train.h fixes to the bit is compared bit for bit with the reference; the others within
 * bounds computed from the data. The reference itself, at its own level: its gradients along a direction against
 * differences of the functions in long double, written here a second time. */
#include "kcheck.h"
#include <stdlib.h>

static const double eps = (double)FLT_EPSILON / 2;      /* one rounding */

static float *numbers(struct kcheck *c, size_t n, float by)
{
    float *x = kc_alloc(n * sizeof *x, 4);
    for (size_t i = 0; i < n; i++) x[i] = kc_normal(c) * by;
    return x;
}

static float *copy_of(const float *x, size_t n)
{
    float *y = kc_alloc(n * sizeof *y, 4);
    memcpy(y, x, n * sizeof *y);
    return y;
}

/* ---- exact ------------------------------------------------------------------------------------------------- */

static void check_times(struct kcheck *c, size_t panels, size_t k, size_t rows, bool more)
{
    size_t apart = 16 * k + 48, ldx = k + 1, ldy = 16 * panels + 5;
    float *w = kc_alloc((panels * apart + 1) * 4, 64), *x = numbers(c, rows * ldx, 1), *y = numbers(c, rows * ldy, 1);
    float *want = copy_of(y, rows * ldy);
    for (size_t i = 0; i < panels * apart; i++) w[i] = kc_normal(c);
    c->ref->times(w, apart, panels, k, x, ldx, rows, want, ldy, more);
    c->k->times(w, apart, panels, k, x, ldx, rows, y, ldy, more);
    kc_bytes(c, "times", want, y, rows * ldy * 4);
    kc_free(c, w), kc_free(c, x), kc_free(c, y), kc_free(c, want);
}

struct back_size { size_t n, k, from, cols, rows; };

static void check_back(struct kcheck *c, enum dtype t, const struct back_size *s, bool more)
{
    size_t panels = (s->n + 15) / 16, bytes = panel_bytes(t, s->k), ldx = s->cols + 3, ldy = s->n + 2;
    uint8_t *file = kc_alloc(16 * kc_file_bytes(t, s->k), 4), *w = kc_alloc(panels * bytes, 64);
    float *dy = numbers(c, s->rows * ldy, 1), *dx = numbers(c, s->rows * ldx, 1), *want = copy_of(dx, s->rows * ldx);
    for (size_t p = 0; p < panels; p++) {
        kc_weights(c, t, KC_RANDOM, 16, s->k, file);
        panel_pack(t, file, kc_file_bytes(t, s->k), s->n - 16 * p < 16 ? s->n - 16 * p : 16, s->k, w + p * bytes);
    }
    c->ref->linear_back[t](w, s->n, s->k, s->from, s->cols, dy, ldy, s->rows, want, ldx, more);
    c->k->linear_back[t](w, s->n, s->k, s->from, s->cols, dy, ldy, s->rows, dx, ldx, more);
    kc_bytes(c, "dx", want, dx, s->rows * ldx * 4);
    kc_free(c, file), kc_free(c, w), kc_free(c, dy), kc_free(c, dx), kc_free(c, want);
}

/* The reference: the forward kernel with the transposed matrix. */
static void check_back_is_transposed(struct kcheck *c)
{
    enum { N = 40, K = 21, ROWS = 3, PANELS = 3, BACK = 2 };
    float *w = kc_alloc(PANELS * K * 64, 64), *t = kc_alloc(BACK * N * 64, 64), *dy = numbers(c, ROWS * N, 1);
    float dx[ROWS * K], want[ROWS * BACK * 16];
    for (size_t o = 0; o < N; o++)
        for (size_t i = 0; i < K; i++)
            w[(o / 16 * K + i) * 16 + o % 16] = t[(i / 16 * N + o) * 16 + i % 16] = kc_normal(c);
    struct act x = { .f = dy, .ldf = N };
    c->k->linear[DT_F32](t, BACK, N, &x, ROWS, want, BACK * 16);
    c->k->linear_back[DT_F32](w, N, K, 0, K, dy, N, ROWS, dx, K, false);
    for (size_t r = 0; r < ROWS; r++) kc_equal(c, "transposed", want + r * BACK * 16, dx + r * K, K);
    kc_free(c, w), kc_free(c, t), kc_free(c, dy);
}

static void check_grad(struct kcheck *c, size_t n, size_t k, size_t from, size_t cols, size_t rows)
{
    size_t panels = (n + 15) / 16, ldx = k + 1, ldy = n + 3, size = panels * k * 16;
    float *x = numbers(c, rows * ldx, 1), *dy = numbers(c, rows * ldy, 1), *g = numbers(c, size, 1);
    float *want = copy_of(g, size), *cut = copy_of(g, size);
    c->ref->linear_grad(x + from, ldx, cols, dy, ldy, n, rows, want + from * 16, k);
    c->k->linear_grad(x + from, ldx, cols, dy, ldy, n, rows, g + from * 16, k);
    kc_bytes(c, "gradient", want, g, size * 4);
    size_t half = rows / 3;
    c->k->linear_grad(x + from, ldx, cols, dy, ldy, n, half, cut + from * 16, k);
    c->k->linear_grad(x + half * ldx + from, ldx, cols, dy + half * ldy, ldy, n, rows - half, cut + from * 16, k);
    kc_bytes(c, "gradient of rows in two parts", want, cut, size * 4);
    kc_free(c, x), kc_free(c, dy), kc_free(c, g), kc_free(c, want), kc_free(c, cut);
}

/* Groups of these sizes, whose rows lie behind each other in some order. */
static size_t groups_of(struct row_group *group, size_t rows, bool ragged)
{
    static const uint32_t sizes[] = { 32, 7, 1, 32, 30, 2 };
    size_t n = 0, at = 0;
    while (at < rows) {
        uint32_t size = ragged ? sizes[n % 6] : LEARN_ROWS;
        if (size > rows - at) size = (uint32_t)(rows - at);
        group[n++] = (struct row_group){ (uint32_t)at, size };
        at += size;
    }
    for (size_t i = 0; ragged && i + 1 < n; i += 2) {
        struct row_group other = group[i];
        group[i] = group[i + 1], group[i + 1] = other;
    }
    return n;
}

/* Rounded to bf16; denormals are zeros. */
static double brain(float x)
{
    float y = brain_to_float(float_to_brain(fabsf(x) < FLT_MIN ? 0 : x));
    return fabsf(y) < FLT_MIN ? 0 : (double)y;
}

static void check_learn_grad(struct kcheck *c, size_t n, size_t k, size_t from, size_t cols, size_t rows, bool ragged)
{
    size_t panels = (n + 15) / 16, ldx = k + 1, ldy = n + 3, size = panels * k * 16;
    float *x = numbers(c, rows * ldx, 1), *dy = numbers(c, rows * ldy, 1), *g = kc_alloc(size * 4, 64);
    float *cut = kc_alloc(size * 4, 64), *before = numbers(c, size, 1);
    struct row_group *group = kc_alloc((rows + 1) * sizeof *group, 4);
    size_t groups = groups_of(group, rows, ragged), some = groups / 3;
    for (size_t i = 0; i < size; i++) before[i] = i % 16 + i / 16 / k * 16 < n ? before[i] : 0;
    memcpy(g, before, size * 4), memcpy(cut, before, size * 4);
    learn_grad_fn *fn = c->k->learn_grad;
    fn(x + from, ldx, cols, dy, ldy, n, group, groups, g + from * 16, k);
    for (size_t o = 0; o < panels * 16; o++)
        for (size_t i = 0; i < k; i++) {
            size_t at = (o / 16 * k + i) * 16 + o % 16;
            bool own = o < n && i >= from && i < from + cols;
            double sum = (double)before[at], mag = fabs(sum);
            for (size_t r = 0; own && r < rows; r++) {
                double term = brain(x[r * ldx + i]) * brain(dy[r * ldy + o]);
                sum += term, mag += fabs(term);
            }
            kc_near(c, "gradient in bf16", at, sum, (double)g[at],
                    own ? ((double)rows + 18) * 0x1p-23 * mag + (double)rows * 64 * FLT_MIN : 0);
        }
    fn(x + from, ldx, cols, dy, ldy, n, group, some, cut + from * 16, k);
    fn(x + from, ldx, cols, dy, ldy, n, group + some, groups - some, cut + from * 16, k);
    kc_bytes(c, "gradient in bf16 of groups in two parts", g, cut, size * 4);
    memcpy(cut, before, size * 4);
    for (size_t i = 0; i < cols; i += 19)
        fn(x + from + i, ldx, cols - i < 19 ? cols - i : 19, dy, ldy, n, group, groups, cut + (from + i) * 16, k);
    kc_bytes(c, "gradient in bf16 of some inputs at a time", g, cut, size * 4);
    kc_free(c, x), kc_free(c, dy), kc_free(c, g), kc_free(c, cut), kc_free(c, before), kc_free(c, group);
}

static void check_transpose(struct kcheck *c, size_t rows, size_t cols)
{
    size_t ldx = cols + 2, ldo = rows + 3;
    float *x = numbers(c, rows * ldx, 1), *a = kc_alloc(cols * ldo * 4, 4), *b = kc_alloc(cols * ldo * 4, 4);
    c->ref->transpose(x, ldx, rows, cols, a, ldo);
    c->k->transpose(x, ldx, rows, cols, b, ldo);
    kc_bytes(c, "transposed", a, b, cols * ldo * 4);
    kc_free(c, x), kc_free(c, a), kc_free(c, b);
}

static void check_vector_grad(struct kcheck *c, size_t n, size_t rows, bool alone)
{
    float *x = numbers(c, rows * (n + 1), 1), *dy = numbers(c, rows * (n + 2), 1), *a = numbers(c, n, 1);
    float *b = copy_of(a, n);
    c->ref->vector_grad(alone ? NULL : x, n + 1, dy, n + 2, rows, n, a);
    c->k->vector_grad(alone ? NULL : x, n + 1, dy, n + 2, rows, n, b);
    kc_bytes(c, "vector", a, b, n * 4);
    kc_free(c, x), kc_free(c, dy), kc_free(c, a), kc_free(c, b);
}

static void check_square_sum(struct kcheck *c, size_t n)
{
    float *x = numbers(c, n, 1);
    double want = c->ref->square_sum(x, n), got = c->k->square_sum(x, n), sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    kc_bytes(c, "sum of squares", &want, &got, sizeof want);
    kc_near(c, "sum of squares", n, sum, got, sum * DBL_EPSILON * (double)n);
    kc_free(c, x);
}

static void check_adamw(struct kcheck *c, size_t n)
{
    float *x[4], *want[4];
    struct adamw_step s = adamw_step(1e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.7f, 3);
    for (size_t i = 0; i < 4; i++) x[i] = numbers(c, n, 1);
    for (size_t i = 0; i < n; i++) x[2][i] = i % 7 ? x[2][i] * x[2][i] : 0, x[3][i] *= i % 5 ? 1.0f : 1e-20f;
    for (size_t i = 0; i < 4; i++) want[i] = copy_of(x[i], n);
    c->ref->adamw(want[0], want[1], want[2], want[3], n, &s);
    c->k->adamw(x[0], x[1], x[2], x[3], n, &s);
    for (size_t i = 0; i < 4; i++) kc_bytes(c, "adamw", want[i], x[i], n * 4);
    for (size_t i = 0; i < 4; i++) kc_free(c, x[i]), kc_free(c, want[i]);
}

/* The reference: twenty steps against float64. */
static void check_adamw_truth(struct kcheck *c)
{
    float w = 0.7f, m = 0, v = 0, g;
    double w2 = (double)w, m2 = 0, v2 = 0;
    for (uint64_t i = 1; i <= 20; i++) {
        struct adamw_step s = adamw_step(0.01f, 0.9f, 0.999f, 1e-8f, 0.1f, 0.5f, i);
        g = kc_normal(c);
        double d = (double)g * 0.5, lr = (double)0.01f, b1 = (double)0.9f, b2 = (double)0.999f;
        m2 = b1 * m2 + (1 - b1) * d;
        v2 = b2 * v2 + (1 - b2) * d * d;
        w2 -= lr * (double)0.1f * w2;
        w2 -= lr * (m2 / (1 - pow(b1, (double)i))) / (sqrt(v2 / (1 - pow(b2, (double)i))) + (double)1e-8f);
        c->k->adamw(&w, &m, &v, &g, 1, &s);
        kc_near(c, "adamw in float64", i, w2, (double)w, 40 * eps * (double)i);
    }
}

/* ---- bounds ------------------------------------------------------------------------------------------------- */

/* Sums of n terms in four chains of lanes, at least 16 of them together; roundings of what they are made of besides. */
static double sum_error(size_t n, double roundings) { return ((double)n / 16 + 12 + roundings) * eps; }

typedef void norm_fn(const float *, const float *, size_t, float, const float *, float *);

static void check_norm(struct kcheck *c, size_t n, bool layer, bool plain)
{
    const float least = n % 3 ? 1e-5f : 0.5f;
    norm_fn *ref = layer ? c->ref->layernorm_back : c->ref->rmsnorm_back;
    norm_fn *fn = layer ? c->k->layernorm_back : c->k->rmsnorm_back;
    float *x = numbers(c, n, 2), *w = numbers(c, n, 1), *dy = numbers(c, n, 1), *a = kc_alloc(n * 4, 4);
    float *b = kc_alloc(n * 4, 4);
    double mean = 0, size = 0, square = 0, pull = 0, along = 0;
    for (size_t i = 0; i < n; i++) {
        if (layer) x[i] += 1;
        mean += layer ? (double)x[i] / (double)n : 0, size += fabs((double)x[i]) / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        double d = (double)x[i] - mean, p = fabs((double)dy[i] * (plain ? 1 : (double)w[i]));
        square += d * d / (double)n, pull += p / (double)n, along += p * fabs(d) / (double)n;
    }
    double by = 1 / sqrt(square + (double)least), shift = layer ? sum_error(n, 0) * size : 0;
    ref(x, plain ? NULL : w, n, least, dy, a);
    fn(x, plain ? NULL : w, n, least, dy, b);
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)x[i] - mean), p = fabs((double)dy[i] * (plain ? 1 : (double)w[i]));
        double e = sum_error(n, 8);
        double terms = p + (layer ? pull : 0) + (d + shift) * by * by * (along + shift * pull);
        double moved = shift * by * by * (along + d * pull + shift * pull);
        kc_near(c, layer ? "layernorm_back" : "rmsnorm_back", i, (double)a[i], (double)b[i],
                by * (3 * e * terms + moved + terms * shift * by));
    }
    fn(x, plain ? NULL : w, n, least, dy, dy);
    kc_equal(c, "in place", b, dy, n);
    kc_free(c, x), kc_free(c, w), kc_free(c, dy), kc_free(c, a), kc_free(c, b);
}

/* A slope is s (1 + x (1 - s) u'): each of the two factors within a few roundings of its terms' magnitudes; an error
 * of u moves s by that much of s (1 - s). */
static double slope_bound(double x, double u, double slope)
{
    double s = 1 / (1 + exp(-u)), inner = 1 + fabs(x) * slope;
    double moved = 6 * eps * fabs(u);
    return s * inner * (14 * eps + moved) + s * (1 - s) * inner * moved + 1e-37 * inner;
}
static double silu_bound(double x) { return slope_bound(x, x, 1); }
static double gelu_tanh_bound(double x)
{
    double c = fmin(fabs(x), 30), u = 1.5957691216 * (c + 0.044715 * c * c * c);
    return slope_bound(c, x < 0 ? -u : u, 1.5957691216 * (1 + 0.134145 * c * c));
}
static double gelu_erf_bound(double x)
{
    double q = fmin(x * x, 900);
    return eps * (8 + (40 + 4 * q) * exp(-q / 2) * (1 + fabs(x))) + 1e-37;
}

typedef void slope_fn(const float *, const float *, size_t, float *);

static void check_slope(struct kcheck *c, const char *name, slope_fn *ref, slope_fn *fn, double (*bound)(double),
                        size_t n)
{
    float *x = numbers(c, n, 5), *dy = numbers(c, n, 1), *a = kc_alloc(n * 4, 4), *b = kc_alloc(n * 4, 4);
    for (size_t i = 0; i < n; i += 11) x[i] *= 20;
    ref(x, dy, n, a);
    fn(x, dy, n, b);
    for (size_t i = 0; i < n; i++) {
        float one;
        kc_near(c, name, i, (double)a[i], (double)b[i],
                fabs((double)dy[i]) * bound((double)x[i]) + 2 * eps * fabs((double)a[i]));
        fn(x + i, dy + i, 1, &one);
        if (!kc_same(one, b[i])) kc_fail(c, "%s: element %zu depends on its neighbours", name, i);
    }
    fn(x, dy, n, dy);
    kc_equal(c, "in place", b, dy, n);
    kc_free(c, x), kc_free(c, dy), kc_free(c, a), kc_free(c, b);
}

typedef void mul_back_fn(const float *, const float *, const float *, size_t, float *, float *, float *);
typedef void act_fn(const float *, size_t, float *);

/* The bits of the kernels one by one, with and without y. */
static void check_mul_back(struct kcheck *c, mul_back_fn *fn, act_fn *act, slope_fn *slope, size_t n)
{
    float *gate = numbers(c, n, 5), *up = numbers(c, n, 1), *dy = numbers(c, n, 1), *a = kc_alloc(n * 4, 4);
    float *want[3], *got[3];
    for (size_t i = 0; i < 3; i++) want[i] = kc_alloc(n * 4, 4), got[i] = kc_alloc(n * 4, 4);
    for (size_t i = 0; i < n; i += 11) gate[i] *= 20;
    act(gate, n, a);
    c->k->mul(a, up, n, want[0]);
    c->k->mul(dy, up, n, want[1]);
    slope(gate, want[1], n, want[1]);
    c->k->mul(dy, a, n, want[2]);
    fn(gate, up, dy, n, got[0], got[1], got[2]);
    for (size_t i = 0; i < 3; i++) kc_equal(c, "act * up backwards", want[i], got[i], n);
    memset(got[1], 0, n * 4), memset(got[2], 0, n * 4);
    fn(gate, up, dy, n, NULL, got[1], got[2]);
    for (size_t i = 1; i < 3; i++) kc_equal(c, "act * up backwards without it", want[i], got[i], n);
    kc_free(c, gate), kc_free(c, up), kc_free(c, dy), kc_free(c, a);
    for (size_t i = 0; i < 3; i++) kc_free(c, want[i]), kc_free(c, got[i]);
}

static void check_softcap(struct kcheck *c, size_t n)
{
    float *y = numbers(c, n, 1), *dy = numbers(c, n, 1), *a = kc_alloc(n * 4, 4), *b = kc_alloc(n * 4, 4);
    for (size_t i = 0; i < n; i++) y[i] = fmaxf(-7, fminf(7, y[i] * 4));
    c->ref->softcap_back(y, 7, dy, n, a);
    c->k->softcap_back(y, 7, dy, n, b);
    for (size_t i = 0; i < n; i++)
        kc_near(c, "softcap_back", i, (double)a[i], (double)b[i], fabs((double)dy[i]) * 5 * eps);
    kc_free(c, y), kc_free(c, dy), kc_free(c, a), kc_free(c, b);
}

static void check_dots(struct kcheck *c, size_t dim)
{
    float *a = numbers(c, 3 * dim, 1), *b = numbers(c, 3 * dim, 1), x[3], y[3];
    c->ref->dots(a, b, 3, dim, x);
    c->k->dots(a, b, 3, dim, y);
    for (size_t h = 0; h < 3; h++) {
        double all = 0;
        for (size_t i = h * dim; i < (h + 1) * dim; i++) all += fabs((double)a[i] * (double)b[i]);
        kc_near(c, "dots", h, (double)x[h], (double)y[h], sum_error(dim, 1) * all);
    }
    kc_free(c, a), kc_free(c, b);
}

/* ---- attention: one row ----------------------------------------------------------------------------------- */

/* A score is off by a few roundings of itself, capped or not, and so, relatively, is its exponent. */
static double exponent_error(const struct see_row *row, float s)
{
    double x = fabs((double)row->scale * (double)s);
    return ((row->softcap > 0 ? 8 * fmin(x, (double)row->softcap) + 4 : 2 * x) + 8) * eps;
}

static void check_see_softmax(struct kcheck *c, const struct see_row *row)
{
    size_t room = (row->n + 15) / 16 * 16;
    float *s = numbers(c, room, 4), *a = copy_of(s, room), *b = copy_of(s, room), max[2], sum[2];
    double most = 0;
    for (size_t j = 0; j < row->n; j++) most = fmax(most, exponent_error(row, s[j]));
    sum[0] = c->ref->see_softmax(a, row, &max[0]), sum[1] = c->k->see_softmax(b, row, &max[1]);
    kc_near(c, "largest score", 0, (double)max[0], (double)max[1], most);
    kc_near(c, "sum", 0, (double)sum[0], (double)sum[1], (2 * most + sum_error(row->n, 8)) * (double)sum[0]);
    for (size_t j = 0; j < row->n; j++)
        kc_near(c, "share", j, (double)a[j], (double)b[j],
                (double)a[j] * (most + exponent_error(row, s[j]) + 8 * eps) + 0x1p-126);
    kc_free(c, s), kc_free(c, a), kc_free(c, b);
}

static void check_see_back(struct kcheck *c, const struct see_row *row, bool each)
{
    size_t n = row->n, room = (n + 15) / 16 * 16;
    float *s = numbers(c, room, 2), *g = numbers(c, room, 1), *lse = numbers(c, n, 1), *d = numbers(c, n, 1);
    float *a = copy_of(s, room), *b = copy_of(s, room), *ga = copy_of(g, room), *gb = copy_of(g, room);
    for (size_t j = 0; j < n; j++) lse[j] += 9;
    c->ref->see_back(a, ga, lse, d, each, row);
    c->k->see_back(b, gb, lse, d, each, row);
    for (size_t j = 0; j < n; j++) {
        double e = exponent_error(row, s[j]) + 2 * eps * fabs((double)lse[each ? j : 0]);
        double t = row->softcap > 0 ? tanh((double)row->scale * (double)s[j] / (double)row->softcap) : 0;
        double pull = (double)a[j] * (double)row->scale * (fabs((double)g[j]) + fabs((double)d[each ? j : 0]));
        kc_near(c, "probability", j, (double)a[j], (double)b[j], (double)a[j] * e + 0x1p-126);
        kc_near(c, "gradient of a score", j, (double)ga[j], (double)gb[j],
                pull * ((e + 6 * eps) * (1 - t * t) + (row->softcap > 0 ? 12 * eps : 0)) + 0x1p-126);
    }
    kc_free(c, s), kc_free(c, g), kc_free(c, lse), kc_free(c, d);
    kc_free(c, a), kc_free(c, b), kc_free(c, ga), kc_free(c, gb);
}

static void check_see_row(struct kcheck *c, size_t n, int which)
{
    for (int cap = 0; cap < 2; cap++)
        for (size_t lo = 0; lo < 2 * n; lo += 1 + n / 3) {
            size_t from = lo % n, to = lo < n ? n : from + (n - from) / 2;
            struct see_row row = { from, to, n, 0.3f, cap ? 3.0f : 0 };
            if (which == 0) check_see_softmax(c, &row);
            else check_see_back(c, &row, lo % 2);
        }
}

/* ---- loss ---------------------------------------------------------------------------------------------------- */

struct teacher { int32_t top[40]; float prob[40]; struct loss_target t; };

static void teacher_of(struct kcheck *c, struct teacher *q, size_t n, uint32_t n_top, bool tail)
{
    float sum = 0;
    for (uint32_t i = 0; i < n_top; i++) {
        bool taken = true;
        while (taken) {
            q->top[i] = (int32_t)(kc_u32(c) % n);
            taken = false;
            for (uint32_t j = 0; j < i; j++) taken = taken || q->top[j] == q->top[i];
        }
        sum += q->prob[i] = i % 5 == 4 ? 0 : fabsf(kc_unit(c));
    }
    for (uint32_t i = 0; i < n_top && sum > 0; i++) q->prob[i] *= tail ? 0.8f / sum : 1 / sum;
    q->t = (struct loss_target){ 0.3f, (int32_t)(kc_u32(c) % n), n_top, q->top, q->prob, tail ? 0.2f : 0 };
}

/* Exponents' errors are of a few roundings and of those of their argument, of at most `far`; sums are of pieces. Beside
 * the largest logit an exponent has steps of 2^-149, which what a tail spreads makes larger by sum / rest. */
static void check_loss(struct kcheck *c, size_t n, uint32_t n_top, bool tail, float cap)
{
    struct teacher q;
    float *x = numbers(c, n, 3), *a = kc_alloc(n * 4, 4), *b = kc_alloc(n * 4, 4);
    double far = 0, rest = 0, sum = 0;
    teacher_of(c, &q, n, n_top, tail);
    memcpy(a, x, n * 4), memcpy(b, x, n * 4);
    float want = c->ref->loss_row(a, n, cap, &q.t), got = c->k->loss_row(b, n, cap, &q.t);
    for (size_t i = 0; i < n; i++) far = fmax(far, fabs((double)x[i]));
    if (cap > 0) far = fmin(far, (double)cap);
    for (size_t i = 0; i < n; i++) {
        double y = cap > 0 ? (double)cap * tanh((double)x[i] / (double)cap) : (double)x[i];
        bool named = false;
        for (uint32_t j = 0; j < n_top; j++) named = named || (size_t)q.top[j] == i;
        sum += exp(y), rest += named ? 0 : exp(y);
    }
    double e = (2 * far * 4 + 40) * eps;
    kc_near(c, "loss", n, (double)want, (double)got, 3 * e + 2 * eps * fabs((double)want));
    for (size_t i = 0; i < n; i++) {
        double y = cap > 0 ? (double)cap * tanh((double)x[i] / (double)cap) : (double)x[i], p = exp(y) / sum;
        double pulled = tail ? p * (1 + 0.2 * sum / rest) : p, slope = cap > 0 ? 8 * eps : 0;
        double least = tail ? 0.2 * 0x1p-148 * sum / rest : 0;
        kc_near(c, "gradient of the loss", i, (double)a[i], (double)b[i],
                0.3 * (3 * e * pulled + slope * (pulled + 1) + least) + 4 * eps * fabs((double)a[i]) + 1e-38);
    }
    kc_free(c, x), kc_free(c, a), kc_free(c, b);
}

static void check_loss_bad(struct kcheck *c)
{
    float x[50], bad[] = { NAN, INFINITY, -INFINITY };
    for (size_t i = 0; i < 5; i++) {
        struct loss_target t = { .weight = 1, .token = i == 3 ? 50 : i == 4 ? -1 : 7 };
        for (size_t j = 0; j < 50; j++) x[j] = kc_normal(c);
        if (i < 3) x[kc_u32(c) % 50] = bad[i];
        float loss = c->k->loss_row(x, 50, 0, &t);
        c->checks++;
        if (!isnan(loss) || !isnan(x[0]) || !isnan(x[49])) kc_fail(c, "case %zu: a loss of no number was lost", i);
    }
}

/* ---- the reference: differences along a direction ----------------------------------------------------------- */

enum { TRUTH_N = 37 };
typedef long double truth_fn(const long double *x, const void *ud);

/* The slope of f at x along d, by a difference of the fourth order; h^4 and the roundings of long double are below
 * 1e-12 of the function's size. */
static double along(truth_fn *f, const void *ud, const float *x, const float *d, size_t n)
{
    static const long double step[4] = { -2, -1, 1, 2 }, factor[4] = { 1, -8, 8, -1 }, h = 1e-3L;
    long double at[4 * TRUTH_N], sum = 0;
    for (size_t s = 0; s < 4; s++) {
        for (size_t i = 0; i < n; i++) at[i] = (long double)x[i] + step[s] * h * (long double)d[i];
        sum += factor[s] * f(at, ud);
    }
    return (double)(sum / (12 * h));
}

struct truth { const float *dy, *w; int kind; const struct loss_target *t; long double cap; };

static long double truth_act(const long double *x, const void *ud)
{
    const struct truth *u = ud;
    long double sum = 0;
    for (size_t i = 0; i < TRUTH_N; i++) {
        long double v = x[i], y = 0;
        if (u->kind == 0) y = v / (1 + expl(-v));
        if (u->kind == 1) y = v / 2 * (1 + tanhl(0.797884560802865355879892L * (v + 0.044715L * v * v * v)));
        if (u->kind == 2) y = v / 2 * (1 + erfl(v / 1.41421356237309504880169L));
        sum += (long double)u->dy[i] * y;
    }
    return sum;
}

static long double truth_norm(const long double *x, const void *ud)
{
    const struct truth *u = ud;
    long double mean = 0, square = 0, sum = 0;
    for (size_t i = 0; i < TRUTH_N && u->kind; i++) mean += x[i] / TRUTH_N;
    for (size_t i = 0; i < TRUTH_N; i++) square += (x[i] - mean) * (x[i] - mean) / TRUTH_N;
    for (size_t i = 0; i < TRUTH_N; i++)
        sum += (long double)u->dy[i] * (long double)u->w[i] * (x[i] - mean) / sqrtl(square + (long double)1e-5f);
    return sum;
}

static long double truth_loss(const long double *x, const void *ud)
{
    const struct truth *u = ud;
    long double y[TRUTH_N], sum = 0, loss = 0, rest = 0;
    for (size_t i = 0; i < TRUTH_N; i++) sum += expl(y[i] = u->cap > 0 ? u->cap * tanhl(x[i] / u->cap) : x[i]);
    if (!u->t->n_top) return logl(sum) - y[u->t->token];
    rest = sum;
    for (size_t i = 0; i < u->t->n_top; i++) {
        long double q = (long double)u->t->prob[i], v = y[u->t->top[i]];
        rest -= expl(v);
        if (q > 0) loss += q * (logl(q) - v + logl(sum));
    }
    if (u->t->tail > 0) loss += (long double)u->t->tail * (logl((long double)u->t->tail) - logl(rest / sum));
    return loss;
}

static void compare_along(struct kcheck *c, const char *name, truth_fn *f, const void *ud, const float *x,
                          const float *gradient, size_t n, double by)
{
    float d[2 * TRUTH_N];
    double sum = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        d[i] = kc_unit(c);
        sum += (double)gradient[i] * (double)d[i];
        size += fabs((double)gradient[i] * (double)d[i]);
    }
    kc_near(c, name, n, by * along(f, ud, x, d, n), sum, 2 * eps * size + 1e-8);
}

static void check_truth(struct kcheck *c)
{
    const struct kernels *k = c->k;
    slope_fn *const acts[] = { k->silu_back, k->gelu_tanh_back, k->gelu_erf_back };
    norm_fn *const norms[] = { k->rmsnorm_back, k->layernorm_back };
    float x[2 * TRUTH_N], dy[TRUTH_N], w[TRUTH_N], dx[2 * TRUTH_N];
    for (int round = 0; round < 4; round++) {
        for (size_t i = 0; i < TRUTH_N; i++)
            x[i] = 2 * kc_normal(c), x[TRUTH_N + i] = kc_normal(c), dy[i] = kc_normal(c), w[i] = kc_normal(c);
        for (int i = 0; i < 3; i++) {
            acts[i](x, dy, TRUTH_N, dx);
            compare_along(c, "activation", truth_act, &(struct truth){ dy, w, i, NULL, 0 }, x, dx, TRUTH_N, 1);
        }
        for (int i = 0; i < 2; i++) {
            norms[i](x, w, TRUTH_N, 1e-5f, dy, dx);
            compare_along(c, "norm", truth_norm, &(struct truth){ dy, w, i, NULL, 0 }, x, dx, TRUTH_N, 1);
        }
        for (uint32_t n_top = 0; n_top < 12; n_top += 5)
            for (int cap = 0; cap < 2; cap++) {
                struct teacher q;
                teacher_of(c, &q, TRUTH_N, n_top, round % 2);
                struct truth u = { dy, w, 0, &q.t, cap ? 4 : 0 };
                memcpy(dx, x, sizeof dx);
                float loss = k->loss_row(dx, TRUTH_N, cap ? 4 : 0, &q.t);
                long double at[TRUTH_N];
                for (size_t i = 0; i < TRUTH_N; i++) at[i] = (long double)x[i];
                kc_near(c, "loss in long double", n_top, (double)truth_loss(at, &u), (double)loss, 1e-5);
                compare_along(c, "loss", truth_loss, &u, x, dx, TRUTH_N, (double)q.t.weight);
            }
    }
}

/* ---- the cells ----------------------------------------------------------------------------------------------- */

static void kcheck_train_exact(struct kcheck *c)
{
    static const struct back_size backs[] = { { 1, 1, 0, 1, 1 },   { 16, 16, 0, 16, 4 },  { 40, 70, 3, 66, 9 },
                                              { 99, 33, 1, 17, 5 }, { 210, 130, 0, 130, 21 }, { 5, 64, 0, 64, 40 } };
    static const size_t grads[][5] = { { 1, 1, 0, 1, 1 },      { 16, 12, 0, 12, 8 },    { 33, 20, 3, 15, 129 },
                                       { 64, 250, 0, 250, 140 }, { 90, 31, 1, 30, 300 }, { 32, 17, 0, 17, 0 },
                                       { 7, 40, 0, 40, 64 },    { 16, 30, 2, 27, 200 }, { 48, 13, 0, 13, 50 },
                                       { 100, 16, 0, 16, 200 } };
    const struct kernels *k = c->k, *p = c->prev;
    if (kc_cell(c, "times", k->times != p->times))
        for (size_t rows = 1; rows < 60; rows += 1 + rows / 3)
            for (size_t panels = 0; panels < 12; panels++)
                check_times(c, panels, 3 * rows % 23 + panels, rows, panels % 2);
    for (size_t t = 0; t < DT_COUNT; t++)
        if (k->linear_back[t] && kc_cell(c, "linear_back", k->linear_back[t] != p->linear_back[t]))
            for (size_t i = 0; i < 2 * sizeof backs / sizeof *backs; i++)
                check_back(c, (enum dtype)t, &backs[i / 2], i % 2);
    if (kc_cell(c, "linear_grad", k->linear_grad != p->linear_grad))
        for (size_t i = 0; i < sizeof grads / sizeof *grads; i++)
            check_grad(c, grads[i][0], grads[i][1], grads[i][2], grads[i][3], grads[i][4]);
    if (k->learn_grad && kc_cell(c, "learn_grad", k->learn_grad != p->learn_grad))
        for (size_t i = 0; i < 2 * sizeof grads / sizeof *grads; i++) {
            const size_t *of = grads[i / 2];
            check_learn_grad(c, of[0], of[1], of[2], of[3], of[4], i % 2);
        }
    if (kc_cell(c, "transpose", k->transpose != p->transpose))
        for (size_t n = 1; n < 40; n++) check_transpose(c, n, 1 + n * 7 % 41);
    if (kc_cell(c, "vector_grad", k->vector_grad != p->vector_grad))
        for (size_t n = 1; n < 70; n++) check_vector_grad(c, n, n % 9, n % 2);
    if (kc_cell(c, "square_sum", k->square_sum != p->square_sum))
        for (size_t n = 0; n < 100; n++) check_square_sum(c, n);
    if (kc_cell(c, "adamw", k->adamw != p->adamw))
        for (size_t n = 0; n < 70; n++) check_adamw(c, n);
}

#define SLOPE(name)                                                                                  \
    if (kc_cell(c, #name "_back", k->name##_back != p->name##_back))                                 \
        for (size_t n = 1; n < 500; n += 1 + n / 8)                                                  \
            check_slope(c, #name, c->ref->name##_back, k->name##_back, name##_bound, n)

void kcheck_train(struct kcheck *c)
{
    const struct kernels *k = c->k, *p = c->prev;
    if (strcmp(k->level, "ref") == 0) {
        if (kc_cell(c, "training", true)) check_truth(c), check_adamw_truth(c), check_back_is_transposed(c);
        return;
    }
    kcheck_train_exact(c);
    if (kc_cell(c, "rmsnorm_back", k->rmsnorm_back != p->rmsnorm_back))
        for (size_t n = 1; n < 1100; n += 1 + n / 8) check_norm(c, n, false, n % 2);
    if (kc_cell(c, "layernorm_back", k->layernorm_back != p->layernorm_back))
        for (size_t n = 1; n < 1100; n += 1 + n / 8) check_norm(c, n, true, n % 2);
    SLOPE(silu);
    SLOPE(gelu_tanh);
    SLOPE(gelu_erf);
    if (kc_cell(c, "silu_mul_back", k->silu_mul_back != p->silu_mul_back))
        for (size_t n = 1; n < 100; n++) check_mul_back(c, k->silu_mul_back, k->silu, k->silu_back, n);
    if (kc_cell(c, "gelu_tanh_mul_back", k->gelu_tanh_mul_back != p->gelu_tanh_mul_back))
        for (size_t n = 1; n < 100; n++) check_mul_back(c, k->gelu_tanh_mul_back, k->gelu_tanh, k->gelu_tanh_back, n);
    if (kc_cell(c, "softcap_back", k->softcap_back != p->softcap_back))
        for (size_t n = 1; n < 100; n++) check_softcap(c, n);
    if (kc_cell(c, "dots", k->dots != p->dots))
        for (size_t n = 1; n < 300; n += 1 + n / 8) check_dots(c, n);
    if (kc_cell(c, "see_softmax", k->see_softmax != p->see_softmax))
        for (size_t n = 1; n < 200; n += 1 + n / 8) check_see_row(c, n, 0);
    if (kc_cell(c, "see_back", k->see_back != p->see_back))
        for (size_t n = 1; n < 200; n += 1 + n / 8) check_see_row(c, n, 1);
    if (!kc_cell(c, "loss_row", k->loss_row != p->loss_row)) return;
    for (size_t n = 45; n < 5000; n += n / 2)
        for (uint32_t n_top = 0; n_top <= 40; n_top += 10)
            for (int tail = 0; tail < 2; tail++) check_loss(c, n, n_top, tail && n_top, n % 2 ? 0 : 6);
    check_loss(c, 1, 0, false, 0);
    check_loss_bad(c);
}
