/* The part of `stretto squeeze` before any code is written: zeros in place of weights, a smaller shape, even
 * keys; and the one
 * behind it, an adapter of what was lost. */
#ifndef STRETTO_SQUEEZE_SHAPE_H
#define STRETTO_SQUEEZE_SHAPE_H
#include "compress/squeeze.h"
#include "stretto/command.h"

/* Words of the command line; NULL: not asked for. */
struct shape_command {
    const char *shrink, *prune, *shape_of, *repair, *sparsity, *mask, *pattern, *share, *low_rank, *fold;
    bool keys;
};

struct shape_work {
    const struct shape_command *o;
    const struct text_file *texts;      /* [n_texts] to learn from; 0: what is compiled in                */
    size_t n_texts, tokens;
    const struct squeeze_options *plan; /* what weights become afterwards                                 */
    unsigned threads;
    struct progress progress;
    struct log log;
    const volatile int *cancel;
};

extern const struct option_group shape_group;       /* of a struct shape_command */
bool shape_asked(const struct shape_command *o);
/* EXIT_DONE, or a usage error that was told. */
int shape_check(const struct shape_command *o);
/* in -> out, a GGUF file each. */
stretto_status shape_write(const struct shape_work *w, const char *in, const char *out, struct error *err);
/* What squeezed lost of in, as an adapter in `out`. */
stretto_status shape_adapter(const struct shape_work *w, const char *in, const char *squeezed, const char *out,
                             struct error *err);
#endif
