/* kcheck: every kernel at every CPU level against its reference (checkasm, for numbers).
 *
 * Rows are the functions listed in main.c, columns the levels this machine has; a cell runs only
 * where the level changed the pointer. What kernels.h fixes to the bit is compared bit for bit;
 * the rest within a bound computed from the data: terms * 2^-23 * sum of |term|, never one tuned
 * until it was green. No libraries: it is cross-built and run under an emulator as well. */
#ifndef KCHECK_H
#define KCHECK_H
#include "kernels/kernels.h"
#include "kernels/scalar.h"
#include <float.h>

struct kcheck {
    const struct kernels *ref, *prev, *k;     /* the level under test and the one before it */
    uint64_t rng;
    size_t cells, checks, failed;
    bool quiet;                               /* mutation runs: count, do not print         */
    const char *cell;
};

/* Numbers of a seeded stream. */
uint32_t kc_u32(struct kcheck *c);
float kc_unit(struct kcheck *c);              /* -1 .. 1 */
float kc_normal(struct kcheck *c);            /* roughly normal, a few outliers */

/* Zeroed memory that ends at a page nobody may touch, so that reading or writing past the end
 * stops the test; the bytes before it are checked by kc_free. `align` is the best alignment it
 * has: 4 gives memory that is only 4-byte aligned, 64 a cache line. */
void *kc_alloc(size_t bytes, size_t align);
void kc_free(struct kcheck *c, void *p);

/* Opens a cell: false when the level did not change the function. */
bool kc_cell(struct kcheck *c, const char *name, bool changed);
void kc_fail(struct kcheck *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Bit for bit; two NaNs are equal. */
bool kc_same(float a, float b);
void kc_equal(struct kcheck *c, const char *what, const float *want, const float *got, size_t n);
void kc_bytes(struct kcheck *c, const char *what, const void *want, const void *got, size_t n);
/* |want - got| <= bound; NaN and infinities must agree. */
void kc_near(struct kcheck *c, const char *what, size_t at, double want, double got, double bound);

/* Weights: n columns of k elements in the file's layout. */
enum kc_codes { KC_RANDOM, KC_ONES, KC_ZEROS, KC_ALTERNATE, KC_CODES_COUNT };
size_t kc_file_bytes(enum dtype t, size_t k);
size_t kc_block(enum dtype t);
void kc_weights(struct kcheck *c, enum dtype t, enum kc_codes codes, size_t n, size_t k,
                uint8_t *out);

/* The rows. */
void kcheck_panel(struct kcheck *c);
void kcheck_linear(struct kcheck *c);
void kcheck_given(struct kcheck *c);
void kcheck_vec(struct kcheck *c);
void kcheck_attn(struct kcheck *c);
void kcheck_outer(struct kcheck *c);
void kcheck_see(struct kcheck *c);
void kcheck_train(struct kcheck *c);
void kcheck_all(struct kcheck *c);

int kcheck_mutants(void);
int kcheck_bench(const char *level, const char *only, bool json);
#endif
