/* The task of a proof: the same questions to the original and to what it became, by what `stretto eval` has. */
#include "stretto/squeeze_command.h"
#include "stretto/eval_command.h"
#include <stdio.h>
#include <string.h>

/* Tasks that are built in are short, but not shorter than this. */
enum { LEAST_CONTEXT = 512 };

static const struct { const char *word, *name; } names[] = {
    { "hellaswag", "HellaSwag" }, { "piqa", "PIQA" }, { "mmlu", "MMLU" }, { "gsm8k", "GSM8K" } };

int task_read(const char *words, struct task_choice *out)
{
    const char *file = words ? strchr(words, '=') : NULL;
    size_t n = words ? file ? (size_t)(file - words) : strlen(words) : 0;
    *out = (struct task_choice){ .word = "hellaswag", .name = "HellaSwag", .by_default = !words };
    if (!words) return EXIT_DONE;
    out->word = NULL;
    if (strcmp(words, "none") == 0) return EXIT_DONE;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i].word) == n && strncmp(names[i].word, words, n) == 0) {
            out->word = names[i].word;
            out->name = names[i].name;
        }
    if (!out->word)
        return command_usage("squeeze", "--task takes hellaswag, or hellaswag=FILE, piqa=FILE, mmlu=FILE, gsm8k=FILE, "
                             "or none, not '%s'", words);
    out->file = file ? file + 1 : NULL;
    if (!out->file && strcmp(out->word, "hellaswag"))
        return command_usage("squeeze", "--task %s needs its questions: --task %s=FILE; hellaswag alone has some that "
                             "are built in", out->word, out->word);
    return EXIT_DONE;
}

/* What goes beside the tasks' own text; whether it can be asked at all. */
bool task_fits(const struct task_choice *t, uint32_t context)
{
    return t->word && (!t->by_default || !context || context >= LEAST_CONTEXT);
}

static struct eval_options options_of(const struct task_choice *t, const struct squeeze_command *c)
{
    struct eval_options o = { .by = "squeeze", .quiet = c->quiet, .tasks = c->tasks, .seed = 1, .predict = 256 };
    if (t->file) o.files = (struct text_list){ { t->file }, 1 };
    return o;
}

int task_check(const struct task_choice *t, const struct squeeze_command *c)
{
    struct eval_options o = options_of(t, c);
    return t->file ? eval_task_check(&o, t->word) : EXIT_DONE;
}

int task_measure(const struct task_choice *t, const struct squeeze_command *c, const char *original, const char *out,
                 json_t **result)
{
    struct eval_options o = options_of(t, c);
    model_options_defaults(&o.model);
    o.base = original;
    o.model.model = out;
    o.model.threads = c->threads;
    o.model.stays = true;
    o.model.quiet = c->quiet;
    int code = eval_task(&o, t->word, result);
    if (code == EXIT_DONE) json_object_set_new(*result, "name", json_string(t->name));
    return code;
}

#define REAL(key) json_real_value(json_object_get(task, key))
#define WHOLE(key) (long long)json_integer_value(json_object_get(task, key))
void task_print(const json_t *task)
{
    printf("  %-20s %10.1f %% -> %10.1f %%  of %lld; 95 %%: %.1f to %.1f -> %.1f to %.1f\n",
           json_string_value(json_object_get(task, "name")), 100 * REAL("base_accuracy"), 100 * REAL("accuracy"),
           WHOLE("tasks"), 100 * REAL("base_low"), 100 * REAL("base_high"), 100 * REAL("low"), 100 * REAL("high"));
    printf("  %-20s %lld other answers: %lld were right and are wrong, %lld were wrong and are right; "
           "McNemar p = %.2g\n",
           "", WHOLE("flips"), WHOLE("right_to_wrong"), WHOLE("wrong_to_right"), REAL("mcnemar_p"));
}

json_t *task_row(const json_t *task)
{
    return json_pack("[s,I,I,I,I,I,I,f]", json_string_value(json_object_get(task, "name")), (json_int_t)WHOLE("tasks"),
                     (json_int_t)WHOLE("right"), (json_int_t)(REAL("base_accuracy") * (double)WHOLE("tasks") + 0.5),
                     (json_int_t)WHOLE("flips"), (json_int_t)WHOLE("right_to_wrong"),
                     (json_int_t)WHOLE("wrong_to_right"), REAL("mcnemar_p"));
}
