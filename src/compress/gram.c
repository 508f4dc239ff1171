#include "compress/gram.h"
#include "base/memory.h"
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { STRONGEST = 4, TURNS = 12, SOME = 64 };

/* Measured (SmolLM2-135M, tokens that were not seen): the errors of rows of n inputs are least near a = 3.5 n / tokens,
 * and flat around it; beyond 0.4 more costs more than it helps. */
double gram_share(double asked, size_t n, uint64_t tokens)
{
    if (asked != 0) return asked < 0 ? 0 : fmin(asked, 1);
    return fmin(0.4, 3.5 * (double)n / (double)tokens);
}

struct power {
    const float *gram;
    size_t n, found;
    double *loud;               /* [n] roots of the diagonal, inverted; 0: silent                    */
    double *v;                  /* [STRONGEST][n]                                                    */
    double value[STRONGEST];
    const double *x;            /* [n] v, scaled                                                     */
    double *y;                  /* [n]                                                               */
};

static void multiply(void *ud, size_t piece)
{
    const struct power *p = ud;
    for (size_t i = piece * SOME; i < p->n && i < (piece + 1) * SOME; i++) {
        const float *h = p->gram + i * p->n;
        double sum[4] = { 0 };
        for (size_t j = 0; j < p->n; j++) sum[j % 4] += (double)h[j] * p->x[j];
        p->y[i] = p->loud[i] * ((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
}

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* One more direction, by repeated multiplication with what the others leave. */
static void find(struct power *p, struct workers *w, double *x, double *y)
{
    double *v = p->v + p->found * p->n, value = 0;
    for (size_t i = 0; i < p->n; i++) v[i] = (i + p->found) % 3 ? 1 : -0.5;
    for (int turn = 0; turn < TURNS; turn++) {
        double size = sqrt(dot(v, v, p->n));
        if (!(size > 0)) break;
        for (size_t i = 0; i < p->n; i++) v[i] /= size;
        for (size_t i = 0; i < p->n; i++) x[i] = v[i] * p->loud[i];
        p->x = x;
        p->y = y;
        workers_each(w, (p->n + SOME - 1) / SOME, multiply, p);
        for (size_t k = 0; k < p->found; k++) {
            const double *other = p->v + k * p->n;
            double by = p->value[k] * dot(other, v, p->n);
            for (size_t i = 0; i < p->n; i++) y[i] -= by * other[i];
        }
        value = dot(v, y, p->n);
        if (turn + 1 < TURNS) memcpy(v, y, p->n * sizeof *v);
    }
    p->value[p->found++] = fmax(value, 0);
}

static void blend(const struct power *p, double a, float *h)
{
    size_t n = p->n;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double l = 0, g = (double)p->gram[i * n + j];
            for (size_t k = 0; k < p->found; k++) l += p->value[k] * (p->v[k * n + i] * p->v[k * n + j]);
            if (p->loud[i] == 0 || p->loud[j] == 0) l = 0;
            else l /= p->loud[i] * p->loud[j];
            h[i * n + j] = (float)((1 - a) * g + a * (i == j ? fmax(g, l) : l));
        }
}

stretto_status gram_shrink(struct workers *w, const float *gram, size_t n, double a, float *out, struct error *err)
{
    struct power p = { .gram = gram, .n = n, .loud = mem_alloc(n * sizeof *p.loud),
                       .v = mem_alloc(STRONGEST * n * sizeof *p.v) };
    double *x = mem_alloc(2 * n * sizeof *x);
    bool room = p.loud && p.v && x;
    for (size_t i = 0; room && i < n; i++) {
        double d = (double)gram[i * (n + 1)];
        p.loud[i] = d > 0 ? 1 / sqrt(d) : 0;
    }
    while (room && p.found < STRONGEST) find(&p, w, x, x + n);
    if (room) blend(&p, a, out);
    mem_free(p.loud);
    mem_free(p.v);
    mem_free(x);
    return room ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "no memory for the second moments of %zu inputs", n);
}
