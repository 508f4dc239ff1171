/* Cache pages and attention over one block of 64 positions. */
#include "kernels/ref/ref.h"
#include "kernels/scalar.h"

enum { B = ATTN_BLOCK };

static size_t groups_of(size_t head_dim) { return (head_dim + 31) / 32; }

size_t kv_k_bytes(enum kv_type t, size_t head_dim)
{
    size_t n = head_dim * B;
    return t == KV_F32 ? n * 4 : t == KV_Q8 ? n + groups_of(head_dim) * B * sizeof(float) : n * 2;
}

size_t kv_v_bytes(enum kv_type t, size_t head_dim) { return kv_k_bytes(t, head_dim); }

/* Element i of the page's codes or numbers; for KV_Q8 `scale` is the one that belongs to it. */
static float kv_value(enum kv_type t, const void *page, size_t i, size_t scale, size_t head_dim)
{
    if (t == KV_F32) return ((const float *)page)[i];
    if (t == KV_F16) return half_to_float(((const uint16_t *)page)[i]);
    if (t == KV_BF16) return brain_to_float(((const uint16_t *)page)[i]);
    const float *d = (const void *)((const uint8_t *)page + head_dim * B);
    return d[scale] * (float)((const int8_t *)page)[i];
}

static float k_value(enum kv_type t, const void *page, size_t head_dim, size_t i, size_t j)
{
    return kv_value(t, page, i * B + j, i / 32 * B + j, head_dim);
}

static float v_value(enum kv_type t, const void *page, size_t head_dim, size_t i, size_t j)
{
    return kv_value(t, page, j * head_dim + i, j * groups_of(head_dim) + i / 32, head_dim);
}

/* ---- storing one token ----------------------------------------------------------------------- */

/* Writes x[i] to element at + i * step. */
static void store_floats(enum kv_type t, const float *x, size_t n, size_t at, size_t step,
                         void *page)
{
    for (size_t i = 0; i < n; i++)
        if (t == KV_F32)
            ((float *)page)[at + i * step] = x[i];
        else
            ((uint16_t *)page)[at + i * step] =
                t == KV_F16 ? float_to_half(x[i]) : float_to_brain(x[i]);
}

static void store_q8(const float *x, size_t n, size_t at, size_t step, size_t scale_at,
                     size_t scale_step, void *page)
{
    float *scales = (void *)((uint8_t *)page + n * B);
    for (size_t i = 0; i < n; i += 32) {
        int8_t q[32];
        size_t m = n - i < 32 ? n - i : 32;
        quantize_group_ref(x + i, m, q, &scales[scale_at + i / 32 * scale_step]);
        for (size_t e = 0; e < m; e++) ((int8_t *)page)[at + (i + e) * step] = q[e];
    }
}

static void store_k(enum kv_type t, const float *x, size_t n, size_t j, void *page)
{
    if (t == KV_Q8)
        store_q8(x, n, j, B, j, B, page);
    else
        store_floats(t, x, n, j, B, page);
}

static void store_v(enum kv_type t, const float *x, size_t n, size_t j, void *page)
{
    if (t == KV_Q8)
        store_q8(x, n, j * n, 1, j * groups_of(n), 1, page);
    else
        store_floats(t, x, n, j * n, 1, page);
}

/* ---- attention ------------------------------------------------------------------------------- */

static void attn_query(enum kv_type t, const struct attn_query *a, size_t r, const void *k_page,
                       const void *v_page, float *m, float *sum, float *acc)
{
    double score[B], max = -INFINITY, total = 0;
    int lo = a->lo[r], hi = a->hi[r];
    for (int j = lo; j < hi; j++) {
        double dot = 0;
        for (size_t i = 0; i < a->head_dim; i++)
            dot += (double)a->q[r * a->ldq + i] * k_value(t, k_page, a->head_dim, i, (size_t)j);
        score[j] = a->scale * dot;
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
        store_k(KV_##T, x, n, j, page);                                                            \
    }                                                                                              \
    static void store_v_##T##_ref(const float *x, size_t n, size_t j, void *page)                  \
    {                                                                                              \
        store_v(KV_##T, x, n, j, page);                                                            \
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
