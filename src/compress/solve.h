/* Least squares under what calibration knows: the factors and solutions that pruning and low rank share. */
#ifndef COMPRESS_SOLVE_H
#define COMPRESS_SOLVE_H
#include "compress/stats.h"
#include "compress/workers.h"

/* *u [n][n], upper triangular, with u^T u the inverse of the gram divided by its rows, after `damp` of its mean
 * diagonal was added to it (more, in steps, until the factor exists). The caller frees it. */
stretto_status solve_inverse_root(double **u, struct workers *w, const struct input_stats *s, double damp,
                                  struct error *err);

/* Ridge regression of a linear layer on fewer inputs: weight [rows][n] becomes out [rows][kept], which answers on
 * inputs keep[0..kept) what the whole one answers on all, as nearly as it can in the mean of squares over what was
 * seen: out = W_k + W_g G_gk (G_kk + damp)^-1, G the gram, k what is kept and g what goes. keep ascends. damp is a
 * share of the mean of G's diagonal; where there is no evidence the weight stays as it was.
 * cross: NULL, or [n][rows] the sum over the tokens of x r^T, r what is to be answered there beyond W_k x_k: then that
 * stands in the place of G_kg W_g^T, and other answers than W x are aimed at. */
stretto_status solve_refit(struct workers *w, const struct input_stats *s, const float *weight, size_t rows,
                           const uint32_t *keep, size_t kept, double damp, const float *cross, float *out,
                           struct error *err);

/* Tokens that something is solved on: moments of the inputs, and as `cross` above what is to be answered. */
struct evidence { struct input_stats in; float *cross; };

/* The same, with the damping that serves tokens best which have no part in it: out is solved on `fit`, with the one of
 * 0.1, 0.01 ... 0.00001 whose answers are nearest to what `held` asks for. *damp (may be NULL) tells which. */
stretto_status solve_checked(struct workers *w, const struct evidence *fit, const struct evidence *held,
                             const float *weight, size_t rows, const uint32_t *keep, size_t kept, double *damp,
                             float *out, struct error *err);

/* The mean over the tokens seen of |(W - V) x|^2, V without its columns outside keep. V NULL: W on keep. */
stretto_status solve_lost(struct workers *w, const struct input_stats *s, const float *weight, size_t rows,
                          const uint32_t *keep, size_t kept, const float *v, double *lost, struct error *err);
/* The order in which inputs of a linear layer go so that its answers change least, what stays making up for them each
 * time (optimal brain surgeon on whole columns: ZipLM, arXiv 2302.04089). order[0..go): which, from the first to the
 * last; lost[i]: what solve_lost would say, damping included, once i + 1 of them are gone and the rest is refitted.
 * The next 32 are picked among the 128 that cost least by themselves. */
stretto_status solve_order(struct workers *w, const struct input_stats *s, const float *weight, size_t rows, size_t go,
                           double damp, uint32_t *order, double *lost, struct error *err);

/* What it costs that a group of `unit` neighbouring inputs goes, alone: as `lost` above, for each of n / unit. */
stretto_status solve_groups(struct workers *w, const struct input_stats *s, const float *weight, size_t rows,
                            size_t unit, double damp, double *cost, struct error *err);
#endif
