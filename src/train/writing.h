/* A model goes on with texts as it would say them itself, drawn from its own probabilities, many texts in the same
 * steps. What it writes depends on the seed and the text's number, and on nothing that stands beside it. */
#ifndef TRAIN_WRITING_H
#define TRAIN_WRITING_H
#include "base/progress.h"
#include "model/model.h"

struct writing {
    const int32_t *prompt;        /* [n_prompt], 1 or more                                           */
    uint32_t n_prompt, most;      /* most: tokens to write                                           */
    uint64_t number;
    int32_t *token;               /* [most] of the caller's                                          */
    uint32_t n;                   /* written: until a token that ends an answer, which is the last   */
};

struct writing_how {
    uint64_t seed;
    unsigned threads;             /* 0: all                                                          */
    struct progress progress;
    const volatile int *cancel;   /* may be NULL                                                     */
};

/* m: with weights. */
stretto_status writing_run(const struct model *m, const struct writing_how *how, struct writing *w, size_t n,
                           struct error *err);
#endif
