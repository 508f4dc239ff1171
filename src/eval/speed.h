/* Speed of an engine: how fast it reads a prompt and writes tokens, at a depth of context, for several
 * sequences at once; and the roof, the rate at which this machine can read that many bytes at all. */
#ifndef EVAL_SPEED_H
#define EVAL_SPEED_H
#include "engine/engine.h"

struct speed_test { uint32_t prompt, generate, depth, sequences; };   /* either prompt or generate */

/* One repetition with random tokens and an empty cache. *seconds is the time of the test proper, without
 * the depth that was filled before it. Greedy writing as `run` does it, arg-max included. */
stretto_status speed_once(struct engine *e, const struct speed_test *t, uint64_t seed, double *seconds,
                          struct error *err);

/* Bytes per second at which `threads` threads read the model's weights again and again; the best of
 * several passes. 0 when the weights are not in this memory. */
stretto_status speed_roof(const struct model *m, unsigned threads, double *bytes_per_second,
                          struct error *err);

/* Bytes of the file's tensors and of the cache that one written token must read at this depth. */
double speed_token_bytes(const struct engine *e, uint32_t depth);
#endif
