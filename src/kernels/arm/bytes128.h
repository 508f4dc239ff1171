/* The integer operations of wide_quant.h in NEON. Codes are signed here, so none needs an offset. A level
 * defines i_dot before it includes wide_quant.h. */
#ifndef KERNELS_ARM_BYTES128_H
#define KERNELS_ARM_BYTES128_H
#include "kernels/arm/ops128.h"

enum { QUANT_OFFSET = 0 };
typedef int32x4_t vi;
typedef uint8x16_t vb;

static inline vi i_set1(int32_t x) { return vdupq_n_s32(x); }
static inline vi i_add(vi a, vi b) { return vaddq_s32(a, b); }
static inline vi i_mul(vi a, vi b) { return vmulq_s32(a, b); }
static inline vi i_max(vi a, vi b) { return vmaxq_s32(a, b); }
static inline vi i_load_u8(const uint8_t *p)
{
    uint32_t w;
    memcpy(&w, p, sizeof w);
    uint16x8_t h = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(w)));
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(h)));
}
static inline vi i_load_i8(const uint8_t *p)
{
    uint32_t w;
    memcpy(&w, p, sizeof w);
    return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(w)))));
}
static inline vi i_load_16(const uint8_t *p) { return vmovl_s16(vreinterpret_s16_u8(vld1_u8(p))); }
static inline vi i_sar(vi x, int n) { return vshlq_s32(x, vdupq_n_s32(-n)); }
static inline vi i_left(vi x, int n) { return vshlq_s32(x, vdupq_n_s32(n)); }
static inline vi i_low(vi x, int mask) { return vandq_s32(x, vdupq_n_s32(mask)); }
static inline vf i_float(vi x) { return vcvtq_f32_s32(x); }
static inline vf i_bits(vi x) { return vreinterpretq_f32_s32(x); }

static inline vb b_load(const uint8_t *p) { return vld1q_u8(p); }
static inline vb b_quad(const int8_t *p)
{
    uint32_t w;
    memcpy(&w, p, sizeof w);
    return vreinterpretq_u8_u32(vdupq_n_u32(w));
}
static inline vb b_up(vb x, int n) { return vshlq_u8(x, vdupq_n_s8((int8_t)n)); }
static inline vb b_down(vb x, int n) { return vshlq_u8(x, vdupq_n_s8((int8_t)-n)); }
static inline vb b_and(vb x, int mask) { return vandq_u8(x, vdupq_n_u8((uint8_t)mask)); }
static inline vb b_with(vb x, vb y, int mask) { return vorrq_u8(x, b_and(y, mask)); }
static inline vb b_signed(vb x) { return x; }
static inline vb b_table(const int8_t *p) { return vreinterpretq_u8_s8(vld1q_s8(p)); }
static inline vb b_look(vb table, vb x) { return vqtbl1q_u8(table, x); }
#endif
