/* stretto merge: adapters become part of a model, and what that changes is measured before the file has its name. */
#include "base/buffer.h"
#include "base/memory.h"
#include "base/words.h"
#include "compress/judge.h"
#include "compress/merge.h"
#include "compress/squeeze.h"
#include "stretto/commands.h"
#include "stretto/fetch.h"
#include "stretto/open.h"
#include "ui/progress.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct merge_command {
    const char *model, *out, *type;
    struct text_list adapters, test;
    int64_t windows, threads;
    double max_kl;
    bool force, yes, quiet, json;
};

enum { TEXTS = 16, LORAS = 16, WINDOWS = 4 };
static const double MAX_KL = 0.05;
#define MERGED "merged.gguf"
#define WHOLE "whole.gguf"

struct run {
    const struct merge_command *o;
    struct buffer in, work, whole, part;    /* in the folder `work`: merged in float32; OUT until it is measured */
    int lock;                               /* of the folder; -1                                        */
    char path[LORAS][4096];
    struct model_adapter adapter[LORAS];
    size_t n;
    struct text_file text[TEXTS];
    char *owned[TEXTS];
    size_t n_texts;
    struct merge_report report;
    struct judge *judge;
    struct verdict verdict;
    struct ui_progress bar;
};

static void defaults(void *options)
{
    struct merge_command *o = options;
    o->type = "same";
    o->windows = WINDOWS;
    o->max_kl = MAX_KL;
}

static void on_log(void *ud, enum log_level level, const char *text)
{
    struct run *x = ud;
    (void)level;
    if (x->o->quiet) return;
    ui_progress_break(&x->bar);
    fprintf(stderr, "stretto merge: %s\n", text);
}

static int failed(struct run *x, stretto_status s, const struct error *err)
{
    ui_progress_break(&x->bar);
    return command_fail("merge", s, err->text);
}

static struct log log_of(struct run *x) { return (struct log){ .say = on_log, .ud = x, .least = LOG_INFO }; }

/* ---- what is asked for ------------------------------------------------------------------------- */

static int read_adapters(struct run *x)
{
    if (!x->o->adapters.n) return command_usage("merge", "which adapter? Name it: --lora FILE[=SCALE]");
    for (; x->n < x->o->adapters.n; x->n++) {
        const char *word = x->o->adapters.v[x->n];
        float scale;
        enum adapter_word said = adapter_word(word, x->path[x->n], &scale);
        if (said == ADAPTER_WORD_NO_SCALE) return adapter_word_usage("merge", word);
        if (said != ADAPTER_WORD_GOOD)
            return command_usage("merge", "there is no file %s; an adapter is FILE or FILE=SCALE, as my.gguf=0.5",
                                 word);
        x->adapter[x->n] = (struct model_adapter){ .path = x->path[x->n], .scale = scale };
    }
    return EXIT_DONE;
}

static int read_texts(struct run *x)
{
    for (; x->n_texts < x->o->test.n && x->n_texts < TEXTS; x->n_texts++) {
        const char *path = x->o->test.v[x->n_texts];
        size_t n, length = strlen(path);
        char *text = x->owned[x->n_texts] = read_text("merge", path, &n);
        if (!text) return EXIT_FAILED;
        x->text[x->n_texts] = (struct text_file){ path, text, n,
                                                  length > 6 && strcmp(path + length - 6, ".jsonl") == 0 };
    }
    return EXIT_DONE;
}

/* "same", or F32, F16, BF16; else a mixture of stretto squeeze. */
static bool plain_type(const char *word, enum dtype *out)
{
    static const struct { const char *word; enum dtype type; } types[] = {
        { "same", DT_COUNT }, { "f32", DT_F32 }, { "f16", DT_F16 }, { "bf16", DT_BF16 } };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(word, types[i].word) == 0) {
            *out = types[i].type;
            return true;
        }
    return false;
}

/* ---- merging ----------------------------------------------------------------------------------- */

static stretto_status merge_as(struct run *x, enum dtype type, const char *out, struct error *err)
{
    const struct merge_options o = { .adapters = x->adapter, .n_adapters = x->n, .type = type, .force = true,
                                     .progress = ui_progress_hook(&x->bar), .log = log_of(x), .cancel = &interrupted };
    return merge_write(x->in.data, out, &o, &x->report, err);
}

static stretto_status squeeze_as(struct run *x, struct error *err)
{
    struct squeeze *s = NULL;
    const struct squeeze_options q = { .type = x->o->type, .force = true, .threads = (unsigned)x->o->threads,
                                       .report_room = SQUEEZE_NO_REPORT, .progress = ui_progress_hook(&x->bar),
                                       .log = log_of(x), .cancel = &interrupted };
    TRY(merge_as(x, DT_F32, x->whole.data, err));
    stretto_status st = squeeze_open(&s, x->whole.data, &q, err);
    if (st == STRETTO_OK) st = squeeze_write(s, x->part.data, err);
    squeeze_close(s);
    x->report.coded = true;
    return st;
}

static stretto_status measure(struct run *x, struct error *err)
{
    const struct judge_options j = { .texts = x->text, .n_texts = x->n_texts, .windows = (size_t)x->o->windows,
                                     .adapters = x->adapter, .n_adapters = x->n,
                                     .threads = (unsigned)x->o->threads, .progress = ui_progress_hook(&x->bar),
                                     .cancel = &interrupted };
    TRY(judge_open(&x->judge, x->in.data, &j, err));
    return judge_measure(x->judge, x->part.data, false, &x->verdict, err);
}

static int work(struct run *x)
{
    enum dtype type;
    struct error err = { 0 };
    stretto_status s = plain_type(x->o->type, &type) ? merge_as(x, type, x->part.data, &err) : squeeze_as(x, &err);
    if (s == STRETTO_OK) s = measure(x, &err);
    ui_progress_break(&x->bar);
    return s == STRETTO_OK ? EXIT_DONE : failed(x, s, &err);
}

/* ---- what came of it --------------------------------------------------------------------------- */

static void print_table(const struct run *x)
{
    const struct verdict *v = &x->verdict;
    size_t n = judge_texts(x->judge);
    printf("%u weights have what the adapter adds%s\n\n  %-16s %6s  %-17s  %8s  %9s  %8s\n", x->report.changed,
           x->report.coded ? "; they were rounded anew" : "", "text (held out)", "tokens", "  KL, nats", "99 %",
           "same top", "perplexity");
    for (size_t i = 0; i < n + (n > 1); i++) {
        const struct eval_kl *k = i < n ? &v->text[i] : &v->all;
        printf("  %-16s %6zu  %7.4f +- %.4f  %8.3f  %7.2f %%  %8.3f -> %.3f\n",
               i < n ? judge_text_name(x->judge, i) : "all", k->tokens, k->kl.value, k->kl.error, k->p99,
               100 * k->same_top.value, k->base_perplexity, k->perplexity);
    }
}

static void print_json(const struct run *x, bool kept)
{
    const struct eval_kl *k = &x->verdict.all;
    json_t *j = json_pack("{s:s,s:b,s:I,s:b,s:f,s:f,s:f,s:f,s:f,s:f,s:I,s:I}", "out", x->o->out, "kept", (int)kept,
                          "changed", (json_int_t)x->report.changed, "rounded", (int)x->report.coded, "kl", k->kl.value,
                          "kl_error", k->kl.error, "max_kl", x->o->max_kl, "same_top", k->same_top.value,
                          "perplexity_unmerged", k->base_perplexity, "perplexity", k->perplexity, "tokens",
                          (json_int_t)k->tokens, "bytes", (json_int_t)x->verdict.file_bytes);
    char *text = json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    if (text) printf("%s\n", text);
    free(text);
    json_decref(j);
}

/* Under its name only what says nearly the same. */
static int judge_it(struct run *x)
{
    double kl = x->verdict.all.kl.value;
    bool good = kl <= x->o->max_kl;
    char size[32];
    if (good && rename(x->part.data, x->o->out) != 0)
        return command_fail("merge", STRETTO_E_IO, "the merged file cannot get its name");
    if (x->o->json) print_json(x, good);
    else print_table(x);
    if (!good) {
        fprintf(stderr, "stretto merge: the merged model is %.4f nats a token from the model with its adapter beside "
                "it, and %.4f are allowed (--max-kl): nothing was written. --type q8_0 or f16 loses less; 'run --lora' "
                "loses nothing\n", kl, x->o->max_kl);
        return EXIT_FAILED;
    }
    if (!x->o->json)
        printf("\n%s: %s; %.2f %% of the likeliest tokens are the same, %.4f nats a token apart\n", x->o->out,
               bytes_words(size, (double)x->verdict.file_bytes), 100 * x->verdict.all.same_top.value, kl);
    return EXIT_DONE;
}

/* ---- files ------------------------------------------------------------------------------------- */

/* Whatever merging leaves there: nobody else's, who might have a folder of this name. */
static void empty_work(const struct run *x)
{
    struct buffer path = buffer_make(1 << 16);
    DIR *d = x->lock >= 0 ? opendir(x->work.data) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (strncmp(e->d_name, MERGED, strlen(MERGED)) != 0 && strncmp(e->d_name, WHOLE, strlen(WHOLE)) != 0) continue;
        buffer_clear(&path);
        if (buffer_printf(&path, "%s/%s", x->work.data, e->d_name) == STRETTO_OK) unlink(path.data);
    }
    if (d) closedir(d);
    buffer_done(&path);
}

/* 0, or why not. An empty one that somebody was killed over is made again. */
static int make_folder(const char *path)
{
    if (mkdir(path, 0777) == 0) return 0;
    if (errno != EEXIST || rmdir(path) != 0) return errno == ENOTEMPTY || errno == ENOTDIR ? EEXIST : errno;
    return mkdir(path, 0777) == 0 ? 0 : errno;
}

/* A folder beside OUT, locked while it is used, so what somebody was killed over is told from what is at work. */
static int take_work(struct run *x)
{
    struct buffer lock = buffer_make(1 << 16);
    bool named = buffer_printf(&x->work, "%s.merging", x->o->out) == STRETTO_OK
              && buffer_printf(&lock, "%s/.lock", x->work.data) == STRETTO_OK;
    int cause = named ? make_folder(x->work.data) : 0;
    if (named && (!cause || cause == EEXIST))
        x->lock = open(lock.data, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (cause ? 0 : O_CREAT), 0666);
    buffer_done(&lock);
    if (!named) return command_fail("merge", STRETTO_E_NOMEM, NULL);
    if (x->lock < 0 && cause == EEXIST)
        return command_usage("merge", "%s is there, a name that merging needs for a while: move it, or name another "
                             "file with -o", x->work.data);
    if (x->lock < 0) {
        fprintf(stderr, "stretto merge: cannot make %s: %s\n", x->work.data, strerror(cause ? cause : errno));
        return EXIT_FAILED;
    }
    if (flock(x->lock, LOCK_EX | LOCK_NB) != 0) {
        close(x->lock);
        x->lock = -1;
        return command_usage("merge", "another process merges into %s: name another file with -o", x->o->out);
    }
    empty_work(x);
    return EXIT_DONE;
}

static void leave_work(struct run *x)
{
    if (x->lock < 0) return;
    empty_work(x);
    buffer_clear(&x->part);
    if (buffer_printf(&x->part, "%s/.lock", x->work.data) == STRETTO_OK) unlink(x->part.data);
    rmdir(x->work.data);
    close(x->lock);
}

static void tidy(struct run *x)
{
    judge_close(x->judge);
    verdict_done(&x->verdict);
    leave_work(x);
    buffer_done(&x->in);
    buffer_done(&x->work);
    buffer_done(&x->whole);
    buffer_done(&x->part);
    for (size_t i = 0; i < TEXTS; i++) free(x->owned[i]);
}

static int name_files(struct run *x)
{
    struct stat st;
    int code = model_path("merge", x->o->model, x->o->yes, &x->in);
    if (code != EXIT_DONE) return code;
    if (stat(x->in.data, &st) == 0 && S_ISDIR(st.st_mode))
        return command_usage("merge", "%s is a folder of transformers: make it a file with 'stretto convert' first",
                             x->in.data);
    code = can_create("merge", "-o", x->o->out, x->o->force);
    if (code == EXIT_DONE) code = take_work(x);
    if (code == EXIT_DONE && (buffer_printf(&x->part, "%s/" MERGED, x->work.data) != STRETTO_OK
                              || buffer_printf(&x->whole, "%s/" WHOLE, x->work.data) != STRETTO_OK))
        code = command_fail("merge", STRETTO_E_NOMEM, NULL);
    return code;
}

static int run(void *options, size_t n, char **operands)
{
    struct run x = { .o = options, .in = buffer_make(1 << 16), .whole = buffer_make(1 << 16),
                     .part = buffer_make(1 << 16), .work = buffer_make(1 << 16), .lock = -1 };
    (void)n; (void)operands;
    if (!x.o->out) return command_usage("merge", "where does the merged model go? Name a file: -o OUT.gguf");
    ui_progress_init(&x.bar, x.o->quiet ? NULL : stderr);
    catch_interrupt();
    int code = read_adapters(&x);
    if (code == EXIT_DONE) code = read_texts(&x);
    if (code == EXIT_DONE) code = name_files(&x);
    if (code == EXIT_DONE) code = work(&x);
    if (code == EXIT_DONE) code = judge_it(&x);
    tidy(&x);
    return code;
}

#define AT(field) offsetof(struct merge_command, field)
static const struct option rows[] = {
    { "-m --model", "MODEL", OPT_TEXT, AT(model), 0, 0, "the model, a GGUF file [the default model]" },
    { "--lora", "FILE[=SCALE]", OPT_TEXTS, AT(adapters), 0, 0,
      "an adapter: a GGUF file or PEFT's folder, with what it adds times SCALE; may be given several times" },
    { "-o --out", "OUT.gguf", OPT_TEXT, AT(out), 0, 0, "the merged model" },
    { "--type", "TYPE", OPT_TEXT, AT(type), 0, 0,
      "same: each weight in the type that it has; f32, f16 or bf16; or a type of 'stretto squeeze', by which all of it "
      "is rounded anew, with what its layers read in mind [same]" },
    { "--max-kl", "NATS", OPT_REAL, AT(max_kl), 0, 100,
      "write nothing where the merged model is further from the unmerged one than this, a token [0.05]" },
    { "--test", "FILE", OPT_TEXTS, AT(test), 0, 0,
      "a text, or lines of conversations (.jsonl), to measure on; may be given several times [what is built in]" },
    { "--windows", "N", OPT_INT, AT(windows), 0, 1 << 20, "of each text that are measured at most; 0 is all [4]" },
    { "-t --threads", "N", OPT_INT, AT(threads), 0, 256,
      "threads; 0 uses what the machine and its container allow [0]" },
    { "--force", NULL, OPT_FLAG, AT(force), 0, 0, "replace OUT.gguf when it exists" },
    { "-y --yes", NULL, OPT_FLAG, AT(yes), 0, 0, "fetch a model that is not here without asking" },
    { "-q --quiet", NULL, OPT_FLAG, AT(quiet), 0, 0, "no progress" },
    { "--json", NULL, OPT_FLAG, AT(json), 0, 0, "print one JSON value" },
};
#undef AT
static const struct option_group group = { "Merging", rows, sizeof rows / sizeof *rows };
static const struct option_use uses[] = { { &group, 0 } };

const struct command command_merge = {
    .name = "merge",
    .operands = "",
    .summary = "make adapters a part of their model, and measure what that changes",
    .description =
        "Writes a model whose weights have what the adapters add, for programs that know no adapters. The others are "
        "the model's own, bit for bit; a head that is the table of embeddings stays that.\n\n"
        "  stretto merge -m MODEL --lora FILE \\\n"
        "    -o MERGED.gguf\n\n"
        "Weights that are codes are rounded anew, and an adapter is often smaller than what that loses. So the merged "
        "model is held to the unmerged one on texts: by how many nats a token its probabilities are apart (KL), and "
        "how often its likeliest token is the same. Above --max-kl nothing is written; 'run --lora', 'chat --lora' and "
        "'serve --lora' use the adapter as it is. Adapters that act on prompts, answers or guesses alone cannot be "
        "merged.",
    .uses = uses, .n_uses = 1, .options_size = sizeof(struct merge_command), .defaults = defaults, .run = run,
};
