#include "stretto/command.h"
#include "stretto/nearest.h"
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct command *command_find(const char *name)
{
    for (size_t i = 0; command_table[i]; i++)
        if (strcmp(command_table[i]->name, name) == 0) return command_table[i];
    return NULL;
}

/* Commands of ollama and llama.cpp that have another name here. */
static const char *known_elsewhere(const char *word)
{
    static const char *const rows[][2] = {
        { "show", "'stretto info -m NAME' shows what a model is" },
        { "create", "'stretto convert IN OUT' writes a model" },
        { "cp", "'stretto convert IN OUT' writes a model" },
        { "quantize", "'stretto convert IN OUT --type q8_0' writes a smaller one" },
        { "perplexity", "'stretto eval ppl -f TEXT' measures it" },
        { "embedding", "'stretto embed' makes embeddings" },
        { "cli", "'stretto run' continues a prompt, 'stretto chat' holds a conversation" },
        { "server", "'stretto serve' answers HTTP requests" },
        { "ps", "nothing stays loaded between commands" },
        { "stop", "nothing stays loaded between commands" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(word, rows[i][0]) == 0) return rows[i][1];
    return NULL;
}

int command_unknown(const char *word)
{
    struct nearest near;
    nearest_begin(&near, word);
    for (size_t i = 0; command_table[i]; i++)
        if (!command_table[i]->hidden)
            nearest_try(&near, command_table[i]->name, strlen(command_table[i]->name));
    nearest_try_list(&near, "help list", ' ');
    const char *instead = *word == '-' ? "a command comes first, as in 'stretto run' or 'stretto chat'"
                                       : known_elsewhere(word);
    if (instead) {
        fprintf(stderr, "stretto: there is no command '%s'; %s\n'stretto help' lists the commands.\n", word,
                instead);
        return EXIT_USAGE;
    }
    fprintf(stderr, "stretto: there is no command '%s'%s\n'stretto help' lists the commands.\n", word,
            nearest_words(&near));
    return EXIT_USAGE;
}

int command_odd(const char *command, const char *what, const char *word, const char *words)
{
    struct nearest near;
    nearest_begin(&near, word);
    nearest_try_list(&near, words, '|');
    return command_usage(command, "there is no %s '%s': take one of %s%s", what, word, words, nearest_words(&near));
}

int command_usage(const char *command, const char *fmt, ...)
{
    fprintf(stderr, "stretto %s: ", command);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\nTry 'stretto %s --help'.\n", command);
    return EXIT_USAGE;
}

int command_fail(const char *command, stretto_status s, const char *words)
{
    fprintf(stderr, "stretto %s: %s\n", command, words && *words ? words : stretto_status_text(s));
    return s == STRETTO_E_ARG ? EXIT_USAGE : EXIT_FAILED;
}

bool list_has(const char *list, char separator, const char *word, size_t n)
{
    for (const char *p = list; *p;) {
        const char *end = strchr(p, separator);
        size_t len = end ? (size_t)(end - p) : strlen(p);
        if (len == n && memcmp(p, word, n) == 0) return true;
        p += len + (end != NULL);
    }
    return false;
}

static const struct option *option_find(const struct command *c, const char *word, size_t n,
                                        size_t *at)
{
    for (size_t u = 0; u < c->n_uses; u++)
        for (size_t i = 0; i < c->uses[u].group->n; i++) {
            const struct option *o = &c->uses[u].group->options[i];
            if (list_has(o->flags, ' ', word, n)) {
                *at = c->uses[u].at + o->at;
                return o;
            }
        }
    return NULL;
}

static bool in_range(const struct option *o, double v)
{
    return (o->min == 0 && o->max == 0) || (v >= o->min && v <= o->max);
}

bool option_number(const struct option *o, const char *text, void *target)
{
    char *end;
    errno = 0;
    if (o->kind == OPT_INT) {
        long long v = strtoll(text, &end, 10);
        if (end == text || *end || errno || !in_range(o, (double)v)) return false;
        *(int64_t *)target = v;
        return true;
    }
    double v = strtod(text, &end);
    if (end == text || *end || errno || !isfinite(v) || !in_range(o, v)) return false;
    *(double *)target = v;
    return true;
}

static int range_error(const struct command *c, const struct option *o, const char *word,
                       const char *v)
{
    if (isinf(o->max))
        return command_usage(c->name, "%s takes a number of at least %.15g, not '%s'", word, o->min,
                             v);
    return command_usage(c->name, "%s takes a number from %.10g to %.10g, not '%s'", word, o->min, o->max,
                         v);
}

static int set_ints(const struct command *c, const struct option *o, const char *word,
                    const char *v, struct int_list *list)
{
    list->n = 0;
    for (const char *p = v;;) {
        char *end;
        errno = 0;
        long long x = strtoll(p, &end, 10);
        if (end == p || errno || (*end && *end != ',') || !in_range(o, (double)x))
            return range_error(c, o, word, v);
        if (list->n == sizeof list->v / sizeof *list->v)
            return command_usage(c->name, "%s takes at most %zu numbers", word, list->n);
        list->v[list->n++] = x;
        if (!*end) return EXIT_DONE;
        p = end + 1;
    }
}

static int no_choice(const struct command *c, const struct option *o, const char *word,
                     const char *v)
{
    struct nearest near;
    nearest_begin(&near, v);
    nearest_try_list(&near, o->value, '|');
    return command_usage(c->name, "%s takes one of %s, not '%s'%s", word, o->value, v,
                         nearest_words(&near));
}

static int no_option(const struct command *c, const char *word, size_t n)
{
    char name[NEAREST_MAX];
    struct nearest near;
    snprintf(name, sizeof name, "%.*s", (int)n, word);
    nearest_begin(&near, name);
    for (size_t u = 0; u < c->n_uses; u++)
        for (size_t i = 0; i < c->uses[u].group->n; i++)
            nearest_try_list(&near, c->uses[u].group->options[i].flags, ' ');
    nearest_try_list(&near, "--help", ' ');
    return command_usage(c->name, "there is no option %s%s", name, nearest_words(&near));
}

static int option_set(const struct command *c, const struct option *o, const char *word,
                      const char *v, void *target)
{
    switch (o->kind) {
    case OPT_FLAG:
        *(bool *)target = true;
        return EXIT_DONE;
    case OPT_INT:
    case OPT_REAL:
        return option_number(o, v, target) ? EXIT_DONE : range_error(c, o, word, v);
    case OPT_CHOICE:
        if (!list_has(o->value, '|', v, strlen(v))) return no_choice(c, o, word, v);
        *(const char **)target = v;
        return EXIT_DONE;
    case OPT_TEXT:
    case OPT_STRATEGIES:
        *(const char **)target = v;
        return EXIT_DONE;
    case OPT_INTS:
        return set_ints(c, o, word, v, target);
    case OPT_TEXTS: {
        struct text_list *list = target;
        if (list->n + 1 == sizeof list->v / sizeof *list->v)
            return command_usage(c->name, "%s may be given %zu times", word, list->n);
        list->v[list->n++] = v;
        return EXIT_DONE;
    }
    }
    return EXIT_USAGE;
}

/* A process parses one command line; of more options than this the rest count as not given. */
enum { GIVEN_MOST = 256 };
static const struct option *given[GIVEN_MOST];
static size_t n_given;

bool option_given(const struct option *o)
{
    for (size_t i = 0; i < n_given; i++)
        if (given[i] == o) return true;
    return false;
}

int command_parse(const struct command *c, int argc, char **argv, void *options, size_t *n_operands,
                  bool *help)
{
    size_t n = 0;
    bool rest = false;
    *help = false;
    n_given = 0;
    for (int i = 0; i < argc; i++) {
        char *word = argv[i];
        if (rest || word[0] != '-' || !word[1]) { argv[n++] = word; continue; }
        if (strcmp(word, "--") == 0) { rest = true; continue; }
        if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0) {
            *help = true;
            return EXIT_DONE;
        }
        const char *equals = strncmp(word, "--", 2) == 0 ? strchr(word, '=') : NULL;
        size_t len = equals ? (size_t)(equals - word) : strlen(word), at;
        const struct option *o = option_find(c, word, len, &at);
        if (!o) {
            int used = 1, code = c->unknown ? c->unknown(c, argc - i, argv + i, &used) : -1;
            if (code < 0) return no_option(c, word, len);
            if (code != EXIT_DONE) return code;
            i += used - 1;
            continue;
        }
        const char *v = equals ? equals + 1 : NULL;
        if (o->kind == OPT_FLAG && v)
            return command_usage(c->name, "%.*s takes no value", (int)len, word);
        if (o->kind != OPT_FLAG && !v) {
            if (i + 1 == argc)
                return command_usage(c->name, "%s needs a value (%s)", word, o->value);
            v = argv[++i];
        }
        int code = option_set(c, o, word, v, (char *)options + at);
        if (code != EXIT_DONE) return code;
        if (n_given < GIVEN_MOST && !option_given(o)) given[n_given++] = o;
    }
    if (n < c->min_operands)
        return command_usage(c->name, "%s missing: stretto %s %s",
                             n ? "an operand is" : "operands are", c->name, c->operands);
    if (n > c->max_operands)
        return command_usage(c->name, "one operand too many: '%s'", argv[c->max_operands]);
    *n_operands = n;
    return EXIT_DONE;
}
