/* Functions of 8 floats. Polynomials: interpolation at Chebyshev nodes, made for this project; the
 * errors named are of the polynomial, rounding adds a few units in the last place (kcheck holds
 * the sums).
 *
 * Static inline only (see kernels.h): included by files compiled with -mavx2. */
#ifndef KERNELS_MATH_AVX2_H
#define KERNELS_MATH_AVX2_H
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

/* Sanitizers instrument every element of every unrolled copy (minutes of compiling): plain loops
 * there. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(__SANITIZE_UNDEFINED__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(SANITIZED)
#define INLINE static inline __attribute__((unused))
#define UNROLL
#elif defined(__clang__)
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("unroll")
#else
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#endif

INLINE __m256 set8(float f) { return _mm256_set1_ps(f); }

/* The first n of 8 lanes; n >= 8 gives all. */
INLINE __m256i lanes(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < 8 ? (int)n : 8),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* 8 floats of which n - i exist; the rest are zero. Full vectors take the plain instruction. */
INLINE __m256 load_part(const float *x, size_t n)
{
    return n >= 8 ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, lanes(n));
}

INLINE void store_part(float *x, size_t n, __m256 v)
{
    if (n >= 8)
        _mm256_storeu_ps(x, v);
    else
        _mm256_maskstore_ps(x, lanes(n), v);
}

/* One fixed order, whatever came before. */
INLINE float sum8(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

INLINE float max8(__m256 v)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

/* e^x: 2^n e^r, |r| <= ln 2 / 2, relative error below 2^-22.5 (polynomial 2^-26.5). Below -87.3 it
 * is 0 (at most 2^-125.9 too small), above 88 it stays e^88; exp8(0) = 1 exactly; NaN stays NaN. */
INLINE __m256 exp8(__m256 x)
{
    const __m256 lowest = set8(-87.3f);
    __m256 tiny = _mm256_cmp_ps(x, lowest, _CMP_LT_OQ);
    x = _mm256_min_ps(set8(88.0f), _mm256_max_ps(lowest, x)); /* the second operand wins for NaN */
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, set8(1.44269504f)),
                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, set8(0x1.62e4p-1f), x);
    r = _mm256_fnmadd_ps(n, set8(0x1.7f7d1cp-20f), r);
    __m256 p = _mm256_fmadd_ps(set8(0.00139261840f), r, set8(0.00836317893f));
    p = _mm256_fmadd_ps(p, r, set8(0.0416665561f));
    p = _mm256_fmadd_ps(p, r, set8(0.166665763f));
    p = _mm256_fmadd_ps(p, r, set8(0.5f));
    p = _mm256_fmadd_ps(p, _mm256_mul_ps(r, r), _mm256_add_ps(r, set8(1.0f)));
    __m256i e = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    p = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), e));
    return _mm256_andnot_ps(tiny, p);
}

/* 1 / (1 + e^-x) without the factor: x * sigmoid(y), y clamped by exp8. */
INLINE __m256 times_sigmoid(__m256 x, __m256 y)
{
    __m256 e = exp8(_mm256_sub_ps(_mm256_setzero_ps(), y));
    __m256 v = _mm256_div_ps(x, _mm256_add_ps(set8(1.0f), e));
    return _mm256_andnot_ps(_mm256_cmp_ps(y, set8(-88.0f), _CMP_LT_OQ), v);
}

INLINE __m256 silu8(__m256 x) { return times_sigmoid(x, x); }

/* x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)) */
INLINE __m256 gelu_tanh8(__m256 x)
{
    __m256 u = _mm256_fmadd_ps(_mm256_mul_ps(x, x), set8(0.0713548163f), set8(1.59576912f));
    return times_sigmoid(x, _mm256_mul_ps(x, u));
}

/* x (1 - erfc(x / sqrt 2) / 2) for x > 0, x erfc(-x / sqrt 2) / 2 below, so that small results
 * keep their digits. erfc(z) = e^(-z^2) t P(t), t = 1 / (1 + 0.4 z), polynomial error 2^-25. */
INLINE __m256 gelu_erf8(__m256 x)
{
    static const float c[] = {-0.0344902314f, 0.224390537f, -0.56028986f, 0.628622413f,
                              -0.351167142f,  0.307504058f, 0.117582455f, 0.217477053f,
                              0.224648386f,   0.225722313f};
    __m256 z = _mm256_mul_ps(_mm256_andnot_ps(set8(-0.0f), x), set8(0.707106781f));
    __m256 t = _mm256_div_ps(set8(1.0f), _mm256_fmadd_ps(z, set8(0.4f), set8(1.0f)));
    __m256 p = set8(c[0]);
    UNROLL
    for (int i = 1; i < 10; i++) p = _mm256_fmadd_ps(p, t, set8(c[i]));
    __m256 e = exp8(_mm256_mul_ps(_mm256_mul_ps(x, x), set8(-0.5f)));
    __m256 half = _mm256_mul_ps(_mm256_mul_ps(_mm256_mul_ps(p, t), e), set8(0.5f));
    __m256 share = _mm256_blendv_ps(_mm256_sub_ps(set8(1.0f), half), half, x);
    __m256 small = _mm256_cmp_ps(x, set8(-13.0f), _CMP_LT_OQ);
    return _mm256_andnot_ps(small, _mm256_mul_ps(x, share));
}

/* tanh: u Q(u^2) up to 0.625 (2^-26.9), 1 - 2 / (e^2u + 1) beyond. */
INLINE __m256 tanh8(__m256 u)
{
    __m256 sign = _mm256_and_ps(u, set8(-0.0f)), a = _mm256_andnot_ps(set8(-0.0f), u);
    __m256 s = _mm256_mul_ps(u, u);
    __m256 p = _mm256_fmadd_ps(set8(-0.00565713504f), s, set8(0.0205881912f));
    p = _mm256_fmadd_ps(p, s, set8(-0.0537201092f));
    p = _mm256_fmadd_ps(p, s, set8(0.133311138f));
    p = _mm256_fmadd_ps(p, s, set8(-0.333332598f));
    p = _mm256_fmadd_ps(_mm256_mul_ps(p, s), u, u);
    __m256 e = _mm256_add_ps(exp8(_mm256_add_ps(a, a)), set8(1.0f));
    __m256 far = _mm256_sub_ps(set8(1.0f), _mm256_div_ps(set8(2.0f), e));
    return _mm256_blendv_ps(_mm256_or_ps(far, sign), p, _mm256_cmp_ps(a, set8(0.625f), _CMP_LT_OQ));
}
#endif
