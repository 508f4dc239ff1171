/* stretto eval: numbers about quality. ppl, kl, and the raw logits that other programs' checks
 * read. */
#include "backend/scales.h"
#include "base/file.h"
#include "base/memory.h"
#include "engine/scheduler.h"
#include "eval/eval.h"
#include "stretto/commands.h"
#include "stretto/eval_command.h"
#include "stretto/experimental.h"
#include "stretto/peer_flags.h"
#include "stretto/prompts.h"
#include "text/chat.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT(field) offsetof(struct eval_options, field)
static const struct option rows[] = {
    {"-f --file", "TEXT", OPT_TEXTS, AT(files), 0, 0,
     "the text to read, - is standard input; *.jsonl: conversations, of which the assistant's words count; may be "
     "given several times"},
    {"--chunks", "N", OPT_INT, AT(chunks), 0, 1 << 24, "read the first N windows of each text; 0 reads all [0]"},
    {"--base", "MODEL", OPT_TEXT, AT(base), 0, 0, "kl and tasks: the model to compare with"},
    {"--base-reference", NULL, OPT_FLAG, AT(base_reference), 0, 0,
     "kl: compare with the same model's float32 path"},
    {"--against", "MODEL", OPT_TEXTS, AT(against), 0, 0,
     "kl: another model beside -m, both compared with the base on the same tokens, and what -m has more, paired by "
     "token; may be given several times"},
    {"--tasks", "N", OPT_INT, AT(tasks), 0, 1 << 20, "tasks: N of them, drawn by --seed; 0: all [0]"},
    {"--seed", "N", OPT_INT, AT(seed), 0, UINT32_MAX, "tasks: which are drawn; 1: those of llama-perplexity [1]"},
    {"--letters", NULL, OPT_FLAG, AT(letters), 0, 0,
     "mmlu: the four answers stand in the question and their letters are chosen from"},
    {"-n --predict", "N", OPT_INT, AT(predict), 1, 1 << 16, "gsm8k, spider: tokens of an answer at most [256]"},
    {"--tables", "FILE", OPT_TEXT, AT(tables), 0, 0, "spider: the tables of its databases (tables.json)"},
    {"--output", "OUT", OPT_TEXT, AT(output), 0, 0,
     "tasks: write a JSON line for each to this file; scales: the file to write"},
    {"--ids", "1,2,3", OPT_TEXT, AT(ids), 0, 0, "logits: the token ids to read"},
    {"--raw", "OUT", OPT_TEXT, AT(raw), 0, 0,
     "logits: write float32 rows to this file, one per id (encoders: hidden states)"},
    {"--force", NULL, OPT_FLAG, AT(force), 0, 0, "replace the file of --raw or --output when it exists"},
    {"--json", NULL, OPT_FLAG, AT(json), 0, 0, "print one JSON value"},
};
#undef AT

/* An engine whose steps are as the window asks. */
static int open_engine(const char *by, const struct model_options *o, const stretto_model *m, uint32_t context,
                       uint32_t sequences, uint32_t pool, struct engine **out)
{
    struct error e = { 0 };
    struct engine_options x = { .threads = (unsigned)o->threads, .context = context, .sequences = sequences,
                                .pool_tokens = pool,
                                .cache = stretto_model_inside(m)->reference ? CACHE_F32 : CACHE_F16,
                                .strict = o->strict || stretto_model_inside(m)->reference };
    const char *type;
    int code = cache_from(by, o, &type);
    if (code != EXIT_DONE) return code;
    if (type) cache_type_by_name(type, &x.cache);
    stretto_status s = engine_open(out, stretto_model_inside(m), &x, &e);
    if (s == STRETTO_OK) engine_cancel(*out, engine_flag_set, (void *)(uintptr_t)&interrupted);
    return s == STRETTO_OK ? EXIT_DONE : command_fail(by, s, e.text);
}

int measured_open(struct measured *x, const char *by, const struct model_options *o, uint32_t context,
                  uint32_t sequences, uint32_t pool)
{
    int code = x->model ? EXIT_DONE : open_model(by, o, false, &x->model);
    x->name = o->model ? file_name(o->model) : "the model";
    return code == EXIT_DONE ? open_engine(by, o, x->model, context, sequences, pool, &x->engine) : code;
}

void measured_close(struct measured *x)
{
    engine_close(x->engine);
    stretto_model_close(x->model);
    *x = (struct measured){ 0 };
}

const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static bool is_chat(const char *path)
{
    size_t n = strlen(path);
    return n > 6 && strcmp(path + n - 6, ".jsonl") == 0;
}

static stretto_status chat_set(struct eval_set *set, const char *name, const stretto_model *m, const char *text,
                               size_t n, const struct eval_options *o, struct error *err)
{
    const struct tokenizer *t = stretto_model_inside(m)->tokenizer;
    struct chat *chat = NULL;
    if (!t) return fail(err, STRETTO_E_UNSUP, "the model file has no vocabulary");
    TRY(chat_open(&chat, t, err));
    stretto_status s = eval_set_chat(set, name, t, chat, text, n, window_of(o), (size_t)o->chunks, err);
    chat_close(chat);
    return s;
}

static stretto_status text_set(struct eval_set *set, const char *name, const stretto_model *m, const char *text,
                               size_t n, const struct eval_options *o, struct error *err)
{
    int32_t *ids, bos = -1;
    size_t count;
    TRY(encode_text(m, text, n, STRETTO_TOKENIZE_ADD, &ids, &count, err));
    /* Whoever adds a BOS to a text reads every window behind one. */
    if (count && ids[0] == tokenizer_bos(stretto_model_inside(m)->tokenizer)) bos = ids[0];
    stretto_status s = count ? eval_set_text(set, name, ids, count, window_of(o), (size_t)o->chunks, bos, err)
                             : fail(err, STRETTO_E_ARG, "the text is empty");
    free(ids);
    return s;
}

static int texts_add(struct texts *t, const char *path, const struct eval_options *o, const stretto_model *m)
{
    size_t n;
    struct error err = { 0 };
    struct eval_set *set = &t->set[t->n];
    char *text = read_text("eval", path, &n);
    if (!text) return EXIT_FAILED;
    stretto_status s = is_chat(path) ? chat_set(set, file_name(path), m, text, n, o, &err)
                                     : text_set(set, file_name(path), m, text, n, o, &err);
    free(text);
    if (s != STRETTO_OK) return command_fail("eval", s, err.text);
    if (set->longest > t->longest) t->longest = set->longest;
    t->n++;
    return EXIT_DONE;
}

int texts_open(struct texts *t, const struct eval_options *o, const stretto_model *m)
{
    int code = EXIT_DONE;
    *t = (struct texts){ 0 };
    if (!o->files.n) return command_usage("eval", "a text is missing: -f FILE");
    for (size_t i = 0; i < o->files.n && code == EXIT_DONE; i++) code = texts_add(t, o->files.v[i], o, m);
    ui_progress_init(&t->ui, stderr);
    t->ui.items = true;
    t->hook = ui_progress_hook(&t->ui);
    return code;
}

void texts_close(struct texts *t)
{
    for (size_t i = 0; i < t->n; i++) eval_set_done(&t->set[i]);
}

uint32_t window_of(const struct eval_options *o)
{
    return o->model.context ? (uint32_t)o->model.context : 512;
}

void print_figures(json_t *j, bool json)
{
    if (json) {
        json_dumpf(j, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
        putchar('\n');
    } else {
        const char *key;
        json_t *v;
        json_object_foreach(j, key, v) {
            if (json_is_string(v)) printf("%-20s %s\n", key, json_string_value(v));
            else if (json_is_integer(v))
                printf("%-20s %lld\n", key, (long long)json_integer_value(v));
            else printf("%-20s %.6g\n", key, json_real_value(v));
        }
    }
    json_decref(j);
}

static json_t *ppl_figures(const struct eval_ppl *r, const struct eval_options *o, const stretto_model *m)
{
    return json_pack("{s:f,s:f,s:f,s:I,s:I,s:i,s:b}", "perplexity", r->perplexity, "deviation", r->deviation,
                     "nll", r->nll, "tokens", (json_int_t)r->tokens, "windows", (json_int_t)r->windows,
                     "window", (int)window_of(o), "reference", stretto_model_inside(m)->reference);
}

/* One text: its figures; several: a list of them, each with its name. */
static int ppl_each(const struct eval_options *o, struct texts *t, const struct measured *x)
{
    struct error err = { 0 };
    struct eval_ppl r;
    json_t *all = json_array();
    stretto_status s = STRETTO_OK;
    for (size_t i = 0; i < t->n && s == STRETTO_OK; i++) {
        s = eval_ppl(x->engine, &t->set[i], &interrupted, &t->hook, &r, &err);
        json_t *j = s == STRETTO_OK ? ppl_figures(&r, o, x->model) : NULL;
        if (j && t->n > 1) json_object_set_new(j, "text", json_string(t->set[i].name));
        if (j) json_array_append_new(all, j);
    }
    ui_progress_break(&t->ui);
    if (s == STRETTO_OK && t->n > 1 && o->json) print_figures(json_incref(all), true);
    else
        for (size_t i = 0; i < json_array_size(all) && s == STRETTO_OK; i++)
            print_figures(json_incref(json_array_get(all, i)), o->json);
    json_decref(all);
    return s == STRETTO_OK ? EXIT_DONE : command_fail("eval", s, err.text);
}

static int run_ppl(const struct eval_options *o)
{
    struct measured x = { 0 };
    struct texts t = { 0 };
    int code = open_model("eval", &o->model, false, &x.model);
    if (code == EXIT_DONE) code = texts_open(&t, o, x.model);
    if (code == EXIT_DONE) code = measured_open(&x, "eval", &o->model, t.longest, 1, 0);
    if (code == EXIT_DONE) code = ppl_each(o, &t, &x);
    texts_close(&t);
    measured_close(&x);
    return code;
}

static int parse_ids(const char *text, int32_t **ids, size_t *n)
{
    size_t cap = 1;
    for (const char *p = text; *p; p++) cap += *p == ',';
    *ids = malloc(cap * sizeof **ids);
    *n = 0;
    for (const char *p = text; *ids;) {
        char *end;
        errno = 0;
        long v = strtol(p, &end, 10);
        if (end == p || (*end && *end != ',') || errno || v < 0 || v > INT32_MAX)
            return command_usage("eval", "--ids takes token ids with commas, not '%s'", text);
        (*ids)[(*n)++] = (int32_t)v;
        if (!*end) return EXIT_DONE;
        p = end + 1;
    }
    return command_fail("eval", STRETTO_E_NOMEM, NULL);
}

/* All tokens as a prompt; what each answers. */
static stretto_status all_rows(struct engine *e, const int32_t *ids, size_t n, float *out,
                               bool encoder, struct error *err)
{
    const struct config *c = &engine_model(e)->config;
    size_t width = encoder ? c->width : c->vocab;
    struct answer *a = calloc(n, sizeof *a);
    struct request r = { .wants = encoder ? WANT_HIDDEN : WANT_LOGITS, .room = (uint32_t)n, .places = a };
    stretto_status s = a ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "out of memory");
    for (size_t i = 0; i < n && a; i++) a[i].logits = a[i].hidden = out + i * width;
    if (s == STRETTO_OK && n > engine_about(e)->context)
        s = fail(err, STRETTO_E_FULL, "%zu tokens and a context of %u", n, engine_about(e)->context);
    if (s == STRETTO_OK) s = engine_seq_open(e, &r.seq, err);
    if (s == STRETTO_OK) {
        engine_set(e, r.seq, ids, (uint32_t)n, 0);
        s = request_run(e, &r, err);
    }
    free(a);
    return s;
}

static int run_logits(const struct eval_options *o)
{
    if (!o->ids || !o->raw) return command_usage("eval", "logits needs --ids 1,2,3 and --raw OUT");
    stretto_model *m = NULL;
    struct engine *e = NULL;
    struct error err = { 0 };
    int32_t *ids = NULL;
    float *out = NULL;
    size_t n = 0;
    int code = can_create("eval", "--raw", o->raw, o->force);
    if (code == EXIT_DONE) code = parse_ids(o->ids, &ids, &n);
    if (code == EXIT_DONE) code = open_model("eval", &o->model, false, &m);
    if (code == EXIT_DONE) code = open_engine("eval", &o->model, m, (uint32_t)o->model.context, 1, 0, &e);
    if (code == EXIT_DONE) {
        bool encoder = stretto_model_inside(m)->graph.logits == GRAPH_NONE;
        size_t width =
            encoder ? stretto_model_inside(m)->config.width : stretto_model_inside(m)->config.vocab;
        stretto_status s =
            (out = malloc(n * width * sizeof *out))
                ? all_rows(e, ids, n, out, encoder, &err)
                : fail(&err, STRETTO_E_NOMEM, "no memory for %zu rows of %zu logits", n, width);
        if (s != STRETTO_OK) code = command_fail("eval", s, err.text);
        else if ((s = file_write(o->raw, out, n * width * sizeof *out, o->force, &err)) != STRETTO_OK)
            code = command_fail("eval", s, err.text);
        else
            print_figures(json_pack("{s:I,s:I}", "rows", (json_int_t)n, "width", (json_int_t)width), o->json);
    }
    free(ids);
    free(out);
    engine_close(e);
    stretto_model_close(m);
    return code;
}

/* What linear layers read at most while the texts are read, in integers. */
static int run_scales(const struct eval_options *o)
{
    struct measured x = { 0 };
    struct texts t = { 0 };
    struct error err = { 0 };
    struct model_options model = o->model;
    struct eval_ppl r;
    size_t n = 0;
    if (!o->output) return command_usage("eval", "scales needs --output FILE");
    if (model.scales || (model.arithmetic && strcmp(model.arithmetic, "int") != 0))
        return command_usage("eval", "scales are seen in integers, with scales of each row");
    model.arithmetic = "int";
    int code = can_create("eval", "--output", o->output, o->force);
    if (code == EXIT_DONE) code = open_model("eval", &model, false, &x.model);
    if (code == EXIT_DONE) code = texts_open(&t, o, x.model);
    if (code == EXIT_DONE) code = measured_open(&x, "eval", &model, t.longest, 1, 0);
    stretto_status s = STRETTO_OK;
    for (size_t i = 0; i < t.n && s == STRETTO_OK && code == EXIT_DONE; i++)
        s = eval_ppl(x.engine, &t.set[i], &interrupted, &t.hook, &r, &err);
    ui_progress_break(&t.ui);
    if (s == STRETTO_OK && code == EXIT_DONE) {
        const struct model *m = stretto_model_inside(x.model);
        s = integer_scales_write(m->weights, &m->graph, o->output, o->force, &n, &err);
    }
    if (s != STRETTO_OK) code = command_fail("eval", s, err.text);
    else if (code == EXIT_DONE) print_figures(json_pack("{s:I}", "weights", (json_int_t)n), o->json);
    texts_close(&t);
    measured_close(&x);
    return code;
}

#define WHAT "ppl|kl|" EVAL_TASKS "|logits|scales"

/* Options that another evaluation reads. */
static int check_belongs(const struct eval_options *o, const char *what)
{
    static const char tasks[] = EVAL_TASKS;
    const struct { bool given; const char *option, *words; } rows_of[] = {
        { o->base, "--base", "kl|" EVAL_TASKS },
        { o->base_reference, "--base-reference", "kl" },
        { o->against.n > 0, "--against", "kl" }, { o->tasks > 0, "--tasks", tasks },
        { o->letters, "--letters", "mmlu" },
        { o->tables, "--tables", "spider" }, { o->output, "--output", EVAL_TASKS "|scales" } };
    for (size_t i = 0; i < sizeof rows_of / sizeof *rows_of; i++)
        if (rows_of[i].given && !list_has(rows_of[i].words, '|', what, strlen(what)))
            return command_usage("eval", "%s belongs to %s, not to %s", rows_of[i].option, rows_of[i].words, what);
    return EXIT_DONE;
}

static int run_task(const struct eval_options *o, const char *name)
{
    json_t *j;
    int code = eval_task(o, name, &j);
    if (code == EXIT_DONE && o->json) print_figures(json_incref(j), true);
    else if (code == EXIT_DONE) share_print(j);
    json_decref(j);
    return code;
}

static int eval_run(void *options, size_t n, char **operands)
{
    (void)n;
    catch_interrupt();
    if (!list_has(WHAT, '|', operands[0], strlen(operands[0])))
        return command_odd("eval", "evaluation", operands[0], WHAT);
    int code = check_belongs(options, operands[0]);
    if (code != EXIT_DONE) return code;
    if (strcmp(operands[0], "ppl") == 0) return run_ppl(options);
    if (strcmp(operands[0], "kl") == 0) return eval_kl_run(options);
    if (strcmp(operands[0], "logits") == 0) return run_logits(options);
    if (strcmp(operands[0], "scales") == 0) return run_scales(options);
    return run_task(options, operands[0]);
}

static void eval_defaults(void *options)
{
    model_options_defaults(&((struct eval_options *)options)->model);
    ((struct eval_options *)options)->model.stays = true;
    ((struct eval_options *)options)->by = "eval";
    ((struct eval_options *)options)->seed = 1;
    ((struct eval_options *)options)->predict = 256;
}

static const struct option_group group = { "Evaluation", rows, sizeof rows / sizeof *rows };
static const struct option_use uses[] = {{&group, 0},
                                         {&group_model, offsetof(struct eval_options, model)}};
const struct command command_eval = {
    .name = "eval",
    .summary = "measure quality: perplexity, divergence, tasks",
    .operands = WHAT,
    .description = "ppl: the perplexity of a text in windows of -c tokens [512], the second half of each counts, as "
                   "llama-perplexity does. Of a file of conversations, lines {\"messages\": [...]} in a *.jsonl, each "
                   "goes through the model's template, and the assistant's tokens count. The first two tokens of a "
                   "window never count.\n\n"
                   "kl: how far the model is from --base MODEL, or from its own float32 path (--base-reference), per "
                   "token in nats: the mean of KL(base || model) with its standard error (over windows), median, "
                   "90, 99, 99.9 % and largest; the mean of KL(model || base); how often the best token is the same; "
                   "the logarithm of the ratio of perplexities, paired by token; the root mean square by which the "
                   "probability of the text's token changes. With several texts each by itself and all together. With "
                   "--against other models beside it, and the paired difference.\n\n"
                   "hellaswag, piqa, mmlu: tasks with several answers of which one is right (-f: HellaSwag's text as "
                   "llama-perplexity reads it [200 that are built in], PIQA's *.jsonl, MMLU's *.csv or a folder of "
                   "them). The model chooses the continuation whose tokens are likeliest on the mean, behind what all "
                   "have in common: llama-perplexity's convention. PIQA's and MMLU's questions are asked as "
                   "\"Question: ...\\nAnswer:\". "
                   "Of the share that is right stands Wilson's 95 % interval; with --base also how many answers "
                   "changed, and McNemar's test.\n\n"
                   "gsm8k, spider: answers that the model writes, greedy, many at once. GSM8K's are right when their "
                   "last number is the right one. Spider's (with --tables) when the statement is the same but for "
                   "blanks and the case of letters, which is strict: --output keeps them for bench/spider.py, which "
                   "runs both on the databases.\n\n"
                   "logits: the raw numbers for given ids.\n\n"
                   "scales: writes the largest number that each linear layer reads in the texts of -f to a file for "
                   "--arithmetic int --scales.",
    .uses = uses,
    .n_uses = 2,
    .options_size = sizeof(struct eval_options),
    .min_operands = 1,
    .max_operands = 1,
    .defaults = eval_defaults,
    .run = eval_run,
    .unknown = peer_flag,
};
