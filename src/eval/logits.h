/* Sums over a vocabulary: exponentials in float32, eight lanes at a time, sums in double. What an exponential is
 * wrong by (2e-7 of it) is common to numerators and denominators. */
#ifndef EVAL_LOGITS_H
#define EVAL_LOGITS_H
#include <stdint.h>

struct logits_about {
    float most;
    uint32_t top;          /* the first of the largest              */
    double log_sum;        /* ln of the sum of exp(x)               */
};
struct logits_about logits_about(const float *x, uint32_t n);
double logits_log_sum(const float *x, uint32_t n);

/* kl = KL(a || b), back = KL(b || a) in nats, never below 0. */
void logits_divergence(const float *a, const struct logits_about *pa, const float *b, const struct logits_about *pb,
                       uint32_t n, double *kl, double *back);
#endif
