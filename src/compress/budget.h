/* Bits to a budget: every weight gets the type with which the model spoils least, within bytes, bits, or a speed; or
 * takes the fewest bytes within a divergence (compress.md 2.7 has the sources).
 *
 * What a type spoils at a weight is taken as second order: the mean square by which the answers of its layer change,
 * e H e^T, measured on rows of it that are encoded in all types that fit, times what such a change costs in
 * divergence, measured by spoiling weights of one role in a third of the layers at a time and asking the model.
 * Divergences of small errors add up. Whoever uses this measures the file and asks again with what came of it. */
#ifndef COMPRESS_BUDGET_H
#define COMPRESS_BUDGET_H
#include "compress/squeeze.h"

struct budget;

/* Reads the texts of the plan and measures. Takes the time of a squeeze and some steps more. */
/* Statistics are kept in this file, for those who write afterwards; NULL: they are not. */
stretto_status budget_open(struct budget **out, struct squeeze *s, const char *keep, struct error *err);
void budget_close(struct budget *b);

/* Plans the types (squeeze_rows' `to`). bytes: of all tensors. *kl and *bytes: what is expected. E_FULL: it cannot
 * be met, and the plan is the nearest there is. */
stretto_status budget_bytes(struct budget *b, double most, double *kl, double *bytes, struct error *err);
stretto_status budget_kl(struct budget *b, double most, double *kl, double *bytes, struct error *err);
/* What the plan as it stands is expected to be. */
void budget_expect(const struct budget *b, double *kl, double *bytes);
/* The divergence of the plan as it stands was measured: expectations are corrected by it. */
void budget_learn(struct budget *b, double kl);
#endif
