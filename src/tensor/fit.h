/* Scales for groups of numbers that become codes: given the grid of a format, the scale (and the minimum)
 * whose rounded codes have the least weighted squared error that a search finds. Whoever writes blocks uses
 * these: tensor/encode.c as they are, methods with calibration with weights of their own.
 *
 * Everything is float32 in a fixed order, so answers are the same everywhere. A group has a multiple of 8
 * numbers, 256 at most, all of magnitude 2^20 at most; weights are 0..1, not all 0. */
#ifndef TENSOR_FIT_H
#define TENSOR_FIT_H
#include "tensor/dtype.h"
#include <stdbool.h>

enum { FIT_LANES = 8 };

/* What codes mean under a scale of one: the whole numbers low..high, or one of values[0..15]. Then the
 * one nearest to v is near[2 * (v - low)] rounded down, because what lies midway is a multiple of a half. */
struct grid { const int8_t *values; float low, high, near[512]; };

/* The grid of a row's codes. */
struct grid grid_of(const struct dtype_info *t);

/* A weighted group with its sums, and what fits are solved from: sums with v, the grid's value of an element. */
struct group { const float *x, *w; size_t n; float sum_x, sum_w; };
struct sums { float vv, v, xv; };

struct group group_make(const float *x, const float *w, size_t n);

/* The values of FIT_LANES numbers in units of the scale. */
void grid_nearest(const struct grid *g, const float *in, float *values);
/* Sums with the values that (x - min) / scale rounds to. scale 0: every value is the one nearest to 0. */
struct sums fit_sums(const struct grid *g, const struct group *a, float scale, float min);
/* The weighted squared error of the same values times scale, plus min. */
float fit_error(const struct grid *g, const struct group *a, float scale, float min);

/* x as scale * v. 0 where no scale beats zeros. */
float fit_scale(const struct grid *g, const struct group *a);
/* x as scale * v + min; with `below` min is at most 0. The scale is never negative. */
void fit_scale_min(const struct grid *g, const struct group *a, bool below, float *scale, float *min);
#endif
