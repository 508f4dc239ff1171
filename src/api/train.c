/* The public functions that let a model learn. */
#include "stretto/train.h"
#include "api/handles.h"
#include "base/memory.h"
#include "train/trainer.h"
#include <math.h>
#include <string.h>

struct stretto_trainer {
    stretto_train_options o;
    struct trainer *trainer;
    struct error err;
    bool begun;
};

static void on_progress(void *ud, const char *what, uint64_t done, uint64_t total)
{
    const stretto_trainer *t = ud;
    t->o.progress(t->o.user, what, done, total);
}

static void on_log(void *ud, enum log_level level, const char *text)
{
    const stretto_trainer *t = ud;
    (void)level;
    t->o.log(t->o.user, text);
}

static size_t count(const char *const *list)
{
    size_t n = 0;
    while (list && list[n]) n++;
    return n;
}

static stretto_status words_of(const stretto_train_options *from, struct train_options *to, struct error *err)
{
    int method = 0;
    while (from->method && method < TRAIN_METHODS && strcmp(from->method, train_method_names[method]) != 0) method++;
    if (method == TRAIN_METHODS)
        return fail(err, STRETTO_E_ARG, "there is no method '%.40s'; take lora, full or heads", from->method);
    to->method = (enum train_method)method;
    while (from->head && to->head < HEAD_KINDS && strcmp(from->head, head_kind_names[to->head]) != 0) to->head++;
    if (to->head == HEAD_KINDS)
        return fail(err, STRETTO_E_ARG, "there is no head '%.40s'; take recursive or medusa", from->head);
    if (from->schedule) to->schedule = schedule_by_name(from->schedule);
    if (to->schedule == SCHEDULES)
        return fail(err, STRETTO_E_ARG, "there is no schedule '%.40s'; take cosine, linear or constant",
                    from->schedule);
    while (from->optimizer && to->optimizer < OPTIMIZERS
           && strcmp(from->optimizer, train_optimizer_names[to->optimizer]) != 0) to->optimizer++;
    while (from->noisy_loss && to->loss < TRAIN_LOSSES && strcmp(from->noisy_loss, train_loss_names[to->loss]) != 0)
        to->loss++;
    if (to->loss == TRAIN_LOSSES)
        return fail(err, STRETTO_E_ARG, "noisy rows learn by ce, kl or cllm, not by '%.40s'", from->noisy_loss);
    if (to->optimizer == OPTIMIZERS)
        return fail(err, STRETTO_E_ARG, "there is no optimizer '%.40s'; take adamw or adafactor", from->optimizer);
    return STRETTO_OK;
}

static stretto_status options_of(stretto_trainer *t, const char *model, const char *folder, struct train_options *to)
{
    const stretto_train_options *from = &t->o;
    train_options_defaults(to);
    to->model = model;
    to->folder = folder;
    to->data = from->data;
    to->n_data = count(from->data);
    to->valid = from->valid;
    to->n_valid = count(from->valid);
    if (from->hold_out < 0) to->hold_out = 0;
    else if (from->hold_out > 0) to->hold_out = from->hold_out;
    if (from->rank) to->rank = from->rank;
    to->alpha = from->alpha;
    to->targets = from->targets;
    to->rows_of = from->rows_of && strcmp(from->rows_of, "all") != 0 ? from->rows_of : NULL;
    to->last_layers = from->last_layers;
    to->lr = from->learning_rate > 0 ? from->learning_rate : 0;
    to->try_rates = from->learning_rate < 0;
    if (from->epochs) to->epochs = from->epochs;
    to->steps = from->steps;
    to->budget = from->budget;
    if (from->rows) to->batch_rows = from->rows;
    to->context = from->context;
    if (from->seed) to->seed = from->seed;
    if (from->optimizer_bytes) to->optimizer_bytes = from->optimizer_bytes;
    to->average = from->average;
    to->watch = from->watch;
    to->agreement = from->agreement;
    to->skip_long = from->skip_long != 0;
    to->plain_text = from->plain_text != 0;
    to->resume = from->resume != 0;
    to->threads = from->threads;
    to->progress = (struct progress){ .tell = from->progress ? on_progress : NULL, .ud = t };
    to->log = (struct log){ .say = from->log ? on_log : NULL, .ud = t, .least = LOG_INFO };
    to->cancel = from->cancel;
    to->teacher = from->teacher;
    to->teacher_cache = from->teacher_cache;
    if (from->teacher_top) to->teacher_top = from->teacher_top;
    if (from->teacher_drawn) to->teacher_drawn = from->teacher_drawn;
    to->written = from->written;
    to->learn_prompts = from->learn_prompts != 0;
    to->phrases = from->phrases;
    to->lora = from->beside;
    if (from->depth) to->depth = from->depth;
    if (from->slice) to->slice = from->slice;
    to->feed = from->feed;
    to->block = from->block;
    if (from->copies) to->copies = from->copies;
    to->states = from->states;
    if (from->noisy_weight != 0) to->noisy_weight = from->noisy_weight;
    if (from->ar != 0) to->ar = from->ar < 0 ? 0 : from->ar;
    return words_of(from, to, &t->err);
}

stretto_status stretto_trainer_open(stretto_trainer **out, const char *model, const char *folder,
                                    const stretto_train_options *opt, char *err, size_t err_size)
{
    struct error e = { 0 };
    struct train_options o;
    if (!out || !model || !folder)
        return report(fail(&e, STRETTO_E_ARG, "a model and a folder for the training are needed"), &e, err, err_size);
    *out = NULL;
    stretto_trainer *t = mem_zalloc(1, sizeof *t);
    if (!t) return report(fail(&e, STRETTO_E_NOMEM, "out of memory"), &e, err, err_size);
    t->o = (stretto_train_options)STRETTO_TRAIN_OPTIONS_INIT;
    stretto_status s = options_take(&t->o, sizeof t->o, opt, &t->err);
    if (s == STRETTO_OK) s = options_of(t, model, folder, &o);
    if (s == STRETTO_OK) s = trainer_open(&t->trainer, &o, &t->err);
    s = report(s, &t->err, err, err_size);
    if (s == STRETTO_OK) *out = t;
    else stretto_trainer_close(t);
    return s;
}

void stretto_trainer_close(stretto_trainer *t)
{
    if (!t) return;
    trainer_close(t->trainer);
    mem_free(t);
}

const char *stretto_trainer_error(const stretto_trainer *t) { return t ? t->err.text : ""; }

/* What fits into the caller's struct, which may be an older, shorter one. */
static stretto_status give(void *theirs, const void *ours, size_t ours_size)
{
    size_t size;
    if (!theirs) return STRETTO_OK;
    memcpy(&size, theirs, sizeof size);
    if (size < sizeof size) return STRETTO_E_ARG;
    if (size > ours_size) size = ours_size;
    memcpy((char *)theirs + sizeof size, (const char *)ours + sizeof size, size - sizeof size);
    return STRETTO_OK;
}

stretto_status stretto_trainer_plan(stretto_trainer *t, stretto_train_plan *plan)
{
    if (!t || !plan) return STRETTO_E_ARG;
    const struct train_plan *p = trainer_plan(t->trainer);
    const stretto_train_plan out = {
        .lines = p->samples, .tokens = p->tokens, .learned = p->learned, .held = p->held, .skipped = p->skipped,
        .rows = p->rows, .steps = p->steps, .parameters = p->parameters, .trained = p->trained,
        .bytes = p->weights_bytes + p->program_bytes + p->data_bytes + p->writing_bytes,
        .checkpoint_bytes = p->checkpoint_bytes,
        .operations = p->flops, .taught = p->taught_rows, .taught_bytes = p->taught_bytes,
        .teacher_bytes = p->teacher_bytes };
    return give(plan, &out, sizeof out);
}

stretto_status stretto_trainer_measure(stretto_trainer *t)
{
    if (!t) return STRETTO_E_ARG;
    error_clear(&t->err);
    if (t->begun) return fail(&t->err, STRETTO_E_ARG, "the training has begun, so its memory is taken");
    return trainer_measure(t->trainer, &t->err);
}

static stretto_status begin(stretto_trainer *t)
{
    if (t->begun) return STRETTO_OK;
    TRY(trainer_begin(t->trainer, &t->err));
    t->begun = true;
    return STRETTO_OK;
}

stretto_status stretto_trainer_step(stretto_trainer *t, stretto_train_report *report_)
{
    const struct train_report none = { .held = NAN, .held_error = NAN, .noisy = NAN, .held_noisy = NAN,
                                       .per_step = NAN };
    struct train_report r = none;
    if (!t) return STRETTO_E_ARG;
    error_clear(&t->err);
    TRY(begin(t));
    uint64_t at = trainer_at(t->trainer), all = trainer_plan(t->trainer)->steps;
    if (at >= all) {
        r.step = at;
        r.steps = all;
        r.done = true;
    } else TRY(trainer_step(t->trainer, &r, &t->err));
    const stretto_train_report out = { .step = r.step, .steps = r.steps, .loss = r.loss, .loss_error = r.error,
                                       .held = r.held, .held_error = r.held_error, .learning_rate = r.lr,
                                       .gradient = r.norm, .seconds = r.seconds, .rows = r.rows, .done = r.done,
                                       .noisy = r.noisy, .held_noisy = r.held_noisy, .per_step = r.per_step };
    return give(report_, &out, sizeof out);
}

stretto_status stretto_trainer_save(stretto_trainer *t)
{
    if (!t) return STRETTO_E_ARG;
    error_clear(&t->err);
    if (!t->begun) return STRETTO_OK;
    return trainer_save(t->trainer, &t->err);
}

stretto_status stretto_trainer_finish(stretto_trainer *t)
{
    if (!t) return STRETTO_E_ARG;
    error_clear(&t->err);
    TRY(begin(t));
    return trainer_finish(t->trainer, &t->err);
}
