/* The vector operations of wide_*.h in NEON (AArch64, ARMv8.0). Static inline only. */
#ifndef KERNELS_ARM_OPS128_H
#define KERNELS_ARM_OPS128_H
#include <arm_neon.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { VL = 4, OUTER_ROWS = 12 };
typedef float32x4_t vf;
typedef float64x2_t vd;
typedef uint32x4_t vmask;

static inline vf v_set1(float x) { return vdupq_n_f32(x); }
static inline vf v_load(const float *p) { return vld1q_f32(p); }
static inline void v_store(float *p, vf x) { vst1q_f32(p, x); }

/* Memory that ends early goes through the stack. */
static inline void v_copy(void *to, const void *from, size_t n, size_t size)
{
    memcpy(to, from, (n < VL ? n : VL) * size);
}
static inline vf v_load_n(const float *p, size_t n)
{
    float x[VL] = { 0 };
    v_copy(x, p, n, sizeof *x);
    return vld1q_f32(x);
}
static inline void v_store_n(float *p, vf v, size_t n)
{
    float x[VL];
    vst1q_f32(x, v);
    v_copy(p, x, n, sizeof *x);
}

/* Lanes lo <= i < hi. */
static inline vmask v_range(int lo, int hi)
{
    const int32x4_t i = { 0, 1, 2, 3 };
    return vandq_u32(vcgeq_s32(i, vdupq_n_s32(lo)), vcltq_s32(i, vdupq_n_s32(hi)));
}
static inline vf v_pick(vmask m, vf yes, vf no) { return vbslq_f32(m, yes, no); }
static inline vf v_keep(vf x, size_t n) { return v_pick(v_range(0, n < VL ? (int)n : VL), x, v_set1(0)); }

static inline vf v_add(vf a, vf b) { return vaddq_f32(a, b); }
static inline vf v_sub(vf a, vf b) { return vsubq_f32(a, b); }
static inline vf v_mul(vf a, vf b) { return vmulq_f32(a, b); }
static inline vf v_div(vf a, vf b) { return vdivq_f32(a, b); }
static inline vf v_sqrt(vf a) { return vsqrtq_f32(a); }
static inline vf v_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
static inline vf v_fnma(vf a, vf b, vf c) { return vfmsq_f32(c, a, b); }
static inline vf v_min(vf a, vf b) { return vminq_f32(a, b); }
static inline vf v_max(vf a, vf b) { return vmaxq_f32(a, b); }
static inline vf v_abs(vf x) { return vabsq_f32(x); }
static inline vf v_round(vf x) { return vrndnq_f32(x); }
static inline vf v_sign(vf mag, vf sign)
{
    return vbslq_f32(vdupq_n_u32(0x80000000u), sign, mag);
}
/* x * 2^n for whole n in -160..160 and |x| near 1: halves of n stay in range, the second product rounds. */
static inline vf v_scale2(vf x, vf n)
{
    int32x4_t i = vcvtq_s32_f32(n), half = vshrq_n_s32(i, 1), bias = vdupq_n_s32(127);
    int32x4_t a = vshlq_n_s32(vaddq_s32(half, bias), 23);
    int32x4_t b = vshlq_n_s32(vaddq_s32(vsubq_s32(i, half), bias), 23);
    return vmulq_f32(vmulq_f32(x, vreinterpretq_f32_s32(a)), vreinterpretq_f32_s32(b));
}

static inline vd d_set1(double x) { return vdupq_n_f64(x); }
static inline vd d_load(const double *p) { return vld1q_f64(p); }
static inline vd d_widen(const float *p) { return vcvt_f64_f32(vld1_f32(p)); }
static inline void d_store(double *p, vd x) { vst1q_f64(p, x); }
static inline vd d_fma(vd a, vd b, vd c) { return vfmaq_f64(c, a, b); }

static inline vmask v_less(vf a, vf b) { return vcltq_f32(a, b); }
static inline vmask v_equal(vf a, vf b) { return vceqq_f32(a, b); }
static inline vmask v_nan(vf a) { return vmvnq_u32(vceqq_f32(a, a)); }
static inline vmask v_either(vmask a, vmask b) { return vorrq_u32(a, b); }
static inline bool v_any(vmask m) { return vmaxvq_u32(m) != 0; }
static inline bool v_all(vmask m) { return vminvq_u32(m) != 0; }
static inline float v_sum(vf x) { return vaddvq_f32(x); }
static inline float v_largest(vf x) { return vmaxvq_f32(x); }

static inline vf v_even(vf a, vf b) { return vuzp1q_f32(a, b); }
static inline vf v_odd(vf a, vf b) { return vuzp2q_f32(a, b); }
static inline vf v_zip_lo(vf a, vf b) { return vzip1q_f32(a, b); }
static inline vf v_zip_hi(vf a, vf b) { return vzip2q_f32(a, b); }

static inline void v_transpose(vf x[VL])
{
    vf a = vzip1q_f32(x[0], x[2]), b = vzip2q_f32(x[0], x[2]), c = vzip1q_f32(x[1], x[3]), d = vzip2q_f32(x[1], x[3]);
    x[0] = vzip1q_f32(a, c);
    x[1] = vzip2q_f32(a, c);
    x[2] = vzip1q_f32(b, d);
    x[3] = vzip2q_f32(b, d);
}

/* Stored number types widened to float32; _n reads only the first n. */
static inline vf v_load_half(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
static inline vf v_load_half_n(const uint16_t *p, size_t n)
{
    uint16_t x[VL] = { 0 };
    v_copy(x, p, n, sizeof *x);
    return v_load_half(x);
}
static inline vf v_load_brain(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}
static inline vf v_load_brain_n(const uint16_t *p, size_t n)
{
    uint16_t x[VL] = { 0 };
    v_copy(x, p, n, sizeof *x);
    return v_load_brain(x);
}
/* Byte e of each of VL words. */
static inline vf v_load_quad(const int8_t *p, int e)
{
    int32x4_t w = vshlq_s32(vreinterpretq_s32_s8(vld1q_s8(p)), vdupq_n_s32(24 - 8 * e));
    return vcvtq_f32_s32(vshrq_n_s32(w, 24));
}
/* The levels that 16 bytes' low and high halves name. */
static inline void v_levels(const uint8_t *p, const int8_t *levels, int8_t *low, int8_t *high)
{
    const int8x16_t table = vld1q_s8(levels);
    uint8x16_t x = vld1q_u8(p);
    vst1q_s8(low, vqtbl1q_s8(table, vandq_u8(x, vdupq_n_u8(15))));
    vst1q_s8(high, vqtbl1q_s8(table, vshrq_n_u8(x, 4)));
}
/* VL words, each two bf16: the low and the high one. */
static inline void v_load_brain_pairs(const uint16_t *p, vf *low, vf *high)
{
    uint32x4_t w = vreinterpretq_u32_u16(vld1q_u16(p));
    *low = vreinterpretq_f32_u32(vshlq_n_u32(w, 16));
    *high = vreinterpretq_f32_u32(vandq_u32(w, vdupq_n_u32(0xffff0000u)));
}

/* A group of brain12.h. */
static inline void v_brain12(const uint8_t *from, const uint8_t *high, uint8_t *lines)
{
    const uint8x16_t table = vld1q_u8(high);
    for (int lane = 0; lane < 4; lane++) {
        uint8x16_t codes = vld1q_u8(from + 16 * lane);
        for (int i = 0; i < 2; i++) {
            uint8x16_t low = vld1q_u8(from + 64 + 64 * i + 16 * lane);
            uint8x16_t up = vqtbl1q_u8(table, i ? vshrq_n_u8(codes, 4) : vandq_u8(codes, vdupq_n_u8(15)));
            vst1q_u8(lines + 128 * i + 16 * lane, vzip1q_u8(low, up));
            vst1q_u8(lines + 128 * i + 64 + 16 * lane, vzip2q_u8(low, up));
        }
    }
}

/* The same of four columns as vectors, one for each of 8 of K. */
static inline void v_brain12_vectors(const uint8_t *from, const uint8_t *high, vf w[8])
{
    const uint8x16_t table = vld1q_u8(high);
    uint8x16_t codes = vld1q_u8(from);
    for (int i = 0; i < 2; i++) {
        uint8x16_t low = vld1q_u8(from + 64 + 64 * i);
        uint8x16_t up = vqtbl1q_u8(table, i ? vshrq_n_u8(codes, 4) : vandq_u8(codes, vdupq_n_u8(15)));
        uint32x4_t a = vreinterpretq_u32_u8(vzip1q_u8(low, up)), b = vreinterpretq_u32_u8(vzip2q_u8(low, up));
        w[4 * i] = vreinterpretq_f32_u32(vshlq_n_u32(a, 16));
        w[4 * i + 1] = vreinterpretq_f32_u32(vandq_u32(a, vdupq_n_u32(0xffff0000u)));
        w[4 * i + 2] = vreinterpretq_f32_u32(vshlq_n_u32(b, 16));
        w[4 * i + 3] = vreinterpretq_f32_u32(vandq_u32(b, vdupq_n_u32(0xffff0000u)));
    }
}

/* x holds integers in int8's range. */
static inline void v_store_codes(int8_t *p, vf x, size_t n)
{
    int16x4_t h = vmovn_s32(vcvtq_s32_f32(x));
    int8_t c[8];
    vst1_s8(c, vmovn_s16(vcombine_s16(h, h)));
    v_copy(p, c, n, 1);
}
/* Nearest even; NaN keeps its upper bits and becomes quiet. */
static inline void v_store_brain(uint16_t *p, vf x, size_t n)
{
    uint32x4_t u = vreinterpretq_u32_f32(x), odd = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
    uint32x4_t r = vaddq_u32(vaddq_u32(u, vdupq_n_u32(0x7fff)), odd);
    uint16_t h[VL];
    r = vbslq_u32(v_nan(x), vorrq_u32(u, vdupq_n_u32(0x400000)), r);
    vst1_u16(h, vshrn_n_u32(r, 16));
    v_copy(p, h, n, sizeof *h);
}
static inline void v_store_half(uint16_t *p, vf x, size_t n)
{
    uint16_t h[VL];
    vst1_u16(h, vreinterpret_u16_f16(vcvt_f16_f32(x)));
    v_copy(p, h, n, sizeof *h);
}
#endif
