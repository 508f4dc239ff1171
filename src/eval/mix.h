/* Many people at once: requests that arrive over time, each with a prompt to be read and an answer to be
 * written, and what each of them waits for. */
#ifndef EVAL_MIX_H
#define EVAL_MIX_H
#include "engine/engine.h"

struct mix_test {
    uint32_t requests, prompt, answer; /* tokens */
    double spread;                     /* seconds over which they arrive, evenly */
    bool whole;                        /* prompts are read whole while nobody writes: what mixing is
                                        * compared with */
};

/* What one run gives. */
struct mix_times {
    double seconds;                    /* from the first arrival to the last token                 */
    double *first;                     /* [requests] from its arrival to its first token           */
    double *gap;                       /* [requests * (answer - 1)] from token to token            */
    size_t n_gaps;
};

/* One run with random tokens and an empty cache, in `requests` sequences of the engine. */
stretto_status mix_once(struct engine *e, const struct mix_test *t, uint64_t seed, struct mix_times *out,
                        struct error *err);
#endif
