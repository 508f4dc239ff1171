/* Which factors the channels of one value get (places.h), so that those who read it stand coarse numbers better. They
 * are powers of two: float32 holds the scaled numbers exactly, and the model's answers keep their bits. */
#ifndef COMPRESS_FOLD_SCALES_H
#define COMPRESS_FOLD_SCALES_H
#include "compress/feedback.h"
#include "compress/places.h"

enum fold_method {
    FOLD_AWQ,       /* for codes of the weights: (root mean square of x)^a, arXiv 2306.00978, section 3.2. Which a, is
                       tried on some rows with the writer that will write them                               */
    FOLD_SMOOTH,    /* for codes of weights and of what they read, with a scale for each row: (root mean square of
                       x)^1/2 over (largest |w|)^1/2. SmoothQuant, arXiv 2211.10438, section 4, has the largest |x|
                       there: that is rarely in the row at hand, and saves less (docs/squeeze.md)            */
    FOLD_STATIC,    /* the same where one scale serves all rows: (largest |x|)^3/4 over (largest |w|)^1/4    */
    FOLD_ROTATE     /* no factors (fold_weights.h)                                                           */
};

/* A layer that reads the value: its weight [rows][width], and what it becomes. */
struct fold_reader { const float *weight; size_t rows; enum dtype to; };

struct fold_choice {
    struct workers *workers;
    enum fold_method method;
    const struct feedback_options *how; /* codes are chosen; of FOLD_AWQ        */
    const struct place *place;
    const struct input_stats *stats;    /* with gram, for FOLD_AWQ              */
    const struct fold_reader *reader;
    size_t n_readers;
};

/* Of FOLD_AWQ: the mean square by which codes change answers, over that of the answers, added up over the readers
 * that get codes; without factors and with those chosen. */
struct fold_gain { double before, after; };

/* s: [place->channels]. */
stretto_status fold_scales(const struct fold_choice *c, float *s, struct fold_gain *out, struct error *err);
#endif
