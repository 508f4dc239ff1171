/* Fetching models is a program of its own, so that this one starts without libcurl and TLS. The
 * rows of its options are shared; here they are parsed, shown in the help, and handed on. */
#include "base/buffer.h"
#include "base/memory.h"
#include "stretto/commands.h"
#include "stretto/fetch.h"
#include "stretto/pull_options.h"
#include <stdio.h>
#include <string.h>

enum { MAX_OPERANDS = 1000 };

/* The words that say again what was parsed: "--retries=5", one for each option given. */
static stretto_status word_of(const struct option *o, const void *options, struct buffer *out)
{
    const void *at = (const char *)options + o->at;
    const char *flag = strrchr(o->flags, ' ');
    flag = flag ? flag + 1 : o->flags;
    buffer_clear(out);
    switch (o->kind) {
    case OPT_FLAG:
        return *(const bool *)at ? buffer_str(out, flag) : STRETTO_OK;
    case OPT_INT:
        return buffer_printf(out, "%s=%lld", flag, (long long)*(const int64_t *)at);
    case OPT_REAL:
        return buffer_printf(out, "%s=%.17g", flag, *(const double *)at);
    case OPT_TEXT:
    case OPT_STRATEGIES:
    case OPT_CHOICE: {
        const char *text = *(const char *const *)at;
        return text ? buffer_printf(out, "%s=%s", flag, text) : STRETTO_OK;
    }
    case OPT_INTS:
    case OPT_TEXTS:
        break;
    }
    return STRETTO_E_ARG;
}

static int pull_run(void *options, size_t n, char **operands)
{
    size_t words = 0, most = group_pull.n + n + 3;
    char **argv = mem_zalloc(most, sizeof *argv);
    struct buffer word = buffer_make(1 << 16);
    stretto_status s = argv ? STRETTO_OK : STRETTO_E_NOMEM;
    char name[] = "stretto-pull", end[] = "--";
    size_t first_own = 1, last_own = 1;
    if (argv) argv[words++] = name;
    for (size_t i = 0; s == STRETTO_OK && i < group_pull.n; i++) {
        s = word_of(&group_pull.options[i], options, &word);
        if (s != STRETTO_OK || !word.len) continue;
        if (!(argv[words] = mem_strdup(word.data))) s = STRETTO_E_NOMEM;
        else last_own = ++words;
    }
    int code = EXIT_FAILED;
    if (s == STRETTO_OK) {
        argv[words++] = end;
        for (size_t i = 0; i < n; i++) argv[words++] = operands[i];
        fflush(stdout);
        code = pull_become("pull", argv);
    } else
        code = command_fail("pull", s, NULL);
    for (size_t i = first_own; i < last_own; i++) mem_free(argv[i]);
    mem_free(argv);
    buffer_done(&word);
    return code;
}

static const struct option_use uses[] = { { &group_pull, 0 } };
const struct command command_pull = {
    .name = "pull", .summary = "fetch models, resuming and checking what arrives",
    .operands = "[MODEL...]", .description = pull_description, .uses = uses, .n_uses = 1,
    .options_size = sizeof(struct pull_options), .max_operands = MAX_OPERANDS,
    .defaults = pull_options_defaults, .run = pull_run,
};
