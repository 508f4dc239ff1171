/* What happens to one row between two linear layers, in integers. Each operation is an exact result in 64 bits (or
 * one whose error is named), which is then settled: rounded once, to the row of the least exponent that holds it.
 * Rows in and out may be the same. `p` is scratch for as many numbers as the row has. A row that is no number
 * (EXPONENT_NAN) makes the result none. */
#ifndef BACKEND_INTEGER_ROWS_H
#define BACKEND_INTEGER_ROWS_H
#include "backend/integer/fixed.h"
#include "graph/graph.h"
#include <stddef.h>

struct row { int32_t *x, *e; };                    /* one exponent at e                                 */
struct vector { const int32_t *x; int32_t e; };    /* a parameter, as a row                             */

/* p[i] * 2^e becomes a row: s = the bits of the largest |p[i]| less 30, x[i] = round_shift(p[i], s), or p[i] << -s.
 * |p[i]| <= 2^62. Zeros get EXPONENT_ZERO, as what is too small for an exponent does; what is too large is NaN. */
void row_settle(const int64_t *p, size_t n, int32_t e, struct row to);
void row_nan(size_t n, struct row to);

/* The two ends: numbers come in and go out as float32. x[i] = the integer nearest to in[i] * 2^-e, ties to even,
 * with e the exponent of the largest |in[i]| (2^(e+29) <= it < 2^(e+30)). out[i] = x[i] * 2^e, rounded once. */
void row_from_float(const float *in, size_t n, struct row to);
void row_to_float(struct row x, size_t n, float *out);

/* x + y. The one with the larger exponent counts in units of 2^-30 of its own, so the sum is exact where their
 * exponents differ by 30 at most. */
void row_add(struct row x, struct row y, size_t n, int64_t *p, struct row to);
void row_add_vector(struct row x, const struct vector *y, size_t n, int64_t *p, struct row to);
void row_mul(struct row x, struct row y, size_t n, int64_t *p, struct row to);
/* by.m may be negative. */
void row_scale(struct row x, struct scale by, size_t n, int64_t *p, struct row to);

/* For each `step` numbers: t = x / sqrt(mean(x^2) + eps) in Q(30 - L), 2^L >= sqrt(step), with squares of x's first
 * 22 bits and inverse_root; then t * w (+ b). NORM_LAYER: of x less its mean, rounded. */
struct norm { enum norm_kind kind; size_t step; struct wide eps; struct vector w; const struct vector *b; };
void row_norm(struct row x, const struct norm *m, size_t n, int64_t *p, struct row to);

/* x times the share that the activation lets through (fixed.h), and times y where there is one: then the first
 * product is rounded to x's exponent. */
void row_act(struct row x, enum act_kind kind, const struct row *y, size_t n, int64_t *p, struct row to);
/* cap * tanh(x / cap), of one number x = p * 2^e, |p| <= 2^30, as cap.m times Q31. by: 2 log2(e) / cap. */
int64_t softcap_of(int64_t p, int32_t e, struct scale cap, struct scale by);
void row_softcap(struct row x, struct scale cap, struct scale by, size_t n, int64_t *p, struct row to);

/* Angles: cosines, then sines of n_rot / 2 pairs in Q29, times the table's magnitude (< 4). A pair turns by
 * step[i] / 2^64 of a circle for each position, and whole turns fall away in the product. */
void angles_of(const uint64_t *step, size_t half, struct scale magnitude, int32_t position, int32_t *cs);
void row_rope(struct row x, enum rope_style style, uint32_t heads, uint32_t head_dim, uint32_t n_rot,
              const int32_t *cs, int64_t *p, size_t n, struct row to);

/* Codes q[i] = round(x[i] * 127 / largest |x|), their scale largest / 127. */
struct scale row_codes(const int32_t *x, int32_t e, size_t n, int8_t *q);
/* The same with 32767, for queries. */
struct scale row_codes16(const int32_t *x, int32_t e, size_t n, int16_t *q);
/* Codes by a scale that is given, as its inverse; what is beyond 127 of them is 127. */
void row_codes_by(const int32_t *x, int32_t e, size_t n, struct scale inverse, int8_t *q);

/* sum[i] = the sum of codes times codes; row i of the answer is sum[i] * m[i] * 2^e, where x's scale is multiplied
 * into each column's m: (m[i] * s.m + 2^30) >> 31. |sum| < 2^31. */
int64_t column_product(int32_t sum, int32_t m, struct scale s);
void row_requantise(const int32_t *sum, const int32_t *m, int32_t e, struct scale s, size_t n, int64_t *p,
                    struct row to);
#endif
