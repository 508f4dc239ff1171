/* A budget reached: plan (budget.h), write, measure, correct what was expected, and again; the best stays. A file
 * within bytes is held to the largest of the mixtures that everybody knows and that has no more: the better of the
 * two stays. Measured is on the windows that judge.h sets aside for choices: what is told of the file afterwards is
 * measured on the others, and a bound holds for the estimate with its margin (margin.h): for the proof in nineteen
 * cases of twenty. */
#ifndef COMPRESS_REACH_H
#define COMPRESS_REACH_H
#include "compress/judge.h"
#include "compress/squeeze.h"

/* 0: not asked for. bytes: of the file, at most; bits: of a weight, at most; kl: mean divergence, at most; speed:
 * tokens per second, at least. */
struct reach_goal { double bytes, bits, kl, speed; };

/* What files of these sizes are expected to diverge by, the smallest first. */
enum { EXCHANGES = 9 };
struct exchange { double bytes, kl; };

/* original: what is compared with. */
struct reach_from { const char *original; const struct judge_options *judge; };

/* OUT is written when the goal is met. E_FULL: it cannot be, and the sentence names the nearest there is. The plan is
 * then that of OUT. *kl: the estimate from the windows set aside. Interrupted, the files OUT.attempt-... stay, and
 * the same call goes on there. Of them OUT.attempt-notes stays behind OUT until squeeze_reached: the same call then
 * only says again what it was for, so that a proof that was interrupted can be made. */
stretto_status squeeze_reach(struct squeeze *s, const struct reach_from *from, const struct reach_goal *g,
                             const char *out, struct exchange table[EXCHANGES], struct margin *kl, struct error *err);
void squeeze_reached(const char *out);
/* Whether there is such a file behind `out`. */
bool squeeze_is_reached(const char *out);
#endif
