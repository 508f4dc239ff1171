/* stretto embed: one vector per line of standard input. */
#include "stretto/commands.h"
#include "stretto/open.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct embed_options { struct model_options model; const char *file; bool json; };

#define AT(field) offsetof(struct embed_options, field)
static const struct option rows[] = {
    {"-f --file", "FILE", OPT_TEXT, AT(file), 0, 0, "read the lines from a file [standard input]"},
    {"--json", NULL, OPT_FLAG, AT(json), 0, 0, "print one JSON value"},
};
#undef AT

static int embed_line(stretto_session *s, const stretto_model *m, const char *line, size_t length,
                      uint32_t width, float *out, size_t *tokens)
{
    int32_t *ids = NULL;
    size_t n = 0;
    stretto_status st = stretto_tokenize(m, line, length, STRETTO_TOKENIZE_ADD, NULL, 0, &n);
    if (st == STRETTO_E_FULL) {
        ids = malloc(n * sizeof *ids);
        st = ids ? stretto_tokenize(m, line, length, STRETTO_TOKENIZE_ADD, ids, n, &n)
                 : STRETTO_E_NOMEM;
    }
    if (st == STRETTO_OK && n == 0)
        memset(out, 0, width * sizeof *out); /* an empty line of a model without borders */
    else if (st == STRETTO_OK) st = stretto_session_embed(s, ids, n, out);
    free(ids);
    *tokens = n;
    return st == STRETTO_OK ? EXIT_DONE : command_fail("embed", st, stretto_session_error(s));
}

static void print_line(const float *v, uint32_t width)
{
    for (uint32_t i = 0; i < width; i++) printf("%s%.7g", i ? " " : "", (double)v[i]);
    putchar('\n');
}

static int embed_run(void *options, size_t n_operands, char **operands)
{
    (void)n_operands; (void)operands;
    struct embed_options *o = options;
    stretto_engine_options eo;
    stretto_model *m = NULL;
    stretto_session *s = NULL;
    char err[600], *text = NULL;
    float *v = NULL;
    size_t length = 0;
    int code = engine_options_from("embed", &o->model, 1, &eo);
    if (code == EXIT_DONE) code = open_model("embed", &o->model, false, &m);
    if (code == EXIT_DONE) {
        stretto_status st = stretto_session_open_model(&s, m, &eo, err, sizeof err);
        if (st != STRETTO_OK) code = command_fail("embed", st, err);
    }
    if (code == EXIT_DONE && !(text = read_text("embed", o->file ? o->file : "-", &length)))
        code = EXIT_FAILED;
    stretto_model_info info = { .size = sizeof info };
    if (code == EXIT_DONE) {
        stretto_model_about(m, &info);
        v = malloc(info.width * sizeof *v);
        if (!v) code = command_fail("embed", STRETTO_E_NOMEM, NULL);
    }
    json_t *list = json_array();
    for (char *line = text, *end; code == EXIT_DONE && line < text + length; line = end + 1) {
        end = memchr(line, '\n', (size_t)(text + length - line));
        if (!end) end = text + length;
        size_t tokens;
        code = embed_line(s, m, line, (size_t)(end - line), info.width, v, &tokens);
        if (code != EXIT_DONE) break;
        if (!o->json) { print_line(v, info.width); continue; }
        json_t *numbers = json_array();
        for (uint32_t i = 0; i < info.width; i++)
            json_array_append_new(numbers, json_real((double)v[i]));
        json_array_append_new(
            list, json_pack("{s:o,s:I}", "embedding", numbers, "tokens", (json_int_t)tokens));
    }
    if (code == EXIT_DONE && o->json) {
        json_t *j = json_pack("{s:i,s:O}", "width", (int)info.width, "data", list);
        json_dumpf(j, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
        putchar('\n');
        json_decref(j);
    }
    json_decref(list);
    free(v);
    free(text);
    stretto_session_close(s);
    stretto_model_close(m);
    return code;
}

static void embed_defaults(void *options)
{
    model_options_defaults(&((struct embed_options *)options)->model);
}

static const struct option_group group = { "Embedding", rows, sizeof rows / sizeof *rows };
static const struct option_use uses[] = {{&group, 0},
                                         {&group_model, offsetof(struct embed_options, model)}};
const struct command command_embed = {
    .name = "embed",
    .summary = "one vector per line of text",
    .operands = "",
    .description =
        "Reads lines and prints the embedding of each: the model's last hidden states, averaged "
        "over the "
        "line's tokens and scaled to length 1. Meant for encoders such as all-MiniLM-L6-v2.",
    .uses = uses,
    .n_uses = 2,
    .options_size = sizeof(struct embed_options),
    .defaults = embed_defaults,
    .run = embed_run,
};
