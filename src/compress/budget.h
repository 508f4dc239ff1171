/* Bits to a budget: every weight gets the type with which the model spoils least, within bytes, bits, or a speed; or
 * takes the fewest bytes within a divergence (compress.md 2.7 has the sources).
 *
 * What a type spoils at a weight is taken as second order: the mean square by which the answers of its layer change,
 * e H e^T, measured on rows of it that are encoded in all types that fit, times what such a change costs in
 * divergence, which the model is asked for each weight by itself (prices.h): the middle plan is written, and every
 * weight of that file is put into the original alone. Divergences of small errors add up. Whoever uses this measures
 * the file and asks again with what came of it. */
#ifndef COMPRESS_BUDGET_H
#define COMPRESS_BUDGET_H
#include "compress/squeeze.h"

struct budget;

/* KEEP-stats has the statistics for those who write afterwards, and KEEP-notes all that is measured, so that an
 * interrupted run goes on there; both stay until budget_forget. NULL: nothing is kept. Nothing is measured yet. */
stretto_status budget_open(struct budget **out, struct squeeze *s, const char *keep, struct error *err);
void budget_close(struct budget *b);
/* notes: those too. */
void budget_forget(struct budget *b, bool notes);
/* Reads the texts of the plan and measures errors. */
stretto_status budget_measure(struct budget *b, struct error *err);
/* Numbers above 0 that whoever uses a budget wants to find again in an interrupted run; 0: it was not noted. */
enum { BUDGET_NOTES = 32 };
stretto_status budget_note(struct budget *b, size_t i, double v, struct error *err);
double budget_noted(const struct budget *b, size_t i);
/* Of the model, the texts and the method: what was measured with others is another's. */
uint64_t budget_key(const struct budget *b);

/* Plans about 4.4 bits for every weight. */
void budget_middle(struct budget *b);
/* rounded: a file written by that plan. Before it nothing is known about what errors cost. */
stretto_status budget_ask(struct budget *b, const struct model *rounded, struct error *err);

/* Plans the types (squeeze_rows' `to`). bytes: of all tensors. *kl and *bytes: what is expected. E_FULL: it cannot
 * be met, and the plan is the nearest there is. */
stretto_status budget_bytes(struct budget *b, double most, double *kl, double *bytes, struct error *err);
stretto_status budget_kl(struct budget *b, double most, double *kl, double *bytes, struct error *err);
/* The rows' `alone`, and errors where the plan has none. */
void budget_tell(const struct budget *b);
/* The same by time instead of bytes: seconds that one row takes through all weights that have a choice. rate: of an
 * element of each type (rates.h), which must live as long as the budget; without it nothing takes time. */
void budget_rates(struct budget *b, const double rate[DT_COUNT]);
double budget_seconds(const struct budget *b);
stretto_status budget_time(struct budget *b, double most, struct error *err);
stretto_status budget_kl_in_time(struct budget *b, double most, struct error *err);
/* Types that weights may get. */
void budget_types(const struct budget *b, bool wanted[DT_COUNT]);
/* What the plan as it stands is expected to be. */
void budget_expect(const struct budget *b, double *kl, double *bytes);
/* The divergence of the plan as it stands was measured: expectations are corrected by it. */
void budget_learn(struct budget *b, double kl);
#endif
