/* What the parts of squeezing share. */
#ifndef COMPRESS_SQUEEZE_INT_H
#define COMPRESS_SQUEEZE_INT_H
#include "compress/squeeze.h"

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
    char *goal;
    struct workers *workers;
    struct feedback_options how;
};

/* Texts as windows, and the workers; once. */
stretto_status squeeze_prepare(struct squeeze *s, struct error *err);
stretto_status squeeze_cancelled(const struct squeeze *s, struct error *err);
#endif
