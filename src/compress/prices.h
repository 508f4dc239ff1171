/* What rounding costs in divergence, one weight after the other: all other weights are as they were, and the model's
 * answers to a text are compared with those of the original. All weights are tried in a few walks (trial.h), each from
 * its layer on. */
#ifndef COMPRESS_PRICES_H
#define COMPRESS_PRICES_H
#include "compress/squeeze.h"

/* kl[i]: the divergence with the weight of row[i], a row of the plan, as the file `rounded` has it, and nothing else
 * changed. Rows that the model does not read get 0. rounded: a file that squeeze_write made of the same model.
 * told(ud, i) after each kl[i]; ways of a walk take `memory` bytes at most. */
struct prices_ask {
    const size_t *row;
    size_t n;
    const struct model *rounded;
    const struct calibration_text *text;
    size_t memory;
    void (*told)(void *ud, size_t i, double kl);
    void *ud;
};
stretto_status prices_measure(struct squeeze *s, const struct prices_ask *a, double *kl, struct error *err);
#endif
