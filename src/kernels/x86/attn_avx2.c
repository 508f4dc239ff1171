/* Attention over one block of 64 positions, and the cache stores.
 *
 * Both products are outer products in registers: scores[query][position] over head_dim, then
 * acc[query][dim] over positions, one FMA chain per number in ascending order, so a tile's shape
 * never changes a bit. Tiles are queries x registers of 8: 6 x 2, 4 x 2, 3 x 4, 2 x 4, 1 x 8; a page
 * is widened to float32 on the way into the tile, once for all queries of the tile. Positions that
 * a query does not see have probability 0, and adding 0 x v changes nothing.
 *
 * KV_Q8, KV_Q8_Q4: integers. Bytes are widened to int16 where they stand, the even and the odd
 * ones of each quad, and VPMADDWD takes two products of either: exact sums over 32 dims of K; over
 * all positions of V, whose probabilities, times V's scales, are rounded to 1/32767 of their
 * largest. So the order of sums cannot change a bit. */
#include "kernels/kv.h"
#include "kernels/scalar.h"
#include "kernels/x86/avx2.h"
#include "kernels/x86/math_avx2.h"

enum { B = ATTN_BLOCK, TILE_Q = 6 };

INLINE __m128i load_128(const void *p) { return _mm_loadu_si128((const __m128i *)p); }

/* Eight numbers of a page from element i on. */
INLINE __m256 page_8(enum kv_type t, const void *page, size_t i)
{
    if (t == KV_F32) return _mm256_loadu_ps((const float *)page + i);
    if (t == KV_F16) return _mm256_cvtph_ps(load_128((const uint16_t *)page + i));
    __m256i v = _mm256_cvtepu16_epi32(load_128((const uint16_t *)page + i));
    return _mm256_castsi256_ps(_mm256_slli_epi32(v, 16));
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

/* Bytes 0, 2 and 1, 3 of each quad as int16. */
INLINE __m256i even_bytes(__m256i v) { return _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8); }
INLINE __m256i odd_bytes(__m256i v) { return _mm256_srai_epi16(v, 8); }

INLINE __m256i load_codes(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }

/* f[p] += pairs of x[p] times the pair `w`, the same for all lanes. */
INLINE void add_pairs(int n, __m256i *f, const __m256i *x, int32_t w)
{
    __m256i pair = _mm256_set1_epi32(w);
    UNROLL
    for (int p = 0; p < n; p++)
        f[p] = _mm256_add_epi32(f[p], _mm256_madd_epi16(x[p], pair));
}

/* The same of codes, `np` registers of 8 positions x 4 dims. */
INLINE void score_tile_codes(int nq, int np, const struct attn_query *a, size_t r0,
                             const void *page, size_t j0, float (*score)[B], const char *ahead,
                             size_t step)
{
    const float *scales = kv_k_scales(page, a->head_dim) + j0;
    for (size_t i0 = 0; i0 < a->head_dim; i0 += 32) {
        size_t quads = kv_quads(a->head_dim - i0 < 32 ? a->head_dim - i0 : 32);
        int32_t even[TILE_Q][8], odd[TILE_Q][8];       /* pairs of q's codes, by quad */
        __m256i sum[TILE_Q][2];
        UNROLL
        for (int r = 0; r < nq; r++) {
            __m256i q = load_codes(a->codes + (r0 + (size_t)r) * a->ldc + i0);
            _mm256_storeu_si256((__m256i *)even[r], even_bytes(q));
            _mm256_storeu_si256((__m256i *)odd[r], odd_bytes(q));
            UNROLL
            for (int p = 0; p < np; p++) sum[r][p] = _mm256_setzero_si256();
        }
        const int8_t *at = (const int8_t *)page + kv_k_at(KV_Q8, a->head_dim, i0, j0);
        for (size_t i = 0; i < quads; i++, at += 4 * KV_PANEL, ahead += step) {
            __m256i x[2];
            _mm_prefetch(ahead, _MM_HINT_T0);
            UNROLL
            for (int p = 0; p < np; p++) x[p] = even_bytes(load_codes(at + 32 * p));
            UNROLL
            for (int r = 0; r < nq; r++) add_pairs(np, sum[r], x, even[r][i]);
            UNROLL
            for (int p = 0; p < np; p++) x[p] = odd_bytes(load_codes(at + 32 * p));
            UNROLL
            for (int r = 0; r < nq; r++) add_pairs(np, sum[r], x, odd[r][i]);
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

/* What value_tile_codes reads: probabilities times scales as int16, by quads of positions in the order
 * 0, 2, 1, 3, and what a code of 1 is worth. */
struct weights_16 {
    int32_t pair[TILE_Q][B / 2];
    float unit[TILE_Q];
};

/* `scales` of one group of dims. Where a probability is 0 the scale may be anything. The largest is
 * found among bit patterns: the numbers are not negative, and a NaN is above all. */
INLINE void weights_16(size_t nq, const float *scales, const float (*prob)[B], struct weights_16 *w)
{
    for (size_t r = 0; r < nq; r++) {
        __m256 v[8];
        __m256i top = _mm256_setzero_si256();
        UNROLL
        for (int p = 0; p < 8; p++) {
            __m256 x = _mm256_loadu_ps(prob[r] + 8 * p);
            v[p] = _mm256_mul_ps(x, _mm256_loadu_ps(scales + 8 * p));
            v[p] = _mm256_and_ps(v[p], _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_NEQ_UQ));
            top = _mm256_max_epi32(top, _mm256_castps_si256(v[p]));
        }
        __m128i t = _mm_max_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
        t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0x4e));
        t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0xb1));
        float most = _mm_cvtss_f32(_mm_castsi128_ps(t));
        __m256 by = set8(most > 0x1p-100f ? 32767.0f / most : 0.0f);
        w->unit[r] = most / 32767.0f;
        UNROLL
        for (int p = 0; p < 8; p += 2) {
            __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(v[p], by));
            __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(v[p + 1], by));
            __m256i h = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
            h = _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(h, 0xd8), 0xd8);
            _mm256_storeu_si256((__m256i *)(w->pair[r] + 4 * p), h);
        }
    }
}

/* acc[r][0 .. left] = the sum over quads lo <= j < hi of V for a panel of 16 dims; while it is read,
 * as many bytes of K are fetched as a page of KV_Q8 has. */
INLINE void value_tile_codes(enum kv_type t, int nq, const struct weights_16 *w, size_t r0,
                             const uint8_t *at, size_t lo, size_t hi, size_t left, float *acc,
                             size_t ld, const char *ahead)
{
    const __m256i low = _mm256_set1_epi8(15);
    const __m256i levels = _mm256_broadcastsi128_si256(load_128(kv_levels));
    __m256i f[4][2];
    UNROLL
    for (int r = 0; r < nq; r++) f[r][0] = f[r][1] = _mm256_setzero_si256();
    at += lo * (kv_v_panel(t) / (B / 4));
    for (size_t j = lo; j < hi; j++, at += kv_v_panel(t) / (B / 4), ahead += 64) {
        __m256i v[2], x[2];
        _mm_prefetch(ahead, _MM_HINT_T0);
        v[0] = load_codes(at);
        if (t == KV_Q8) {
            v[1] = load_codes(at + 32);
        } else {
            v[1] = _mm256_and_si256(_mm256_srli_epi16(v[0], 4), low);
            v[0] = _mm256_shuffle_epi8(levels, _mm256_and_si256(v[0], low));
            v[1] = _mm256_shuffle_epi8(levels, v[1]);
        }
        x[0] = even_bytes(v[0]), x[1] = even_bytes(v[1]);
        UNROLL
        for (int r = 0; r < nq; r++) add_pairs(2, f[r], x, w->pair[r0 + (size_t)r][2 * j]);
        x[0] = odd_bytes(v[0]), x[1] = odd_bytes(v[1]);
        UNROLL
        for (int r = 0; r < nq; r++) add_pairs(2, f[r], x, w->pair[r0 + (size_t)r][2 * j + 1]);
    }
    UNROLL
    for (int r = 0; r < nq; r++) {
        float *to = acc + (r0 + (size_t)r) * ld;
        __m256 unit = set8(w->unit[r0 + (size_t)r]);
        __m256 a = _mm256_mul_ps(_mm256_cvtepi32_ps(f[r][0]), unit);
        __m256 b = _mm256_mul_ps(_mm256_cvtepi32_ps(f[r][1]), unit);
        store_part(to, left, a);
        if (left > 8) store_part(to + 8, left - 8, b);
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

/* The last head_dim % 8 dims: their columns as float32, 8 wide, then the same chains. */
static void value_rest(enum kv_type t, size_t nq, size_t head_dim, const float (*prob)[B],
                       const void *page, size_t lo, size_t hi, float *acc)
{
    float part[B][8] = { { 0 } }, out[8];
    size_t i0 = head_dim / 8 * 8, n = head_dim - i0;
    for (size_t j = lo; j < hi; j++)
        for (size_t i = 0; i < n; i++) {
            size_t at = kv_v_at(t, head_dim, i0 + i, j);
            part[j][i] = t == KV_F32 ? ((const float *)page)[at]
                         : t == KV_F16 ? half_to_float(((const uint16_t *)page)[at])
                         : brain_to_float(((const uint16_t *)page)[at]);
        }
    for (size_t r = 0; r < nq; r++) {
        value_tile(KV_F32, 1, 1, 8, prob + r, part, 0, lo, hi, out, 8, (const char *)part);
        memcpy(acc + r * head_dim + i0, out, n * sizeof *out);
    }
}

/* The largest score; what the query does not see becomes -infinity. Scores are still to be multiplied by
 * *by, unless something stood in the way of doing that after the maximum. */
INLINE float largest(const struct attn_query *a, size_t r, float *score, float *by)
{
    float cap = a->softcap;
    int lo = a->lo[r], hi = a->hi[r];
    *by = a->scale;
    if (cap > 0 || !(a->scale > 0)) {
        *by = 1;
        for (int p = 0; p < B; p += 8) {
            __m256 v = _mm256_mul_ps(_mm256_loadu_ps(score + p), set8(a->scale));
            if (cap > 0) v = _mm256_mul_ps(tanh8(_mm256_div_ps(v, set8(cap))), set8(cap));
            _mm256_storeu_ps(score + p, v);
        }
    }
    if (lo > 0 || hi < B)
        for (int p = 0; p < B; p += 8) {
            __m256i j = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(p));
            __m256i seen = _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(lo), j),
                                               _mm256_cmpgt_epi32(_mm256_set1_epi32(hi), j));
            __m256 v = _mm256_loadu_ps(score + p);
            v = _mm256_blendv_ps(set8(-INFINITY), v, _mm256_castsi256_ps(seen));
            _mm256_storeu_ps(score + p, v);
        }
    __m256 top[2] = { _mm256_loadu_ps(score), _mm256_loadu_ps(score + 8) };
    UNROLL
    for (int p = 2; p < 8; p++) top[p % 2] = _mm256_max_ps(_mm256_loadu_ps(score + 8 * p), top[p % 2]);
    return *by * max8(_mm256_max_ps(top[0], top[1]));
}

/* exp8 for x <= 0, as 2^n 2^r: relative error below 2^-22.5 too, 1 exactly at 0. */
INLINE __m256 exp8_below(__m256 x)
{
    const __m256 lowest = set8(-87.3f), log2e = set8(1.44269504f);
    __m256 tiny = _mm256_cmp_ps(x, lowest, _CMP_LT_OQ);
    x = _mm256_max_ps(lowest, x);                       /* the second operand wins for NaN */
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, log2e), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fmsub_ps(x, log2e, n);
    __m256 p = _mm256_fmadd_ps(set8(0x1.5bb9b6p-10f), r, set8(0x1.3ceae2p-7f));
    p = _mm256_fmadd_ps(p, r, set8(0x1.c6b756p-5f));
    p = _mm256_fmadd_ps(p, r, set8(0x1.ebf9bap-3f));
    p = _mm256_fmadd_ps(p, r, set8(0x1.62e42ap-1f));
    p = _mm256_fmadd_ps(p, r, set8(1.0f));
    __m256i e = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    p = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), e));
    return _mm256_andnot_ps(tiny, p);
}

/* p = exp(by * score - m); their sum. */
INLINE float probabilities(float *score, float by, float m)
{
    __m256 base = set8(m == -INFINITY ? 0.0f : m);             /* nothing seen: all e^-inf = 0 */
    __m256 total[2] = { _mm256_setzero_ps(), _mm256_setzero_ps() };
    UNROLL
    for (int p = 0; p < 8; p++) {
        __m256 v = exp8_below(_mm256_fmsub_ps(_mm256_loadu_ps(score + 8 * p), set8(by), base));
        total[p % 2] = _mm256_add_ps(total[p % 2], v);
        _mm256_storeu_ps(score + 8 * p, v);
    }
    return sum8(_mm256_add_ps(total[0], total[1]));
}

/* The maxima of all rows come first, then all exponentials: neither waits for the other's reductions. */
INLINE void all_probabilities(const struct attn_query *a, size_t r0, size_t n, float (*score)[B],
                              float *m, float *sum)
{
    float by = 1;
    for (size_t r = 0; r < n; r++) m[r] = largest(a, r0 + r, score[r], &by);
    for (size_t r = 0; r < n; r++) sum[r] = probabilities(score[r], by, m[r]);
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
    size_t d = a->head_dim, wide = f->value_wide, i = 0, full = d / KV_PANEL * KV_PANEL;
    for (; i < full; i += wide) {
        if (i + wide > full) wide = KV_PANEL;
        f->value((int)wide / 8, KV_PANEL, prob, page, kv_v_at(t, d, i, 0), lo, hi, acc + i, d,
                 ahead + i * B * kv_element(t));
    }
    if (i + 8 <= d) {
        f->value(1, d - i, prob, page, kv_v_at(t, d, i, 0), lo, hi, acc + i, d, ahead);
        i += 8;
    }
    if (i < d) value_rest(t, nq, d, prob, page, lo, hi, acc);
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
    all_probabilities(a, r0, nq, score, m + r0, sum + r0);
    values(t, f, nq, a, v_page, lo, hi, (const float(*)[B])score, acc + r0 * a->head_dim,
           r0 || !a->next_k ? v_page : a->next_k);
}

/* Queries of the next tile when so many are left: six, or tiles that are about equal. */
INLINE size_t tile_queries(size_t left)
{
    return left == 4 || left == 7 || left == 8 ? 4 : left >= 6 ? 6 : left == 5 ? 3 : left;
}

INLINE void attn_block(enum kv_type t, const struct tile_fns fns[TILE_Q + 1],
                       const struct attn_query *a, const void *k_page, const void *v_page,
                       float *m, float *sum, float *acc)
{
    for (size_t r = 0, n; r < a->n_q; r += n) {
        n = tile_queries(a->n_q - r);
        attend(t, &fns[n], n, a, r, k_page, v_page, m, sum, acc);
    }
}

/* ---- codes ----------------------------------------------------------------------------------- */

typedef void score_codes_fn(const struct attn_query *a, size_t r0, const void *page, size_t j0,
                            float (*score)[B], const char *ahead, size_t step);
typedef void value_codes_fn(const struct weights_16 *w, size_t r0, const uint8_t *at, size_t lo,
                            size_t hi, size_t left, float *acc, size_t ld, const char *ahead);

struct code_fns {
    score_codes_fn *score;
    value_codes_fn *value;
    size_t score_wide, value_queries;
};

INLINE void fetch_lines(const void *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64) _mm_prefetch((const char *)p + i, _MM_HINT_T0);
}

/* What is fetched while K and V are read: as in `attend`, and the scales at once. */
INLINE void attend_codes(enum kv_type t, const struct code_fns *f, size_t nq,
                         const struct attn_query *a, size_t r0, const void *k_page,
                         const void *v_page, float *m, float *sum, float *acc)
{
    float score[TILE_Q][B];
    struct weights_16 w;
    size_t lo, hi, d = a->head_dim, scales = B * kv_groups(d) * sizeof(float);
    size_t step = kv_v_panel(t) * f->score_wide / (B * 4);
    const char *next = r0 || !a->next_k ? k_page : a->next_k;
    span(a, r0, nq, &lo, &hi);
    if (!r0) fetch_lines(kv_v_scales(t, v_page, d), scales);
    for (size_t j = lo / f->score_wide * f->score_wide; j < hi; j += f->score_wide)
        f->score(a, r0, k_page, j, score,
                 (const char *)v_page + j / f->score_wide * step * kv_quads(d), step);
    all_probabilities(a, r0, nq, score, m + r0, sum + r0);
    if (!r0) fetch_lines(kv_k_scales(next, d), scales);
    for (size_t i = 0; i < d; i += KV_PANEL) {
        if (i % 32 == 0)
            weights_16(nq, kv_v_scales(t, v_page, d) + i / 32 * B, (const float(*)[B])score, &w);
        for (size_t r = 0; r < nq; r += f->value_queries)
            f->value(&w, r, (const uint8_t *)v_page + i / KV_PANEL * kv_v_panel(t), lo / 4,
                     (hi + 3) / 4, d - i, acc + r0 * d + i, d, next + i * B);
    }
}

INLINE void attn_block_codes(enum kv_type t, const struct code_fns fns[TILE_Q + 1],
                             const struct attn_query *a, const void *k_page, const void *v_page,
                             float *m, float *sum, float *acc)
{
    for (size_t r = 0, n; r < a->n_q; r += n) {
        n = tile_queries(a->n_q - r);
        attend_codes(t, &fns[n], n, a, r, k_page, v_page, m, sum, acc);
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
        score_tile(KV_##T, NQ, SCORE_P, a, r0, page, j0, score, ahead);                           \
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

#define SCORE_CODES(NQ, NP)                                                                       \
    ALONE void score_codes_##NQ(const struct attn_query *a, size_t r0, const void *page, size_t j0, \
                                float (*score)[B], const char *ahead, size_t step)                \
    {                                                                                             \
        score_tile_codes(NQ, NP, a, r0, page, j0, score, ahead, step);                            \
    }
SCORE_CODES(1, 2)
SCORE_CODES(2, 2)
SCORE_CODES(3, 2)
SCORE_CODES(4, 2)
SCORE_CODES(6, 1)

#define VALUE_CODES(T, NQ)                                                                        \
    ALONE void value_codes_##T##_##NQ(const struct weights_16 *w, size_t r0, const uint8_t *at,   \
                                      size_t lo, size_t hi, size_t left, float *acc, size_t ld,   \
                                      const char *ahead)                                          \
    {                                                                                             \
        value_tile_codes(KV_##T, NQ, w, r0, at, lo, hi, left, acc, ld, ahead);                    \
    }
#define CODES_AVX2(T)                                                                             \
    VALUE_CODES(T, 1)                                                                             \
    VALUE_CODES(T, 2)                                                                             \
    VALUE_CODES(T, 3)                                                                             \
    VALUE_CODES(T, 4)                                                                             \
    static void attn_##T##_avx2(const struct attn_query *a, const void *k_page,                   \
                                const void *v_page, float *m, float *sum, float *acc)             \
    {                                                                                             \
        static const struct code_fns fns[TILE_Q + 1] = {                                          \
            [1] = { score_codes_1, value_codes_##T##_1, 16, 1 },                                  \
            [2] = { score_codes_2, value_codes_##T##_2, 16, 2 },                                  \
            [3] = { score_codes_3, value_codes_##T##_3, 16, 3 },                                  \
            [4] = { score_codes_4, value_codes_##T##_4, 16, 4 },                                  \
            [6] = { score_codes_6, value_codes_##T##_3, 8, 3 },                                   \
        };                                                                                        \
        attn_block_codes(KV_##T, fns, a, k_page, v_page, m, sum, acc);                            \
    }
CODES_AVX2(Q8)
CODES_AVX2(Q8_Q4)

void attn_init_avx2(struct kernels *k)
{
    k->attn_block[KV_F32] = attn_F32_avx2;
    k->attn_block[KV_F16] = attn_F16_avx2;
    k->attn_block[KV_BF16] = attn_BF16_avx2;
    k->attn_block[KV_Q8] = attn_Q8_avx2;
    k->attn_block[KV_Q8_Q4] = attn_Q8_Q4_avx2;
    for (size_t t = 0; t < KV_COUNT; t++) k->attn_level[t] = "avx2";
    k->kv_store_k[KV_F16] = store_k_F16_avx2;
    k->kv_store_v[KV_F16] = store_v_F16_avx2;
    k->attn_merge = attn_merge_avx2;
    k->attn_finish = attn_finish_avx2;
}
