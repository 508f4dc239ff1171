/* The parts of `stretto bench` behind its options. */
#ifndef STRETTO_BENCH_H
#define STRETTO_BENCH_H
#include "eval/speed.h"
#include <jansson.h>

/* "pp512", "tg64 @ d4096", "tg64 x 16" */
void bench_test_name(const struct speed_test *t, char *name, size_t size);

/* bench_roof.c: where the time of one repetition went, operation by operation; for writing tests
 * the figures are those of one step. */
void roof_print(const char *format, const struct speed_test *t, const struct op_time *ops, size_t n,
                const struct speed_roof *r);
json_t *roof_json(const struct speed_test *t, const struct op_time *ops, size_t n,
                  const struct speed_roof *r);
#endif
