/* Attention among the rows of one step, and its gradient. Keys and values are values of the step, not pages: row r
 * sees the rows of its ranges, one behind the other, and of these the last `window`. How many of them stand before a
 * row that it sees is that row's place; everything a row's answer depends on are the rows it sees, in this order, so
 * its bits do not depend on where they stand, on other rows, or on how a step is cut into calls:
 *
 *   score     scale * (q . k, fmaf over ascending dims), capped
 *   p         exp(score - max), their sum in lanes by place; out = (fmaf over ascending places of p v) / sum
 *   lse       max + log(sum)
 *   ds        scale * exp(score - lse) * (do . v - do . out), through the cap
 *   dq        fmaf over ascending places of ds k
 *   dk, dv    fmaf over ascending rows that see the key, and ascending heads in them, of ds q and p do
 *
 * After FlashAttention's backward pass (arXiv 2205.14135), in two passes instead of atomics; or in one, which makes
 * scores once, over rows that nobody else sees, by one owner. The bits are the same. */
#ifndef KERNELS_SEE_H
#define KERNELS_SEE_H
#include "kernels/kernels.h"

enum { SEE_RANGES = 4, SEE_DIMS = 512 };   /* most of a row; most dims of a head */

/* One key/value head and the heads that share it. Vectors of neighbouring heads stand side by side. */
struct see {
    const float *q; size_t ldq;            /* row r, head h of the group: q + r * ldq + h * head_dim */
    const float *k, *v; size_t ldk, ldv;   /* row r: k + r * ldk                                     */
    size_t heads, head_dim, n_rows;
    /* Row r sees the rows ranges[2 i] .. ranges[2 i + 1] for range_at[r] <= i < range_at[r + 1]: at most SEE_RANGES,
     * not empty, without a row twice, in any order. */
    const int32_t *range_at, *ranges;
    size_t window;                         /* 0: all of them */
    float scale, softcap;
};

/* Floats of scratch, 64-byte aligned, that a call needs for steps of n_rows rows. */
size_t see_scratch(size_t heads, size_t head_dim, size_t n_rows);

/* Rows from .. to: out + r * ldo + h * head_dim, and lse[r * ldl + h], of every row r of the step by its own number.
 * A row that sees nothing gets zeros and -INFINITY. */
void see_rows(const struct kernels *k, const struct see *a, size_t from, size_t to, float *scratch, float *out,
              size_t ldo, float *lse, size_t ldl);

/* What the backward passes read besides. */
struct see_back {
    const float *dout; size_t ldo;               /* the gradient of what see_rows wrote             */
    const float *lse, *dots; size_t ldl;         /* dots[r * ldl + h]: out . dout of row and head   */
};

/* dq of the rows from .. to, written whole: dq + r * lddq + h * head_dim. */
void see_rows_dq(const struct kernels *k, const struct see *a, const struct see_back *b, size_t from, size_t to,
                 float *scratch, float *dq, size_t lddq);
/* dk and dv of the rows from .. to as keys, written whole: dk + r * lddk. */
void see_rows_dkv(const struct kernels *k, const struct see *a, const struct see_back *b, size_t from, size_t to,
                  float *scratch, float *dk, size_t lddk, float *dv, size_t lddv);

/* Where parts of a step begin that see nothing of each other, ascending, and at the end n_rows; returns their number.
 * part: [n_rows + 1]. */
size_t see_parts(const int32_t *range_at, const int32_t *ranges, size_t n_rows, int32_t *part);
/* All three of the rows from .. to, a part or several: five products of matrices instead of seven. */
void see_rows_back(const struct kernels *k, const struct see *a, const struct see_back *b, size_t from, size_t to,
                   float *scratch, float *dq, size_t lddq, float *dk, size_t lddk, float *dv, size_t lddv);
#endif
