/* Sums of outer products, the exact arithmetic that kernels.h states and every level equals bit for bit. */
#include "kernels/ref/ref.h"
#include <math.h>

static size_t run_end(size_t from, size_t t) { return t - from < OUTER_RUN ? t : from + OUTER_RUN; }

static void outer_ref(const float *a, size_t lda, const float *b, size_t ldb, size_t m, size_t n, size_t t, float by,
                      float *c, size_t ldc)
{
    for (size_t from = 0; from < t; from = run_end(from, t))
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                float sum = 0;
                for (size_t k = from; k < run_end(from, t); k++) sum = fmaf(a[k * lda + i], b[k * ldb + j], sum);
                c[i * ldc + j] = fmaf(by, sum, c[i * ldc + j]);
            }
}

static void outer_d_ref(const double *a, size_t lda, const double *b, size_t ldb, size_t m, size_t n, size_t t,
                        double by, double *c, size_t ldc)
{
    for (size_t from = 0; from < t; from = run_end(from, t))
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                double sum = 0;
                for (size_t k = from; k < run_end(from, t); k++) sum = fma(a[k * lda + i], b[k * ldb + j], sum);
                c[i * ldc + j] = fma(by, sum, c[i * ldc + j]);
            }
}

void outer_init_ref(struct kernels *k)
{
    k->outer = outer_ref;
    k->outer_d = outer_d_ref;
}
