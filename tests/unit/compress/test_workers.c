/* Dense algebra against plain loops in long double, and equal bits for one thread and two. Bounds are those of the
 * textbooks: a factor's or solution's residual is n roundings of what was multiplied. */
#include "unit/unit.h"
#include "compress/workers.h"
#include <float.h>
#include <math.h>
#include <stdatomic.h>

static uint64_t state = 1;
static double normal(void)
{
    double sum = 0;
    for (int i = 0; i < 3; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        sum += (double)(int32_t)(state >> 32) * 0x1p-31;
    }
    return sum;
}

static void *room(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    assert_non_null(p);
    return p;
}

static struct workers *opened(unsigned threads)
{
    struct error e = { 0 };
    struct workers *w;
    assert_int_equal(workers_open(&w, threads, &e), STRETTO_OK);
    assert_int_equal(workers_threads(w), threads);
    return w;
}

static void mark(void *ud, size_t i) { atomic_fetch_add((_Atomic int *)ud + i, 1); }

static void each_once(void **unused)
{
    (void)unused;
    for (unsigned threads = 1; threads <= 3; threads++) {
        struct workers *w = opened(threads);
        _Atomic int seen[100] = { 0 };
        for (size_t n = 0; n <= 100; n += 25) {
            workers_each(w, n, mark, seen);
            for (size_t i = 0; i < 100; i++) {
                assert_int_equal(atomic_load(&seen[i]), i < n);
                atomic_store(&seen[i], 0);
            }
        }
        workers_close(w);
    }
}

static const size_t sizes[][3] = { { 1, 1, 1 }, { 7, 300, 130 }, { 200, 200, 257 }, { 101, 50, 0 }, { 193, 193, 64 } };

static void outer(void **unused)
{
    (void)unused;
    struct workers *one = opened(1), *two = opened(2);
    for (size_t s = 0; s < 5; s++)
        for (int upper = 0; upper < 2; upper++) {
            size_t m = sizes[s][0], n = sizes[s][1], t = sizes[s][2], ld = n + 3;
            float *a = room(t * m, 4), *b = room(t * n, 4), *c = room(m * ld, 4), *d = room(m * ld, 4);
            double *ad = room(t * m, 8), *bd = room(t * n, 8), *cd = room(m * ld, 8), *dd = room(m * ld, 8);
            if (upper && m != n) m = n = m < n ? m : n;
            for (size_t i = 0; i < t * m; i++) ad[i] = (double)(a[i] = (float)normal());
            for (size_t i = 0; i < t * n; i++) bd[i] = (double)(b[i] = (float)normal());
            for (size_t i = 0; i < m * ld; i++) cd[i] = dd[i] = (double)(c[i] = d[i] = 1);
            workers_outer(one, a, m, b, n, m, n, t, -0.5f, c, ld, upper);
            workers_outer(two, a, m, b, n, m, n, t, -0.5f, d, ld, upper);
            workers_outer_d(one, ad, m, bd, n, m, n, t, -0.5, cd, ld, upper);
            workers_outer_d(two, ad, m, bd, n, m, n, t, -0.5, dd, ld, upper);
            for (size_t i = 0; i < m; i++)
                for (size_t j = 0; j < ld; j++) {
                    if (j >= n) assert_true(c[i * ld + j] == 1 && cd[i * ld + j] == 1);
                    if (j >= n || (upper && j < i)) continue;
                    long double sum = 1, all = 1;
                    for (size_t k = 0; k < t; k++) {
                        long double term = -0.5L * (long double)ad[k * m + i] * (long double)bd[k * n + j];
                        sum += term, all += fabsl(term);
                    }
                    all *= (long double)(t + 3);
                    assert_true(fabsl((long double)c[i * ld + j] - sum) <= all * FLT_EPSILON);
                    assert_true(fabsl((long double)cd[i * ld + j] - sum) <= all * DBL_EPSILON);
                    assert_true(c[i * ld + j] == d[i * ld + j] && cd[i * ld + j] == dd[i * ld + j]);
                }
            free(a), free(b), free(c), free(d), free(ad), free(bd), free(cd), free(dd);
        }
    workers_close(one);
    workers_close(two);
}

static void linear(void **unused)
{
    (void)unused;
    static const size_t shape[][3] = { { 1, 1, 1 }, { 100, 257, 130 }, { 3, 64, 300 }, { 200, 5, 7 } };
    struct workers *one = opened(1), *two = opened(2);
    for (size_t s = 0; s < 4; s++) {
        size_t rows = shape[s][0], in = shape[s][1], n = shape[s][2];
        float *x = room(rows * in, 4), *w = room(n * in, 4), *y = room(rows * n, 4), *z = room(rows * n, 4);
        for (size_t i = 0; i < rows * in; i++) x[i] = (float)normal();
        for (size_t i = 0; i < n * in; i++) w[i] = (float)normal();
        workers_linear(one, x, rows, w, in, n, y);
        workers_linear(two, x, rows, w, in, n, z);
        assert_memory_equal(y, z, rows * n * 4);
        for (size_t r = 0; r < rows; r++)
            for (size_t j = 0; j < n; j++) {
                double sum = 0, all = 0;
                for (size_t i = 0; i < in; i++) {
                    double term = (double)x[r * in + i] * (double)w[j * in + i];
                    sum += term, all += fabs(term);
                }
                assert_true(fabs((double)y[r * n + j] - sum) <= (double)(in + 2) * (double)FLT_EPSILON * all);
            }
        free(x), free(w), free(y), free(z);
    }
    workers_close(one);
    workers_close(two);
}

/* X^T X of n + 5 rows: positive definite, whole and symmetric; in channels of very different sizes. */
static double *moments(size_t n)
{
    size_t t = n + 5;
    double *x = room(t * n, 8), *a = room(n * n, 8);
    for (size_t k = 0; k < t; k++)
        for (size_t i = 0; i < n; i++) x[k * n + i] = normal() * (i % 7 == 3 ? 100 : 1);
    for (size_t k = 0; k < t; k++)
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) a[i * n + j] += x[k * n + i] * x[k * n + j];
    free(x);
    return a;
}

static const size_t orders[] = { 1, 2, 15, 16, 17, 127, 128, 129, 300 };

static void triangles(void **unused)
{
    (void)unused;
    struct workers *one = opened(1), *two = opened(2);
    for (size_t s = 0; s < 9; s++) {
        size_t n = orders[s], columns = s % 2 ? 1 : 70;
        struct error e = { 0 };
        double *a = moments(n), *u = room(n * n, 8), *v = room(n * n, 8), *b = room(n * columns, 8);
        double *x = room(n * columns, 8), *y = room(n * columns, 8);
        memcpy(u, a, n * n * 8);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < i; j++) u[i * n + j] = NAN;               /* nobody reads it */
        memcpy(v, u, n * n * 8);
        assert_int_equal(workers_cholesky(one, u, n, NULL, &e), STRETTO_OK);
        assert_int_equal(workers_cholesky(two, v, n, NULL, &e), STRETTO_OK);
        assert_memory_equal(u, v, n * n * 8);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                long double sum = 0, all = 0;
                for (size_t k = 0; k < n; k++) {
                    long double term = (long double)u[k * n + i] * (long double)u[k * n + j];
                    sum += term, all += fabsl(term);
                }
                assert_true(fabsl(sum - (long double)a[i * n + j]) <= (long double)(n + 8) * all * DBL_EPSILON);
                if (j < i) assert_true(u[i * n + j] == 0);
            }
        for (size_t i = 0; i < n * columns; i++) b[i] = x[i] = y[i] = normal();
        workers_solve(one, u, n, x, columns);
        workers_solve(two, u, n, y, columns);
        assert_memory_equal(x, y, n * columns * 8);
        for (size_t i = 0; i < n; i++)
            for (size_t c = 0; c < columns; c++) {
                long double sum = 0, all = fabsl((long double)b[i * columns + c]);
                for (size_t k = 0; k < n; k++) {
                    long double part = 0;            /* |U^T| |U| |x|: Higham, theorem 10.4 */
                    for (size_t r = 0; r < n && n < 130; r++)
                        part += fabsl((long double)u[r * n + i] * (long double)u[r * n + k]);
                    if (n >= 130) part = sqrtl((long double)a[i * n + i] * (long double)a[k * n + k]);
                    sum += (long double)a[i * n + k] * (long double)x[k * columns + c];
                    all += part * fabsl((long double)x[k * columns + c]);
                }
                assert_true(fabsl(sum - (long double)b[i * columns + c])
                            <= (long double)(4 * n + 8) * all * DBL_EPSILON);
            }
        workers_invert_upper(one, u, n);
        double *inverse = u, *factor = v;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                long double sum = i == j ? -1 : 0, all = 0;
                for (size_t k = i; k <= j; k++) {
                    long double term = (long double)factor[i * n + k] * (long double)inverse[k * n + j];
                    sum += term, all += fabsl(term);
                }
                if (j < i) assert_true(inverse[i * n + j] == 0);
                assert_true(fabsl(sum) <= (long double)(4 * n + 8) * (all + 1) * DBL_EPSILON);
            }
        memcpy(a, u, n * n * 8);
        workers_invert_upper(two, v, n);
        assert_memory_equal(a, v, n * n * 8);
        free(a), free(u), free(v), free(b), free(x), free(y);
    }
    workers_close(one);
    workers_close(two);
}

static void no_factor(void **unused)
{
    (void)unused;
    struct workers *w = opened(2);
    for (size_t bad = 3; bad < 300; bad += 148) {
        struct error e = { 0 };
        double *a = moments(300);
        size_t at = 0;
        for (size_t j = 0; j < 300; j++)                /* a column twice */
            a[j * 300 + bad] = a[bad * 300 + j] = a[j * 300 + 1];
        a[bad * 300 + bad] = a[301] * (1 - 1e-9);
        assert_int_equal(workers_cholesky(w, a, 300, &at, &e), STRETTO_E_ARG);
        assert_int_equal(at, bad);
        assert_non_null(strstr(e.text, "positive definite"));
        free(a);
    }
    double nan = NAN;
    assert_int_equal(workers_cholesky(w, &nan, 1, NULL, NULL), STRETTO_E_ARG);
    workers_close(w);
}

static void eigen(void **unused)
{
    (void)unused;
    struct workers *one = opened(1), *two = opened(2);
    for (size_t s = 0; s < 9; s++)
        for (int kind = 0; kind < 3; kind++) {
            size_t n = orders[s];
            struct error e = { 0 };
            double *a = moments(n), *was = room(n * n, 8), *v = room(n * n, 8), *again = room(n * n, 8);
            double *value = room(n, 8), *value2 = room(n, 8), norm = 0;
            if (kind == 1)                              /* diagonal, values twice */
                for (size_t i = 0; i < n * n; i++) a[i] = i % (n + 1) ? 0 : (double)(i / (n + 1) / 2);
            if (kind == 2)                              /* of rank one */
                for (size_t i = 0; i < n * n; i++) a[i] = (double)(i / n + 1) * (double)(i % n + 1);
            memcpy(was, a, n * n * 8);
            for (size_t i = 0; i < n * n; i++) norm += a[i] * a[i];
            double bound = 10 * (double)n * DBL_EPSILON * sqrt(norm);
            assert_int_equal(workers_eigen(one, a, n, value, v, &e), STRETTO_OK);
            memcpy(a, was, n * n * 8);
            assert_int_equal(workers_eigen(two, a, n, value2, again, &e), STRETTO_OK);
            assert_memory_equal(v, again, n * n * 8);
            assert_memory_equal(value, value2, n * 8);
            for (size_t r = 0; r < n; r++) {
                if (r) assert_true(value[r] >= value[r - 1]);
                for (size_t i = 0; i < n; i++) {
                    double sum = 0, product = 0;
                    for (size_t k = 0; k < n; k++)
                        sum += was[i * n + k] * v[r * n + k], product += v[r * n + k] * v[i * n + k];
                    assert_true(fabs(sum - value[r] * v[r * n + i]) <= bound);
                    assert_true(fabs(product - (i == r)) <= 10 * (double)n * DBL_EPSILON);
                }
            }
            free(a), free(was), free(v), free(again), free(value), free(value2);
        }
    double bad[4] = { 1, NAN, NAN, 2 }, e2[2], v2[4];
    struct error err = { 0 };
    assert_int_equal(workers_eigen(one, bad, 2, e2, v2, &err), STRETTO_E_FORMAT);
    workers_close(one);
    workers_close(two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_once), cmocka_unit_test(outer),     cmocka_unit_test(linear),
        cmocka_unit_test(triangles), cmocka_unit_test(no_factor), cmocka_unit_test(eigen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
