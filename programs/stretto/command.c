#include "stretto/command.h"
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

/* True when `word` (n bytes) is one of the space-separated flags. */
static bool flag_matches(const char *flags, const char *word, size_t n)
{
    for (const char *p = flags; *p;) {
        size_t len = strcspn(p, " ");
        if (len == n && memcmp(p, word, n) == 0) return true;
        p += len;
        while (*p == ' ') p++;
    }
    return false;
}

static const struct option *option_find(const struct command *c, const char *word, size_t n,
                                        size_t *at)
{
    for (size_t u = 0; u < c->n_uses; u++)
        for (size_t i = 0; i < c->uses[u].group->n; i++) {
            const struct option *o = &c->uses[u].group->options[i];
            if (flag_matches(o->flags, word, n)) {
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

static int range_error(const struct command *c, const struct option *o, const char *word,
                       const char *v)
{
    if (isinf(o->max))
        return command_usage(c->name, "%s takes a number of at least %.15g, not '%s'", word, o->min,
                             v);
    return command_usage(c->name, "%s takes a number from %.17g to %.17g, not '%s'", word, o->min, o->max,
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

static bool is_choice(const char *choices, const char *v)
{
    size_t n = strlen(v);
    for (const char *p = choices; *p;) {
        size_t len = strcspn(p, "|");
        if (len == n && memcmp(p, v, n) == 0) return true;
        p += len;
        if (*p == '|') p++;
    }
    return false;
}

static int option_set(const struct command *c, const struct option *o, const char *word,
                      const char *v, void *target)
{
    char *end;
    errno = 0;
    switch (o->kind) {
    case OPT_FLAG:
        *(bool *)target = true;
        return EXIT_DONE;
    case OPT_INT: {
        long long x = strtoll(v, &end, 10);
        if (end == v || *end || errno || !in_range(o, (double)x)) return range_error(c, o, word, v);
        *(int64_t *)target = x;
        return EXIT_DONE;
    }
    case OPT_REAL: {
        double x = strtod(v, &end);
        if (end == v || *end || errno || !isfinite(x) || !in_range(o, x))
            return range_error(c, o, word, v);
        *(double *)target = x;
        return EXIT_DONE;
    }
    case OPT_CHOICE:
        if (!is_choice(o->value, v))
            return command_usage(c->name, "%s takes one of %s, not '%s'", word, o->value, v);
        *(const char **)target = v;
        return EXIT_DONE;
    case OPT_TEXT:
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

int command_parse(const struct command *c, int argc, char **argv, void *options, size_t *n_operands,
                  bool *help)
{
    size_t n = 0;
    bool rest = false;
    *help = false;
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
        if (!o) return command_usage(c->name, "there is no option %.*s", (int)len, word);
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
    }
    if (n < c->min_operands)
        return command_usage(c->name, "%s missing: stretto %s %s",
                             n ? "an operand is" : "operands are", c->name, c->operands);
    if (n > c->max_operands)
        return command_usage(c->name, "there is an operand too many: '%s'", argv[c->max_operands]);
    *n_operands = n;
    return EXIT_DONE;
}

static void print_option(const struct option *o)
{
    char left[160];
    size_t at = 0;
    at += (size_t)snprintf(left, sizeof left, "  ");
    for (const char *p = o->flags; *p && at < sizeof left - 2; p++) {
        if (*p == ' ') left[at++] = ',';
        left[at++] = *p;
    }
    left[at] = '\0';
    if (o->value) snprintf(left + at, sizeof left - at, " %s", o->value);
    if (strlen(left) > 34) printf("%s\n%-36s%s\n", left, "", o->help);
    else printf("%-36s%s\n", left, o->help);
}

void command_help(const struct command *c)
{
    printf("stretto %s: %s\n\nUsage: stretto %s [options]%s%s\n", c->name, c->summary, c->name,
           *c->operands ? " " : "", c->operands);
    if (c->description) printf("\n%s\n", c->description);
    for (size_t u = 0; u < c->n_uses; u++) {
        printf("\n%s:\n", c->uses[u].group->title);
        for (size_t i = 0; i < c->uses[u].group->n; i++)
            print_option(&c->uses[u].group->options[i]);
    }
}

static void json_text(const char *s)
{
    putchar('"');
    for (; s && *s; s++) {
        if (*s == '"' || *s == '\\') printf("\\%c", *s);
        else if (*s == '\n') printf("\\n");
        else putchar(*s);
    }
    putchar('"');
}

static void json_command(const struct command *c)
{
    printf("{\"name\":"); json_text(c->name);
    printf(",\"summary\":"); json_text(c->summary);
    printf(",\"operands\":"); json_text(c->operands);
    printf(",\"description\":"); json_text(c->description);
    printf(",\"groups\":[");
    for (size_t u = 0; u < c->n_uses; u++) {
        const struct option_group *g = c->uses[u].group;
        printf("%s{\"title\":", u ? "," : ""); json_text(g->title);
        printf(",\"options\":[");
        for (size_t i = 0; i < g->n; i++) {
            static const char *const kinds[] = { "flag", "int", "real", "text", "choice", "ints", "texts" };
            const struct option *o = &g->options[i];
            printf("%s{\"flags\":", i ? "," : ""); json_text(o->flags);
            printf(",\"value\":"); if (o->value) json_text(o->value); else printf("null");
            printf(",\"kind\":\"%s\",\"help\":", kinds[o->kind]); json_text(o->help);
            printf("}");
        }
        printf("]}");
    }
    printf("]}");
}

int command_help_all(bool json)
{
    if (json) {
        printf("{\"version\":\"%s\",\"commands\":[", STRETTO_VERSION);
        bool first = true;
        for (size_t i = 0; command_table[i]; i++) {
            if (command_table[i]->hidden) continue;
            if (!first) printf(",");
            first = false;
            json_command(command_table[i]);
        }
        printf("]}\n");
        return EXIT_DONE;
    }
    printf("stretto %s: run, measure and squeeze language models on the hardware you have\n\n"
           "Usage: stretto COMMAND [options]\n\nCommands:\n", STRETTO_VERSION);
    for (size_t i = 0; command_table[i]; i++)
        if (!command_table[i]->hidden)
            printf("  %-10s %s\n", command_table[i]->name, command_table[i]->summary);
    printf("\n'stretto COMMAND --help' shows the options of a command.\n"
           "Environment: STRETTO_CPU=avx2 sets a ceiling for the kernels; XDG_CACHE_HOME, "
           "HF_TOKEN.\n");
    return EXIT_DONE;
}
