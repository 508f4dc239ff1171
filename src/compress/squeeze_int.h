/* What the parts of squeezing share. */
#ifndef COMPRESS_SQUEEZE_INT_H
#define COMPRESS_SQUEEZE_INT_H
#include "compress/imatrix.h"
#include "compress/squeeze.h"
#include <stdbool.h>

enum { TEXTS_MAX = 64 };

struct squeeze {
    struct squeeze_options o;
    const struct mixture *mixture;
    struct model *m;
    struct chat *chat;
    struct source_tensor *stored;       /* [n] beside rows */
    struct squeeze_row *rows;
    size_t n;
    struct text_file texts[TEXTS_MAX];
    size_t n_texts;
    struct windows windows;
    struct imatrix *statistics;         /* or NULL */
    char *goal;
    struct workers *workers;
    struct feedback_options how;
};

/* Whether two layers read one value: what is prepared for one serves the other. */
static inline bool stats_same(const struct input_stats *a, const struct input_stats *b)
{
    return a == b || (a && b && a->gram && a->gram == b->gram);
}
/* What a graph calls a weight of the plan. */
const char *squeeze_param(const struct squeeze *s, size_t row);
/* Texts as windows, where they are wanted or nothing else says what is read, and the workers; once. */
stretto_status squeeze_prepare(struct squeeze *s, bool texts, struct error *err);
stretto_status squeeze_cancelled(const struct squeeze *s, struct error *err);
#endif
