/* Kernels of training: sums and functions in double, one rounding at the end, except where train.h gives the
 * arithmetic. */
#include "kernels/ref/ref.h"
#include "kernels/scalar.h"

/* ---- linear layers --------------------------------------------------------------------------------------- */

static float weight_of(enum dtype t, const uint8_t *panel, size_t k, size_t c)
{
    const uint16_t *h = (const uint16_t *)(const void *)panel;
    if (t == DT_F32) return ((const float *)(const void *)panel)[k * PANEL_COLS + c];
    if (t == DT_F16) return half_to_float(h[k * PANEL_COLS + c]);
    return brain_to_float(h[(k / 2 * PANEL_COLS + c) * 2 + k % 2]);
}

static void times_ref(const float *panels, size_t apart, size_t n_panels, size_t k, const float *x, size_t ldx,
                      size_t rows, float *y, size_t ldy, bool more)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < n_panels * PANEL_COLS; c++) {
            const float *column = panels + c / PANEL_COLS * apart + c % PANEL_COLS;
            float sum = more ? y[r * ldy + c] : 0;
            for (size_t i = 0; i < k; i++) sum = fmaf(column[i * PANEL_COLS], x[r * ldx + i], sum);
            y[r * ldy + c] = sum;
        }
}

static void linear_back(enum dtype t, const uint8_t *panels, size_t n, size_t k, size_t from, size_t cols,
                        const float *dy, size_t lddy, size_t rows, float *dx, size_t lddx, bool more)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < cols; i++) {
            float sum = more ? dx[r * lddx + i] : 0;
            for (size_t o = 0; o < n; o++) {
                const uint8_t *panel = panels + o / PANEL_COLS * panel_bytes(t, k);
                sum = fmaf(weight_of(t, panel, from + i, o % PANEL_COLS), dy[r * lddy + o], sum);
            }
            dx[r * lddx + i] = sum;
        }
}

#define BACK(T)                                                                                                  \
    static void linear_back_##T##_ref(const void *panels, size_t n, size_t k, size_t from, size_t cols,          \
                                      const float *dy, size_t lddy, size_t rows, float *dx, size_t lddx,         \
                                      bool more)                                                                 \
    {                                                                                                            \
        linear_back(DT_##T, panels, n, k, from, cols, dy, lddy, rows, dx, lddx, more);                           \
    }
BACK(F32)
BACK(F16)
BACK(BF16)

static void linear_grad_ref(const float *x, size_t ldx, size_t cols, const float *dy, size_t lddy, size_t n,
                            size_t rows, float *g, size_t k)
{
    for (size_t o = 0; o < n; o++)
        for (size_t i = 0; i < cols; i++) {
            float *at = g + (o / PANEL_COLS * k + i) * PANEL_COLS + o % PANEL_COLS;
            for (size_t r = 0; r < rows; r++) *at = fmaf(x[r * ldx + i], dy[r * lddy + o], *at);
        }
}

static void transpose_ref(const float *x, size_t ldx, size_t rows, size_t cols, float *out, size_t ldo)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) out[c * ldo + r] = x[r * ldx + c];
}

static void vector_grad_ref(const float *x, size_t ldx, const float *dy, size_t lddy, size_t rows, size_t n, float *dw)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i++) {
            float d = dy[r * lddy + i];
            dw[i] = x ? fmaf(x[r * ldx + i], d, dw[i]) : dw[i] + d;
        }
}

/* ---- norms ----------------------------------------------------------------------------------------------- */

static double weighted(const float *w, const float *dy, size_t i) { return (w ? (double)w[i] : 1.0) * (double)dy[i]; }

static void rmsnorm_back_ref(const float *x, const float *w, size_t n, float eps, const float *dy, float *dx)
{
    double square = 0, along = 0;
    for (size_t i = 0; i < n; i++) square += (double)x[i] * (double)x[i], along += weighted(w, dy, i) * (double)x[i];
    double by = 1 / sqrt(square / (double)n + (double)eps), part = along * by * by / (double)n;
    for (size_t i = 0; i < n; i++) dx[i] = (float)(by * (weighted(w, dy, i) - (double)x[i] * part));
}

static void layernorm_back_ref(const float *x, const float *w, size_t n, float eps, const float *dy, float *dx)
{
    double mean = 0, square = 0, all = 0, along = 0;
    for (size_t i = 0; i < n; i++) mean += (double)x[i] / (double)n;
    for (size_t i = 0; i < n; i++) square += ((double)x[i] - mean) * ((double)x[i] - mean);
    double by = 1 / sqrt(square / (double)n + (double)eps);
    for (size_t i = 0; i < n; i++) {
        all += weighted(w, dy, i) / (double)n;
        along += weighted(w, dy, i) * ((double)x[i] - mean) * by / (double)n;
    }
    for (size_t i = 0; i < n; i++)
        dx[i] = (float)(by * (weighted(w, dy, i) - all - ((double)x[i] - mean) * by * along));
}

/* ---- activations ----------------------------------------------------------------------------------------- */

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double silu_slope(double x) { return sigmoid(x) * (1 + x * sigmoid(-x)); }

/* x s(2u): s + x s (1 - s) 2u', u = sqrt(2 / pi) (x + 0.044715 x^3) */
static double gelu_tanh_slope(double x)
{
    double u2 = 1.59576912160573071176 * (x + 0.044715 * x * x * x);
    double slope = 1.59576912160573071176 * (1 + 3 * 0.044715 * x * x);
    if (fabs(x) > 30) return x > 0;
    return sigmoid(u2) * (1 + x * sigmoid(-u2) * slope);
}

static double gelu_erf_slope(double x)
{
    return 0.5 * erfc(-x * 0.70710678118654752440) + x * 0.39894228040143267794 * exp(-x * x / 2);
}

#define SLOPE(NAME)                                                                                  \
    static void NAME##_back_ref(const float *x, const float *dy, size_t n, float *dx)                \
    {                                                                                                \
        for (size_t i = 0; i < n; i++) dx[i] = (float)((double)dy[i] * NAME##_slope((double)x[i]));  \
    }
SLOPE(silu)
SLOPE(gelu_tanh)
SLOPE(gelu_erf)

#define MUL_BACK(NAME, ACT)                                                                                        \
    static void NAME##_mul_back_ref(const float *gate, const float *up, const float *dy, size_t n, float *y,       \
                                    float *dgate, float *dup)                                                      \
    {                                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                                           \
            float a = ACT(gate[i]), d = dy[i] * up[i];                                                             \
            if (y) y[i] = a * up[i];                                                                               \
            dup[i] = dy[i] * a;                                                                                    \
            NAME##_back_ref(&gate[i], &d, 1, &dgate[i]);                                                           \
        }                                                                                                          \
    }
MUL_BACK(silu, act_silu_ref)
MUL_BACK(gelu_tanh, act_gelu_tanh_ref)

static void softcap_back_ref(const float *y, float cap, const float *dy, size_t n, float *dx)
{
    for (size_t i = 0; i < n; i++) {
        double t = (double)y[i] / (double)cap;
        dx[i] = (float)((double)dy[i] * (1 - t * t));
    }
}

/* ---- attention ------------------------------------------------------------------------------------------- */

static double score_of(const struct see_row *row, float s)
{
    double x = (double)row->scale * (double)s;
    return row->softcap > 0 ? (double)row->softcap * tanh(x / (double)row->softcap) : x;
}

static bool seen(const struct see_row *row, size_t j) { return j >= row->lo && j < row->hi; }

static float see_softmax_ref(float *s, const struct see_row *row, float *max)
{
    double most = -INFINITY, sum = 0;
    for (size_t j = row->lo; j < row->hi; j++)
        if (score_of(row, s[j]) > most) most = score_of(row, s[j]);
    *max = (float)most;
    for (size_t j = 0; j < row->n; j++) {
        double e = seen(row, j) ? exp(score_of(row, s[j]) - (double)*max) : 0;
        sum += e;
        s[j] = (float)e;
    }
    return (float)sum;
}

static void see_back_ref(float *s, float *dp, const float *lse, const float *d, bool each, const struct see_row *row)
{
    for (size_t j = 0; j < row->n; j++) {
        if (!seen(row, j)) {
            s[j] = dp[j] = 0;
            continue;
        }
        double score = score_of(row, s[j]), t = row->softcap > 0 ? score / (double)row->softcap : 0;
        double p = exp(score - (double)lse[each ? j : 0]);
        s[j] = (float)p;
        dp[j] = (float)((double)row->scale * p * ((double)dp[j] - (double)d[each ? j : 0]) * (1 - t * t));
    }
}

static void dots_ref(const float *a, const float *b, size_t heads, size_t head_dim, float *out)
{
    for (size_t h = 0; h < heads; h++) {
        double sum = 0;
        for (size_t i = h * head_dim; i < (h + 1) * head_dim; i++) sum += (double)a[i] * (double)b[i];
        out[h] = (float)sum;
    }
}

/* ---- loss ------------------------------------------------------------------------------------------------ */

static bool loss_has(const float *logits, size_t n, const struct loss_target *t)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(logits[i])) return false;
    if (t->n_top > LOSS_TOP) return false;
    if (!t->n_top) return t->token >= 0 && (size_t)t->token < n;
    for (size_t i = 0; i < t->n_top; i++)
        if (t->top[i] < 0 || (size_t)t->top[i] >= n) return false;
    return true;
}

static bool is_named(const struct loss_target *t, size_t id)
{
    for (size_t i = 0; i < t->n_top; i++)
        if ((size_t)t->top[i] == id) return true;
    return false;
}

/* With q of the named, T the student's probability of the others, t the teacher's: the loss is
 * sum q log(q / p) + t log(t / T), its gradient (sum q + t) p - q for those, (sum q + t) p - t p / T for the others. */
static float loss_row_ref(float *logits, size_t n, float cap, const struct loss_target *t)
{
    double max = -INFINITY, sum = 0, rest = 0, all = t->n_top ? (double)t->tail : 1;
    if (!loss_has(logits, n, t)) {
        for (size_t i = 0; i < n; i++) logits[i] = NAN;
        return NAN;
    }
    for (size_t i = 0; i < n && cap > 0; i++) logits[i] = (float)((double)cap * tanh((double)logits[i] / (double)cap));
    for (size_t i = 0; i < n; i++)
        if ((double)logits[i] > max) max = (double)logits[i];
    for (size_t i = 0; i < n; i++) {
        double e = exp((double)logits[i] - max);
        sum += e;
        if (t->n_top && !is_named(t, i)) rest += e;
    }
    rest = fmax(rest, LOSS_LEAST * sum);
    double lse = max + log(sum), loss = 0, tail = t->n_top ? (double)t->tail : 0;
    if (!t->n_top) loss = lse - (double)logits[t->token];
    for (size_t i = 0; i < t->n_top; i++) {
        double q = (double)t->prob[i];
        all += q;
        if (q > 0) loss += q * (log(q) - ((double)logits[t->top[i]] - lse));
    }
    if (tail > 0) loss += tail * (log(tail) - (log(rest) - log(sum)));
    for (size_t i = 0; i < n; i++) {
        double p = exp((double)logits[i] - lse), q = 0, y = cap > 0 ? (double)logits[i] / (double)cap : 0;
        if (!t->n_top) q = i == (size_t)t->token;
        else if (!is_named(t, i)) q = tail > 0 ? tail * p * sum / rest : 0;
        for (size_t j = 0; j < t->n_top; j++)
            if ((size_t)t->top[j] == i) q = (double)t->prob[j];
        logits[i] = (float)((double)t->weight * (all * p - q) * (1 - y * y));
    }
    return (float)loss;
}

/* ---- optimizer ------------------------------------------------------------------------------------------- */

static double square_sum_ref(const float *x, size_t n)
{
    double lane[16] = { 0 };
    for (size_t i = 0; i < n; i++) lane[i % 16] = fma((double)x[i], (double)x[i], lane[i % 16]);
    for (size_t half = 8; half; half /= 2)
        for (size_t i = 0; i < half; i++) lane[i] += lane[i + half];
    return lane[0];
}

struct adamw_step adamw_step(float lr, float beta1, float beta2, float eps, float decay, float scale, uint64_t step)
{
    return (struct adamw_step){ .lr = lr, .beta1 = beta1, .beta2 = beta2, .eps = eps, .decay = decay, .scale = scale,
                                .fix1 = (float)(1 / (1 - pow((double)beta1, (double)step))),
                                .fix2 = (float)(1 / (1 - pow((double)beta2, (double)step))) };
}

static void adamw_ref(float *w, float *m, float *v, const float *g, size_t n, const struct adamw_step *s)
{
    for (size_t i = 0; i < n; i++) {
        float d = g[i] * s->scale;
        m[i] = fmaf(s->beta1, m[i], (1 - s->beta1) * d);
        v[i] = fmaf(s->beta2, v[i], (1 - s->beta2) * (d * d));
        w[i] = fmaf(-s->lr * s->decay, w[i], w[i]);
        w[i] = fmaf(-s->lr, m[i] * s->fix1 / (sqrtf(v[i] * s->fix2) + s->eps), w[i]);
    }
}

void train_init_ref(struct kernels *k)
{
    k->times = times_ref;
    k->linear_back[DT_F32] = linear_back_F32_ref;
    k->linear_back[DT_F16] = linear_back_F16_ref;
    k->linear_back[DT_BF16] = linear_back_BF16_ref;
    k->linear_grad = linear_grad_ref;
    k->transpose = transpose_ref;
    k->vector_grad = vector_grad_ref;
    k->rmsnorm_back = rmsnorm_back_ref;
    k->layernorm_back = layernorm_back_ref;
    k->silu_back = silu_back_ref;
    k->gelu_tanh_back = gelu_tanh_back_ref;
    k->gelu_erf_back = gelu_erf_back_ref;
    k->silu_mul_back = silu_mul_back_ref;
    k->gelu_tanh_mul_back = gelu_tanh_mul_back_ref;
    k->softcap_back = softcap_back_ref;
    k->see_softmax = see_softmax_ref;
    k->see_back = see_back_ref;
    k->dots = dots_ref;
    k->loss_row = loss_row_ref;
    k->square_sum = square_sum_ref;
    k->adamw = adamw_ref;
}
