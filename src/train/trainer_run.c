/* The folder of a training: who works in it, what was asked for, what happened. */
#include "base/buffer.h"
#include "base/file.h"
#include "base/json_tree.h"
#include "base/memory.h"
#include "train/trainer_int.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TEXT_MOST = 64 << 20 };

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory"); }

stretto_status trainer_path(const char *folder, const char *name, char out[PATH_MAX], struct error *err)
{
    int n = snprintf(out, PATH_MAX, "%s/%s", folder, name);
    return n > 0 && n < PATH_MAX - 8 ? STRETTO_OK : fail(err, STRETTO_E_ARG, "the path of %s is too long", folder);
}

/* ---- what was asked for ---------------------------------------------------------------------- */

/* Options that decide what is learned, and what is written of it, under their names on the command line. */
enum kind {
    KIND_U32, KIND_U64, KIND_REAL, KIND_TEXT, KIND_FLAG, KIND_METHOD, KIND_HEAD, KIND_SCHEDULE, KIND_OPTIMIZER,
    KIND_PRECISION, KIND_LOSS
};
static const struct field { const char *key; enum kind kind; size_t at; } fields[] = {
    { "method", KIND_METHOD, offsetof(struct train_options, method) },
    { "rank", KIND_U32, offsetof(struct train_options, rank) },
    { "head", KIND_HEAD, offsetof(struct train_options, head) },
    { "lora", KIND_TEXT, offsetof(struct train_options, lora) },
    { "depth", KIND_U32, offsetof(struct train_options, depth) },
    { "slice", KIND_U32, offsetof(struct train_options, slice) },
    { "feed", KIND_U32, offsetof(struct train_options, feed) },
    { "alpha", KIND_REAL, offsetof(struct train_options, alpha) },
    { "teacher-top", KIND_U32, offsetof(struct train_options, teacher_top) },
    { "teacher-drawn", KIND_U32, offsetof(struct train_options, teacher_drawn) },
    { "written", KIND_REAL, offsetof(struct train_options, written) },
    { "learn-prompts", KIND_FLAG, offsetof(struct train_options, learn_prompts) },
    { "targets", KIND_TEXT, offsetof(struct train_options, targets) },
    { "rows-of", KIND_TEXT, offsetof(struct train_options, rows_of) },
    { "last-layers", KIND_U32, offsetof(struct train_options, last_layers) },
    { "lr", KIND_REAL, offsetof(struct train_options, lr) },
    { "lr-auto", KIND_FLAG, offsetof(struct train_options, try_rates) },
    { "schedule", KIND_SCHEDULE, offsetof(struct train_options, schedule) },
    { "warm-up", KIND_REAL, offsetof(struct train_options, warm) },
    { "optimizer", KIND_OPTIMIZER, offsetof(struct train_options, optimizer) },
    { "optimizer-bytes", KIND_U32, offsetof(struct train_options, optimizer_bytes) },
    { "precision", KIND_PRECISION, offsetof(struct train_options, precision) },
    { "ema", KIND_REAL, offsetof(struct train_options, average) },
    { "clip", KIND_REAL, offsetof(struct train_options, clip) },
    { "weight-decay", KIND_REAL, offsetof(struct train_options, decay) },
    { "beta1", KIND_REAL, offsetof(struct train_options, beta1) },
    { "beta2", KIND_REAL, offsetof(struct train_options, beta2) },
    { "eps", KIND_REAL, offsetof(struct train_options, eps) },
    { "epochs", KIND_U32, offsetof(struct train_options, epochs) },
    { "steps", KIND_U64, offsetof(struct train_options, steps) },
    { "rows", KIND_U32, offsetof(struct train_options, batch_rows) },
    { "rows-at-once", KIND_U32, offsetof(struct train_options, step_rows) },
    { "ctx-size", KIND_U32, offsetof(struct train_options, context) },
    { "budget", KIND_REAL, offsetof(struct train_options, budget) },
    { "seed", KIND_U64, offsetof(struct train_options, seed) },
    { "watch", KIND_U32, offsetof(struct train_options, watch) },
    { "agreement", KIND_REAL, offsetof(struct train_options, agreement) },
    { "hold-out", KIND_REAL, offsetof(struct train_options, hold_out) },
    { "phrases", KIND_U32, offsetof(struct train_options, phrases) },
    { "block", KIND_U32, offsetof(struct train_options, block) },
    { "copies", KIND_U32, offsetof(struct train_options, copies) },
    { "loss", KIND_LOSS, offsetof(struct train_options, loss) },
    { "noisy-weight", KIND_REAL, offsetof(struct train_options, noisy_weight) },
    { "ar", KIND_REAL, offsetof(struct train_options, ar) },
    { "skip-long", KIND_FLAG, offsetof(struct train_options, skip_long) },
    { "plain-text", KIND_FLAG, offsetof(struct train_options, plain_text) },
    { "measure", KIND_U32, offsetof(struct train_options, measure) },
    { "save", KIND_U32, offsetof(struct train_options, save) },
    { "save-f32", KIND_FLAG, offsetof(struct train_options, save_f32) },
};
enum { FIELDS = sizeof fields / sizeof *fields };

static json_t *value_of(const struct train_options *o, const struct field *f)
{
    const void *p = (const char *)o + f->at;
    switch (f->kind) {
    case KIND_U32: return json_integer(*(const uint32_t *)p);
    case KIND_U64: return json_integer((json_int_t)*(const uint64_t *)p);
    case KIND_REAL: return json_real(*(const double *)p);
    case KIND_TEXT: return *(const char *const *)p ? json_string(*(const char *const *)p) : json_null();
    case KIND_FLAG: return json_boolean(*(const bool *)p);
    case KIND_METHOD: return json_string(train_method_names[*(const enum train_method *)p]);
    case KIND_HEAD: return json_string(head_kind_names[*(const enum head_kind *)p]);
    case KIND_SCHEDULE: return json_string(schedule_names[*(const enum schedule_kind *)p]);
    case KIND_PRECISION: return json_string(train_precision_names[*(const enum precision *)p]);
    case KIND_LOSS: return json_string(train_loss_names[*(const enum train_loss *)p]);
    case KIND_OPTIMIZER: return json_string(train_optimizer_names[*(const enum optimizer *)p]);
    }
    return json_null();
}

static json_t *paths(const char *const *list, size_t n)
{
    json_t *all = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(all, json_string(list[i]));
    return all;
}

static char *run_text(const struct trainer *t)
{
    char level[LEVEL_MOST];
    json_t *asked = json_object();
    trainer_level(t, level);
    for (int i = 0; i < FIELDS; i++) json_object_set_new(asked, fields[i].key, value_of(&t->o, &fields[i]));
    json_t *j = json_pack("{s:s,s:i,s:s,s:o,s:o,s:o,s:{s:s,s:s,s:s,s:s},s:s,s:I,s:I,s:f}", "format", "stretto-teach",
                          "version", 1, "model", t->o.model, "data", paths(t->o.data, t->o.n_data), "valid",
                          paths(t->o.valid, t->o.n_valid), "options", asked, "content", "model", t->base, "template",
                          t->template, "data", t->data, "valid", t->held_data, "level", level, "begun",
                          (json_int_t)t->now, "total_steps", (json_int_t)t->plan.steps, "rate", t->plan.lr);
    if (j && t->o.teacher_cache) json_object_set_new(j, "teacher_cache", json_string(t->o.teacher_cache));
    if (j && t->plan.distils) json_object_set_new(j, "teacher", json_string(t->o.teacher));
    if (j && t->o.teacher) {
        json_object_set_new(json_object_get(j, "content"), "teacher", json_string(t->taught_by));
    }
    if (j && t->o.states) {
        json_object_set_new(j, "states", json_string(t->o.states));
        json_object_set_new(json_object_get(j, "content"), "states", json_string(t->traced));
    }
    char *text = j ? json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(j);
    return text;
}

stretto_status train_run_text(const char *folder, char **out, struct error *err)
{
    char path[PATH_MAX];
    struct file_map m;
    struct stat st;
    *out = NULL;
    TRY(trainer_path(folder, "run.json", path, err));
    if (stat(path, &st) != 0)
        return fail(err, STRETTO_E_ARG, "there is no training in %s to go on with: leave out --resume to begin one",
                    folder);
    TRY(file_map_open(&m, path, err));
    *out = m.size <= TEXT_MOST ? mem_strndup((const char *)m.data, m.size) : NULL;
    file_map_close(&m);
    return *out ? STRETTO_OK : no_memory(err);
}

static stretto_status read_run(const struct trainer *t, json_t **out, struct error *err)
{
    char *text;
    TRY(train_run_text(t->o.folder, &text, err));
    stretto_status s = json_tree(out, text, strlen(text), JSON_TWICE_REFUSED, "run.json", err);
    mem_free(text);
    const char *format = s == STRETTO_OK ? json_string_value(json_object_get(*out, "format")) : "";
    if (s == STRETTO_OK && (!format || strcmp(format, "stretto-teach") != 0)) {
        json_decref(*out);
        *out = NULL;
        s = fail(err, STRETTO_E_FORMAT, "%s/run.json is none of a training", t->o.folder);
    }
    return s;
}

/* What decides no bit of what is learned may change; where answers are watched, when decides where it ends. */
static bool is_free(const struct trainer *t, const char *key)
{
    return strcmp(key, "save") == 0 || strcmp(key, "save-f32") == 0 || (strcmp(key, "measure") == 0 && !t->o.watch);
}

/* The first thing that is asked for now and was not then. */
static stretto_status same_options(const struct trainer *t, const json_t *run, struct error *err)
{
    const json_t *asked = json_object_get(run, "options");
    struct train_options usual;                          /* what an older run.json does not tell of */
    train_options_defaults(&usual);
    for (int i = 0; i < FIELDS; i++) {
        if (is_free(t, fields[i].key)) continue;
        json_t *now = value_of(&t->o, &fields[i]), *was = value_of(&usual, &fields[i]);
        const json_t *told = json_object_get(asked, fields[i].key), *then = told ? told : was;
        bool same = json_is_number(now) ? json_number_value(now) == json_number_value(then) : json_equal(now, then);
        char *a = same ? NULL : json_dumps(then, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        char *b = same ? NULL : json_dumps(now, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        json_decref(now);
        json_decref(was);
        if (!same)
            fail(err, STRETTO_E_ARG, "the training in %s was begun with --%s %s, not %s: go on with the same, or "
                 "begin one in another folder", t->o.folder, fields[i].key, a ? a : "?", b ? b : "?");
        free(a);
        free(b);
        if (!same) return STRETTO_E_ARG;
    }
    return STRETTO_OK;
}

static stretto_status same_content(const struct trainer *t, const json_t *run, struct error *err)
{
    const json_t *then = json_object_get(run, "content");
    const struct { const char *key, *now, *words; } rows[] = {
        { "model", t->base, "the model is another" },
        { "template", t->template, "the model's chat template is another" },
        { "teacher", t->taught_by, "the teacher is another" },
        { "data", t->data, "the data have changed" },
        { "states", t->traced, "the traced states have changed" },
        { "valid", t->held_data, "the held out data have changed" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *was = json_string_value(json_object_get(then, rows[i].key));
        if (strcmp(was ? was : "", rows[i].now) == 0) continue;
        return fail(err, STRETTO_E_ARG, "%s since the training in %s was begun: it would not be the same training; "
                    "give it what it had, or begin one in another folder", rows[i].words, t->o.folder);
    }
    return STRETTO_OK;
}

/* ---- who works here -------------------------------------------------------------------------- */

static stretto_status lock_folder(struct trainer *t, struct error *err)
{
    char path[PATH_MAX];
    if (mkdir(t->o.folder, 0777) != 0 && errno != EEXIST)
        return fail(err, STRETTO_E_IO, "cannot make the folder %s: %s", t->o.folder, strerror(errno));
    TRY(trainer_path(t->o.folder, ".lock", path, err));
    t->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (t->lock < 0) return fail(err, STRETTO_E_IO, "cannot write into %s: %s", t->o.folder, strerror(errno));
    if (flock(t->lock, LOCK_EX | LOCK_NB) == 0) return STRETTO_OK;
    return fail(err, STRETTO_E_ARG, "another process trains in %s; name another folder", t->o.folder);
}

/* Takes the folder, and finds that it holds what was asked for: nothing, or this training. */
stretto_status trainer_folder(struct trainer *t, struct error *err)
{
    char path[PATH_MAX];
    struct stat st;
    json_t *run = NULL;
    TRY(lock_folder(t, err));
    TRY(trainer_path(t->o.folder, "run.json", path, err));
    if (!t->o.resume) {
        if (stat(path, &st) != 0 && !checkpoint_newest(t->o.folder)) return STRETTO_OK;
        if (stat(path, &st) != 0)
            return fail(err, STRETTO_E_ARG, "%s has checkpoints of a training whose run.json is gone: name another "
                        "folder", t->o.folder);
        return fail(err, STRETTO_E_ARG, "there is a training in %s, at step %llu: --resume goes on with it; otherwise "
                    "name another folder", t->o.folder, (unsigned long long)checkpoint_newest(t->o.folder));
    }
    TRY(read_run(t, &run, err));
    stretto_status s = same_options(t, run, err);
    if (s == STRETTO_OK) s = same_content(t, run, err);
    if (s == STRETTO_OK) t->plan.steps = (uint64_t)json_integer_value(json_object_get(run, "total_steps"));
    const char *level = json_string_value(json_object_get(run, "level"));
    snprintf(t->level, sizeof t->level, "%s", level ? level : "");
    if (s == STRETTO_OK) t->plan.lr = json_number_value(json_object_get(run, "rate"));
    if (s == STRETTO_OK && (t->plan.steps == 0 || t->plan.steps > 1u << 30))
        s = fail(err, STRETTO_E_FORMAT, "%s says no number of steps", path);
    json_decref(run);
    return s;
}

stretto_status trainer_run_begin(struct trainer *t, struct error *err)
{
    char path[PATH_MAX];
    TRY(trainer_path(t->o.folder, "run.json", path, err));
    char *text = run_text(t);
    stretto_status s = text ? file_write(path, text, strlen(text), true, err) : no_memory(err);
    free(text);
    return s;
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

struct checkpoint trainer_checkpoint(const struct trainer *t)
{
    return (struct checkpoint){ &t->forward, t->trained, t->device, t->weights, t->o.average > 0, t->good };
}

stretto_status trainer_save(struct trainer *t, struct error *err)
{
    const struct checkpoint c = trainer_checkpoint(t);
    const struct watched *w = &t->watched;
    char state[640], first[40] = "null";
    if (t->saved == t->step) return STRETTO_OK;
    if (t->spoilt) return fail(err, STRETTO_E_NAN, "what was learned last is spoilt and is not saved");
    if (isfinite(t->first_held)) snprintf(first, sizeof first, "%.9g", t->first_held);
    snprintf(state, sizeof state, "{\"step\": %llu, \"rows\": %llu, \"learned\": %llu, \"seconds\": %.3f, "
             "\"first_loss\": %.9g, \"mean_loss\": %.9g, \"best_held\": %.9g, \"best_step\": %llu, \"worse\": %llu, "
             "\"good\": %llu, \"scale\": %.17g, \"clean\": %llu, \"skipped\": %llu, "
             "\"first_held\": %s}",
             (unsigned long long)t->step, (unsigned long long)t->rows, (unsigned long long)t->learned, t->seconds,
             w->first_loss, w->mean_loss, w->best_held, (unsigned long long)w->best_step,
             (unsigned long long)w->worse, (unsigned long long)t->good,
             t->scaling.scale, (unsigned long long)t->scaling.clean, (unsigned long long)t->scaling.skipped,
             first);
    TRY(checkpoint_write(&c, t->o.folder, t->step, state, err));
    t->saved = t->step;
    return STRETTO_OK;
}

static stretto_status take_state(struct trainer *t, const char *text, uint64_t step, struct error *err)
{
    json_t *j = NULL;
    TRY(json_tree(&j, text, strlen(text), JSON_TWICE_REFUSED, "a checkpoint's state", err));
    t->step = (uint64_t)json_integer_value(json_object_get(j, "step"));
    t->rows = (uint64_t)json_integer_value(json_object_get(j, "rows"));
    t->learned = (uint64_t)json_integer_value(json_object_get(j, "learned"));
    t->seconds = json_number_value(json_object_get(j, "seconds"));
    if (t->o.precision == PRECISION_F16)
        t->scaling = (struct scaling){ json_number_value(json_object_get(j, "scale")),
                                       (uint64_t)json_integer_value(json_object_get(j, "clean")),
                                       (uint64_t)json_integer_value(json_object_get(j, "skipped")) };
    t->good = (uint64_t)json_integer_value(json_object_get(j, "good"));
    t->watched = (struct watched){
        .first_loss = json_number_value(json_object_get(j, "first_loss")),
        .mean_loss = json_number_value(json_object_get(j, "mean_loss")),
        .best_held = json_number_value(json_object_get(j, "best_held")),
        .best_step = (uint64_t)json_integer_value(json_object_get(j, "best_step")),
        .worse = (uint64_t)json_integer_value(json_object_get(j, "worse")) };
    const json_t *first = json_object_get(j, "first_held");
    if (json_is_number(first)) t->first_held = json_number_value(first);
    json_decref(j);
    if (t->step == step && step <= t->plan.steps && t->scaling.scale >= 1 && t->scaling.skipped <= step)
        return STRETTO_OK;
    return fail(err, STRETTO_E_FORMAT, "the checkpoint of step %llu in %s says it is of step %llu",
                (unsigned long long)step, t->o.folder, (unsigned long long)t->step);
}

stretto_status trainer_go_on(struct trainer *t, struct error *err)
{
    const struct checkpoint c = trainer_checkpoint(t);
    uint64_t step = checkpoint_newest(t->o.folder);
    char *text;
    if (!step) return STRETTO_OK;
    TRY(checkpoint_state(t->o.folder, step, &text, err));
    stretto_status s = take_state(t, text, step, err);
    mem_free(text);
    if (s == STRETTO_OK) s = checkpoint_read(&c, t->o.folder, step, err);
    t->saved = t->step;
    return s;
}

/* ---- the log --------------------------------------------------------------------------------- */

/* Lines of steps that are made again, and one that was cut off, go. */
static stretto_status trim_log(const struct trainer *t, const char *path, struct error *err)
{
    struct file_map m;
    size_t keep = 0;
    if (access(path, F_OK) != 0) return STRETTO_OK;
    TRY(file_map_open(&m, path, err));
    for (size_t at = 0; at < m.size;) {
        const unsigned char *end = memchr(m.data + at, '\n', m.size - at);
        unsigned long long step = 0;
        if (!end) break;
        char head[40];
        snprintf(head, sizeof head, "%.*s", (int)(sizeof head - 1 < m.size - at ? sizeof head - 1 : m.size - at),
                 (const char *)m.data + at);
        if (!t->step || (sscanf(head, "{\"step\": %llu", &step) == 1 && step > t->step)) break;
        keep = at = (size_t)(end - m.data) + 1;
    }
    file_map_close(&m);
    if (truncate(path, (off_t)keep) != 0) return fail(err, STRETTO_E_IO, "cannot write %s: %s", path, strerror(errno));
    return STRETTO_OK;
}

stretto_status trainer_log_open(struct trainer *t, struct error *err)
{
    char path[PATH_MAX];
    TRY(trainer_path(t->o.folder, "log.jsonl", path, err));
    if (t->o.resume) TRY(trim_log(t, path, err));
    t->log = fopen(path, t->o.resume ? "ae" : "we");
    return t->log ? STRETTO_OK : fail(err, STRETTO_E_IO, "cannot write %s: %s", path, strerror(errno));
}

static stretto_status flush_log(struct trainer *t, struct error *err)
{
    if (fflush(t->log) == 0) return STRETTO_OK;
    return fail(err, STRETTO_E_IO, "cannot write %s/log.jsonl: %s", t->o.folder, strerror(errno));
}

/* Of the parameter, or of both of an adapter's weight. */
static double first_norm(const struct trainer *t, const double *squares, size_t i)
{
    const char *a = strstr(t->forward.params[i].name, ".lora_a");
    char b[GRAPH_NAME];
    if (!a) return sqrt(squares[i]);
    snprintf(b, sizeof b, "%.*s.lora_b", (int)(a - t->forward.params[i].name), t->forward.params[i].name);
    return sqrt(squares[i] + squares[graph_param_find(&t->forward, b)]);
}

stretto_status trainer_log_first(struct trainer *t, const double *squares, struct error *err)
{
    const char *comma = "";
    fputs("{\"step\": 0, \"gradients\": {", t->log);
    for (size_t i = 0; i < t->forward.n_params; i++) {
        const char *name = t->forward.params[i].name, *a = strstr(name, ".lora_a");
        if (!t->trained[i] || strstr(name, ".lora_b")) continue;
        fprintf(t->log, "%s\"%.*s\": %.6g", comma, (int)(a ? a - name : (long)strlen(name)), name,
                first_norm(t, squares, i));
        comma = ", ";
    }
    fputs("}}\n", t->log);
    return flush_log(t, err);
}

static void log_held(const struct trainer *t, const struct train_report *r)
{
    fprintf(t->log, ", \"held\": %.6f, \"held_error\": %.6f", r->held, r->held_error);
    if (isfinite(r->held_noisy)) fprintf(t->log, ", \"held_noisy\": %.6f", r->held_noisy);
}

static void log_accept(FILE *f, const struct head_accept *a)
{
    fputs(", \"accept\": [", f);
    for (uint32_t k = 0; k < a->n; k++) fprintf(f, "%s%.4f", k ? ", " : "", a->accept[k]);
    fprintf(f, "], \"tokens_per_step\": %.4f", a->per_step);
}

/* Step 0 is what was measured before anything was learned. */
stretto_status trainer_log_step(struct trainer *t, const struct train_report *r, struct error *err)
{
    fprintf(t->log, "{\"step\": %llu", (unsigned long long)r->step);
    if (r->step && r->skipped) fprintf(t->log, ", \"skipped\": true, \"scale\": %g", t->scaling.scale);
    else if (r->step)
        fprintf(t->log, ", \"loss\": %.6f, \"error\": %.6f, \"norm\": %.6g", r->loss, r->error, r->norm);
    if (r->step)
        fprintf(t->log, ", \"lr\": %.6g, \"rows\": %llu, \"learned\": %llu, \"seconds\": %.3f", r->lr,
                (unsigned long long)r->rows, (unsigned long long)r->learned, r->seconds);
    if (r->step && isfinite(r->noisy)) fprintf(t->log, ", \"noisy\": %.6f", r->noisy);
    if (isfinite(r->held) && (r->step != 1 || !t->held.n || t->plan.steps == 1 || t->o.measure == 1))
        log_held(t, r);
    if (r->accept.n) log_accept(t->log, &r->accept);
    if (isfinite(r->distinct))
        fprintf(t->log, ", \"distinct4\": %.4f, \"agreement\": %.4f", r->distinct, r->agreement);
    if (isfinite(r->per_step)) fprintf(t->log, ", \"per_step\": %.3f", r->per_step);
    fputs("}\n", t->log);
    return flush_log(t, err);
}
