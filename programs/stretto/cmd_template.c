/* A chat template and its variables into the text that a model would be given. */
#include "base/file.h"
#include "base/json.h"
#include "format/source.h"
#include "stretto/commands.h"
#include "stretto/fetch.h"
#include "stretto/output.h"
#include "stretto/peer_flags.h"
#include "text/chat.h"
#include "template/template.h"
#include "text/tokenizer.h"
#include <stdio.h>
#include <string.h>

struct template_options { const char *model, *file, *vars, *now; bool yes; };

enum { TEXT_MAX = 1 << 28 };

/* A template, its variables and, with -m, the tokenizer that holds the template. */
struct job {
    struct buffer path;
    struct source *src;
    struct tokenizer *tok;
    struct file_map text, vars_text;
    struct template *t;            /* of a file, or                                             */
    struct chat *chat;             /* of the model                                              */
    struct template_input in;
};

/* Two decimal digits at *p, which moves behind them; -1 when they are not there. */
static int two_digits(const char **p)
{
    const char *s = *p;
    if (s[0] < '0' || s[0] > '9' || s[1] < '0' || s[1] > '9') return -1;
    *p += 2;
    return (s[0] - '0') * 10 + (s[1] - '0');
}

static bool take(const char **p, char c) { return **p == c ? (*p)++, true : false; }

/* "+02:00" or "Z" as seconds east of Greenwich; false when there is something else. */
static bool read_zone(const char **p, long *seconds)
{
    *seconds = 0;
    if (take(p, 'Z')) return true;
    long sign = **p == '-' ? -1 : 1;
    if (!take(p, '+') && !take(p, '-')) return false;
    int h = two_digits(p);
    take(p, ':');
    int m = h < 0 ? -1 : two_digits(p);
    *seconds = sign * (h * 3600L + m * 60L);
    return h >= 0 && h < 24 && m >= 0 && m < 60;
}

/* YYYY-MM-DD, then THH:MM or THH:MM:SS, then a zone; without a zone it is local time. */
static bool read_time(const char *p, time_t *out)
{
    struct tm t = { .tm_isdst = -1, .tm_mday = 1 };
    int century = two_digits(&p), year = century < 0 ? -1 : two_digits(&p);
    long zone = 0;
    bool zoned = false;
    if (year < 0 || !take(&p, '-') || (t.tm_mon = two_digits(&p)) < 0 || !take(&p, '-')
            || (t.tm_mday = two_digits(&p)) < 0) return false;
    if (*p == 'T' || *p == ' ') {
        p++;
        if ((t.tm_hour = two_digits(&p)) < 0 || !take(&p, ':') || (t.tm_min = two_digits(&p)) < 0)
            return false;
        if (take(&p, ':') && (t.tm_sec = two_digits(&p)) < 0) return false;
        zoned = *p != '\0';
        if (zoned && !read_zone(&p, &zone)) return false;
    }
    t.tm_year = century * 100 + year - 1900;
    t.tm_mon--;
    struct tm want = t;
    *out = zoned ? timegm(&t) - zone : mktime(&t);
    /* A day or hour that does not exist comes back as another one. */
    return !*p && want.tm_mon == t.tm_mon && want.tm_mday == t.tm_mday && want.tm_min == t.tm_min
        && want.tm_hour < 24 && want.tm_sec < 60;
}

static stretto_status read_vars(struct job *j, const char *path, struct error *err)
{
    TRY(file_map_open(&j->vars_text, path, err));
    j->in.vars = j->vars_text.size ? (const char *)j->vars_text.data : "";
    j->in.n_vars = j->vars_text.size;
    j->in.where = path;
    return STRETTO_OK;
}

/* Whether the variables name tools, which some models have a template of their own for. */
static bool wants_tools(const struct template_input *in)
{
    struct json j;
    bool tools = false;
    json_open(&j, in->vars, in->n_vars, in->where, NULL);
    json_next(&j);
    while (json_next(&j) == JT_KEY) {
        bool here = json_is(&j, "tools");
        if (!json_skip(&j)) break;
        if (here) tools = j.kind != JT_NULL;
    }
    json_done(&j);
    return tools;
}

static stretto_status compile_of_model(struct job *j, struct error *err)
{
    const char *text;
    size_t n;
    TRY(source_open(&j->src, j->path.data, err));
    TRY(tokenizer_open(&j->tok, j->src, err));
    const char *warning = tokenizer_warning(j->tok);
    if (warning) fprintf(stderr, "stretto: %s\n", warning);
    if (!tokenizer_chat_template(j->tok, wants_tools(&j->in), &text, &n))
        return tokenizer_no_chat(j->tok, err);
    return chat_open_text(&j->chat, j->tok, text, n, err);
}

static stretto_status compile_file(struct job *j, const char *path, struct error *err)
{
    TRY(file_map_open(&j->text, path, err));
    return template_compile(&j->t, j->text.size ? (const char *)j->text.data : "", j->text.size, err);
}

static stretto_status print_rendering(struct job *j, struct error *err)
{
    struct buffer out = buffer_make(TEXT_MAX);
    bool parts = false;
    stretto_status s = j->chat ? chat_render_vars(j->chat, &j->in, &out, &parts, err)
                               : template_render(j->t, &j->in, &out, NULL, err);
    if (s == STRETTO_OK && parts)
        fprintf(stderr, "stretto template: the template wants contents as lists of parts; texts are passed "
                        "to it in that form\n");
    if (s == STRETTO_OK && out.len) text_print(out.data, out.len);
    if (s == STRETTO_OK && (fflush(stdout) != 0 || ferror(stdout)))
        s = fail(err, STRETTO_E_IO, "standard output cannot be written");
    buffer_done(&out);
    return s;
}

static int template_run(void *options, size_t n, char **operands)
{
    (void)n; (void)operands;
    const struct template_options *o = options;
    struct job j = { .path = buffer_make((size_t)1 << 16), .in.now = time(NULL) };
    struct error err = { 0 };
    if (!o->vars) return command_usage("template", "--vars FILE.json is missing: it holds the variables");
    if (o->model && o->file) return command_usage("template", "-m and --template exclude each other");
    if (o->now && !read_time(o->now, &j.in.now))
        return command_usage("template", "--now: '%s' is no time; write 2024-07-26T12:00:00, "
                             "followed by Z or +02:00 when it is not local time", o->now);
    int code = o->file ? EXIT_DONE : model_path("template", o->model, o->yes, &j.path);
    if (code == EXIT_DONE) {
        stretto_status s = read_vars(&j, o->vars, &err);
        if (s == STRETTO_OK) s = o->file ? compile_file(&j, o->file, &err) : compile_of_model(&j, &err);
        if (s == STRETTO_OK) s = print_rendering(&j, &err);
        /* What a template raises is a failure of the work, not of the command line. */
        if (s != STRETTO_OK)
            code = command_fail("template", s == STRETTO_E_ARG ? STRETTO_E_FORMAT : s, err.text);
    }
    template_free(j.t);
    chat_close(j.chat);
    tokenizer_close(j.tok);
    source_close(j.src);
    file_map_close(&j.text);
    file_map_close(&j.vars_text);
    buffer_done(&j.path);
    return code;
}

#define AT(field) offsetof(struct template_options, field)
static const struct option rows[] = {
    { "-m --model", "MODEL", OPT_TEXT, AT(model), 0, 0,
      "take the chat template of this model: a file, a folder, a name that 'stretto models' lists, or "
      "hf:USER/REPO[:QUANT] [the default model]" },
    { "-y --yes", NULL, OPT_FLAG, AT(yes), 0, 0, "fetch a model that is not here without asking" },
    { "--template", "FILE", OPT_TEXT, AT(file), 0, 0, "take the template from this file instead" },
    { "--vars", "FILE", OPT_TEXT, AT(vars), 0, 0, "a JSON object whose members are the variables" },
    { "--now", "TIME", OPT_TEXT, AT(now), 0, 0,
      "the time that the template takes for now, as in 2024-07-26T12:00:00 [now]" },
};
#undef AT
static const struct option_group group = { "Template", rows, sizeof rows / sizeof *rows };
static const struct option_use uses[] = { { &group, 0 } };

const struct command command_template = {
    .name = "template", .summary = "render a chat template", .operands = "",
    .description =
        "Renders the chat template of a model, or one from a file, with the variables of a JSON file "
        "(messages, tools, add_generation_prompt, ...) and prints the text and nothing else. With -m, "
        "bos_token and eos_token are the model's unless the file names them.\n\n"
        "Templates are written in Jinja; what chat templates use of it is supported. Whatever else a template "
        "uses, and what it raises itself, is an error that names the line.",
    .uses = uses, .n_uses = 1, .options_size = sizeof(struct template_options), .run = template_run,
    .unknown = peer_flag,
};
