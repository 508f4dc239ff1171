/* stretto eval hellaswag|piqa|mmlu: tasks with several answers, of one model or of two beside each other. */
#include "base/file.h"
#include "base/memory.h"
#include "compress/texts.h"
#include "engine/engine.h"
#include "eval/choices.h"
#include "stretto/eval_command.h"
#include "stretto/experimental.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef stretto_status (*task_reader)(struct eval_tasks *t, const char *text, size_t n, const char *where,
                                      struct error *err);

static stretto_status read_mmlu(struct eval_tasks *t, const char *text, size_t n, const char *where,
                                struct error *err)
{
    return eval_tasks_mmlu(t, text, n, 0, where, err);
}

static stretto_status read_mmlu_letters(struct eval_tasks *t, const char *text, size_t n, const char *where,
                                        struct error *err)
{
    return eval_tasks_mmlu(t, text, n, 1, where, err);
}

static task_reader reader_of(const struct eval_options *o, const char *name)
{
    if (strcmp(name, "hellaswag") == 0) return eval_tasks_hellaswag;
    if (strcmp(name, "piqa") == 0) return eval_tasks_piqa;
    return o->letters ? read_mmlu_letters : read_mmlu;
}

/* ---- files ----------------------------------------------------------------------------------- */

static int add_file(const struct eval_options *o, struct eval_tasks *t, task_reader read, const char *path)
{
    size_t n;
    struct error err = { 0 };
    char *text = read_text(o->by, path, &n);
    if (!text) return EXIT_FAILED;
    stretto_status s = read(t, text, n, file_name(path), &err);
    free(text);
    return s == STRETTO_OK ? EXIT_DONE : command_fail(o->by, s, err.text);
}

static int is_csv(const struct dirent *d)
{
    size_t n = strlen(d->d_name);
    return n > 4 && strcmp(d->d_name + n - 4, ".csv") == 0;
}

/* All *.csv of a folder, by name. */
static int add_folder(const struct eval_options *o, struct eval_tasks *t, task_reader read, const char *folder)
{
    struct dirent **list;
    int n = scandir(folder, &list, is_csv, alphasort), code = EXIT_DONE;
    for (int i = 0; i < n; i++) {
        char path[4096];
        if (snprintf(path, sizeof path, "%s/%s", folder, list[i]->d_name) >= (int)sizeof path)
            code = command_fail(o->by, STRETTO_E_ARG, "a path is too long");
        if (code == EXIT_DONE) code = add_file(o, t, read, path);
        free(list[i]);
    }
    if (n >= 0) free(list);
    if (n > 0) return code;
    struct error err = { 0 };
    return command_fail(o->by, fail(&err, STRETTO_E_IO, "there is no *.csv in %s", folder), err.text);
}

static int read_tasks(struct eval_tasks *t, const struct eval_options *o, const char *name)
{
    int code = EXIT_DONE;
    struct error err = { 0 };
    task_reader read = reader_of(o, name);
    if (!o->files.n && strcmp(name, "hellaswag"))
        return command_usage(o->by, "the tasks are missing: -f FILE; hellaswag alone has some that are built in");
    struct text_file own = texts_hellaswag();
    if (!o->files.n) code = eval_tasks_hellaswag(t, own.data, own.n, own.name, &err) == STRETTO_OK
                                ? EXIT_DONE : command_fail(o->by, err.status, err.text);
    for (size_t i = 0; i < o->files.n && code == EXIT_DONE; i++) {
        struct stat st;
        bool folder = stat(o->files.v[i], &st) == 0 && S_ISDIR(st.st_mode);
        code = folder ? add_folder(o, t, read, o->files.v[i]) : add_file(o, t, read, o->files.v[i]);
    }
    if (code != EXIT_DONE) return code;
    stretto_status s = eval_tasks_draw(t, (size_t)o->tasks, (uint32_t)o->seed, &err);
    return s == STRETTO_OK ? EXIT_DONE : command_fail(o->by, s, err.text);
}

/* ---- scoring --------------------------------------------------------------------------------- */

static int score(const struct eval_options *o, const struct model_options *m, const struct eval_tasks *t,
                 struct choice_result **out)
{
    struct measured x = { 0 };
    struct choice_set set = { 0 };
    struct error err = { 0 };
    struct ui_progress ui;
    ui_progress_init(&ui, o->quiet ? NULL : stderr);
    ui.items = true;
    struct progress hook = ui_progress_hook(&ui);
    int code = open_model(o->by, m, false, &x.model);
    if (code != EXIT_DONE) return code;
    const struct tokenizer *tok = stretto_model_inside(x.model)->tokenizer;
    stretto_status s = tok ? choices_open(&set, tok, t, &err)
                           : fail(&err, STRETTO_E_UNSUP, "the model file has no vocabulary");
    if (s != STRETTO_OK) code = command_fail(o->by, s, err.text);
    if (code == EXIT_DONE) code = measured_open(&x, o->by, m, set.longest, CHOICES_SEQUENCES, choices_pool(&set));
    *out = calloc(t->n, sizeof **out);
    if (code == EXIT_DONE && !*out) code = command_fail(o->by, STRETTO_E_NOMEM, NULL);
    if (code == EXIT_DONE) {
        s = choices_score(x.engine, &set, &interrupted, &hook, *out, &err);
        ui_progress_break(&ui);
        if (s != STRETTO_OK) code = command_fail(o->by, s, err.text);
    }
    choices_done(&set);
    measured_close(&x);
    mem_trim();                                     /* before the next one is opened */
    return code;
}

json_t *share_figures(const bool *right, size_t n)
{
    size_t k = 0;
    double low, high;
    for (size_t i = 0; i < n; i++) k += right[i];
    share_interval(k, n, &low, &high);
    return json_pack("{s:f,s:f,s:f,s:I,s:I}", "accuracy", (double)k / (double)n, "low", low, "high", high, "right",
                     (json_int_t)k, "tasks", (json_int_t)n);
}

void share_compare(json_t *j, const bool *right, const bool *its, size_t n, size_t flips)
{
    size_t lost = 0, won = 0;
    for (size_t i = 0; i < n; i++) {
        lost += its[i] && !right[i];
        won += right[i] && !its[i];
    }
    json_t *base = share_figures(its, n);
    json_object_set(j, "base_accuracy", json_object_get(base, "accuracy"));
    json_object_set(j, "base_low", json_object_get(base, "low"));
    json_object_set(j, "base_high", json_object_get(base, "high"));
    json_object_set_new(j, "flips", json_integer((json_int_t)flips));
    json_object_set_new(j, "right_to_wrong", json_integer((json_int_t)lost));
    json_object_set_new(j, "wrong_to_right", json_integer((json_int_t)won));
    json_object_set_new(j, "mcnemar_p", json_real(mcnemar(lost, won)));
    json_decref(base);
}

/* Which were right, and with a base what changed. */
static int tell_choices(const struct eval_options *o, const struct eval_tasks *t, const struct choice_result *own,
                        const struct choice_result *base, json_t **out)
{
    bool *right = calloc(2 * t->n, sizeof *right);
    size_t flips = 0;
    if (!right) return command_fail(o->by, STRETTO_E_NOMEM, NULL);
    for (size_t i = 0; i < t->n; i++) {
        right[i] = own[i].chosen == t->v[i].right;
        right[t->n + i] = base && base[i].chosen == t->v[i].right;
        flips += base && own[i].chosen != base[i].chosen;
    }
    *out = share_figures(right, t->n);
    if (base) share_compare(*out, right, right + t->n, t->n, flips);
    free(right);
    return EXIT_DONE;
}

static int write_each(const struct eval_options *o, const struct eval_tasks *t, const struct choice_result *r)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    for (size_t i = 0; f && i < t->n; i++) {
        json_t *scores = json_array();
        for (uint32_t c = 0; c < t->v[i].n; c++) json_array_append_new(scores, json_real(r[i].score[c]));
        json_t *j = json_pack("{s:s,s:i,s:i,s:o}", "question", t->v[i].question, "right", (int)t->v[i].right, "chosen",
                              (int)r[i].chosen, "scores", scores);
        json_dumpf(j, f, JSON_COMPACT | JSON_REAL_PRECISION(9));
        fputc('\n', f);
        json_decref(j);
    }
    struct error err = { 0 };
    stretto_status s = f && fclose(f) == 0 ? file_write(o->output, text, n, o->force, &err)
                                           : fail(&err, STRETTO_E_NOMEM, "out of memory");
    free(text);
    return s == STRETTO_OK ? EXIT_DONE : command_fail(o->by, s, err.text);
}

void share_print(const json_t *j)
{
#define REAL(key) json_real_value(json_object_get(j, key))
#define WHOLE(key) (long long)json_integer_value(json_object_get(j, key))
    printf("right                %lld of %lld: %.2f %% (95 %%: %.2f to %.2f)\n", WHOLE("right"), WHOLE("tasks"),
           100 * REAL("accuracy"), 100 * REAL("low"), 100 * REAL("high"));
    if (json_object_get(j, "base_accuracy"))
        printf("the base             %.2f %% (95 %%: %.2f to %.2f)\n"
               "another answer       %lld: right before and now wrong %lld, wrong and now right %lld\n"
               "McNemar's test       p = %.3g that models as good as each other differ so\n",
               100 * REAL("base_accuracy"), 100 * REAL("base_low"), 100 * REAL("base_high"), WHOLE("flips"),
               WHOLE("right_to_wrong"), WHOLE("wrong_to_right"), REAL("mcnemar_p"));
#undef REAL
#undef WHOLE
}

int eval_choices(const struct eval_options *o, const char *name, json_t **out)
{
    struct eval_tasks t = { 0 };
    struct choice_result *own = NULL, *base = NULL;
    struct model_options m = o->model;
    if (o->base_reference)
        return command_usage(o->by, "%s compares with --base MODEL; --reference is the float32 path", name);
    int code = o->output ? can_create(o->by, "--output", o->output, o->force) : EXIT_DONE;
    if (code == EXIT_DONE) code = read_tasks(&t, o, name);
    if (code == EXIT_DONE) code = score(o, &o->model, &t, &own);
    m.model = o->base;
    m.hf = NULL;
    if (code == EXIT_DONE && o->base) code = score(o, &m, &t, &base);
    if (code == EXIT_DONE && o->output) code = write_each(o, &t, own);
    if (code == EXIT_DONE) code = tell_choices(o, &t, own, base, out);
    free(own);
    free(base);
    eval_tasks_done(&t);
    return code;
}

int eval_choices_check(const struct eval_options *o, const char *name)
{
    struct eval_tasks t = { 0 };
    int code = read_tasks(&t, o, name);
    eval_tasks_done(&t);
    return code;
}

static bool has_choices(const char *name) { return list_has("hellaswag|piqa|mmlu", '|', name, strlen(name)); }

int eval_task_check(const struct eval_options *o, const char *name)
{
    return has_choices(name) ? eval_choices_check(o, name) : eval_written_check(o, name);
}

int eval_task(const struct eval_options *o, const char *name, json_t **out)
{
    *out = NULL;
    return has_choices(name) ? eval_choices(o, name, out) : eval_written(o, name, out);
}
