/* The options of `stretto teach`, and how a training that goes on finds those it was begun with. */
#include "base/json_tree.h"
#include "base/memory.h"
#include "stretto/teach_command.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void teach_defaults(void *options)
{
    struct teach_command *o = options;
    struct train_options d;
    train_options_defaults(&d);
    o->method = train_method_names[d.method];
    o->schedule = schedule_names[d.schedule];
    o->keep = train_keep_names[d.keep];
    o->rank = d.rank;
    o->head = head_kind_names[d.head];
    o->depth = d.depth;
    o->slice = d.slice;
    o->teacher_top = d.teacher_top;
    o->teacher_drawn = d.teacher_drawn;
    o->warm = d.warm;
    o->clip = d.clip;
    o->beta1 = d.beta1;
    o->beta2 = d.beta2;
    o->eps = d.eps;
    o->epochs = d.epochs;
    o->rows = d.batch_rows;
    o->precision = train_precision_names[d.precision];
    o->optimizer = train_optimizer_names[d.optimizer];
    o->optimizer_bytes = d.optimizer_bytes;
    o->seed = (int64_t)d.seed;
    o->hold_out = d.hold_out;
    o->copies = d.copies;
    o->loss = train_loss_names[d.loss];
    o->noisy_weight = d.noisy_weight;
    o->ar = d.ar;
}

bool teach_traced(const struct teach_command *o) { return o->states && strcmp(o->states, "noise") != 0; }

/* An adapter, with what makes it one for guesses. */
void teach_usual(struct teach_command *o)
{
    bool consistency = strcmp(o->method, "consistency") == 0;
    if (consistency) o->method = "lora";
    if ((consistency || o->gated) && !o->block && !teach_traced(o)) o->block = 8;
    if (!o->gated) return;
    if (!o->rows_of) o->rows_of = "guesses";
    if (!teach_given("loss") && !o->resume) o->loss = "kl";
}

#define AT(field) offsetof(struct teach_command, field)
static const struct option data_rows[] = {
    { "-m --model", "MODEL", OPT_TEXT, AT(model), 0, 0,
      "a GGUF file, a Hugging Face folder, a name that 'stretto models' lists, or hf:USER/REPO[:QUANT] "
      "[the default model]" },
    { "-d --data", "FILE", OPT_TEXTS, AT(data), 0, 0,
      "JSON lines to learn from: {\"messages\": [...]}, {\"prompt\": ..., \"completion\": ...} or {\"text\": ...}, "
      "with \"weight\" and \"group\" beside them, or a file of 'stretto trace'; may be given several times" },
    { "--learn-prompts", NULL, OPT_FLAG, AT(learn_prompts), 0, 0,
      "what stands in prompts is learned too, not answers alone" },
    { "--valid", "FILE", OPT_TEXTS, AT(valid), 0, 0,
      "lines that are measured and not learned; may be given several times" },
    { "--hold-out", "SHARE", OPT_REAL, AT(hold_out), 0, 0.9,
      "without --valid: this share of the lines is measured and not learned, whole groups [0.02]" },
    { "-o --out", "FOLDER", OPT_TEXT, AT(out), 0, 0, "the folder of the training: checkpoints, log and what was "
     "learned" },
    { "-c --ctx-size", "N", OPT_INT, AT(context), 0, 1 << 24,
      "tokens of a line at most; 0 takes what the model was made for [0]" },
    { "--skip-long", NULL, OPT_FLAG, AT(skip_long), 0, 0, "leave longer lines out, and count them" },
    { "--plain-text", NULL, OPT_FLAG, AT(plain_text), 0, 0,
      "what is spelled as a special token in \"text\", \"prompt\" and \"completion\" is text; otherwise it becomes "
      "that token, and how many lines have one is told" },
    { "--show", "N", OPT_INT, AT(show), 0, 1 << 20,
      "print what will be learned of the first N lines, token by token, and end" },
    { "--plan", NULL, OPT_FLAG, AT(plan), 0, 0, "print bytes, rows, operations and hours, and end; nothing runs" },
    { "--resume", NULL, OPT_FLAG, AT(resume), 0, 0,
      "go on with the training in FOLDER; it ends with the same bytes as if it had never stopped" },
};
static const struct option teacher_rows[] = {
    { "--teacher", "MODEL", OPT_TEXT, AT(teacher), 0, 0,
      "a model with the same tokens that says what is learned: the model becomes like it on the lines, which are read "
      "as they stand. So it is distilled, or one that squeezing took something from is repaired" },
    { "--teacher-cache", "FILE", OPT_TEXT, AT(teacher_cache), 0, 0,
      "where the teacher's answers are kept, for further trainings on the same lines too [FOLDER/teacher.cache]" },
    { "--teacher-top", "N", OPT_INT, AT(teacher_top), 1, 256, "likeliest tokens that are kept of an answer [16]" },
    { "--teacher-drawn", "N", OPT_INT, AT(teacher_drawn), 0, 255,
      "tokens drawn from all others, so that none is forgotten; 0: the others count as one [16]" },
    { "--written", "SHARE", OPT_REAL, AT(written), 0, 1,
      "from the second epoch on the answers of this share of the lines are written by the model as it is then, and the "
      "teacher says what should have followed; lines that are learned whole are gone on with from their middle [0]" },
};
static const struct option how_rows[] = {
    { "--method", "lora|full|consistency|heads", OPT_CHOICE, AT(method), 0, 0,
      "an adapter beside the weights as they are, or all weights in float32; with --teacher, what is distilled; "
      "consistency is lora with --block 8; heads: the model stays as it is, and small layers beside it learn to guess "
      "its next tokens [lora]" },
    { "--rank", "N", OPT_INT, AT(rank), 1, 4096, "of the adapter [16]" },
    { "--alpha", "N", OPT_REAL, AT(alpha), 0, 1e6, "what the adapter adds is times alpha / rank; 0: 2 times the "
     "rank [0]" },
    { "--targets", "REGEX", OPT_TEXT, AT(targets), 0, 0,
      "weights that get an adapter, as attn_(q|v) [all linear layers]" },
    { "--rows-of", "all|given|answers|guesses", OPT_CHOICE, AT(rows_of), 0, 0,
      "tokens on whose rows the adapter acts, here and wherever it runs: with answers the pages of prompts stay the "
      "model's own, with given answers are written at its speed, with guesses, which needs --block, the text is the "
      "model's own [all]" },
    { "--gated", NULL, OPT_FLAG, AT(gated), 0, 0,
      "an adapter that guesses for the model and changes no text of it: --rows-of guesses, with --block 8 and "
      "--loss kl where these are not given" },
    { "--last-layers", "N", OPT_INT, AT(last_layers), 0, 1 << 16,
      "adapters in the last N layers alone: what lies below costs no gradient; 0: in all [0]" },
    { "--phrases", "N", OPT_INT, AT(phrases), 0, PHRASES_MOST,
      "tokens for N phrases that answers of 10 groups or more have in common, at most: answers take fewer steps; with "
      "--show a table of them is printed; 0: none [0]" },
    { "--block", "N", OPT_INT, AT(block), 0, NOISE_BLOCK,
      "let the model learn to guess too, N tokens in a step: beside the answers, copies of their blocks of N in which "
      "tokens are wrong, behind which it shall say what is right; 0: none [0]" },
    { "--states", "FILE|noise", OPT_TEXT, AT(states), 0, 0,
      "answers that 'stretto trace jacobi' had this model write, in its blocks: they are learned from too, and what is "
      "wrong in their copies is what the model had in mind then; noise: what is wrong is drawn [noise]" },
    { "--copies", "N", OPT_INT, AT(copies), 1, NOISE_COPIES, "noisy copies of each block, other ones in each epoch "
     "[2]" },
    { "--loss", "ce|kl|cllm", OPT_CHOICE, AT(loss), 0, 0,
      "what noisy rows learn: the tokens of the line; all that the model says there before it learns (with --teacher, "
      "that one); or what it says itself in the same step where it has read what is right [ce]" },
    { "--noisy-weight", "W", OPT_REAL, AT(noisy_weight), 1e-6, 1e6,
      "what all noisy copies of a token count together [1]" },
    { "--ar", "W", OPT_REAL, AT(ar), 0, 1e6, "what the token itself counts, in the answer as it stands [1]" },
    { "--lr", "RATE|auto", OPT_TEXT, AT(lr), 0, 0,
      "learning rate at its highest; auto tries five on a few small steps each, and prints what came of them [by "
          "method "
      "and size of the model]" },
    { "--schedule", "cosine|linear|constant", OPT_CHOICE, AT(schedule), 0, 0,
      "how the rate falls to the end [cosine]" },
    { "--warm-up", "SHARE", OPT_REAL, AT(warm), 0, 0.99, "share of the steps in which the rate rises [0.05]" },
    { "--epochs", "N", OPT_INT, AT(epochs), 1, 1 << 20, "times that all lines are learned from [1]" },
    { "--steps", "N", OPT_INT, AT(steps), 0, 1 << 30, "end after N steps at most; 0: as the epochs have [0]" },
    { "--budget", "TIME", OPT_TEXT, AT(budget), 0, 0,
      "as 90m, 2h or 45s: as many steps as take so long here, the rate falling within them" },
    { "--rows", "N", OPT_INT, AT(rows), 1, 1 << 24, "rows (tokens) of a step, about [2048]" },
    { "--rows-at-once", "N", OPT_INT, AT(at_once), 0, 1 << 20,
      "rows that are computed together: memory grows with them; 0: 256, of an adapter fewer where that makes no "
      "more rows, or as many as the longest line [0]" },
    { "--optimizer", "adamw|adafactor", OPT_CHOICE, AT(optimizer), 0, 0,
      "how gradients change what is trained: adafactor remembers a mean for each row and column in place of two "
      "moments for each parameter [adamw]" },
    { "--optimizer-bytes", "N", OPT_INT, AT(optimizer_bytes), 10, 16,
      "bytes that AdamW takes of a parameter, with its gradient: 16; 12 with moments in bf16; 10 with moments as codes "
      "of 8 bits [16]" },
    { "--precision", "f32|bf16|f16", OPT_CHOICE, AT(precision), 0, 0,
      "what linear layers compute with of what is trained: float32, or that rounded to 16 bits after each step; f16 "
      "rounds all values between operations too and scales the loss, for study: it is slower [f32]" },
    { "--ema", "B", OPT_REAL, AT(average), 0, 0.999999,
      "measure and write the mean of what was learned so far, each step weighing B times the one behind it, as 0.99; "
      "0: what was learned last [0]" },
    { "--clip", "NORM", OPT_REAL, AT(clip), 0, 1e6, "gradients are made no longer than this; 0: any [1]" },
    { "--weight-decay", "D", OPT_REAL, AT(decay), 0, 1, "of AdamW, on matrices [0]" },
    { "--beta1", "B", OPT_REAL, AT(beta1), 0, 0.99999, "of AdamW [0.9]" },
    { "--beta2", "B", OPT_REAL, AT(beta2), 0, 0.99999, "of AdamW [0.95]" },
    { "--eps", "E", OPT_REAL, AT(eps), 1e-30, 1, "of AdamW [1e-8]" },
    { "-s --seed", "N", OPT_INT, AT(seed), 0, 9e15, "of the order of lines and of the adapter's beginning [1]" },
};
static const struct option head_rows[] = {
    { "--head", "recursive|medusa", OPT_CHOICE, AT(head), 0, 0,
      "one head that reads its own guess and guesses on, or Medusa's: one for each of the next tokens, which all read "
      "the model's state alone [recursive]" },
    { "--lora", "FILE", OPT_TEXT, AT(lora), 0, 0,
      "an adapter beside which they run: they read the states of the model with it, and learn its phrases" },
    { "--depth", "N", OPT_INT, AT(depth), 1, MAX_HEADS,
      "tokens that are guessed in a row while it learns; the recursive head can go on guessing [4]" },
    { "--slice", "N", OPT_INT, AT(slice), 0, 1 << 24,
      "tokens that can be guessed: the N most frequent of the answers; 0: all of the vocabulary [8192]" },
    { "--feed", "N", OPT_INT, AT(feed), 0, 1 << 16, "channels inside of the recursive head; 0: twice the width [0]" },
};
static const struct option run_rows[] = {
    { "--measure", "N", OPT_INT, AT(measure), 0, 1 << 30,
      "measure what is held out every N steps; 0: ten times [0]" },
    { "--watch", "N", OPT_INT, AT(watch), 0, 256,
      "at every measurement answer N prompts of what is held out greedily; where the answers repeat themselves twice "
      "as much as before, end with the last checkpoint that was well [0]" },
    { "--agreement", "SHARE", OPT_REAL, AT(agreement), 0, 1,
      "with --watch: end so too where less than this share of the answers is as they were before [0]" },
    { "--save", "N", OPT_INT, AT(save), 0, 1 << 30,
      "a checkpoint every N steps; 0: as often as takes a twentieth of the time [0]" },
    { "--save-f32", NULL, OPT_FLAG, AT(save_f32), 0, 0,
      "with --method full: also model.f32.gguf, the numbers as they were learned" },
    { "--keep", "auto|values|layers", OPT_CHOICE, AT(keep), 0, 0,
      "what is kept between the way there and back: all values, or what layers read of each other, which takes less "
      "memory and a third more time; the bits are the same [auto]" },
    { "-t --threads", "N", OPT_INT, AT(threads), 0, 256,
      "threads; 0 uses what the machine and its container allow; the bits are the same [0]" },
    { "-y --yes", NULL, OPT_FLAG, AT(yes), 0, 0, "fetch a model that is not here without asking" },
    { "-q --quiet", NULL, OPT_FLAG, AT(quiet), 0, 0, "no progress" },
    { "--json", NULL, OPT_FLAG, AT(json), 0, 0, "print one JSON value at the end" },
};
static const struct option recipe_rows[] = {
    { "--recipe", "sql|code|chat", OPT_CHOICE, AT(recipe), 0, 0,
      "a chain of trainings that makes the model answer such questions in fewer steps, printed and run, each in a "
      "folder in FOLDER; --budget is divided among them, --plan prints them, and the same command goes on" },
    { "--on-policy", NULL, OPT_FLAG, AT(on_policy), 0, 0,
      "with --recipe: once more on states that the model itself comes through" },
};
#undef AT
static const struct option_group data_group = { "What is learned", data_rows, sizeof data_rows / sizeof *data_rows };
static const struct option_group teacher_group = { "From another model", teacher_rows,
                                                  sizeof teacher_rows / sizeof *teacher_rows };
static const struct option_group how_group = { "How", how_rows, sizeof how_rows / sizeof *how_rows };
static const struct option_group recipe_group = { "A chain of trainings", recipe_rows,
                                                  sizeof recipe_rows / sizeof *recipe_rows };
static const struct option_group head_group = { "Of --method heads", head_rows,
                                               sizeof head_rows / sizeof *head_rows };
static const struct option_group run_group = { "Running", run_rows, sizeof run_rows / sizeof *run_rows };
const struct option_use teach_uses[] = { { &data_group, 0 }, { &teacher_group, 0 }, { &how_group, 0 },
                                         { &head_group, 0 }, { &recipe_group, 0 }, { &run_group, 0 } };
const size_t teach_n_uses = sizeof teach_uses / sizeof *teach_uses;

/* ---- going on -------------------------------------------------------------------------------- */

const char *teach_key(const struct option *o)
{
    const char *last = strrchr(o->flags, ' ');
    return (last ? last + 1 : o->flags) + 2;
}

/* As on the command line; what is usual may be outside of what can be asked for. False: it cannot be. */
static bool fill(void *to, const struct option *o, const json_t *v)
{
    const char *text = json_string_value(v);
    char number[40];
    switch (o->kind) {
    case OPT_INT:
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(v));
        return json_is_integer(v) && (*(int64_t *)to == json_integer_value(v) || option_number(o, number, to));
    case OPT_REAL:
        snprintf(number, sizeof number, "%.17g", json_number_value(v));
        return json_is_number(v) && (*(double *)to == json_number_value(v) || option_number(o, number, to));
    case OPT_FLAG: *(bool *)to = json_is_true(v); return json_is_boolean(v);
    case OPT_CHOICE:
        if (!text || !list_has(o->value, '|', text, strlen(text))) return false;
        *(const char **)to = text;
        return true;
    case OPT_TEXT: *(const char **)to = text; return text;
    default: return true;
    }
}

bool teach_given(const char *key)
{
    for (size_t u = 0; u < teach_n_uses; u++)
        for (size_t i = 0; i < teach_uses[u].group->n; i++) {
            const struct option *row = &teach_uses[u].group->options[i];
            if (strcmp(teach_key(row), key) == 0) return option_given(row);
        }
    return false;
}

/* Options that were not given are as they were. Those that were given and are others than then are refused by the
 * trainer. */
static int fill_options(struct teach_command *o, const json_t *asked)
{
    for (size_t u = 0; u < teach_n_uses; u++)
        for (size_t i = 0; i < teach_uses[u].group->n; i++) {
            const struct option *row = &teach_uses[u].group->options[i];
            const char *key = teach_key(row);
            const json_t *v = json_object_get(asked, key);
            if (!v || json_is_null(v) || option_given(row) || strcmp(key, "budget") == 0 || strcmp(key, "lr") == 0)
                continue;
            if (fill((char *)o + row->at, row, v)) continue;
            fprintf(stderr, "stretto teach: %s/run.json is damaged: --%s cannot be what it says; put the file back as "
                    "it was\n", o->out, key);
            return EXIT_FAILED;
        }
    return EXIT_DONE;
}

/* What is a text here and a number there. */
static void fill_numbers(struct teach_command *o, const json_t *asked)
{
    static char text[32], time[40];
    double lr = json_number_value(json_object_get(asked, "lr"));
    double budget = json_number_value(json_object_get(asked, "budget"));
    snprintf(text, sizeof text, "%.17g", lr);
    snprintf(time, sizeof time, "%.17gs", budget);
    if (!o->budget && budget > 0) o->budget = time;
    if (!o->lr && json_is_true(json_object_get(asked, "lr-auto"))) o->lr = "auto";
    else if (!o->lr && lr > 0) o->lr = text;
}

static void fill_paths(struct text_list *to, const json_t *list)
{
    for (size_t i = 0; !to->n && i < json_array_size(list) && i + 1 < sizeof to->v / sizeof *to->v; i++)
        to->v[i] = json_string_value(json_array_get(list, i));
    while (to->v[to->n]) to->n++;
}

int teach_resume(struct teach_command *o, json_t **run)
{
    struct error err = { 0 };
    char *text;
    stretto_status s = train_run_text(o->out, &text, &err);
    if (s == STRETTO_OK) s = json_tree(run, text, strlen(text), JSON_TWICE_REFUSED, "run.json", &err);
    mem_free(text);
    if (s != STRETTO_OK) return command_fail("teach", s, err.text);
    int code = fill_options(o, json_object_get(*run, "options"));
    if (code != EXIT_DONE) return code;
    fill_numbers(o, json_object_get(*run, "options"));
    if (!o->model) o->model = json_string_value(json_object_get(*run, "model"));
    if (!o->teacher) o->teacher = json_string_value(json_object_get(*run, "teacher"));
    if (!o->states) o->states = json_string_value(json_object_get(*run, "states"));
    if (!o->teacher_cache) o->teacher_cache = json_string_value(json_object_get(*run, "teacher_cache"));
    fill_paths(&o->data, json_object_get(*run, "data"));
    fill_paths(&o->valid, json_object_get(*run, "valid"));
    return EXIT_DONE;
}

/* ---- as the trainer takes them ---------------------------------------------------------------- */

int teach_seconds(const char *text, double *out)
{
    char *end;
    *out = 0;
    if (!text) return EXIT_DONE;
    double v = strtod(text, &end), unit = *end == 's' ? 1 : *end == 'm' ? 60 : *end == 'h' ? 3600 : 0;
    if (end == text || !unit || end[1] || !(v > 0) || !isfinite(v))
        return command_usage("teach", "--budget takes a time as 90m, 2h or 45s, not '%s'", text);
    *out = v * unit;
    return EXIT_DONE;
}

static int rate_of(const char *text, struct train_options *out)
{
    char *end;
    out->try_rates = text && strcmp(text, "auto") == 0;
    if (!text || out->try_rates) return EXIT_DONE;
    out->lr = strtod(text, &end);
    if (end == text || *end || !(out->lr > 0 && out->lr <= 10))
        return command_usage("teach", "--lr takes a number above 0, as 1e-3, or auto; not '%s'", text);
    return EXIT_DONE;
}

int teach_options(const struct teach_command *o, struct train_options *out)
{
    train_options_defaults(out);
    out->model = o->model;
    out->folder = o->out;
    out->data = o->data.v;
    out->n_data = o->data.n;
    out->valid = o->valid.v;
    out->n_valid = o->valid.n;
    out->hold_out = o->hold_out;
    out->teacher = o->teacher;
    out->teacher_cache = o->teacher_cache;
    out->teacher_top = (uint32_t)o->teacher_top;
    out->teacher_drawn = (uint32_t)o->teacher_drawn;
    out->written = o->written;
    out->learn_prompts = o->learn_prompts;
    while (strcmp(o->method, train_method_names[out->method]) != 0) out->method++;
    while (strcmp(o->head, head_kind_names[out->head]) != 0) out->head++;
    out->lora = o->lora;
    out->depth = (uint32_t)o->depth;
    out->slice = (uint32_t)o->slice;
    out->feed = (uint32_t)o->feed;
    out->rank = (uint32_t)o->rank;
    out->alpha = o->alpha;
    out->targets = o->targets;
    out->rows_of = o->rows_of && strcmp(o->rows_of, "all") != 0 ? o->rows_of : NULL;
    out->last_layers = (uint32_t)o->last_layers;
    out->schedule = schedule_by_name(o->schedule);
    out->warm = o->warm;
    out->clip = o->clip;
    out->decay = o->decay;
    out->beta1 = o->beta1;
    out->beta2 = o->beta2;
    out->eps = o->eps;
    while (strcmp(o->optimizer, train_optimizer_names[out->optimizer]) != 0) out->optimizer++;
    while (strcmp(o->precision, train_precision_names[out->precision]) != 0) out->precision++;
    out->optimizer_bytes = (uint32_t)o->optimizer_bytes;
    out->average = o->average;
    out->plain_text = o->plain_text;
    out->epochs = (uint32_t)o->epochs;
    out->steps = (uint64_t)o->steps;
    out->batch_rows = (uint32_t)o->rows;
    out->step_rows = (uint32_t)o->at_once;
    out->context = (uint32_t)o->context;
    out->seed = (uint64_t)o->seed;
    out->phrases = (uint32_t)o->phrases;
    out->block = (uint32_t)o->block;
    out->copies = (uint32_t)o->copies;
    out->states = o->states && strcmp(o->states, "noise") != 0 ? o->states : NULL;
    while (strcmp(o->loss, train_loss_names[out->loss]) != 0) out->loss++;
    out->noisy_weight = o->noisy_weight;
    out->ar = o->ar;
    for (int k = 0; k < TRAIN_KEEPS; k++)
        if (strcmp(o->keep, train_keep_names[k]) == 0) out->keep = (enum train_keep)k;
    out->measure = (uint32_t)o->measure;
    out->watch = (uint32_t)o->watch;
    out->agreement = o->agreement;
    out->save = (uint32_t)o->save;
    out->skip_long = o->skip_long;
    out->resume = o->resume;
    out->save_f32 = o->save_f32;
    out->threads = (unsigned)o->threads;
    int code = rate_of(o->lr, out);
    return code == EXIT_DONE ? teach_seconds(o->budget, &out->budget) : code;
}
