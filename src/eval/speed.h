/* Speed of an engine: how fast it reads a prompt and writes tokens, at a depth of context, for
 * several sequences at once; and the roof, the rate at which this machine can read that many bytes
 * at all. */
#ifndef EVAL_SPEED_H
#define EVAL_SPEED_H
#include "engine/engine.h"
#include "eval/energy.h"

struct speed_test {
    uint32_t prompt, generate, depth, sequences;
}; /* either prompt or generate */

/* What a repetition took: joules of the machine's processors, and of the card; negative where nobody can
 * tell. */
struct speed_cost {
    double seconds, joules, card_joules;
};

/* One repetition with random tokens and an empty cache. Its cost is that of the test proper, without the
 * depth that was filled before it. Greedy writing as `run` does it, arg-max included. */
stretto_status speed_once(struct engine *e, const struct speed_test *t, uint64_t seed,
                          struct energy *meter, struct speed_cost *cost, struct error *err);

/* The same repetition with a clock in every operation (backend.h: struct op_time). What the engine
 * itself took is the last of the *n rows; together they are *seconds. */
stretto_status speed_profile(struct engine *e, const struct speed_test *t, uint64_t seed,
                             double *seconds, struct op_time *ops, size_t cap, size_t *n,
                             struct error *err);

/* What this machine can do at all with so many threads, a second. */
struct speed_roof {
    double bytes;                  /* reading memory                                          */
    double macs[ARITHMETIC_KINDS]; /* multiplying and adding with the level's instructions    */
};

/* Reads `bytes` bytes (0: as many as the weights have) again and again, as a step must read them:
 * the weights, and memory of its own for what the cache would add. The best of several passes; 0
 * when the weights are not in this memory. */
stretto_status speed_roof_bytes(const struct model *m, unsigned threads, double bytes,
                                struct speed_roof *out, struct error *err);
/* Raises out->macs where it finds more: neighbours on the machine make a probe low, never high. */
stretto_status speed_roof_macs(const struct model *m, unsigned threads, struct speed_roof *out,
                               struct error *err);

/* Seconds that a machine at its roof would take for so many bytes and multiply-adds. */
double speed_roof_seconds(const struct speed_roof *r, const struct op_time *op);

/* Bytes of the cache pages that so many sequences of so many tokens write. */
double speed_cache_bytes(const struct engine *e, uint32_t tokens, uint32_t sequences);
/* Bytes of the file's tensors and of the cache that one step with a written token must read at this
 * depth; every sequence has a cache of its own. */
double speed_step_bytes(const struct engine *e, uint32_t depth, uint32_t sequences);
#endif
