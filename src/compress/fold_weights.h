/* The pass that folds factors, or a rotation, into the weights around a model's free places (places.h): the same model,
 * whose weights, or what they read, stand coarse numbers better. Tensors that change are written as float32.
 *
 *   factors   powers of two (fold_scales.h): with a cache of floats the answers keep their bits
 *   rotation  inside each head of the values, by Hadamard's matrix in runs of the largest power of two that divides
 *             a head (QuaRot, arXiv 2404.00456; SpinQuant's R2, arXiv 2405.16406): the answers move by float32's
 *             rounding. The other rotations of those papers need an operation at run time, or an untied head */
#ifndef COMPRESS_FOLD_WEIGHTS_H
#define COMPRESS_FOLD_WEIGHTS_H
#include "compress/calibrate.h"
#include "compress/fold_scales.h"
#include "compress/rewrite.h"

struct fold_options {
    enum fold_method method;
    const struct feedback_options *how;             /* codes will be chosen; of FOLD_AWQ     */
    enum dtype (*becomes)(void *ud, const char *tensor);    /* what a tensor will be; of FOLD_AWQ    */
    void *ud;
    struct workers *workers;
    bool requantize;            /* also weights that are codes already                        */
    struct progress progress;
    const volatile int *cancel; /* may be NULL                                                */
};

struct fold_result {
    size_t places, free;        /* values that layers' weights read; of them, where something can be folded */
    size_t folded;              /* of those, that were changed                                            */
    const char *why;            /* why not the first of the others; NULL: there are none                  */
    struct fold_gain gain;      /* added up                                                           */
};

/* Writes the whole pass, from rewrite_begin to all tensors written; rewrite_finish is the caller's. c was opened over
 * the source's weights, with gram for FOLD_AWQ, and has not moved yet; NULL for FOLD_ROTATE. E_UNSUP with the reason
 * where the model has no free place. */
stretto_status fold_weights(struct rewrite *r, const struct model *m, struct calibration *c,
                            const struct fold_options *o, struct fold_result *out, struct error *err);
#endif
