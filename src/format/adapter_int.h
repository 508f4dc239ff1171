/* What reading and writing adapters share. */
#ifndef FORMAT_ADAPTER_INT_H
#define FORMAT_ADAPTER_INT_H
#include "format/adapter.h"
#include "format/hf_int.h"

/* Row x of heads kept in halves stands here when they are kept in pairs. */
static inline uint64_t paired_place(uint64_t row, uint64_t head_rows)
{
    uint64_t head = row / head_rows * head_rows, at = row % head_rows, half = head_rows / 2;
    return head + (at < half ? 2 * at : 2 * (at - half) + 1);
}

/* The family whose names and order of rows Hugging Face's files of the base have; NULL: there is none. */
const struct hf_family *adapter_family(const struct source *base);
/* Rows of a head where the base keeps this weight's rows in another order than files of the other kind (`halves`:
 * Hugging Face's) do; 0: the order is the same. */
uint64_t adapter_turned(const struct source *base, const char *weight, uint64_t n_out, bool halves);
/* The fused tensor of that name, or NULL; and the one that a weight is a slice of. */
const struct source_tensor *adapter_fused(const struct source *base, const char *name);
const struct source_tensor *adapter_whole(const struct source *base, const char *slice);
#endif
