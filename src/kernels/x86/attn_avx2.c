/* Attention over one block of 64 positions, and the cache stores.
 *
 * Both products are outer products in registers: scores[query][position] over head_dim, then
 * acc[query][dim] over positions, one FMA chain per number in ascending order, so a tile's shape
 * never changes a bit. Tiles are queries x registers of 8: 6 x 2, 4 x 2, 3 x 4, 2 x 4, 1 x 8; a page
 * is widened to float32 on the way into the tile, once for all queries of the tile. Positions that
 * a query does not see have probability 0, and adding 0 x v changes nothing.
 *
 * KV_Q8: scores are integer dots of codes per 32 dims (|q| times k with the sign of q, so that
 * VPMADDUBSW takes both), then take the scales; a value's scale joins its probability. */
#include "kernels/kv.h"
#include "kernels/scalar.h"
#include "kernels/x86/avx2.h"
#include "kernels/x86/math_avx2.h"

enum { B = ATTN_BLOCK, TILE_Q = 6 };

INLINE __m128i load_128(const void *p) { return _mm_loadu_si128((const __m128i *)p); }

/* Eight numbers of a page from element i on; KV_Q8 without its scale. */
INLINE __m256 page_8(enum kv_type t, const void *page, size_t i)
{
    if (t == KV_F32) return _mm256_loadu_ps((const float *)page + i);
    if (t == KV_F16) return _mm256_cvtph_ps(load_128((const uint16_t *)page + i));
    if (t == KV_BF16) {
        __m256i v = _mm256_cvtepu16_epi32(load_128((const uint16_t *)page + i));
        return _mm256_castsi256_ps(_mm256_slli_epi32(v, 16));
    }
    __m128i codes = _mm_loadl_epi64((const __m128i *)(const void *)((const int8_t *)page + i));
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes));
}

/* f[r][p] += v_p * x_r, the registers holding whichever side is smaller. STAY keeps the order that
 * was written: without it gcc loads ahead, spills the sums and loses a quarter of the speed. */
#define STAY(v) __asm__ volatile("" : "+x"(v))
#define OUTER(f, nq, np, load_x, load_v)                                                       \
    do {                                                                                       \
        __m256 side[8];                                                                        \
        if ((nq) <= (np)) {                                                                    \
            UNROLL                                                                             \
            for (int r = 0; r < (nq); r++) side[r] = (load_x);                                 \
            UNROLL                                                                             \
            for (int p = 0; p < (np); p++) {                                                   \
                __m256 v = (load_v);                                                           \
                STAY(v);                                                                       \
                UNROLL                                                                         \
                for (int r = 0; r < (nq); r++) f[r][p] = _mm256_fmadd_ps(v, side[r], f[r][p]); \
            }                                                                                  \
        } else {                                                                               \
            UNROLL                                                                             \
            for (int p = 0; p < (np); p++) side[p] = (load_v);                                 \
            UNROLL                                                                             \
            for (int r = 0; r < (nq); r++) {                                                   \
                __m256 x = (load_x);                                                           \
                STAY(x);                                                                       \
                UNROLL                                                                         \
                for (int p = 0; p < (np); p++) f[r][p] = _mm256_fmadd_ps(side[p], x, f[r][p]); \
            }                                                                                  \
        }                                                                                      \
    } while (0)

#define CLEAR(f, nq, np)                                                  \
    do {                                                                  \
        UNROLL                                                            \
        for (int r = 0; r < (nq); r++) {                                  \
            UNROLL                                                        \
            for (int p = 0; p < (np); p++) f[r][p] = _mm256_setzero_ps(); \
        }                                                                 \
    } while (0)

/* While n registers of one page are read, as many bytes of what comes next are fetched. */
INLINE void fetch(enum kv_type t, int n, const char **ahead)
{
    size_t bytes = 8 * (size_t)n * kv_element(t);
    UNROLL
    for (size_t i = 0; i < bytes; i += 64) _mm_prefetch(*ahead + i, _MM_HINT_T0);
    *ahead += bytes;
}

/* score[r][j0 ...] = q_r . k_j for 8 * np positions, j0 on a panel's border or, where np is 1, half
 * way. */
INLINE void score_tile(enum kv_type t, int nq, int np, const struct attn_query *a, size_t r0,
                       const void *page, size_t j0, float (*score)[B], const char *ahead)
{
    const float *q = a->q + r0 * a->ldq;
    size_t at = kv_k_at(t, a->head_dim, 0, j0), panel = KV_PANEL * a->head_dim;
    __m256 f[TILE_Q][8];
    CLEAR(f, nq, np);
    for (size_t i = 0; i < a->head_dim; i++, at += KV_PANEL) {
        fetch(t, np, &ahead);
        OUTER(f, nq, np, set8(q[(size_t)r * a->ldq + i]),
              page_8(t, page, at + (size_t)p / 2 * panel + (size_t)p % 2 * 8));
    }
    UNROLL
    for (int p = 0; p < np; p++) {
        UNROLL
        for (int r = 0; r < nq; r++) _mm256_storeu_ps(score[r] + j0 + 8 * (size_t)p, f[r][p]);
    }
}

INLINE __m256i quad_of(const int8_t *codes)
{
    return _mm256_set1_epi32((int)load_word(codes));
}

/* The same of codes, `np` registers of 8 positions x 4 dims. */
INLINE void score_tile_q8(int nq, int np, const struct attn_query *a, size_t r0, const void *page,
                          size_t j0, float (*score)[B], const char *ahead)
{
    const __m256i ones = _mm256_set1_epi16(1);
    const float *scales = kv_scales(page, a->head_dim) + j0;
    size_t panel = 4 * KV_PANEL * kv_quads(a->head_dim);
    for (size_t i0 = 0; i0 < a->head_dim; i0 += 32) {
        size_t i1 = a->head_dim - i0 < 32 ? a->head_dim : i0 + 32;
        __m256i sum[TILE_Q][4];
        UNROLL
        for (int r = 0; r < nq; r++) {
            UNROLL
            for (int p = 0; p < np; p++) sum[r][p] = _mm256_setzero_si256();
        }
        const int8_t *at = (const int8_t *)page + kv_k_at(KV_Q8, a->head_dim, i0, j0);
        for (size_t i = i0; i < i1; i += 4, at += 4 * KV_PANEL) {
            __m256i k[4];
            fetch(KV_Q8, 4 * np, &ahead);
            UNROLL
            for (int p = 0; p < np; p++)
                k[p] = _mm256_loadu_si256((const void *)(at + (size_t)p / 2 * panel + p % 2 * 32));
            UNROLL
            for (int r = 0; r < nq; r++) {
                __m256i q = quad_of(a->codes + (r0 + (size_t)r) * a->ldc + i);
                __m256i abs = _mm256_abs_epi8(q);
                UNROLL
                for (int p = 0; p < np; p++) {
                    __m256i pairs = _mm256_maddubs_epi16(abs, _mm256_sign_epi8(k[p], q));
                    sum[r][p] = _mm256_add_epi32(sum[r][p], _mm256_madd_epi16(pairs, ones));
                }
            }
        }
        UNROLL
        for (int p = 0; p < np; p++) {
            __m256 d = _mm256_loadu_ps(scales + i0 / 32 * B + 8 * (size_t)p);
            UNROLL
            for (int r = 0; r < nq; r++) {
                float *to = score[r] + j0 + 8 * (size_t)p;
                __m256 by = _mm256_mul_ps(set8(a->d[(r0 + (size_t)r) * a->ldd + i0 / 32]), d);
                __m256 dot = _mm256_cvtepi32_ps(sum[r][p]);
                _mm256_storeu_ps(to, i0 ? _mm256_fmadd_ps(dot, by, _mm256_loadu_ps(to))
                                        : _mm256_mul_ps(dot, by));
            }
        }
    }
}

/* acc[r][i0 ...] = sum of p_rj v_j over lo <= j < hi, for 8 * nd dims of panels `width` wide. */
INLINE void value_tile(enum kv_type t, int nq, int nd, size_t width, const float (*prob)[B],
                       const void *page, size_t at, size_t lo, size_t hi, float *acc, size_t ld,
                       const char *ahead)
{
    __m256 f[TILE_Q][8];
    CLEAR(f, nq, nd);
    at += lo * width;
    for (size_t j = lo; j < hi; j++, at += width) {
        fetch(t, nd, &ahead);
        OUTER(f, nq, nd, set8(prob[r][j]),
              page_8(t, page, at + (size_t)p / 2 * B * KV_PANEL + (size_t)p % 2 * 8));
    }
    UNROLL
    for (int r = 0; r < nq; r++) {
        UNROLL
        for (int d = 0; d < nd; d++)
            _mm256_storeu_ps(acc + (size_t)r * ld + 8 * (size_t)d, f[r][d]);
    }
}

/* Probabilities times the scales of one group of dims of V. */
INLINE void scale_probs(size_t nq, const float *scales, const float (*prob)[B], float (*out)[B])
{
    for (size_t j = 0; j < B; j += 8) {
        __m256 d = _mm256_loadu_ps(scales + j);
        for (size_t r = 0; r < nq; r++)
            _mm256_storeu_ps(out[r] + j, _mm256_mul_ps(_mm256_loadu_ps(prob[r] + j), d));
    }
}

/* The last head_dim % 8 dims: their columns as float32, 8 wide, then the same chains. */
static void value_rest(enum kv_type t, size_t nq, size_t head_dim, const float (*prob)[B],
                       const void *page, size_t lo, size_t hi, float *acc)
{
    float part[B][8] = { { 0 } }, out[8];
    size_t i0 = head_dim / 8 * 8, n = head_dim - i0;
    for (size_t j = lo; j < hi; j++)
        for (size_t i = 0; i < n; i++) {
            size_t at = kv_v_at(head_dim, i0 + i, j);
            part[j][i] = t == KV_F32 ? ((const float *)page)[at]
                         : t == KV_F16 ? half_to_float(((const uint16_t *)page)[at])
                         : t == KV_BF16 ? brain_to_float(((const uint16_t *)page)[at])
                         : (float)((const int8_t *)page)[at];
        }
    for (size_t r = 0; r < nq; r++) {
        value_tile(KV_F32, 1, 1, 8, prob + r, part, 0, lo, hi, out, 8, (const char *)part);
        memcpy(acc + r * head_dim + i0, out, n * sizeof *out);
    }
}

/* Scaled and capped; -inf where r does not see. Returns the maximum. The maxima of all rows come
 * first, then all exponentials: neither waits for the other's reductions. */
INLINE float largest(const struct attn_query *a, size_t r, float *score)
{
    const __m256i first = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256i lo = _mm256_set1_epi32(a->lo[r]), hi = _mm256_set1_epi32(a->hi[r]);
    bool all = a->lo[r] == 0 && a->hi[r] == B;
    float cap = a->softcap;                            /* stores to score could change a's */
    __m256 top = set8(-INFINITY), scale = set8(a->scale);
    UNROLL
    for (int p = 0; p < 8; p++) {
        __m256 v = _mm256_mul_ps(_mm256_loadu_ps(score + 8 * p), scale);
        if (cap > 0) v = _mm256_mul_ps(tanh8(_mm256_div_ps(v, set8(cap))), set8(cap));
        if (!all) {
            __m256i j = _mm256_add_epi32(first, _mm256_set1_epi32(8 * p));
            __m256i seen = _mm256_andnot_si256(_mm256_cmpgt_epi32(lo, j), _mm256_cmpgt_epi32(hi, j));
            v = _mm256_blendv_ps(set8(-INFINITY), v, _mm256_castsi256_ps(seen));
        }
        _mm256_storeu_ps(score + 8 * p, v);
        top = _mm256_max_ps(v, top);
    }
    return max8(top);
}

/* p = exp(score - m); their sum. */
INLINE float probabilities(float *score, float m)
{
    __m256 base = set8(m == -INFINITY ? 0.0f : m);             /* nothing seen: all e^-inf = 0 */
    __m256 total[2] = { _mm256_setzero_ps(), _mm256_setzero_ps() };
    UNROLL
    for (int p = 0; p < 8; p++) {
        __m256 v = exp8(_mm256_sub_ps(_mm256_loadu_ps(score + 8 * p), base));
        total[p % 2] = _mm256_add_ps(total[p % 2], v);
        _mm256_storeu_ps(score + 8 * p, v);
    }
    return sum8(_mm256_add_ps(total[0], total[1]));
}

/* Positions that any of n queries sees. */
INLINE void span(const struct attn_query *a, size_t r0, size_t n, size_t *lo, size_t *hi)
{
    int l = B, h = 0;
    for (size_t r = r0; r < r0 + n; r++)
        if (a->lo[r] < a->hi[r]) {
            l = a->lo[r] < l ? a->lo[r] : l;
            h = a->hi[r] > h ? a->hi[r] : h;
        }
    *lo = (size_t)l;
    *hi = (size_t)h;
}

/* Tiles stand alone: inlined beside others, gcc keeps one sum of the 12 in memory and the loop
 * takes twice as long. */
typedef void score_fn(const struct attn_query *a, size_t r0, const void *page, size_t j0,
                      float (*score)[B], const char *ahead);
typedef void value_fn(int nd, size_t width, const float (*prob)[B], const void *page, size_t at,
                      size_t lo, size_t hi, float *acc, size_t ld, const char *ahead);

struct tile_fns {
    score_fn *score;
    value_fn *value;
    size_t score_wide, value_wide;                    /* positions, dims */
};

INLINE void scores(enum kv_type t, const struct tile_fns *f, const struct attn_query *a, size_t r0,
                   const void *page, size_t lo, size_t hi, float (*score)[B], const char *ahead)
{
    size_t step = f->score_wide, bytes = step * a->head_dim * kv_element(t);
    for (size_t j = lo / step * step; j < hi; j += step)
        f->score(a, r0, page, j, score, ahead + j / step * bytes);
}

INLINE void values(enum kv_type t, const struct tile_fns *f, size_t nq, const struct attn_query *a,
                   const void *page, size_t lo, size_t hi, const float (*prob)[B], float *acc,
                   const char *ahead)
{
    size_t d = a->head_dim, run = t == KV_Q8 ? 32 : d, wide = f->value_wide;
    float scaled[TILE_Q][B];
    for (size_t i0 = 0; i0 < d; i0 += run) {
        const float(*p)[B] = prob;
        size_t i = i0, end = d - i0 < run ? d : i0 + run, full = d / KV_PANEL * KV_PANEL;
        if (t == KV_Q8) {
            scale_probs(nq, kv_scales(page, d) + i0 / 32 * B, prob, scaled);
            p = (const float(*)[B])scaled;
        }
        if (full > end) full = end;
        for (; i < full; i += wide) {
            if (i + wide > full) wide = KV_PANEL;
            f->value((int)wide / 8, KV_PANEL, p, page, kv_v_at(d, i, 0), lo, hi, acc + i, d,
                     ahead + i * B * kv_element(t));
        }
        if (i + 8 <= end) {
            f->value(1, end - i, p, page, kv_v_at(d, i, 0), lo, hi, acc + i, d, ahead);
            i += 8;
        }
        if (i < end) value_rest(t, nq, d, p, page, lo, hi, acc);
    }
}

/* One tile of nq queries. While K is read V is fetched, and while V is read the K to come. */
INLINE void attend(enum kv_type t, const struct tile_fns *f, size_t nq, const struct attn_query *a,
                   size_t r0, const void *k_page, const void *v_page, float *m, float *sum,
                   float *acc)
{
    float score[TILE_Q][B];
    size_t lo, hi;
    span(a, r0, nq, &lo, &hi);
    scores(t, f, a, r0, k_page, lo, hi, score, r0 ? k_page : v_page);
    for (size_t r = 0; r < nq; r++) m[r0 + r] = largest(a, r0 + r, score[r]);
    for (size_t r = 0; r < nq; r++) sum[r0 + r] = probabilities(score[r], m[r0 + r]);
    values(t, f, nq, a, v_page, lo, hi, (const float(*)[B])score, acc + r0 * a->head_dim,
           r0 || !a->next_k ? v_page : a->next_k);
}

INLINE void attn_block(enum kv_type t, const struct tile_fns fns[TILE_Q + 1],
                       const struct attn_query *a, const void *k_page, const void *v_page,
                       float *m, float *sum, float *acc)
{
    for (size_t r = 0, n; r < a->n_q; r += n) {
        size_t left = a->n_q - r;
        n = left == 4 || left == 7 || left == 8 ? 4 : left >= 6 ? 6 : left == 5 ? 3 : left;
        attend(t, &fns[n], n, a, r, k_page, v_page, m, sum, acc);
    }
}

/* ---- between blocks -------------------------------------------------------------------------- */

static void attn_merge_avx2(size_t n_q, size_t head_dim, float *m, float *sum, float *acc,
                            const float *m2, const float *sum2, const float *acc2)
{
    float old[8], new[8];
    for (size_t r = 0; r < n_q; r++, acc += head_dim, acc2 += head_dim) {
        if (r % 8 == 0) {                            /* both factors of eight queries at a time */
            __m256 x = load_part(m + r, n_q - r), y = load_part(m2 + r, n_q - r);
            __m256 max = _mm256_max_ps(x, y);
            _mm256_storeu_ps(old, exp8(_mm256_sub_ps(x, max)));
            _mm256_storeu_ps(new, exp8(_mm256_sub_ps(y, max)));
        }
        if (m2[r] == -INFINITY) continue;
        float a = old[r % 8], b = new[r % 8];
        sum[r] = fmaf(a, sum[r], b * sum2[r]);
        m[r] = m[r] > m2[r] ? m[r] : m2[r];
        for (size_t i = 0; i < head_dim; i += 8) {
            __m256 v = _mm256_mul_ps(load_part(acc2 + i, head_dim - i), set8(b));
            store_part(acc + i, head_dim - i,
                       _mm256_fmadd_ps(load_part(acc + i, head_dim - i), set8(a), v));
        }
    }
}

static void attn_finish_avx2(size_t head_dim, const float *acc, float sum, float *out)
{
    __m256 none = set8(sum == 0 ? 1.0f : 0.0f);
    for (size_t i = 0; i < head_dim; i += 8) {
        __m256 v = _mm256_div_ps(load_part(acc + i, head_dim - i), set8(sum));
        v = _mm256_andnot_ps(_mm256_cmp_ps(none, _mm256_setzero_ps(), _CMP_NEQ_OQ), v);
        store_part(out + i, head_dim - i, v);
    }
}

/* ---- storing one token ----------------------------------------------------------------------- */

INLINE void store_16(bool is_k, enum kv_type t, const float *x, size_t n, size_t j, void *page)
{
    for (size_t i = 0; i < n; i += 8) {
        uint16_t h[8];
        __m256 v = load_part(x + i, n - i);
        _mm_storeu_si128((void *)h, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
        size_t m = n - i < 8 ? n - i : 8;
        if (is_k) kv_put_k(t, n, i, m, j, h, page);
        else kv_put_v(t, n, i, m, j, h, page);
    }
}

static void store_k_F16_avx2(const float *x, size_t n, size_t j, void *page)
{
    store_16(true, KV_F16, x, n, j, page);
}

static void store_v_F16_avx2(const float *x, size_t n, size_t j, void *page)
{
    store_16(false, KV_F16, x, n, j, page);
}

#define ALONE static __attribute__((noinline))
#define TILE(T, NQ, SCORE_P, VALUE_D)                                                             \
    ALONE void score_##T##_##NQ(const struct attn_query *a, size_t r0, const void *page, size_t j0, \
                                float (*score)[B], const char *ahead)                             \
    {                                                                                             \
        if (KV_##T == KV_Q8) score_tile_q8(NQ, SCORE_P, a, r0, page, j0, score, ahead);           \
        else score_tile(KV_##T, NQ, SCORE_P, a, r0, page, j0, score, ahead);                      \
    }                                                                                             \
    ALONE void value_wide_##T##_##NQ(const float (*prob)[B], const void *page, size_t at,         \
                                     size_t lo, size_t hi, float *acc, size_t ld,                 \
                                     const char *ahead)                                           \
    {                                                                                             \
        value_tile(KV_##T, NQ, VALUE_D, KV_PANEL, prob, page, at, lo, hi, acc, ld, ahead);        \
    }                                                                                             \
    ALONE void value_##T##_##NQ(int nd, size_t width, const float (*prob)[B], const void *page,   \
                                size_t at, size_t lo, size_t hi, float *acc, size_t ld,           \
                                const char *ahead)                                                \
    {                                                                                             \
        if (nd == VALUE_D)                                                                        \
            value_wide_##T##_##NQ(prob, page, at, lo, hi, acc, ld, ahead);                        \
        else if (nd == 2)                                                                         \
            value_tile(KV_##T, NQ, 2, KV_PANEL, prob, page, at, lo, hi, acc, ld, ahead);          \
        else value_tile(KV_##T, NQ, 1, width, prob, page, at, lo, hi, acc, ld, ahead);            \
    }

#define TILE_ROW(T, NQ, P, D) [NQ] = { score_##T##_##NQ, value_##T##_##NQ, 8 * (P), 8 * (D) }
#define ATTN_AVX2(T, P1, P2, D1)                                                                  \
    TILE(T, 1, P1, D1)                                                                            \
    TILE(T, 2, P2, 4)                                                                             \
    TILE(T, 3, P2, 4)                                                                             \
    TILE(T, 4, 2, 2)                                                                              \
    TILE(T, 6, 2, 2)                                                                              \
    static void attn_##T##_avx2(const struct attn_query *a, const void *k_page,                   \
                                const void *v_page, float *m, float *sum, float *acc)             \
    {                                                                                             \
        static const struct tile_fns fns[TILE_Q + 1] = {                                          \
            TILE_ROW(T, 1, P1, D1), TILE_ROW(T, 2, P2, 4), TILE_ROW(T, 3, P2, 4),                 \
            TILE_ROW(T, 4, 2, 2),   TILE_ROW(T, 6, 2, 2),                                         \
        };                                                                                        \
        attn_block(KV_##T, fns, a, k_page, v_page, m, sum, acc);                                  \
    }
ATTN_AVX2(F32, 8, 4, 8)
ATTN_AVX2(F16, 8, 4, 8)
ATTN_AVX2(BF16, 8, 4, 8)
ATTN_AVX2(Q8, 4, 2, 4)

void attn_init_avx2(struct kernels *k)
{
    k->attn_block[KV_F32] = attn_F32_avx2;
    k->attn_block[KV_F16] = attn_F16_avx2;
    k->attn_block[KV_BF16] = attn_BF16_avx2;
    k->attn_block[KV_Q8] = attn_Q8_avx2;
    for (size_t t = 0; t < KV_COUNT; t++) k->attn_level[t] = "avx2";
    k->kv_store_k[KV_F16] = store_k_F16_avx2;
    k->kv_store_v[KV_F16] = store_v_F16_avx2;
    k->attn_merge = attn_merge_avx2;
    k->attn_finish = attn_finish_avx2;
}
