#include "train/timing.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/usage.h"
#include "train/trainer_int.h"
#include <stdio.h>
#include <string.h>

enum { ROOF_BYTES = 1 << 28 };

/* Rows first .. first + rows of a step of `all`: texts one behind the other, each row of which is asked for a token. */
static void fill(struct packed *p, uint32_t first, uint32_t rows, uint32_t all, uint32_t length, uint32_t vocab)
{
    p->step = (struct step){ .token = p->token, .position = p->position, .given = p->given, .ask_row = p->ask_row,
                             .ask_wants = p->ask_wants, .targets = p->target, .range_at = p->range_at,
                             .ranges = p->ranges, .n_rows = rows, .n_asks = rows };
    p->range_at[0] = 0;
    for (uint32_t r = 0; r < rows; r++) {
        p->token[r] = (int32_t)(random_at(1, 0, first + r, 0) % vocab);
        p->position[r] = (int32_t)(r % length);
        p->given[r] = 0;
        p->ranges[2 * r] = (int32_t)(r - r % length);
        p->ranges[2 * r + 1] = p->range_at[r + 1] = (int32_t)r + 1;
        p->ask_row[r] = (int32_t)r;
        p->ask_wants[r] = WANT_LOSS;
        p->target[r] = (struct step_target){ .token = (int32_t)(random_at(1, 1, first + r, 0) % vocab),
                                             .weight = 1 / (float)all };
        p->answers[r] = &p->answer[r];
    }
}

/* As many rows at once as a training computes, in whole texts. */
static uint32_t rows_at_once(const struct train_timing_how *how)
{
    uint32_t rows = how->length < STEP_ROWS ? STEP_ROWS / how->length * how->length : how->length;
    return rows < how->rows ? rows : how->rows;
}

static stretto_status open_model(struct trainer *t, const struct train_timing_how *how, struct error *err)
{
    const struct model_open_options open = { .graph_only = true, .cancel = how->cancel };
    t->plan.step_rows = rows_at_once(how);
    t->plan.rows = t->plan.tokens = t->plan.learned = how->rows;
    t->plan.samples = (how->rows + how->length - 1) / how->length;
    TRY(model_open(&t->model, how->model, &open, err));
    TRY(trainer_make_graph(t, err));
    TRY(trainer_upload(t, false, err));
    return trainer_compile(t, err);
}

/* The optimizer's seconds. */
static stretto_status step(struct trainer *t, const struct train_timing_how *how, double *squares, uint64_t number,
                           double *optimizer, struct error *err)
{
    const struct backend *b = t->device->backend;
    const struct param_step s = { .number = number, .scale = 1, .lr = 1e-6f, .beta1 = 0.9f, .beta2 = 0.95f,
                                  .eps = 1e-8f };
    for (uint32_t first = 0, most = t->plan.step_rows; first < how->rows; first += most) {
        fill(&t->packed, first, how->rows - first < most ? how->rows - first : most, how->rows, how->length,
             t->model->config.vocab);
        TRY(device_run(t->device, t->program, &t->packed.step, t->packed.answers, err));
    }
    double begin = clock_seconds();
    b->param_norms(t->weights, squares);
    b->param_update(t->weights, &s);
    b->param_clear(t->weights);
    *optimizer += clock_seconds() - begin;
    return STRETTO_OK;
}

static stretto_status time_steps(struct train_timing *out, struct trainer *t, const struct train_timing_how *how,
                                 double *squares, struct error *err)
{
    const struct backend *b = t->device->backend;
    double optimizer = 0;
    TRY(step(t, how, squares, 1, &optimizer, err));
    if (!b->profile) return fail(err, STRETTO_E_UNSUP, "the backend %s does not tell its times", b->name);
    TRY(b->profile(t->program, true, err));
    double begin = clock_seconds(), cpu = usage_cpu_seconds();
    optimizer = 0;
    for (uint32_t i = 0; i < how->repeat; i++) {
        if (how->cancel && *how->cancel) return fail(err, STRETTO_E_CANCEL, "interrupted");
        TRY(step(t, how, squares, i + 2, &optimizer, err));
    }
    out->seconds = (clock_seconds() - begin) / how->repeat;
    out->cpu_seconds = (usage_cpu_seconds() - cpu) / how->repeat;
    out->n = b->profile_read(t->program, out->op, TRAIN_TIMING_OPS - 1);
    out->op[out->n++] = (struct op_time){ .name = "optimizer", .count = how->repeat, .seconds = optimizer,
                                          .bytes = 36.0 * (double)t->plan.trained * how->repeat,
                                          .arithmetic = ARITHMETIC_F32 };
    out->trained = t->plan.trained;
    out->peak_bytes = usage_peak_bytes();
    if (b->roof_bytes) TRY(b->roof_bytes(t->weights, how->threads, ROOF_BYTES, &out->bytes_roof, err));
    return b->roof_macs ? b->roof_macs(t->weights, how->threads, out->macs_roof, err) : STRETTO_OK;
}

stretto_status train_timing(struct train_timing *out, const struct train_timing_how *how, struct error *err)
{
    struct trainer *t = mem_zalloc(1, sizeof *t);
    *out = (struct train_timing){ 0 };
    if (!t) return fail(err, STRETTO_E_NOMEM, "out of memory");
    train_options_defaults(&t->o);
    t->lock = -1;
    t->scaling.scale = 1;
    t->o.model = how->model;
    t->o.method = how->method;
    t->o.precision = how->precision;
    t->o.rank = how->rank;
    t->o.threads = how->threads;
    t->o.cancel = how->cancel;
    t->o.level = how->level;
    t->o.keep = TRAIN_KEEP_VALUES;
    stretto_status s = open_model(t, how, err);
    double *squares = s == STRETTO_OK ? mem_zalloc(t->forward.n_params + 1, sizeof *squares) : NULL;
    if (s == STRETTO_OK && !squares) s = fail(err, STRETTO_E_NOMEM, "out of memory");
    if (s == STRETTO_OK) s = time_steps(out, t, how, squares, err);
    mem_free(squares);
    trainer_close(t);
    return s;
}
