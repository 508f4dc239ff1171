/* Where a page keeps what: one kv head of one layer, 64 positions, K and V. Both are read front to
 * back by attention, in panels of 16, so that the fetching ahead that CPUs do finds its way:
 *
 *   K  [64 / 16][head_dim][16 positions]            scores vectorise over positions
 *   V  [ceil(head_dim / 16)][64 positions][16]      values over dims; the last panel is as narrow
 *                                                   as what is left of head_dim
 * KV_Q8, KV_Q8_Q4: codes. Four stand together, for products of four bytes or two pairs of int16:
 *
 *   K  [64 / 16][ceil(head_dim / 4)][16 positions][4 dims]
 *   V  [ceil(head_dim / 16)][64 / 4][16 dims][4 positions], the last panel filled up to 16 dims;
 *      KV_Q8_Q4: [8 dims] in place of [16], the low four bits those of dim i, the high of dim i + 8
 *
 * then, in both pages, float32 scales [ceil(head_dim / 32)][64]. A token's codes depend on that
 * token's vector alone (per 32 dims, as `quantize` does it) and own their bytes, so that rows of one
 * page can be stored by several threads. The values of KV_Q8_Q4 are rotated before they are rounded:
 * see kv_rotate. Static inline only (see kernels.h). */
#ifndef KERNELS_KV_H
#define KERNELS_KV_H
#include "kernels/kernels.h"
#include <math.h>
#include <string.h>

enum { KV_PANEL = 16 };

static inline bool kv_coded(enum kv_type t) { return t == KV_Q8 || t == KV_Q8_Q4; }
static inline bool kv_rotated(enum kv_type t) { return t == KV_Q8_Q4; }
static inline size_t kv_element(enum kv_type t) { return t == KV_F32 ? 4 : kv_coded(t) ? 1 : 2; }
static inline size_t kv_groups(size_t head_dim) { return (head_dim + 31) / 32; }
static inline size_t kv_quads(size_t head_dim) { return (head_dim + 3) / 4; }

/* Bytes of a panel of 16 dims of V's codes. */
static inline size_t kv_v_panel(enum kv_type t)
{
    return (size_t)KV_PANEL * ATTN_BLOCK / (t == KV_Q8_Q4 ? 2 : 1);
}

/* The scales of a page of codes; group g of position j stands at [g * 64 + j]. */
static inline const float *kv_k_scales(const void *page, size_t head_dim)
{
    return (const void *)((const uint8_t *)page + kv_quads(head_dim) * 4 * ATTN_BLOCK);
}

static inline const float *kv_v_scales(enum kv_type t, const void *page, size_t head_dim)
{
    size_t panels = (head_dim + KV_PANEL - 1) / KV_PANEL;
    return (const void *)((const uint8_t *)page + panels * kv_v_panel(t));
}

/* Element of dim i of position j. */
static inline size_t kv_k_at(enum kv_type t, size_t head_dim, size_t i, size_t j)
{
    size_t panel = j / KV_PANEL, at = j % KV_PANEL;
    if (kv_coded(t)) return ((panel * kv_quads(head_dim) + i / 4) * KV_PANEL + at) * 4 + i % 4;
    return (panel * head_dim + i) * KV_PANEL + at;
}

/* KV_Q8_Q4: of the byte that holds it. */
static inline size_t kv_v_at(enum kv_type t, size_t head_dim, size_t i, size_t j)
{
    size_t wide = t == KV_Q8_Q4 ? 8 : KV_PANEL;
    if (kv_coded(t))
        return i / KV_PANEL * kv_v_panel(t) + (j / 4 * wide + i % wide) * 4 + j % 4;
    size_t first = i / KV_PANEL * KV_PANEL, left = head_dim - first;
    return first * ATTN_BLOCK + j * (left < KV_PANEL ? left : KV_PANEL) + (i - first);
}

/* What a code of four bits stands for, in units of the group's scale, which is the largest magnitude
 * over 127: the levels of least squared error for 32 numbers of a normal distribution (Lloyd 1982,
 * computed for this project; the rotation makes values nearly normal). */
static const int8_t kv_levels[16] = { -123, -97, -77, -60, -45, -32, -19, -6,
                                      6,    19,  32,  45,  60,  77,  97,  123 };

/* Hadamard's rotation of a head's vector in runs of the largest power of two that divides head_dim.
 * It spreads outliers over the run, and is its own inverse: undone once on attention's answer. */
static inline void kv_rotate(float *x, size_t head_dim)
{
    size_t run = head_dim & (~head_dim + 1);
    float by = sqrtf(1.0f / (float)run);
    for (size_t h = 1; h < run; h *= 2)
        for (size_t i = 0; i < head_dim; i += 2 * h)
            for (size_t e = i; e < i + h; e++) {
                float a = x[e], b = x[e + h];
                x[e] = a + b;
                x[e + h] = a - b;
            }
    for (size_t i = 0; i < head_dim; i++) x[i] *= by;
}

/* Elements i .. i + n of position j, as the page holds them; for V within one panel. */
static inline void kv_put_k(enum kv_type t, size_t head_dim, size_t i, size_t n, size_t j,
                            const void *from, void *page)
{
    size_t size = kv_element(t);
    for (size_t e = 0; e < n; e++)
        memcpy((uint8_t *)page + kv_k_at(t, head_dim, i + e, j) * size,
               (const uint8_t *)from + e * size, size);
}

static inline void kv_put_v(enum kv_type t, size_t head_dim, size_t i, size_t n, size_t j,
                            const void *from, void *page)
{
    size_t size = kv_element(t);
    if (!kv_coded(t)) {
        memcpy((uint8_t *)page + kv_v_at(t, head_dim, i, j) * size, from, n * size);
        return;
    }
    for (size_t e = 0; e < n; e++)
        memcpy((uint8_t *)page + kv_v_at(t, head_dim, i + e, j), (const uint8_t *)from + e, 1);
}
#endif
