#include "decode/logits.h"
#include <math.h>
#include <string.h>

enum { LANES = 8 };

/* e^x for x <= 0, 0 below -87: 2^k times a polynomial of degree 6 (Cephes' expf), without a branch, so that
 * compilers make vectors of it. */
static inline float exp_of(float x)
{
    float y = x < -87.0f ? -87.0f : x;
    float k = y * 1.44269504f + 12582912.0f;            /* rounds to an integer in the low bits */
    uint32_t bits;
    memcpy(&bits, &k, sizeof bits);
    float n = k - 12582912.0f, r = y - n * 0.693359375f - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t scale = (bits - 0x4b400000u + 127) << 23;      /* whatever it is for NaN: p is NaN */
    float two;
    memcpy(&two, &scale, sizeof two);
    return x < -87.0f ? 0.0f : p * two;
}

struct logits_about logits_about(const float *x, uint32_t n)
{
    struct logits_about a = { .most = x[0] };
    float most[LANES], sums[LANES];
    for (int l = 0; l < LANES; l++) most[l] = x[0];
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) most[l] = x[i + (uint32_t)l] > most[l] ? x[i + (uint32_t)l] : most[l];
    for (int l = 0; l < LANES; l++) a.most = most[l] > a.most ? most[l] : a.most;
    for (; i < n; i++) a.most = x[i] > a.most ? x[i] : a.most;
    while (a.top + 1 < n && x[a.top] != a.most) a.top++;
    double sum = 0;
    for (i = 0; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++) sums[l] = exp_of(x[i + (uint32_t)l] - a.most);
        for (int l = 0; l < LANES; l++) sum += (double)sums[l];
    }
    for (; i < n; i++) sum += (double)exp_of(x[i] - a.most);
    a.log_sum = (double)a.most + log(sum);
    return a;
}

double logits_log_sum(const float *x, uint32_t n) { return logits_about(x, n).log_sum; }

void logits_exponentials(const float *x, uint32_t n, float most, float *out)
{
    for (uint32_t i = 0; i < n; i++) out[i] = exp_of(x[i] - most);
}

void logits_score(const float *x, uint32_t n, int32_t id, uint32_t n_top, struct token_logprobs *out)
{
    double log_sum = logits_log_sum(x, n);
    uint32_t k = 0;
    if (n_top > LOGPROBS_MOST) n_top = LOGPROBS_MOST;
    for (uint32_t i = 0; i < n && n_top; i++) {
        if (k == n_top && !(x[i] > out->top[k - 1].logprob)) continue;
        uint32_t at = k < n_top ? k++ : k - 1;
        for (; at && x[i] > out->top[at - 1].logprob; at--) out->top[at] = out->top[at - 1];
        out->top[at].id = (int32_t)i;
        out->top[at].logprob = x[i];
    }
    for (uint32_t i = 0; i < k; i++) out->top[i].logprob = (float)((double)out->top[i].logprob - log_sum);
    out->n_top = k;
    out->id = id;
    out->logprob = (float)((double)x[id] - log_sum);
}

struct four { double ea, eb, da, db; };     /* sums of exponentials, and of them times a - b, b - a */

static inline void add_one(struct four *s, float a, float ma, float b, float mb)
{
    float ea = exp_of(a - ma), eb = exp_of(b - mb), d = a - b;
    s->ea += (double)ea;
    s->eb += (double)eb;
    s->da += ea > 0 ? (double)ea * (double)d : 0;
    s->db += eb > 0 ? (double)eb * (double)-d : 0;
}

/* Rounding may make a sum a little less; what is no number stays none, and is not taken for agreement. */
static double not_below_zero(double x) { return x < 0 ? 0 : x; }

void logits_divergence(const float *a, const struct logits_about *pa, const float *b, const struct logits_about *pb,
                       uint32_t n, double *kl, double *back)
{
    struct four s = { 0 };
    float ea[LANES], eb[LANES], d[LANES];
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++) ea[l] = exp_of(a[i + (uint32_t)l] - pa->most);
        for (int l = 0; l < LANES; l++) eb[l] = exp_of(b[i + (uint32_t)l] - pb->most);
        for (int l = 0; l < LANES; l++) d[l] = a[i + (uint32_t)l] - b[i + (uint32_t)l];
        for (int l = 0; l < LANES; l++) {
            s.ea += (double)ea[l];
            s.eb += (double)eb[l];
            s.da += (double)ea[l] * (double)d[l];
            s.db -= (double)eb[l] * (double)d[l];
        }
    }
    for (; i < n; i++) add_one(&s, a[i], pa->most, b[i], pb->most);
    double apart = pa->log_sum - pb->log_sum;
    *kl = not_below_zero(s.da / s.ea - apart);
    *back = not_below_zero(s.db / s.eb + apart);
}
