/* Elementwise and reducing kernels on one row. Tails are masked versions of the same operations.
 * Sums run in 4 registers of 8 lanes, element i in lane i mod 32, whatever the length. */
#include "kernels/code_sums.h"
#include "kernels/scalar.h"
#include "kernels/x86/avx2.h"
#include "kernels/x86/math_avx2.h"

/* ---- quantize: see kernels.h ----------------------------------------------------------------- */

INLINE __m256i load_bits(const float *x, __m256 *v)
{
    *v = _mm256_loadu_ps(x);
    return _mm256_and_si256(_mm256_castps_si256(*v), _mm256_set1_epi32(0x7fffffff));
}

/* The largest magnitude as bits: NaN and infinity are the largest of all. */
INLINE uint32_t max_bits(__m256i a)
{
    __m128i m = _mm_max_epu32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1)));
}

static void quantize_avx2(const float *x, size_t k, int8_t *q, float *d, float *s, int16_t *sum)
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (size_t g = 0; g < k / 32; g++, x += 32, q += 32) {
        __m256 v0, v1, v2, v3;
        __m256i a = _mm256_max_epu32(load_bits(x, &v0), load_bits(x + 8, &v1));
        __m256i b = _mm256_max_epu32(load_bits(x + 16, &v2), load_bits(x + 24, &v3));
        uint32_t bits = max_bits(_mm256_max_epu32(a, b));
        float amax = float_of(bits), by = 127.0f / amax;
        if (bits >= 0x7f800000 || bits_of(by) >= 0x7f800000) {
            memset(q, 0, 32);
            d[g] = s[g] = bits >= 0x7f800000 ? NAN : 0.0f;
            if (sum) sum[2 * g] = sum[2 * g + 1] = 0;
            continue;
        }
        __m256 m = set8(by);
        __m256i i0 = _mm256_cvtps_epi32(_mm256_mul_ps(v0, m)),
                i1 = _mm256_cvtps_epi32(_mm256_mul_ps(v1, m));
        __m256i i2 = _mm256_cvtps_epi32(_mm256_mul_ps(v2, m)),
                i3 = _mm256_cvtps_epi32(_mm256_mul_ps(v3, m));
        i0 = _mm256_packs_epi16(_mm256_packs_epi32(i0, i1), _mm256_packs_epi32(i2, i3));
        i0 = _mm256_permutevar8x32_epi32(i0, order);
        _mm256_storeu_si256((__m256i *)(void *)q, i0);
        i1 = _mm256_sad_epu8(_mm256_xor_si256(i0, _mm256_set1_epi8((char)0x80)),
                             _mm256_setzero_si256());
        __m128i lo = _mm256_castsi256_si128(i1), hi = _mm256_extracti128_si256(i1, 1);
        __m128i both = _mm_add_epi32(_mm_unpacklo_epi64(lo, hi), _mm_unpackhi_epi64(lo, hi));
        int first = _mm_cvtsi128_si32(both) - 16 * 128, second = _mm_extract_epi32(both, 2) - 16 * 128;
        d[g] = amax / 127.0f;
        s[g] = d[g] * (float)(first + second);
        if (!sum) continue;
        sum[2 * g] = (int16_t)first;
        sum[2 * g + 1] = (int16_t)second;
    }
}

/* Round to nearest even; a NaN keeps its upper bits and becomes quiet. */
INLINE __m128i brain_8(__m256 f)
{
    __m256i u = _mm256_castps_si256(f), one = _mm256_set1_epi32(1);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), one);
    __m256i r = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(f, f, _CMP_UNORD_Q));
    r = _mm256_blendv_epi8(r, _mm256_or_si256(u, _mm256_set1_epi32(0x400000)), nan);
    r = _mm256_srli_epi32(r, 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
}

static void to_bf16_avx2(const float *x, size_t n, uint16_t *out)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(void *)(out + i), brain_8(_mm256_loadu_ps(x + i)));
    if (i == n) return;
    uint16_t last[8];
    _mm_storeu_si128((__m128i *)(void *)last, brain_8(load_part(x + i, n - i)));
    memcpy(out + i, last, (n - i) * sizeof *out);
}

/* ---- norms ----------------------------------------------------------------------------------- */

INLINE float sum32(const __m256 a[4])
{
    return sum8(_mm256_add_ps(_mm256_add_ps(a[0], a[1]), _mm256_add_ps(a[2], a[3])));
}

static void rmsnorm_avx2(const float *x, const float *w, size_t n, float eps, float *out)
{
    __m256 a[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                   _mm256_setzero_ps()};
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        UNROLL
        for (size_t j = 0; j < 4; j++) {
            __m256 v = _mm256_loadu_ps(x + i + 8 * j);
            a[j] = _mm256_fmadd_ps(v, v, a[j]);
        }
    }
    for (size_t j = 0; i < n; i += 8, j++) {
        __m256 v = load_part(x + i, n - i);
        a[j] = _mm256_fmadd_ps(v, v, a[j]);
    }
    __m256 by = set8(1.0f / sqrtf(sum32(a) / (float)n + eps));
    for (i = 0; i < n; i += 8) {
        __m256 v = _mm256_mul_ps(load_part(x + i, n - i), by);
        store_part(out + i, n - i, w ? _mm256_mul_ps(v, load_part(w + i, n - i)) : v);
    }
}

static void layernorm_avx2(const float *x, const float *w, const float *b, size_t n, float eps,
                           float *out)
{
    __m256 a[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                   _mm256_setzero_ps()};
    for (size_t i = 0; i < n; i += 8)
        a[i / 8 % 4] = _mm256_add_ps(a[i / 8 % 4], load_part(x + i, n - i));
    __m256 mean = set8(sum32(a) / (float)n);
    for (size_t j = 0; j < 4; j++) a[j] = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = _mm256_sub_ps(load_part(x + i, n - i), mean);
        if (n - i < 8) v = _mm256_and_ps(v, _mm256_castsi256_ps(lanes(n - i)));
        a[i / 8 % 4] = _mm256_fmadd_ps(v, v, a[i / 8 % 4]);
    }
    __m256 by = set8(1.0f / sqrtf(sum32(a) / (float)n + eps));
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = _mm256_mul_ps(_mm256_sub_ps(load_part(x + i, n - i), mean), by);
        __m256 weight = load_part(w + i, n - i);
        v = b ? _mm256_fmadd_ps(v, weight, load_part(b + i, n - i)) : _mm256_mul_ps(v, weight);
        store_part(out + i, n - i, v);
    }
}

/* ---- rope ------------------------------------------------------------------------------------ */

static void rope_halves_avx2(float *x, size_t n_heads, size_t head_dim, size_t n_rot,
                             const float *cs)
{
    size_t half = n_rot / 2;
    for (size_t h = 0; h < n_heads; h++, x += head_dim)
        for (size_t i = 0; i < half; i += 8) {
            __m256 a = load_part(x + i, half - i), b = load_part(x + half + i, half - i);
            __m256 c = load_part(cs + i, half - i), s = load_part(cs + half + i, half - i);
            store_part(x + i, half - i, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
            store_part(x + half + i, half - i, _mm256_fmadd_ps(a, s, _mm256_mul_ps(b, c)));
        }
}

/* Four numbers, each twice. */
INLINE __m256 twice(const float *p, size_t n)
{
    __m256 v = load_part(p, n < 4 ? n : 4);
    return _mm256_permutevar8x32_ps(v, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
}

static void rope_pairs_avx2(float *x, size_t n_heads, size_t head_dim, size_t n_rot,
                            const float *cs)
{
    size_t half = n_rot / 2;
    for (size_t h = 0; h < n_heads; h++, x += head_dim)
        for (size_t i = 0; i < half; i += 4) {
            __m256 v = load_part(x + 2 * i, 2 * (half - i)), swapped = _mm256_permute_ps(v, 0xb1);
            __m256 c = twice(cs + i, half - i), s = twice(cs + half + i, half - i);
            v = _mm256_fmaddsub_ps(v, c, _mm256_mul_ps(swapped, s));
            store_part(x + 2 * i, 2 * (half - i), v);
        }
}

/* ---- elementwise ----------------------------------------------------------------------------- */

#define EACH(n) for (size_t i = 0; i < (n); i += 8)

static void add_avx2(const float *a, const float *b, size_t n, float *out)
{
    EACH(n)
    store_part(out + i, n - i, _mm256_add_ps(load_part(a + i, n - i), load_part(b + i, n - i)));
}

static void mul_avx2(const float *a, const float *b, size_t n, float *out)
{
    EACH(n)
    store_part(out + i, n - i, _mm256_mul_ps(load_part(a + i, n - i), load_part(b + i, n - i)));
}

static void scale_avx2(const float *x, float by, size_t n, float *out)
{
    EACH(n) store_part(out + i, n - i, _mm256_mul_ps(load_part(x + i, n - i), set8(by)));
}

static void softcap_avx2(const float *x, float cap, size_t n, float *out)
{
    EACH(n)
    {
        __m256 v = tanh8(_mm256_div_ps(load_part(x + i, n - i), set8(cap)));
        store_part(out + i, n - i, _mm256_mul_ps(v, set8(cap)));
    }
}

static void silu_avx2(const float *x, size_t n, float *out)
{
    EACH(n) store_part(out + i, n - i, silu8(load_part(x + i, n - i)));
}

static void gelu_tanh_avx2(const float *x, size_t n, float *out)
{
    EACH(n) store_part(out + i, n - i, gelu_tanh8(load_part(x + i, n - i)));
}

static void gelu_erf_avx2(const float *x, size_t n, float *out)
{
    EACH(n) store_part(out + i, n - i, gelu_erf8(load_part(x + i, n - i)));
}

static void silu_mul_avx2(const float *gate, const float *up, size_t n, float *out)
{
    EACH(n)
    {
        __m256 v = silu8(load_part(gate + i, n - i));
        store_part(out + i, n - i, _mm256_mul_ps(v, load_part(up + i, n - i)));
    }
}

static void gelu_tanh_mul_avx2(const float *gate, const float *up, size_t n, float *out)
{
    EACH(n)
    {
        __m256 v = gelu_tanh8(load_part(gate + i, n - i));
        store_part(out + i, n - i, _mm256_mul_ps(v, load_part(up + i, n - i)));
    }
}

/* ---- arg-max --------------------------------------------------------------------------------- */

/* Each lane keeps the first of its largest; the lowest index wins among equal lanes. */
static size_t argmax_avx2(const float *x, size_t n)
{
    const __m256i step = _mm256_set1_epi32(8);
    __m256i at = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), where = at;
    __m256 best = set8(-INFINITY), nan = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = load_part(x + i, n - i);
        if (n - i < 8) v = _mm256_blendv_ps(set8(-INFINITY), v, _mm256_castsi256_ps(lanes(n - i)));
        __m256 more = _mm256_cmp_ps(v, best, _CMP_GT_OQ);
        nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
        best = _mm256_blendv_ps(best, v, more);
        where = _mm256_blendv_epi8(where, at, _mm256_castps_si256(more));
        at = _mm256_add_epi32(at, step);
    }
    if (n == 0 || _mm256_movemask_ps(nan)) return n;
    float value[8];
    uint32_t index[8];
    size_t won = 0;
    _mm256_storeu_ps(value, best);
    _mm256_storeu_si256((__m256i *)(void *)index, where);
    for (size_t l = 1; l < 8; l++)
        if (value[l] > value[won] || (value[l] == value[won] && index[l] < index[won])) won = l;
    return index[won];
}

static void code_sums_avx2(const int8_t *x, size_t ldx, size_t rows, const int8_t *w, size_t ldw, size_t cols, size_t n,
                      int32_t *sum, size_t ld_sum)
{
    code_sums_loop(x, ldx, rows, w, ldw, cols, n, sum, ld_sum);
}

void vec_init_avx2(struct kernels *k)
{
    k->quantize = quantize_avx2;
    k->to_bf16 = to_bf16_avx2;
    k->rmsnorm = rmsnorm_avx2;
    k->layernorm = layernorm_avx2;
    k->rope_pairs = rope_pairs_avx2;
    k->rope_halves = rope_halves_avx2;
    k->add = add_avx2;
    k->mul = mul_avx2;
    k->scale = scale_avx2;
    k->softcap = softcap_avx2;
    k->silu = silu_avx2;
    k->gelu_tanh = gelu_tanh_avx2;
    k->gelu_erf = gelu_erf_avx2;
    k->silu_mul = silu_mul_avx2;
    k->gelu_tanh_mul = gelu_tanh_mul_avx2;
    k->argmax = argmax_avx2;
    k->code_sums = code_sums_avx2;
}
