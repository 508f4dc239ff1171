/* Who does the arithmetic of this room: threads and kernels, and the dense linear algebra that all of its methods
 * share. Matrices are row-major and dense unless a leading dimension is given. What an element is does not
 * depend on the number of threads. */
#ifndef COMPRESS_WORKERS_H
#define COMPRESS_WORKERS_H
#include "base/status.h"
#include <stddef.h>

struct workers;

/* threads 0: as many as the machine allows. */
stretto_status workers_open(struct workers **out, unsigned threads, struct error *err);
void workers_close(struct workers *w);
unsigned workers_threads(const struct workers *w);

/* fn(ud, i) for every i below n, shared out among the threads; fn must not call the workers itself. */
void workers_each(struct workers *w, size_t n, void (*fn)(void *ud, size_t i), void *ud);

/* c[i][j] += by * sum over t of a[t][i] * b[t][j], for i < m, j < n: sums of outer products, which is all of
 * X^T X, of trailing updates and of error feedback. Terms are added in ascending t.
 * `upper`: only j >= i is wanted (m == n), what stands below the diagonal is left undefined. */
void workers_outer(struct workers *w, const float *a, size_t lda, const float *b, size_t ldb, size_t m, size_t n,
                   size_t t, float by, float *c, size_t ldc, int upper);
void workers_outer_d(struct workers *w, const double *a, size_t lda, const double *b, size_t ldb, size_t m, size_t n,
                     size_t t, double by, double *c, size_t ldc, int upper);
/* y[r][j] = sum over i of x[r][i] * w[j][i]: rows of x through a linear layer's weight. */
void workers_linear(struct workers *w, const float *x, size_t rows, const float *weight, size_t n_in, size_t n_out,
                    float *y);

/* a = U^T U with U upper triangular, in place, reading the upper triangle; below the diagonal there are zeros then.
 * E_ARG where a is not positive definite: *at (may be NULL) is the first column that is not. */
stretto_status workers_cholesky(struct workers *w, double *a, size_t n, size_t *at, struct error *err);
/* U becomes its inverse, upper triangular too. */
void workers_invert_upper(struct workers *w, double *u, size_t n);
/* Solves a x = b for `columns` right-hand sides b[i][c], in place, with the U of workers_cholesky. */
void workers_solve(struct workers *w, const double *u, size_t n, double *b, size_t columns);
/* a = V diag(e) V^T of a symmetric a: eigenvalues ascending, eigenvectors in the rows of v. a is overwritten. */
stretto_status workers_eigen(struct workers *w, double *a, size_t n, double *e, double *v, struct error *err);
#endif
