/* Sums of outer products: fixed to the bit, so every level must equal the reference, whatever the sizes and
 * whatever stands between rows; and the reference must be near the sum in float64. */
#include "kcheck.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct size { size_t m, n, t; };
static const struct size sizes[] = {
    {1, 1, 1},    {1, 1, 0},     {3, 5, 7},     {12, 32, 64},  {13, 33, 256}, {12, 16, 257},
    {6, 16, 255}, {17, 100, 31}, {25, 64, 513}, {31, 1, 40},   {1, 70, 300},  {5, 31, 9},
    {29, 47, 100}, {2, 8, 3},    {4, 15, 12},
};

#define OUTER_CHECK(NAME, REAL, EPS, FIELD)                                                                  \
    static void NAME(struct kcheck *c, const struct size *s, REAL by, size_t gap)                            \
    {                                                                                                        \
        size_t lda = s->m + gap, ldb = s->n + 2 * gap, ldc = s->n + 3 * gap, t = s->t;                       \
        size_t na = t ? (t - 1) * lda + s->m : 0, nb = t ? (t - 1) * ldb + s->n : 0;                         \
        size_t nc = (s->m - 1) * ldc + s->n;                                                                 \
        REAL *a = kc_alloc(na * sizeof *a, sizeof *a), *b = kc_alloc(nb * sizeof *b, sizeof *b);             \
        REAL *was = kc_alloc(nc * sizeof *a, sizeof *a), *want = kc_alloc(nc * sizeof *a, sizeof *a);        \
        REAL *got = kc_alloc(nc * sizeof *a, sizeof *a);                                                     \
        for (size_t i = 0; i < na; i++) a[i] = (REAL)kc_normal(c);                                           \
        for (size_t i = 0; i < nb; i++) b[i] = (REAL)kc_normal(c);                                           \
        for (size_t i = 0; i < nc; i++) was[i] = (REAL)kc_normal(c);                                         \
        memcpy(want, was, nc * sizeof *a);                                                                   \
        memcpy(got, was, nc * sizeof *a);                                                                    \
        c->ref->FIELD(a, lda, b, ldb, s->m, s->n, t, by, want, ldc);                                         \
        c->k->FIELD(a, lda, b, ldb, s->m, s->n, t, by, got, ldc);                                            \
        kc_bytes(c, #FIELD, want, got, nc * sizeof *a);                                                      \
        for (size_t i = 0; i < s->m; i++)                                                                    \
            for (size_t j = 0; j < s->n; j++) {                                                              \
                double sum = 0, all = fabs((double)was[i * ldc + j]);                                        \
                for (size_t k = 0; k < t; k++) {                                                             \
                    double term = (double)a[k * lda + i] * (double)b[k * ldb + j] * (double)by;              \
                    sum += term, all += fabs(term);                                                          \
                }                                                                                            \
                kc_near(c, "float64", i * s->n + j, (double)was[i * ldc + j] + sum,                          \
                        (double)got[i * ldc + j], (double)(t + 3) * (double)(EPS) * all);                    \
            }                                                                                                \
        kc_free(c, a), kc_free(c, b), kc_free(c, was), kc_free(c, want), kc_free(c, got);                    \
    }
OUTER_CHECK(check_outer, float, FLT_EPSILON, outer)
OUTER_CHECK(check_outer_d, double, DBL_EPSILON, outer_d)

void kcheck_outer(struct kcheck *c)
{
    if (!c->prev) return;
    if (kc_cell(c, "outer", c->k->outer != c->prev->outer))
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (size_t gap = 0; gap < 10; gap += 5) check_outer(c, &sizes[i], gap ? -0.3f : 1.0f, gap);
    if (kc_cell(c, "outer_d", c->k->outer_d != c->prev->outer_d))
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (size_t gap = 0; gap < 10; gap += 5) check_outer_d(c, &sizes[i], gap ? -0.3 : 1.0, gap);
}
