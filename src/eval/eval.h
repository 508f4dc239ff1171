/* What a model says about a text, as numbers: perplexity, and how far one way of computing is from
 * another (Kullback-Leibler divergence). Windows and counting follow `llama-perplexity`: the text
 * is cut into windows of `window` tokens, each read on its own, and the second half of each counts.
 */
#ifndef EVAL_EVAL_H
#define EVAL_EVAL_H
#include "base/progress.h"
#include "engine/engine.h"

struct eval_text {
    const int32_t *ids; size_t n;
    uint32_t window;            /* tokens of a window                                            */
    size_t max_windows;         /* 0: all                                                        */
    int32_t bos;                /* replaces the first token of each window; -1: none             */
    const volatile int *cancel; /* may be NULL                                                   */
};

struct eval_ppl {
    double perplexity, nll, deviation;
    size_t windows, tokens;
}; /* deviation: of ppl */

stretto_status eval_ppl(struct engine *e, const struct eval_text *t,
                        const struct progress *progress, struct eval_ppl *out, struct error *err);

struct eval_kl {
    double mean, median, p99, max; /* nats, KL(base || model) per counted token */
    double same_top; /* share of tokens whose best token is the same                  */
    double perplexity, base_perplexity;
    size_t windows, tokens;
};

/* Both engines read the same windows; their vocabularies must have one size. */
stretto_status eval_kl(struct engine *base, struct engine *e, const struct eval_text *t,
                       const struct progress *progress, struct eval_kl *out, struct error *err);
#endif
