/* Where the time of a step of training goes: random tokens in texts of a length, all of which are learned. Rows are
 * computed some at a time, as in a training. */
#ifndef TRAIN_TIMING_H
#define TRAIN_TIMING_H
#include "backend/backend.h"
#include "train/trainer.h"

struct train_timing_how {
    const char *model;             /* a GGUF file or a folder                                  */
    enum train_method method;
    enum precision precision;
    uint32_t rank, rows, length;   /* rows of a step, and tokens of a text                     */
    uint32_t repeat;
    unsigned threads;              /* 0: all                                                   */
    const volatile int *cancel;
    const char *level;             /* of the CPU, at most; NULL: what it has                   */
};

enum { TRAIN_TIMING_OPS = 128 };

/* Of `repeat` steps, behind one that is not counted: forward, backward and the optimizer, which is the last of the
 * operations. */
struct train_timing {
    struct op_time op[TRAIN_TIMING_OPS];
    size_t n;
    double seconds, cpu_seconds;   /* of one step: of the clock, and of all processors         */
    uint64_t trained;              /* parameters                                               */
    double peak_bytes;             /* of the process, this far                                 */
    double bytes_roof, macs_roof[ARITHMETIC_KINDS]; /* a second; 0: not measured               */
};

stretto_status train_timing(struct train_timing *out, const struct train_timing_how *how, struct error *err);
#endif
