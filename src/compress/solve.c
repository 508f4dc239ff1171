/* See solve.h. */
#include "compress/solve.h"
#include "base/memory.h"
#include <math.h>
#include <string.h>

static double mean_diagonal(const struct input_stats *s, const uint32_t *keep, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        size_t j = keep ? keep[i] : i;
        sum += (double)s->gram[j * s->n + j];
    }
    return n ? sum / (double)n : 0;
}

/* a is filled anew before each try: a factor that fails leaves nothing of it. */
static stretto_status factor(struct workers *w, double *a, size_t n, double damp,
                             void (*fill)(void *ud, double *a, double damp), void *ud, struct error *err)
{
    for (int i = 0; i < 6; i++, damp *= 10) {
        fill(ud, a, damp);
        if (workers_cholesky(w, a, n, NULL, NULL) == STRETTO_OK) return STRETTO_OK;
    }
    return fail(err, STRETTO_E_FORMAT, "what a layer of %zu inputs was seen to read has no finite moments: calibrate "
                "with another text", n);
}

struct kept { const struct input_stats *s; const uint32_t *keep; size_t n; double mean; };

/* The kept channels' moments from the last to the first, so that the factor comes out as that of the inverse. */
static void fill_reversed(void *ud, double *a, double damp)
{
    const struct kept *k = ud;
    for (size_t i = 0; i < k->n; i++) {
        const float *row = k->s->gram + (k->n - 1 - i) * k->s->n;
        for (size_t j = 0; j < k->n; j++) a[i * k->n + j] = (double)row[k->n - 1 - j] / (double)k->s->rows;
        a[i * k->n + i] += damp * k->mean;
    }
}

/* a = V^T V of H turned about becomes H = R R^T with R = J V^T J, upper: R's inverse is what is asked for. */
static void turn(double *a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j + i < n; j++) {
            size_t at = i * n + j, to = (n - 1 - j) * n + (n - 1 - i);
            double v = a[at];
            a[at] = a[to];
            a[to] = v;
        }
}

stretto_status solve_inverse_root(double **u, struct workers *w, const struct input_stats *s, double damp,
                                  struct error *err)
{
    size_t n = s->n;
    struct kept k = { .s = s, .n = n, .mean = mean_diagonal(s, NULL, n) / (double)(s->rows ? s->rows : 1) };
    if (s->rows == 0 || !(k.mean > 0))
        return fail(err, STRETTO_E_FORMAT, "a layer of %zu inputs was never seen to read anything: calibrate with a "
                    "longer text", n);
    *u = mem_alloc(n * n * sizeof **u);
    if (!*u) return fail(err, STRETTO_E_NOMEM, "no memory for the moments of %zu inputs", n);
    stretto_status st = factor(w, *u, n, damp, fill_reversed, &k, err);
    if (st != STRETTO_OK) {
        mem_free(*u);
        *u = NULL;
        return st;
    }
    turn(*u, n);
    workers_invert_upper(w, *u, n);
    return STRETTO_OK;
}

static void fill_kept(void *ud, double *a, double damp)
{
    const struct kept *k = ud;
    for (size_t i = 0; i < k->n; i++) {
        const float *row = k->s->gram + (size_t)k->keep[i] * k->s->n;
        for (size_t j = 0; j < k->n; j++) a[i * k->n + j] = (double)row[k->keep[j]];
        a[i * k->n + i] += damp * k->mean;
    }
}

/* What the columns that go did, told by those that stay: [kept][rows] of (W_gone G_gone,kept)^T. */
static stretto_status gone_by_kept(struct workers *w, const struct input_stats *s, const float *weight, size_t rows,
                                   const uint32_t *keep, size_t kept, double *out, struct error *err)
{
    size_t gone = s->n - kept, t = 0, i = 0;
    double *g = mem_alloc((gone ? gone : 1) * kept * sizeof *g), *v = mem_alloc((gone ? gone : 1) * rows * sizeof *v);
    stretto_status st = g && v ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "no memory to refit a layer of %u inputs",
                                                   s->n);
    for (uint32_t j = 0; j < s->n && st == STRETTO_OK; j++) {
        if (i < kept && keep[i] == j) { i++; continue; }
        for (size_t c = 0; c < kept; c++) g[t * kept + c] = (double)s->gram[(size_t)j * s->n + keep[c]];
        for (size_t r = 0; r < rows; r++) v[t * rows + r] = (double)weight[r * s->n + j];
        t++;
    }
    if (st == STRETTO_OK) {
        memset(out, 0, kept * rows * sizeof *out);
        workers_outer_d(w, g, kept, v, rows, kept, rows, gone, 1, out, rows, 0);
    }
    mem_free(g);
    mem_free(v);
    return st;
}

static void take(const float *weight, size_t rows, size_t n, const uint32_t *keep, size_t kept, const double *add,
                 float *out)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < kept; c++)
            out[r * kept + c] = (float)((double)weight[r * n + keep[c]] + (add ? add[c * rows + r] : 0));
}

stretto_status solve_refit(struct workers *w, const struct input_stats *s, const float *weight, size_t rows,
                           const uint32_t *keep, size_t kept, double damp, const float *cross, float *out,
                           struct error *err)
{
    double *a = mem_alloc(kept * kept * sizeof *a), *b = mem_alloc(kept * rows * sizeof *b);
    struct kept k = { .s = s, .keep = keep, .n = kept, .mean = mean_diagonal(s, NULL, s->n) };
    stretto_status st = a && b ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "no memory to refit a layer of %u inputs",
                                                   s->n);
    if (st == STRETTO_OK && (cross || kept < s->n) && k.mean > 0) {
        if (!cross) st = gone_by_kept(w, s, weight, rows, keep, kept, b, err);
        for (size_t i = 0; cross && i < kept; i++)
            for (size_t r = 0; r < rows; r++) b[i * rows + r] = (double)cross[keep[i] * rows + r];
        if (st == STRETTO_OK) st = factor(w, a, kept, damp, fill_kept, &k, err);
        if (st == STRETTO_OK) {
            workers_solve(w, a, kept, b, rows);
            take(weight, rows, s->n, keep, kept, b, out);
        }
    } else if (st == STRETTO_OK)
        take(weight, rows, s->n, keep, kept, NULL, out);
    mem_free(a);
    mem_free(b);
    return st;
}

/* By how much answers come nearer to what is asked for: the sum of |r|^2 - |r - D x|^2, D what was added to W_k. */
static double gained(struct workers *w, const struct evidence *e, const float *g, const float *d, size_t rows,
                     const uint32_t *keep, size_t kept, float *spare)
{
    double sum = 0;
    workers_linear(w, d, rows, g, kept, kept, spare);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < kept; c++) {
            double v = (double)d[r * kept + c];
            sum += v * (2 * (double)e->cross[keep[c] * rows + r] - (double)spare[r * kept + c]);
        }
    return sum;
}

struct check { float *g, *d, *spare, *best; };

static stretto_status try_damps(struct workers *w, const struct evidence *fit, const struct evidence *held,
                                const float *weight, size_t rows, const uint32_t *keep, size_t kept, double *damp,
                                struct check *k, struct error *err)
{
    size_t n = fit->in.n;
    double most = 0, by = 0.1;
    for (size_t i = 0; i < kept; i++)
        for (size_t j = 0; j < kept; j++) k->g[i * kept + j] = held->in.gram[keep[i] * n + keep[j]];
    take(weight, rows, n, keep, kept, NULL, k->best);       /* as it is, where nothing helps */
    if (damp) *damp = INFINITY;
    for (int i = 0; i < 5; i++, by /= 10) {
        TRY(solve_refit(w, &fit->in, weight, rows, keep, kept, by, fit->cross, k->d, err));
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < kept; c++) k->d[r * kept + c] -= weight[r * n + keep[c]];
        double gain = gained(w, held, k->g, k->d, rows, keep, kept, k->spare);
        if (gain <= most && i) return STRETTO_OK;
        if (gain <= most) continue;
        most = gain;
        if (damp) *damp = by;
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < kept; c++) k->best[r * kept + c] = k->d[r * kept + c] + weight[r * n + keep[c]];
    }
    return STRETTO_OK;
}

stretto_status solve_checked(struct workers *w, const struct evidence *fit, const struct evidence *held,
                             const float *weight, size_t rows, const uint32_t *keep, size_t kept, double *damp,
                             float *out, struct error *err)
{
    struct check k = { mem_alloc(kept * kept * sizeof(float)), mem_alloc(rows * kept * sizeof(float)),
                       mem_alloc(rows * kept * sizeof(float)), out };
    stretto_status st = k.g && k.d && k.spare
                            ? try_damps(w, fit, held, weight, rows, keep, kept, damp, &k, err)
                            : fail(err, STRETTO_E_NOMEM, "no memory to refit a layer of %u inputs", fit->in.n);
    mem_free(k.g);
    mem_free(k.d);
    mem_free(k.spare);
    return st;
}

/* The rows of the error, [rows][n], times the gram, times themselves. */
stretto_status solve_lost(struct workers *w, const struct input_stats *s, const float *weight, size_t rows,
                          const uint32_t *keep, size_t kept, const float *v, double *lost, struct error *err)
{
    size_t n = s->n;
    float *e = mem_alloc(rows * n * sizeof *e), *eg = mem_alloc(rows * n * sizeof *eg);
    stretto_status st = e && eg ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "no memory to measure a layer");
    if (st == STRETTO_OK) {
        memcpy(e, weight, rows * n * sizeof *e);
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < kept; c++)
                e[r * n + keep[c]] -= v ? v[r * kept + c] : weight[r * n + keep[c]];
        workers_linear(w, e, rows, s->gram, n, n, eg);
        double sum = 0;
        for (size_t i = 0; i < rows * n; i++) sum += (double)e[i] * (double)eg[i];
        *lost = s->rows ? sum / (double)s->rows : 0;
    }
    mem_free(e);
    mem_free(eg);
    return st;
}

/* ---- which inputs go -------------------------------------------------------------------------- */

enum { GO_AT_ONCE = 32, POOL = 128, SCORES_EACH = 16 };

struct order {
    struct workers *w;
    size_t n, rows;
    double *h;              /* [n][n] inverse of the moments, of what is left                     */
    double *x;              /* [n][rows] the weight's columns, refitted                           */
    double *score;          /* [n] what it costs that a channel goes; infinite: it is gone        */
    double *z, *q;          /* [GO_AT_ONCE][n], [GO_AT_ONCE][rows]                                */
    double *a, *y;          /* [POOL][POOL], [POOL][rows] of the pool                             */
    unsigned char *gone;
};

static double square(const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sum;
}

static void score_channels(void *ud, size_t chunk)
{
    struct order *o = ud;
    size_t end = (chunk + 1) * SCORES_EACH < o->n ? (chunk + 1) * SCORES_EACH : o->n;
    for (size_t c = chunk * SCORES_EACH; c < end; c++)
        o->score[c] = o->gone[c] ? INFINITY : square(o->x + c * o->rows, o->rows) / o->h[c * o->n + c];
}

/* The cheapest channels, cheapest first; of equal ones the first. */
static size_t fill_pool(const struct order *o, uint32_t *pool, size_t left)
{
    size_t n = 0, most = left < POOL ? left : POOL;
    for (uint32_t c = 0; c < o->n; c++) {
        if (o->gone[c] || (n == most && !(o->score[c] < o->score[pool[n - 1]]))) continue;
        size_t at = n < most ? n++ : n - 1;
        for (; at && o->score[c] < o->score[pool[at - 1]]; at--) pool[at] = pool[at - 1];
        pool[at] = c;
    }
    return n;
}

/* The pool's channel that costs least now; it leaves the pool, and the others make up for it. */
static size_t leave_pool(struct order *o, const uint32_t *pool, size_t m, double *cost)
{
    size_t best = m;
    for (size_t i = 0; i < m; i++) {
        double c = o->gone[pool[i]] ? INFINITY : square(o->y + i * o->rows, o->rows) / o->a[i * m + i];
        if (best == m || c < *cost) { best = i; *cost = c; }
    }
    double *row = o->z;                     /* free until the channels of this turn are known */
    for (size_t j = 0; j < m; j++) row[j] = o->a[best * m + j];
    for (size_t i = 0; i < m; i++) {
        double by = row[i] / row[best];
        if (o->gone[pool[i]] || i == best) continue;
        for (size_t j = 0; j < m; j++) o->a[i * m + j] -= by * row[j];
        for (size_t r = 0; r < o->rows; r++) o->y[i * o->rows + r] -= by * o->y[best * o->rows + r];
    }
    o->gone[pool[best]] = 1;
    return best;
}

/* Takes channels p[0..b) out of everything: with U^T U the inverse moments among them, Z = U^-T of their rows. */
static stretto_status take_out(struct order *o, const uint32_t *p, size_t b, struct error *err)
{
    double u[GO_AT_ONCE * GO_AT_ONCE];
    for (size_t i = 0; i < b; i++)
        for (size_t j = 0; j < b; j++) u[i * b + j] = o->h[p[i] * o->n + p[j]];
    TRY(workers_cholesky(o->w, u, b, NULL, err));
    for (size_t i = 0; i < b; i++) {
        memcpy(o->z + i * o->n, o->h + p[i] * o->n, o->n * sizeof *o->z);
        memcpy(o->q + i * o->rows, o->x + p[i] * o->rows, o->rows * sizeof *o->q);
        for (size_t k = 0; k <= i; k++) {
            double by = k < i ? u[k * b + i] : 1 / u[i * b + i];
            for (size_t j = 0; j < o->n; j++)
                o->z[i * o->n + j] = k < i ? o->z[i * o->n + j] - by * o->z[k * o->n + j] : o->z[i * o->n + j] * by;
            for (size_t j = 0; j < o->rows; j++)
                o->q[i * o->rows + j] = k < i ? o->q[i * o->rows + j] - by * o->q[k * o->rows + j]
                                              : o->q[i * o->rows + j] * by;
        }
    }
    workers_outer_d(o->w, o->z, o->n, o->q, o->rows, o->n, o->rows, b, -1, o->x, o->rows, 0);
    workers_outer_d(o->w, o->z, o->n, o->z, o->n, o->n, o->n, b, -1, o->h, o->n, 0);
    return STRETTO_OK;
}

static stretto_status pick(struct order *o, size_t go, uint32_t *order, double *lost, struct error *err)
{
    uint32_t pool[POOL];
    double sum = 0;
    for (size_t done = 0; done < go;) {
        workers_each(o->w, (o->n + SCORES_EACH - 1) / SCORES_EACH, score_channels, o);
        size_t m = fill_pool(o, pool, o->n - done), b = go - done < GO_AT_ONCE ? go - done : GO_AT_ONCE;
        for (size_t i = 0; i < m; i++) {
            for (size_t j = 0; j < m; j++) o->a[i * m + j] = o->h[pool[i] * o->n + pool[j]];
            memcpy(o->y + i * o->rows, o->x + pool[i] * o->rows, o->rows * sizeof *o->y);
        }
        for (size_t i = 0; i < b; i++) {
            double cost = 0;
            order[done + i] = pool[leave_pool(o, pool, m, &cost)];
            lost[done + i] = sum += cost;
        }
        TRY(take_out(o, order + done, b, err));
        done += b;
    }
    return STRETTO_OK;
}

stretto_status solve_order(struct workers *w, const struct input_stats *s, const float *weight, size_t rows, size_t go,
                           double damp, uint32_t *order, double *lost, struct error *err)
{
    size_t n = s->n, wide = n > POOL ? n : POOL;
    double *u = NULL;
    TRY(solve_inverse_root(&u, w, s, damp, err));
    struct order o = { .w = w, .n = n, .rows = rows, .h = mem_zalloc(n * n, sizeof *o.h),
                       .x = mem_alloc(n * rows * sizeof *o.x), .score = mem_alloc(n * sizeof *o.score),
                       .z = mem_alloc(GO_AT_ONCE * wide * sizeof *o.z), .q = mem_alloc(GO_AT_ONCE * rows * sizeof *o.q),
                       .a = mem_alloc(POOL * POOL * sizeof *o.a), .y = mem_alloc(POOL * rows * sizeof *o.y),
                       .gone = mem_zalloc(n, 1) };
    stretto_status st = STRETTO_OK;
    if (!o.h || !o.x || !o.score || !o.z || !o.q || !o.a || !o.y || !o.gone)
        st = fail(err, STRETTO_E_NOMEM, "no memory to order the inputs of a layer of %zu", n);
    if (st == STRETTO_OK) {
        workers_outer_d(w, u, n, u, n, n, n, n, 1, o.h, n, 0);
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < n; c++) o.x[c * rows + r] = (double)weight[r * n + c];
        st = pick(&o, go < n ? go : n, order, lost, err);
    }
    mem_free(u);
    mem_free(o.h);
    mem_free(o.x);
    mem_free(o.score);
    mem_free(o.z);
    mem_free(o.q);
    mem_free(o.a);
    mem_free(o.y);
    mem_free(o.gone);
    return st;
}

/* ---- groups of inputs --------------------------------------------------------------------------- */

/* a [m][m] the inverse moments among the group, in place; b [m][rows] its columns: the sum of b^T a^-1 b. */
static stretto_status cost_of(struct workers *w, double *a, double *b, size_t m, size_t rows, double *cost,
                              struct error *err)
{
    double *v = mem_alloc(m * rows * sizeof *v), sum = 0;
    if (!v) return fail(err, STRETTO_E_NOMEM, "no memory for a group of %zu inputs", m);
    memcpy(v, b, m * rows * sizeof *v);
    stretto_status st = workers_cholesky(w, a, m, NULL, err);
    if (st == STRETTO_OK) {
        workers_solve(w, a, m, b, rows);
        for (size_t i = 0; i < m * rows; i++) sum += v[i] * b[i];
        *cost = sum;
    }
    mem_free(v);
    return st;
}

stretto_status solve_groups(struct workers *w, const struct input_stats *s, const float *weight, size_t rows,
                            size_t unit, double damp, double *cost, struct error *err)
{
    size_t n = s->n;
    double *u = NULL, *a = mem_alloc(unit * unit * sizeof *a), *b = mem_alloc(unit * rows * sizeof *b);
    stretto_status st = a && b ? solve_inverse_root(&u, w, s, damp, err)
                               : fail(err, STRETTO_E_NOMEM, "no memory for groups of %zu inputs", unit);
    for (size_t g = 0; g < n / unit && st == STRETTO_OK; g++) {
        size_t at = g * unit;
        memset(a, 0, unit * unit * sizeof *a);
        workers_outer_d(w, u + at, n, u + at, n, unit, unit, at + unit, 1, a, unit, 0);
        for (size_t i = 0; i < unit; i++)
            for (size_t r = 0; r < rows; r++) b[i * rows + r] = (double)weight[r * n + at + i];
        st = cost_of(w, a, b, unit, rows, &cost[g], err);
    }
    mem_free(u);
    mem_free(a);
    mem_free(b);
    return st;
}
