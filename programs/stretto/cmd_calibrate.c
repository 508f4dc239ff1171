/* stretto calibrate: what a model's linear layers read of texts, as a file of statistics that llama-quantize and
 * stretto squeeze take. */
#include "base/buffer.h"
#include "base/clock.h"
#include "base/memory.h"
#include "compress/imatrix.h"
#include "compress/texts.h"
#include "stretto/commands.h"
#include "stretto/fetch.h"
#include "stretto/open.h"
#include "text/chat.h"
#include "ui/progress.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct calibrate_command {
    const char *model, *out, *ids;
    struct text_list files;
    int64_t tokens, window, threads;
    bool gram, force, yes, quiet;
};

enum { TEXTS = 16, DEFAULT_TOKENS = 32768, DEFAULT_WINDOW = 512, MAX_WINDOW = 1 << 20, MAX_TOKENS = 1 << 28 };

/* What is open while it runs. */
struct run {
    const struct calibrate_command *o;
    struct text_file text[TEXTS];
    char *owned[TEXTS];
    size_t n;
    struct model *model;
    struct windows windows;
    struct workers *workers;
    struct calibration *walk;
    struct imatrix_writer *file;
    struct ui_progress bar;
};

static void defaults(void *options)
{
    struct calibrate_command *o = options;
    o->tokens = DEFAULT_TOKENS;
    o->window = DEFAULT_WINDOW;
}

static bool is_lines(const char *path)
{
    size_t n = strlen(path);
    return n > 6 && strcmp(path + n - 6, ".jsonl") == 0;
}

static int read_texts(struct run *r)
{
    if (r->o->ids) return EXIT_DONE;
    if (!r->o->files.n) r->n = texts_builtin(false, r->text, TEXTS);
    for (size_t i = 0; i < r->o->files.n && r->n < TEXTS; i++, r->n++) {
        const char *path = r->o->files.v[i], *slash = strrchr(path, '/');
        size_t n;
        r->owned[r->n] = read_text("calibrate", path, &n);
        if (!r->owned[r->n]) return EXIT_FAILED;
        r->text[r->n] = (struct text_file){ slash ? slash + 1 : path, r->owned[r->n], n, is_lines(path) };
    }
    return EXIT_DONE;
}

/* --ids: "1,2,3;4,5" */
static stretto_status take_ids(struct windows *w, const char *text, struct error *err)
{
    size_t most = strlen(text) + 2;
    w->id = mem_zalloc(most, sizeof *w->id);
    w->at = mem_zalloc(most, sizeof *w->at);
    if (!w->id || !w->at) return fail(err, STRETTO_E_NOMEM, "out of memory");
    for (const char *p = text;; p++) {
        char *end;
        unsigned long id = strtoul(p, &end, 10);
        if (end == p || *p < '0' || *p > '9' || id > INT32_MAX || (*end && *end != ',' && *end != ';'))
            return fail(err, STRETTO_E_ARG, "--ids takes numbers such as 1,2,3;4,5 and not '%.40s'", p);
        w->id[w->tokens++] = (int32_t)id;
        p = end;
        if (*p != ',') w->at[++w->n] = (uint32_t)w->tokens;
        if (!*p) return STRETTO_OK;
    }
}

static stretto_status open_windows(struct run *r, struct error *err)
{
    const struct calibrate_command *o = r->o;
    if (o->ids) return take_ids(&r->windows, o->ids, err);
    const struct tokenizer *t = r->model->tokenizer;
    struct chat *chat = NULL;
    if (!t) return fail(err, STRETTO_E_UNSUP, "the model file has no vocabulary, so it cannot read texts");
    uint32_t window = (uint32_t)o->window, context = r->model->config.context;
    if (context && window > context) window = context;
    TRY(chat_open(&chat, t, err));
    stretto_status s = windows_make(&r->windows, r->text, r->n, t, chat, window, (size_t)o->tokens,
                                    r->model->config.vocab, err);
    chat_close(chat);
    return s;
}

static stretto_status open_file(struct run *r, struct error *err)
{
    const char *names[TEXTS];
    for (size_t i = 0; i < r->n; i++) names[i] = r->text[i].name;
    uint32_t window = 0;
    for (size_t i = 0; i < r->windows.n; i++) {
        uint32_t n = r->windows.at[i + 1] - r->windows.at[i];
        window = n > window ? n : window;
    }
    struct imatrix_write_options w = {
        .about = { names, r->n, (uint32_t)r->windows.n, window }, .gram = r->o->gram, .force = r->o->force
    };
    return imatrix_writer_open(&r->file, r->o->out, r->model, &w, err);
}

static stretto_status walk(struct run *r, struct error *err)
{
    struct binding b = { r->model, model_param };
    struct calibrate_options o = { .text = windows_text(&r->windows), .gram = r->o->gram, .workers = r->workers,
                                   .threads = (unsigned)r->o->threads, .level = getenv("STRETTO_CPU"),
                                   .progress = ui_progress_hook(&r->bar), .cancel = &interrupted };
    TRY(calibration_open(&r->walk, r->model, &b, &o, err));
    for (uint32_t i = 0; i < calibration_pieces(r->walk); i++) {
        TRY(calibration_go(r->walk, true, err));
        TRY(imatrix_write_piece(r->file, r->walk, err));
    }
    return imatrix_finish(r->file, err);
}

static stretto_status measure(struct run *r, const char *path, struct error *err)
{
    struct model_open_options m = { .graph_only = true };
    TRY(model_open(&r->model, path, &m, err));
    TRY(open_windows(r, err));
    TRY(workers_open(&r->workers, (unsigned)r->o->threads, err));
    TRY(open_file(r, err));
    uint64_t bytes = imatrix_writer_bytes(r->file);
    double begin = clock_seconds();
    TRY(walk(r, err));
    double seconds = clock_seconds() - begin;
    ui_progress_break(&r->bar);
    printf("%s: %zu tokens in %zu windows, %.1f s (%.0f tokens/s), %.1f MB\n", r->o->out, r->windows.tokens,
           r->windows.n, seconds, (double)r->windows.tokens / seconds, (double)bytes / 1e6);
    return STRETTO_OK;
}

static void close_all(struct run *r)
{
    ui_progress_break(&r->bar);
    imatrix_writer_close(r->file);
    calibration_close(r->walk);
    workers_close(r->workers);
    windows_done(&r->windows);
    if (r->model) model_close(r->model);
    for (size_t i = 0; i < TEXTS; i++) free(r->owned[i]);
}

static int calibrate_run(void *options, size_t n, char **operands)
{
    (void)n, (void)operands;
    struct run r = { .o = options };
    struct error err = { 0 };
    if (!r.o->out)
        return command_usage("calibrate", "where do the statistics go? Name a file: -o model.imatrix.gguf");
    int code = can_create("calibrate", "-o", r.o->out, r.o->force);
    if (code != EXIT_DONE) return code;
    struct buffer path = buffer_make(1 << 16);
    ui_progress_init(&r.bar, r.o->quiet ? NULL : stderr);
    code = read_texts(&r);
    if (code == EXIT_DONE) code = model_path("calibrate", r.o->model, r.o->yes, &path);
    if (code == EXIT_DONE) {
        catch_interrupt();
        stretto_status s = measure(&r, path.data, &err);
        ui_progress_break(&r.bar);
        if (s != STRETTO_OK) code = command_fail("calibrate", s, err.text);
    }
    buffer_done(&path);
    close_all(&r);
    return code;
}

#define AT(field) offsetof(struct calibrate_command, field)
static const struct option rows[] = {
    { "-m --model", "MODEL", OPT_TEXT, AT(model), 0, 0,
      "file, folder or name of a model ('stretto models') [the default model]" },
    { "-f --file", "FILE", OPT_TEXTS, AT(files), 0, 0,
      "a text to read, or conversations as JSON lines (*.jsonl), which go through the model's template; may be given "
      "several times [texts that are compiled in]" },
    { "--ids", "1,2;3,4", OPT_TEXT, AT(ids), 0, 0, "token ids to read instead of texts, windows apart by ';'" },
    { "-o --output", "FILE", OPT_TEXT, AT(out), 0, 0, "write the statistics to this file" },
    { "--tokens", "N", OPT_INT, AT(tokens), 0, MAX_TOKENS,
      "read about N tokens, spread over the texts in proportion; 0 reads them whole [32768]" },
    { "--window", "N", OPT_INT, AT(window), 4, MAX_WINDOW, "cut texts into windows of N tokens [512]" },
    { "--gram", NULL, OPT_FLAG, AT(gram), 0, 0,
      "also write second moments of all pairs of channels, which error feedback needs: gigabytes" },
    { "-t --threads", "N", OPT_INT, AT(threads), 0, 256, "threads; 0 takes what the machine allows [0]" },
    { "--force", NULL, OPT_FLAG, AT(force), 0, 0, "replace the file when it exists" },
    { "-y --yes", NULL, OPT_FLAG, AT(yes), 0, 0, "fetch a model that is not here without asking" },
    { "-q --quiet", NULL, OPT_FLAG, AT(quiet), 0, 0, "no progress" },
};
#undef AT
static const struct option_group group = { "Calibrate", rows, sizeof rows / sizeof *rows };
static const struct option_use uses[] = { { &group, 0 } };

const struct command command_calibrate = {
    .name = "calibrate",
    .summary = "measure what a model's linear layers read",
    .operands = "",
    .description =
        "Reads texts through the model, layer by layer in float32, and writes for every linear layer how large each "
        "of its inputs is: the importance that quantization needs. The file is llama.cpp's imatrix in GGUF, so "
        "llama-quantize --imatrix takes it too; beside it stand the sums and ranges of inputs and, with --gram, "
        "their second moments.\n\n"
        "Texts are cut into windows that begin as prompts begin, each read on its own. Texts that resemble what the "
        "model will be used for measure best; never take those that it will be judged by.",
    .uses = uses,
    .n_uses = 1,
    .options_size = sizeof(struct calibrate_command),
    .defaults = defaults,
    .run = calibrate_run,
};
