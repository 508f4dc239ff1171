/* Whether the model still writes. Losses of given words fall while the model's own answers become one word over and
 * over; so some prompts of what is held out are answered greedily, before anything is learned and at every measurement.
 * Where the answers have lost half of their distinct runs of four tokens, or no longer begin as those before did and
 * that was asked for, the training ends with the last checkpoint whose answers were well. */
#include "base/file.h"
#include "base/json_tree.h"
#include "base/memory.h"
#include "decode/strategy.h"
#include "engine/writers.h"
#include "train/trainer_int.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TOKENS = 64, RUN = 4, WINDOW = 16, FILE_MOST = 1 << 26 };
#define KEPT_LEAST 0.5            /* of the distinct runs before */

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory"); }

/* ---- answers --------------------------------------------------------------------------------- */

void watch_done(struct watch *w)
{
    mem_free(w->token);
    mem_free(w->n);
    *w = (struct watch){ 0 };
}

static stretto_status make(struct watch *w, uint32_t answers, struct error *err)
{
    *w = (struct watch){ .answers = answers };
    w->token = mem_zalloc((size_t)answers * TOKENS, sizeof *w->token);
    w->n = mem_zalloc(answers, sizeof *w->n);
    if (w->token && w->n) return STRETTO_OK;
    watch_done(w);
    return no_memory(err);
}

static bool ends(const void *ud, int32_t token)
{
    const struct trainer *t = ud;
    return t->model->tokenizer && tokenizer_is_eog(t->model->tokenizer, token);
}

static uint32_t answers_of(const struct trainer *t)
{
    return t->held.n < t->o.watch ? (uint32_t)t->held.n : t->o.watch;
}

/* Of guesses and the token before them. */
static uint32_t window_of(const struct trainer *t) { return t->noise.block < WINDOW ? t->noise.block : WINDOW; }

static struct engine_options engine_for(const struct trainer *t)
{
    uint32_t longest = 0;
    for (uint32_t i = 0; i < answers_of(t); i++)
        if (t->held.sample[i].first > longest) longest = t->held.sample[i].first;
    uint32_t context = longest + TOKENS;
    if (context > t->model->config.context) context = t->model->config.context;
    uint32_t rows = answers_of(t) * window_of(t);
    return (struct engine_options){ .threads = t->o.threads, .context = context, .sequences = answers_of(t),
                                    .max_rows = rows > t->plan.step_rows ? rows : t->plan.step_rows,
                                    .cache = CACHE_F16 };
}

stretto_status watch_bytes(const struct trainer *t, uint64_t *out, struct error *err)
{
    const struct model m = trainer_running(t);
    const struct engine_options o = engine_for(t);
    struct engine_info info;
    *out = 0;
    if (!answers_of(t)) return STRETTO_OK;
    TRY(engine_plan(&m, &o, &info, err));
    *out = info.buffers + info.pages;
    return STRETTO_OK;
}

/* Without guesses, or with a window of Jacobi's of a block, or what an adapter of guesses makes of it: the answers are
 * the same. */
static stretto_status way_of(const struct trainer *t, struct writer_options *out, struct error *err)
{
    *out = (struct writer_options){ .most = 1 };
    if (!t->noise.block) return STRETTO_OK;
    *out = (struct writer_options){ .setup = { .window = window_of(t) } };
    return decode_parse(t->adapter.rows == ADAPTER_GUESSES ? "gated" : "jacobi", &out->choice, err);
}

static stretto_status begin_all(struct trainer *t, struct engine *e, struct writers *x, struct error *err)
{
    for (uint32_t i = 0; i < x->n; i++) {
        const struct sample *s = &t->held.sample[i];
        struct plain_writer *p = &x->w[i];
        engine_set(e, p->seq, sample_ids(&t->held, s), s->first, 0);
        writer_begin(p->writer);
        writer_limit(p->writer, s->first + TOKENS, ends, t);
        struct request r = { .seq = p->seq, .writer = p->writer, .cancel = t->o.cancel ? engine_flag_set : NULL,
                             .ud = (void *)(uintptr_t)t->o.cancel };
        TRY(request_add(e, &r, &(uint32_t){ 0 }, err));
    }
    return STRETTO_OK;
}

static stretto_status turn(struct engine *e, struct writers *x, struct error *err)
{
    size_t n;
    TRY(engine_turn(e, x->events, x->n, &n, err));
    for (size_t i = 0; i < n; i++)
        if (x->events[i].error.status != STRETTO_OK)
            return fail(err, x->events[i].error.status, "%s", x->events[i].error.text);
    return STRETTO_OK;
}

static void take_all(const struct writers *x, struct watch *w)
{
    double tokens = 0, steps = 0;
    for (uint32_t i = 0; i < x->n; i++) {
        int32_t *to = w->token + (size_t)i * TOKENS;
        for (int32_t token; w->n[i] < TOKENS && writer_next(x->w[i].writer, &token);) to[w->n[i]++] = token;
        tokens += (double)writer_counts(x->w[i].writer)->tokens;
        steps += (double)writer_counts(x->w[i].writer)->steps;
    }
    w->per_step = steps > 0 ? tokens / steps : NAN;
}

static stretto_status answer_all(struct trainer *t, struct engine *e, struct watch *w, struct error *err)
{
    struct writer_options how;
    struct writers x;
    TRY(way_of(t, &how, err));
    TRY(writers_open_as(e, &x, w->answers, &how, err));
    stretto_status s = begin_all(t, e, &x, err);
    while (s == STRETTO_OK && requests_count(e)) s = turn(e, &x, err);
    requests_drop(e);
    if (s == STRETTO_OK) take_all(&x, w);
    writers_close(e, &x);
    return s;
}

static stretto_status write_answers(struct trainer *t, struct watch *w, struct error *err)
{
    const struct model m = trainer_running(t);
    const struct engine_options o = engine_for(t);
    struct engine *e;
    bool swap = trainer_averages(t);
    TRY(make(w, answers_of(t), err));
    TRY(engine_open(&e, &m, &o, err));
    if (swap) t->device->backend->param_swap(t->weights);
    stretto_status s = answer_all(t, e, w, err);
    if (swap) t->device->backend->param_swap(t->weights);
    engine_close(e);
    return s;
}

/* ---- what they are worth --------------------------------------------------------------------- */

/* The share of runs of four tokens that have not been in their answer before. */
static double distinct(const struct watch *w)
{
    double runs = 0, other = 0;
    for (uint32_t i = 0; i < w->answers; i++)
        for (uint32_t k = 0; k + RUN <= w->n[i]; k++) {
            const int32_t *x = w->token + (size_t)i * TOKENS;
            uint32_t same = 0;
            while (same < k && memcmp(x + same, x + k, RUN * sizeof *x) != 0) same++;
            runs++;
            other += same == k;
        }
    return runs > 0 ? other / runs : 1;
}

/* The mean share of an answer before which the answer now begins with. */
static double agreement(const struct watch *before, const struct watch *now)
{
    double sum = 0;
    for (uint32_t i = 0; i < before->answers; i++) {
        const int32_t *a = before->token + (size_t)i * TOKENS, *b = now->token + (size_t)i * TOKENS;
        uint32_t n = 0;
        while (n < before->n[i] && n < now->n[i] && a[n] == b[n]) n++;
        sum += before->n[i] ? (double)n / before->n[i] : now->n[i] == 0;
    }
    return before->answers ? sum / before->answers : 1;
}

/* ---- those before, in the folder ------------------------------------------------------------- */

static stretto_status keep_first(const struct trainer *t, struct error *err)
{
    char path[PATH_MAX];
    json_t *all = json_array();
    for (uint32_t i = 0; i < t->before.answers; i++) {
        json_t *a = json_array();
        for (uint32_t k = 0; k < t->before.n[i]; k++)
            json_array_append_new(a, json_integer(t->before.token[(size_t)i * TOKENS + k]));
        json_array_append_new(all, a);
    }
    char *text = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    stretto_status s = text ? trainer_path(t->o.folder, "answers.json", path, err) : no_memory(err);
    if (s == STRETTO_OK) s = file_write(path, text, strlen(text), true, err);
    free(text);
    return s;
}

static stretto_status take_first(struct trainer *t, const json_t *all, const char *path, struct error *err)
{
    TRY(make(&t->before, answers_of(t), err));
    bool fits = json_array_size(all) == t->before.answers;
    for (uint32_t i = 0; fits && i < t->before.answers; i++) {
        const json_t *a = json_array_get(all, i);
        fits = json_array_size(a) <= TOKENS;
        t->before.n[i] = fits ? (uint32_t)json_array_size(a) : 0;
        for (uint32_t k = 0; k < t->before.n[i]; k++)
            t->before.token[(size_t)i * TOKENS + k] = (int32_t)json_integer_value(json_array_get(a, k));
    }
    return fits ? STRETTO_OK
                : fail(err, STRETTO_E_FORMAT, "%s has not the answers to these prompts; begin in another folder", path);
}

stretto_status watch_begin(struct trainer *t, struct error *err)
{
    char path[PATH_MAX];
    struct file_map m;
    json_t *all = NULL;
    if (!t->o.watch) return STRETTO_OK;
    if (!t->held.n)
        return fail(err, STRETTO_E_ARG, "answers are watched of prompts that are held out, and none are: give "
                    "--hold-out or --valid");
    if (!t->step) return STRETTO_OK;                         /* they are written with the first step */
    TRY(trainer_path(t->o.folder, "answers.json", path, err));
    TRY(file_map_open(&m, path, err));
    stretto_status s = m.size > FILE_MOST ? fail(err, STRETTO_E_FORMAT, "%s is too large", path)
                     : json_tree(&all, (const char *)m.data, m.size, JSON_TWICE_REFUSED, "answers.json", err);
    file_map_close(&m);
    if (s == STRETTO_OK) s = take_first(t, all, path, err);
    json_decref(all);
    return s;
}

/* ---- during a training ----------------------------------------------------------------------- */

/* As the last checkpoint that was well left it, which becomes what was learned. */
static stretto_status go_back(struct trainer *t, struct error *err)
{
    checkpoint_remove_behind(t->o.folder, t->good);
    if (!t->good) {
        t->spoilt = true;
        return STRETTO_OK;
    }
    TRY(trainer_go_on(t, err));
    packing_done(&t->packing);
    t->epoch = t->epoch_begin = 0;
    t->plan.steps = t->step;
    return trainer_write(t, err);
}

static stretto_status collapsed(struct trainer *t, const struct train_report *r, struct error *err)
{
    unsigned long long at = t->step;
    double before = distinct(&t->before);
    TRY(go_back(t, err));
    char kept[200] = "nothing of it is kept";
    if (t->good)
        snprintf(kept, sizeof kept, "what was learned until step %llu, whose answers were well, is what is kept and "
                 "written", (unsigned long long)t->good);
    if (r->distinct < KEPT_LEAST * before)
        return fail(err, STRETTO_E_NAN, "the model's answers collapse at step %llu: of runs of four tokens %.0f %% are "
                    "new, and %.0f %% were; %s. Take a smaller --lr", at, 100 * r->distinct, 100 * before, kept);
    return fail(err, STRETTO_E_NAN, "the model's answers leave what they were at step %llu: %.0f %% of them are as "
                "before, and %.0f %% were asked for; %s. Take a smaller --lr", at, 100 * r->agreement,
                100 * t->o.agreement, kept);
}

stretto_status trainer_watch(struct trainer *t, struct train_report *r, struct error *err)
{
    struct watch now = { 0 };
    if (!t->o.watch) return STRETTO_OK;
    if (!t->step) {
        TRY(write_answers(t, &t->before, err));
        TRY(keep_first(t, err));
        r->distinct = distinct(&t->before);
        r->agreement = 1;
        if (t->noise.block) r->per_step = t->before.per_step;
        return STRETTO_OK;
    }
    stretto_status s = write_answers(t, &now, err);
    if (s == STRETTO_OK) {
        r->distinct = distinct(&now);
        r->agreement = agreement(&t->before, &now);
        if (t->noise.block) r->per_step = now.per_step;
    }
    watch_done(&now);
    return s;
}

/* Behind the log's line of the step. */
stretto_status trainer_judge(struct trainer *t, const struct train_report *r, struct error *err)
{
    if (!isfinite(r->distinct)) return STRETTO_OK;
    if (r->distinct < KEPT_LEAST * distinct(&t->before) || r->agreement < t->o.agreement) return collapsed(t, r, err);
    t->good = t->step;
    return trainer_save(t, err);
}
