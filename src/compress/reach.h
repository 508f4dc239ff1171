/* A budget reached and proved: plan (budget.h), write, measure (judge.h), correct what was expected, and again; the
 * best stays. A file within bytes is held to the largest of the mixtures that everybody knows and that has no more:
 * the better of the two stays. */
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

/* OUT is written when the goal is met. E_FULL: it cannot be, and the sentence names the nearest there is. in_bytes:
 * of the source's file. The plan is then that of OUT, and *v what was measured of it; free it with verdict_done. */
stretto_status squeeze_reach(struct squeeze *s, struct judge *j, const struct reach_goal *g, uint64_t in_bytes,
                             const char *out, struct exchange table[EXCHANGES], struct verdict *v, struct error *err);
#endif
