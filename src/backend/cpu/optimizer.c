/* The optimizer: one pass over all that is trained, by the team. What is remembered of a parameter stands in the order
 * of its master; moments in fewer bits are taken apart, moved on by the kernel of AdamW and put together again, block
 * by block. */
#include "backend/cpu/halves.h"
#include "backend/cpu/masters.h"
#include "backend/cpu/moments.h"
#include <math.h>
#include <string.h>

/* ---- what is remembered ------------------------------------------------------------------------------------------ */

enum of { OF_ELEMENTS, OF_BLOCKS, OF_ROWS, OF_COLUMNS };
struct array { const char *name, *type; enum of of; size_t bytes; };
struct memory { unsigned bits; size_t n; struct array array[PARAM_STATES]; };

static const struct memory moments[] = {
    { 32, 2, { { "m", "F32", OF_ELEMENTS, 4 }, { "v", "F32", OF_ELEMENTS, 4 } } },
    { 16, 2, { { "m", "BF16", OF_ELEMENTS, 2 }, { "v", "BF16", OF_ELEMENTS, 2 } } },
    { 8, 4, { { "m", "U8", OF_ELEMENTS, 1 }, { "v", "U8", OF_ELEMENTS, 1 }, { "m.scale", "F32", OF_BLOCKS, 4 },
              { "v.scale", "F32", OF_BLOCKS, 4 } } },
};
static const struct memory means = { 0, 2, { { "rows", "F32", OF_ROWS, 4 }, { "columns", "F32", OF_COLUMNS, 4 } } };
static const struct memory squares = { 0, 1, { { "v", "F32", OF_ELEMENTS, 4 } } };

static const struct memory *memory_of(const struct weights *w, const struct weight *x)
{
    if (w->optimizer.by == OPTIMIZER_ADAFACTOR) return x->vector ? &squares : &means;
    size_t i = 0;
    while (moments[i].bits != w->optimizer.bits && i + 1 < sizeof moments / sizeof *moments) i++;
    return &moments[i];
}

static size_t count(const struct weight *x, enum of of)
{
    switch (of) {
    case OF_BLOCKS: return (x->elements + MOMENT_BLOCK - 1) / MOMENT_BLOCK;
    case OF_ROWS: return x->n_out;
    case OF_COLUMNS: return x->n_in;
    default: return x->elements;
    }
}

void optimizer_begin(struct weights *w, struct arena *a)
{
    w->codes = w->optimizer.bits == 8 ? arena_take(a, sizeof *w->codes) : NULL;
    if (a->base && w->codes) moment_codes_make(w->codes);
    w->factor = w->optimizer.by == OPTIMIZER_ADAFACTOR ? arena_take(a, 2 * w->n * sizeof *w->factor) : NULL;
}

static void begin_state(struct weights *w, struct weight *x)
{
    const struct memory *m = memory_of(w, x);
    for (size_t k = 0; k < m->n; k++) memset(x->state[k], 0, count(x, m->array[k].of) * m->array[k].bytes);
    if (x->part[PARAM_AVERAGE]) memset(x->part[PARAM_AVERAGE], 0, x->elements * sizeof(float));
}

void optimizer_place(struct weights *w, struct weight *x, struct arena *a)
{
    const struct memory *m = memory_of(w, x);
    for (size_t k = 0; k < m->n; k++) x->state[k] = arena_take(a, count(x, m->array[k].of) * m->array[k].bytes);
    if (w->optimizer.average) x->part[PARAM_AVERAGE] = arena_take(a, x->elements * sizeof(float));
}

void cpu_state_clear(struct weights *w)
{
    for (size_t i = 0; i < w->n; i++)
        if (w->weight[i].elements) begin_state(w, &w->weight[i]);
}

size_t cpu_state_list(const struct weights *w, uint32_t param, struct param_state out[PARAM_STATES])
{
    if (param >= w->n || !w->weight[param].elements) return 0;
    const struct weight *x = &w->weight[param];
    const struct memory *m = memory_of(w, x);
    for (size_t k = 0; k < m->n; k++) {
        size_t n = count(x, m->array[k].of);
        out[k] = (struct param_state){ m->array[k].name, m->array[k].type, n, n * m->array[k].bytes };
    }
    return m->n;
}

static stretto_status copy(const struct weights *w, uint32_t param, size_t k, void *values, bool in, struct error *err)
{
    struct param_state list[PARAM_STATES];
    if (k >= cpu_state_list(w, param, list))
        return fail(err, STRETTO_E_ARG, "the optimizer remembers no array %zu of parameter %u", k, param);
    void *at = w->weight[param].state[k];
    if (in) memcpy(at, values, list[k].bytes);
    else memcpy(values, at, list[k].bytes);
    return STRETTO_OK;
}

stretto_status cpu_state_read(const struct weights *w, uint32_t param, size_t k, void *out, struct error *err)
{
    return copy(w, param, k, out, false, err);
}

stretto_status cpu_state_write(struct weights *w, uint32_t param, size_t k, const void *in, struct error *err)
{
    return copy(w, param, k, (void *)(uintptr_t)in, true, err);
}

/* ---- AdamW ------------------------------------------------------------------------------------------------------- */

void master_changed(const struct pass *x, const struct weight *w, size_t at, size_t n)
{
    float *of = w->part[PARAM_AVERAGE];
    const float *now = w->part[PARAM_MASTER] + at;
    for (size_t i = 0; of && i < n; i++) of[at + i] += x->toward * (now[i] - of[at + i]);
    halves_round(w, at, n);
}

static const struct adamw_step *step_of(const struct pass *x, const struct weight *w)
{
    return w->vector ? &x->vector : &x->matrix;
}

static void update_float(const struct pass *x, const struct weight *w, size_t at, size_t n, double *out)
{
    (void)out;
    x->w->kernels->adamw(w->part[PARAM_MASTER] + at, (float *)w->state[0] + at, (float *)w->state[1] + at,
                         w->part[PARAM_GRADIENT] + at, n, step_of(x, w));
    master_changed(x, w, at, n);
}

struct block { float m[MOMENT_BLOCK], v[MOMENT_BLOCK]; };

static void move(const struct pass *x, const struct weight *w, size_t at, size_t n, struct block *b)
{
    x->w->kernels->adamw(w->part[PARAM_MASTER] + at, b->m, b->v, w->part[PARAM_GRADIENT] + at, n, step_of(x, w));
}

static void update_bf16(const struct pass *x, const struct weight *w, size_t at, size_t n, double *out)
{
    struct block b;
    uint32_t noise[MOMENT_BLOCK];
    uint64_t param = (uint64_t)(w - x->w->weight);
    uint16_t *m = w->state[0], *v = w->state[1];
    (void)out;
    for (size_t i = at, end = at + n, here; i < end; i += here) {
        here = end - i < MOMENT_BLOCK ? end - i : MOMENT_BLOCK;
        moment_from_bf16(m + i, here, b.m);
        moment_from_bf16(v + i, here, b.v);
        move(x, w, i, here, &b);
        moment_noise(x->step->number, param << 40 ^ i, here, noise);
        moment_to_bf16(b.m, here, noise, 0, m + i);
        moment_to_bf16(b.v, here, noise, 16, v + i);
    }
    master_changed(x, w, at, n);
}

static void update_codes(const struct pass *x, const struct weight *w, size_t at, size_t n, double *out)
{
    struct block b;
    const struct moment_codes *c = x->w->codes;
    uint8_t *m = w->state[0], *v = w->state[1];
    float *m_scale = w->state[2], *v_scale = w->state[3];
    (void)out;
    for (size_t i = at, end = at + n, here; i < end; i += here) {
        size_t k = i / MOMENT_BLOCK;
        here = end - i < MOMENT_BLOCK ? end - i : MOMENT_BLOCK;
        moment_decode(&c->first, m + i, m_scale[k], here, b.m);
        moment_decode(&c->second, v + i, v_scale[k], here, b.v);
        move(x, w, i, here, &b);
        m_scale[k] = moment_encode(&c->first, b.m, here, false, m + i);
        v_scale[k] = moment_encode(&c->second, b.v, here, true, v + i);
    }
    master_changed(x, w, at, n);
}

void cpu_param_update(struct weights *w, const struct param_step *s)
{
    struct pass x = { .w = w, .step = s, .run = update_float,
                      .matrix = adamw_step(s->lr, s->beta1, s->beta2, s->eps, s->decay, s->scale, s->number),
                      .vector = adamw_step(s->lr, s->beta1, s->beta2, s->eps, 0, s->scale, s->number),
                      .toward = (float)((1 - (double)s->average) / (1 - pow((double)s->average, (double)s->number))) };
    masters_fold(w);
    if (w->optimizer.by == OPTIMIZER_ADAFACTOR) {
        adafactor_update(w, &x);
        return;
    }
    if (w->optimizer.bits == 16) x.run = update_bf16;
    if (w->optimizer.bits == 8) x.run = update_codes;
    pass(&x);
}
