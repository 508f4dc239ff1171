/* Where a page keeps what: one kv head of one layer, 64 positions, K and V. Both are read front to
 * back by attention, in panels of 16, so that the fetching ahead that CPUs do finds its way:
 *
 *   K  [64 / 16][head_dim][16 positions]            scores vectorise over positions
 *   V  [ceil(head_dim / 16)][64 positions][16]      values over dims; the last panel is as narrow
 *                                                   as what is left of head_dim
 * KV_Q8: K [64 / 16][ceil(head_dim / 4)][16 positions][4], for products of four bytes; then, in both
 * pages, float32 scales [ceil(head_dim / 32)][64]. A token's codes depend on that token's vector
 * alone (per 32 dims, as `quantize` does it). Static inline only (see kernels.h). */
#ifndef KERNELS_KV_H
#define KERNELS_KV_H
#include "kernels/kernels.h"
#include <string.h>

enum { KV_PANEL = 16 };

static inline size_t kv_element(enum kv_type t) { return t == KV_F32 ? 4 : t == KV_Q8 ? 1 : 2; }
static inline size_t kv_groups(size_t head_dim) { return (head_dim + 31) / 32; }
static inline size_t kv_quads(size_t head_dim) { return (head_dim + 3) / 4; }

/* KV_Q8: the scales of a page; group g of position j stands at [g * 64 + j]. */
static inline const float *kv_scales(const void *page, size_t head_dim)
{
    return (const void *)((const uint8_t *)page + kv_quads(head_dim) * 4 * ATTN_BLOCK);
}

/* Element of dim i of position j. */
static inline size_t kv_k_at(enum kv_type t, size_t head_dim, size_t i, size_t j)
{
    size_t panel = j / KV_PANEL, at = j % KV_PANEL;
    if (t == KV_Q8) return ((panel * kv_quads(head_dim) + i / 4) * KV_PANEL + at) * 4 + i % 4;
    return (panel * head_dim + i) * KV_PANEL + at;
}

static inline size_t kv_v_at(size_t head_dim, size_t i, size_t j)
{
    size_t first = i / KV_PANEL * KV_PANEL, left = head_dim - first;
    return first * ATTN_BLOCK + j * (left < KV_PANEL ? left : KV_PANEL) + (i - first);
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
    memcpy((uint8_t *)page + kv_v_at(head_dim, i, j) * size, from, n * size);
}
#endif
