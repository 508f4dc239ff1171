/* A GGUF file coded without loss, and back. */
#include "base/words.h"
#include "format/pack.h"
#include "stretto/commands.h"
#include "stretto/fetch.h"
#include "ui/progress.h"
#include <signal.h>
#include <stdio.h>

struct command_options { bool force, quiet, yes; };

static volatile sig_atomic_t cancelled;
static void cancel(int signal) { (void)signal; cancelled = 1; }

typedef stretto_status work(const char *in, const char *out, const struct pack_options *o, struct pack_report *report,
                            struct error *err);

static int run(const char *name, work *fn, const struct command_options *o, char **operands)
{
    struct buffer in = buffer_make(1 << 16);
    struct ui_progress bar;
    struct error err = { 0 };
    struct pack_report r;
    char a[24], b[24];
    int code = model_path(name, operands[0], o->yes, &in);
    if (code == EXIT_DONE) {
        ui_progress_init(&bar, o->quiet ? NULL : stderr);
        /* Ctrl-C must leave nothing half-written, so it only asks. */
        struct sigaction act = { .sa_handler = cancel };
        sigaction(SIGINT, &act, NULL);
        sigaction(SIGTERM, &act, NULL);
        sigaction(SIGHUP, &act, NULL);
        struct pack_options p = { .force = o->force, .progress = ui_progress_hook(&bar), .cancel = &cancelled };
        stretto_status st = fn(in.data, operands[1], &p, &r, &err);
        ui_progress_break(&bar);
        if (st != STRETTO_OK) code = command_fail(name, st, err.text);
        else if (!o->quiet)
            printf("%s are %s packed, %.1f %% less; %s took %.2f s (%.2f GB/s)\n",
                   bytes_words(a, (double)r.bytes), bytes_words(b, (double)r.packed),
                   100 - 100 * (double)r.packed / (double)r.bytes,
                   fn == pack_file ? "packing" : "decoding", r.seconds, (double)r.bytes / 1e9 / r.seconds);
    }
    buffer_done(&in);
    return code;
}

static int pack_run(void *options, size_t n, char **operands)
{
    (void)n;
    return run("pack", pack_file, options, operands);
}

static int unpack_run(void *options, size_t n, char **operands)
{
    (void)n;
    return run("unpack", unpack_file, options, operands);
}

#define AT(field) offsetof(struct command_options, field)
static const struct option rows[] = {
    { "--force", NULL, OPT_FLAG, AT(force), 0, 0, "replace OUT when it exists" },
    { "-y --yes", NULL, OPT_FLAG, AT(yes), 0, 0, "fetch a model that is not here without asking" },
    { "-q --quiet", NULL, OPT_FLAG, AT(quiet), 0, 0, "no progress, no figures" },
};
#undef AT
static const struct option_group group = { "Files", rows, sizeof rows / sizeof *rows };
static const struct option_use uses[] = { { &group, 0 } };

const struct command command_pack = {
    .name = "pack",
    .summary = "code a GGUF file without loss, for disk and download",
    .operands = "IN OUT",
    .description =
        "Writes a GGUF file again in fewer bytes: about 30 % fewer where weights are bf16, a few per cent where "
        "they are blocks of codes. Every command that takes -m opens packed files as they are; "
        "'stretto unpack' gives the identical file back. Other programs refuse a packed file "
        "as the unknown architecture stretto-packed.\n\n"
        "OUT appears only when it is whole; until then it is called OUT.part.",
    .uses = uses, .n_uses = 1, .options_size = sizeof(struct command_options),
    .min_operands = 2, .max_operands = 2,
    .run = pack_run,
};

const struct command command_unpack = {
    .name = "unpack",
    .summary = "give back the GGUF file that was packed",
    .operands = "IN OUT",
    .description =
        "Writes the file that 'stretto pack' was given, bit for bit.\n\n"
        "OUT appears only when it is whole; until then it is called OUT.part.",
    .uses = uses, .n_uses = 1, .options_size = sizeof(struct command_options),
    .min_operands = 2, .max_operands = 2,
    .run = unpack_run,
};
