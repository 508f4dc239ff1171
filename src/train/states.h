/* States of answers, as `stretto trace jacobi` has seen a model refine them (trajectory.h): what noise is made of in
 * place of what is drawn (noise.h).
 *
 * They are numbers in one array. Of a sample: how many blocks it has, then where each block's states begin, from the
 * sample's own place on; there: how many they are, then their tokens. Block b is of answer tokens [b n, b n + n). */
#ifndef TRAIN_STATES_H
#define TRAIN_STATES_H
#include "base/status.h"
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct source;

struct states {
    int32_t *v; size_t n, cap;
    uint32_t block;               /* tokens, as the file says                                       */
};

void states_done(struct states *s);
/* A hash of all weights, by which trajectories say whose they are: two files with equal weights are the same model. */
uint64_t states_content(const struct source *s);
/* The first line of such a file, and of no other one: E_ARG where it is of another model than that of `content`. */
stretto_status states_head(struct states *s, const json_t *line, uint64_t content, struct error *err);
/* The states of one line, whose answer has n tokens. *at: its place + 1. */
stretto_status states_take(struct states *s, const json_t *line, uint32_t n, uint32_t vocab, size_t *at,
                           struct error *err);

/* Of the sample at `at`, whose answer has n tokens: how many states block b has, and the k-th of them. */
uint32_t states_count(const struct states *s, size_t at, uint32_t b);
const int32_t *states_get(const struct states *s, size_t at, uint32_t b, uint32_t n, uint32_t k);
#endif
