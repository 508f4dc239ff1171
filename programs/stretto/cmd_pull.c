/* Fetching models is a program of its own, so that this one starts without libcurl and TLS. The
 * rows of its options are shared; here they are parsed, shown in the help, and handed on. */
#include "base/buffer.h"
#include "base/memory.h"
#include "stretto/commands.h"
#include "stretto/pull_options.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

/* The folder of the program that runs, with a slash at its end. */
static stretto_status own_folder(struct buffer *out)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0) return STRETTO_E_IO;
    path[n] = '\0';
    char *slash = strrchr(path, '/');
    return slash ? buffer_append(out, path, (size_t)(slash + 1 - path)) : STRETTO_E_IO;
}

/* Beside this program (a build tree, or one folder for both), in libexec, and then on the PATH. */
static int start(char **argv)
{
    struct buffer path = buffer_make(8192);
    static const char *const places[] = { "stretto-pull", "../libexec/stretto/stretto-pull" };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        buffer_clear(&path);
        if (own_folder(&path) != STRETTO_OK || buffer_str(&path, places[i]) != STRETTO_OK) continue;
        execv(path.data, argv);
        if (errno != ENOENT && errno != ENOTDIR) break;
    }
    if (errno == ENOENT || errno == ENOTDIR) execvp("stretto-pull", argv);
    int cause = errno;
    buffer_done(&path);
    if (cause != ENOENT) {
        fprintf(stderr, "stretto pull: cannot start stretto-pull: %s\n", strerror(cause));
        return EXIT_FAILED;
    }
    fprintf(
        stderr,
        "stretto pull: the program stretto-pull is not there. It is built where libcurl and "
        "libsodium are (Debian: libcurl4-gnutls-dev, libsodium-dev). Without it, put the model's "
        "file into place by hand and name it with -m\n");
    return EXIT_FAILED;
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
        code = start(argv);
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
