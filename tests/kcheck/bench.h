/* Timing of kernels: what bench.c and bench_train.c share. */
#ifndef KCHECK_BENCH_H
#define KCHECK_BENCH_H
#include "kcheck.h"
#include <stdio.h>
#include <stdlib.h>

/* Short pieces of work, timed one by one. The figure is the tenth percentile: the machine is
 * shared, and a piece that was interrupted says nothing about the kernel. */
enum { MAX_PIECES = 20000 };
struct pieces { double t[MAX_PIECES]; size_t n; double start; };

double bench_now(void);
/* Of this thread alone: right for pieces that are longer than a turn on a busy machine, dear for short ones. */
double bench_own(void);
double bench_typical(struct pieces *p);
bool bench_more(const struct pieces *p);

/* roof: bytes, and products of float32, of one thread and second. */
struct bench { struct kcheck c; const char *only; bool json, first; double roof, peak; };

/* `of_peak`: what is compared is the arithmetic, not the memory. */
void bench_print(struct bench *b, const char *name, const char *level, double seconds, double bytes, double macs,
                 double elements, bool of_peak);

/* Runs the last argument in pieces of `times_over` times. */
#define BENCH_OF(b, name, level, bytes, macs, elements, of_peak, times_over, ...) \
    do {                                                                           \
        if ((b)->only && !strstr(name, (b)->only)) break;                          \
        struct pieces *times = calloc(1, sizeof *times);                           \
        for (times->start = bench_now(); bench_more(times);) {                     \
            double t0 = (of_peak) ? bench_own() : bench_now();                     \
            for (size_t over = 0; over < (times_over); over++) __VA_ARGS__;        \
            double t1 = (of_peak) ? bench_own() : bench_now();                     \
            times->t[times->n++] = (t1 - t0) / (double)(times_over);               \
        }                                                                          \
        bench_print(b, name, level, bench_typical(times), bytes, macs, elements, of_peak); \
        free(times);                                                               \
    } while (0)
#define BENCH(b, name, level, bytes, macs, elements, times_over, ...) \
    BENCH_OF(b, name, level, bytes, macs, elements, false, times_over, __VA_ARGS__)

void bench_train(struct bench *b);
#endif
