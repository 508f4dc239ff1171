/* Elementwise and reducing kernels on one row. Sums and functions in double, one rounding at the
 * end, except where kernels.h gives the arithmetic (quantize, to_bf16, add, mul, scale). */
#include "kernels/code_sums.h"
#include "kernels/ref/ref.h"
#include "kernels/scalar.h"

int quantize_group_ref(const float *x, size_t n, int8_t *q, float *d)
{
    float amax = 0;
    int sum = 0, finite = 1;
    for (size_t i = 0; i < n; i++) {
        amax = fmaxf(amax, fabsf(x[i]));
        if (!isfinite(x[i])) finite = 0;
    }
    float by = 127.0f / amax;
    int zero = !finite || !isfinite(by);
    *d = !finite ? NAN : zero ? 0.0f : amax / 127.0f;
    for (size_t i = 0; i < n; i++) {
        q[i] = zero ? 0 : (int8_t)rintf(x[i] * by);
        sum += q[i];
    }
    return sum;
}

static void quantize_ref(const float *x, size_t k, int8_t *q, float *d, float *s, int16_t *sum)
{
    for (size_t g = 0; g < k / 32; g++)
        s[g] = (float)quantize_group_ref(x + 32 * g, 32, q + 32 * g, &d[g]) * d[g];
    for (size_t i = 0; sum && i < k / 16; i++) sum[i] = sum_codes(q + 16 * i);
}

static void to_bf16_ref(const float *x, size_t n, uint16_t *out)
{
    for (size_t i = 0; i < n; i++) out[i] = float_to_brain(x[i]);
}

static void rmsnorm_ref(const float *x, const float *w, size_t n, float eps, float *out)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    double by = 1 / sqrt(sum / (double)n + eps);
    for (size_t i = 0; i < n; i++) out[i] = (float)(x[i] * by * (w ? w[i] : 1.0f));
}

static void layernorm_ref(const float *x, const float *w, const float *b, size_t n, float eps,
                          float *out)
{
    double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) square += (x[i] - mean) * (x[i] - mean);
    double by = 1 / sqrt(square / (double)n + eps);
    for (size_t i = 0; i < n; i++) out[i] = (float)((x[i] - mean) * by * w[i] + (b ? b[i] : 0.0f));
}

static void rotate(float *a, float *b, float cosine, float sine)
{
    double x = *a, y = *b;
    *a = (float)(x * cosine - y * sine);
    *b = (float)(x * sine + y * cosine);
}

static void rope_pairs_ref(float *x, size_t n_heads, size_t head_dim, size_t n_rot, const float *cs)
{
    for (size_t h = 0; h < n_heads; h++, x += head_dim)
        for (size_t i = 0; i < n_rot / 2; i++)
            rotate(&x[2 * i], &x[2 * i + 1], cs[i], cs[n_rot / 2 + i]);
}

static void rope_halves_ref(float *x, size_t n_heads, size_t head_dim, size_t n_rot,
                            const float *cs)
{
    for (size_t h = 0; h < n_heads; h++, x += head_dim)
        for (size_t i = 0; i < n_rot / 2; i++)
            rotate(&x[i], &x[n_rot / 2 + i], cs[i], cs[n_rot / 2 + i]);
}

static void add_ref(const float *a, const float *b, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = a[i] + b[i];
}

static void mul_ref(const float *a, const float *b, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = a[i] * b[i];
}

static void scale_ref(const float *x, float by, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = x[i] * by;
}

static void softcap_ref(const float *x, float cap, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = (float)(cap * tanh((double)x[i] / cap));
}

static double silu(double x) { return x / (1 + exp(-x)); }
static double gelu_erf(double x) { return x * 0.5 * erfc(-x * 0.70710678118654752440); }

/* 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), arXiv 1606.08415; written as x * sigmoid(2
 * u), which keeps its digits where tanh is near -1. */
static double gelu_tanh(double x)
{
    double u = 0.79788456080286535588 * (x + 0.044715 * x * x * x);
    return u < -300 ? -0.0 : x / (1 + exp(-2 * u));
}

float act_silu_ref(float x) { return x == -INFINITY ? -0.0f : (float)silu(x); }
float act_gelu_tanh_ref(float x) { return (float)gelu_tanh(x); }

static void silu_ref(const float *x, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = act_silu_ref(x[i]);
}

static void gelu_tanh_ref(const float *x, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = act_gelu_tanh_ref(x[i]);
}

static void gelu_erf_ref(const float *x, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = x[i] == -INFINITY ? -0.0f : (float)gelu_erf(x[i]);
}

static void silu_mul_ref(const float *gate, const float *up, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = act_silu_ref(gate[i]) * up[i];
}

static void gelu_tanh_mul_ref(const float *gate, const float *up, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = act_gelu_tanh_ref(gate[i]) * up[i];
}

static size_t argmax_ref(const float *x, size_t n)
{
    size_t best = 0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(x[i])) return n;
        if (x[i] > x[best]) best = i;
    }
    return best;
}

static void code_sums_ref(const int8_t *x, size_t ldx, size_t rows, const int8_t *w, size_t ldw, size_t cols, size_t n,
                      int32_t *sum, size_t ld_sum)
{
    code_sums_loop(x, ldx, rows, w, ldw, cols, n, sum, ld_sum);
}

void vec_init_ref(struct kernels *k)
{
    k->quantize = quantize_ref;
    k->to_bf16 = to_bf16_ref;
    k->rmsnorm = rmsnorm_ref;
    k->layernorm = layernorm_ref;
    k->rope_pairs = rope_pairs_ref;
    k->rope_halves = rope_halves_ref;
    k->add = add_ref;
    k->mul = mul_ref;
    k->scale = scale_ref;
    k->softcap = softcap_ref;
    k->silu = silu_ref;
    k->gelu_tanh = gelu_tanh_ref;
    k->gelu_erf = gelu_erf_ref;
    k->silu_mul = silu_mul_ref;
    k->gelu_tanh_mul = gelu_tanh_mul_ref;
    k->argmax = argmax_ref;
    k->code_sums = code_sums_ref;
}
