/* Scales that move from one tensor of a model into the next, so that what lies between them suits coarse numbers
 * better. What the model says stays as it is.
 *
 * Keys. A key is turned by its position and multiplied with a turned query, pair of dimensions by pair, so a pair of
 * the keys may be made smaller by a factor and the same pair of the queries larger. Models whose keys have biases
 * (Qwen2) have pairs a hundred times larger than the others; in a cache of codes these take the steps from
 * their neighbours. Queries become codes too, so the factors are those under which both together lose least. They are
 * powers of two: every type of weight holds the scaled rows exactly, and with a cache of floats the model's answers
 * keep their bits. (Shifting scales between neighbours as in SmoothQuant,
 * arXiv 2211.10438, applied to what the cache stores.) */
#ifndef COMPRESS_FOLD_H
#define COMPRESS_FOLD_H
#include "compress/calibrate.h"
#include "compress/rewrite.h"

struct fold_report {
    uint32_t layers, folded;        /* that have attention; of them, that were changed                       */
    uint32_t normed;                /* of them, left because their keys are normed: nothing sticks out there    */
    double spread, spread_after;    /* largest over median magnitude of a pair of keys, of the worst layer    */
};

/* Writes the whole pass, from rewrite_begin to all tensors written; rewrite_finish is the caller's. c was opened with
 * gram over the source's weights and has not moved yet. */
stretto_status fold_keys(struct rewrite *r, const struct model *m, struct calibration *c, struct workers *w,
                         const struct progress *progress, struct fold_report *out, struct error *err);

/* A row of n elements of a type times 2^e. False, and the row as it was, where the type cannot hold that
 * exactly. */
bool fold_row(enum dtype t, void *row, size_t n, int e);
#endif
