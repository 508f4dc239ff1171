/* bf16 weights in 12 bits without loss: the panels of BF16 (panel.h) with the sixteen most frequent high bytes of
 * a panel in a table. The high byte of a bf16 is its sign and seven bits of its exponent; weights of trained models
 * spread over few binades, so nearly all of them have one of sixteen. The others, the escapes, stand in a list.
 * The idea is that of DFloat11 (arXiv 2504.11651), with a code of fixed length in place of Huffman's: a CPU decodes
 * it as fast as it reads it.
 *
 * A panel of 16 columns x k:
 *   64 bytes    struct brain12_head
 *   192 bytes   for every 8 of K, k rounded up (zeros): one line of codes, two lines of low bytes
 *   u32 [..]    escapes in ascending order: place << 8 | high byte, place = 16 * k + column; UINT32_MAX ends them
 *
 * Byte b = 16 * lane + i of a line of low bytes belongs to bf16 number 8 * lane + i % 8 of the panel's first of two
 * lines of bf16 (i < 8) or of its second: joining low and high bytes by the halves of 16-byte lanes (punpcklbw,
 * punpckhbw, zip) gives these lines. The code of byte b of the first line of low bytes is the lower half of byte b of
 * the line of codes, that of the second its upper half. */
#ifndef KERNELS_BRAIN12_H
#define KERNELS_BRAIN12_H
#include "kernels/panel.h"
#include <stdbool.h>

enum {
    BRAIN12_K = 8, BRAIN12_GROUP = 192,    /* of K, and bytes, of a group                        */
    BRAIN12_ESCAPES = 32,                  /* one escape in so many elements of K fits: 1 of 512 */
    BRAIN12_MOST_K = (1 << 20) - BRAIN12_K
};

struct brain12_head {
    uint8_t high[16];
    void *elsewhere;                       /* the provider's own: a panel that did not fit       */
    uint32_t escapes;
    uint8_t unused[36];
};

/* A multiple of 64. k is at most BRAIN12_MOST_K. */
size_t brain12_bytes(size_t k);
/* From a panel of BF16 of the same k; false, and only the head is written, where too many numbers escape. */
bool brain12_pack(const void *bf16, size_t k, void *panel);
/* How many of n bf16 numbers are not among those with the sixteen most frequent high bytes. */
size_t brain12_escaped(const void *bf16, size_t n);

static inline const uint8_t *brain12_groups(const void *panel)
{
    return (const uint8_t *)panel + sizeof(struct brain12_head);
}
static inline const uint32_t *brain12_list(const void *panel, size_t k)
{
    return (const uint32_t *)(const void *)(brain12_groups(panel) + (k + BRAIN12_K - 1) / BRAIN12_K * BRAIN12_GROUP);
}
#endif
