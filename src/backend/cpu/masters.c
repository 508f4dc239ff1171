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

/* What stands in panels of a part, from element `at` on, of the table that is looked up. */
static float *lookup_at(const struct weight *w, size_t at)
{
    size_t o = at / PANEL_COLS / w->n_in * PANEL_COLS + at % PANEL_COLS;
    return o < w->n_out ? w->lookups + o * w->n_in + at / PANEL_COLS % w->n_in : NULL;
}

/* The gradient is the whole of it from here on. */
static void fold(const struct pass *x, const struct weight *w, size_t at, size_t n, double *square)
{
    (void)x; (void)square;
    for (size_t i = at; w->lookups && i < at + n; i++) {
        float *of = lookup_at(w, i);
        if (!of) continue;
        w->part[PARAM_GRADIENT][i] += *of;
        *of = 0;
    }
}

static void fold_all(const struct weights *w)
{
    pass(&(struct pass){ .w = (struct weights *)(uintptr_t)w, .run = fold });
}

static void clear(const struct pass *x, const struct weight *w, size_t at, size_t n, double *square)
{
    fold(x, w, at, n, square);
    memset(w->part[PARAM_GRADIENT] + at, 0, n * sizeof(float));
}

void cpu_param_clear(struct weights *w) { pass(&(struct pass){ .w = w, .run = clear }); }

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
    if (part == PARAM_GRADIENT) fold(NULL, w, 0, w->elements, NULL);
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
