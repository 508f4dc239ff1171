/* stretto squeeze: a smaller model, and what it cost. */
#include "base/clock.h"
#include "base/file.h"
#include "base/usage.h"
#include "compress/rewrite.h"
#include "compress/rtn.h"
#include "format/convert.h"
#include "format/hf_write.h"
#include "format/pack.h"
#include "stretto/commands.h"
#include "stretto/fetch.h"
#include "stretto/open.h"
#include "stretto/report.h"
#include "stretto/squeeze_command.h"
#include "text/chat.h"
#include "text/tokenizer_gguf.h"
#include "ui/progress.h"
#include <ctype.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES = 16, RTN_BITS = 4 };

struct run {
    const struct squeeze_command *o;
    struct ui_progress bar;
    struct buffer in, out, converted;   /* converted: a folder as GGUF, beside OUT; empty: a file is read */
    struct buffer shaped;               /* of another shape, or with zeros; empty: as it is              */
    struct buffer plain;                /* the GGUF file that OUT, packed or a folder, is made of; empty: OUT */
    bool folder;                        /* OUT is a Hugging Face folder */
    bool keep_plain;                    /* it is all there is of the work */
    struct text_file learn[FILES], test[FILES];
    size_t n_learn, n_test;
    struct task_choice task;
    struct cache_list caches;
    struct squeeze_result r;
};

static void on_log(void *ud, enum log_level level, const char *text)
{
    (void)level;
    ui_progress_break(ud);
    fprintf(stderr, "stretto squeeze: %s\n", text);
}

static struct log log_of(struct run *x) { return (struct log){ .say = on_log, .ud = &x->bar, .least = LOG_INFO }; }

static uint64_t file_bytes(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static bool is_same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int failed(struct run *x, stretto_status s, const struct error *err)
{
    ui_progress_break(&x->bar);
    return command_fail("squeeze", s, err->text);
}

static bool has_goal(const struct squeeze_command *o)
{
    return o->size || o->bpw > 0 || o->max_kl > 0 || o->speed > 0;
}

static bool only_keys(const struct squeeze_command *o) { return o->only && strcmp(o->only, "keys") == 0; }

/* ---- what does not go together --------------------------------------------------------------- */

static int check_rtn(const struct squeeze_command *o)
{
    bool rtn = strcmp(o->method, "rtn") == 0;
    if (!rtn && (o->bits || o->share)) return command_usage("squeeze", "--bits and --scale-per belong to --method rtn");
    const struct mixture *m = mixture_find(o->type);
    enum dtype holds = rtn_type((unsigned)(o->bits ? o->bits : RTN_BITS));
    if (!rtn || !m || m->type == holds) return EXIT_DONE;
    return command_usage("squeeze", "codes of %d bits need --type %s, not %s", (int)(o->bits ? o->bits : RTN_BITS),
                         holds == DT_Q4_0 ? "q4_0" : holds == DT_Q5_0 ? "q5_0" : "q8_0", o->type);
}

/* Options that would be passed over in silence. `typed`: --type was given. */
static int check_together(const struct squeeze_command *o, bool typed)
{
    bool measured = has_goal(o) || o->sweep, learns = strcmp(o->method, "plain") != 0 && strcmp(o->method, "rtn") != 0;
    if ((o->task || o->cache) && (o->sweep || o->no_proof))
        return command_usage("squeeze", "%s belongs to the proof of one file; leave out %s",
                             o->task ? "--task" : "--cache", o->sweep ? "--sweep" : "--no-proof");
    if (o->sweep && has_goal(o))
        return command_usage("squeeze", "--sweep measures types as they are named; leave the budget out");
    if (measured && typed)
        return command_usage("squeeze", "--type and %s are different ways to say what weights become; leave one out",
                             o->sweep ? "--sweep" : "a budget");
    if (measured && o->dry_run)
        return command_usage("squeeze", "--dry-run shows the plan of a --type; that of %s is found by measuring",
                             o->sweep ? "--sweep" : "a budget");
    if (measured && o->no_proof)
        return command_usage("squeeze", "%s is measured; leave out --no-proof", o->sweep ? "a sweep" : "a budget");
    if (only_keys(o) && (typed || measured))
        return command_usage("squeeze", "--only keys leaves every type as it is; --balance-keys goes with other "
                             "changes");
    if (o->sweep && o->pack) return command_usage("squeeze", "--sweep keeps no file that could be packed");
    if (o->shape.fold && o->only)
        return command_usage("squeeze", "--fold is for weights, which --only leaves as they are");
    if (o->shape.fold && o->imatrix)
        return command_usage("squeeze", "--fold changes what layers read, so statistics from before do not fit; leave "
                             "out --imatrix");
    if (o->sweep && o->shape.low_rank)
        return command_usage("squeeze", "--sweep keeps no file that --low-rank could belong to; take one --type");
    if (o->sequential && !learns)
        return command_usage("squeeze", "--sequential belongs to --method feedback or search, which learn");
    if (o->imatrix && o->calibrate.n && !has_goal(o) && !shape_asked(&o->shape) && !o->shape.low_rank)
        return command_usage("squeeze", "--imatrix stands in the place of texts; leave out --calibrate");
    return check_rtn(o);
}

/* ---- names ---------------------------------------------------------------------------------- */

/* Cuts "-q4_k_m" or ".Q4_1" off the end of a name. */
static size_t without_type(const char *name, size_t n)
{
    for (size_t i = n; i-- > 1;)
        if (name[i] == '.' || name[i] == '-') {
            char word[16];
            size_t k = n - i - 1;
            if (k == 0 || k >= sizeof word) return n;
            memcpy(word, name + i + 1, k);
            word[k] = 0;
            return mixture_find(word) || strcmp(word, "gguf") == 0 ? i : n;
        }
    return n;
}

/* MODEL-NAME.GOAL.gguf in the current folder. */
static stretto_status name_out(struct run *x)
{
    if (x->o->out) return buffer_str(&x->out, x->o->out);
    size_t n = strlen(x->in.data);
    while (n > 1 && x->in.data[n - 1] == '/') n--;
    size_t from = n;
    while (from && x->in.data[from - 1] != '/') from--;
    const char *name = x->in.data + from;
    n -= from;
    if (n > 5 && strncmp(name + n - 5, ".gguf", 5) == 0) n -= 5;
    n = without_type(name, n);
    const struct squeeze_command *o = x->o;
    if (o->max_kl > 0) return buffer_printf(&x->out, "%.*s.kl%g.gguf", (int)n, name, o->max_kl);
    if (o->size) return buffer_printf(&x->out, "%.*s.%s.gguf", (int)n, name, o->size);
    if (o->bpw > 0) return buffer_printf(&x->out, "%.*s.%gbpw.gguf", (int)n, name, o->bpw);
    if (o->speed > 0) return buffer_printf(&x->out, "%.*s.%gtps.gguf", (int)n, name, o->speed);
    if (only_keys(o)) return buffer_printf(&x->out, "%.*s.keys.gguf", (int)n, name);
    return buffer_printf(&x->out, "%.*s.%s.gguf", (int)n, name, o->type);
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* "OUT/", or what is a folder already. */
static stretto_status name_plain(struct run *x)
{
    struct buffer *out = &x->out;
    x->folder = out->data[out->len - 1] == '/' || is_folder(out->data);
    while (out->len > 1 && out->data[out->len - 1] == '/') out->data[--out->len] = '\0';
    return x->o->pack || x->folder ? buffer_printf(&x->plain, "%s.pass-plain", out->data) : STRETTO_OK;
}

/* What a folder of transformers cannot be. */
static int check_folder(const struct run *x)
{
    const struct squeeze_command *o = x->o;
    const struct mixture *m = mixture_find(o->type);
    struct stat st;
    char weights[4200];
    snprintf(weights, sizeof weights, "%.4000s/config.json", x->in.data);
    if (!x->folder) return EXIT_DONE;
    if (o->pack || o->sweep || o->shape.low_rank)
        return command_usage("squeeze", "-o %s is a folder; %s writes files: name OUT.gguf", x->out.data,
                             o->pack ? "--pack" : o->sweep ? "--sweep" : "--low-rank");
    if (stat(weights, &st) != 0)
        return command_usage("squeeze", "-o %s is a folder, whose config.json and tokenizer come from the folder of "
                             "-m; %s is none: name OUT.gguf", x->out.data, x->in.data);
    if (has_goal(o) || !m || dtype_table[m->type].block > 1)
        return command_usage("squeeze", "-o %s is a folder, which holds f32, f16 or bf16: add --type bf16, or name "
                             "OUT.gguf", x->out.data);
    if (is_folder(x->out.data) && rmdir(x->out.data) != 0)
        return command_usage("squeeze", "-o %s is there already and is not empty; name another folder", x->out.data);
    return EXIT_DONE;
}

/* ---- texts ---------------------------------------------------------------------------------- */

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int read_texts(const struct text_list *list, struct text_file *out, size_t *n)
{
    for (*n = 0; *n < list->n && *n < FILES; ++*n) {
        size_t length;
        char *text = read_text("squeeze", list->v[*n], &length);
        if (!text) return EXIT_FAILED;
        size_t blank = strspn(text, " \t\r\n");
        out[*n] = (struct text_file){ file_name(list->v[*n]), text, length,
                                      text[blank] == '{' && strstr(text, "\"messages\"") };
        struct error err = { 0 };
        stretto_status s = texts_check(&out[*n], &err);
        if (s != STRETTO_OK) {
            ++*n;
            return command_fail("squeeze", s, err.text);
        }
    }
    return EXIT_DONE;
}

static void tell_leaks(struct run *x)
{
    struct text_file held[FILES];
    size_t n_learn, n = x->n_test;
    const struct text_file *learn = squeeze_texts(x->r.squeeze, &n_learn);
    const char *which;
    char words[120];
    for (size_t i = 0; i < n; i++) held[i] = x->test[i];
    if (!n) n = texts_builtin(true, held, FILES);
    for (size_t i = 0; i < n; i++) {
        struct error err = { 0 };
        struct log log = log_of(x);
        if (texts_leak(learn, n_learn, &held[i], &which, words, sizeof words, &err) != STRETTO_OK)
            log_say(&log, LOG_WARN, "whether a text that is measured on was learned from is not known: %s", err.text);
        else if (which)
            log_say(&log, LOG_WARN, "the text '%s' shares words with '%s', which is learned from, so figures of it "
                    "flatter: \"%s ...\"", held[i].name, which, words);
    }
}

/* Texts that cannot be measured on are told before the work. */
static int check_tests(struct run *x)
{
    const struct model *m = squeeze_model(x->r.squeeze);
    struct error err = { 0 };
    struct chat *chat = NULL;
    struct eval_set set;
    uint32_t window = m->config.context && m->config.context < 512 ? m->config.context : 512;
    if (x->o->no_proof || !m->tokenizer || !x->n_test) return EXIT_DONE;
    stretto_status s = chat_open(&chat, m->tokenizer, &err);
    for (size_t i = 0; i < x->n_test && s == STRETTO_OK; i++) {
        s = texts_set(&set, &x->test[i], m->tokenizer, chat, window, 1, m->config.vocab, &err);
        if (s == STRETTO_OK) eval_set_done(&set);
    }
    chat_close(chat);
    return s == STRETTO_OK ? EXIT_DONE : failed(x, s, &err);
}

/* ---- the way -------------------------------------------------------------------------------- */

/* A folder becomes a file beside OUT, with the numbers as they are. */
static int convert_folder(struct run *x)
{
    struct stat st;
    struct error err = { 0 };
    if (stat(x->in.data, &st) != 0 || !S_ISDIR(st.st_mode)) return EXIT_DONE;
    if (x->o->dry_run)
        return command_usage("squeeze", "%s is a folder, which is converted first; --dry-run looks at GGUF files",
                             x->in.data);
    stretto_status s = buffer_printf(&x->converted, "%s.pass-source", x->out.data);
    struct convert_options c = { .type = DT_F32, .force = true, .tokenizer = tokenizer_to_gguf,
                                 .progress = ui_progress_hook(&x->bar), .log = log_of(x), .cancel = &interrupted };
    if (s == STRETTO_OK) s = convert(x->in.data, x->converted.data, &c, &err);
    return s == STRETTO_OK ? EXIT_DONE : failed(x, s, &err);
}

static const char *original(const struct run *x) { return x->converted.len ? x->converted.data : x->in.data; }

/* Where the file is written as others read it. */
static const char *written(const struct run *x) { return x->plain.len ? x->plain.data : x->out.data; }

static uint64_t out_bytes(const struct run *x)
{
    char path[4200];
    snprintf(path, sizeof path, "%.4000s/model.safetensors", x->out.data);
    return file_bytes(x->folder ? path : x->out.data);
}

static stretto_status write_folder(struct run *x, struct error *err)
{
    struct hf_write_options o = { .type = mixture_find(x->o->type)->type, .progress = ui_progress_hook(&x->bar),
                                  .cancel = &interrupted };
    stretto_status s = hf_write(x->in.data, x->plain.data, x->out.data, &o, err);
    ui_progress_break(&x->bar);
    x->keep_plain = s == STRETTO_E_UNSUP;
    if (x->keep_plain) on_log(&x->bar, LOG_WARN, "what cannot be a folder is kept as a GGUF file, OUT.pass-plain");
    return s;
}

/* OUT of what was written; `again`: its report is another. */
static stretto_status make_out(struct run *x, bool again, struct error *err)
{
    if (x->folder) return again ? STRETTO_OK : write_folder(x, err);
    struct pack_report r;
    struct pack_options o = { .force = again || x->o->force, .progress = ui_progress_hook(&x->bar),
                              .cancel = &interrupted };
    if (!x->plain.len) return STRETTO_OK;
    bool items = x->bar.items;
    x->bar.items = false;
    stretto_status s = pack_file(x->plain.data, x->out.data, &o, &r, err);
    ui_progress_break(&x->bar);
    x->bar.items = items;
    x->r.plain_bytes = s == STRETTO_OK ? r.bytes : 0;
    return s;
}

static struct shape_work shape_of(struct run *x)
{
    return (struct shape_work){ .o = &x->o->shape, .texts = x->learn, .n_texts = x->n_learn,
                                .tokens = (size_t)x->o->tokens, .threads = (unsigned)x->o->threads,
                                .progress = ui_progress_hook(&x->bar), .log = log_of(x), .cancel = &interrupted };
}

/* The plan's options. */
static size_t report_room(const struct run *x)
{
    if (x->o->no_proof) return SQUEEZE_NO_REPORT;
    return squeeze_report_room(x->o, x->task.word != NULL, x->caches.n > 0);
}

static struct squeeze_options plan_of(struct run *x)
{
    static const struct { const char *word; enum encode_method method; } methods[] = {
        { "plain", ENCODE_PLAIN }, { "search", ENCODE_SEARCH }, { "feedback", ENCODE_FEEDBACK },
        { "rtn", ENCODE_RTN } };
    static const char *const shares[] = { "tensor", "channel", "group" };
    const struct squeeze_command *o = x->o;
    struct squeeze_options q = {
        .type = has_goal(o) || o->sweep ? "q2_k" : o->type, .output_type = o->output_type,
        .embedding_type = o->embedding_type, .keep = o->keep.v,
        .n_keep = o->keep.n, .texts = x->learn, .n_texts = x->n_learn, .tokens = (size_t)o->tokens,
        .statistics = o->imatrix, .sequential = o->sequential, .requantize = o->requantize, .copy = x->shaped.len > 0,
        .force = o->force || x->plain.len, .threads = (unsigned)o->threads,
        .report_room = report_room(x), .progress = ui_progress_hook(&x->bar), .log = log_of(x),
        .cancel = &interrupted };
    if (o->only)
        q.only = o->only[0] == 'e' ? ONLY_EMBEDDINGS : o->only[0] == 'p' ? ONLY_POSITIONS : ONLY_KEYS;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (strcmp(methods[i].word, o->method) == 0) q.method = methods[i].method;
    for (int i = 0; i < 3; i++)
        if (strcmp(shares[i], o->share ? o->share : "group") == 0) q.share = (enum rtn_share)i;
    q.bits = (unsigned)(o->bits ? o->bits : RTN_BITS);
    return q;
}

/* What is left out is left out beside OUT, before anything is rounded. */
static int change_shape(struct run *x)
{
    struct error err = { 0 };
    struct squeeze_options plan = plan_of(x);
    struct shape_work w = shape_of(x);
    w.plan = &plan;
    if (has_goal(x->o) || x->o->sweep) plan.type = "q4_k_m";
    if (!shape_asked(&x->o->shape)) return EXIT_DONE;
    if (x->o->dry_run)
        return command_usage("squeeze", "--dry-run knows types; what becomes of shapes and keys is found by measuring");
    int code = can_create("squeeze", "-o", x->out.data, x->o->force);
    if (code != EXIT_DONE) return code;
    stretto_status s = buffer_printf(&x->shaped, "%s.pass-shape", x->out.data);
    if (s == STRETTO_OK) s = shape_write(&w, original(x), x->shaped.data, &err);
    ui_progress_break(&x->bar);
    return s == STRETTO_OK ? EXIT_DONE : failed(x, s, &err);
}

static stretto_status name_adapter(const struct run *x, struct buffer *path)
{
    *path = buffer_make(1 << 16);
    return buffer_printf(path, "%s.lora.gguf", x->out.data);
}

/* Before hours of work, not behind them. */
static int can_write_adapter(const struct run *x)
{
    struct buffer path;
    if (!x->o->shape.low_rank) return EXIT_DONE;
    stretto_status s = name_adapter(x, &path);
    int code = s == STRETTO_OK ? can_create("squeeze", "--low-rank", path.data, x->o->force)
                               : command_fail("squeeze", s, NULL);
    buffer_done(&path);
    return code;
}

static int write_adapter(struct run *x)
{
    struct error err = { 0 };
    struct shape_work w = shape_of(x);
    struct buffer path;
    if (!x->o->shape.low_rank) return EXIT_DONE;
    stretto_status s = name_adapter(x, &path);
    if (s == STRETTO_OK) s = shape_adapter(&w, original(x), x->out.data, path.data, &err);
    ui_progress_break(&x->bar);
    buffer_done(&path);
    return s == STRETTO_OK ? EXIT_DONE : failed(x, s, &err);
}

static int open_plan(struct run *x)
{
    struct error err = { 0 };
    struct squeeze_options q = plan_of(x);
    stretto_status s = squeeze_open(&x->r.squeeze, x->shaped.len ? x->shaped.data : original(x), &q, &err);
    return s == STRETTO_OK ? EXIT_DONE : failed(x, s, &err);
}

static struct judge_options judge_of(struct run *x)
{
    return (struct judge_options){ .texts = x->test, .n_texts = x->n_test, .windows = (size_t)x->o->windows,
                                   .part = has_goal(x->o) ? JUDGE_PROOF : JUDGE_ALL,
                                   .threads = (unsigned)x->o->threads, .progress = ui_progress_hook(&x->bar),
                                   .cancel = &interrupted };
}

static int open_judge(struct run *x)
{
    struct error err = { 0 };
    struct judge_options j = judge_of(x);
    stretto_status s = judge_open(&x->r.judge, original(x), &j, &err);
    return s == STRETTO_OK ? EXIT_DONE : failed(x, s, &err);
}

static int keep_report(struct run *x)
{
    struct error err = { 0 };
    json_t *whole = x->folder ? squeeze_json(&x->r) : NULL;
    char *text = whole ? json_dumps(whole, JSON_INDENT(1) | JSON_REAL_PRECISION(9))
                       : squeeze_report(&x->r, report_room(x)), path[4200];
    json_decref(whole);
    stretto_status s = text ? STRETTO_OK : fail(&err, STRETTO_E_NOMEM, "out of memory");
    snprintf(path, sizeof path, "%.4000s/stretto_squeeze.json", x->out.data);
    if (s == STRETTO_OK)
        s = x->folder ? file_write(path, text, strlen(text), false, &err)
                      : rewrite_set_string(written(x), SQUEEZE_REPORT, text, &err);
    if (s == STRETTO_OK) s = make_out(x, true, &err);
    x->r.out_bytes = out_bytes(x);
    free(text);
    return s == STRETTO_OK ? EXIT_DONE : failed(x, s, &err);
}

/* "90M", "1.2GB". */
static int read_size(const char *text, double *bytes)
{
    static const char units[] = "kmgt";
    char *end;
    *bytes = strtod(text, &end);
    const char *at = *end ? strchr(units, tolower((unsigned char)*end)) : NULL;
    bool any = end != text && *bytes > 0 && isfinite(*bytes);
    if (at) end++;
    if (tolower((unsigned char)*end) == 'b') end++;
    if (!any || *end) return command_usage("squeeze", "--size takes bytes as 90M or 1.2G, not '%s'", text);
    for (const char *u = units; at && u <= at; u++) *bytes *= 1000;
    return EXIT_DONE;
}

static int solve_tasks(struct run *x)
{
    if (!task_fits(&x->task, squeeze_model(x->r.squeeze)->config.context)) return EXIT_DONE;
    judge_rest(x->r.judge);
    return task_measure(&x->task, x->o, original(x), x->out.data, &x->r.task);
}

/* What was measured; a task is the last of it. */
static int finish_proof(struct run *x)
{
    struct error err = { 0 };
    stretto_status s = STRETTO_OK;
    if (x->caches.n) s = judge_caches(x->r.judge, x->out.data, x->caches.type, x->caches.n, x->r.cache, &err);
    ui_progress_break(&x->bar);
    if (s != STRETTO_OK) return failed(x, s, &err);
    x->r.n_caches = x->caches.n;
    int code = solve_tasks(x);
    return code == EXIT_DONE ? keep_report(x) : code;
}

static int prove(struct run *x)
{
    struct error err = { 0 };
    if (x->o->no_proof) return EXIT_DONE;
    if (squeeze_model(x->r.squeeze)->graph.logits == GRAPH_NONE) {
        on_log(&x->bar, LOG_INFO, "the model writes no text, so there is no divergence to measure");
        return EXIT_DONE;
    }
    if (!squeeze_model(x->r.squeeze)->tokenizer) {
        on_log(&x->bar, LOG_WARN, "the model has no tokenizer, so no divergence is measured");
        return EXIT_DONE;
    }
    squeeze_rest(x->r.squeeze);
    int code = x->r.judge ? EXIT_DONE : open_judge(x);
    if (code != EXIT_DONE) return code;
    x->bar.items = true;
    stretto_status s = judge_speed(x->r.judge, &x->r.base_speed, &err);
    if (s == STRETTO_OK) s = judge_measure(x->r.judge, x->out.data, true, &x->r.verdict, &err);
    ui_progress_break(&x->bar);
    if (s != STRETTO_OK) return failed(x, s, &err);
    return finish_proof(x);
}

/* Bytes, bits, a divergence or a speed instead of a type. */
static int reach(struct run *x)
{
    struct error err = { 0 };
    const struct squeeze_command *o = x->o;
    struct reach_goal g = { .bits = o->bpw, .kl = o->max_kl, .speed = o->speed };
    int code = o->size ? read_size(o->size, &g.bytes) : EXIT_DONE;
    if (code != EXIT_DONE) return code;
    struct judge_options j = judge_of(x);
    struct reach_from from = { original(x), &j };
    stretto_status s = squeeze_reach(x->r.squeeze, &from, &g, written(x), x->r.exchange, &x->r.chosen, &err);
    x->r.has_exchange = s == STRETTO_OK;
    if (s == STRETTO_OK) s = make_out(x, false, &err);
    ui_progress_break(&x->bar);
    if (s != STRETTO_OK) return failed(x, s, &err);
    x->r.out_bytes = file_bytes(x->out.data);
    code = prove(x);
    if (code == EXIT_DONE) squeeze_reached(written(x));
    double kl = x->r.verdict.all.kl.value;
    if (code == EXIT_DONE && o->max_kl > 0 && kl > o->max_kl) {
        struct log log = log_of(x);
        log_say(&log, LOG_WARN, "the texts of the proof diverge by %.4f, where those that were set aside for the "
                "choice promised at most %.4f, which holds in nineteen cases of twenty: ask for a little less than %g, "
                "or name more text", kl, x->r.chosen.kl + x->r.chosen.margin, o->max_kl);
    }
    return code;
}

/* The report that was asked for, or without -o the picture that belongs beside what has a name of its own. */
static int draw_as(struct run *x, const char *ending, const json_t *j)
{
    char path[4200];
    const struct squeeze_command *o = x->o;
    if (o->report) return strcmp(o->report, "none") ? report_write("squeeze", o->report, o->force, j) : EXIT_DONE;
    if (o->out || !x->r.judge || x->out.len < 5) return EXIT_DONE;
    snprintf(path, sizeof path, "%.*s%s", (int)x->out.len - 5, x->out.data, ending);
    int code = report_write("squeeze", path, true, j);
    if (code == EXIT_DONE && !o->json) printf("%s\n", path);
    return code;
}

static int sweep(struct run *x)
{
    struct error err = { 0 };
    int code = open_judge(x);
    if (code != EXIT_DONE) return code;
    json_t *j = NULL;
    stretto_status s = squeeze_sweep(&x->r, x->o->sweep, x->o->json, &j, &err);
    ui_progress_break(&x->bar);
    code = s != STRETTO_OK ? failed(x, s, &err) : draw_as(x, ".sweep.svg", j);
    json_decref(j);
    return code;
}

static void show(struct run *x)
{
    if (x->o->json) {
        json_t *j = squeeze_json(&x->r);
        json_dumpf(j, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
        putchar('\n');
        json_decref(j);
    } else if (x->o->dry_run) {
        squeeze_print_plan(x->r.squeeze, true);
    } else {
        squeeze_print(&x->r);
    }
}

static int draw(struct run *x)
{
    json_t *j = squeeze_json(&x->r);
    int code = draw_as(x, ".svg", j);
    json_decref(j);
    return code;
}

static int prove_file(struct run *x)
{
    int code = prove(x);
    if (code == EXIT_DONE) squeeze_proved(x->out.data);
    return code;
}

/* An interrupted proof leaves its file whole: the same command makes the proof alone. */
static bool is_unproved(struct run *x)
{
    if (x->plain.len || x->shaped.len || x->o->shape.low_rank || x->o->no_proof) return false;
    return has_goal(x->o) ? squeeze_is_reached(x->out.data) : squeeze_is_unproved(x->r.squeeze, x->out.data);
}

static int write_out(struct run *x)
{
    struct error err = { 0 };
    bool unproved = is_unproved(x);
    struct log log = log_of(x);
    if (unproved && has_goal(x->o)) return reach(x);
    if (unproved) {
        log_say(&log, LOG_INFO, "%s is whole already; its proof is missing", x->out.data);
        x->r.out_bytes = file_bytes(x->out.data);
        return prove_file(x);
    }
    int code = can_create("squeeze", "-o", written(x), x->o->force || x->plain.len);
    if (code == EXIT_DONE) code = can_create("squeeze", "-o", x->out.data, x->o->force);
    if (code != EXIT_DONE) return code;
    if (has_goal(x->o)) return reach(x);
    stretto_status s = squeeze_write(x->r.squeeze, written(x), &err);
    if (s == STRETTO_OK) s = make_out(x, false, &err);
    ui_progress_break(&x->bar);
    if (s != STRETTO_OK) return failed(x, s, &err);
    x->r.out_bytes = out_bytes(x);
    if (!x->plain.len && !x->o->no_proof) squeeze_unproved(x->r.squeeze, x->out.data);
    return prove_file(x);
}

static int squeeze(struct run *x)
{
    double begun = clock_seconds();
    int code = shape_check(&x->o->shape);
    if (code == EXIT_DONE && x->o->sweep) code = sweep_check(x->o->sweep);
    if (code == EXIT_DONE) code = task_read(x->o->task, &x->task);
    if (code == EXIT_DONE) code = task_check(&x->task, x->o);
    if (code == EXIT_DONE) code = caches_read(x->o->cache, &x->caches);
    bool report = x->o->report && strcmp(x->o->report, "none");
    if (code == EXIT_DONE && report) code = report_name_check("squeeze", x->o->report);
    if (code == EXIT_DONE && report) code = can_create("squeeze", "--report", x->o->report, x->o->force);
    if (code == EXIT_DONE) code = model_path("squeeze", x->o->model, x->o->yes, &x->in);
    if (code == EXIT_DONE && (name_out(x) != STRETTO_OK || name_plain(x) != STRETTO_OK))
        code = command_fail("squeeze", STRETTO_E_NOMEM, NULL);
    if (code == EXIT_DONE) code = check_folder(x);
    if (code == EXIT_DONE && is_same_file(x->in.data, x->out.data))
        code = command_usage("squeeze", "-o %s is the model itself, which the result is compared with; name another "
                             "file", x->out.data);
    if (code == EXIT_DONE && !x->o->dry_run) code = can_write_adapter(x);
    if (code == EXIT_DONE) code = read_texts(&x->o->calibrate, x->learn, &x->n_learn);
    if (code == EXIT_DONE) code = read_texts(&x->o->test, x->test, &x->n_test);
    if (code == EXIT_DONE) code = convert_folder(x);
    if (code == EXIT_DONE) code = change_shape(x);
    if (code == EXIT_DONE) code = open_plan(x);
    if (code == EXIT_DONE) code = check_tests(x);
    if (code != EXIT_DONE) return code;
    x->r.in = x->in.data;
    x->r.out = x->o->dry_run ? NULL : x->out.data;
    x->r.in_bytes = file_bytes(original(x));
    x->r.out_bytes = squeeze_bytes(x->r.squeeze, true);
    if (!x->o->dry_run) {
        tell_leaks(x);
        if (x->o->sweep) return sweep(x);
        code = write_out(x);
        if (code == EXIT_DONE) code = write_adapter(x);
    }
    x->r.seconds = clock_seconds() - begun;
    x->r.peak_bytes = (uint64_t)usage_peak_bytes();
    if (code == EXIT_DONE) show(x);
    return code == EXIT_DONE ? draw(x) : code;
}

/* As Ctrl-C: what is written stays, and the next call goes on there. */
static void on_term(int sig)
{
    (void)sig;
    interrupted = 1;
}

static int squeeze_run(void *options, size_t n, char **operands)
{
    struct squeeze_command *o = options;
    if (n && !o->report)
        return command_usage("squeeze", "-m names the model; '%s' is drawn with --report NAME.html", operands[0]);
    if (n) return report_of_file("squeeze", operands[0], o->report, o->force);
    bool typed = o->type != NULL;
    if (!typed) o->type = "q4_k_m";
    int code = check_together(o, typed);
    if (code != EXIT_DONE) return code;
    if (only_keys(o)) o->shape.keys = true;
    struct run x = { .o = options, .in = buffer_make(1 << 16), .out = buffer_make(1 << 16),
                     .converted = buffer_make(1 << 16), .shaped = buffer_make(1 << 16),
                     .plain = buffer_make(1 << 16) };
    ui_progress_init(&x.bar, x.o->quiet ? NULL : stderr);
    x.bar.items = true;
    catch_interrupt();
    signal(SIGTERM, on_term);
    if (signal(SIGHUP, SIG_IGN) != SIG_IGN) signal(SIGHUP, on_term);    /* nohup stays */
    code = squeeze(&x);
    if (x.converted.len) unlink(x.converted.data);
    if (x.shaped.len) unlink(x.shaped.data);
    if (x.plain.len && !x.keep_plain) unlink(x.plain.data);
    verdict_done(&x.r.verdict);
    json_decref(x.r.task);
    judge_close(x.r.judge);
    squeeze_close(x.r.squeeze);
    for (size_t i = 0; i < x.n_learn; i++) free((char *)(uintptr_t)x.learn[i].data);
    for (size_t i = 0; i < x.n_test; i++) free((char *)(uintptr_t)x.test[i].data);
    buffer_done(&x.in);
    buffer_done(&x.out);
    buffer_done(&x.converted);
    buffer_done(&x.shaped);
    buffer_done(&x.plain);
    return code;
}

static void defaults(void *options)
{
    struct squeeze_command *o = options;
    o->method = "feedback";
    o->windows = 8;
    o->tasks = 400;
}

#define AT(field) offsetof(struct squeeze_command, field)
static const struct option goal_rows[] = {
    { "--type", "TYPE", OPT_TEXT, AT(type), 0, 0,
      "what most weights become, by the names and rules of llama-quantize: q8_0, q6_k, q5_k_m, q5_k_s, q5_1, q5_0, "
      "q4_k_m, q4_k_s, q4_1, q4_0, iq4_nl, iq4_xs, mxfp4, q3_k_l, q3_k_m, q3_k_s, q2_k, bf16, f16 [q4_k_m]" },
    { "--size", "BYTES", OPT_TEXT, AT(size), 0, 0,
      "instead of a type: types for each weight so that the file has at most so many bytes, as 90M or 1.2G, and "
      "diverges least" },
    { "--bpw", "BITS", OPT_REAL, AT(bpw), 1, 32, "the same with at most so many bits per weight" },
    { "--max-kl", "NATS", OPT_REAL, AT(max_kl), 0, 100,
      "the same with the fewest bytes whose divergence from the original is at most this, on windows of --test that "
      "the proof does not read; together with others, within both" },
    { "--tokens-per-second", "N", OPT_REAL, AT(speed), 0, 1e6,
      "the same so that one answer is written at least so fast on this machine" },
    { "--sweep", "TYPES", OPT_TEXT, AT(sweep), 0, 0,
      "write and measure several types, as q4_0,iq4_nl,q5_0 or all, print a line for each, and keep no file" },
    { "--output-type --output-tensor-type", "TYPE", OPT_TEXT, AT(output_type), 0, 0,
      "the type of the head, of a table that is head and embedding too" },
    { "--embedding-type --token-embedding-type", "TYPE", OPT_TEXT, AT(embedding_type), 0, 0,
      "the type of the embedding, where it is a table of its own" },
    { "--keep --tensor-type", "REGEX=TYPE", OPT_TEXTS, AT(keep), 0, 0,
      "the type of tensors whose names fit, as attn_v=q8_0; the first that fits counts" },
    { "--only", "embeddings|positions|keys", OPT_CHOICE, AT(only), 0, 0,
      "change these alone: the embedding and the head; learned positions; or nothing, and --balance-keys" },
    { "--requantize --allow-requantize", NULL, OPT_FLAG, AT(requantize), 0, 0,
      "round also what is rounded to as few bits already" },
};
static const struct option text_rows[] = {
    { "--method", "plain|search|feedback|rtn", OPT_CHOICE, AT(method), 0, 0,
      "how codes are chosen: as published, with scales that are searched, or with errors fed back by what layers were "
      "seen to read; rtn is straight rounding, to compare with [feedback]" },
    { "--bits", "N", OPT_INT, AT(bits), 2, 8,
      "with rtn: the bits of a code, where --type holds them: q4_0 2 to 4, q5_0 5, q8_0 6 to 8 [4]" },
    { "--scale-per", "tensor|channel|group", OPT_CHOICE, AT(share), 0, 0,
      "with rtn: who shares a scale; a group is 32 weights [group]" },
    { "--calibrate", "FILE", OPT_TEXTS, AT(calibrate), 0, 0,
      "a text to learn from, or lines of {\"messages\": [...]}; may be given several times [a mixture that is built "
      "in]" },
    { "--tokens", "N", OPT_INT, AT(tokens), 0, 1 << 26,
      "learn from about N tokens, spread over the texts; 0 takes all [0]" },
    { "--imatrix", "FILE", OPT_TEXT, AT(imatrix), 0, 0,
      "statistics that were measured before, by 'stretto calibrate' or llama-imatrix, instead of reading texts; those "
      "of llama.cpp weigh errors by importance" },
    { "--sequential", NULL, OPT_FLAG, AT(sequential), 0, 0,
      "later layers learn from what the earlier ones are once they are written" },
    { "--test", "FILE", OPT_TEXTS, AT(test), 0, 0,
      "a text to measure on, or lines of conversations; may be given several times [three that are built in]" },
    { "--windows", "N", OPT_INT, AT(windows), 0, 1 << 20,
      "measure on N windows of each text, or as many conversations as have the tokens of N windows; a budget chooses "
      "by twice as many others; 0 takes all [8]" },
    { "--cache", "TYPES", OPT_TEXT, AT(cache), 0, 0,
      "also measure what caches of these types add, as f16,q8_0,q8_0+q4_0 (keys+values), or all, and recommend the "
      "smallest that adds little" },
    { "--task", "TASK[=FILE]", OPT_TEXT, AT(task), 0, 0,
      "what both models solve at the end: hellaswag=FILE, piqa=FILE, mmlu=FILE, gsm8k=FILE as 'stretto eval' reads "
      "them, none, or hellaswag, of which 200 are built in [hellaswag]" },
    { "--tasks", "N", OPT_INT, AT(tasks), 0, 1 << 20,
      "so many of them, drawn as llama-perplexity draws; 0: all [400]" },
    { "--report", "OUT", OPT_TEXT, AT(report), 0, 0,
      "write a page (NAME.html), a picture (NAME.svg) or all figures (NAME.json) about it; with SQUEEZED nothing is "
      "squeezed: that of a file which carries its report, or of a *.json. none: nothing is drawn [without -o NAME.svg "
      "beside NAME.gguf]" },
    { "--no-proof", NULL, OPT_FLAG, AT(no_proof), 0, 0, "measure nothing at the end; with --type" },
};
static const struct option run_rows[] = {
    { "-m --model", "MODEL", OPT_TEXT, AT(model), 0, 0,
      "a GGUF file, a Hugging Face folder, a name that 'stretto models' lists, or hf:USER/REPO[:QUANT] "
      "[the default model]" },
    { "-o --out", "OUT", OPT_TEXT, AT(out), 0, 0,
      "the file to write, or with --type f32, f16 or bf16 the Hugging Face folder OUT/, where -m is "
      "one [MODEL.TYPE.gguf in this folder]" },
    { "--pack", NULL, OPT_FLAG, AT(pack), 0, 0,
      "code OUT without loss, as 'stretto pack' does; only stretto opens it then. Budgets count the bytes before" },
    { "--dry-run", NULL, OPT_FLAG, AT(dry_run), 0, 0, "print every tensor's type and bytes, and write nothing" },
    { "--force", NULL, OPT_FLAG, AT(force), 0, 0, "replace OUT when it exists" },
    { "-t --threads", "N", OPT_INT, AT(threads), 0, 256,
      "threads; 0 uses what the machine and its container allow [0]" },
    { "-y --yes", NULL, OPT_FLAG, AT(yes), 0, 0, "fetch a model that is not here without asking" },
    { "-q --quiet", NULL, OPT_FLAG, AT(quiet), 0, 0, "no progress" },
    { "--json", NULL, OPT_FLAG, AT(json), 0, 0, "print one JSON value" },
};
#undef AT
static const struct option_group goal_group = { "What it becomes", goal_rows, sizeof goal_rows / sizeof *goal_rows };
static const struct option_group text_group = { "How, and on what", text_rows, sizeof text_rows / sizeof *text_rows };
static const struct option_group run_group = { "Files", run_rows, sizeof run_rows / sizeof *run_rows };
static const struct option_use uses[] = { { &run_group, 0 }, { &goal_group, 0 }, { &text_group, 0 },
                                          { &shape_group, offsetof(struct squeeze_command, shape) } };

const struct command command_squeeze = {
    .name = "squeeze",
    .summary = "make a model smaller, and measure what it cost",
    .operands = "[SQUEEZED]",
    .description =
        "Writes a model as a smaller GGUF file, which llama.cpp opens too, and ends with a table of what it cost: the "
        "divergence from the original on texts that nothing was learned from, bytes, and tokens per second. The "
        "figures and the recipe are kept in the file (stretto.squeeze.*).\n\n"
        "Weights are rounded so that the answers of their layers change least on texts that the model reads first, "
        "layer by layer: a mixture of prose, code, conversations and mathematics that is built in, or --calibrate. "
        "Types are mixtures as llama-quantize has them, with its fallbacks where the rows of a matrix do not fit "
        "blocks of 256.\n\n"
        "OUT appears only when it is whole. Ctrl-C leaves OUT.part and OUT.state, and the same command goes on there.",
    .uses = uses,
    .n_uses = 4,
    .options_size = sizeof(struct squeeze_command),
    .min_operands = 0,
    .max_operands = 1,
    .defaults = defaults,
    .run = squeeze_run,
};
