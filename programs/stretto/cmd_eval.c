/* stretto eval: numbers about quality. ppl, kl, and the raw logits that other programs' checks
 * read. */
#include "base/file.h"
#include "engine/scheduler.h"
#include "eval/eval.h"
#include "stretto/commands.h"
#include "stretto/experimental.h"
#include "stretto/open.h"
#include "stretto/peer_flags.h"
#include "stretto/prompts.h"
#include "ui/progress.h"
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct eval_options {
    struct model_options model;
    const char *file, *base, *ids, *raw;
    int64_t chunks;
    bool base_reference, json, force;
};

#define AT(field) offsetof(struct eval_options, field)
static const struct option rows[] = {
    {"-f --file", "TEXT", OPT_TEXT, AT(file), 0, 0, "the text to read; - is standard input"},
    {"--chunks", "N", OPT_INT, AT(chunks), 0, 1 << 24, "read the first N windows; 0 reads all [0]"},
    {"--base", "MODEL", OPT_TEXT, AT(base), 0, 0, "kl: the model to compare with"},
    {"--base-reference", NULL, OPT_FLAG, AT(base_reference), 0, 0,
     "kl: compare with the same model's float32 path"},
    {"--ids", "1,2,3", OPT_TEXT, AT(ids), 0, 0, "logits: the token ids to read"},
    {"--raw", "OUT", OPT_TEXT, AT(raw), 0, 0,
     "logits: write float32 rows to this file, one per id (encoders: hidden states)"},
    {"--force", NULL, OPT_FLAG, AT(force), 0, 0, "logits: replace the file of --raw when it exists"},
    {"--json", NULL, OPT_FLAG, AT(json), 0, 0, "print one JSON value"},
};
#undef AT

/* An engine whose steps are as the window asks. */
static int open_engine(const struct model_options *o, const stretto_model *m, uint32_t context,
                       struct engine **out)
{
    struct error e = { 0 };
    struct engine_options x = { .threads = (unsigned)o->threads, .context = context, .sequences = 1,
                                .cache = stretto_model_inside(m)->reference ? CACHE_F32 : CACHE_F16,
                                .strict = o->strict || stretto_model_inside(m)->reference };
    const char *type;
    int code = cache_from("eval", o, &type);
    if (code != EXIT_DONE) return code;
    if (type) cache_type_by_name(type, &x.cache);
    stretto_status s = engine_open(out, stretto_model_inside(m), &x, &e);
    if (s == STRETTO_OK) engine_cancel(*out, engine_flag_set, (void *)(uintptr_t)&interrupted);
    return s == STRETTO_OK ? EXIT_DONE : command_fail("eval", s, e.text);
}

static int read_ids(const struct eval_options *o, const stretto_model *m, int32_t **ids, size_t *n,
                    int32_t *bos)
{
    size_t length;
    *ids = NULL;
    *bos = -1;
    if (!o->file) return command_usage("eval", "a text is missing: -f FILE");
    char *text = read_text("eval", o->file, &length);
    if (!text) return EXIT_FAILED;
    *ids = text_ids("eval", m, text, length, STRETTO_TOKENIZE_ADD, n);
    free(text);
    if (!*ids) return EXIT_FAILED;
    if (!*n) return command_fail("eval", STRETTO_E_ARG, "the text is empty");
    /* Whoever adds a BOS to a text reads every window behind one. */
    if ((*ids)[0] == tokenizer_bos(stretto_model_inside(m)->tokenizer)) *bos = (*ids)[0];
    return EXIT_DONE;
}

static uint32_t window_of(const struct eval_options *o)
{
    return o->model.context ? (uint32_t)o->model.context : 512;
}

static void print(json_t *j, bool json)
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

struct text { struct eval_text t; int32_t *ids; struct ui_progress ui; struct progress hook; };

static int text_open(struct text *x, const struct eval_options *o, const stretto_model *m)
{
    *x = (struct text){
        .t = {.window = window_of(o), .max_windows = (size_t)o->chunks, .cancel = &interrupted}};
    int code = read_ids(o, m, &x->ids, &x->t.n, &x->t.bos);
    x->t.ids = x->ids;
    ui_progress_init(&x->ui, stderr);
    x->ui.items = true;
    x->hook = ui_progress_hook(&x->ui);
    return code;
}

static int run_ppl(const struct eval_options *o)
{
    stretto_model *m;
    struct engine *e = NULL;
    struct text x = { 0 };
    struct error err = { 0 };
    struct eval_ppl r;
    int code = open_model("eval", &o->model, false, &m);
    if (code == EXIT_DONE) code = open_engine(&o->model, m, window_of(o), &e);
    if (code == EXIT_DONE) code = text_open(&x, o, m);
    if (code == EXIT_DONE) {
        stretto_status s = eval_ppl(e, &x.t, &x.hook, &r, &err);
        ui_progress_break(&x.ui);
        if (s != STRETTO_OK) code = command_fail("eval", s, err.text);
        else
            print(json_pack("{s:f,s:f,s:f,s:I,s:I,s:i,s:b}", "perplexity", r.perplexity,
                            "deviation", r.deviation, "nll", r.nll, "tokens", (json_int_t)r.tokens,
                            "windows", (json_int_t)r.windows, "window", (int)x.t.window,
                            "reference", stretto_model_inside(m)->reference),
                  o->json);
    }
    free(x.ids);
    engine_close(e);
    stretto_model_close(m);
    return code;
}

static int run_kl(const struct eval_options *o)
{
    if (!o->base == !o->base_reference)
        return command_usage(
            "eval", "kl compares with --base MODEL or with --base-reference; give one of them");
    stretto_model *m = NULL, *b = NULL;
    struct engine *e = NULL, *be = NULL;
    struct text x = { 0 };
    struct error err = { 0 };
    struct eval_kl r;
    struct model_options base = o->model;
    if (o->base) {
        base.model = o->base;
        base.hf = NULL;
    }
    base.reference = o->base_reference;
    if (o->base_reference) base.type_k = base.type_v = NULL;
    int code = open_model("eval", &o->model, false, &m);
    if (code == EXIT_DONE) code = open_model("eval", &base, false, &b);
    if (code == EXIT_DONE) code = open_engine(&o->model, m, window_of(o), &e);
    if (code == EXIT_DONE) code = open_engine(&base, b, window_of(o), &be);
    if (code == EXIT_DONE) code = text_open(&x, o, m);
    if (code == EXIT_DONE) {
        stretto_status s = eval_kl(be, e, &x.t, &x.hook, &r, &err);
        ui_progress_break(&x.ui);
        const char *type;
        cache_from("eval", &o->model, &type);
        if (s != STRETTO_OK) code = command_fail("eval", s, err.text);
        else
            print(json_pack("{s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:I,s:I,s:s,s:s}", "mean_kl", r.mean,
                            "median_kl", r.median, "p99_kl", r.p99, "max_kl", r.max, "same_top",
                            r.same_top, "perplexity", r.perplexity, "base_perplexity",
                            r.base_perplexity, "tokens", (json_int_t)r.tokens, "windows",
                            (json_int_t)r.windows, "cache",
                            type                  ? type
                            : stretto_model_inside(m)->reference ? "f32"
                                                  : "f16",
                            "base_cache",
                            stretto_model_inside(b)->reference ? "f32"
                            : type              ? type
                                                : "f16"),
                  o->json);
    }
    free(x.ids);
    engine_close(e);
    engine_close(be);
    stretto_model_close(m);
    stretto_model_close(b);
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
    if (code == EXIT_DONE) code = open_engine(&o->model, m, 0, &e);
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
            print(json_pack("{s:I,s:I}", "rows", (json_int_t)n, "width", (json_int_t)width),
                  o->json);
    }
    free(ids);
    free(out);
    engine_close(e);
    stretto_model_close(m);
    return code;
}

static int eval_run(void *options, size_t n, char **operands)
{
    (void)n;
    catch_interrupt();
    if (strcmp(operands[0], "ppl") == 0) return run_ppl(options);
    if (strcmp(operands[0], "kl") == 0) return run_kl(options);
    if (strcmp(operands[0], "logits") == 0) return run_logits(options);
    return command_odd("eval", "evaluation", operands[0], "ppl|kl|logits");
}

static void eval_defaults(void *options)
{
    model_options_defaults(&((struct eval_options *)options)->model);
    ((struct eval_options *)options)->model.stays = true;
}

static const struct option_group group = { "Evaluation", rows, sizeof rows / sizeof *rows };
static const struct option_use uses[] = {{&group, 0},
                                         {&group_model, offsetof(struct eval_options, model)}};
const struct command command_eval = {
    .name = "eval",
    .summary = "measure quality: perplexity, divergence",
    .operands = "ppl|kl|logits",
    .description = "ppl: the perplexity of a text in windows of -c tokens [512], the second half "
                   "of each counts, as "
                   "llama-perplexity does. kl: how far the model is from --base MODEL, or from its "
                   "own float32 path "
                   "(--base-reference): mean, median, 99 % and largest divergence per token in "
                   "nats, and how often the "
                   "best token agrees. logits: the raw numbers for given ids.",
    .uses = uses,
    .n_uses = 2,
    .options_size = sizeof(struct eval_options),
    .min_operands = 1,
    .max_operands = 1,
    .defaults = eval_defaults,
    .run = eval_run,
    .unknown = peer_flag,
};
