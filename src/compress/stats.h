/* What calibration knows of a value that linear layers read. Layers that read one value (q, k and v; gate and up)
 * share its statistics. */
#ifndef COMPRESS_STATS_H
#define COMPRESS_STATS_H
#include <stddef.h>
#include <stdint.h>

struct input_stats {
    uint32_t n;        /* width: inputs of those layers                                              */
    uint64_t rows;     /* tokens seen                                                                */
    double *sum, *sum2; /* [n] sums of x and of x^2 by channel; sum2 / rows is llama.cpp's importance */
    float *most;       /* [n] largest |x|                                                            */
    float *gram;       /* [n][n] sum over tokens of x x^T, whole and symmetric; NULL: not collected   */
};
#endif
