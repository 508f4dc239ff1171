/* Two results of `bench -o json` (or of bench/history) side by side: what got slower or faster
 * beyond the noise of their samples. The files come from outside: sizes and counts are limited. */
#ifndef EVAL_COMPARE_H
#define EVAL_COMPARE_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>

enum { COMPARE_ROWS = 1024, COMPARE_SAMPLES = 1000, COMPARE_BYTES = 16 << 20 };

struct compare_row {
    char name[200];        /* what makes two rows the same test; also for people               */
    size_t n;              /* samples                                                          */
    double mean, variance; /* of ln(tokens per second)                                         */
    double speed;          /* their geometric mean                                             */
};

struct compare_file {
    struct compare_row *rows;
    size_t n;
};

/* text: an array of rows, or an object that has them as "rows". Two rows of one test are an error.
 */
stretto_status compare_read(struct compare_file *out, const char *text, size_t size,
                            struct error *err);
void compare_done(struct compare_file *f);
const struct compare_row *compare_find(const struct compare_file *f, const char *name);

/* b over a with its 95 % interval (Welch's t on the logarithms). With fewer than two samples on
 * either side there is no interval and no verdict. */
struct compare_change {
    double ratio, low, high;
    bool known, slower, faster;
};
struct compare_change compare_rows(const struct compare_row *a, const struct compare_row *b);
#endif
