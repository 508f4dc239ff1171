/* What a model answers to texts, without the model in memory: one walk through its layers, one at a time, keeps the
 * rows before the last one (4 bytes for each channel of each token); the last layer and the head then answer what is
 * asked, whenever it is. Arithmetic is a step's, so bits are those of an engine with a cache of float32. */
#ifndef COMPRESS_ORIGINAL_H
#define COMPRESS_ORIGINAL_H
#include "backend/backend.h"
#include "eval/eval.h"
#include "model/model.h"

struct original;

struct original_options {
    unsigned threads;                   /* 0: all */
    struct progress progress;
    const volatile int *cancel;         /* may be NULL */
};

/* m: opened with graph_only or whole. All are borrowed. Reads the windows of set[0..n). */
stretto_status original_open(struct original **out, const struct model *m, struct device *d,
                             const struct eval_set *set, size_t n, const struct original_options *o,
                             struct error *err);
void original_close(struct original *x);
/* The last layer and the head in memory, or again not. */
stretto_status original_wake(struct original *x, struct error *err);
void original_sleep(struct original *x);
/* Answers of an original that is awake to windows of one of the sets, until another's are asked for. */
struct eval_base original_base(struct original *x, size_t set);
#endif
