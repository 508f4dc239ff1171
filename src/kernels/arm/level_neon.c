/* NEON, which every AArch64 CPU has: all kernels. Four products of int8 are summed in int16 pairs first:
 * two of at most 128 * 127 fit, activations being -127..127.
 * Verified against `ref` under qemu-user; not timed on an Arm CPU yet. */
#include "kernels/kernels.h"
#include "kernels/arm/bytes128.h"

static inline vi i_dot(vi sum, vb codes, vb quad)
{
    int8x16_t w = vreinterpretq_s8_u8(codes), q = vreinterpretq_s8_u8(quad);
    int16x8_t lo = vmull_s8(vget_low_s8(w), vget_low_s8(q)), hi = vmull_high_s8(w, q);
    return vpadalq_s16(sum, vpaddq_s16(lo, hi));
}

/* after the operations they are written in */
#include "kernels/wide_attn.h"
#include "kernels/wide_float.h"
#include "kernels/wide_outer.h"
#include "kernels/wide_quant.h"
#include "kernels/wide_vec.h"
#define TRAIN_TIMES wide_times_f32
#define TRAIN_SILU(x) wide_sigmoid_of(x, x)
#define TRAIN_GELU_TANH(x) wide_gelu_tanh(x)
#include "kernels/wide_train.h"

/* ---- storing one token ------------------------------------------------------------------------------ */

WIDE_INLINE void store_floats(enum kv_type t, bool is_k, const float *x, size_t n, size_t j, void *page)
{
    for (size_t i = 0; i < n; i += VL) {
        size_t left = n - i < VL ? n - i : VL;
        uint16_t h[VL];
        if (t == KV_F16) v_store_half(h, wide_load_up_to(x + i, left), VL);
        if (t == KV_BF16) v_store_brain(h, wide_load_up_to(x + i, left), VL);
        const void *from = t == KV_F32 ? (const void *)(x + i) : h;
        if (is_k) kv_put_k(t, n, i, left, j, from, page);
        else kv_put_v(t, n, i, left, j, from, page);
    }
}

WIDE_INLINE void store_q8(bool is_k, const float *x, size_t n, size_t j, void *page)
{
    float *scales = (float *)(uintptr_t)(is_k ? kv_k_scales(page, n) : kv_v_scales(KV_Q8, page, n));
    for (size_t i = 0; i < n; i += 32) {
        int8_t q[32];
        size_t m = n - i < 32 ? n - i : 32;
        wide_quantize_group(x + i, m, q, &scales[i / 32 * ATTN_BLOCK + j]);
        if (is_k) kv_put_k(KV_Q8, n, i, m, j, q, page);
        else kv_put_v(KV_Q8, n, i, m, j, q, page);
    }
}

#define STORE_TYPE(T, CALL, ...)                                                                         \
    static void store_k_##T##_neon(const float *x, size_t n, size_t j, void *page)                       \
    {                                                                                                    \
        CALL(__VA_ARGS__ true, x, n, j, page);                                                           \
    }                                                                                                    \
    static void store_v_##T##_neon(const float *x, size_t n, size_t j, void *page)                       \
    {                                                                                                    \
        CALL(__VA_ARGS__ false, x, n, j, page);                                                          \
    }
STORE_TYPE(F32, store_floats, KV_F32, )
STORE_TYPE(F16, store_floats, KV_F16, )
STORE_TYPE(BF16, store_floats, KV_BF16, )
STORE_TYPE(Q8, store_q8, )

static inline int32x4_t int8_step(int32x4_t sum, const uint8_t *p)
{
    int8x16_t w = vreinterpretq_s8_u8(vld1q_u8(p));
    return i_dot(sum, vreinterpretq_u8_s8(w), vreinterpretq_u8_s8(w));
}
static inline float32x4_t f32_step(float32x4_t sum, const uint8_t *p)
{
    float32x4_t w = vreinterpretq_f32_u8(vld1q_u8(p));
    return vfmaq_f32(sum, w, w);
}
PEAK_FUNCTION(peak_int8, int32x4_t, vdupq_n_s32(0), 8, int8_step, 16)
PEAK_FUNCTION(peak_f32, float32x4_t, vdupq_n_f32(0), 16, f32_step, 4)

#define STORE_ROW(T) k->kv_store_k[KV_##T] = store_k_##T##_neon, k->kv_store_v[KV_##T] = store_v_##T##_neon

void kernels_init_neon(struct kernels *k)
{
    wide_float_init(k, "neon");
    wide_quant_init(k, "neon");
    wide_vec_init(k);
    wide_outer_init(k);
    wide_train_init(k);
    wide_attn_init(k, "neon");
    k->peak[ARITHMETIC_INT8] = peak_int8;
    k->peak[ARITHMETIC_F32] = peak_f32;
    STORE_ROW(F32);
    STORE_ROW(F16);
    STORE_ROW(BF16);
    STORE_ROW(Q8);
}
