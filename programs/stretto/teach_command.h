/* The parts of `stretto teach`. */
#ifndef STRETTO_TEACH_COMMAND_H
#define STRETTO_TEACH_COMMAND_H
#include "stretto/command.h"
#include "train/trainer.h"
#include <jansson.h>

struct teach_command {
    const char *model, *out, *method, *targets, *rows_of, *schedule, *budget, *keep, *lr, *optimizer,
            *precision, *teacher, *teacher_cache, *loss, *states, *recipe, *head, *lora;
    struct text_list data, valid;
    double hold_out, alpha, warm, clip, decay, beta1, beta2, eps, average, agreement, written, noisy_weight, ar;
    int64_t rank, last_layers, epochs, steps, rows, at_once, context, seed, measure, save, show, threads,
            optimizer_bytes, watch, phrases, teacher_top, teacher_drawn, block, copies, depth, slice, feed;
    bool plan, resume, skip_long, plain_text, save_f32, learn_prompts, on_policy, gated, yes, quiet, json;
};

/* ---- teach_options.c */
extern const struct option_use teach_uses[];
extern const size_t teach_n_uses;
void teach_defaults(void *options);
/* Whether --states names a file. */
bool teach_traced(const struct teach_command *o);
/* What follows from the words that were given: --method consistency, --gated. */
void teach_usual(struct teach_command *o);
/* The option's name in run.json ("rank"): its last flag without dashes. */
const char *teach_key(const struct option *o);
/* Whether the option of that name was given. */
bool teach_given(const char *key);
/* Of "90m"; 0 of NULL. Prints the sentence itself; an exit code. */
int teach_seconds(const char *text, double *out);
/* What was not given is as the training in the folder was begun with; the texts belong to *run, which is to be kept.
 * Prints the sentence itself; an exit code. */
int teach_resume(struct teach_command *o, json_t **run);
/* As trainer_open takes it; the lists and texts are the command's. */
int teach_options(const struct teach_command *o, struct train_options *out);

/* ---- teach_show.c: what people read */
void teach_say_data(FILE *f, const struct train_plan *p, const struct lines *l);
void teach_say_plan(FILE *f, const struct train_plan *p, enum train_method method, uint32_t rank);
/* The loss's name: of what lines say, or of what a teacher does. */
const char *teach_loss(const struct train_plan *p);
void teach_print_plan(const struct train_plan *p, bool json);
/* The first n samples: ids, texts, and what counts; and their noisy copies of the first epoch. */
void teach_show(const struct lines *l, const struct tokenizer *t, const struct noise_how *noise, size_t n);
/* The table of phrases; with `all` 0, a line about them. */
void teach_say_phrases(FILE *f, const struct found_phrases *p, const struct tokenizer *t, bool all);
/* One line of progress, drawn again on a terminal, at most `width` columns. */
void teach_line(char *out, size_t size, size_t width, const struct train_report *r, const struct train_plan *p,
                double rows_per_second, double held, double per_step, const struct head_accept *accept, double left);
/* "guesses right 0.80/0.56/0.36, 2.72 tokens a step" */
void teach_accept(char *out, size_t size, const struct head_accept *a);

/* ---- teach_svg.c */
/* Draws FOLDER/curves.svg of FOLDER/log.jsonl. */
stretto_status teach_draw(const char *folder, struct error *err);
#endif
