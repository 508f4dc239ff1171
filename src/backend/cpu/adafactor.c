/* Adafactor (Shazeer and Stern 2018, arXiv 1804.04235, algorithms 4 and 5) without momentum: of a matrix it remembers
 * the means of squared gradients by row and by column, of a vector the squares themselves.
 *
 *   g' = g scale;  b = 1 - t^-0.8;  s = g'^2 + 1e-30
 *   rows[o] = b rows[o] + (1 - b) mean_i s;  columns[i] = b columns[i] + (1 - b) mean_o s
 *   u = g' / sqrt(rows[o] columns[i] / mean rows);  of a vector: v = b v + (1 - b) s, u = g' / sqrt(v)
 *   u = u / max(1, rms u);  w = w - lr decay w;  w = w - lr u
 *
 * The rate is the training's own and not times the size of what it changes: an adapter begins at zero. Sums are in
 * double: a row's over 16 rows side by side, inputs ascending; a column's in 16 lanes, of rows o, o + 16 ..., then
 * lanes ascending; those of u by runs. One thread makes each, so nothing depends on how many there are. */
#include "backend/cpu/masters.h"
#include <math.h>

enum { ROWS = PANEL_COLS, COLUMNS = 64 };

static size_t ceil_div(size_t n, size_t by) { return (n + by - 1) / by; }

static double beta_of(const struct param_step *s) { return 1 - pow((double)s->number, -0.8); }

static bool is_matrix(const struct weight *w) { return w->elements && !w->vector; }

/* ---- means of rows and columns ----------------------------------------------------------------------------------- */

struct means { struct weights *w; double beta; float scale; atomic_size_t ticket; };

static double squared(float gradient, float scale)
{
    double g = (double)(gradient * scale);
    return g * g + 1e-30;
}

static void mean_rows(const struct means *m, const struct weight *w, size_t from)
{
    double sum[ROWS] = { 0 };
    float *rows = w->state[0];
    const float *g = w->part[PARAM_GRADIENT];
    size_t n = w->n_out - from < ROWS ? w->n_out - from : ROWS;
    for (size_t i = 0; i < w->n_in; i++)
        for (size_t c = 0; c < n; c++) sum[c] += squared(g[master_at(w, from + c, i)], m->scale);
    for (size_t c = 0; c < n; c++)
        rows[from + c] = (float)(m->beta * (double)rows[from + c] + (1 - m->beta) * sum[c] / w->n_in);
}

static void mean_columns(const struct means *m, const struct weight *w, size_t from)
{
    double lane[COLUMNS][ROWS] = { 0 };
    float *columns = w->state[1];
    const float *g = w->part[PARAM_GRADIENT];
    size_t n = w->n_in - from < COLUMNS ? w->n_in - from : COLUMNS;
    for (size_t first = 0; first < w->n_out; first += ROWS) {
        size_t rows = w->n_out - first < ROWS ? w->n_out - first : ROWS;
        for (size_t i = 0; i < n; i++)
            for (size_t c = 0; c < rows; c++) lane[i][c] += squared(g[master_at(w, first + c, from + i)], m->scale);
    }
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t c = 0; c < ROWS; c++) sum += lane[i][c];
        columns[from + i] = (float)(m->beta * (double)columns[from + i] + (1 - m->beta) * sum / w->n_out);
    }
}

static size_t units_of(const struct weight *w)
{
    return is_matrix(w) ? ceil_div(w->n_out, ROWS) + ceil_div(w->n_in, COLUMNS) : 0;
}

static void means_thread(void *arg, unsigned rank)
{
    struct means *m = arg;
    size_t param = 0, before = 0;
    (void)rank;
    for (;;) {
        size_t i = atomic_fetch_add(&m->ticket, 1);
        for (size_t n; param < m->w->n && i >= before + (n = units_of(&m->w->weight[param])); param++) before += n;
        if (param == m->w->n) return;
        const struct weight *w = &m->w->weight[param];
        size_t unit = i - before, rows = ceil_div(w->n_out, ROWS);
        if (unit < rows) mean_rows(m, w, unit * ROWS);
        else mean_columns(m, w, (unit - rows) * COLUMNS);
    }
}

/* 1 / mean of a matrix's rows. */
static double whole_of(const struct weight *w)
{
    const float *rows = w->state[0];
    double sum = 0;
    for (size_t o = 0; o < w->n_out; o++) sum += (double)rows[o];
    return w->n_out / sum;
}

/* ---- steps ------------------------------------------------------------------------------------------------------- */

/* The factors behind the means: 1 / mean rows, and 1 / max(1, rms u). */
static double *to_whole(const struct weights *w, const struct weight *x) { return &w->factor[x - w->weight]; }
static double *to_clip(const struct weights *w, const struct weight *x) { return to_whole(w, x) + w->n; }

static float divided(float g, float v) { return v > 0 ? g / sqrtf(v) : 0; }

/* Of lines of a panel: 16 rows of one column each. */
static void wanted_panel(const struct weight *w, const float *g, float scale, float whole, size_t at, size_t n,
                         float *u)
{
    const float *rows = w->state[0], *columns = w->state[1];
    size_t line = at / PANEL_COLS, panel = line / w->n_in, in = line % w->n_in;
    float row[PANEL_COLS] = { 0 };
    for (size_t k = 0; k < n; k += PANEL_COLS, in++) {
        if (in == w->n_in) panel++, in = 0;
        for (size_t c = 0; c < PANEL_COLS && (!k || !in); c++) {
            size_t o = panel * PANEL_COLS + c;
            row[c] = o < w->n_out ? rows[o] * whole : 0;
        }
        for (size_t c = 0; c < PANEL_COLS; c++) u[k + c] = divided(g[k + c] * scale, row[c] * columns[in]);
    }
}

static void wanted_table(const struct weight *w, const float *g, float scale, float whole, size_t at, size_t n,
                         float *u)
{
    const float *rows = w->state[0], *columns = w->state[1];
    for (size_t k = 0, o = at / w->n_in, in = at % w->n_in; k < n; k++, in++) {
        if (in == w->n_in) o++, in = 0;
        u[k] = divided(g[k] * scale, rows[o] * whole * columns[in]);
    }
}

/* What each element of a run would be moved by at rate 1, before u is made shorter. */
static void wanted(const struct pass *x, const struct weight *w, size_t at, size_t n, float u[MASTER_RUN])
{
    const float *g = w->part[PARAM_GRADIENT] + at, *v = w->state[0];
    float scale = x->step->scale, whole = (float)*to_whole(x->w, w);
    if (!w->vector && weight_in_panels(w)) wanted_panel(w, g, scale, whole, at, n, u);
    else if (!w->vector) wanted_table(w, g, scale, whole, at, n, u);
    else for (size_t k = 0; k < n; k++) u[k] = divided(g[k] * scale, v[at + k]);
}

static void measure(const struct pass *x, const struct weight *w, size_t at, size_t n, double *out)
{
    float u[MASTER_RUN], *v = w->state[0];
    double beta = beta_of(x->step);
    for (size_t i = at; w->vector && i < at + n; i++)
        v[i] = (float)(beta * (double)v[i] + (1 - beta) * squared(w->part[PARAM_GRADIENT][i], x->step->scale));
    wanted(x, w, at, n, u);
    *out = 0;
    for (size_t k = 0; k < n; k++) *out += (double)u[k] * (double)u[k];
}

static void change(const struct pass *x, const struct weight *w, size_t at, size_t n, double *out)
{
    float u[MASTER_RUN], *master = w->part[PARAM_MASTER] + at;
    float keep = w->vector ? 1 : 1 - x->step->lr * x->step->decay, rate = x->step->lr * (float)*to_clip(x->w, w);
    (void)out;
    wanted(x, w, at, n, u);
    for (size_t k = 0; k < n; k++) master[k] = master[k] * keep - rate * u[k];
    master_changed(x, w, at, n);
}

void adafactor_update(struct weights *w, struct pass *x)
{
    struct means m = { .w = w, .beta = beta_of(x->step), .scale = x->step->scale };
    team_run_some(w->device->team, team_size(w->device->team), means_thread, &m);
    for (size_t i = 0; i < w->n; i++)
        if (is_matrix(&w->weight[i])) *to_whole(w, &w->weight[i]) = whole_of(&w->weight[i]);
    x->run = measure;
    pass(x);
    masters_sums(w, w->factor + w->n);
    for (size_t i = 0; i < w->n; i++) {
        double *clip = to_clip(w, &w->weight[i]), n = (double)w->weight[i].n_in * w->weight[i].n_out;
        *clip = *clip > n ? sqrt(n / *clip) : 1;
    }
    x->run = change;
    pass(x);
}
