/* The vector operations of wide_*.h in AVX-512 (F, BW, DQ, VL). Static inline only. */
#ifndef KERNELS_X86_OPS512_H
#define KERNELS_X86_OPS512_H
#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VL = 16, OUTER_ROWS = 12 };
typedef __m512 vf;
typedef __m512d vd;

/* The first n lanes, any n. */
static inline __mmask16 v_first(size_t n) { return (__mmask16)(n >= 16 ? 0xffff : (1u << n) - 1); }

static inline vf v_set1(float x) { return _mm512_set1_ps(x); }
static inline vf v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
static inline vf v_load_n(const float *p, size_t n) { return _mm512_maskz_loadu_ps(v_first(n), p); }
static inline void v_store_n(float *p, vf x, size_t n) { _mm512_mask_storeu_ps(p, v_first(n), x); }
static inline vf v_keep(vf x, size_t n) { return _mm512_maskz_mov_ps(v_first(n), x); }

static inline vf v_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf v_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf v_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf v_div(vf a, vf b) { return _mm512_div_ps(a, b); }
static inline vf v_sqrt(vf a) { return _mm512_sqrt_ps(a); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf v_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
static inline vf v_min(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf v_round(vf x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | 8); }
static inline vf v_scale2(vf x, vf n) { return _mm512_scalef_ps(x, n); }

static inline vd d_set1(double x) { return _mm512_set1_pd(x); }
static inline vd d_load(const double *p) { return _mm512_loadu_pd(p); }
static inline vd d_widen(const float *p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
static inline void d_store(double *p, vd x) { _mm512_storeu_pd(p, x); }
static inline vd d_fma(vd a, vd b, vd c) { return _mm512_fmadd_pd(a, b, c); }

typedef __mmask16 vmask;
static inline vmask v_less(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline vf v_pick(vmask m, vf yes, vf no) { return _mm512_mask_blend_ps(m, no, yes); }
static inline vmask v_equal(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
static inline vmask v_nan(vf a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
static inline vmask v_either(vmask a, vmask b) { return (vmask)(a | b); }
static inline bool v_any(vmask m) { return m != 0; }
static inline bool v_all(vmask m) { return m == 0xffff; }
static inline vmask v_range(int lo, int hi)
{
    uint32_t below_hi = hi <= 0 ? 0 : hi >= 16 ? 0xffff : (1u << hi) - 1;
    uint32_t below_lo = lo <= 0 ? 0 : lo >= 16 ? 0xffff : (1u << lo) - 1;
    return (vmask)(below_hi & ~below_lo);
}

static inline vf v_abs(vf x)
{
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff)));
}
static inline vf v_sign(vf mag, vf sign)
{
    __m512i s = _mm512_and_si512(_mm512_castps_si512(sign), _mm512_set1_epi32((int)0x80000000));
    return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(mag), s));
}

/* Halves fold onto each other; spelled out because compilers differ in what _mm512_reduce_add_ps is. */
static inline float v_sum(vf x)
{
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
static inline float v_largest(vf x)
{
    __m256 a = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

static inline vf v_even(vf a, vf b)
{
    const __m512i at = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutex2var_ps(a, at, b);
}
static inline vf v_odd(vf a, vf b)
{
    const __m512i at = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    return _mm512_permutex2var_ps(a, at, b);
}
static inline vf v_zip_lo(vf a, vf b)
{
    const __m512i at = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    return _mm512_permutex2var_ps(a, at, b);
}
static inline vf v_zip_hi(vf a, vf b)
{
    const __m512i at = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    return _mm512_permutex2var_ps(a, at, b);
}

static inline void v_transpose(vf x[VL])
{
    __m512 a[16], b[16];
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_ps(x[i], x[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int h = 0; h < 2; h++) {
            b[i + 2 * h] = _mm512_shuffle_ps(a[i + h], a[i + 2 + h], 0x44);
            b[i + 2 * h + 1] = _mm512_shuffle_ps(a[i + h], a[i + 2 + h], 0xee);
        }
    for (int i = 0; i < 4; i++) {
        a[i] = _mm512_shuffle_f32x4(b[i], b[i + 4], 0x88);
        a[i + 4] = _mm512_shuffle_f32x4(b[i], b[i + 4], 0xdd);
        a[i + 8] = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0x88);
        a[i + 12] = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0xdd);
    }
    for (int i = 0; i < 8; i++) {
        x[i] = _mm512_shuffle_f32x4(a[i], a[i + 8], 0x88);
        x[i + 8] = _mm512_shuffle_f32x4(a[i], a[i + 8], 0xdd);
    }
}

/* Stored number types widened to float32; _n reads only the first n. */
static inline vf v_load_half(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}
static inline vf v_load_half_n(const uint16_t *p, size_t n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(v_first(n), p));
}
static inline vf v_widen_brain(__m256i h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
static inline vf v_load_brain(const uint16_t *p)
{
    return v_widen_brain(_mm256_loadu_si256((const void *)p));
}
static inline vf v_load_brain_n(const uint16_t *p, size_t n)
{
    return v_widen_brain(_mm256_maskz_loadu_epi16(v_first(n), p));
}
/* Byte e of each of VL words. */
static inline vf v_load_quad(const int8_t *p, int e)
{
    __m512i w = _mm512_sllv_epi32(_mm512_loadu_si512(p), _mm512_set1_epi32(24 - 8 * e));
    return _mm512_cvtepi32_ps(_mm512_srai_epi32(w, 24));
}
/* The levels that 16 bytes' low and high halves name. */
static inline void v_levels(const uint8_t *p, const int8_t *levels, int8_t *low, int8_t *high)
{
    const __m128i half = _mm_set1_epi8(15), table = _mm_loadu_si128((const void *)levels);
    __m128i x = _mm_loadu_si128((const void *)p);
    __m128i up = _mm_and_si128(_mm_srli_epi16(x, 4), half);
    _mm_storeu_si128((void *)low, _mm_shuffle_epi8(table, _mm_and_si128(x, half)));
    _mm_storeu_si128((void *)high, _mm_shuffle_epi8(table, up));
}
/* A group of brain12.h. */
static inline void v_brain12(const uint8_t *from, const uint8_t *high, uint8_t *lines)
{
    const __m512i table = _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)high)), half = _mm512_set1_epi8(15);
    __m512i codes = _mm512_loadu_si512(from);
    for (int i = 0; i < 2; i++) {
        __m512i low = _mm512_loadu_si512(from + 64 + 64 * i);
        __m512i up = _mm512_shuffle_epi8(table, _mm512_and_si512(codes, half));
        _mm512_storeu_si512(lines + 128 * i, _mm512_unpacklo_epi8(low, up));
        _mm512_storeu_si512(lines + 128 * i + 64, _mm512_unpackhi_epi8(low, up));
        codes = _mm512_srli_epi16(codes, 4);
    }
}
/* The same as vectors, one for each of 8 of K. */
#ifdef OPS512_VBMI
/* Tables of 64 bytes need no code by itself: the table of 16, four times, whatever stands above the code. A float's
 * upper bytes come from two vectors at once, its lower are zeros. */
static inline void v_brain12_vectors(const uint8_t *from, const uint8_t *high, vf w[8])
{
    const __mmask64 upper = 0xccccccccccccccccu;
    const __m512i table = _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)high));
    const __m512i first = _mm512_setr_epi32(
        0x40000000, 0x42020000, 0x44040000, 0x46060000, 0x50100000, 0x52120000, 0x54140000, 0x56160000,
        0x60200000, 0x62220000, 0x64240000, 0x66260000, 0x70300000, 0x72320000, 0x74340000, 0x76360000);
    const __m512i step = _mm512_set1_epi32(0x01010000), half = _mm512_set1_epi32(0x08080000);
    const __m512i at[4] = { first, _mm512_add_epi32(first, step), _mm512_add_epi32(first, half),
                            _mm512_add_epi32(_mm512_add_epi32(first, step), half) };
    __m512i codes = _mm512_loadu_si512(from);
    for (int i = 0; i < 2; i++) {
        __m512i low = _mm512_loadu_si512(from + 64 + 64 * i), up = _mm512_permutexvar_epi8(codes, table);
        for (int j = 0; j < 4; j++)
            w[4 * i + j] = _mm512_castsi512_ps(_mm512_maskz_permutex2var_epi8(upper, low, at[j], up));
        codes = _mm512_srli_epi16(codes, 4);
    }
}
#else
static inline void v_brain12_vectors(const uint8_t *from, const uint8_t *high, vf w[8])
{
    const __m512i table = _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)high)), half = _mm512_set1_epi8(15);
    const __m512i upper = _mm512_set1_epi32((int)0xffff0000);
    __m512i codes = _mm512_loadu_si512(from);
    for (int i = 0; i < 2; i++) {
        __m512i low = _mm512_loadu_si512(from + 64 + 64 * i);
        __m512i up = _mm512_shuffle_epi8(table, _mm512_and_si512(codes, half));
        __m512i a = _mm512_unpacklo_epi8(low, up), b = _mm512_unpackhi_epi8(low, up);
        w[4 * i] = _mm512_castsi512_ps(_mm512_slli_epi32(a, 16));
        w[4 * i + 1] = _mm512_castsi512_ps(_mm512_and_si512(a, upper));
        w[4 * i + 2] = _mm512_castsi512_ps(_mm512_slli_epi32(b, 16));
        w[4 * i + 3] = _mm512_castsi512_ps(_mm512_and_si512(b, upper));
        codes = _mm512_srli_epi16(codes, 4);
    }
}
#endif
/* x holds integers in int8's range. */
static inline void v_store_codes(int8_t *p, vf x, size_t n)
{
    _mm_mask_storeu_epi8(p, v_first(n), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
}
/* Nearest even; NaN keeps its upper bits and becomes quiet. */
static inline __m256i v_to_brain(vf x)
{
    __m512i u = _mm512_castps_si512(x), one = _mm512_set1_epi32(1);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), one);
    __m512i r = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
    r = _mm512_mask_mov_epi32(r, v_nan(x), _mm512_or_si512(u, _mm512_set1_epi32(0x400000)));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16));
}
static inline void v_store_brain(uint16_t *p, vf x, size_t n)
{
    _mm256_mask_storeu_epi16(p, v_first(n), v_to_brain(x));
}
/* VL words, each two bf16: the low and the high one. */
static inline void v_load_brain_pairs(const uint16_t *p, vf *low, vf *high)
{
    __m512i w = _mm512_loadu_si512(p);
    *low = _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
    *high = _mm512_castsi512_ps(_mm512_and_si512(w, _mm512_set1_epi32((int)0xffff0000)));
}
#endif
