/* See lowrank.h. With E the error and G the inputs' moments, the best B A keeps the largest directions of E G^1/2.
 * Where E has no more rows than columns these are eigenvectors P of E G E^T, and B A = P P^T E: no root of G is
 * needed. Elsewhere, with U^T U = G, they are eigenvectors V of U E^T E U^T: A^T = U^-1 V, B = E U^T V. */
#include "compress/lowrank.h"
#include "base/memory.h"
#include <math.h>
#include <string.h>

static void widen(const float *in, double *out, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = (double)in[i];
}

static void transpose(const double *in, size_t rows, size_t n, double *out)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < n; c++) out[c * rows + r] = in[r * n + c];
}

/* Everything is in one block: e [rows][n], t its transpose, m [n][n] moments, x [side][side] and its vectors v, y as
 * large as e or m. */
struct split {
    struct workers *w;
    size_t rows, n, side;
    double *e, *t, *m, *x, *v, *y, *values;
};

/* x = E G E^T; y = (E G)^T. */
static void from_rows(struct split *s)
{
    memset(s->y, 0, s->n * s->rows * sizeof *s->y);
    workers_outer_d(s->w, s->m, s->n, s->t, s->rows, s->n, s->rows, s->n, 1, s->y, s->rows, 0);
    memset(s->x, 0, s->side * s->side * sizeof *s->x);
    workers_outer_d(s->w, s->t, s->rows, s->y, s->rows, s->rows, s->rows, s->n, 1, s->x, s->rows, 0);
}

/* a = P^T E, b = P, P the last `rank` rows of v. */
static void to_factors_rows(struct split *s, uint32_t rank, float *a, float *b)
{
    for (uint32_t k = 0; k < rank; k++) {
        const double *p = s->v + (s->side - 1 - k) * s->side;
        for (size_t c = 0; c < s->n; c++) {
            double sum = 0;
            for (size_t r = 0; r < s->rows; r++) sum += p[r] * s->t[c * s->rows + r];
            a[k * s->n + c] = (float)sum;
        }
        for (size_t r = 0; r < s->rows; r++) b[r * rank + k] = (float)p[r];
    }
}

/* x = U E^T E U^T, in m then U; y is room for it. */
static stretto_status from_columns(struct split *s, struct error *err)
{
    size_t n = s->n;
    TRY(workers_cholesky(s->w, s->m, n, NULL, err));
    memset(s->x, 0, n * n * sizeof *s->x);
    workers_outer_d(s->w, s->e, n, s->e, n, n, n, s->rows, 1, s->x, n, 0);
    transpose(s->m, n, n, s->y);                        /* U^T: rows are what outer sums over */
    double *eu = s->v;
    memset(eu, 0, n * n * sizeof *eu);
    workers_outer_d(s->w, s->x, n, s->y, n, n, n, n, 1, eu, n, 0);     /* E^T E U^T */
    memset(s->x, 0, n * n * sizeof *s->x);
    workers_outer_d(s->w, s->y, n, eu, n, n, n, n, 1, s->x, n, 0);
    return STRETTO_OK;
}

/* a = V^T U^-T, b = E U^T V. */
static void to_factors_columns(struct split *s, uint32_t rank, float *a, float *b)
{
    size_t n = s->n;
    for (uint32_t k = 0; k < rank; k++) {
        const double *v = s->v + (s->side - 1 - k) * s->side;
        for (size_t j = 0; j < n; j++) {                /* y[0..n) = U^T v */
            double sum = 0;
            for (size_t i = 0; i <= j; i++) sum += s->m[i * n + j] * v[i];
            s->y[j] = sum;
        }
        for (size_t r = 0; r < s->rows; r++) {
            double sum = 0;
            for (size_t c = 0; c < n; c++) sum += s->e[r * n + c] * s->y[c];
            b[r * rank + k] = (float)sum;
        }
        for (size_t j = n; j-- > 0;) {                  /* U a = v */
            double sum = v[j];
            for (size_t i = j + 1; i < n; i++) sum -= s->m[j * n + i] * s->y[i];
            s->y[j] = sum / s->m[j * n + j];
        }
        for (size_t c = 0; c < n; c++) a[k * n + c] = (float)s->y[c];
    }
}

static void moments(struct split *s, const struct input_stats *in, double *mean)
{
    double seen = in->rows ? (double)in->rows : 1;
    *mean = 0;
    for (size_t i = 0; i < s->n * s->n; i++) s->m[i] = (double)in->gram[i] / seen;
    for (size_t i = 0; i < s->n; i++) *mean += s->m[i * s->n + i] / (double)s->n;
    for (size_t i = 0; i < s->n; i++) s->m[i * s->n + i] += 1e-6 * *mean;
}

static stretto_status split(struct split *s, const struct input_stats *in, const float *error, uint32_t rank, float *a,
                            float *b, double *gain, double *whole, struct error *err)
{
    double mean, sum = 0;
    bool rows = s->rows <= s->n;
    widen(error, s->e, s->rows * s->n);
    transpose(s->e, s->rows, s->n, s->t);
    moments(s, in, &mean);
    if (!(mean > 0)) return fail(err, STRETTO_E_FORMAT, "a layer of %zu inputs was never seen to read anything", s->n);
    if (rows) from_rows(s);
    else TRY(from_columns(s, err));
    for (size_t i = 0; i < s->side; i++) sum += s->x[i * s->side + i];
    TRY(workers_eigen(s->w, s->x, s->side, s->values, s->v, err));
    if (rows) to_factors_rows(s, rank, a, b);
    else to_factors_columns(s, rank, a, b);
    for (uint32_t k = 0; gain && k < rank; k++) gain[k] = fmax(s->values[s->side - 1 - k], 0);
    if (whole) *whole = sum;
    return STRETTO_OK;
}

stretto_status lowrank_split(struct workers *w, const struct input_stats *in, const float *error, size_t rows,
                             uint32_t rank, float *a, float *b, double *gain, double *whole, struct error *err)
{
    size_t n = in->n, side = rows < n ? rows : n, most = rows > n ? rows : n;
    if (rank > side) return fail(err, STRETTO_E_ARG, "a rank of %u where %zu is the most there is", rank, side);
    double *room = mem_alloc((2 * rows * n + n * n + 2 * side * side + n * most + side) * sizeof *room);
    if (!room) return fail(err, STRETTO_E_NOMEM, "no memory for the error of a layer of %zu inputs", n);
    struct split s = { .w = w, .rows = rows, .n = n, .side = side };
    s.e = room;
    s.t = s.e + rows * n;
    s.m = s.t + rows * n;
    s.x = s.m + n * n;
    s.v = s.x + side * side;
    s.y = s.v + side * side;
    s.values = s.y + n * most;
    stretto_status st = split(&s, in, error, rank, a, b, gain, whole, err);
    mem_free(room);
    return st;
}
