/* What is trained: masters, gradients and averages, as the kernels read and write them, given out and taken in row
 * after row. */
#include "backend/cpu/masters.h"
#include "backend/cpu/halves.h"
#include "base/memory.h"
#include <math.h>
#include <string.h>

size_t master_runs(size_t elements) { return (elements + MASTER_RUN - 1) / MASTER_RUN; }

/* ---- passes over everything -------------------------------------------------------------------------------------- */

enum { RUNS_AT_ONCE = 16 };

struct pass_turn { const struct pass *pass; atomic_size_t ticket; };

static void pass_thread(void *arg, unsigned rank)
{
    struct pass_turn *turn = arg;
    const struct pass *x = turn->pass;
    size_t param = 0, before = 0;
    (void)rank;
    for (;;) {
        size_t i = atomic_fetch_add(&turn->ticket, RUNS_AT_ONCE), end = i + RUNS_AT_ONCE;
        for (; i < end; i++) {
            while (param < x->w->n && i >= before + master_runs(x->w->weight[param].elements))
                before += master_runs(x->w->weight[param++].elements);
            if (param == x->w->n) return;
            const struct weight *w = &x->w->weight[param];
            size_t at = (i - before) * MASTER_RUN, left = w->elements - at;
            x->run(x, w, at, left < MASTER_RUN ? left : MASTER_RUN, &x->w->squares[i]);
        }
    }
}

void pass(const struct pass *x)
{
    struct pass_turn turn = { .pass = x };
    team_run_some(x->w->device->team, team_size(x->w->device->team), pass_thread, &turn);
}

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

void masters_fold(const struct weights *w)
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
    masters_fold(w);
    pass(&(struct pass){ .w = w, .run = clear });
}

static void square(const struct pass *x, const struct weight *w, size_t at, size_t n, double *out)
{
    *out = x->w->kernels->square_sum(w->part[PARAM_GRADIENT] + at, n);
}

void masters_sums(const struct weights *w, double *sums)
{
    for (size_t i = 0, run = 0; i < w->n; i++) {
        sums[i] = 0;
        for (size_t k = 0; k < master_runs(w->weight[i].elements); k++) sums[i] += w->squares[run++];
    }
}

void cpu_param_norms(const struct weights *of, double *squares)
{
    struct weights *w = (struct weights *)(uintptr_t)of;
    masters_fold(w);
    pass(&(struct pass){ .w = w, .run = square });
    masters_sums(w, squares);
}

static void swap(const struct pass *x, const struct weight *w, size_t at, size_t n, double *out)
{
    (void)x; (void)out;
    float *a = w->part[PARAM_MASTER] + at, *b = w->part[PARAM_AVERAGE] + at;
    for (size_t i = 0; i < n; i++) {
        float t = a[i];
        a[i] = b[i];
        b[i] = t;
    }
    halves_round(w, at, n);
}

void cpu_param_swap(struct weights *w)
{
    if (w->optimizer.average) pass(&(struct pass){ .w = w, .run = swap });
}

/* ---- in and out ------------------------------------------------------------------------------------------------ */

static stretto_status copy(const struct weights *all, uint32_t param, enum param_part part, float *values, bool in,
                           struct error *err)
{
    if (param >= all->n || !all->weight[param].elements)
        return fail(err, STRETTO_E_ARG, "parameter %u of these weights is not trained", param);
    const struct weight *w = &all->weight[param];
    if (!w->part[part]) return fail(err, STRETTO_E_ARG, "no average is kept of these weights");
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
    if (in && part == PARAM_MASTER) halves_round(w, 0, w->elements);
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
