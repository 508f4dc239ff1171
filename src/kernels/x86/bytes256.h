/* The operations of wide_quant.h in AVX2 with AVX-VNNI; codes are raised as in bytes512.h. */
#ifndef KERNELS_X86_BYTES256_H
#define KERNELS_X86_BYTES256_H
#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { VL = 8, QUANT_OFFSET = 128 };
typedef __m256 vf;
typedef __m256i vi;
typedef __m256i vb;

static inline vf v_set1(float x) { return _mm256_set1_ps(x); }
static inline vf v_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void v_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
static inline vf v_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf v_fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
static inline vf v_load_half(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
}

static inline vi i_set1(int32_t x) { return _mm256_set1_epi32(x); }
static inline vi i_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
static inline vi i_mul(vi a, vi b) { return _mm256_mullo_epi32(a, b); }
static inline vi i_max(vi a, vi b) { return _mm256_max_epi32(a, b); }
static inline vi i_load_u8(const void *p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64(p)); }
static inline vi i_load_i8(const void *p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64(p)); }
static inline vi i_load_16(const void *p) { return _mm256_cvtepi16_epi32(_mm_loadu_si128(p)); }
static inline vi i_sar(vi x, int n) { return _mm256_srai_epi32(x, n); }
static inline vi i_left(vi x, int n) { return _mm256_slli_epi32(x, n); }
static inline vi i_low(vi x, int mask) { return _mm256_and_si256(x, _mm256_set1_epi32(mask)); }
static inline vf i_float(vi x) { return _mm256_cvtepi32_ps(x); }
static inline vf i_bits(vi x) { return _mm256_castsi256_ps(x); }

static inline vb b_load(const uint8_t *p) { return _mm256_loadu_si256((const void *)p); }
static inline vb b_quad(const int8_t *p)
{
    int32_t w;
    memcpy(&w, p, sizeof w);
    return _mm256_set1_epi32(w);
}
static inline vb b_up(vb x, int n) { return _mm256_slli_epi32(x, n); }
static inline vb b_down(vb x, int n) { return _mm256_srli_epi32(x, n); }
static inline vb b_and(vb x, int mask) { return _mm256_and_si256(x, _mm256_set1_epi8((char)mask)); }
static inline vb b_with(vb x, vb y, int mask) { return _mm256_or_si256(x, b_and(y, mask)); }
static inline vb b_signed(vb x) { return _mm256_xor_si256(x, _mm256_set1_epi8((char)0x80)); }
static inline vb b_table(const int8_t *p)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)p));
}
static inline vb b_look(vb table, vb x) { return _mm256_shuffle_epi8(table, x); }
static inline vi i_dot(vi sum, vb codes, vb quad) { return _mm256_dpbusd_avx_epi32(sum, codes, quad); }
#endif
