#include "compress/fold_scales.h"
#include "base/memory.h"
#include <math.h>
#include <string.h>

enum {
    SAMPLE = 64,            /* rows of a reader that are tried                                   */
    FACTOR_MOST = 2048,     /* wider inputs are tried with a weighted search: a factor costs their cube */
    MOST_SHIFT = 10
};

/* ---- how large channels are ------------------------------------------------------------------ */

static float power_of_two(double v)
{
    double e = rint(log2(v));
    return (float)ldexp(1, (int)fmax(-MOST_SHIFT, fmin(MOST_SHIFT, e)));
}

/* size^a about their geometric mean; channels without a size stay as they are. */
static void factors(const double *size, size_t n, double a, float *s)
{
    double sum = 0, known = 0;
    for (size_t i = 0; i < n; i++)
        if (size[i] > 0) {
            sum += log2(size[i]);
            known++;
        }
    for (size_t i = 0; i < n; i++) s[i] = size[i] > 0 ? power_of_two(exp2(a * (log2(size[i]) - sum / known))) : 1;
}

/* Root mean squares, or largest magnitudes; of columns that share a factor, the largest. */
static void sizes_of_input(const struct fold_choice *c, bool largest, double *size)
{
    memset(size, 0, c->place->channels * sizeof *size);
    for (uint32_t i = 0; i < c->place->width; i++) {
        double *to = &size[place_channel(c->place, i)];
        *to = fmax(*to, largest ? (double)c->stats->most[i] : sqrt(c->stats->sum2[i] / (double)c->stats->rows));
    }
}

static void largest_weights(const struct fold_choice *c, double *most)
{
    uint32_t width = c->place->width;
    memset(most, 0, c->place->channels * sizeof *most);
    for (size_t k = 0; k < c->n_readers; k++)
        for (size_t r = 0; r < c->reader[k].rows; r++)
            for (uint32_t i = 0; i < width; i++) {
                double *to = &most[place_channel(c->place, i)];
                *to = fmax(*to, fabs((double)c->reader[k].weight[r * width + i]));
            }
}

/* x^share / |w|^(1 - share). */
static void smooth(const struct fold_choice *c, double *size, double *weight, float *s)
{
    double share = c->method == FOLD_STATIC ? 0.75 : 0.5;
    size_t n = c->place->channels;
    largest_weights(c, weight);
    for (size_t i = 0; i < n; i++) size[i] = weight[i] > 0 ? pow(size[i], share) / pow(weight[i], 1 - share) : 0;
    factors(size, n, 1, s);
}

/* ---- trials ---------------------------------------------------------------------------------- */

struct trial {
    const struct fold_choice *c;
    size_t n;                   /* columns                                                       */
    size_t rows[PLACE_READERS]; /* tried of each reader; 0: it gets no codes                     */
    float *weight;              /* [readers][SAMPLE][n]                                          */
    float *scaled, *error, *answer;     /* [SAMPLE][n]                                           */
    float *column;              /* [n] its factor                                                */
    unsigned char *blocks;
    struct input_stats stats;   /* of the value once it is divided                               */
};

static void trial_close(struct trial *t)
{
    mem_free(t->weight);
    mem_free(t->scaled);
    mem_free(t->column);
    mem_free(t->blocks);
    mem_free(t->stats.sum);
    mem_free(t->stats.most);
    mem_free(t->stats.gram);
}

static stretto_status trial_open(struct trial *t, const struct fold_choice *c, struct error *err)
{
    size_t n = c->place->width, codes = 0;
    *t = (struct trial){ .c = c, .n = n, .stats = { .n = c->stats->n, .rows = c->stats->rows } };
    for (size_t k = 0; k < c->n_readers; k++) {
        const struct fold_reader *r = &c->reader[k];
        bool fits = dtype_table[r->to].block > 1 && n % dtype_table[r->to].block == 0;
        t->rows[k] = !fits ? 0 : r->rows < SAMPLE ? r->rows : SAMPLE;
        if (fits && dtype_bytes(r->to, n) > codes) codes = dtype_bytes(r->to, n);
    }
    t->weight = mem_alloc(c->n_readers * SAMPLE * n * sizeof *t->weight);
    t->scaled = mem_alloc(3 * SAMPLE * n * sizeof *t->scaled);
    t->column = mem_alloc(n * sizeof *t->column);
    t->blocks = mem_alloc(SAMPLE * codes + 1);
    t->stats.sum = mem_alloc(2 * n * sizeof *t->stats.sum);
    t->stats.most = mem_alloc(n * sizeof *t->stats.most);
    t->stats.gram = mem_alloc(n * n * sizeof *t->stats.gram);
    if (!t->weight || !t->scaled || !t->column || !t->blocks || !t->stats.sum || !t->stats.most || !t->stats.gram) {
        trial_close(t);
        return fail(err, STRETTO_E_NOMEM, "no memory to try factors of %zu channels", n);
    }
    t->error = t->scaled + SAMPLE * n;
    t->answer = t->error + SAMPLE * n;
    t->stats.sum2 = t->stats.sum + n;
    for (size_t k = 0; k < c->n_readers; k++)
        for (size_t i = 0; i < t->rows[k]; i++)
            memcpy(t->weight + (k * SAMPLE + i) * n, c->reader[k].weight + i * c->reader[k].rows / t->rows[k] * n,
                   n * sizeof *t->weight);
    return STRETTO_OK;
}

static void divide_stats(struct trial *t)
{
    const struct input_stats *from = t->c->stats;
    for (size_t i = 0; i < t->n; i++) {
        double by = 1 / (double)t->column[i];
        t->stats.sum[i] = from->sum[i] * by;
        t->stats.sum2[i] = from->sum2[i] * by * by;
        t->stats.most[i] = from->most[i] * (float)by;
        for (size_t j = 0; j < t->n; j++)
            t->stats.gram[i * t->n + j] = from->gram[i * t->n + j] / (t->column[i] * t->column[j]);
    }
}

/* The sum of x G x^T over the rows. */
static double energy(const struct trial *t, const float *x, size_t rows)
{
    double sum = 0;
    workers_linear(t->c->workers, x, rows, t->stats.gram, t->n, t->n, t->answer);
    for (size_t i = 0; i < rows * t->n; i++) sum += (double)x[i] * (double)t->answer[i];
    return sum;
}

static stretto_status try_reader(struct trial *t, size_t k, struct metric *m, double *lost, struct error *err)
{
    size_t n = t->n, rows = t->rows[k];
    enum dtype to = t->c->reader[k].to;
    for (size_t i = 0; i < rows * n; i++) t->scaled[i] = t->weight[k * SAMPLE * n + i] * t->column[i % n];
    TRY(feedback_encode(t->c->workers, m, to, t->scaled, rows, t->blocks, NULL, err));
    dtype_table[to].decode(t->blocks, t->error, rows * n);
    for (size_t i = 0; i < rows * n; i++) t->error[i] -= t->scaled[i];
    double whole = energy(t, t->scaled, rows);
    if (whole > 0) *lost += energy(t, t->error, rows) / whole;
    return STRETTO_OK;
}

static stretto_status try_factors(struct trial *t, const float *s, double *lost, struct error *err)
{
    const struct fold_choice *c = t->c;
    struct feedback_options how = *c->how;
    struct metric *m = NULL;
    if (t->n > FACTOR_MOST && how.method == ENCODE_FEEDBACK) how.method = ENCODE_SEARCH;
    for (size_t i = 0; i < t->n; i++) t->column[i] = s[place_channel(c->place, (uint32_t)i)];
    divide_stats(t);
    *lost = 0;
    stretto_status st = metric_open(&m, c->workers, &t->stats, (uint32_t)t->n, &how, err);
    for (size_t k = 0; k < c->n_readers && st == STRETTO_OK; k++)
        if (t->rows[k]) st = try_reader(t, k, m, lost, err);
    metric_close(m);
    return st;
}

/* ---- the choice ------------------------------------------------------------------------------ */

/* s is all ones. */
static stretto_status search(struct trial *t, const double *size, float *s, float *tried, struct fold_gain *out,
                             struct error *err)
{
    static const double exponents[] = { 0.125, 0.25, 0.375, 0.5, 0.75, 1 };
    size_t n = t->c->place->channels;
    double lost;
    TRY(try_factors(t, s, &out->before, err));
    out->after = out->before;
    for (size_t k = 0; k < sizeof exponents / sizeof *exponents; k++) {
        factors(size, n, exponents[k], tried);
        TRY(try_factors(t, tried, &lost, err));
        if (lost > 1.25 * out->before) break;           /* it rises on */
        if (!(lost < out->after)) continue;
        out->after = lost;
        memcpy(s, tried, n * sizeof *s);
    }
    return STRETTO_OK;
}

static stretto_status choose(const struct fold_choice *c, double *size, float *s, float *tried, struct fold_gain *out,
                             struct error *err)
{
    struct trial t;
    TRY(trial_open(&t, c, err));
    bool any = false;
    for (size_t k = 0; k < c->n_readers; k++) any = any || t.rows[k];
    stretto_status st = any ? search(&t, size, s, tried, out, err) : STRETTO_OK;
    trial_close(&t);
    return st;
}

stretto_status fold_scales(const struct fold_choice *c, float *s, struct fold_gain *out, struct error *err)
{
    size_t n = c->place->channels;
    *out = (struct fold_gain){ 0, 0 };
    double *size = mem_alloc(2 * n * sizeof *size);
    float *tried = mem_alloc(n * sizeof *tried);
    stretto_status st = size && tried ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "no memory for %zu factors", n);
    for (size_t i = 0; i < n; i++) s[i] = 1;
    if (st == STRETTO_OK) sizes_of_input(c, c->method == FOLD_STATIC, size);
    if (st == STRETTO_OK && c->method == FOLD_AWQ) st = choose(c, size, s, tried, out, err);
    else if (st == STRETTO_OK) smooth(c, size, size + n, s);
    mem_free(size);
    mem_free(tried);
    return st;
}
