/* Cache pages and attention over one block of 64 positions. */
#include "kernels/kv.h"
#include "kernels/ref/ref.h"
#include "kernels/scalar.h"

enum { B = ATTN_BLOCK };

size_t kv_k_bytes(enum kv_type t, size_t head_dim)
{
    size_t codes = kv_quads(head_dim) * 4, groups = kv_groups(head_dim);
    return B * (kv_coded(t) ? codes + groups * sizeof(float) : head_dim * kv_element(t));
}

size_t kv_v_bytes(enum kv_type t, size_t head_dim)
{
    size_t panels = (head_dim + KV_PANEL - 1) / KV_PANEL;
    return kv_coded(t) ? panels * kv_v_panel(t) + B * kv_groups(head_dim) * sizeof(float)
                       : B * head_dim * kv_element(t);
}

/* Element `at` of a page; a code without its scale. */
static float kv_value(enum kv_type t, const void *page, size_t at)
{
    if (t == KV_F32) return ((const float *)page)[at];
    if (t == KV_F16) return half_to_float(((const uint16_t *)page)[at]);
    if (t == KV_BF16) return brain_to_float(((const uint16_t *)page)[at]);
    return (float)((const int8_t *)page)[at];
}

static float v_value(enum kv_type t, const void *page, size_t head_dim, size_t i, size_t j)
{
    size_t at = kv_v_at(t, head_dim, i, j);
    if (!kv_coded(t)) return kv_value(t, page, at);
    float d = kv_v_scales(t, page, head_dim)[i / 32 * B + j];
    if (t == KV_Q8) return d * kv_value(t, page, at);
    return d * (float)kv_levels[((const uint8_t *)page)[at] >> i % KV_PANEL / 8 * 4 & 15];
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
    float *scales =
        (float *)(uintptr_t)(is_k ? kv_k_scales(page, n) : kv_v_scales(KV_Q8, page, n));
    for (size_t i = 0; i < n; i += 32) {
        int8_t q[32];
        size_t m = n - i < 32 ? n - i : 32;
        quantize_group_ref(x + i, m, q, &scales[i / 32 * B + j]);
        if (is_k) kv_put_k(KV_Q8, n, i, m, j, q, page);
        else kv_put_v(KV_Q8, n, i, m, j, q, page);
    }
}

/* Codes of up to 32 values and their scale: the nearest levels, found by counting the borders that
 * a value is above. */
static float nearest_levels(const float *x, size_t n, uint8_t *codes)
{
    float top = 0, v[32] = { 0 };
    int32_t above[32] = { 0 };
    bool finite = true;
    for (size_t i = 0; i < n; i++) {
        v[i] = x[i];
        top = fmaxf(top, fabsf(x[i]));
        finite = finite && isfinite(x[i]);
    }
    float d = top / 127;
    for (int l = 0; l < 15; l++) {
        float border = d * (0.5f * (float)(kv_levels[l] + kv_levels[l + 1]));
        for (size_t i = 0; i < 32; i++) above[i] += v[i] > border;
    }
    for (size_t i = 0; i < 32; i++) codes[i] = (uint8_t)above[i];
    return finite ? d : NAN;
}

enum { ROTATED_MAX = 512 };

static void store_q4(const float *x, size_t n, size_t j, void *page)
{
    float *scales = (float *)(uintptr_t)kv_v_scales(KV_Q8_Q4, page, n), turned[ROTATED_MAX];
    memcpy(turned, x, n * sizeof *x);
    kv_rotate(turned, n);
    for (size_t i = 0; i < n; i += 32) {
        uint8_t codes[32];
        scales[i / 32 * B + j] = nearest_levels(turned + i, n - i < 32 ? n - i : 32, codes);
        for (size_t e = 0; e < 32 && i + e < n; e += KV_PANEL) {
            uint8_t both[8];
            for (size_t c = 0; c < 8; c++)
                both[c] = (uint8_t)(codes[e + c] | codes[e + c + 8] << 4);
            kv_put_v(KV_Q8_Q4, n, i + e, 8, j, both, page);
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
        if (kv_coded(t))
            dot += (double)a->codes[r * a->ldc + i] * k
                * ((double)a->d[r * a->ldd + i / 32]
                   * (double)kv_k_scales(page, a->head_dim)[i / 32 * B + j]);
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
        if (kv_coded(KV_##T)) store_q8(true, x, n, j, page);                                       \
        else store(KV_##T, true, x, n, j, page);                                                   \
    }                                                                                              \
    static void store_v_##T##_ref(const float *x, size_t n, size_t j, void *page)                  \
    {                                                                                              \
        if (KV_##T == KV_Q8_Q4) store_q4(x, n, j, page);                                           \
        else if (KV_##T == KV_Q8) store_q8(false, x, n, j, page);                                  \
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
KV_TYPE(Q8_Q4)

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
    KV_ROW(Q8_Q4);
    k->attn_merge = attn_merge_ref;
    k->attn_finish = attn_finish_ref;
}
