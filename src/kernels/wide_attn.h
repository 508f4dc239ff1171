/* Attention over one block of 64 positions for any vector width (operations: wide_math.h, wide_vec.h, and
 * v_load_half, v_load_brain with their _n forms, v_load_quad, v_levels, v_largest, v_range(lo, hi)).
 *
 * Scores run over lanes of positions, K being transposed; values over lanes of head_dim. Up to six
 * queries are computed at a time, so one load serves six; positions that one of them does not see get
 * the weight zero, which adds nothing. What a query's bits depend on is only itself: sums run over
 * head_dim ascending, then over positions ascending. */
#ifndef KERNELS_WIDE_ATTN_H
#define KERNELS_WIDE_ATTN_H
#include "kernels/kv.h"
#include "kernels/wide_vec.h"

enum { ATTN_Q = 6, ATTN_V = 4 };        /* queries and vectors at once: 24 accumulators of 32 registers */
enum { ATTN_MANY = 12, ATTN_WIDEST = 256 };

/* Element `at` of a page as VL numbers, and its first n; not for codes. */
struct attn_loads {
    enum kv_type type;
    vf (*load)(const void *p, size_t at);
    vf (*load_n)(const void *p, size_t at, size_t n);
};

WIDE_INLINE vf attn_f32(const void *p, size_t at) { return v_load((const float *)p + at); }
WIDE_INLINE vf attn_f32_n(const void *p, size_t at, size_t n) { return v_load_n((const float *)p + at, n); }
WIDE_INLINE vf attn_f16(const void *p, size_t at) { return v_load_half((const uint16_t *)p + at); }
WIDE_INLINE vf attn_f16_n(const void *p, size_t at, size_t n)
{
    return v_load_half_n((const uint16_t *)p + at, n);
}
WIDE_INLINE vf attn_bf16(const void *p, size_t at) { return v_load_brain((const uint16_t *)p + at); }
WIDE_INLINE vf attn_bf16_n(const void *p, size_t at, size_t n)
{
    return v_load_brain_n((const uint16_t *)p + at, n);
}
/* Dims i0 .. i1 of q.k, positions base + v * VL. */
WIDE_INLINE void attn_dots(struct attn_loads ld, size_t nq, const struct attn_query *a, const float *q,
                           const void *k, size_t base, size_t i0, size_t i1, vf sum[ATTN_Q][ATTN_V])
{
    for (size_t i = i0; i < i1; i++) {
        vf key[ATTN_V];
        WIDE_UNROLL
        for (size_t v = 0; v < ATTN_V; v++)
            key[v] = ld.load(k, kv_k_at(KV_F32, a->head_dim, i, base + v * VL));
        WIDE_UNROLL
        for (size_t r = 0; r < nq; r++) {
            vf x = v_set1(q[r * a->ldq + i]);
            WIDE_UNROLL
            for (size_t v = 0; v < ATTN_V; v++) sum[r][v] = v_fma(x, key[v], sum[r][v]);
        }
    }
}

/* The same of codes: sums of at most 32 products of bytes, exact in float32. */
WIDE_INLINE void attn_dots_q8(size_t nq, const struct attn_query *a, const int8_t *codes, const void *k,
                              size_t base, size_t i0, size_t i1, vf sum[ATTN_Q][ATTN_V])
{
    for (size_t i = i0; i < i1; i += 4)
        for (int e = 0; e < 4; e++) {
            vf key[ATTN_V];
            WIDE_UNROLL
            for (size_t v = 0; v < ATTN_V; v++)
                key[v] = v_load_quad((const int8_t *)k + kv_k_at(KV_Q8, a->head_dim, i, base + v * VL), e);
            WIDE_UNROLL
            for (size_t r = 0; r < nq; r++) {
                vf x = v_set1((float)codes[r * a->ldc + i + (size_t)e]);
                WIDE_UNROLL
                for (size_t v = 0; v < ATTN_V; v++) sum[r][v] = v_fma(x, key[v], sum[r][v]);
            }
        }
}

/* score[r][j] = scale * q.k, capped, for nq queries from r0 on and the positions base .. base + ATTN_V * VL. */
WIDE_INLINE void attn_scores(struct attn_loads ld, size_t nq, const struct attn_query *a, size_t r0,
                             const void *k, size_t base, float score[ATTN_Q][ATTN_BLOCK])
{
    size_t n = a->head_dim;
    bool coded = kv_coded(ld.type);
    vf sum[ATTN_Q][ATTN_V], total[ATTN_Q][ATTN_V];
    WIDE_UNROLL
    for (size_t r = 0; r < nq; r++)
        WIDE_UNROLL
        for (size_t v = 0; v < ATTN_V; v++) total[r][v] = sum[r][v] = v_set1(0);
    if (!coded) attn_dots(ld, nq, a, a->q + r0 * a->ldq, k, base, 0, n, sum);
    for (size_t i0 = 0; coded && i0 < n; i0 += 32) {
        attn_dots_q8(nq, a, a->codes + r0 * a->ldc, k, base, i0, n - i0 < 32 ? n : i0 + 32, sum);
        WIDE_UNROLL
        for (size_t v = 0; v < ATTN_V; v++) {
            vf d = v_load(kv_k_scales(k, n) + i0 / 32 * ATTN_BLOCK + base + v * VL);
            WIDE_UNROLL
            for (size_t r = 0; r < nq; r++) {
                vf by = v_mul(v_set1(a->d[(r0 + r) * a->ldd + i0 / 32]), d);
                total[r][v] = v_fma(sum[r][v], by, total[r][v]);
                sum[r][v] = v_set1(0);
            }
        }
    }
    WIDE_UNROLL
    for (size_t r = 0; r < nq; r++)
        WIDE_UNROLL
        for (size_t v = 0; v < ATTN_V; v++) {
            vf s = v_mul(coded ? total[r][v] : sum[r][v], v_set1(a->scale));
            if (a->softcap > 0) {
                vf cap = v_set1(a->softcap);
                s = v_mul(cap, wide_tanh(v_div(s, cap)));
            }
            v_store(score[r] + base + v * VL, s);
        }
}

/* score becomes exp(score - max) within lo..hi and zero outside. */
static void attn_weights(float *score, int lo, int hi, float *max, float *sum)
{
    vf low = v_set1(-INFINITY), zero = v_set1(0), m = low, total = zero;
    for (int j = 0; j < ATTN_BLOCK; j += VL)
        m = v_max(m, v_pick(v_range(lo - j, hi - j), v_load(score + j), low));
    *max = v_largest(m);
    m = v_set1(*max);
    for (int j = 0; j < ATTN_BLOCK; j += VL) {
        vf e = wide_exp(v_sub(v_load(score + j), m));
        e = v_pick(v_range(lo - j, hi - j), e, zero);
        v_store(score + j, e);
        total = v_add(total, e);
    }
    *sum = v_sum(total);
}

/* The codes of V's panels from dim d on as KV_Q8 has them, `panels` of them unpacked where they are of four bits. */
WIDE_INLINE const int8_t *attn_codes(enum kv_type t, const void *v, size_t d, size_t panels, int8_t *room)
{
    const uint8_t *from = (const uint8_t *)v + d / KV_PANEL * kv_v_panel(t);
    if (t == KV_Q8) return (const int8_t *)from;
    for (size_t i = 0; i < panels * kv_v_panel(t); i += 32)
        for (size_t e = 0; e < 32; e += 16)
            v_levels(from + i + e, kv_levels, room + 2 * i + e, room + 2 * i + 32 + e);
    return room;
}

/* acc[r][d ..] = sum over j of weight[r][j] * value[j][d ..]: nv vectors, or `left` < VL lanes. */
WIDE_INLINE void attn_values(struct attn_loads ld, size_t nq, size_t nv, size_t left,
                             float weight[ATTN_Q][ATTN_BLOCK], size_t lo, size_t hi, const void *v,
                             size_t n, size_t d, float *acc)
{
    bool coded = kv_coded(ld.type);
    int8_t room[2 * KV_PANEL * ATTN_BLOCK];
    const float *scales = kv_v_scales(ld.type, v, n) + d / 32 * ATTN_BLOCK;
    const int8_t *codes = coded ? attn_codes(ld.type, v, d, nv * VL > KV_PANEL ? 2 : 1, room) : NULL;
    vf sum[ATTN_Q][ATTN_V];
    WIDE_UNROLL
    for (size_t r = 0; r < nq; r++)
        WIDE_UNROLL
        for (size_t c = 0; c < nv; c++) sum[r][c] = v_set1(0);
    for (size_t j = lo; j < hi; j++) {
        vf x[ATTN_V];
        WIDE_UNROLL
        for (size_t c = 0; c < nv; c++)
            x[c] = coded ? v_load_quad(codes + kv_v_at(KV_Q8, n, d % KV_PANEL + c * VL, j / 4 * 4), (int)(j % 4))
                   : left ? ld.load_n(v, kv_v_at(ld.type, n, d, j), left)
                          : ld.load(v, kv_v_at(ld.type, n, d + c * VL, j));
        float by = coded ? scales[j] : 1;
        WIDE_UNROLL
        for (size_t r = 0; r < nq; r++) {
            vf w = v_set1(coded ? weight[r][j] * by : weight[r][j]);
            WIDE_UNROLL
            for (size_t c = 0; c < nv; c++) sum[r][c] = v_fma(w, x[c], sum[r][c]);
        }
    }
    WIDE_UNROLL
    for (size_t r = 0; r < nq; r++)
        WIDE_UNROLL
        for (size_t c = 0; c < nv; c++)
            if (left)
                v_store_n(acc + r * n + d, sum[r][c], left);
            else
                v_store(acc + r * n + d + c * VL, sum[r][c]);
}

/* nq queries from r on */
WIDE_INLINE void attn_some(struct attn_loads ld, size_t nq, const struct attn_query *a, size_t r,
                           const void *k, const void *v, float *m, float *sum, float *acc)
{
    float score[ATTN_Q][ATTN_BLOCK];
    size_t n = a->head_dim, lo = (size_t)a->lo[r], hi = (size_t)a->hi[r], d = 0;
    for (size_t i = 1; i < nq; i++) {
        if ((size_t)a->lo[r + i] < lo) lo = (size_t)a->lo[r + i];
        if ((size_t)a->hi[r + i] > hi) hi = (size_t)a->hi[r + i];
    }
    for (size_t base = 0; base < ATTN_BLOCK; base += ATTN_V * VL)
        if (base < hi && lo < base + ATTN_V * VL)
            attn_scores(ld, nq, a, r, k, base, score);
        else
            WIDE_UNROLL
            for (size_t i = 0; i < nq; i++)
                for (size_t j = 0; j < ATTN_V * VL; j += VL) v_store(score[i] + base + j, v_set1(0));
    WIDE_UNROLL
    for (size_t i = 0; i < nq; i++)
        attn_weights(score[i], a->lo[r + i], a->hi[r + i], m + r + i, sum + r + i);
    acc += r * n;
    size_t wide = kv_coded(ld.type) && 32 / VL < ATTN_V ? 32 / VL : ATTN_V;       /* within one scale */
    for (; d + wide * VL <= n; d += wide * VL) attn_values(ld, nq, wide, 0, score, lo, hi, v, n, d, acc);
    for (; d + VL <= n; d += VL) attn_values(ld, nq, 1, 0, score, lo, hi, v, n, d, acc);
    if (d < n) attn_values(ld, nq, 1, n - d, score, lo, hi, v, n, d, acc);
}

WIDE_INLINE void attn_block(struct attn_loads ld, const struct attn_query *a, const void *k, const void *v,
                            float *m, float *sum, float *acc)
{
    for (size_t r = 0, nq; r < a->n_q; r += nq) {
        nq = 1;
        if (a->hi[r] <= a->lo[r]) {
            m[r] = -INFINITY;
            sum[r] = 0;
            for (size_t i = 0; i < a->head_dim; i++) acc[r * a->head_dim + i] = 0;
            continue;
        }
        while (nq < ATTN_Q && r + nq < a->n_q && a->hi[r + nq] > a->lo[r + nq]) nq++;
        switch (nq) {
        case 6: attn_some(ld, 6, a, r, k, v, m, sum, acc); break;
        case 5: attn_some(ld, 5, a, r, k, v, m, sum, acc); break;
        case 4: attn_some(ld, 4, a, r, k, v, m, sum, acc); break;
        case 3: attn_some(ld, 3, a, r, k, v, m, sum, acc); break;
        case 2: attn_some(ld, 2, a, r, k, v, m, sum, acc); break;
        default: attn_some(ld, 1, a, r, k, v, m, sum, acc);
        }
    }
}

#define ATTN_TYPE(name, t, ...)                                                                          \
    static void wide_attn_##name(const struct attn_query *a, const void *k, const void *v, float *m,     \
                                 float *sum, float *acc)                                                 \
    {                                                                                                    \
        const struct attn_loads ld = { t, __VA_ARGS__ };                                                 \
        if (attn_widen(ld, a, k, v, m, sum, acc)) return;                                                \
        attn_block(ld, a, k, v, m, sum, acc);                                                            \
    }

static void wide_attn_f32(const struct attn_query *a, const void *k, const void *v, float *m, float *sum,
                          float *acc)
{
    attn_block((struct attn_loads){ KV_F32, attn_f32, attn_f32_n }, a, k, v, m, sum, acc);
}

/* Many queries of a page of halves: it is widened once for all of them, which changes no bit. */
WIDE_INLINE bool attn_widen(struct attn_loads ld, const struct attn_query *a, const void *k, const void *v,
                            float *m, float *sum, float *acc)
{
    _Alignas(64) float wide_k[ATTN_BLOCK * ATTN_WIDEST], wide_v[ATTN_BLOCK * ATTN_WIDEST];
    if (kv_coded(ld.type) || a->n_q < ATTN_MANY || a->head_dim > ATTN_WIDEST) return false;
    for (size_t i = 0; i < ATTN_BLOCK * a->head_dim; i += VL) {
        v_store(wide_k + i, ld.load(k, i));
        v_store(wide_v + i, ld.load(v, i));
    }
    wide_attn_f32(a, wide_k, wide_v, m, sum, acc);
    return true;
}

ATTN_TYPE(f16, KV_F16, attn_f16, attn_f16_n)
ATTN_TYPE(bf16, KV_BF16, attn_bf16, attn_bf16_n)
ATTN_TYPE(q8, KV_Q8, NULL, NULL)
ATTN_TYPE(q8_q4, KV_Q8_Q4, NULL, NULL)

static void wide_attn_merge(size_t n_q, size_t head_dim, float *m, float *sum, float *acc, const float *m2,
                            const float *sum2, const float *acc2)
{
    for (size_t r = 0; r < n_q; r++, acc += head_dim, acc2 += head_dim) {
        if (m2[r] == -INFINITY) continue;
        float max = m[r] > m2[r] ? m[r] : m2[r], part[2 * VL];
        v_store(part, wide_exp(v_set1(m[r] - max)));
        v_store(part + VL, wide_exp(v_set1(m2[r] - max)));
        vf a = v_set1(part[0]), b = v_set1(part[VL]);
        sum[r] = fmaf(part[0], sum[r], part[VL] * sum2[r]);
        m[r] = max;
        for (size_t i = 0; i < head_dim; i += VL) {
            size_t left = head_dim - i;
            vf x = wide_load_up_to(acc + i, left), y = wide_load_up_to(acc2 + i, left);
            wide_store_up_to(acc + i, v_fma(a, x, v_mul(b, y)), left);
        }
    }
}

static void wide_attn_finish(size_t head_dim, const float *acc, float sum, float *out)
{
    if (sum == 0)
        wide_scale(acc, 0, head_dim, out);
    else
        wide_map(acc, acc, sum, head_dim, out, op_divide);
}

static inline void wide_attn_init(struct kernels *k, const char *level)
{
    k->attn_block[KV_F32] = wide_attn_f32;
    k->attn_block[KV_F16] = wide_attn_f16;
    k->attn_block[KV_BF16] = wide_attn_bf16;
    k->attn_block[KV_Q8] = wide_attn_q8;
    k->attn_block[KV_Q8_Q4] = wide_attn_q8_q4;
    for (size_t t = 0; t < KV_COUNT; t++) k->attn_level[t] = level;
    k->attn_merge = wide_attn_merge;
    k->attn_finish = wide_attn_finish;
}
#endif
