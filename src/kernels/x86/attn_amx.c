/* AMX: attention of given rows over a page of halves.
 *
 * Every number is taken as two of bf16, x = high + low: the keys and values of an f16 page exactly, queries
 * and probabilities to 16 bits. Products of two low parts (2^-18 of a term) are left out:
 *
 *   q.k = qh.kh + ql.kh + qh.kl        p.v = ph.vh + pl.vh + ph.vl
 *
 * so a prompt's attention is as near to float32 as a cache of f16 lets it be, at three products of tiles
 * (arXiv 1904.06376 does the same for matrices). A page of bf16 has no low part. Sixteen queries share a
 * tile, whose rows depend on nothing but themselves: K in groups of 32 ascending, the three products in the
 * order above. */
#include "kernels/x86/amx.h"
#include "kernels/kv.h"
#include "kernels/x86/ops512.h"
/* after the operations they are written in */
#include "kernels/wide_vec.h"

enum { TILE = 16, DIM_MOST = ATTN_GIVEN_DIMS };

/* A page as tiles: two runs of 16 numbers that stand behind each other become 16 pairs. In a page of K
 * those are two dims of 16 positions, in one of V two positions of 16 dims. */
struct halves { _Alignas(64) uint16_t high[ATTN_BLOCK * DIM_MOST], low[ATTN_BLOCK * DIM_MOST]; };

/* Probabilities and scores of sixteen queries. */
struct group {
    _Alignas(64) float score[TILE][ATTN_BLOCK];
    _Alignas(64) uint16_t high[TILE][ATTN_BLOCK], low[TILE][ATTN_BLOCK];
};

static inline vf brain_low(__m512i pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)); }
static inline vf brain_high(__m512i pairs)
{
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000)));
}

/* Two runs of 16 bf16, one behind the other, as pairs. */
static inline __m512i pair_up(__m512i runs)
{
    const __m512i at = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7,
                                        22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(at, runs);
}

static inline __m512i round_both(vf first, vf second) { return (__m512i)_mm512_cvtne2ps_pbh(second, first); }

static void page_halves(enum kv_type t, const uint16_t *page, size_t n, struct halves *to)
{
    for (size_t i = 0; i < n; i += 32) {
        if (t == KV_BF16) {
            _mm512_store_si512(to->high + i, pair_up(_mm512_loadu_si512(page + i)));
            continue;
        }
        vf first = v_load_half(page + i), second = v_load_half(page + i + 16);
        __m512i high = pair_up(round_both(first, second));
        first = v_sub(first, brain_low(high));
        second = v_sub(second, brain_high(high));
        _mm512_store_si512(to->high + i, high);
        _mm512_store_si512(to->low + i, pair_up(round_both(first, second)));
    }
    tile_fence(to);
}

/* Values of positions from `seen` on, which no query sees, become zero: a page that others used before may
 * hold anything there, and the product with a probability of zero must be zero. */
static void forget_unseen(struct halves *v, size_t head_dim, size_t seen)
{
    for (size_t d = 0; d < head_dim; d += TILE)
        for (size_t j = seen; j < ATTN_BLOCK; j++)
            for (size_t i = 0; i < TILE; i++) {
                size_t at = d * ATTN_BLOCK + j / 2 * 32 + i * 2 + j % 2;
                v->high[at] = v->low[at] = 0;
            }
    tile_fence(v);
}

static size_t positions_seen(const struct attn_query *a)
{
    size_t seen = 0;
    for (size_t r = 0; r < a->n_q; r++)
        if (a->lo[r] < a->hi[r] && (size_t)a->hi[r] > seen) seen = (size_t)a->hi[r];
    return seen;
}

static void split_bf16_amx(const float *x, size_t n, uint16_t *high, uint16_t *low)
{
    for (size_t i = 0; i < n; i += VL) {
        vf v = v_load_n(x + i, n - i);
        __m256i h = (__m256i)_mm512_cvtneps_pbh(v);
        __m256i l = (__m256i)_mm512_cvtneps_pbh(v_sub(v, v_widen_brain(h)));
        _mm256_mask_storeu_epi16(high + i, v_first(n - i), h);
        _mm256_mask_storeu_epi16(low + i, v_first(n - i), l);
    }
}

/* Tiles: 0 to 3 sums, 4 and 5 what has a row for each query, 6 and 7 of the page. */
static void configure(size_t rows)
{
    struct tile_config c = { .palette = 1 };
    for (int t = 0; t < 6; t++) tile_shape(&c, t, rows, 64);
    tile_shape(&c, 6, TILE, 64), tile_shape(&c, 7, TILE, 64);
    tile_configure(&c);
}

/* Sums A and B, of two panels of the page, plus the product of this K group. */
#define TWO_PANELS(A, B, HIGH_A, HIGH_B, LOW_A, LOW_B) \
    do {                                               \
        _tile_loadd(6, HIGH_A, 64);                    \
        _tile_loadd(7, HIGH_B, 64);                    \
        _tile_dpbf16ps(A, 4, 6);                       \
        _tile_dpbf16ps(B, 4, 7);                       \
        _tile_dpbf16ps(A, 5, 6);                       \
        _tile_dpbf16ps(B, 5, 7);                       \
        if (!low) break;                               \
        _tile_loadd(6, LOW_A, 64);                     \
        _tile_loadd(7, LOW_B, 64);                     \
        _tile_dpbf16ps(A, 4, 6);                       \
        _tile_dpbf16ps(B, 4, 7);                       \
    } while (0)

/* y[rows][16 * panels] = x times panels of the page: `groups` tiles of K each, one behind the other. Two
 * panels or four. */
WIDE_INLINE void product(bool low, bool four, const uint16_t *xh, const uint16_t *xl, size_t ldx,
                         const uint16_t *high, const uint16_t *lows, size_t groups, float *y, size_t ldy)
{
    const size_t tile = 512, panel = groups * tile, sx = ldx * sizeof *xh, sy = ldy * sizeof *y;
    _tile_zero(0);
    _tile_zero(1);
    if (four) _tile_zero(2);
    if (four) _tile_zero(3);
    for (size_t g = 0; g < groups; g++, high += tile, lows += tile) {
        _tile_loadd(4, xh + g * PANEL_GROUP, sx);
        _tile_loadd(5, xl + g * PANEL_GROUP, sx);
        TWO_PANELS(0, 1, high, high + panel, lows, lows + panel);
        if (four)
            TWO_PANELS(2, 3, high + 2 * panel, high + 3 * panel, lows + 2 * panel, lows + 3 * panel);
    }
    _tile_stored(0, y, sy);
    _tile_stored(1, y + 16, sy);
    if (four) _tile_stored(2, y + 32, sy);
    if (four) _tile_stored(3, y + 48, sy);
}

/* 2^x for x <= 0, within 1.1e-7 */
static inline vf exp2_below(vf x)
{
    vf n = v_round(x), r = v_sub(x, n), y = v_set1(0.00132647273f);
    y = v_fma(y, r, v_set1(0.00967151299f));
    y = v_fma(y, r, v_set1(0.0555073358f));
    y = v_fma(y, r, v_set1(0.240222424f));
    y = v_fma(y, r, v_set1(0.693147004f));
    return v_scale2(v_fma(y, r, v_set1(1)), n);
}

/* A query's scores become probabilities as pairs of bf16, zero outside lo..hi. */
static void probabilities(const struct attn_query *a, size_t r, float *score, uint16_t *high, uint16_t *low,
                          float *max, float *sum)
{
    const vf none = v_set1(-INFINITY), zero = v_set1(0), log2e = v_set1(1.44269504f);
    vf s[4], p[4], top = none;
    WIDE_UNROLL
    for (int v = 0; v < 4; v++) {
        s[v] = v_mul(v_load(score + v * VL), v_set1(a->scale));
        if (a->softcap > 0) {
            vf cap = v_set1(a->softcap);
            s[v] = v_mul(cap, wide_tanh(v_div(s[v], cap)));
        }
        top = v_max(top, v_pick(v_range(a->lo[r] - v * VL, a->hi[r] - v * VL), s[v], none));
    }
    *max = v_largest(top);
    const vf by = v_set1(*max);
    WIDE_UNROLL
    for (int v = 0; v < 4; v++) {
        vf e = exp2_below(v_mul(v_sub(s[v], by), log2e));
        p[v] = v_pick(v_range(a->lo[r] - v * VL, a->hi[r] - v * VL), e, zero);
    }
    *sum = v_sum(v_add(v_add(p[0], p[1]), v_add(p[2], p[3])));
    WIDE_UNROLL
    for (int v = 0; v < 4; v += 2) {
        __m512i h = round_both(p[v], p[v + 1]);
        vf first = v_sub(p[v], v_widen_brain(_mm512_castsi512_si256(h)));
        vf second = v_sub(p[v + 1], v_widen_brain(_mm512_extracti64x4_epi64(h, 1)));
        _mm512_store_si512(high + v * VL, h);
        _mm512_store_si512(low + v * VL, round_both(first, second));
    }
}

/* A query that sees nothing of the block. */
static void nothing(struct group *g, size_t r, float *max, float *sum)
{
    memset(g->high[r], 0, sizeof g->high[r]);
    memset(g->low[r], 0, sizeof g->low[r]);
    *max = -INFINITY;
    *sum = 0;
}

/* What a page's queries share. */
struct block {
    const struct attn_query *a;
    const struct halves *k, *v;
    float *m, *sum, *acc;
};

WIDE_INLINE void scores(bool low, const struct block *b, size_t r, struct group *g)
{
    const struct attn_query *a = b->a;
    product(low, true, a->high + r * a->ldh, a->low + r * a->ldh, a->ldh, b->k->high, b->k->low,
            a->head_dim / PANEL_GROUP, g->score[0], ATTN_BLOCK);
    tile_fence(g);
}

static void weights(const struct block *b, size_t r, size_t rows, struct group *g)
{
    for (size_t i = 0; i < rows; i++)
        if (b->a->lo[r + i] < b->a->hi[r + i])
            probabilities(b->a, r + i, g->score[i], g->high[i], g->low[i], b->m + r + i, b->sum + r + i);
        else
            nothing(g, i, b->m + r + i, b->sum + r + i);
    tile_fence(g);
}

WIDE_INLINE void values(bool low, const struct block *b, size_t r, const struct group *g)
{
    const size_t dim = b->a->head_dim, panel = ATTN_BLOCK * TILE, groups = ATTN_BLOCK / PANEL_GROUP;
    size_t d = 0;
    float *acc = b->acc + r * dim;
    for (; d + 64 <= dim; d += 64)
        product(low, true, g->high[0], g->low[0], ATTN_BLOCK, b->v->high + d / TILE * panel,
                b->v->low + d / TILE * panel, groups, acc + d, dim);
    if (d < dim)
        product(low, false, g->high[0], g->low[0], ATTN_BLOCK, b->v->high + d / TILE * panel,
                b->v->low + d / TILE * panel, groups, acc + d, dim);
}

/* `n` times 16 queries from r on, or once `rows` of them. */
WIDE_INLINE void attn_groups(bool low, const struct block *b, size_t r, size_t rows, size_t n)
{
    struct group g;
    configure(rows);
    for (size_t i = 0; i < n; i++, r += rows) {
        scores(low, b, r, &g);
        weights(b, r, rows, &g);
        values(low, b, r, &g);
    }
}

WIDE_INLINE void attn_given(enum kv_type t, const struct attn_query *a, const void *k, const void *v,
                            float *m, float *sum, float *acc)
{
    struct halves hk, hv;
    const struct block b = { a, &hk, &hv, m, sum, acc };
    size_t whole = a->n_q / TILE * TILE;
    page_halves(t, k, ATTN_BLOCK * a->head_dim, &hk);
    page_halves(t, v, ATTN_BLOCK * a->head_dim, &hv);
    forget_unseen(&hv, a->head_dim, positions_seen(a));
    if (whole) attn_groups(t == KV_F16, &b, 0, TILE, whole / TILE);
    if (whole < a->n_q) attn_groups(t == KV_F16, &b, whole, a->n_q - whole, 1);
    _tile_release();
    tile_fence(acc);
}

#define GIVEN_TYPE(name, t)                                                                                \
    static void attn_given_##name##_amx(const struct attn_query *a, const void *k, const void *v, float *m, \
                                        float *sum, float *acc)                                            \
    {                                                                                                      \
        attn_given(t, a, k, v, m, sum, acc);                                                               \
    }
GIVEN_TYPE(f16, KV_F16)
GIVEN_TYPE(bf16, KV_BF16)

void attn_init_amx(struct kernels *k)
{
    k->split_bf16 = split_bf16_amx;
    k->attn_given[KV_F16] = attn_given_f16_amx;
    k->attn_given[KV_BF16] = attn_given_bf16_amx;
}
