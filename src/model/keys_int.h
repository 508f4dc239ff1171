/* Reading the keys of a model's family ("llama.block_count", written ".block_count" here). Every
 * key that is asked for is remembered, and keys_close refuses a file with one that nobody asked
 * for: what changes the computation is obeyed or refused, never passed over.
 *
 * The first failure stays in `status`; later calls return their fallback, so that a list of keys
 * reads as a list. */
#ifndef MODEL_KEYS_INT_H
#define MODEL_KEYS_INT_H
#include "format/source.h"

enum { KEYS_MAX = 64 };

struct keys {
    const struct source *s;
    struct error *err;
    stretto_status status;
    const char *asked[KEYS_MAX];
    size_t n_asked;
};

__attribute__((format(printf, 3, 4)))
void keys_refuse(struct keys *k, stretto_status status, const char *fmt, ...);
/* Whether the file has the key, which counts as read from here on. */
bool keys_has(struct keys *k, const char *key);
/* A whole number of 1..max, or an array of equal ones; absent: `fallback`, or a failure when that
 * is 0. */
uint32_t keys_size(struct keys *k, const char *key, uint64_t fallback, uint64_t max);
/* The same for each layer, from a number for all of them or an array with one for each. `sizes` holds the
 * fallbacks, zeros for none, and gets the sizes. */
void keys_sizes(struct keys *k, const char *key, uint64_t max, uint32_t *sizes, uint32_t layers);
/* A whole number of any size. */
uint64_t keys_count(struct keys *k, const char *key, uint64_t fallback);
/* A finite number. */
double keys_real(struct keys *k, const char *key, double fallback);
bool keys_flag(struct keys *k, const char *key, bool fallback);
/* Refuses the first key of the family that was not asked for and is not known to change nothing. */
stretto_status keys_close(struct keys *k);
#endif
