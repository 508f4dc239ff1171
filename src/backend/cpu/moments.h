/* Moments in fewer bits than float32 has.
 *
 * bf16: rounded up or down by chance, with chances that make the mean right (stochastic rounding; arXiv 2010.06192):
 * with beta2 = 0.999 a second moment changes by a thousandth at most, which is less than half of bf16's last bit, so
 * rounded to the nearest it would never fall. The noise is a function of (step, parameter, element).
 *
 * Codes: Dettmers et al. 2021 (8-bit optimizers, arXiv 2110.02861): a block of 256 elements has the largest magnitude
 * as its scale, and each element the nearest of 256 values between -1 and 1, of a second moment between 0 and 1, which
 * stand closer the smaller they are (dynamic tree quantisation). One thing is ours: a second moment above 0 never
 * becomes 0. Where it did while the first one did not, a step would be divided by eps; the paper keeps embeddings in
 * float32 because of that. */
#ifndef BACKEND_CPU_MOMENTS_H
#define BACKEND_CPU_MOMENTS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MOMENT_BLOCK = 256, CODE_FINE = 5, CODE_LOW = 103, CODE_BUCKETS = (128 - CODE_LOW) << CODE_FINE };

/* value[]: ascending; middle[i]: between value[i] and the next. first[sign][bucket]: where the search for a number
 * begins whose float has these leading bits. */
struct moment_code {
    float value[256], middle[255];
    uint8_t first[2][CODE_BUCKETS], zero;
};
struct moment_codes { struct moment_code first, second; };   /* of the first moment, of the second */

void moment_codes_make(struct moment_codes *c);

/* n <= MOMENT_BLOCK elements with one scale. */
void moment_decode(const struct moment_code *c, const uint8_t *code, float scale, size_t n, float *out);
/* Returns the scale. `never_zero`: what is above 0 gets a value above 0. */
float moment_encode(const struct moment_code *c, const float *x, size_t n, bool never_zero, uint8_t *code);

/* noise: 16 bits of each element's are used, from bit `shift` on. */
void moment_noise(uint64_t seed, uint64_t at, size_t n, uint32_t *noise);
void moment_from_bf16(const uint16_t *x, size_t n, float *out);
void moment_to_bf16(const float *x, size_t n, const uint32_t *noise, unsigned shift, uint16_t *out);
#endif
