/* Writes blocks as feedback_encode does, for test_feedback.py: reads from standard input six numbers of eight bytes
 * (type, rows, n, method, sweeps, threads), the float32 gram [n][n] over n tokens and the float32 weight
 * [rows][n]; writes the four sums of the report as float64 and the blocks. */
#include "compress/feedback.h"
#include <stdio.h>
#include <stdlib.h>

static void *read_all(size_t size)
{
    void *p = malloc(size ? size : 1);
    if (!p || fread(p, 1, size, stdin) != size) exit(2);
    return p;
}

int main(void)
{
    uint64_t *a = read_all(6 * sizeof *a), type = a[0], rows = a[1], n = a[2];
    float *gram = read_all(n * n * sizeof *gram), *weight = read_all(rows * n * sizeof *weight);
    double *sum2 = malloc(n * sizeof *sum2);
    size_t bytes = rows * dtype_bytes((enum dtype)type, n);
    void *blocks = malloc(bytes);
    if (!sum2 || !blocks) return 2;
    for (size_t i = 0; i < n; i++) sum2[i] = (double)gram[i * n + i];
    struct input_stats s = { .n = (uint32_t)n, .rows = n, .sum2 = sum2, .gram = gram };
    struct feedback_options o;
    struct error err = { 0 };
    struct encode_report report;
    struct workers *w = NULL;
    struct metric *m = NULL;
    feedback_defaults(&o);
    o.method = (enum encode_method)a[3];
    o.sweeps = (unsigned)a[4];
    o.shrink = -1;
    stretto_status status = workers_open(&w, (unsigned)a[5], &err);
    if (status == STRETTO_OK) status = metric_open(&m, w, &s, (uint32_t)n, &o, &err);
    if (status == STRETTO_OK)
        status = feedback_encode(w, m, (enum dtype)type, weight, rows, blocks, &report, &err);
    if (status == STRETTO_OK) {
        fwrite(&report, sizeof report, 1, stdout);
        fwrite(blocks, 1, bytes, stdout);
    } else fprintf(stderr, "%s\n", err.text);
    metric_close(m);
    workers_close(w);
    free(a), free(gram), free(weight), free(sum2), free(blocks);
    return status == STRETTO_OK ? 0 : 1;
}
