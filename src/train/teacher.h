/* A model that teaches another one: any whose tokens are the same. It reads lines through an engine, as `eval kl` does,
 * and what it says of the tokens that count goes into a file (taught.h). So does, for heads that learn beside it, the
 * hidden state that it has there. */
#ifndef TRAIN_TEACHER_H
#define TRAIN_TEACHER_H
#include "base/log.h"
#include "base/progress.h"
#include "model/model.h"
#include "train/taught.h"

struct teacher_how {
    const char *model;            /* a file or folder                                                */
    const struct model_adapter *adapters; size_t n_adapters; /* beside it                             */
    unsigned threads;             /* 0: all                                                          */
    const char *level;            /* ceiling of the kernels; NULL: none                              */
    uint64_t memory;              /* bytes that may be taken; 0: what the machine has                */
    struct progress progress;
    const volatile int *cancel;   /* may be NULL                                                     */
};

/* E_ARG with the first token that is another one in the teacher, or what else differs. Both are opened with
 * graph_only or whole. */
stretto_status teacher_fits(const struct model *teacher, const struct model *student, struct error *err);
/* A hash of all spellings: which vocabulary. */
uint64_t teacher_vocabulary(const struct model *m);

/* Opens the model where records are missing and fills them, in the order of the file; the lines are those that it was
 * opened with. E_CANCEL, E_IO: what is there is kept. Then the file can be read. */
stretto_status teacher_answer(const struct teacher_how *how, struct taught *to, const struct lines *l,
                              const struct lines *held, struct error *err);
#endif
