/* codebook_check ROWS N_IN VALUES: float64 importances and float32 weights from standard input, the weights with
 * shared values to standard output. */
#include "compress/codebook.h"
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    if (argc != 4) return 2;
    size_t rows = strtoul(argv[1], NULL, 10), n_in = strtoul(argv[2], NULL, 10), n = rows * n_in;
    double *importance = malloc(n_in * sizeof *importance);
    float *weight = malloc(n * sizeof *weight);
    struct error err = { 0 };
    unsigned values = (unsigned)strtoul(argv[3], NULL, 10);
    bool right = importance && weight && fread(importance, sizeof *importance, n_in, stdin) == n_in
                 && fread(weight, sizeof *weight, n, stdin) == n
                 && codebook_share(weight, rows, n_in, importance, values, &err) == STRETTO_OK
                 && fwrite(weight, sizeof *weight, n, stdout) == n;
    free(importance);
    free(weight);
    return right ? 0 : 1;
}
