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
#include "kernels/wide_quant.h"
#include "kernels/wide_vec.h"

/* ---- storing one token ------------------------------------------------------------------------------ */

/* Scatters n <= VL numbers of `size` bytes to at, at + step ... */
static void scatter(const void *from, size_t n, size_t size, size_t at, size_t step, void *page)
{
    for (size_t i = 0; i < n; i++)
        memcpy((uint8_t *)page + (at + i * step) * size, (const uint8_t *)from + i * size, size);
}

WIDE_INLINE void store_floats(enum kv_type t, const float *x, size_t n, size_t at, size_t step, void *page)
{
    for (size_t i = 0; i < n; i += VL) {
        size_t left = n - i < VL ? n - i : VL;
        uint16_t h[VL];
        if (t == KV_F32) {
            scatter(x + i, left, sizeof *x, at + i * step, step, page);
            continue;
        }
        if (t == KV_F16)
            v_store_half(h, wide_load_up_to(x + i, left), VL);
        else
            v_store_brain(h, wide_load_up_to(x + i, left), VL);
        scatter(h, left, sizeof *h, at + i * step, step, page);
    }
}

static void store_q8(const float *x, size_t n, size_t at, size_t step, size_t scale_at, size_t scale_step,
                     void *page)
{
    float *scales = (void *)((uint8_t *)page + n * ATTN_BLOCK);
    for (size_t i = 0; i < n; i += 32) {
        int8_t q[32];
        size_t m = n - i < 32 ? n - i : 32;
        wide_quantize_group(x + i, m, q, &scales[scale_at + i / 32 * scale_step]);
        scatter(q, m, 1, at + i * step, step, page);
    }
}

#define STORE_TYPE(T)                                                                                    \
    static void store_k_##T##_neon(const float *x, size_t n, size_t j, void *page)                       \
    {                                                                                                    \
        store_floats(KV_##T, x, n, j, ATTN_BLOCK, page);                                                 \
    }                                                                                                    \
    static void store_v_##T##_neon(const float *x, size_t n, size_t j, void *page)                       \
    {                                                                                                    \
        store_floats(KV_##T, x, n, j * n, 1, page);                                                      \
    }
STORE_TYPE(F32)
STORE_TYPE(F16)
STORE_TYPE(BF16)

static void store_k_Q8_neon(const float *x, size_t n, size_t j, void *page)
{
    store_q8(x, n, j, ATTN_BLOCK, j, ATTN_BLOCK, page);
}
static void store_v_Q8_neon(const float *x, size_t n, size_t j, void *page)
{
    store_q8(x, n, j * n, 1, j * ((n + 31) / 32), 1, page);
}

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
    k->linear[DT_F32] = wide_linear_F32;
    k->linear[DT_F16] = wide_linear_F16;
    k->linear[DT_BF16] = wide_linear_BF16;
    k->linear_level[DT_F32] = k->linear_level[DT_F16] = k->linear_level[DT_BF16] = "neon";
    wide_quant_init(k, "neon");
    wide_vec_init(k);
    wide_attn_init(k, "neon");
    k->peak[ARITHMETIC_INT8] = peak_int8;
    k->peak[ARITHMETIC_F32] = peak_f32;
    STORE_ROW(F32);
    STORE_ROW(F16);
    STORE_ROW(BF16);
    STORE_ROW(Q8);
}
