/* The metric of a layer's input and its factor (GPTQ, arXiv 2210.17323, section 3.3): with P H P = R^T R, where P
 * reverses the order, the upper factor of the inverse of H is P R^-T P, which needs no inverse of an inverse. */
#include "compress/feedback_int.h"
#include "compress/gram.h"
#include "base/memory.h"
#include <math.h>
#include <stdlib.h>

enum { TRIES = 24 };            /* of doubled damping: the last is larger than the metric itself */

void feedback_defaults(struct feedback_options *o)
{
    *o = (struct feedback_options){ .method = ENCODE_FEEDBACK, .damp = 0.01, .refits = 1, .sweeps = 3 };
}

static double mean_of(const double *v, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += v[i] / (double)n;
    return sum;
}

static const char no_numbers[] = "the statistics of a layer's input hold a value that is no finite number";

static stretto_status take_stats(struct metric *m, const struct input_stats *s, struct error *err)
{
    double mean = mean_of(s->sum2, m->n);
    if (!isfinite(mean)) return fail(err, STRETTO_E_FORMAT, "%s", no_numbers);
    if (!(mean > 0) || !s->rows) return STRETTO_OK;
    m->importance = mem_alloc(m->n * sizeof *m->importance);
    if (!m->importance) return fail(err, STRETTO_E_NOMEM, "no memory for the importance of %u inputs", m->n);
    for (size_t i = 0; i < m->n; i++)
        m->importance[i] = (float)(fmax(s->sum2[i], 1e-6 * mean) / (double)s->rows);
    m->rows = s->rows;
    m->gram = s->gram;
    for (size_t i = 0; m->gram && i < (size_t)m->n * m->n; i++)
        if (!isfinite(m->gram[i])) return fail(err, STRETTO_E_FORMAT, "%s", no_numbers);
    return STRETTO_OK;
}

static stretto_status take_h(struct metric *m, struct workers *w, struct error *err)
{
    double a = gram_share(m->o.shrink, m->n, m->rows);
    m->h = m->gram;
    if (!(a > 0)) return STRETTO_OK;
    m->own = mem_alloc((size_t)m->n * m->n * sizeof *m->own);
    if (!m->own) return fail(err, STRETTO_E_NOMEM, "no memory for the metric of %u inputs", m->n);
    m->h = m->own;
    return gram_shrink(w, m->gram, m->n, a, m->own, err);
}

stretto_status metric_open(struct metric **out, struct workers *w, const struct input_stats *s, uint32_t n_in,
                           const struct feedback_options *o, struct error *err)
{
    *out = NULL;
    if (s && s->n != n_in)
        return fail(err, STRETTO_E_ARG, "statistics of %u inputs do not fit a layer of %u", s->n, n_in);
    struct metric *m = mem_zalloc(1, sizeof *m);
    if (!m) return fail(err, STRETTO_E_NOMEM, "no memory for a metric");
    m->n = n_in;
    if (o) m->o = *o;
    else feedback_defaults(&m->o);
    stretto_status status = s ? take_stats(m, s, err) : STRETTO_OK;
    if (status == STRETTO_OK && m->gram && m->o.method == ENCODE_FEEDBACK) status = take_h(m, w, err);
    if (status != STRETTO_OK) metric_close(m);
    else *out = m;
    return status;
}

void metric_close(struct metric *m)
{
    if (!m) return;
    mem_free(m->importance);
    mem_free(m->own);
    mem_free(m->order);
    mem_free(m->u);
    mem_free(m);
}

/* ---- the order ----------------------------------------------------------------------------- */

struct keyed { double key; uint32_t at; };

static int falling(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    if (x->key != y->key) return x->key > y->key ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* n columns from `from` into order, in runs of sizes[0] that stay together, these in runs of sizes[1] and so on. */
static void order_runs(const struct metric *m, size_t from, size_t n, const size_t *sizes, struct keyed *k,
                       uint32_t *order)
{
    size_t size = *sizes, runs = n / size;
    for (size_t i = 0; i < runs; i++) {
        k[i] = (struct keyed){ 0, (uint32_t)(from + i * size) };
        for (size_t j = k[i].at; j < k[i].at + size; j++) k[i].key += (double)m->gram[j * (m->n + 1)];
    }
    qsort(k, runs, sizeof *k, falling);
    for (size_t i = 0; i < runs; i++, order += size) {
        if (size == 1) *order = k[i].at;
        else order_runs(m, k[i].at, size, sizes + 1, k + runs, order);
    }
}

/* ---- the factor ---------------------------------------------------------------------------- */

static void take_gram(const struct metric *m, double damp, double *a)
{
    size_t n = m->n;
    for (size_t i = 0; i < n; i++)
        for (size_t j = i; j < n; j++) {
            size_t p = m->order[n - 1 - i], q = m->order[n - 1 - j];
            a[i * n + j] = (double)m->h[p * n + q] + (p == q ? damp : 0);
        }
}

/* Transposed, and both orders reversed. */
static void turn(double *a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j + i + 1 < n; j++) {
            double *p = a + i * n + j, *q = a + (n - 1 - j) * n + n - 1 - i, t = *p;
            *p = *q;
            *q = t;
        }
}

static stretto_status factor(struct metric *m, struct workers *w, struct error *err)
{
    size_t n = m->n;
    double mean = 0, damp = m->o.damp > 0 ? m->o.damp : 0.01;
    for (size_t i = 0; i < n; i++) mean += (double)m->h[i * (n + 1)] / (double)n;
    for (int i = 0; i < TRIES; i++, damp *= 2) {
        take_gram(m, damp * mean, m->u);
        if (workers_cholesky(w, m->u, n, NULL, NULL) != STRETTO_OK) continue;
        workers_invert_upper(w, m->u, n);
        turn(m->u, n);
        return STRETTO_OK;
    }
    return fail(err, STRETTO_E_FORMAT, "the statistics of a layer's input are no sums of squares: measure them anew");
}

stretto_status metric_factor(struct metric *m, struct workers *w, size_t unit, size_t group, struct error *err)
{
    if (m->unit == unit && m->group == group) return STRETTO_OK;
    size_t n = m->n, sizes[3] = { unit, group, 1 };
    struct keyed *k = mem_alloc(2 * n * sizeof *k);
    m->unit = 0;
    if (!m->order) m->order = mem_alloc(n * sizeof *m->order);
    if (!m->u) m->u = mem_alloc(n * n * sizeof *m->u);
    if (!k || !m->order || !m->u) {
        mem_free(k);
        return fail(err, STRETTO_E_NOMEM, "no memory for the factor of %zu x %zu statistics", n, n);
    }
    order_runs(m, 0, n, unit == group ? sizes + 1 : sizes, k, m->order);
    mem_free(k);
    TRY(factor(m, w, err));
    m->unit = unit;
    m->group = group;
    return STRETTO_OK;
}
