/* What the parts of squeezing share. */
#ifndef COMPRESS_SQUEEZE_INT_H
#define COMPRESS_SQUEEZE_INT_H
#include "compress/imatrix.h"
#include "compress/squeeze.h"
#include <stdbool.h>

enum { TEXTS_MAX = 64 };

/* Files that were made of the same statistics: what they have in the type of the plan need not be encoded again. */
enum { DONE_FILES = 8 };
struct done_file { struct model *m; struct squeeze_row *rows; };

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
    struct done_file done[DONE_FILES];
    size_t n_done;
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
/* From now on weights are taken from this file, which squeeze_write just made, where it has them as the plan wants
 * them; not where later layers learn from what the earlier ones have become. Returns the file, or NULL: no room. */
stretto_status squeeze_keep_done(struct squeeze *s, const char *path, const struct model **out, struct error *err);
/* h, and the names of the source's tensors and the beginnings of what they hold. */
uint64_t squeeze_source_key(const struct squeeze *s, uint64_t h);
/* Whether this file is what squeeze_write would write of the plan. */
bool squeeze_is_written(const struct squeeze *s, const char *path);
stretto_status squeeze_cancelled(const struct squeeze *s, struct error *err);
#endif
