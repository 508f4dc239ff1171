/* What a squeezed model lost, as two thin matrices beside each weight: W ~ V + B A, V the squeezed weight, chosen so
 * that the layer's answers to what it was seen to read change least (LQER arXiv 2402.02446, CALDERA arXiv 2405.18886:
 * the singular value decomposition in the metric of the inputs). Written as an adapter of llama.cpp (LoRA, arXiv
 * 2106.09685) in a GGUF file of its own. */
#ifndef COMPRESS_LOWRANK_H
#define COMPRESS_LOWRANK_H
#include "compress/calibrate.h"

/* error [rows][n] is nearly b a: b [rows][rank], a [rank][n]. Minimises the sum over the tokens seen of |(error - b a)
 * x|^2. gain[0..rank), may be NULL: by how much each rank lowers its mean, falling; *whole (may be NULL): that mean
 * without any. rank <= the smaller side. */
stretto_status lowrank_split(struct workers *w, const struct input_stats *s, const float *error, size_t rows,
                             uint32_t rank, float *a, float *b, double *gain, double *whole, struct error *err);

struct lowrank_options {
    uint32_t rank;          /* of every linear layer; or, where it is 0:                              */
    uint64_t bytes;         /* of the adapter's tensors, shared out by what they gain                 */
    struct calibrate_options calibrate;     /* gram is set here                                       */
    bool force;
};
struct lowrank_report { uint64_t bytes; uint32_t layers; double lost, kept; };

/* original and squeezed: two models of one shape, opened with graph_only or whole. Linear layers that are equal in
 * both have no part in it. The adapter's numbers are Q8_0 where a row is a multiple of its block, float16 elsewhere. */
stretto_status lowrank_write(const struct model *original, const struct model *squeezed, const char *path,
                             const struct lowrank_options *o, struct lowrank_report *report, struct error *err);
#endif
