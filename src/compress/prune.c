/* See prune.h. Scores and feedback are in float64, so that an independent implementation in float64 picks the same
 * weights (tests/compress/prune_oracle.py, from the papers). */
#include "compress/prune.h"
#include "base/memory.h"
#include "compress/gram.h"
#include "compress/solve.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 128, ROWS_EACH = 16 };

struct prune {
    struct workers *w;
    struct prune_options o;
    uint32_t n_in;
    double *norm; /* [n_in] of the inputs; all one without statistics                     */
    double *u;    /* [n_in][n_in]                                                         */
};

void prune_defaults(struct prune_options *o)
{
    *o = (struct prune_options){ .score = PRUNE_SPARSEGPT, .sparsity = 0.5, .damp = 0.01 };
}

bool prune_share(const char *text, double *share)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text) return false;
    if (*end == '%') { v /= 100; end++; }
    if (*end || !(v >= 0 && v < 1)) return false;
    *share = v;
    return true;
}

bool prune_pattern(const char *text, unsigned *keep, unsigned *of)
{
    char *end, *last;
    unsigned long n = strtoul(text, &end, 10);
    if (end == text || *end != ':') return false;
    unsigned long m = strtoul(end + 1, &last, 10);
    if (last == end + 1 || *last || !(n >= 1 && n < m && m <= 64)) return false;
    *keep = (unsigned)n;
    *of = (unsigned)m;
    return true;
}

bool prune_score_find(const char *name, enum prune_score *out)
{
    static const char *const names[] = { "magnitude", "wanda", "sparsegpt" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i])) {
            *out = (enum prune_score)i;
            return true;
        }
    return false;
}

static stretto_status check(const struct prune_options *o, const struct input_stats *s, uint32_t n_in,
                            struct error *err)
{
    if (!(o->sparsity >= 0 && o->sparsity < 1))
        return fail(err, STRETTO_E_ARG, "a share of zeros of %g is not below 1", o->sparsity);
    if (o->of && (o->keep == 0 || o->keep >= o->of || n_in % o->of || COLUMNS % o->of))
        return fail(err, STRETTO_E_ARG, "%u of %u neighbours cannot stay in rows of %u: use a pattern that divides "
                    "them and %d, as 2:4", o->keep, o->of, n_in, COLUMNS);
    if ((o->tile_rows == 0) != (o->tile_columns == 0) || (o->tile_rows && o->of))
        return fail(err, STRETTO_E_ARG, "zeros come as tiles or by a pattern");
    if (o->tile_columns && (n_in % o->tile_columns || COLUMNS % o->tile_columns))
        return fail(err, STRETTO_E_ARG, "tiles of %u columns do not fit rows of %u", o->tile_columns, n_in);
    if (o->score == PRUNE_MAGNITUDE) return STRETTO_OK;
    if (!s || s->n != n_in || (o->score == PRUNE_SPARSEGPT && !s->gram))
        return fail(err, STRETTO_E_ARG, "this way of choosing weights needs what calibration knows of their inputs");
    return STRETTO_OK;
}

static stretto_status root_of(struct prune *p, const struct input_stats *s, struct error *err)
{
    struct input_stats shrunk = *s;
    double a = gram_share(p->o.shrink, s->n, s->rows);
    if (!(a > 0)) return solve_inverse_root(&p->u, p->w, s, p->o.damp, err);
    shrunk.gram = mem_alloc((size_t)s->n * s->n * sizeof *shrunk.gram);
    if (!shrunk.gram) return fail(err, STRETTO_E_NOMEM, "no memory to prune a layer");
    stretto_status st = gram_shrink(p->w, s->gram, s->n, a, shrunk.gram, err);
    if (st == STRETTO_OK) st = solve_inverse_root(&p->u, p->w, &shrunk, p->o.damp, err);
    mem_free(shrunk.gram);
    return st;
}

stretto_status prune_open(struct prune **out, struct workers *w, const struct input_stats *s, uint32_t n_in,
                          const struct prune_options *o, struct error *err)
{
    *out = NULL;
    TRY(check(o, s, n_in, err));
    struct prune *p = mem_zalloc(1, sizeof *p);
    if (p) *p = (struct prune){ .w = w, .o = *o, .n_in = n_in, .norm = mem_alloc(n_in * sizeof *p->norm) };
    if (!p || !p->norm) {
        prune_close(p);
        return fail(err, STRETTO_E_NOMEM, "no memory to prune a layer");
    }
    if (!(p->o.damp > 0)) p->o.damp = 0.01;
    for (uint32_t j = 0; j < n_in; j++) p->norm[j] = o->score == PRUNE_WANDA ? sqrt(s->sum2[j]) : 1;
    *out = p;
    if (o->score != PRUNE_SPARSEGPT) return STRETTO_OK;
    stretto_status st = root_of(p, s, err);
    if (st == STRETTO_OK) return st;
    prune_close(p);
    *out = NULL;
    return st;
}

void prune_close(struct prune *p)
{
    if (!p) return;
    mem_free(p->norm);
    mem_free(p->u);
    mem_free(p);
}

/* The k-th smallest of n, k from 0; the order of `a` is lost. */
static double nth(double *a, size_t n, size_t k)
{
    size_t from = 0, to = n;
    while (to - from > 1) {
        double pivot = a[from + (to - from) / 2];
        size_t less = from, more = to, i = from;    /* [from,less) below, [less,i) equal, [more,to) above */
        while (i < more) {
            double v = a[i];
            if (v < pivot) { a[i++] = a[less]; a[less++] = v; }
            else if (v > pivot) { a[i] = a[--more]; a[more] = v; }
            else i++;
        }
        if (k < less) to = less;
        else if (k < more) return pivot;
        else from = more;
    }
    return a[from];
}

/* Marks the k smallest of n scores, the first of equal ones; `spare` as long as them. */
static void mark_smallest(const double *score, size_t n, size_t k, double *spare, unsigned char *mark)
{
    memset(mark, 0, n);
    if (k == 0) return;
    memcpy(spare, score, n * sizeof *spare);
    double most = nth(spare, n, k - 1);
    for (size_t i = 0; i < n; i++)
        if (score[i] < most) { mark[i] = 1; k--; }
    for (size_t i = 0; i < n && k; i++)
        if (score[i] == most) { mark[i] = 1; k--; }
}

static size_t share_of(double share, size_t n) { return (size_t)floor(share * (double)n + 1e-9); }

/* One weight on its way. Scores of columns [at, at + count) of all rows are written row by row. */
struct work {
    const struct prune *p;
    float *weight;
    double *x;       /* [rows][n_in] sparsegpt: weights as feedback leaves them             */
    double *err;     /* [COLUMNS][rows]                                                     */
    double *score, *spare;
    unsigned char *mark;
    size_t rows, at, count, bad; /* bad: a row with a number that is none, or rows           */
};

static double score_of(const struct prune *p, double w, size_t j)
{
    if (!p->u) return fabs(w) * p->norm[j];
    double d = p->u[j * p->n_in + j];
    return d > 0 ? w * w / (d * d) : 0;
}

static void score_rows(void *ud, size_t chunk)
{
    struct work *k = ud;
    size_t end = (chunk + 1) * ROWS_EACH < k->rows ? (chunk + 1) * ROWS_EACH : k->rows;
    for (size_t r = chunk * ROWS_EACH; r < end; r++)
        for (size_t i = 0, n = k->p->n_in; i < k->count; i++) {
            size_t j = k->at + i;
            double w = k->x ? k->x[r * n + j] : (double)k->weight[r * n + j];
            k->score[r * k->count + i] = score_of(k->p, w, j);
        }
}

static void each_chunk(struct work *k, void (*fn)(void *, size_t))
{
    workers_each(k->p->w, (k->rows + ROWS_EACH - 1) / ROWS_EACH, fn, k);
}

/* Tiles are judged by the sum of their weights' scores, squared where a score is a length. */
static void mark_tiles(struct work *k)
{
    const struct prune_options *o = &k->p->o;
    size_t across = k->count / o->tile_columns, down = (k->rows + o->tile_rows - 1) / o->tile_rows;
    double *sum = k->spare, *spare = k->spare + across * down;
    unsigned char *mark = k->mark + k->rows * k->count;
    memset(sum, 0, across * down * sizeof *sum);
    for (size_t r = 0; r < k->rows; r++)
        for (size_t i = 0; i < k->count; i++) {
            double s = k->score[r * k->count + i];
            sum[r / o->tile_rows * across + i / o->tile_columns] += k->p->u ? s : s * s;
        }
    mark_smallest(sum, across * down, share_of(o->sparsity, across * down), spare, mark);
    for (size_t r = 0; r < k->rows; r++)
        for (size_t i = 0; i < k->count; i++)
            k->mark[r * k->count + i] = mark[r / o->tile_rows * across + i / o->tile_columns];
}

/* Of n neighbours, marks all but the `keep` with the largest scores; the first of equal ones go. */
static void mark_group(const double *score, unsigned n, unsigned keep, unsigned char *mark)
{
    double spare[COLUMNS];
    mark_smallest(score, n, n - keep, spare, mark);
}

static void mark_row(void *ud, size_t chunk)
{
    struct work *k = ud;
    const struct prune_options *o = &k->p->o;
    size_t end = (chunk + 1) * ROWS_EACH < k->rows ? (chunk + 1) * ROWS_EACH : k->rows;
    for (size_t r = chunk * ROWS_EACH; r < end; r++) {
        const double *score = k->score + r * k->count;
        unsigned char *mark = k->mark + r * k->count;
        if (!o->of)
            mark_smallest(score, k->count, share_of(o->sparsity, k->count), k->spare + r * k->count, mark);
        for (size_t i = 0; o->of && i < k->count; i += o->of) mark_group(score + i, o->of, o->keep, mark + i);
    }
}

static void zero_marked(struct work *k)
{
    for (size_t i = 0; i < k->rows * k->count; i++)
        if (k->mark[i]) k->weight[i] = 0;
}

static void mark_all(struct work *k)
{
    const struct prune_options *o = &k->p->o;
    size_t n = k->rows * k->count;
    if (o->tile_rows) mark_tiles(k);
    else if (o->of || o->score == PRUNE_WANDA) each_chunk(k, mark_row);
    else mark_smallest(k->score, n, share_of(o->sparsity, n), k->spare, k->mark);
}

/* The columns of a block from left to right: a marked weight becomes zero, and the ones behind it in the block take
 * over what it did for the inputs it goes along with. */
static void feed_rows(void *ud, size_t chunk)
{
    struct work *k = ud;
    const struct prune *p = k->p;
    size_t n = p->n_in, end = (chunk + 1) * ROWS_EACH < k->rows ? (chunk + 1) * ROWS_EACH : k->rows;
    for (size_t r = chunk * ROWS_EACH; r < end; r++) {
        double *x = k->x + r * n + k->at;
        unsigned char *mark = k->mark + r * k->count;
        for (size_t i = 0; i < k->count; i++) {
            const double *u = p->u + (k->at + i) * n + k->at;
            if (p->o.of && i % p->o.of == 0) {
                double score[COLUMNS];
                for (unsigned j = 0; j < p->o.of; j++) score[j] = score_of(p, x[i + j], k->at + i + j);
                mark_group(score, p->o.of, p->o.keep, mark + i);
            }
            double e = mark[i] ? x[i] / u[i] : 0;
            k->err[i * k->rows + r] = e;
            if (!mark[i]) continue;
            x[i] = 0;
            for (size_t j = i + 1; j < k->count; j++) x[j] -= e * u[j];
        }
    }
}

static void sparsegpt(struct work *k)
{
    size_t n = k->p->n_in;
    for (size_t i = 0; i < k->rows * n; i++) k->x[i] = (double)k->weight[i];
    for (k->at = 0; k->at < n; k->at += k->count) {
        k->count = n - k->at < COLUMNS ? n - k->at : COLUMNS;
        if (!k->p->o.of) {
            each_chunk(k, score_rows);
            mark_all(k);
        }
        each_chunk(k, feed_rows);
        size_t behind = k->at + k->count;
        if (behind < n)
            workers_outer_d(k->p->w, k->err, k->rows, k->p->u + k->at * n + behind, n, k->rows, n - behind, k->count,
                            -1, k->x + behind, n, 0);
    }
    for (size_t i = 0; i < k->rows * n; i++) k->weight[i] = (float)k->x[i];
}

static void check_rows(void *ud, size_t r)
{
    struct work *k = ud;
    for (size_t j = 0; j < k->p->n_in; j++)
        if (!isfinite(k->weight[r * k->p->n_in + j])) k->mark[r] = 1;
}

static stretto_status run(struct work *k, struct error *err)
{
    memset(k->mark, 0, k->rows);
    workers_each(k->p->w, k->rows, check_rows, k);
    for (size_t r = 0; r < k->rows; r++)
        if (k->mark[r]) return fail(err, STRETTO_E_FORMAT, "row %zu has a weight that is no finite number", r);
    if (k->p->u) {
        sparsegpt(k);
        return STRETTO_OK;
    }
    k->at = 0;
    k->count = k->p->n_in;
    each_chunk(k, score_rows);
    mark_all(k);
    zero_marked(k);
    return STRETTO_OK;
}

stretto_status prune_rows(const struct prune *p, float *weight, size_t rows, struct prune_report *report,
                          struct error *err)
{
    size_t n = rows * p->n_in, wide = p->u ? rows * COLUMNS : n;
    struct work k = { .p = p, .weight = weight, .rows = rows,
                      .x = p->u ? mem_alloc(n * sizeof *k.x) : NULL,
                      .err = p->u ? mem_alloc(wide * sizeof *k.err) : NULL,
                      .score = mem_alloc(wide * sizeof *k.score), .spare = mem_alloc(2 * wide * sizeof *k.spare),
                      .mark = mem_alloc(2 * wide) };
    stretto_status st = (p->u && (!k.x || !k.err)) || !k.score || !k.spare || !k.mark
                            ? fail(err, STRETTO_E_NOMEM, "no memory to prune a weight of %zu numbers", n)
                            : run(&k, err);
    if (st == STRETTO_OK && report) {
        report->weights += n;
        for (size_t i = 0; i < n; i++) report->zeros += weight[i] == 0;
    }
    mem_free(k.x);
    mem_free(k.err);
    mem_free(k.score);
    mem_free(k.spare);
    mem_free(k.mark);
    return st;
}
