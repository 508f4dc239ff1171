/* What is trained: masters, gradients and moments, as the kernels read and write them, given out and taken in row
 * after row; and the optimizer, one pass over all of them by the team. */
#include "backend/cpu/cpu.h"
#include "base/memory.h"
#include <math.h>
#include <string.h>

enum { RUN = 4096 };

size_t master_runs(size_t elements) { return (elements + RUN - 1) / RUN; }

/* ---- passes over everything -------------------------------------------------------------------------------------- */

struct pass {
    struct weights *w;
    void (*run)(const struct pass *x, const struct weight *w, size_t at, size_t n, double *square);
    struct adamw_step matrix, vector;
    atomic_size_t ticket;
};

enum { RUNS_AT_ONCE = 16 };

static void pass_thread(void *arg, unsigned rank)
{
    struct pass *x = arg;
    size_t param = 0, before = 0;
    (void)rank;
    for (;;) {
        size_t i = atomic_fetch_add(&x->ticket, RUNS_AT_ONCE), end = i + RUNS_AT_ONCE;
        for (; i < end; i++) {
            while (param < x->w->n && i >= before + master_runs(x->w->weight[param].elements))
                before += master_runs(x->w->weight[param++].elements);
            if (param == x->w->n) return;
            const struct weight *w = &x->w->weight[param];
            size_t at = (i - before) * RUN, left = w->elements - at;
            x->run(x, w, at, left < RUN ? left : RUN, &x->w->squares[i]);
        }
    }
}

static void pass(struct pass *x) { team_run_some(x->w->device->team, team_size(x->w->device->team), pass_thread, x); }

/* Which of a panel's outputs are rows that were looked up, as bits. */
static uint32_t looked_up(const struct weight *w, size_t panel)
{
    uint32_t bits = 0;
    for (size_t c = 0, o = panel * PANEL_COLS; c < PANEL_COLS && o < w->n_out; c++, o++)
        bits |= (uint32_t)(w->looked_up[o] != 0) << c;
    return bits;
}

/* The gradient is the whole of it from here on. Elements are whole lines of 16 outputs of one input. */
static void fold(const struct pass *x, const struct weight *w, size_t at, size_t n, double *square)
{
    (void)x; (void)square;
    if (!w->lookups) return;
    size_t panel = at / PANEL_COLS / w->n_in, in = at / PANEL_COLS % w->n_in;
    uint32_t rows = looked_up(w, panel);
    for (size_t i = at; i < at + n; i += PANEL_COLS, in++) {
        if (in == w->n_in) rows = looked_up(w, ++panel), in = 0;
        for (size_t c = 0; rows >> c; c++) {
            if (!(rows >> c & 1)) continue;
            float *of = w->lookups + (panel * PANEL_COLS + c) * w->n_in + in;
            w->part[PARAM_GRADIENT][i + c] += *of;
            *of = 0;
        }
    }
}

/* All that was looked up has been added. */
static void forget_lookups(const struct weight *w)
{
    if (w->lookups) memset(w->looked_up, 0, w->n_out);
}

static void fold_all(const struct weights *w)
{
    pass(&(struct pass){ .w = (struct weights *)(uintptr_t)w, .run = fold });
    for (size_t i = 0; i < w->n; i++) forget_lookups(&w->weight[i]);
}

static void clear(const struct pass *x, const struct weight *w, size_t at, size_t n, double *square)
{
    (void)x; (void)square;
    memset(w->part[PARAM_GRADIENT] + at, 0, n * sizeof(float));
}

void cpu_param_clear(struct weights *w)
{
    fold_all(w);
    pass(&(struct pass){ .w = w, .run = clear });
}

static void square(const struct pass *x, const struct weight *w, size_t at, size_t n, double *out)
{
    *out = x->w->kernels->square_sum(w->part[PARAM_GRADIENT] + at, n);
}

void cpu_param_norms(const struct weights *of, double *squares)
{
    struct weights *w = (struct weights *)(uintptr_t)of;
    fold_all(w);
    pass(&(struct pass){ .w = w, .run = square });
    for (size_t i = 0, run = 0; i < w->n; i++) {
        squares[i] = 0;
        for (size_t k = 0; k < master_runs(w->weight[i].elements); k++) squares[i] += w->squares[run++];
    }
}

static void update(const struct pass *x, const struct weight *w, size_t at, size_t n, double *out)
{
    (void)out;
    x->w->kernels->adamw(w->part[PARAM_MASTER] + at, w->part[PARAM_MOMENT1] + at, w->part[PARAM_MOMENT2] + at,
                         w->part[PARAM_GRADIENT] + at, n, w->vector ? &x->vector : &x->matrix);
}

void cpu_param_update(struct weights *w, const struct param_step *s)
{
    fold_all(w);
    pass(&(struct pass){
        .w = w, .run = update,
        .matrix = adamw_step(s->lr, s->beta1, s->beta2, s->eps, s->decay, s->scale, s->number),
        .vector = adamw_step(s->lr, s->beta1, s->beta2, s->eps, 0, s->scale, s->number) });
}

/* ---- in and out ------------------------------------------------------------------------------------------------ */

static stretto_status copy(const struct weights *all, uint32_t param, enum param_part part, float *values, bool in,
                           struct error *err)
{
    if (param >= all->n || !all->weight[param].elements)
        return fail(err, STRETTO_E_ARG, "parameter %u of these weights is not trained", param);
    const struct weight *w = &all->weight[param];
    if (part == PARAM_GRADIENT) {
        fold(NULL, w, 0, w->elements, NULL);
        forget_lookups(w);
    }
    for (size_t o = 0; o < w->n_out; o++)
        for (size_t i = 0; i < w->n_in; i++) {
            float *at = &w->part[part][master_at(w, o, i)], *of = &values[o * w->n_in + i];
            if (in) *at = *of;
            else *of = *at;
        }
    return STRETTO_OK;
}

stretto_status cpu_param_read(const struct weights *w, uint32_t param, enum param_part part, float *values,
                              struct error *err)
{
    return copy(w, param, part, values, false, err);
}

stretto_status cpu_param_write(struct weights *w, uint32_t param, enum param_part part, const float *values,
                               struct error *err)
{
    return copy(w, param, part, (float *)(uintptr_t)values, true, err);
}
