/* Eigenvalues and eigenvectors of a symmetric matrix: Householder's reflections make it tridiagonal, implicit QL
 * with Wilkinson's shift makes that diagonal (Golub, Van Loan: Matrix Computations, 8.3; EISPACK's tred2, tql2).
 * Threads share rows in the first half and columns of the eigenvectors in the second: turns of the QL method are
 * computed by one thread, written down, and applied by all. */
#include "compress/workers_int.h"
#include "base/memory.h"
#include <float.h>
#include <math.h>
#include <string.h>

enum { LANES = 8, ROWS = 16, COLUMNS = 64, TURNS = 1 << 16, TRIES = 60 };

struct turn { size_t at; double c, s; };

struct eigen {
    struct workers *w;
    double *a, *v;
    size_t n, step;
    double size;                                 /* largest |diagonal| + |beside|         */
    double *diagonal, *beside;                   /* [n] */
    double *by, *u, *q, *next, *p;               /* [n] factors of the reflections; the one that is pending: rows
                                                    lose u q^T + q u^T; the next u, and A times it           */
    struct turn *turns;
    size_t n_turns;
};

/* Sums in a fixed order that vector units can follow. */
static double dot(const double *x, const double *y, size_t n)
{
    double s[LANES] = { 0 };
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++) s[j] += x[i + j] * y[i + j];
    for (; i < n; i++) s[0] += x[i] * y[i];
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

/* ---- to three diagonals --------------------------------------------------------------------- */

static void apply_pending(const struct eigen *g, double *row, size_t i, size_t from)
{
    double u = g->u[i], q = g->q[i];
    for (size_t j = from; j < g->n; j++) row[j] -= u * g->q[j] + q * g->u[j];
}

/* One pass over what is left of the matrix: the pending reflection is applied, and the next one needs A u. */
static void reflect_rows(void *ud, size_t index)
{
    const struct eigen *g = ud;
    size_t from = g->step + 1, i = from + index * ROWS, end = workers_least(i + ROWS, g->n);
    for (; i < end; i++) {
        double *row = g->a + i * g->n;
        apply_pending(g, row, i, from);
        g->p[i] = dot(row + from, g->next + from, g->n - from);
    }
}

/* The reflection that leaves of row k beyond its diagonal only the first element: u, with 1 - by u u^T. */
static void make_reflection(struct eigen *g, size_t k)
{
    double *row = g->a + k * g->n, most = 0;
    size_t from = k + 1;
    memset(g->next, 0, g->n * sizeof *g->next);
    for (size_t j = from; j < g->n; j++) most = fmax(most, fabs(row[j]));
    g->by[k] = 0;
    g->beside[k] = row[from];
    if (from + 1 >= g->n || most == 0) return;
    for (size_t j = from; j < g->n; j++) g->next[j] = row[j] / most;
    double rest = dot(g->next + from + 1, g->next + from + 1, g->n - from - 1);
    if (rest == 0) return;
    double first = g->next[from], length = sqrt(first * first + rest);
    g->next[from] = first > 0 ? first + length : first - length;
    g->beside[k] = (first > 0 ? -length : length) * most;
    g->by[k] = 2 / (g->next[from] * g->next[from] + rest);
}

static void make_tridiagonal(struct eigen *g)
{
    for (size_t k = 0; k < g->n; k++) {
        double *row = g->a + k * g->n;
        apply_pending(g, row, k, k);
        g->diagonal[k] = row[k];
        if (k + 1 == g->n) break;
        make_reflection(g, k);
        g->step = k;
        workers_each(g->w, workers_blocks(g->n - k - 1, ROWS), reflect_rows, g);
        size_t from = k + 1, n = g->n - from;
        double half = g->by[k] * g->by[k] / 2 * dot(g->p + from, g->next + from, n);
        for (size_t j = from; j < g->n; j++) {
            g->u[j] = row[j] = g->next[j];
            g->q[j] = g->by[k] * g->p[j] - half * g->next[j];
        }
    }
}

/* Rows of v: the product of all reflections, transposed. Row i is not touched by those from i on. */
static void gather_rows(void *ud, size_t index)
{
    const struct eigen *g = ud;
    size_t n = g->n, first = index * ROWS, end = workers_least(first + ROWS, n);
    for (size_t i = first; i < end; i++) {
        memset(g->v + i * n, 0, n * sizeof *g->v);
        g->v[i * n + i] = 1;
    }
    for (size_t k = end - 1; k-- > 0;) {
        const double *u = g->a + k * n;
        if (g->by[k] == 0) continue;
        for (size_t i = k < first ? first : k + 1; i < end; i++) {
            double *row = g->v + i * n, by = g->by[k] * dot(row + k + 1, u + k + 1, n - k - 1);
            for (size_t j = k + 1; j < n; j++) row[j] -= by * u[j];
        }
    }
}

/* ---- to one --------------------------------------------------------------------------------- */

static void turn_columns(void *ud, size_t index)
{
    const struct eigen *g = ud;
    size_t n = g->n, from = index * COLUMNS, width = workers_least(COLUMNS, n - from);
    for (size_t r = 0; r < g->n_turns; r++) {
        double *x = g->v + g->turns[r].at * n + from, *y = x + n, c = g->turns[r].c, s = g->turns[r].s;
        for (size_t j = 0; j < width; j++) {
            double h = y[j];
            y[j] = s * x[j] + c * h;
            x[j] = c * x[j] - s * h;
        }
    }
}

static void apply_turns(struct eigen *g)
{
    workers_each(g->w, workers_blocks(g->n, COLUMNS), turn_columns, g);
    g->n_turns = 0;
}

/* The first place from l on behind which the matrix falls apart: what is left there is below the roundings that
 * made it tridiagonal. */
static size_t falls_apart(const struct eigen *g, size_t l)
{
    size_t m = l;
    for (; m + 1 < g->n; m++) {
        if (fabs(g->beside[m]) <= DBL_EPSILON / 2 * g->size) break;
    }
    return m;
}

/* One QL step with an implicit shift on l .. m. */
static void ql_step(struct eigen *g, size_t l, size_t m)
{
    double *d = g->diagonal, *e = g->beside;
    double f = (d[l + 1] - d[l]) / (2 * e[l]), r = hypot(f, 1);
    f = d[m] - d[l] + e[l] / (f + copysign(r, f));
    double s = 1, c = 1, p = 0;
    for (size_t i = m; i-- > l;) {
        double h = s * e[i], b = c * e[i];
        e[i + 1] = r = hypot(h, f);
        if (r == 0) {
            d[i + 1] -= p;
            e[m] = 0;
            return;
        }
        s = h / r;
        c = f / r;
        f = d[i + 1] - p;
        r = (d[i] - f) * s + 2 * c * b;
        p = s * r;
        d[i + 1] = f + p;
        f = c * r - b;
        g->turns[g->n_turns++] = (struct turn){ i, c, s };
    }
    d[l] -= p;
    e[l] = f;
    e[m] = 0;
}

static stretto_status make_diagonal(struct eigen *g, struct error *err)
{
    g->beside[g->n - 1] = 0;
    for (size_t i = 0; i < g->n; i++) g->size = fmax(g->size, fabs(g->diagonal[i]) + fabs(g->beside[i]));
    for (size_t l = 0; l < g->n; l++) {
        size_t tries = 0;
        for (size_t m; (m = falls_apart(g, l)) != l;) {
            if (++tries > TRIES)
                return fail(err, STRETTO_E_FORMAT, "no eigenvalues were found: the matrix holds values that are no "
                            "numbers");
            if (g->n_turns > TURNS) apply_turns(g);
            ql_step(g, l, m);
        }
    }
    apply_turns(g);
    return STRETTO_OK;
}

static void sort_ascending(const struct eigen *g, double *e)
{
    for (size_t i = 0; i + 1 < g->n; i++) {
        size_t least = i;
        for (size_t j = i + 1; j < g->n; j++)
            if (e[j] < e[least]) least = j;
        if (least == i) continue;
        double t = e[i], *x = g->v + i * g->n, *y = g->v + least * g->n;
        e[i] = e[least], e[least] = t;
        for (size_t j = 0; j < g->n; j++) t = x[j], x[j] = y[j], y[j] = t;
    }
}

stretto_status workers_eigen(struct workers *w, double *a, size_t n, double *e, double *v, struct error *err)
{
    struct eigen g = { .w = w, .a = a, .v = v, .n = n, .diagonal = e };
    if (n == 0) return STRETTO_OK;
    double *room = mem_zalloc(6 * n, sizeof *room);
    g.turns = mem_zalloc(TURNS + n, sizeof *g.turns);
    stretto_status s = STRETTO_OK;
    if (!room || !g.turns) {
        s = fail(err, STRETTO_E_NOMEM, "no memory for the eigenvectors of %zu columns", n);
        goto done;
    }
    g.beside = room, g.by = room + n, g.u = room + 2 * n, g.q = room + 3 * n, g.next = room + 4 * n;
    g.p = room + 5 * n;
    make_tridiagonal(&g);
    workers_each(w, workers_blocks(n, ROWS), gather_rows, &g);
    s = make_diagonal(&g, err);
    if (s == STRETTO_OK) sort_ascending(&g, e);
done:
    mem_free(room);
    mem_free(g.turns);
    return s;
}
