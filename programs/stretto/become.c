#include "stretto/become.h"
#include "base/memory.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

int program_become(const char *command, const char *program, const char *missing, char **argv)
{
    struct buffer path = buffer_make(8192);
    static const char *const places[] = { "", "../libexec/stretto/" };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        buffer_clear(&path);
        if (own_folder(&path) != STRETTO_OK || buffer_str(&path, places[i]) != STRETTO_OK
            || buffer_str(&path, program) != STRETTO_OK)
            continue;
        execv(path.data, argv);
        if (errno != ENOENT && errno != ENOTDIR) break;
    }
    if (errno == ENOENT || errno == ENOTDIR) execvp(program, argv);
    int cause = errno;
    buffer_done(&path);
    if (cause == ENOENT)
        fprintf(stderr, "stretto %s: the program %s is missing. %s\n", command, program, missing);
    else fprintf(stderr, "stretto %s: cannot start %s: %s\n", command, program, strerror(cause));
    return EXIT_FAILED;
}

stretto_status words_say(struct words *w, const char *text)
{
    if (w->n + 1 >= w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 32;
        char **v = mem_resize(w->v, cap * sizeof *v);
        if (!v) return STRETTO_E_NOMEM;
        w->v = v;
        w->cap = cap;
    }
    if (!(w->v[w->n] = mem_strdup(text))) return STRETTO_E_NOMEM;
    w->v[++w->n] = NULL;
    return STRETTO_OK;
}

void words_done(struct words *w)
{
    for (size_t i = 0; i < w->n; i++) mem_free(w->v[i]);
    mem_free(w->v);
    *w = (struct words){ 0 };
}

static stretto_status say_ints(struct words *w, struct buffer *word, const char *flag, const struct int_list *list)
{
    if (!list->n) return STRETTO_OK;
    TRY(buffer_printf(word, "%s=", flag));
    for (size_t i = 0; i < list->n; i++) TRY(buffer_printf(word, "%s%lld", i ? "," : "", (long long)list->v[i]));
    return words_say(w, word->data);
}

static stretto_status say_texts(struct words *w, struct buffer *word, const char *flag, const struct text_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        buffer_clear(word);
        TRY(buffer_printf(word, "%s=%s", flag, list->v[i]));
        TRY(words_say(w, word->data));
    }
    return STRETTO_OK;
}

stretto_status words_option(struct words *w, struct buffer *word, const struct option *o, const void *at)
{
    const char *flag = strrchr(o->flags, ' ');
    flag = flag ? flag + 1 : o->flags;
    if (strncmp(flag, "--", 2) != 0) {
        const char *dashes = strstr(o->flags, "--");
        flag = dashes ? dashes : flag;
    }
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(flag, " "), flag);
    buffer_clear(word);
    switch (o->kind) {
    case OPT_FLAG:
        return *(const bool *)at ? words_say(w, name) : STRETTO_OK;
    case OPT_INT:
        TRY(buffer_printf(word, "%s=%lld", name, (long long)*(const int64_t *)at));
        return words_say(w, word->data);
    case OPT_REAL:
        TRY(buffer_printf(word, "%s=%.17g", name, *(const double *)at));
        return words_say(w, word->data);
    case OPT_TEXT:
    case OPT_STRATEGIES:
    case OPT_CHOICE: {
        const char *text = *(const char *const *)at;
        if (!text) return STRETTO_OK;
        TRY(buffer_printf(word, "%s=%s", name, text));
        return words_say(w, word->data);
    }
    case OPT_INTS: return say_ints(w, word, name, at);
    case OPT_TEXTS: return say_texts(w, word, name, at);
    }
    return STRETTO_E_ARG;
}

int command_become(const struct command *c, const char *program, const char *missing, const void *options,
                   size_t n, char **operands)
{
    struct words w = { 0 };
    struct buffer word = buffer_make(1 << 20);
    stretto_status s = words_say(&w, program);
    for (size_t u = 0; u < c->n_uses; u++)
        for (size_t i = 0; s == STRETTO_OK && i < c->uses[u].group->n; i++) {
            const struct option *o = &c->uses[u].group->options[i];
            s = words_option(&w, &word, o, (const char *)options + c->uses[u].at + o->at);
        }
    if (s == STRETTO_OK) s = words_say(&w, "--");
    for (size_t i = 0; s == STRETTO_OK && i < n; i++) s = words_say(&w, operands[i]);
    fflush(stdout);
    int code = s == STRETTO_OK ? program_become(c->name, program, missing, w.v) : command_fail(c->name, s, NULL);
    words_done(&w);
    buffer_done(&word);
    return code;
}
