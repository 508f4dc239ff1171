/* Any model that can be opened, written as a GGUF file of one element type. */
#include "compress/workers.h"
#include "format/convert.h"
#include "stretto/commands.h"
#include "stretto/fetch.h"
#include "tensor/dtype_rows.h"
#include "text/tokenizer_gguf.h"
#include "ui/progress.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>

struct command_options { const char *type; int64_t threads; bool force, quiet, yes; };

static volatile sig_atomic_t cancelled;
static void cancel(int signal) { (void)signal; cancelled = 1; }

static void on_log(void *ud, enum log_level level, const char *text)
{
    (void)level;
    ui_progress_break(ud);
    fprintf(stderr, "stretto convert: %s\n", text);
}

static void each(void *threads, size_t n, void (*fn)(void *ud, size_t i), void *ud)
{
    workers_each(threads, n, fn, ud);
}

static void defaults(void *options) { ((struct command_options *)options)->type = "f16"; }

static int convert_run(void *options, size_t n, char **operands)
{
    (void)n;
    const struct command_options *o = options;
    struct buffer in = buffer_make(1 << 16);
    int code = model_path("convert", operands[0], o->yes, &in);
    if (code != EXIT_DONE) {
        buffer_done(&in);
        return code;
    }
    struct ui_progress bar;
    struct error err = { 0 };
    ui_progress_init(&bar, o->quiet ? NULL : stderr);
    /* Ctrl-C must leave nothing half-written, so it only asks. */
    struct sigaction act = { .sa_handler = cancel }, before;
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGHUP, &act, &before);
    if (before.sa_handler == SIG_IGN) sigaction(SIGHUP, &before, NULL);     /* nohup stays */
    struct convert_options c = { .type = dtype_by_name(o->type), .force = o->force,
                                 .tokenizer = tokenizer_to_gguf, .progress = ui_progress_hook(&bar),
                                 .log = { .say = on_log, .ud = &bar, .least = o->quiet ? LOG_WARN : LOG_INFO },
                                 .each = each,
                                 .cancel = &cancelled };
    struct workers *workers = NULL;
    stretto_status st = workers_open(&workers, (unsigned)o->threads, &err);
    c.threads = workers;
    if (st == STRETTO_OK) st = convert(in.data, operands[1], &c, &err);
    workers_close(workers);
    buffer_done(&in);
    ui_progress_break(&bar);
    return st == STRETTO_OK ? EXIT_DONE : command_fail("convert", st, err.text);
}

#define AT(field) offsetof(struct command_options, field)
static const struct option rows[] = {
    { "--type --outtype", DTYPE_WORDS, OPT_CHOICE, AT(type), 0, 0,
      "element type of the matrices; vectors stay f32 [f16]" },
    { "-t --threads", "N", OPT_INT, AT(threads), 0, 256,
      "threads; 0 uses what the machine and its container allow [0]" },
    { "--force", NULL, OPT_FLAG, AT(force), 0, 0, "replace OUT when it exists" },
    { "-y --yes", NULL, OPT_FLAG, AT(yes), 0, 0, "fetch a model that is not here without asking" },
    { "-q --quiet", NULL, OPT_FLAG, AT(quiet), 0, 0, "no progress, and not what rounding lost" },
};
#undef AT
static const struct option_group group = { "Convert", rows, sizeof rows / sizeof *rows };
static const struct option_use uses[] = { { &group, 0 } };

const struct command command_convert = {
    .name = "convert",
    .summary = "write a model as a GGUF file",
    .operands = "IN OUT",
    .description =
        "Reads a GGUF file (also in parts), a Hugging Face folder or any other name that -m takes, "
        "and writes one GGUF file whose "
        "matrices have the type asked for. Blocks get the scales with the least squared error that a "
        "search finds; no text is read for it. Where the rows of a matrix do not fit the blocks of 256 that "
        "q2_k to q6_k, iq4_xs and tq2_0 have, it becomes q4_0 (for tq2_0), iq4_nl (for q2_k, q3_k, iq4_xs), q5_0, "
        "q5_1 or q8_0, "
        "and where 32 do not fit, f16; a line says so. A matrix that has the type already is copied. What is "
        "said at the end of each type is what rounding lost. What is "
        "written of a folder is laid out as llama.cpp expects it, tokenizer and chat template included.\n\n"
        "OUT appears only when it is whole; until then it is called OUT.part.",
    .uses = uses,
    .n_uses = 1,
    .options_size = sizeof(struct command_options),
    .min_operands = 2,
    .max_operands = 2,
    .defaults = defaults,
    .run = convert_run,
};
