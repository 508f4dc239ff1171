/* Help for people, and the rows as JSON for the makers of man pages and completions.
 *
 * On a terminal the text is wrapped to its width and the words of the command line stand out; through a
 * pipe it is the same text in long lines. */
#include "stretto/command.h"
#include "decode/strategy.h"
#include "ui/terminal.h"
#include <stdio.h>
#include <string.h>

/* Bold for headings and flags, magenta for what stands for something else: readable on light and dark. */
enum style { STYLE_NONE, STYLE_BOLD, STYLE_VALUE };

struct page { bool wrap, colour, begun; size_t width, at; };  /* begun: words are on the line */

static struct page page_open(void)
{
    struct ui_terminal t = ui_terminal_look(stdout);
    return (struct page){ .wrap = t.there, .colour = t.colour, .width = t.there ? t.width : 0 };
}

static void put(struct page *p, const char *s, size_t n, enum style style)
{
    static const char *const on[] = { "", "\033[1m", "\033[35m" };
    if (p->colour) fputs(on[style], stdout);
    fwrite(s, 1, n, stdout);
    if (p->colour && style != STYLE_NONE) fputs("\033[0m", stdout);
    p->at += n;
    p->begun = true;
}

static void line_end(struct page *p)
{
    putchar('\n');
    p->at = 0;
    p->begun = false;
}

static void indent_to(struct page *p, size_t column)
{
    for (; p->at < column; p->at++) putchar(' ');
}

static size_t room(const struct page *p)
{
    return !p->wrap ? SIZE_MAX : p->at < p->width ? p->width - p->at : 0;
}

/* One word behind what is on the line, or on the next line at `indent`. A word that no line can hold
 * is cut behind '|', ',' or '/'. */
static void put_word(struct page *p, const char *s, size_t n, size_t indent, enum style style)
{
    if (p->begun && n + 1 > room(p)) line_end(p);
    if (p->begun) put(p, " ", 1, STYLE_NONE);
    else indent_to(p, indent);
    while (n > room(p)) {
        size_t cut = room(p);
        while (cut && !strchr("|,/", s[cut - 1])) cut--;
        if (!cut || p->at < indent) break;
        put(p, s, cut, style);
        s += cut;
        n -= cut;
        line_end(p);
        indent_to(p, indent);
    }
    put(p, s, n, style);
}

static void put_words(struct page *p, const char *text, size_t indent)
{
    for (const char *s = text; *s;) {
        size_t n = strcspn(s, " \n");
        if (n) put_word(p, s, n, indent, STYLE_NONE);
        s += n;
        s += strspn(s, " \n");
    }
}

/* Paragraphs end at empty lines; lines that begin with a space are shown as they stand. */
static void put_text(struct page *p, const char *text)
{
    for (const char *s = text; *s;) {
        const char *end = strchr(s, '\n');
        size_t n = end ? (size_t)(end - s) : strlen(s);
        if (!p->wrap || *s == ' ') {
            if (p->at) line_end(p);
            put(p, s, n, STYLE_NONE);
        } else if (!n) {
            line_end(p);
        } else
            for (size_t i = 0, k; i < n; i += k + strspn(s + i + k, " "))
                if ((k = strcspn(s + i, " \n"))) put_word(p, s + i, k, 0, STYLE_NONE);
        s += n;
        if (!*s) break;
        s++;
        if (!p->wrap || *s == ' ' || *s == '\n') line_end(p);
    }
    if (p->at) line_end(p);
}

/* Where the sentences begin; 0: each on a line of its own. */
static size_t help_column(const struct page *p)
{
    return !p->wrap || p->width >= 100 ? 36 : p->width >= 60 ? 28 : 0;
}

/* The sentence of a row. What decodes is a table elsewhere, so its words are put in here. */
static const char *sentence(const struct option *o, char *out, size_t room)
{
    const char *gap = o->kind == OPT_STRATEGIES ? strstr(o->help, "%s") : NULL;
    char words[400];
    if (!gap) return o->help;
    strategy_names(words, sizeof words);
    snprintf(out, room, "%.*s%s%s", (int)(gap - o->help), o->help, words, gap + 2);
    return out;
}

static void put_option(struct page *p, const struct option *o)
{
    char text[800];
    const char *help = sentence(o, text, sizeof text);
    size_t column = help_column(p), indent = column ? column : 6;
    for (const char *s = o->flags; *s;) {
        size_t n = strcspn(s, " ");
        put_word(p, s, n, p->begun ? 6 : 2, STYLE_BOLD);
        s += n + (s[n] == ' ');
        if (*s) put(p, ",", 1, STYLE_NONE);
    }
    if (o->value) put_word(p, o->value, strlen(o->value), 6, STYLE_VALUE);
    if (!column || p->at > column - 2) line_end(p);
    indent_to(p, indent);
    p->begun = false;
    if (p->wrap) put_words(p, help, indent);
    else put(p, help, strlen(help), STYLE_NONE);
    line_end(p);
}

static void put_title(struct page *p, const char *title)
{
    put(p, title, strlen(title), STYLE_BOLD);
    put(p, ":", 1, STYLE_NONE);
}

void command_help(const struct command *c)
{
    struct page p = page_open();
    char text[200];
    snprintf(text, sizeof text, "stretto %s", c->name);
    put_title(&p, text);
    put_words(&p, c->summary, 2);
    line_end(&p);
    line_end(&p);
    put_title(&p, "Usage");
    snprintf(text, sizeof text, "stretto %s [options]%s%s", c->name, *c->operands ? " " : "",
             c->operands);
    put_words(&p, text, 6);
    line_end(&p);
    if (c->description) {
        line_end(&p);
        put_text(&p, c->description);
    }
    for (size_t u = 0; u < c->n_uses; u++) {
        line_end(&p);
        put_title(&p, c->uses[u].group->title);
        line_end(&p);
        for (size_t i = 0; i < c->uses[u].group->n; i++) put_option(&p, &c->uses[u].group->options[i]);
    }
}

void command_say(const char *text)
{
    struct page p = page_open();
    put_words(&p, text, 0);
    line_end(&p);
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
            static const char *const kinds[] = { "flag", "int", "real", "text", "strategies", "choice", "ints",
                                                 "texts" };
            const struct option *o = &g->options[i];
            printf("%s{\"flags\":", i ? "," : ""); json_text(o->flags);
            printf(",\"value\":"); if (o->value) json_text(o->value); else printf("null");
            char text[800];
            printf(",\"kind\":\"%s\",\"help\":", kinds[o->kind]); json_text(sentence(o, text, sizeof text));
            printf("}");
        }
        printf("]}");
    }
    printf("]}");
}

static int help_json(void)
{
    bool first = true;
    printf("{\"version\":\"%s\",\"commands\":[", STRETTO_VERSION);
    for (size_t i = 0; command_table[i]; i++) {
        if (command_table[i]->hidden) continue;
        if (!first) printf(",");
        first = false;
        json_command(command_table[i]);
    }
    printf("]}\n");
    return EXIT_DONE;
}

int command_help_all(bool json)
{
    if (json) return help_json();
    struct page p = page_open();
    put_title(&p, "stretto " STRETTO_VERSION);
    put_words(&p, "run, measure and squeeze language models on the hardware you have", 2);
    line_end(&p);
    line_end(&p);
    put_title(&p, "Usage");
    put_words(&p, "stretto COMMAND [options]", 6);
    line_end(&p);
    line_end(&p);
    put_title(&p, "Commands");
    line_end(&p);
    for (size_t i = 0; command_table[i]; i++) {
        const struct command *c = command_table[i];
        if (c->hidden) continue;
        indent_to(&p, 2);
        put(&p, c->name, strlen(c->name), STYLE_BOLD);
        indent_to(&p, 13);
        p.begun = false;
        put_words(&p, c->summary, 13);
        line_end(&p);
    }
    line_end(&p);
    put_words(&p, "'stretto COMMAND --help' shows the options of a command.", 0);
    line_end(&p);
    put_words(&p, "Environment: STRETTO_CPU=avx2 sets a ceiling for the kernels, STRETTO_DEVICE says where models "
                  "run; XDG_CACHE_HOME, HF_TOKEN, NO_COLOR.", 0);
    line_end(&p);
    return EXIT_DONE;
}
