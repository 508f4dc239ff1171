/* Who checks the checker: small faults are planted in a good table, one at a time, and every one
 * must be caught. A fault that passes is a hole in kcheck. */
#include "kcheck.h"
#include <stdio.h>

static const struct kernels *good;

/* ---- linear ---------------------------------------------------------------------------------- */

static float next_up(float f) { return float_of(bits_of(f) + 1); }

/* One unit in the last place, in the last column only. */
static void linear_one_ulp(const void *w, size_t n, size_t k, const struct act *x, size_t rows,
                           float *y, size_t ldy)
{
    good->linear[DT_Q4_1](w, n, k, x, rows, y, ldy);
    float *at = y + (rows - 1) * ldy + 16 * n - 4; /* a column that exists in the last panel */
    if (k && *at != 0) *at = next_up(*at);
}

/* What escaped stays as its code says. */
static void brain12_no_escapes(const void *w, size_t n, size_t k, const struct act *x, size_t rows, float *y,
                               size_t ldy)
{
    size_t bytes = brain12_bytes(k);
    uint8_t *copy = kc_alloc(n * bytes, 64);
    struct kcheck c = { .quiet = true };
    memcpy(copy, w, n * bytes);
    for (size_t p = 0; p < n; p++) *(uint32_t *)(uintptr_t)brain12_list(copy + p * bytes, k) = UINT32_MAX;
    good->brain12(copy, n, k, x, rows, y, ldy);
    kc_free(&c, copy);
}

/* From 17 rows on, the last row gets its neighbour's answer. */
static void linear_wrong_row(const void *w, size_t n, size_t k, const struct act *x, size_t rows,
                             float *y, size_t ldy)
{
    good->linear[DT_Q8_0](w, n, k, x, rows, y, ldy);
    if (rows > 16) memcpy(y + (rows - 1) * ldy, y + (rows - 2) * ldy, 64 * n);
}

/* K in two halves, added at the end: close, but not the rule. */
static void linear_split_k(const void *w, size_t n, size_t k, const struct act *x, size_t rows,
                           float *y, size_t ldy)
{
    size_t half = k / 2;
    float part[16];
    good->linear[DT_F32](w, n, k, x, rows, y, ldy);
    for (size_t p = 0; p < n; p++)
        for (size_t r = 0; r < rows; r++) {
            const float *panel = (const float *)w + p * 16 * k;
            struct act row = { .f = x->f + r * x->ldf, .ldf = x->ldf };
            good->linear[DT_F32](panel, 1, half, &row, 1, y + r * ldy + 16 * p, ldy);
            row.f += half;
            good->linear[DT_F32](panel + half * 16, 1, k - half, &row, 1, part, 16);
            for (size_t c = 0; c < 16; c++) y[r * ldy + 16 * p + c] += part[c];
        }
}

/* The minimum is forgotten where five rows come at once. */
static void linear_no_min(const void *w, size_t n, size_t k, const struct act *x, size_t rows,
                          float *y, size_t ldy)
{
    static const float zeros[256];
    for (size_t r = 0; r < rows; r++) {
        struct act row = { .q = x->q + r * x->ldq, .ldq = x->ldq, .d = x->d + r * x->ldd,
                           .s = rows == 5 ? zeros : x->s + r * x->ldd,
                           .sum = x->sum + 2 * r * x->ldd, .ldd = x->ldd };
        good->linear[DT_Q4_K](w, n, k, &row, 1, y + r * ldy, ldy);
    }
}

/* Codes that are to be looked up are taken for steps of Q4_0, whose panels look the same. */
static void linear_even_steps(const void *w, size_t n, size_t k, const struct act *x, size_t rows,
                              float *y, size_t ldy)
{
    good->linear[DT_Q4_0](w, n, k, x, rows, y, ldy);
}

/* Writes one element past the last row. */
static void linear_overrun(const void *w, size_t n, size_t k, const struct act *x, size_t rows,
                           float *y, size_t ldy)
{
    good->linear[DT_Q6_K](w, n, k, x, rows, y, ldy);
    if (rows > 1) y[16 * n] = 0;
}

/* ---- vectors --------------------------------------------------------------------------------- */

static void quantize_half_up(const float *x, size_t k, int8_t *q, float *d, float *s,
                             int16_t *sum)
{
    good->quantize(x, k, q, d, s, sum);
    for (size_t i = 0; i < k; i++)
        if (d[i / 32] > 0) {
            float amax = d[i / 32] * 127, v = x[i] * (127.0f / amax);
            if (v - floorf(v) == 0.5f) q[i] = (int8_t)(floorf(v) + 1);
        }
}

static void quantize_lost_nan(const float *x, size_t k, int8_t *q, float *d, float *s,
                             int16_t *sum)
{
    good->quantize(x, k, q, d, s, sum);
    for (size_t g = 0; g < k / 32; g++)
        if (isnan(d[g])) d[g] = s[g] = 0;
}

static void bf16_truncated(const float *x, size_t n, uint16_t *out)
{
    good->to_bf16(x, n, out);
    if (n) out[n - 1] = (uint16_t)(bits_of(x[n - 1]) >> 16);
}

static size_t argmax_last(const float *x, size_t n)
{
    size_t best = good->argmax(x, n);
    for (size_t i = best; i < n && best < n; i++)
        if (x[i] == x[best]) best = i;
    return best;
}

static size_t argmax_blind(const float *x, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return n ? best : 0;
}

static void rmsnorm_no_eps(const float *x, const float *w, size_t n, float eps, float *out)
{
    good->rmsnorm(x, w, n, eps * 0.99f, out);
}

static void layernorm_no_bias(const float *x, const float *w, const float *b, size_t n, float eps,
                              float *out)
{
    good->layernorm(x, w, n > 32 ? NULL : b, n, eps, out);
}

static void rope_wrong_head(float *x, size_t n_heads, size_t head_dim, size_t n_rot,
                            const float *cs)
{
    good->rope_halves(x, n_heads > 2 ? 2 : n_heads, head_dim, n_rot, cs);
}

static void rope_other_pairs(float *x, size_t n_heads, size_t head_dim, size_t n_rot,
                             const float *cs)
{
    good->rope_halves(x, n_heads, head_dim, n_rot, cs);
}

static void silu_coarse(const float *x, size_t n, float *out)
{
    good->silu(x, n, out);
    for (size_t i = 0; i < n; i++) out[i] *= 1.000002f;
}

static void gelu_other(const float *x, size_t n, float *out) { good->gelu_tanh(x, n, out); }

static void add_twice(const float *a, const float *b, size_t n, float *out)
{
    good->add(a, b, n, out);
    if (n > 8) out[n - 1] = a[n - 1];
}

/* ---- cache and attention --------------------------------------------------------------------- */

static void store_truncated(const float *x, size_t n, size_t j, void *page)
{
    good->kv_store_v[KV_F16](x, n, j, page);
    uint16_t *at = (uint16_t *)page + j * n;
    for (size_t i = 0; i < n; i++)
        if (fabsf(half_to_float(at[i])) > fabsf(x[i]) && isfinite(x[i])) at[i]--;
}

static void attn_no_lo(const struct attn_query *a, const void *k, const void *v, float *m,
                       float *sum, float *acc)
{
    int32_t lo[64] = { 0 };
    struct attn_query b = *a;
    b.lo = lo;
    good->attn_block[KV_F16](&b, k, v, m, sum, acc);
}

/* The low and the high half of a byte of codes taken for each other, once. */
static void attn_halves(const struct attn_query *a, const void *k, const void *v, float *m,
                        float *sum, float *acc)
{
    good->attn_block[KV_Q8_Q4](a, k, v, m, sum, acc);
    if (a->head_dim <= 8) return;
    float low = acc[0];
    acc[0] = acc[8];
    acc[8] = low;
}

/* Correct answers, but a query's last bit depends on how many others there are. */
static void attn_batchy(const struct attn_query *a, const void *k, const void *v, float *m,
                        float *sum, float *acc)
{
    good->attn_block[KV_F32](a, k, v, m, sum, acc);
    if (a->n_q > 6 && sum[0] > 0) sum[0] = next_up(sum[0]);
}

static void attn_no_cap(const struct attn_query *a, const void *k, const void *v, float *m,
                        float *sum, float *acc)
{
    struct attn_query b = *a;
    b.softcap = 0;
    good->attn_block[KV_Q8](&b, k, v, m, sum, acc);
}

static void merge_no_rescale(size_t n_q, size_t head_dim, float *m, float *sum, float *acc,
                             const float *m2, const float *sum2, const float *acc2)
{
    for (size_t r = 0; r < n_q; r++) {
        m[r] = m[r] > m2[r] ? m[r] : m2[r];
        sum[r] += sum2[r];
        for (size_t i = r * head_dim; i < (r + 1) * head_dim; i++) acc[i] += acc2[i];
    }
}

/* The terms past a run are added to its sum instead of to c. */
static void outer_one_sum(const float *a, size_t lda, const float *b, size_t ldb, size_t m, size_t n, size_t t,
                          float by, float *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            float sum = 0;
            for (size_t k = 0; k < t; k++) sum = fmaf(a[k * lda + i], b[k * ldb + j], sum);
            c[i * ldc + j] = fmaf(by, sum, c[i * ldc + j]);
        }
}

/* The last term of an odd number is lost. */
static void outer_d_lost(const double *a, size_t lda, const double *b, size_t ldb, size_t m, size_t n, size_t t,
                         double by, double *c, size_t ldc)
{
    good->outer_d(a, lda, b, ldb, m, n, t & ~(size_t)1, by, c, ldc);
}

/* ---- training -------------------------------------------------------------------------------- */

/* The last row is lost where more than a run of rows comes at once. */
static void grad_lost_row(const float *x, size_t ldx, size_t cols, const float *dy, size_t lddy, size_t n, size_t rows,
                          float *g, size_t k)
{
    good->linear_grad(x, ldx, cols, dy, lddy, n, rows > OUTER_RUN ? rows - 1 : rows, g, k);
}

/* Sums of a run of rows are added at its end: close, but not the rule. */
static void grad_of_run(const float *x, size_t ldx, size_t cols, const float *dy, size_t lddy, size_t n, size_t rows,
                        float *g, size_t k)
{
    for (size_t o = 0; o < n; o++)
        for (size_t i = 0; i < cols; i++) {
            float sum = 0;
            for (size_t r = 0; r < rows; r++) sum = fmaf(x[r * ldx + i], dy[r * lddy + o], sum);
            g[(o / 16 * k + i) * 16 + o % 16] += sum;
        }
}

/* A group that is not whole goes on into the next. */
static void learn_grad_long(const float *x, size_t ldx, size_t cols, const float *dy, size_t lddy, size_t n,
                            const struct row_group *group, size_t groups, float *g, size_t k)
{
    for (size_t i = 0; i < groups; i++) {
        struct row_group one = group[i];
        if (one.n == 7 && one.first + 7 < 128) one.n++;
        good->learn_grad(x, ldx, cols, dy, lddy, n, &one, 1, g, k);
    }
}

/* The last of many inputs is lost. */
static void learn_linear_short(const void *w, size_t n, size_t k, const struct act *x, size_t rows, float *y,
                               size_t ldy)
{
    uint8_t *copy = kc_alloc(n * panel_bytes(DT_BF16, k), 64);
    struct kcheck c = { .quiet = true };
    memcpy(copy, w, n * panel_bytes(DT_BF16, k));
    for (size_t p = 0; k > 100 && p < n; p++) memset(copy + (p + 1) * panel_bytes(DT_BF16, k) - 64, 0, 64);
    good->learn_linear(copy, n, k, x, rows, y, ldy);
    kc_free(&c, copy);
}

/* One unit in the last place where there is more than one block of outputs. */
static void back_one_ulp(const void *panels, size_t n, size_t k, size_t from, size_t cols, const float *dy,
                         size_t lddy, size_t rows, float *dx, size_t lddx, bool more)
{
    good->linear_back[DT_F32](panels, n, k, from, cols, dy, lddy, rows, dx, lddx, more);
    if (n > 96 && cols > 1) dx[0] = next_up(dx[0]);
}

static void times_afresh(const float *panels, size_t apart, size_t n_panels, size_t k, const float *x, size_t ldx,
                         size_t rows, float *y, size_t ldy, bool more)
{
    good->times(panels, apart, n_panels, k, x, ldx, rows, y, ldy, more && rows < 30);
}

static void norm_back_short(const float *x, const float *w, size_t n, float eps, const float *dy, float *dx)
{
    good->rmsnorm_back(x, w, n, eps * 0.99f, dy, dx);
}

static void layer_back_as_rms(const float *x, const float *w, size_t n, float eps, const float *dy, float *dx)
{
    good->rmsnorm_back(x, w, n, eps, dy, dx);
}

static void silu_back_coarse(const float *x, const float *dy, size_t n, float *dx)
{
    good->silu_back(x, dy, n, dx);
    for (size_t i = 0; i < n; i++) dx[i] *= 1.00001f;
}

static void silu_mul_back_other_factor(const float *gate, const float *up, const float *dy, size_t n, float *y,
                                       float *dgate, float *dup)
{
    good->silu_mul_back(gate, up, dy, n, y, dgate, dup);
    if (!y && n > 1) dup[n - 1] = dy[n - 1] * up[n - 1];
}

/* A row sees one position less, the first it should. */
static float softmax_lost(float *s, const struct see_row *row, float *max)
{
    struct see_row r = *row;
    if (r.hi > r.lo + 40) r.lo++;
    return good->see_softmax(s, &r, max);
}

static void see_back_no_cap(float *s, float *dp, const float *lse, const float *d, bool each, const struct see_row *row)
{
    good->see_back(s, dp, lse, d, each, row);
    for (size_t j = 0; row->softcap > 0 && j < row->n; j++) dp[j] *= 1.0001f;
}

static void see_back_one_lse(float *s, float *dp, const float *lse, const float *d, bool each,
                             const struct see_row *row)
{
    good->see_back(s, dp, lse, d, each && row->n < 90, row);
}

static float loss_no_tail(float *logits, size_t n, float cap, const struct loss_target *t)
{
    struct loss_target u = *t;
    u.tail = 0;
    return good->loss_row(logits, n, cap, &u);
}

static void adamw_unscaled(float *w, float *m, float *v, const float *g, size_t n,
                           const struct adamw_step *s)
{
    struct adamw_step other = *s;
    if (n > 60) other.eps = 0;
    good->adamw(w, m, v, g, n, &other);
}

int kcheck_mutants(void)
{
    static struct kernels ref, best, bad;
    size_t planted = 0, missed = 0;
    kernels_init(&ref, 0);
    kernels_init(&best, cpu_detect());
    if (best.quantize == ref.quantize) {
        printf("skip: this machine has no level above ref\n");
        return 77;
    }
    good = &best;
    struct kcheck healthy = { .ref = &ref, .prev = &ref, .k = &best, .rng = 7, .quiet = true };
    kcheck_all(&healthy);
    if (healthy.failed) {
        printf("FAIL the table fails without a fault (%zu)\n", healthy.failed);
        return 1;
    }
#define PLANT(field, fn)                                                                        \
    do {                                                                                        \
        bad = best;                                                                             \
        bad.field = fn;                                                                         \
        struct kcheck c = {.ref = &ref, .prev = &best, .k = &bad, .rng = 7, .quiet = true};     \
        kcheck_all(&c);                                                                         \
        planted++;                                                                              \
        if (!c.failed) {                                                                        \
            printf("FAIL the planted fault %s was not caught (%zu cells ran)\n", #fn, c.cells); \
            missed++;                                                                           \
        }                                                                                       \
    } while (0)
    PLANT(linear[DT_Q4_1], linear_one_ulp);
    PLANT(linear[DT_Q8_0], linear_wrong_row);
    PLANT(brain12, brain12_no_escapes);
    PLANT(linear[DT_F32], linear_split_k);
    PLANT(linear[DT_Q4_K], linear_no_min);
    PLANT(linear[DT_Q6_K], linear_overrun);
    PLANT(linear[DT_IQ4_NL], linear_even_steps);
    PLANT(quantize, quantize_half_up);
    PLANT(quantize, quantize_lost_nan);
    PLANT(to_bf16, bf16_truncated);
    PLANT(argmax, argmax_last);
    PLANT(argmax, argmax_blind);
    PLANT(rmsnorm, rmsnorm_no_eps);
    PLANT(layernorm, layernorm_no_bias);
    PLANT(rope_halves, rope_wrong_head);
    PLANT(rope_pairs, rope_other_pairs);
    PLANT(silu, silu_coarse);
    PLANT(gelu_erf, gelu_other);
    PLANT(add, add_twice);
    PLANT(kv_store_v[KV_F16], store_truncated);
    PLANT(attn_block[KV_F16], attn_no_lo);
    PLANT(attn_block[KV_F32], attn_batchy);
    PLANT(attn_block[KV_Q8], attn_no_cap);
    PLANT(attn_block[KV_Q8_Q4], attn_halves);
    PLANT(attn_merge, merge_no_rescale);
    PLANT(outer, outer_one_sum);
    PLANT(outer_d, outer_d_lost);
    PLANT(times, times_afresh);
    PLANT(linear_back[DT_F32], back_one_ulp);
    PLANT(linear_grad, grad_lost_row);
    PLANT(linear_grad, grad_of_run);
    if (best.learn_grad) PLANT(learn_grad, learn_grad_long);
    if (best.learn_linear) PLANT(learn_linear, learn_linear_short);
    PLANT(rmsnorm_back, norm_back_short);
    PLANT(layernorm_back, layer_back_as_rms);
    PLANT(silu_back, silu_back_coarse);
    PLANT(silu_mul_back, silu_mul_back_other_factor);
    PLANT(see_softmax, softmax_lost);
    PLANT(see_back, see_back_no_cap);
    PLANT(see_back, see_back_one_lse);
    PLANT(loss_row, loss_no_tail);
    PLANT(adamw, adamw_unscaled);
    printf("mutants      %zu planted, %zu caught\n", planted, planted - missed);
    return missed ? 1 : 0;
}
