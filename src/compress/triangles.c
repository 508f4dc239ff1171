/* Factors, inverses and solutions, in blocks, so that nearly all of the arithmetic is sums of outer products of
 * kernels (Golub, Van Loan: Matrix Computations, 4.2, 3.1). An operand on the left of such a sum is read across its
 * columns; where a method has it along its rows, it is transposed: into the unused half of the same matrix, or into
 * scratch memory. */
#include "compress/workers_int.h"
#include <math.h>
#include <string.h>

enum { BLOCK = WORKERS_BLOCK, SUB = WORKERS_SUB };

/* y -= by * x */
static void take_off(double *y, const double *x, double by, size_t n)
{
    for (size_t j = 0; j < n; j++) y[j] -= by * x[j];
}

static void divide(double *y, double by, size_t n)
{
    for (size_t j = 0; j < n; j++) y[j] /= by;
}

/* U^T x = b for `columns` columns, in place; u: [n][ldu], its upper triangle. */
static void solve_down(const struct kernels *k, const double *u, size_t ldu, size_t n, double *b, size_t ldb,
                       size_t columns)
{
    for (size_t r0 = 0, r1; r0 < n; r0 = r1) {
        r1 = workers_least(r0 + SUB, n);
        for (size_t r = r0; r < r1; r++) {
            for (size_t s = r0; s < r; s++) take_off(b + r * ldb, b + s * ldb, u[s * ldu + r], columns);
            divide(b + r * ldb, u[r * ldu + r], columns);
        }
        if (r1 < n)
            k->outer_d(u + r0 * ldu + r1, ldu, b + r0 * ldb, ldb, n - r1, columns, r1 - r0, -1, b + r1 * ldb, ldb);
    }
}

/* U x = b likewise; l: [n][ldl], U transposed. */
static void solve_up(const struct kernels *k, const double *l, size_t ldl, size_t n, double *b, size_t ldb,
                     size_t columns)
{
    for (size_t r1 = n, r0; r1 > 0; r1 = r0) {
        r0 = (r1 - 1) / SUB * SUB;
        for (size_t r = r1; r-- > r0;) {
            for (size_t s = r + 1; s < r1; s++) take_off(b + r * ldb, b + s * ldb, l[s * ldl + r], columns);
            divide(b + r * ldb, l[r * ldl + r], columns);
        }
        if (r0) k->outer_d(l + r0 * ldl, ldl, b + r0 * ldb, ldb, r0, columns, r1 - r0, -1, b, ldb);
    }
}

/* ---- factor --------------------------------------------------------------------------------- */

/* The factor of a block, in place; the first column where there is none, or n. What is below its diagonal changes
 * without a meaning. */
static size_t factor_block(const struct kernels *k, double *a, size_t lda, size_t n)
{
    for (size_t r0 = 0, r1; r0 < n; r0 = r1) {
        r1 = workers_least(r0 + SUB, n);
        for (size_t r = r0; r < r1; r++) {
            double *row = a + r * lda;
            if (!(row[r] > 0) || isinf(row[r])) return r;
            row[r] = sqrt(row[r]);
            divide(row + r + 1, row[r], n - r - 1);
            for (size_t s = r + 1; s < r1; s++) take_off(a + s * lda + s, row + s, row[s], n - s);
        }
        if (r1 < n)
            k->outer_d(a + r0 * lda + r1, lda, a + r0 * lda + r1, lda, n - r1, n - r1, r1 - r0, -1, a + r1 * lda + r1,
                       lda);
    }
    return n;
}

struct factor { struct workers *w; double *a; size_t n, from, to; };

static void factor_columns(void *ud, size_t index)
{
    const struct factor *f = ud;
    size_t j = f->to + index * BLOCK;
    solve_down(&f->w->k, f->a + f->from * f->n + f->from, f->n, f->to - f->from, f->a + f->from * f->n + j, f->n,
               workers_least(BLOCK, f->n - j));
}

static void clear_below(double *a, size_t n)
{
    for (size_t i = 1; i < n; i++) memset(a + i * n, 0, i * sizeof *a);
}

stretto_status workers_cholesky(struct workers *w, double *a, size_t n, size_t *at, struct error *err)
{
    struct factor f = { .w = w, .a = a, .n = n };
    for (; f.from < n; f.from = f.to) {
        f.to = workers_least(f.from + BLOCK, n);
        size_t size = f.to - f.from, rest = n - f.to, bad = factor_block(&w->k, a + f.from * n + f.from, n, size);
        if (bad < size) {
            if (at) *at = f.from + bad;
            return fail(err, STRETTO_E_ARG, "the matrix of %zu columns is not positive definite at column %zu", n,
                        f.from + bad);
        }
        workers_each(w, workers_blocks(rest, BLOCK), factor_columns, &f);
        const double *panel = a + f.from * n + f.to;
        if (rest) workers_outer_d(w, panel, n, panel, n, rest, rest, size, -1, a + f.to * n + f.to, n, 1);
    }
    clear_below(a, n);
    return STRETTO_OK;
}

/* ---- inverse -------------------------------------------------------------------------------- */

/* With V the inverse of U, block row i of U V = 1 says V_ij = -U_ii^-1 sum of U_ik V_kj over k > i: from the last row
 * up, in place, while U transposed stands below the diagonal. */
struct inverse { struct workers *w; double *u; size_t n, from, to; };

static void mirror_rows(void *ud, size_t index)
{
    const struct inverse *v = ud;
    size_t from = index * BLOCK, to = workers_least(from + BLOCK, v->n);
    for (size_t i0 = 0; i0 < to; i0 += SUB)
        for (size_t j = from; j < to; j++)
            for (size_t i = i0; i < workers_least(i0 + SUB, j); i++) v->u[j * v->n + i] = v->u[i * v->n + j];
}

static void inverse_square(void *ud, size_t index, double *triangle)
{
    const struct inverse *v = ud;
    size_t n = v->n, i = v->from, rows = v->to - i, j = v->to + index * BLOCK, columns = workers_least(BLOCK, n - j);
    double *c = v->u + i * n + j;
    for (size_t r = 0; r < rows; r++) memset(c + r * n, 0, columns * sizeof *c);
    v->w->k.outer_d(v->u + v->to * n + i, n, v->u + v->to * n + j, n, rows, columns, j - v->to, -1, c, n);
    for (size_t r = 0; r < columns; r++) {
        memset(triangle + r * columns, 0, r * sizeof *triangle);
        memcpy(triangle + r * columns + r, v->u + (j + r) * n + j + r, (columns - r) * sizeof *triangle);
    }
    v->w->k.outer_d(v->u + j * n + i, n, triangle, columns, rows, columns, columns, -1, c, n);
    solve_up(&v->w->k, v->u + i * n + i, n, rows, c, n, columns);
}

/* Column by column: what is left of it is already inverted. */
static void invert_block(double *u, size_t ld, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        double by = u[j * ld + j] = 1 / u[j * ld + j];
        for (size_t i = 0; i < j; i++) {
            double sum = 0;
            for (size_t k = i; k < j; k++) sum += u[i * ld + k] * u[k * ld + j];
            u[i * ld + j] = -by * sum;
        }
    }
}

void workers_invert_upper(struct workers *w, double *u, size_t n)
{
    struct inverse v = { .w = w, .u = u, .n = n };
    size_t blocks = workers_blocks(n, BLOCK);
    workers_each(w, blocks, mirror_rows, &v);
    for (size_t b = blocks; b-- > 0;) {
        v.from = b * BLOCK;
        v.to = workers_least(v.from + BLOCK, n);
        workers_share(w, blocks - 1 - b, inverse_square, &v);
        invert_block(u + v.from * n + v.from, n, v.to - v.from);
    }
    clear_below(u, n);
}

/* ---- solution ------------------------------------------------------------------------------- */

struct solution { struct workers *w; const double *u; double *b; size_t n, columns; };

enum { SOLVE_COLUMNS = 64 };

/* `rows` rows from i on and `columns` columns from j on of u, transposed. */
static const double *turned(const struct solution *s, size_t i, size_t rows, size_t j, size_t columns, double *to)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++) to[c * rows + r] = s->u[(i + r) * s->n + j + c];
    return to;
}

static void solve_columns(void *ud, size_t index, double *scratch)
{
    const struct solution *s = ud;
    const struct kernels *k = &s->w->k;
    size_t n = s->n, ld = s->columns, columns = workers_least(SOLVE_COLUMNS, s->columns - index * SOLVE_COLUMNS);
    double *b = s->b + index * SOLVE_COLUMNS;
    for (size_t from = 0, to; from < n; from = to) {
        to = workers_least(from + BLOCK, n);
        solve_down(k, s->u + from * n + from, n, to - from, b + from * ld, ld, columns);
        if (to < n)
            k->outer_d(s->u + from * n + to, n, b + from * ld, ld, n - to, columns, to - from, -1, b + to * ld, ld);
    }
    for (size_t to = n, from; to > 0; to = from) {
        from = (to - 1) / BLOCK * BLOCK;
        solve_up(k, turned(s, from, to - from, from, to - from, scratch), to - from, to - from, b + from * ld, ld,
                 columns);
        for (size_t i = 0; i < from; i += BLOCK)
            k->outer_d(turned(s, i, BLOCK, from, to - from, scratch), BLOCK, b + from * ld, ld, BLOCK, columns,
                       to - from, -1, b + i * ld, ld);
    }
}

void workers_solve(struct workers *w, const double *u, size_t n, double *b, size_t columns)
{
    struct solution s = { .w = w, .u = u, .b = b, .n = n, .columns = columns };
    workers_share(w, workers_blocks(columns, SOLVE_COLUMNS), solve_columns, &s);
}
