#include "compress/codebook.h"
#include "base/memory.h"
#include "tensor/half.h"
#include <math.h>
#include <stdlib.h>

enum { BINS = 256, ROUNDS = 200 };

struct point { float x; double w; };

/* Points that are no zeros, ascending; sums of w and w x before each. */
struct line { struct point *p; double *w, *wx; size_t n; };

static int by_value(const void *a, const void *b)
{
    float x = ((const struct point *)a)->x, y = ((const struct point *)b)->x;
    return (x > y) - (x < y);
}

static stretto_status line_make(struct line *l, const float *weight, size_t rows, size_t n_in, const double *importance,
                                struct error *err)
{
    size_t n = rows * n_in;
    *l = (struct line){ mem_alloc(n * sizeof *l->p), mem_alloc((n + 1) * sizeof *l->w),
                        mem_alloc((n + 1) * sizeof *l->wx), 0 };
    if (!l->p || !l->w || !l->wx) return fail(err, STRETTO_E_NOMEM, "no memory for a codebook of %zu weights", n);
    for (size_t i = 0; i < n; i++) {
        double w = importance ? importance[i % n_in] : 1;
        if (weight[i] != 0) l->p[l->n++] = (struct point){ weight[i], w > 0 ? w : 1e-30 };
    }
    qsort(l->p, l->n, sizeof *l->p, by_value);
    l->w[0] = l->wx[0] = 0;
    for (size_t i = 0; i < l->n; i++) {
        l->w[i + 1] = l->w[i] + l->p[i].w;
        l->wx[i + 1] = l->wx[i] + l->p[i].w * (double)l->p[i].x;
    }
    return STRETTO_OK;
}

/* Values where the integral of the cube root of the density has its (i + 1/2) / k part. */
static void start(const struct line *l, unsigned k, double *value)
{
    double dense[BINS] = { 0 }, all = 0, lo = (double)l->p[0].x, hi = (double)l->p[l->n - 1].x, sum = 0;
    double step = hi > lo ? (hi - lo) / BINS : 1;
    for (size_t i = 0; i < l->n; i++) {
        size_t bin = (size_t)(((double)l->p[i].x - lo) / step);
        dense[bin < BINS ? bin : BINS - 1] += l->p[i].w;
    }
    for (size_t i = 0; i < BINS; i++) all += cbrt(dense[i]);
    for (size_t i = 0, at = 0; at < k && i < BINS; i++)
        for (sum += cbrt(dense[i]); at < k && sum >= ((double)at + 0.5) / k * all; at++)
            value[at] = lo + ((double)i + 0.5) * step;
    for (unsigned at = 1; at < k; at++)
        if (!(value[at] > value[at - 1])) value[at] = nextafter(value[at - 1], INFINITY);
}

/* The first point that is not below x. */
static size_t below(const struct line *l, double x)
{
    size_t lo = 0, hi = l->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if ((double)l->p[mid].x < x) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

static void lloyd(const struct line *l, unsigned k, double *value)
{
    size_t edge[CODEBOOK_MOST + 1] = { 0 };
    for (int round = 0, moved = 1; moved && round < ROUNDS; round++) {
        moved = 0;
        edge[k] = l->n;
        for (unsigned i = 1; i < k; i++) {
            size_t at = below(l, (value[i - 1] + value[i]) / 2);
            moved |= at != edge[i];
            edge[i] = at;
        }
        for (unsigned i = 0; i < k; i++)
            if (edge[i + 1] > edge[i])
                value[i] = (l->wx[edge[i + 1]] - l->wx[edge[i]]) / (l->w[edge[i + 1]] - l->w[edge[i]]);
    }
}

static float nearest(const float *value, unsigned k, float x)
{
    unsigned lo = 0, hi = k - 1;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        if ((double)x < ((double)value[mid] + (double)value[mid + 1]) / 2) hi = mid;
        else lo = mid + 1;
    }
    return value[lo];
}

stretto_status codebook_share(float *weight, size_t rows, size_t n_in, const double *importance, unsigned values,
                              struct error *err)
{
    struct line l;
    double value[CODEBOOK_MOST];
    float as[CODEBOOK_MOST];
    stretto_status s = line_make(&l, weight, rows, n_in, importance, err);
    unsigned k = l.n < rows * n_in ? values - 1 : values;
    if (s == STRETTO_OK && l.n) {
        start(&l, k, value);
        lloyd(&l, k, value);
        for (unsigned i = 0; i < k; i++) as[i] = half_to_float(float_to_half((float)value[i]));
        for (size_t i = 0; i < rows * n_in; i++)
            if (weight[i] != 0) weight[i] = nearest(as, k, weight[i]);
    }
    mem_free(l.p);
    mem_free(l.w);
    mem_free(l.wx);
    return s;
}
