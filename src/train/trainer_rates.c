/* --lr auto: five rates, each a factor of three from the next, learn from the same few small batches, each from the
 * beginning; the one whose loss is lowest at the end is taken. */
#include "base/memory.h"
#include "train/trainer_int.h"
#include <math.h>

enum { RATES = 5, STEPS_LEAST = 8, STEPS_MOST = 40, ROWS_LEAST = 256, TRIAL_EPOCH = 1 << 30 };

static stretto_status write_numbers(struct trainer *t, uint32_t i, float *values, size_t n, struct error *err)
{
    const struct backend *b = t->device->backend;
    const struct graph_param *p = &t->forward.params[i];
    struct param_bytes from;
    TRY(trainer_param(t, p->name, p->n_in, p->n_out, &from, err));
    for (size_t r = 0; r < p->n_out; r++)
        dtype_table[from.type].decode((const unsigned char *)from.data + r * from.row_bytes, values + r * p->n_in,
                                      p->n_in);
    for (size_t k = 0; k < n && from.add != 0; k++) values[k] += from.add;
    return b->param_write(t->weights, i, PARAM_MASTER, values, err);
}

/* As before anything was learned. */
static stretto_status reset(struct trainer *t, struct error *err)
{
    stretto_status s = STRETTO_OK;
    for (uint32_t i = 0; i < t->forward.n_params && s == STRETTO_OK; i++) {
        size_t n = (size_t)t->forward.params[i].n_in * t->forward.params[i].n_out;
        float *values = t->trained[i] ? mem_alloc(n * sizeof *values) : NULL;
        if (values) s = write_numbers(t, i, values, n, err);
        else if (t->trained[i]) s = fail(err, STRETTO_E_NOMEM, "out of memory");
        mem_free(values);
    }
    t->device->backend->param_clear(t->weights);
    t->device->backend->state_clear(t->weights);
    t->scaling = (struct scaling){ .scale = t->o.precision == PRECISION_F16 ? SCALE_FIRST : 1 };
    return s;
}

/* Loss of the last quarter of the steps; infinite where it is no number. */
static stretto_status try_rate(struct trainer *t, struct packing *p, uint64_t steps, double rate, double *loss,
                               struct error *err)
{
    const struct lr_schedule schedule = { SCHEDULE_CONSTANT, rate, steps / 10 + 1, steps };
    double sum = 0, n = 0;
    TRY(reset(t, err));
    for (uint64_t i = 0; i < steps; i++) {
        struct train_report r = { .lr = schedule_lr(&schedule, i + 1) };
        struct error why = { 0 };
        stretto_status s = trainer_learn(t, p, (size_t)i % p->n_batches, i + 1, &r, &why);
        if (s == STRETTO_E_NAN) {
            *loss = INFINITY;
            return STRETTO_OK;
        }
        if (s != STRETTO_OK) return fail(err, s, "%s", why.text);
        progress_tell(&t->o.progress, "trying a rate", i + 1, steps);
        if (i < steps - (steps + 3) / 4 || r.skipped) continue;
        sum += r.loss;
        n++;
    }
    *loss = n > 0 ? sum / n : INFINITY;
    return STRETTO_OK;
}

static stretto_status try_all(struct trainer *t, struct packing *p, struct error *err)
{
    uint64_t steps = t->plan.steps * 3 / 100;
    double best = INFINITY, usual = t->plan.lr;
    if (steps < STEPS_LEAST) steps = STEPS_LEAST;
    if (steps > STEPS_MOST) steps = STEPS_MOST;
    for (int i = 0; i < RATES; i++) {
        double rate = usual * pow(10, (i - RATES / 2) / 2.0), loss;
        TRY(try_rate(t, p, steps, rate, &loss, err));
        log_say(&t->o.log, LOG_INFO, "rate %-8.3g loss %.4f behind %llu small steps", rate, loss,
                (unsigned long long)steps);
        if (!(loss < best)) continue;
        best = loss;
        t->plan.lr = rate;
    }
    if (!isfinite(best)) return fail(err, STRETTO_E_NAN, "with no rate that was tried the loss stayed a number");
    log_say(&t->o.log, LOG_INFO, "rate %.3g is taken", t->plan.lr);
    return reset(t, err);
}

stretto_status trainer_try_rates(struct trainer *t, struct error *err)
{
    struct packing p;
    uint32_t rows = t->plan.batch_rows / 4;
    const struct packing_how how = { .seed = t->o.seed, .epoch = TRIAL_EPOCH, .step_rows = t->plan.step_rows,
                                     .batch_rows = rows > ROWS_LEAST ? rows : ROWS_LEAST, .noise = &t->noise,
                                     .heads = trainer_head_rows(t) };
    if (!t->o.try_rates) return STRETTO_OK;
    TRY(packing_make(&p, &t->lines, &how, err));
    stretto_status s = try_all(t, &p, err);
    packing_done(&p);
    return s;
}
