/* Attention over one block of 64 positions, and the cache stores.
 *
 * Both products are outer products in registers: scores[query][position] over head_dim, then
 * acc[query][dim] over positions, one FMA chain per number in ascending order, so a tile's shape
 * never changes a bit. Tiles are queries x registers of 8: 6 x 2, 4 x 2, 3 x 4 (3 x 2 where
 * widening needs registers), 2 x 4, 1 x 8; a page is widened to float32 on the way into the tile,
 * once for all queries of the tile. Positions that a query does not see have probability 0, and
 * adding 0 x v changes nothing.
 *
 * KV_Q8: sums run over the codes of 32 dims, then take the scale; a value's scale joins its
 * probability. Tried and lost: fetching V, or K some rows ahead, while K is read (cold pages 0 to
 * 15 % slower). */
#include "kernels/scalar.h"
#include "kernels/x86/avx2.h"
#include "kernels/x86/math_avx2.h"

enum { B = ATTN_BLOCK, TILE_Q = 6 };

INLINE size_t groups_of(size_t head_dim) { return (head_dim + 31) / 32; }

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

INLINE const float *page_scales(const void *page, size_t head_dim)
{
    return (const void *)((const uint8_t *)page + head_dim * B);
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

/* score[r][j0 ...] = q_r . k_j for 8 * np positions, dims in runs of `run`: all of them, or 32. */
INLINE void score_tile(enum kv_type t, int nq, int np, const struct attn_query *a, size_t r0,
                       const void *page, size_t j0, float (*score)[B])
{
    const float *q = a->q + r0 * a->ldq, *scales = page_scales(page, a->head_dim) + j0;
    size_t run = t == KV_Q8 ? 32 : a->head_dim;
    for (size_t i0 = 0; i0 < a->head_dim; i0 += run) {
        size_t i1 = a->head_dim - i0 < run ? a->head_dim : i0 + run;
        __m256 f[TILE_Q][8];
        CLEAR(f, nq, np);
        for (size_t i = i0; i < i1; i++)
            OUTER(f, nq, np, set8(q[(size_t)r * a->ldq + i]),
                  page_8(t, page, i * B + j0 + 8 * (size_t)p));
        UNROLL
        for (int p = 0; p < np; p++) {
            __m256 d = t == KV_Q8 ? _mm256_loadu_ps(scales + i0 / 32 * B + 8 * (size_t)p) : set8(0);
            UNROLL
            for (int r = 0; r < nq; r++) {
                float *to = score[r] + j0 + 8 * (size_t)p;
                _mm256_storeu_ps(to, t == KV_Q8 ? _mm256_fmadd_ps(f[r][p], d, _mm256_loadu_ps(to))
                                                : f[r][p]);
            }
        }
    }
}

/* acc[r][i0 ...] = sum of p_rj v_j over lo <= j < hi, for 8 * nd dims. */
INLINE void value_tile(enum kv_type t, int nq, int nd, size_t head_dim, const float (*prob)[B],
                       const void *page, size_t i0, size_t lo, size_t hi, float *acc, size_t ld)
{
    __m256 f[TILE_Q][8];
    CLEAR(f, nq, nd);
    for (size_t j = lo; j < hi; j++)
        OUTER(f, nq, nd, set8(prob[r][j]), page_8(t, page, j * head_dim + i0 + 8 * (size_t)p));
    UNROLL
    for (int r = 0; r < nq; r++) {
        UNROLL
        for (int d = 0; d < nd; d++)
            _mm256_storeu_ps(acc + (size_t)r * ld + i0 + 8 * (size_t)d, f[r][d]);
    }
}

/* Probabilities times the scales of one group of dims of V. */
INLINE void scale_probs(int nq, size_t head_dim, const float (*prob)[B], const void *page,
                        size_t group, float (*out)[B])
{
    const float *scales = page_scales(page, head_dim) + group;
    float d[B];
    for (size_t j = 0; j < B; j++) d[j] = scales[j * groups_of(head_dim)];
    for (int r = 0; r < nq; r++)
        for (size_t j = 0; j < B; j += 8)
            _mm256_storeu_ps(out[r] + j,
                             _mm256_mul_ps(_mm256_loadu_ps(prob[r] + j), _mm256_loadu_ps(d + j)));
}

/* The last head_dim % 8 dims: their columns as float32, 8 wide, then the same chains. */
static void value_rest(enum kv_type t, size_t nq, size_t head_dim, const float (*prob)[B],
                       const void *page, size_t lo, size_t hi, float *acc)
{
    float part[B][8] = { { 0 } }, out[8];
    size_t i0 = head_dim / 8 * 8, n = head_dim - i0;
    for (size_t j = lo; j < hi; j++)
        for (size_t i = 0; i < n; i++) {
            size_t at = j * head_dim + i0 + i;
            part[j][i] = t == KV_F32 ? ((const float *)page)[at]
                         : t == KV_F16 ? half_to_float(((const uint16_t *)page)[at])
                         : t == KV_BF16 ? brain_to_float(((const uint16_t *)page)[at])
                         : (float)((const int8_t *)page)[at];
        }
    for (size_t r = 0; r < nq; r++) {
        value_tile(KV_F32, 1, 1, 8, prob + r, part, 0, lo, hi, out, 8);
        memcpy(acc + r * head_dim + i0, out, n * sizeof *out);
    }
}

/* Scores to probabilities: m = maximum over lo..hi, p = exp(score - m), 0 elsewhere; their
 * sum. */
INLINE void softmax(const struct attn_query *a, size_t r, float *score, float *m, float *sum)
{
    const __m256i first = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256i lo = _mm256_set1_epi32(a->lo[r]), hi = _mm256_set1_epi32(a->hi[r]);
    __m256 v[8], top = set8(-INFINITY), total[2] = { _mm256_setzero_ps(), _mm256_setzero_ps() };
    UNROLL
    for (int p = 0; p < 8; p++) {
        __m256i j = _mm256_add_epi32(first, _mm256_set1_epi32(8 * p));
        __m256 seen = _mm256_castsi256_ps(
            _mm256_andnot_si256(_mm256_cmpgt_epi32(lo, j), _mm256_cmpgt_epi32(hi, j)));
        v[p] = _mm256_mul_ps(_mm256_loadu_ps(score + 8 * p), set8(a->scale));
        if (a->softcap > 0)
            v[p] = _mm256_mul_ps(tanh8(_mm256_div_ps(v[p], set8(a->softcap))), set8(a->softcap));
        v[p] = _mm256_blendv_ps(set8(-INFINITY), v[p], seen);
        top = _mm256_max_ps(v[p], top);
    }
    *m = max8(top);
    __m256 base = set8(*m == -INFINITY ? 0.0f : *m);           /* nothing seen: all e^-inf = 0 */
    UNROLL
    for (int p = 0; p < 8; p++) {
        v[p] = exp8(_mm256_sub_ps(v[p], base));
        total[p % 2] = _mm256_add_ps(total[p % 2], v[p]);
        _mm256_storeu_ps(score + 8 * p, v[p]);
    }
    *sum = sum8(_mm256_add_ps(total[0], total[1]));
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

INLINE void scores(enum kv_type t, int nq, int np, const struct attn_query *a, size_t r0,
                   const void *page, size_t lo, size_t hi, float (*score)[B])
{
    size_t step = 8 * (size_t)np;
    for (size_t j = lo / step * step; j < hi; j += step)
        score_tile(t, nq, np, a, r0, page, j, score);
}

INLINE void values(enum kv_type t, int nq, int nd, const struct attn_query *a, size_t r0,
                   const void *page, size_t lo, size_t hi, const float (*prob)[B], float *acc)
{
    size_t d = a->head_dim, run = t == KV_Q8 ? 32 : d;
    float scaled[TILE_Q][B];
    if (t == KV_Q8 && nd > 4) nd = 4;
    acc += r0 * d;
    for (size_t i0 = 0; i0 < d; i0 += run) {
        const float(*p)[B] = prob;
        size_t i = i0, end = d - i0 < run ? d : i0 + run;
        if (t == KV_Q8) {
            scale_probs(nq, d, prob, page, i0 / 32, scaled);
            p = (const float(*)[B])scaled;
        }
        for (; i + 8 * (size_t)nd <= end; i += 8 * (size_t)nd)
            value_tile(t, nq, nd, d, p, page, i, lo, hi, acc, d);
        for (; i + 8 <= end; i += 8) value_tile(t, nq, 1, d, p, page, i, lo, hi, acc, d);
        if (i < end) value_rest(t, (size_t)nq, d, p, page, lo, hi, acc);
    }
}

/* One tile of nq queries: 8 * wide positions, then 8 * wide dims at a time. */
INLINE void attend(enum kv_type t, int nq, int wide, const struct attn_query *a, size_t r0,
                   const void *k_page, const void *v_page, float *m, float *sum, float *acc)
{
    float score[TILE_Q][B];
    size_t lo, hi;
    span(a, r0, (size_t)nq, &lo, &hi);
    memset(score, 0, (size_t)nq * sizeof *score);
    scores(t, nq, wide, a, r0, k_page, lo, hi, score);
    for (int r = 0; r < nq; r++)
        softmax(a, r0 + (size_t)r, score[r], &m[r0 + (size_t)r], &sum[r0 + (size_t)r]);
    values(t, nq, wide, a, r0, v_page, lo, hi, (const float(*)[B])score, acc);
}

INLINE void attn_block(enum kv_type t, const struct attn_query *a, const void *k_page,
                       const void *v_page, float *m, float *sum, float *acc)
{
    for (size_t r = 0, n; r < a->n_q; r += n) {
        size_t left = a->n_q - r;
        n = left == 4 || left == 7 || left == 8 ? 4 : left >= 6 ? 6 : left == 5 ? 3 : left;
        switch (n) {
        case 6: attend(t, 6, 2, a, r, k_page, v_page, m, sum, acc); break;
        case 4: attend(t, 4, 2, a, r, k_page, v_page, m, sum, acc); break;
        case 3: attend(t, 3, t == KV_F32 ? 4 : 2, a, r, k_page, v_page, m, sum, acc); break;
        case 2: attend(t, 2, 4, a, r, k_page, v_page, m, sum, acc); break;
        default: attend(t, 1, 8, a, r, k_page, v_page, m, sum, acc);
        }
    }
}

/* ---- between blocks -------------------------------------------------------------------------- */

static float exp1(float x) { return _mm256_cvtss_f32(exp8(set8(x))); }

static void attn_merge_avx2(size_t n_q, size_t head_dim, float *m, float *sum, float *acc,
                            const float *m2, const float *sum2, const float *acc2)
{
    for (size_t r = 0; r < n_q; r++, acc += head_dim, acc2 += head_dim) {
        if (m2[r] == -INFINITY) continue;
        float max = m[r] > m2[r] ? m[r] : m2[r], a = exp1(m[r] - max), b = exp1(m2[r] - max);
        sum[r] = fmaf(a, sum[r], b * sum2[r]);
        m[r] = max;
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

#define ATTN_AVX2(T)                                                                  \
    static void attn_##T##_avx2(const struct attn_query *a, const void *k_page,       \
                                const void *v_page, float *m, float *sum, float *acc) \
    {                                                                                 \
        attn_block(KV_##T, a, k_page, v_page, m, sum, acc);                           \
    }
ATTN_AVX2(F32)
ATTN_AVX2(F16)
ATTN_AVX2(BF16)
ATTN_AVX2(Q8)

void attn_init_avx2(struct kernels *k)
{
    k->attn_block[KV_F32] = attn_F32_avx2;
    k->attn_block[KV_F16] = attn_F16_avx2;
    k->attn_block[KV_BF16] = attn_BF16_avx2;
    k->attn_block[KV_Q8] = attn_Q8_avx2;
    for (size_t t = 0; t < KV_COUNT; t++) k->attn_level[t] = "avx2";
    k->attn_merge = attn_merge_avx2;
    k->attn_finish = attn_finish_avx2;
}
