/* AVX-512, AVX-VNNI, AVX512-BF16 and AMX intrinsics on an x86-64 CPU that has AVX2: what SIMDe knows comes
 * from SIMDe, the rest is written here in plain C from Intel's Software Developer's Manual. This file
 * stands before the compiler's header of the same name; the kernels are compiled unchanged, for AVX2.
 * An intrinsic that neither knows stops the compilation ("target specific option mismatch"). */
#ifndef EMULATE_IMMINTRIN_H
#define EMULATE_IMMINTRIN_H
#include_next <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

typedef union {
    __m512 v;
    __m512i i;
    __m256 f8[2];
    __m256i i8[2];
    float f[16];
    int32_t d[16];
    uint32_t u[16];
    uint16_t h[32];
    int8_t c[64];
    uint8_t b[64];
} emu512;

#define EMU static inline __attribute__((always_inline, unused))
#define EMU_EACH(n) for (int i = 0; i < (n); i++)

/* ---- conversions ----------------------------------------------------------------------------------- */

EMU __m512 emu_cvtepi32_ps(__m512i a)
{
    emu512 x = { .i = a };
    x.f8[0] = _mm256_cvtepi32_ps(x.i8[0]);
    x.f8[1] = _mm256_cvtepi32_ps(x.i8[1]);
    return x.v;
}
#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps emu_cvtepi32_ps

EMU __m512 emu_shuffle_f32x4(__m512 a, __m512 b, int which)
{
    emu512 x = { .v = a }, y = { .v = b }, z;
    EMU_EACH(16)
    z.f[i] = (i < 8 ? &x : &y)->f[(which >> i / 4 * 2 & 3) * 4 + i % 4];
    return z.v;
}
#undef _mm512_shuffle_f32x4
#define _mm512_shuffle_f32x4 emu_shuffle_f32x4

EMU __m512d emu_cvtps_pd(__m256 a)
{
    union {
        __m512d v;
        __m256d d4[2];
    } x;
    x.d4[0] = _mm256_cvtps_pd(_mm256_castps256_ps128(a));
    x.d4[1] = _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1));
    return x.v;
}
#undef _mm512_cvtps_pd
#define _mm512_cvtps_pd emu_cvtps_pd

EMU __m512i emu_cvtps_epi32(__m512 a)
{
    emu512 x = { .v = a };
    x.i8[0] = _mm256_cvtps_epi32(x.f8[0]);
    x.i8[1] = _mm256_cvtps_epi32(x.f8[1]);
    return x.i;
}
#undef _mm512_cvtps_epi32
#define _mm512_cvtps_epi32 emu_cvtps_epi32

EMU __m512 emu_cvtph_ps(__m256i a)
{
    emu512 x;
    x.f8[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(a));
    x.f8[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1));
    return x.v;
}
#undef _mm512_cvtph_ps
#define _mm512_cvtph_ps emu_cvtph_ps

#define EMU_WIDEN(name, from, half, upper)                                  \
    EMU __m512i emu_##name(from a)                                          \
    {                                                                       \
        emu512 x;                                                           \
        x.i8[0] = half(upper(a, 0));                                        \
        x.i8[1] = half(upper(a, 1));                                        \
        return x.i;                                                         \
    }
#define EMU_HALF8(a, n) ((n) ? _mm_srli_si128(a, 8) : (a))
#define EMU_HALF16(a, n) _mm256_extracti128_si256(a, n)
EMU_WIDEN(cvtepi8_epi32, __m128i, _mm256_cvtepi8_epi32, EMU_HALF8)
EMU_WIDEN(cvtepu8_epi32, __m128i, _mm256_cvtepu8_epi32, EMU_HALF8)
EMU_WIDEN(cvtepi16_epi32, __m256i, _mm256_cvtepi16_epi32, EMU_HALF16)
EMU_WIDEN(cvtepu16_epi32, __m256i, _mm256_cvtepu16_epi32, EMU_HALF16)
#undef _mm512_cvtepi8_epi32
#define _mm512_cvtepi8_epi32 emu_cvtepi8_epi32
#undef _mm512_cvtepu8_epi32
#define _mm512_cvtepu8_epi32 emu_cvtepu8_epi32
#undef _mm512_cvtepi16_epi32
#define _mm512_cvtepi16_epi32 emu_cvtepi16_epi32
#undef _mm512_cvtepu16_epi32
#define _mm512_cvtepu16_epi32 emu_cvtepu16_epi32

/* Truncating, as VPMOVDB and VPMOVDW. */
EMU __m128i emu_cvtepi32_epi8(__m512i a)
{
    emu512 x = { .i = a };
    uint8_t out[16];
    EMU_EACH(16) out[i] = (uint8_t)x.u[i];
    return _mm_loadu_si128((const void *)out);
}
#undef _mm512_cvtepi32_epi8
#define _mm512_cvtepi32_epi8 emu_cvtepi32_epi8

EMU __m256i emu_cvtepi32_epi16(__m512i a)
{
    emu512 x = { .i = a };
    uint16_t out[16];
    EMU_EACH(16) out[i] = (uint16_t)x.u[i];
    return _mm256_loadu_si256((const void *)out);
}
#undef _mm512_cvtepi32_epi16
#define _mm512_cvtepi32_epi16 emu_cvtepi32_epi16

/* ---- masked memory: bytes whose mask bit is clear are not touched ------------------------------------ */

#define EMU_LOAD(name, type, lanes, mask, vector)                           \
    EMU vector emu_##name(mask k, const void *p)                            \
    {                                                                       \
        type out[lanes];                                                    \
        vector v;                                                           \
        memset(out, 0, sizeof out);                                         \
        EMU_EACH(lanes)                                                     \
            if (k >> i & 1) memcpy(out + i, (const type *)p + i, sizeof *out); \
        memcpy(&v, out, sizeof v);                                          \
        return v;                                                           \
    }
#define EMU_STORE(name, type, lanes, mask, vector)                          \
    EMU void emu_##name(void *p, mask k, vector v)                          \
    {                                                                       \
        type in[lanes];                                                     \
        memcpy(in, &v, sizeof in);                                          \
        EMU_EACH(lanes)                                                     \
            if (k >> i & 1) memcpy((type *)p + i, in + i, sizeof *in);      \
    }
EMU_LOAD(maskz_loadu_ps, float, 16, uint16_t, __m512)
EMU_LOAD(maskz_loadu_epi16, uint16_t, 16, uint16_t, __m256i)
EMU_LOAD(maskz_loadu_epi8, uint8_t, 16, uint16_t, __m128i)
EMU_STORE(mask_storeu_ps, float, 16, uint16_t, __m512)
EMU_STORE(mask_storeu_epi16, uint16_t, 16, uint16_t, __m256i)
EMU_STORE(mask_storeu_epi8, uint8_t, 16, uint16_t, __m128i)
#undef _mm512_maskz_loadu_ps
#define _mm512_maskz_loadu_ps emu_maskz_loadu_ps
#undef _mm256_maskz_loadu_epi16
#define _mm256_maskz_loadu_epi16 emu_maskz_loadu_epi16
#undef _mm_maskz_loadu_epi8
#define _mm_maskz_loadu_epi8 emu_maskz_loadu_epi8
#undef _mm512_mask_storeu_ps
#define _mm512_mask_storeu_ps emu_mask_storeu_ps
#undef _mm256_mask_storeu_epi16
#define _mm256_mask_storeu_epi16 emu_mask_storeu_epi16
#undef _mm_mask_storeu_epi8
#define _mm_mask_storeu_epi8 emu_mask_storeu_epi8

/* ---- arithmetic SIMDe lacks or rounds wrongly ---------------------------------------------------------- */

/* a * 2^floor(b) with one rounding; SIMDe makes 2^b a float of its own, which overflows too early. */
EMU __m512 emu_scalef_ps(__m512 a, __m512 b)
{
    emu512 x = { .v = a }, y = { .v = b };
    EMU_EACH(16)
    {
        float n = floorf(y.f[i]);
        x.f[i] = isnan(n) ? n : ldexpf(x.f[i], n > 999 ? 999 : n < -999 ? -999 : (int)n);
    }
    return x.v;
}
#undef _mm512_scalef_ps
#define _mm512_scalef_ps emu_scalef_ps

EMU __m256 emu_extractf32x8_ps(__m512 a, int n)
{
    emu512 x = { .v = a };
    return x.f8[n];
}
EMU __m512i emu_srai_epi32(__m512i a, unsigned n)
{
    emu512 x = { .i = a };
    EMU_EACH(16) x.d[i] >>= n > 31 ? 31 : n;
    return x.i;
}
#undef _mm512_srai_epi32
#define _mm512_srai_epi32 emu_srai_epi32

/* VPDPBUSD, VEX form */
EMU __m256i emu_dpbusd_256(__m256i sum, __m256i a, __m256i b)
{
    uint8_t x[32];
    int8_t y[32];
    int32_t s[8];
    memcpy(x, &a, 32);
    memcpy(y, &b, 32);
    memcpy(s, &sum, 32);
    EMU_EACH(32) s[i / 4] += x[i] * y[i];
    memcpy(&sum, s, 32);
    return sum;
}
#undef _mm256_dpbusd_avx_epi32
#define _mm256_dpbusd_avx_epi32 emu_dpbusd_256
#undef _mm512_extractf32x8_ps
#define _mm512_extractf32x8_ps emu_extractf32x8_ps

/* Float32 to bfloat16, nearest even; denormals become zeros, NaNs quiet. Words 0..15 come from b. */
EMU uint16_t emu_brain(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    if (!(u & 0x7f800000)) return (uint16_t)(u >> 16 & 0x8000);
    if (isnan(x)) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
EMU __m512i emu_cvtne2ps_pbh(__m512 a, __m512 b)
{
    emu512 x = { .v = a }, y = { .v = b }, out;
    EMU_EACH(16)
    {
        out.h[i] = emu_brain(y.f[i]);
        out.h[16 + i] = emu_brain(x.f[i]);
    }
    return out.i;
}
#undef _mm512_cvtne2ps_pbh
#define _mm512_cvtne2ps_pbh emu_cvtne2ps_pbh
EMU __m256i emu_cvtneps_pbh(__m512 a)
{
    emu512 x = { .v = a };
    EMU_EACH(16) x.h[i] = emu_brain(x.f[i]);
    return x.i8[0];
}
#undef _mm512_cvtneps_pbh
#define _mm512_cvtneps_pbh emu_cvtneps_pbh

/* VDPBF16PS: the odd elements of all pairs, then the even ones; denormals are zeros. */
EMU float emu_brain_at(uint16_t h)
{
    uint32_t u = (uint32_t)(h & 0x7f80 ? h : h & 0x8000) << 16;
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}
EMU __m512 emu_dpbf16_ps(__m512 sum, __m512i a, __m512i b)
{
    emu512 s = { .v = sum }, x = { .i = a }, y = { .i = b };
    EMU_EACH(16)
        for (int half = 1; half >= 0; half--) {
            s.f[i] = fmaf(emu_brain_at(x.h[2 * i + half]), emu_brain_at(y.h[2 * i + half]), s.f[i]);
            if (!(s.u[i] & 0x7f800000)) s.u[i] &= 0x80000000;
        }
    return s.v;
}
#undef _mm512_dpbf16_ps
#define _mm512_dpbf16_ps(s, a, b) emu_dpbf16_ps(s, (__m512i)(a), (__m512i)(b))
#undef __m512bh
#define __m512bh __m512i

/* Of VFPCLASSPS only the class of denormals (bit 5). */
EMU uint16_t emu_fpclass_ps_mask(__m512 a, int classes)
{
    emu512 x = { .v = a };
    uint16_t out = 0;
    EMU_EACH(16)
        if (classes & 0x20 && !(x.u[i] & 0x7f800000) && x.u[i] & 0x7fffff) out |= (uint16_t)(1 << i);
    return out;
}
#undef _mm512_fpclass_ps_mask
#define _mm512_fpclass_ps_mask emu_fpclass_ps_mask

#include "amx.h"
#endif
