/* Cache pages and attention over one block of 64 positions. */
#include "kernels/kv.h"
#include "kernels/ref/ref.h"
#include "kernels/scalar.h"

enum { B = ATTN_BLOCK };

size_t kv_k_bytes(enum kv_type t, size_t head_dim)
{
    size_t codes = kv_quads(head_dim) * 4, groups = kv_groups(head_dim);
    return B * (t == KV_Q8 ? codes + groups * sizeof(float) : head_dim * kv_element(t));
}

size_t kv_v_bytes(enum kv_type t, size_t head_dim) { return kv_k_bytes(t, head_dim); }

/* Element `at` of a page; a code of KV_Q8 without its scale. */
static float kv_value(enum kv_type t, const void *page, size_t at)
{
    if (t == KV_F32) return ((const float *)page)[at];
    if (t == KV_F16) return half_to_float(((const uint16_t *)page)[at]);
    if (t == KV_BF16) return brain_to_float(((const uint16_t *)page)[at]);
    return (float)((const int8_t *)page)[at];
}

static float v_value(enum kv_type t, const void *page, size_t head_dim, size_t i, size_t j)
{
    float d = t == KV_Q8 ? kv_scales(page, head_dim)[i / 32 * B + j] : 1.0f;
    return d * kv_value(t, page, kv_v_at(head_dim, i, j));
}

/* ---- storing one token ----------------------------------------------------------------------- */

static void store(enum kv_type t, bool is_k, const float *x, size_t n, size_t j, void *page)
{
    for (size_t i = 0; i < n; i += KV_PANEL) {
        size_t m = n - i < KV_PANEL ? n - i : KV_PANEL;
        uint16_t h[KV_PANEL];
        const void *from = t == KV_F32 ? (const void *)(x + i) : h;
        for (size_t e = 0; e < m; e++)
            h[e] = t == KV_F16 ? float_to_half(x[i + e]) : float_to_brain(x[i + e]);
        if (is_k) kv_put_k(t, n, i, m, j, from, page);
        else kv_put_v(t, n, i, m, j, from, page);
    }
}

static void store_q8(bool is_k, const float *x, size_t n, size_t j, void *page)
{
    float *scales = (float *)(uintptr_t)kv_scales(page, n);
    for (size_t i = 0; i < n; i += 32) {
        int8_t q[32];
        size_t m = n - i < 32 ? n - i : 32;
        quantize_group_ref(x + i, m, q, &scales[i / 32 * B + j]);
        for (size_t e = 0; e < m; e += KV_PANEL) {
            size_t part = m - e < KV_PANEL ? m - e : KV_PANEL;
            if (is_k) kv_put_k(KV_Q8, n, i + e, part, j, q + e, page);
            else kv_put_v(KV_Q8, n, i + e, part, j, q + e, page);
        }
    }
}

/* ---- attention ------------------------------------------------------------------------------- */

static double score_of(enum kv_type t, const struct attn_query *a, size_t r, const void *page,
                       size_t j)
{
    double dot = 0;
    for (size_t i = 0; i < a->head_dim; i++) {
        float k = kv_value(t, page, kv_k_at(t, a->head_dim, i, j));
        if (t == KV_Q8)
            dot += (double)a->codes[r * a->ldc + i] * k
                * ((double)a->d[r * a->ldd + i / 32] * kv_scales(page, a->head_dim)[i / 32 * B + j]);
        else
            dot += (double)a->q[r * a->ldq + i] * k;
    }
    return dot;
}

static void attn_query(enum kv_type t, const struct attn_query *a, size_t r, const void *k_page,
                       const void *v_page, float *m, float *sum, float *acc)
{
    double score[B], max = -INFINITY, total = 0;
    int lo = a->lo[r], hi = a->hi[r];
    for (int j = lo; j < hi; j++) {
        score[j] = a->scale * score_of(t, a, r, k_page, (size_t)j);
        if (a->softcap > 0) score[j] = a->softcap * tanh(score[j] / a->softcap);
        max = fmax(max, score[j]);
    }
    *m = (float)max;
    for (int j = lo; j < hi; j++) total += score[j] = exp(score[j] - (double)*m);
    *sum = (float)total;
    for (size_t i = 0; i < a->head_dim; i++) {
        double out = 0;
        for (int j = lo; j < hi; j++)
            out += score[j] * v_value(t, v_page, a->head_dim, i, (size_t)j);
        acc[i] = (float)out;
    }
}

static void attn_merge_ref(size_t n_q, size_t head_dim, float *m, float *sum, float *acc,
                           const float *m2, const float *sum2, const float *acc2)
{
    for (size_t r = 0; r < n_q; r++, acc += head_dim, acc2 += head_dim) {
        if (m2[r] == -INFINITY) continue;
        float max = fmaxf(m[r], m2[r]);
        double a = exp((double)m[r] - max), b = exp((double)m2[r] - max);
        sum[r] = (float)(a * sum[r] + b * sum2[r]);
        for (size_t i = 0; i < head_dim; i++) acc[i] = (float)(a * acc[i] + b * acc2[i]);
        m[r] = max;
    }
}

static void attn_finish_ref(size_t head_dim, const float *acc, float sum, float *out)
{
    for (size_t i = 0; i < head_dim; i++) out[i] = sum != 0 ? acc[i] / sum : 0.0f;
}

#define KV_TYPE(T)                                                                                 \
    static void store_k_##T##_ref(const float *x, size_t n, size_t j, void *page)                  \
    {                                                                                              \
        if (KV_##T == KV_Q8) store_q8(true, x, n, j, page);                                        \
        else store(KV_##T, true, x, n, j, page);                                                   \
    }                                                                                              \
    static void store_v_##T##_ref(const float *x, size_t n, size_t j, void *page)                  \
    {                                                                                              \
        if (KV_##T == KV_Q8) store_q8(false, x, n, j, page);                                       \
        else store(KV_##T, false, x, n, j, page);                                                  \
    }                                                                                              \
    static void attn_##T##_ref(const struct attn_query *a, const void *k_page, const void *v_page, \
                               float *m, float *sum, float *acc)                                   \
    {                                                                                              \
        for (size_t r = 0; r < a->n_q; r++)                                                        \
            attn_query(KV_##T, a, r, k_page, v_page, m + r, sum + r, acc + r * a->head_dim);       \
    }
KV_TYPE(F32)
KV_TYPE(F16)
KV_TYPE(BF16)
KV_TYPE(Q8)

#define KV_ROW(T)                              \
    k->kv_store_k[KV_##T] = store_k_##T##_ref; \
    k->kv_store_v[KV_##T] = store_v_##T##_ref; \
    k->attn_block[KV_##T] = attn_##T##_ref;    \
    k->attn_level[KV_##T] = "ref"

void attn_init_ref(struct kernels *k)
{
    KV_ROW(F32);
    KV_ROW(F16);
    KV_ROW(BF16);
    KV_ROW(Q8);
    k->attn_merge = attn_merge_ref;
    k->attn_finish = attn_finish_ref;
}
