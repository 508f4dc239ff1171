/* Sums over a vocabulary: exponentials in float32, eight lanes at a time, sums in double. What an exponential is
 * wrong by (2e-7 of it) is common to numerators and denominators. */
#ifndef DECODE_LOGITS_H
#define DECODE_LOGITS_H
#include <stdint.h>

struct logits_about {
    float most;
    uint32_t top;          /* the first of the largest              */
    double log_sum;        /* ln of the sum of exp(x)               */
};
struct logits_about logits_about(const float *x, uint32_t n);
double logits_log_sum(const float *x, uint32_t n);
/* exp(x - most) of each. */
void logits_exponentials(const float *x, uint32_t n, float most, float *out);

/* A token that stands at a place, and the likeliest there, by what the model said before sampling changed it. */
enum { LOGPROBS_MOST = 20 };
struct token_logprobs {
    int32_t id;
    float logprob;
    uint32_t n_top;                    /* best first; ties: the lower id */
    struct { int32_t id; float logprob; } top[LOGPROBS_MOST];
};
/* x: the logits there; n_top at most LOGPROBS_MOST and n. */
void logits_score(const float *x, uint32_t n, int32_t id, uint32_t n_top, struct token_logprobs *out);

/* kl = KL(a || b), back = KL(b || a) in nats, never below 0. */
void logits_divergence(const float *a, const struct logits_about *pa, const float *b, const struct logits_about *pb,
                       uint32_t n, double *kl, double *back);
#endif
