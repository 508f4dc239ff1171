/* What the kernels of a training step are told, and the arithmetic they keep to. See kernels.h for the table.
 *
 * Fixed to the bit on every level, so that gradients do not depend on it:
 *
 *   linear_back   dx[i] = fmaf(w[o][i], dy[o], dx[i]), outputs o ascending, from +0 or from what is there: the
 *                 bits of `linear` with the transposed matrix
 *   linear_grad   g[o][i] = fmaf(x[r][i], dy[r][o], g[o][i]), rows ascending: rows may be cut anywhere
 *   vector_grad   likewise (kernels.h)
 *   square_sum    in double: lane l of 16 sums fma(x, x, lane) over x[l], x[l + 16] ...; then lanes l + 8 are added to
 *                 lanes l, then l + 4, l + 2, l + 1
 *   adamw         below
 *
 * In bf16 (Micikevicius et al., arXiv 1710.03740; kernels.h: learn_linear, learn_grad) both factors are rounded to bf16
 * and products are added in float32 as the level's instruction adds them: within a bound of the terms' magnitudes, a
 * row's answers depending on nothing but the row. Denormals are zeros. Gradients take rows in groups:
 *
 *   learn_grad    g[o][i] goes on from what is there by one group after the other, each as if it had LEARN_ROWS rows,
 *                 of which those that it has not are zeros: rows may be cut anywhere between groups
 *
 * The others come within a bound of their formula in float64, as forward kernels do; in all of them a row's bits do
 * not depend on its neighbours. */
#ifndef KERNELS_TRAIN_H
#define KERNELS_TRAIN_H
#include "tensor/dtype.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Most words of a teacher's; what the others have together is taken to be at least this. */
enum { LOSS_TOP = 256 };
#define LOSS_LEAST 1e-37

/* What a row's answer should have been. */
struct loss_target {
    float weight;                  /* of the row, already divided by the sum of the batch's            */
    int32_t token;                 /* used where n_top is 0                                            */
    /* a teacher's likeliest tokens, distinct, with their probabilities, and the probability of all others together,
     * which are one event here; with tail 0 the probabilities may have any sum, as sampled ones have */
    uint32_t n_top;
    const int32_t *top;
    const float *prob;
    float tail;
};

/* AdamW (arXiv 1711.05101) of a parameter w with gradient g and moments m, v:
 *   g' = g * scale;  m = fmaf(beta1, m, (1 - beta1) * g');  v = fmaf(beta2, v, (1 - beta2) * (g' * g'))
 *   w = fmaf(-lr * decay, w, w);  w = fmaf(-lr, (m * fix1) / (sqrtf(v * fix2) + eps), w)
 * every product and quotient rounded once. `adamw_step` makes what follows from the step's number, from 1 on. */
struct adamw_step {
    float lr, beta1, beta2, eps, decay, scale;
    float fix1, fix2;              /* 1 / (1 - beta^step)                                              */
};
struct adamw_step adamw_step(float lr, float beta1, float beta2, float eps, float decay, float scale, uint64_t step);

/* linear[DT_F32] with panels `apart` floats from each other; `more`: y is gone on from. */
typedef void times_fn(const float *panels, size_t apart, size_t n_panels, size_t k, const float *x, size_t ldx,
                      size_t rows, float *y, size_t ldy, bool more);

/* dx[r][i] for the inputs from .. from + cols: `panels` are those of the forward pass, of n outputs and k inputs;
 * dy: [rows][n]; dx: [rows][cols]. `more`: dx is added to. */
typedef void linear_back_fn(const void *panels, size_t n, size_t k, size_t from, size_t cols, const float *dy,
                            size_t lddy, size_t rows, float *dx, size_t lddx, bool more);

/* Rows first .. first + n, at most LEARN_ROWS, that are added up together. */
enum { LEARN_ROWS = 32 };
struct row_group { uint32_t first, n; };

/* linear_grad (kernels.h) in bf16, of these groups of rows. Columns past n of the last panel may be written: their
 * gradient is that of a dy of zero. */
typedef void learn_grad_fn(const float *x, size_t ldx, size_t cols, const float *dy, size_t lddy, size_t n,
                           const struct row_group *group, size_t groups, float *g, size_t k);

/* One query row of attention over n positions, of which it sees lo <= j < hi; s: q . k of each. */
struct see_row {
    size_t lo, hi, n;
    float scale, softcap;
};
#endif
