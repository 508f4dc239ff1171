/* Shared values: the weights of a matrix become the nearest of a few numbers, chosen by k-means where every weight
 * counts as much as its input does (Deep Compression, arXiv 1510.00149, with the weighting of LeanQuant and
 * SqueezeLLM, arXiv 2306.07629). No type of GGUF holds free tables, so the file has the numbers as float16, and
 * `stretto pack` codes which of them stands where. Zeros stay zeros. */
#ifndef COMPRESS_CODEBOOK_H
#define COMPRESS_CODEBOOK_H
#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

enum { CODEBOOK_MOST = 256 };

/* weight [rows][n_in] in place; importance [n_in] or NULL: all alike; values 2 .. CODEBOOK_MOST, zero among them where
 * there are zeros. Every number becomes one of float16. The start is where so many values are best for a smooth density
 * (Panter, Dite 1951), on a histogram; then Lloyd's iteration, until nothing moves. E_NOMEM. */
stretto_status codebook_share(float *weight, size_t rows, size_t n_in, const double *importance, unsigned values,
                              struct error *err);
#endif
