/* What the parts of `stretto eval` share. */
#ifndef STRETTO_EVAL_COMMAND_H
#define STRETTO_EVAL_COMMAND_H
#include "eval/texts.h"
#include "stretto/open.h"
#include "ui/progress.h"
#include <jansson.h>

struct engine;

struct eval_options {
    const char *by;                 /* the command that says what goes wrong */
    bool quiet;                     /* no progress                           */
    struct model_options model;
    struct text_list files, against;
    const char *base, *ids, *raw, *output, *tables;
    int64_t chunks, tasks, seed, predict;
    bool base_reference, letters, json, force;
};

/* A model with an engine whose steps are as its options say. pool: tokens that its sequences share; 0: all contexts. */
struct measured { stretto_model *model; struct engine *engine; const char *name; };
int measured_open(struct measured *x, const char *by, const struct model_options *o, uint32_t context,
                  uint32_t sequences, uint32_t pool);
void measured_close(struct measured *x);

/* The texts of -f as windows of the model's tokens, and progress over them. */
struct texts { struct eval_set set[16]; size_t n; uint32_t longest; struct ui_progress ui; struct progress hook; };
int texts_open(struct texts *t, const struct eval_options *o, const stretto_model *m);
void texts_close(struct texts *t);

uint32_t window_of(const struct eval_options *o);
void print_figures(json_t *j, bool json);
/* The last part of a path. */
const char *file_name(const char *path);

int eval_kl_run(const struct eval_options *o);
/* hellaswag, piqa or mmlu, gsm8k or spider: what share of them the model has right, and what the base has where there
 * is one; written to `output` where that is named. *out: the figures, to be given back. An exit code. */
int eval_task(const struct eval_options *o, const char *name, json_t **out);
#define EVAL_TASKS "hellaswag|piqa|mmlu|gsm8k|spider"
/* Whether the files hold what is asked for, before hours of other work. */
int eval_task_check(const struct eval_options *o, const char *name);
/* The parts of it. */
int eval_choices(const struct eval_options *o, const char *name, json_t **out);
int eval_written(const struct eval_options *o, const char *name, json_t **out);
int eval_choices_check(const struct eval_options *o, const char *name);
int eval_written_check(const struct eval_options *o, const char *name);

/* The share of tasks that are right, with its interval; what a base makes of the same ones; and both for people. */
json_t *share_figures(const bool *right, size_t n);
void share_compare(json_t *j, const bool *right, const bool *its, size_t n, size_t flips);
void share_print(const json_t *j);
#endif
