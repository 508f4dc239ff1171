/* The integer operations of wide_quant.h in AVX-512 with VNNI. VPDPBUSD takes unsigned codes, so signed
 * ones (Q8_0) are raised by 128 and 128 times the sum of the activations is taken off: exact in int32. */
#ifndef KERNELS_X86_BYTES512_H
#define KERNELS_X86_BYTES512_H
#include "kernels/x86/ops512.h"
#include <string.h>

enum { QUANT_OFFSET = 128 };
typedef __m512i vi;
typedef __m512i vb;

static inline vi i_set1(int32_t x) { return _mm512_set1_epi32(x); }
static inline vi i_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
static inline vi i_mul(vi a, vi b) { return _mm512_mullo_epi32(a, b); }
static inline vi i_max(vi a, vi b) { return _mm512_max_epi32(a, b); }
static inline vi i_load_u8(const void *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(p));
}
static inline vi i_load_i8(const void *p)
{
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(p));
}
static inline vi i_load_16(const void *p)
{
    return _mm512_cvtepi16_epi32(_mm256_loadu_si256(p));
}
static inline vi i_sar(vi x, unsigned n) { return _mm512_srai_epi32(x, n); }
static inline vi i_left(vi x, unsigned n) { return _mm512_slli_epi32(x, n); }
static inline vi i_low(vi x, int mask) { return _mm512_and_si512(x, _mm512_set1_epi32(mask)); }
static inline vf i_float(vi x) { return _mm512_cvtepi32_ps(x); }
static inline vf i_bits(vi x) { return _mm512_castsi512_ps(x); }

static inline vb b_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
static inline vb b_quad(const int8_t *p)
{
    int32_t w;
    memcpy(&w, p, sizeof w);
    return _mm512_set1_epi32(w);
}
static inline vb b_up(vb x, int n) { return _mm512_slli_epi32(x, (unsigned)n); }
static inline vb b_down(vb x, int n) { return _mm512_srli_epi32(x, (unsigned)n); }
static inline vb b_and(vb x, int mask) { return _mm512_and_si512(x, _mm512_set1_epi8((char)mask)); }
static inline vb b_with(vb x, vb y, int mask)
{
    return _mm512_ternarylogic_epi32(x, y, _mm512_set1_epi8((char)mask), 0xf8);
}
static inline vb b_signed(vb x) { return _mm512_xor_si512(x, _mm512_set1_epi8((char)0x80)); }
static inline vb b_table(const int8_t *p)
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)p));
}
static inline vb b_look(vb table, vb x) { return _mm512_shuffle_epi8(table, x); }
static inline vi i_dot(vi sum, vb codes, vb quad) { return _mm512_dpbusd_epi32(sum, codes, quad); }
#endif
