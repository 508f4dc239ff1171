/* Threads and products. Work is cut into squares of the answer, so who computes a square moves no bit; what a
 * square is computed from is what kernels/kernels.h says of `outer`. */
#include "compress/workers_int.h"
#include "base/memory.h"
#include <stdatomic.h>

stretto_status workers_open(struct workers **out, unsigned threads, struct error *err)
{
    *out = NULL;
    struct workers *w = mem_zalloc(1, sizeof *w);
    if (!w) return fail(err, STRETTO_E_NOMEM, "no memory");
    stretto_status s = team_open(&w->team, err);
    if (s == STRETTO_OK) {
        w->threads = threads ? threads : team_size(w->team);
        s = team_grow(w->team, w->threads, err);
    }
    if (s == STRETTO_OK) {
        w->scratch = mem_zalloc(w->threads, sizeof *w->scratch * WORKERS_SCRATCH);
        if (!w->scratch) s = fail(err, STRETTO_E_NOMEM, "no memory for %u threads", w->threads);
    }
    if (s != STRETTO_OK) {
        workers_close(w);
        return s;
    }
    kernels_init(&w->k, cpu_detect());
    *out = w;
    return STRETTO_OK;
}

void workers_close(struct workers *w)
{
    if (!w) return;
    if (w->team) team_close(w->team);
    mem_free(w->scratch);
    mem_free(w);
}

unsigned workers_threads(const struct workers *w) { return w->threads; }

struct share {
    struct workers *w;
    size_t n;
    _Atomic size_t next;
    void (*fn)(void *ud, size_t i, double *scratch);
    void *ud;
};

static void take(void *arg, unsigned rank)
{
    struct share *s = arg;
    for (size_t i; (i = atomic_fetch_add(&s->next, 1)) < s->n;)
        s->fn(s->ud, i, s->w->scratch + (size_t)rank * WORKERS_SCRATCH);
}

void workers_share(struct workers *w, size_t n, void (*fn)(void *ud, size_t i, double *scratch), void *ud)
{
    struct share s = { .w = w, .n = n, .fn = fn, .ud = ud };
    if (n == 0) return;
    if (n == 1 || w->threads == 1)
        take(&s, 0);
    else
        team_run_some(w->team, w->threads, take, &s);
}

struct plain { void (*fn)(void *ud, size_t i); void *ud; };

static void call_plain(void *ud, size_t i, double *scratch)
{
    struct plain *p = ud;
    (void)scratch;
    p->fn(p->ud, i);
}

void workers_each(struct workers *w, size_t n, void (*fn)(void *ud, size_t i), void *ud)
{
    struct plain p = { fn, ud };
    workers_share(w, n, call_plain, &p);
}

/* ---- sums of outer products ----------------------------------------------------------------- */

enum { TILE_MOST = 192, TILE_LEAST = 48 };

struct outer {
    struct workers *w;
    const void *a, *b;
    void *c;
    size_t lda, ldb, ldc, m, n, t, tile, across;
    double by;
    int upper, wide;             /* wide: doubles */
};

static void outer_tile(void *ud, size_t index)
{
    const struct outer *o = ud;
    size_t i = index / o->across * o->tile, j = index % o->across * o->tile;
    size_t m = workers_least(o->tile, o->m - i), n = workers_least(o->tile, o->n - j);
    if (o->upper && j + n <= i) return;
    if (o->wide)
        o->w->k.outer_d((const double *)o->a + i, o->lda, (const double *)o->b + j, o->ldb, m, n, o->t, o->by,
                        (double *)o->c + i * o->ldc + j, o->ldc);
    else
        o->w->k.outer((const float *)o->a + i, o->lda, (const float *)o->b + j, o->ldb, m, n, o->t, (float)o->by,
                      (float *)o->c + i * o->ldc + j, o->ldc);
}

static void run_outer(struct outer *o)
{
    size_t down, enough = o->w->threads == 1 ? 1 : 6 * (size_t)o->w->threads;
    for (o->tile = TILE_MOST;; o->tile /= 2) {
        down = workers_blocks(o->m, o->tile);
        o->across = workers_blocks(o->n, o->tile);
        if (down * o->across >= enough || o->tile == TILE_LEAST) break;
    }
    workers_each(o->w, down * o->across, outer_tile, o);
}

void workers_outer(struct workers *w, const float *a, size_t lda, const float *b, size_t ldb, size_t m, size_t n,
                   size_t t, float by, float *c, size_t ldc, int upper)
{
    struct outer o = { .w = w, .a = a, .b = b, .c = c, .lda = lda, .ldb = ldb, .ldc = ldc, .m = m, .n = n,
                       .t = t, .by = (double)by, .upper = upper };
    run_outer(&o);
}

void workers_outer_d(struct workers *w, const double *a, size_t lda, const double *b, size_t ldb, size_t m, size_t n,
                     size_t t, double by, double *c, size_t ldc, int upper)
{
    struct outer o = { .w = w, .a = a, .b = b, .c = c, .lda = lda, .ldb = ldb, .ldc = ldc, .m = m, .n = n,
                       .t = t, .by = by, .upper = upper, .wide = 1 };
    run_outer(&o);
}

/* ---- linear layers -------------------------------------------------------------------------- */

enum { LINEAR_ROWS = 96, LINEAR_OUT = 128 };
_Static_assert((LINEAR_ROWS + LINEAR_OUT) * OUTER_RUN * sizeof(float) <= WORKERS_SCRATCH * sizeof(double),
               "both operands of a run fit the scratch memory");

struct linear {
    struct workers *w;
    const float *x, *weight;
    float *y;
    size_t rows, n_in, n_out, across;
};

/* [n][ld] from `from` on becomes [columns][n]. */
static void turn(const float *from, size_t ld, size_t n, size_t columns, float *to)
{
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < columns; i++) to[i * n + r] = from[r * ld + i];
}

static void linear_tile(void *ud, size_t index, double *scratch)
{
    const struct linear *l = ud;
    size_t r = index / l->across * LINEAR_ROWS, j = index % l->across * LINEAR_OUT;
    size_t rows = workers_least(LINEAR_ROWS, l->rows - r), n = workers_least(LINEAR_OUT, l->n_out - j);
    float *a = (float *)(void *)scratch, *b = a + LINEAR_ROWS * OUTER_RUN;
    float *y = l->y + r * l->n_out + j;
    for (size_t i = 0; i < rows; i++)
        for (size_t o = 0; o < n; o++) y[i * l->n_out + o] = 0;
    for (size_t k = 0; k < l->n_in; k += OUTER_RUN) {
        size_t t = workers_least(OUTER_RUN, l->n_in - k);
        turn(l->x + r * l->n_in + k, l->n_in, rows, t, a);
        turn(l->weight + j * l->n_in + k, l->n_in, n, t, b);
        l->w->k.outer(a, rows, b, n, rows, n, t, 1, y, l->n_out);
    }
}

void workers_linear(struct workers *w, const float *x, size_t rows, const float *weight, size_t n_in, size_t n_out,
                    float *y)
{
    struct linear l = { .w = w, .x = x, .weight = weight, .y = y, .rows = rows, .n_in = n_in, .n_out = n_out,
                        .across = workers_blocks(n_out, LINEAR_OUT) };
    workers_share(w, workers_blocks(rows, LINEAR_ROWS) * l.across, linear_tile, &l);
}
