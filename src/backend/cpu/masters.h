/* Passes over all that is trained: in runs of elements, which threads share out, so what a run makes depends on
 * nobody's share. */
#ifndef BACKEND_CPU_MASTERS_H
#define BACKEND_CPU_MASTERS_H
#include "backend/cpu/cpu.h"
#include "kernels/train.h"

enum { MASTER_RUN = 4096 };          /* a multiple of MOMENT_BLOCK and of a panel's columns */

/* How many runs so many elements are. */
size_t master_runs(size_t elements);

struct pass {
    struct weights *w;
    /* Elements [at, at + n) of a weight that is trained; *out: the run's own place in weights.squares. */
    void (*run)(const struct pass *x, const struct weight *w, size_t at, size_t n, double *out);
    const struct param_step *step;
    struct adamw_step matrix, vector;
    float toward;                    /* of the average                                         */
};
void pass(const struct pass *x);
/* The runs' sums in order: [n], 0 of what is not trained. */
void masters_sums(const struct weights *w, double *sums);
/* Gradients of rows that were looked up go to the others. */
void masters_fold(const struct weights *w);

/* adafactor.c */
void adafactor_update(struct weights *w, struct pass *x);
/* A run of the master has changed: so do the average and what is computed with (optimizer.c). */
void master_changed(const struct pass *x, const struct weight *w, size_t at, size_t n);

/* optimizer.c: places of what is remembered; the weight's elements are known. */
void optimizer_place(struct weights *w, struct weight *x, struct arena *a);
/* Of all together, before the weights. */
void optimizer_begin(struct weights *w, struct arena *a);
#endif
