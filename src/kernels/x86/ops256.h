/* The vector operations of wide_*.h in AVX2 with FMA. Static inline only. */
#ifndef KERNELS_X86_OPS256_H
#define KERNELS_X86_OPS256_H
#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VL = 8, OUTER_ROWS = 6 };
typedef __m256 vf;
typedef __m256d vd;
typedef __m256 vmask;

/* Lanes lo <= i < hi. */
static inline __m256i v_lanes(int lo, int hi)
{
    const __m256i i = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256i from = _mm256_cmpgt_epi32(i, _mm256_set1_epi32(lo - 1));
    return _mm256_and_si256(from, _mm256_cmpgt_epi32(_mm256_set1_epi32(hi), i));
}
static inline vmask v_range(int lo, int hi) { return _mm256_castsi256_ps(v_lanes(lo, hi)); }
static inline __m256i v_first(size_t n) { return v_lanes(0, n < VL ? (int)n : VL); }

static inline vf v_set1(float x) { return _mm256_set1_ps(x); }
static inline vf v_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void v_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
static inline vf v_load_n(const float *p, size_t n) { return _mm256_maskload_ps(p, v_first(n)); }
static inline void v_store_n(float *p, vf x, size_t n) { _mm256_maskstore_ps(p, v_first(n), x); }

static inline vf v_add(vf a, vf b) { return _mm256_add_ps(a, b); }
static inline vf v_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
static inline vf v_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf v_div(vf a, vf b) { return _mm256_div_ps(a, b); }
static inline vf v_sqrt(vf a) { return _mm256_sqrt_ps(a); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf v_fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
static inline vf v_min(vf a, vf b) { return _mm256_min_ps(a, b); }
static inline vf v_max(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vf v_round(vf x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf v_abs(vf x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
static inline vf v_sign(vf mag, vf sign) { return _mm256_or_ps(mag, _mm256_and_ps(_mm256_set1_ps(-0.0f), sign)); }
/* x * 2^n for whole n in -160..160 and |x| near 1: halves of n stay in range, the second product rounds. */
static inline vf v_scale2(vf x, vf n)
{
    __m256i i = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(i, 1), bias = _mm256_set1_epi32(127);
    __m256i a = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    __m256i b = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(i, half), bias), 23);
    return _mm256_mul_ps(_mm256_mul_ps(x, _mm256_castsi256_ps(a)), _mm256_castsi256_ps(b));
}

static inline vmask v_less(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
static inline vmask v_nan(vf a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
static inline vmask v_either(vmask a, vmask b) { return _mm256_or_ps(a, b); }
static inline bool v_any(vmask m) { return _mm256_movemask_ps(m) != 0; }
static inline vf v_pick(vmask m, vf yes, vf no) { return _mm256_blendv_ps(no, yes, m); }
static inline vf v_keep(vf x, size_t n) { return _mm256_and_ps(_mm256_castsi256_ps(v_first(n)), x); }

/* Halves fold onto each other. */
static inline float v_sum(vf x)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline float v_largest(vf x)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

static inline void v_transpose(vf x[VL])
{
    __m256 a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int h = 0; h < 2; h++) {
            b[i + 2 * h] = _mm256_shuffle_ps(a[i + h], a[i + 2 + h], 0x44);
            b[i + 2 * h + 1] = _mm256_shuffle_ps(a[i + h], a[i + 2 + h], 0xee);
        }
    for (int i = 0; i < 4; i++) {
        x[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        x[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
}

static inline vd d_set1(double x) { return _mm256_set1_pd(x); }
static inline vd d_load(const double *p) { return _mm256_loadu_pd(p); }
static inline vd d_widen(const float *p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
static inline void d_store(double *p, vd x) { _mm256_storeu_pd(p, x); }
static inline vd d_fma(vd a, vd b, vd c) { return _mm256_fmadd_pd(a, b, c); }
#endif
