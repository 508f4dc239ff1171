/* Statistics of few tokens flatter the method that is fitted to them: what looks like a silent direction is one that
 * few tokens went. So the sums of products H are drawn towards what is known better: (1 - a) H + a (L + D), where L is
 * the few strongest directions of H, all channels counted as equally loud, and D the diagonal of H - L. Towards the
 * diagonal alone: Ledoit, Wolf 2004, A well-conditioned estimator for large-dimensional covariance matrices; the
 * directions are there because a model's first token owns much of H and is no accident. */
#ifndef COMPRESS_GRAM_H
#define COMPRESS_GRAM_H
#include "compress/workers.h"
#include <stdint.h>

/* a: what was asked for, or for 0 what suits n inputs and so many tokens; below 0: none. */
double gram_share(double asked, size_t n, uint64_t tokens);
/* gram, out: [n][n], out not gram. */
stretto_status gram_shrink(struct workers *w, const float *gram, size_t n, double a, float *out, struct error *err);
#endif
