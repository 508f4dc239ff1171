/* A step: gradients of a batch, what is checked of them, and what they change. */
#include "base/clock.h"
#include "base/memory.h"
#include "train/trainer_int.h"
#include <math.h>
#include <string.h>

/* ---- which batch ----------------------------------------------------------------------------- */

static struct packing_how how_of(const struct trainer *t, uint64_t epoch)
{
    return (struct packing_how){ .seed = t->o.seed, .epoch = epoch, .step_rows = t->plan.step_rows,
                                 .batch_rows = t->plan.batch_rows, .batches = t->batches, .noise = &t->noise,
                                 .heads = trainer_head_rows(t) };
}

/* The same number of steps, of lines that the model wrote a part of. */
static stretto_status epoch_written(struct trainer *t, struct error *err)
{
    struct packing_how how = how_of(t, t->epoch);
    how.batches = (uint32_t)t->epoch_steps;
    TRY(trainer_write_lines(t, t->epoch, err));
    t->packed.written = &t->taught_written;
    packing_done(&t->packing);
    return packing_make(&t->packing, &t->mixed, &how, err);
}

/* Makes the packing of the epoch that step number `step` (from 1) belongs to. */
stretto_status trainer_epoch(struct trainer *t, uint64_t step, struct error *err)
{
    while (!t->packing.order || step > t->epoch_begin + t->epoch_steps) {
        if (t->packing.order) {
            t->epoch_begin += t->epoch_steps;
            t->epoch++;
            packing_done(&t->packing);
        }
        struct packing_how how = how_of(t, t->epoch);
        TRY(packing_make(&t->packing, &t->lines, &how, err));
        t->epoch_steps = t->packing.n_batches;
    }
    return t->o.written > 0 && t->epoch && t->packing.lines == &t->lines ? epoch_written(t, err) : STRETTO_OK;
}

/* ---- values that are no numbers --------------------------------------------------------------- */

/* The first linear layer that reads one, and the row. */
struct search { int32_t value; size_t row; };

static void look(void *ud, int32_t value, const float *x, size_t ld, size_t rows)
{
    struct search *s = ud;
    if (s->value != GRAPH_NONE) return;
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < ld; i++)
            if (!isfinite(x[r * ld + i])) {
                *s = (struct search){ value, r };
                return;
            }
}

/* Runs the step once more with an eye on it; the gradients are spoilt anyway. */
static void find_layer(struct trainer *t, char *out, size_t size)
{
    const struct backend *b = t->device->backend;
    struct search s = { .value = GRAPH_NONE };
    struct error ignored = { 0 };
    *out = '\0';
    if (!b->tap) return;
    b->tap(t->program, (struct program_tap){ look, &s });
    device_run(t->device, t->program, &t->packed.step, t->packed.answers, &ignored);
    b->tap(t->program, (struct program_tap){ NULL, NULL });
    if (s.value == GRAPH_NONE) return;
    const struct graph_node *n = &t->back.nodes[t->back.values[s.value].made_by];
    if (n->layer >= 0) snprintf(out, size, " first seen in layer %d, row %zu;", n->layer, s.row);
    else snprintf(out, size, " first seen outside the layers, row %zu;", s.row);
}

static stretto_status no_number(struct trainer *t, size_t ask, struct error *err)
{
    const struct packed *p = &t->packed;
    const struct sample *s = &t->packing.lines->sample[p->ask_sample[ask]];
    char where[80];
    int32_t row = p->ask_row[ask];
    uint32_t token = p->ask_token[ask];
    find_layer(t, where, sizeof where);
    return fail(err, STRETTO_E_NAN, "step %llu: the loss of row %d (%s, line %u, token %u) is no number;%s what was "
                "learned until step %llu is kept: take a smaller --lr, or look at that line",
                (unsigned long long)t->step + 1, row, t->lines.file[s->file], s->line, token, where,
                (unsigned long long)t->step);
}

static stretto_status bad_gradient(const struct trainer *t, const char *name, struct error *err)
{
    return fail(err, STRETTO_E_NAN, "step %llu: the gradient of %s is no number; what was learned until step %llu is "
                "kept: take a smaller --lr", (unsigned long long)t->step + 1, name, (unsigned long long)t->step);
}

/* ---- gradients ------------------------------------------------------------------------------- */

/* Sums over asks: of weights, of losses and of their squares by weight, of squared weights. */
struct sum { double weight, loss, square, weights2; };
struct sums { struct sum clean, noisy; uint64_t asks; };

static void add_answers(struct sums *sums, const struct packed *p)
{
    for (size_t a = 0; a < p->step.n_asks; a++) {
        struct sum *s = p->ask_noisy[a] ? &sums->noisy : &sums->clean;
        double w = (double)p->target[a].weight, l = (double)p->answer[a].loss + (double)p->add[a];
        s->weight += w;
        s->loss += w * l;
        s->square += w * l * l;
        s->weights2 += w * w;
    }
    sums->asks += p->step.n_asks;
}

/* The mean by weight, and its standard error; NAN where there was nothing. */
static double mean_of(const struct sum *s, double *error)
{
    *error = NAN;
    if (!(s->weight > 0)) return NAN;
    double mean = s->loss / s->weight, spread = s->square / s->weight - mean * mean;
    *error = spread > 0 ? sqrt(spread * s->weights2) / s->weight : 0;
    return mean;
}

/* Where clean rows do not count, noisy ones stand for them. */
static struct losses means_of(const struct sums *s)
{
    struct losses l;
    l.noisy = mean_of(&s->noisy, &l.noisy_error);
    l.clean = mean_of(s->clean.weight > 0 ? &s->clean : &s->noisy, &l.clean_error);
    return l;
}

static stretto_status run_steps(struct trainer *t, struct packing *from, size_t batch, struct sums *sums,
                                uint64_t *rows, struct error *err)
{
    double weights;
    uint32_t steps = packing_steps(from, batch, &weights);
    for (uint32_t i = 0; i < steps; i++) {
        struct packed *p = &t->packed;
        if (t->o.cancel && *t->o.cancel) return fail(err, STRETTO_E_CANCEL, "training was interrupted");
        packed_fill(p, from, batch, i, weights / t->scaling.scale);
        TRY(device_run(t->device, t->program, &p->step, p->answers, err));
        for (size_t a = 0; a < p->step.n_asks; a++)
            if (p->answer[a].status != STRETTO_OK || !isfinite(p->answer[a].loss)) return no_number(t, a, err);
        add_answers(sums, p);
        *rows += p->step.n_rows;
    }
    return STRETTO_OK;
}

/* An adapter whose gradient is zero learns nothing: something cuts it off. A is not seen in the first step, B is. */
static stretto_status check_first(const struct trainer *t, const double *squares, struct error *err)
{
    for (size_t i = 0; i < t->adapter.n; i++) {
        char a[2 * GRAPH_NAME], b[2 * GRAPH_NAME];
        const struct adapter_pair *p = &t->adapter.pair[i];
        snprintf(a, sizeof a, "%s.lora_a", p->weight);
        snprintf(b, sizeof b, "%s.lora_b", p->weight);
        int32_t at[2] = { graph_param_find(&t->forward, a), graph_param_find(&t->forward, b) };
        if (squares[at[0]] + squares[at[1]] > 0) continue;
        return fail(err, STRETTO_E_ARG, "the adapter of %s would learn nothing: its gradient in the first step is "
                    "zero", p->weight);
    }
    for (size_t i = 0; i < t->forward.n_params && t->o.method != TRAIN_LORA; i++)
        if (squares[i] > 0) return STRETTO_OK;
    return t->o.method == TRAIN_LORA ? STRETTO_OK
                                     : fail(err, STRETTO_E_ARG, "nothing would be learned: all gradients are zero");
}

static stretto_status norm_of(struct trainer *t, double *out, struct error *err)
{
    double sum = 0, *squares = mem_zalloc(t->forward.n_params + 1, sizeof *squares);
    if (!squares) return fail(err, STRETTO_E_NOMEM, "out of memory");
    t->device->backend->param_norms(t->weights, squares);
    stretto_status s = STRETTO_OK;
    for (size_t i = 0; i < t->forward.n_params && s == STRETTO_OK; i++) {
        if (!t->trained[i]) continue;
        if (!isfinite(squares[i])) s = bad_gradient(t, t->forward.params[i].name, err);
        sum += squares[i];
    }
    if (s == STRETTO_OK && t->step == 0 && t->log) s = check_first(t, squares, err);
    if (s == STRETTO_OK && t->step == 0 && t->log) s = trainer_log_first(t, squares, err);
    mem_free(squares);
    *out = sqrt(sum) / t->scaling.scale;
    return s;
}

static void update(struct trainer *t, uint64_t number, const struct train_report *r)
{
    const struct param_step s = { .number = number,
                                  .scale = (float)(schedule_clip(r->norm, t->o.clip) / t->scaling.scale),
                                  .lr = (float)r->lr, .beta1 = (float)t->o.beta1, .beta2 = (float)t->o.beta2,
                                  .eps = (float)t->o.eps, .decay = (float)t->o.decay,
                                  .average = (float)t->o.average };
    t->device->backend->param_update(t->weights, &s);
}

/* ---- what is held out ------------------------------------------------------------------------- */

/* Of which steps are made at once: that takes the square of how many lines there are. */
enum { HELD_ROWS = 1 << 16, HELD_PLACES = 1 << 12 };

/* The step is done, and nobody knows whether it spoilt what was learned: it is not kept. */
static stretto_status held_no_number(struct trainer *t, struct error *err)
{
    t->spoilt = t->step > 0;
    if (!t->spoilt)
        return fail(err, STRETTO_E_NAN, "the loss of what is held out is no number before anything was learned: look "
                    "at those lines, and at the model");
    return fail(err, STRETTO_E_NAN, "the loss of what is held out is no number at step %llu; what was learned until "
                "step %llu is kept: take a smaller --lr", (unsigned long long)t->step, (unsigned long long)t->saved);
}

static stretto_status measure(struct trainer *t, struct losses *out, struct error *err)
{
    struct sums sums = { 0 };
    struct packed *p = &t->held_packed;
    const struct packing_how how = { .step_rows = t->plan.step_rows, .in_order = true, .noise = &t->noise,
                                     .batch_rows = trainer_has_heads(t) ? HELD_PLACES : HELD_ROWS,
                                     .heads = trainer_head_rows(t) };
    if (!t->held_packing.order) TRY(packing_make(&t->held_packing, &t->held, &how, err));
    for (size_t b = 0; b < t->held_packing.n_batches; b++) {
        double weights;
        uint32_t steps = packing_steps(&t->held_packing, b, &weights);
        for (uint32_t i = 0; i < steps; i++) {
            if (t->o.cancel && *t->o.cancel) return fail(err, STRETTO_E_CANCEL, "training was interrupted");
            packed_fill(p, &t->held_packing, b, i, 1);
            TRY(device_run(t->device, t->measuring, &p->step, p->answers, err));
            add_answers(&sums, p);
        }
    }
    *out = means_of(&sums);
    return isfinite(out->clean) && (isfinite(out->noisy) || !sums.noisy.weight) ? STRETTO_OK : held_no_number(t, err);
}

/* Of the weights that will be written: where an average is kept, that. */
stretto_status trainer_held(struct trainer *t, struct losses *out, struct error *err)
{
    bool swap = trainer_averages(t);
    if (swap) t->device->backend->param_swap(t->weights);
    stretto_status s = measure(t, out, err);
    if (swap) t->device->backend->param_swap(t->weights);
    return s;
}

/* ---- a step ---------------------------------------------------------------------------------- */

/* Seconds of a row, of the second of two equal steps: the first touches memory. */
stretto_status trainer_time(struct trainer *t, double *seconds_per_row, struct error *err)
{
    double weights, begin = 0;
    TRY(trainer_epoch(t, 1, err));
    packing_steps(&t->packing, 0, &weights);
    packed_fill(&t->packed, &t->packing, 0, 0, weights);
    for (int i = 0; i < 2; i++) {
        begin = clock_seconds();
        TRY(device_run(t->device, t->program, &t->packed.step, t->packed.answers, err));
    }
    *seconds_per_row = (clock_seconds() - begin) / (double)t->packed.step.n_rows;
    t->device->backend->param_clear(t->weights);
    return STRETTO_OK;
}

static bool measures_now(const struct trainer *t, uint64_t step)
{
    uint64_t every = t->o.measure ? t->o.measure : (t->plan.steps + 9) / 10;
    return t->held.n && (step == 1 || step == t->plan.steps || step % (every ? every : 1) == 0);
}

static bool saves_now(const struct trainer *t)
{
    const struct saving s = { t->saved, t->plan.steps, t->o.save, t->step_seconds, t->save_seconds };
    return schedule_saves(&s, t->step);
}

static stretto_status gradients(struct trainer *t, struct packing *from, size_t batch, struct sums *sums,
                                struct train_report *r, struct error *err)
{
    t->device->backend->param_clear(t->weights);
    TRY(run_steps(t, from, batch, sums, &r->rows, err));
    return norm_of(t, &r->norm, err);
}

/* In f16: something was too large, so nothing is changed, and the next step's loss is scaled less. Where less is no way
 * out it is as elsewhere. */
static bool overflows(struct trainer *t, stretto_status s)
{
    if (s != STRETTO_E_NAN || t->scaling.scale < 2) return false;
    t->scaling = (struct scaling){ t->scaling.scale / 2, 0, t->scaling.skipped + 1 };
    return true;
}

/* A batch is learned from as step `number`, at the report's rate. */
stretto_status trainer_learn(struct trainer *t, struct packing *from, size_t batch, uint64_t number,
                             struct train_report *r, struct error *err)
{
    struct sums sums = { 0 };
    struct error why = { 0 };
    stretto_status s = gradients(t, from, batch, &sums, r, &why);
    r->skipped = overflows(t, s);
    r->loss = r->error = r->noisy = r->noisy_error = NAN;
    r->learned = sums.asks;
    if (r->skipped) return STRETTO_OK;
    if (s != STRETTO_OK) return fail(err, s, "%s", why.text);
    update(t, number - t->scaling.skipped, r);
    struct losses means = means_of(&sums);
    r->loss = means.clean;
    r->error = means.clean_error;
    r->noisy = means.noisy;
    r->noisy_error = means.noisy_error;
    if (t->o.precision == PRECISION_F16 && ++t->scaling.clean % SCALE_STEPS == 0) t->scaling.scale *= 2;
    return STRETTO_OK;
}

/* Once each, and once more in a training that goes on: what a person should look at. */
static void watch(struct trainer *t, const struct train_report *r)
{
    unsigned long long step = t->step;
    struct watched *w = &t->watched;
    if (r->skipped) return;
    if (!(w->first_loss > 0)) w->first_loss = r->loss;
    w->mean_loss = w->mean_loss > 0 ? 0.9 * w->mean_loss + 0.1 * r->loss : r->loss;
    if (!t->warned_loss && w->first_loss > 0 && w->mean_loss > w->first_loss + 1) {
        log_say(&t->o.log, LOG_WARN, "the loss has risen from %.3f to about %.3f at step %llu: the steps are too "
                "large; begin again with a smaller --lr", w->first_loss, w->mean_loss, step);
        t->warned_loss = true;
    }
    if (!isfinite(r->held)) return;
    if (!(w->best_held > 0) || r->held < w->best_held) {
        w->best_held = r->held;
        w->best_step = t->step;
    }
    w->worse = r->held > 1.1 * w->best_held + 2 * r->held_error ? w->worse + 1 : 0;
    if (w->worse < 2 || t->warned_held) return;
    log_say(&t->o.log, LOG_WARN, "what is held out was %.3f at step %llu and is %.3f at step %llu: the lines are "
            "being learned by heart; fewer --epochs or a smaller --rank would do better", w->best_held,
            (unsigned long long)w->best_step, r->held, step);
    t->warned_held = true;
}

static stretto_status held_of(struct trainer *t, struct train_report *r, struct error *err)
{
    struct losses held;
    TRY(trainer_held(t, &held, err));
    r->held = held.clean;
    r->held_error = held.clean_error;
    r->held_noisy = held.noisy;
    return STRETTO_OK;
}

static stretto_status learn(struct trainer *t, struct train_report *r, struct error *err)
{
    double begin = clock_seconds();
    uint64_t step = t->step + 1;
    *r = (struct train_report){ .step = step, .steps = t->plan.steps, .lr = schedule_lr(&t->schedule, step),
                                .held = NAN, .held_error = NAN, .held_noisy = NAN, .distinct = NAN,
                                .agreement = NAN, .per_step = NAN, .first_per_step = NAN,
                                .done = step >= t->plan.steps };
    /* What was there before anything was learned. */
    if (step == 1 && t->held.n) {
        TRY(held_of(t, r, err));
        t->first_held = r->held;
        struct train_report first = { .held = r->held, .held_error = r->held_error, .held_noisy = r->held_noisy,
                                      .noisy = NAN, .distinct = NAN, .per_step = NAN };
        TRY(trainer_watch(t, &first, err));
        r->first_per_step = first.per_step;
        TRY(trainer_heads_measure(t, &first.accept, err));
        TRY(trainer_log_step(t, &first, err));
        begin = clock_seconds();
    }
    TRY(trainer_epoch(t, step, err));
    uint64_t batch = (step - 1 - t->epoch_begin) * t->packing.n_batches / t->epoch_steps;
    TRY(trainer_learn(t, &t->packing, (size_t)batch, step, r, err));
    r->seconds = clock_seconds() - begin;
    return STRETTO_OK;
}

stretto_status trainer_step(struct trainer *t, struct train_report *r, struct error *err)
{
    if (t->step >= t->plan.steps) return fail(err, STRETTO_E_ARG, "the training is at its end");
    if (t->spoilt) return fail(err, STRETTO_E_NAN, "what was learned last is spoilt: begin again, or go on (resume)");
    TRY(learn(t, r, err));
    t->step++;
    r->first_held = t->first_held;
    t->rows += r->rows;
    t->learned += r->learned;
    t->seconds += r->seconds;
    t->step_seconds = t->step_seconds > 0 ? 0.8 * t->step_seconds + 0.2 * r->seconds : r->seconds;
    if (measures_now(t, t->step) && t->step > 1) {
        stretto_status s = held_of(t, r, err);
        if (s == STRETTO_OK) s = trainer_watch(t, r, err);
        if (s == STRETTO_OK) s = trainer_heads_measure(t, &r->accept, err);
        if (s == STRETTO_E_CANCEL) r->held = r->held_error = r->held_noisy = NAN;      /* the step itself is done */
        else TRY(s);
    }
    TRY(trainer_log_step(t, r, err));
    watch(t, r);
    TRY(trainer_judge(t, r, err));
    if (!saves_now(t)) return STRETTO_OK;
    double begin = clock_seconds();
    TRY(trainer_save(t, err));
    r->save_seconds = clock_seconds() - begin;
    t->save_seconds = t->save_seconds > 0 ? 0.8 * t->save_seconds + 0.2 * r->save_seconds : r->save_seconds;
    return STRETTO_OK;
}
