/* The parts of `stretto bench` behind its options. */
#ifndef STRETTO_BENCH_H
#define STRETTO_BENCH_H
#include "eval/speed.h"
#include "stretto/options.h"
#include <jansson.h>

/* "pp512", "tg64 @ d4096", "tg64 x 16" */
void bench_test_name(const struct speed_test *t, char *name, size_t size);

/* bench_roof.c: where the time of one repetition went, operation by operation; for writing tests
 * the figures are those of one step. */
void roof_print(const char *format, bool first, const struct speed_test *t, const struct op_time *ops, size_t n,
                const struct speed_roof *r);
/* The same of so many steps by another name. */
void roof_table(const char *format, bool first, const char *test, double steps, const struct op_time *ops, size_t n,
                const struct speed_roof *r);
json_t *roof_rows(double steps, const struct op_time *ops, size_t n, const struct speed_roof *r);
json_t *roof_json(const struct speed_test *t, const struct op_time *ops, size_t n,
                  const struct speed_roof *r);

/* bench_compare.c: EXIT_FAILED when something got slower, EXIT_USAGE for a file that is none. */
int bench_compare(const char *before, const char *after);

/* bench_decode.c: what each decoding strategy does to a set of prompts. */
struct decode_bench {
    struct decode_options decode;      /* words: "all", or strategies with commas; NULL: nothing asked */
    const char *prompts, *costs;
    int64_t limit, pairs;
    /* of the command's other options */
    const struct model_options *model;
    int64_t tokens;
    const char *format;
};
/* bench_mix.c: requests that arrive while others are answered. */
struct mix_bench {
    const struct int_list *requests;
    const struct model_options *model;
    int64_t repeat;
    const char *format;
    json_t *rows;                      /* json: rows are appended */
};
int bench_mix(const struct mix_bench *o, const stretto_model *m);

/* bench_teach.c: steps of training, operation by operation. */
struct teach_bench {
    const char *method, *format;
    const struct int_list *rows, *threads;
    const struct model_options *model;
    int64_t repeat;
};
int bench_teach(const struct teach_bench *o);

extern const struct option_group group_decode_bench;
int bench_decode(const struct decode_bench *o, const stretto_model *m);
#endif
