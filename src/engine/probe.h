/* What a step of n rows costs on this machine with this model: the c(n) that guessing is weighed
 * against, and the noise-free figure of a benchmark is made of. */
#ifndef ENGINE_PROBE_H
#define ENGINE_PROBE_H
#include "engine/engine.h"

/* seconds[i]: the median over `times` steps of rows[i] written rows each (a chain whose rows ask for
 * the best token), behind `depth` tokens of the sequence, which is emptied before and after. The
 * numbers of rows take turns, so a slow moment hits them all. rows[i] <= 64, times <= 64. */
stretto_status engine_probe(struct engine *e, int32_t seq, uint32_t depth, const uint32_t *rows,
                            double *seconds, size_t n, unsigned times, struct error *err);
#endif
