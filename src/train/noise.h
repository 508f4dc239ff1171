/* Noisy copies of answers: what a model learns from that is to guess several tokens in a step (consistency training,
 * arXiv 2403.00835 §3.2; packed beside the clean text as in arXiv 2512.14681 §3).
 *
 * An answer y is cut into windows [at, at + n). A copy of a window is a state s of it, n tokens of which some are
 * wrong, as rows behind the clean ones: their inputs are s[0 .. n - 2], at the positions of y[at] and on, and they see
 * what the clean row before y[at] sees, and each other. So row j is what a step of Jacobi decoding sends for guess j,
 * and what it should say is y[at + j + 1]. Before the first wrong place of s it has seen what the clean row has, so it
 * counts from there on; behind an answer's last token stands nothing.
 *
 * Copies 0, 2, ... have windows of a block, copies 1, 3, ... of two: the second block of these stands behind a noisy
 * one. Windows begin at another place in each epoch, copy and sample. How much of a block is wrong rises from block to
 * block over NOISE_RAMP of them (§3 of 2512.14681), from a place that is drawn; what stands there are
 * tokens of the text so far, runs of it, the answer's own tokens at neighbouring places, as Jacobi states have them,
 * or one of these half corrected. Of answers that were traced half of the blocks are the state that is wrong from about
 * there on, a quarter is such a state half corrected; their windows begin where its blocks do. All of it follows from
 * the seed, the epoch, the line and the copy. */
#ifndef TRAIN_NOISE_H
#define TRAIN_NOISE_H
#include "train/lines.h"
#include "train/states.h"

/* At most: tokens of a block and of a window, copies. */
enum { NOISE_RAMP = 16, NOISE_BLOCK = 256, NOISE_WINDOW = 2 * NOISE_BLOCK, NOISE_COPIES = 64 };

struct noise_how {
    uint32_t block, copies;   /* tokens, 2 or more; block 0: no copies                               */
    double clean, noisy;      /* what a clean row counts, and all copies of it together; as factors  */
    uint64_t seed;
    const struct states *states; /* of samples that have some; may be NULL                           */
};

/* One window of one copy, by the walk below. */
struct noise {
    const struct noise_how *how;
    const struct lines *lines;
    uint32_t sample, copy;
    uint64_t epoch;
    uint32_t at, n;           /* tokens [at, at + n) of the sample; its rows are n - 1               */
    uint32_t from, to, offset; /* the run of tokens that count which it is of, and where its blocks begin */
};

/* Walks the windows of all copies of a sample: false behind the last one. */
struct noise noise_begin(const struct noise_how *how, const struct lines *l, uint32_t sample, uint64_t epoch);
bool noise_next(struct noise *x);
/* Its state; returns the first wrong place among the inputs, or n - 1 where none is. state: [n] */
uint32_t noise_state(const struct noise *x, int32_t *state);
/* What row j counts. */
static inline double noise_weight(const struct noise *x, uint32_t j)
{
    const float *w = sample_weights(x->lines, &x->lines->sample[x->sample]);
    return (double)w[x->at + j + 1] * x->how->noisy / x->how->copies;
}
/* Rows of all copies of a sample; at most so many in any epoch. */
uint32_t noise_rows(const struct noise_how *how, const struct lines *l, uint32_t sample, uint64_t epoch);
uint32_t noise_rows_most(const struct noise_how *how, const struct lines *l, const struct sample *s);
#endif
