/* What a training computes in 16 bits. */
#ifndef BACKEND_CPU_HALVES_H
#define BACKEND_CPU_HALVES_H
#include "backend/cpu/linear/linear.h"

/* Who multiplies by a linear layer's trained weight where that is not float32. Its panels are made from the master. */
const struct linear_provider *halves_provider(const struct weights *w, const struct param_bytes *s, struct weight *x);
/* Elements [at, at + n) of the master, whole lines of a panel, into the panels where there are such. */
void halves_round(const struct weight *w, size_t at, size_t n);
/* Whether what phases of this program write is rounded to f16; and the rounding, behind a phase. */
bool halves_values(const struct program *p);
void halves_phase(const struct program *p, const struct phase *ph);
#endif
