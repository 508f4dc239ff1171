/* stretto embed: one vector per line of standard input. */
#include "stretto/commands.h"
#include "stretto/open.h"
#include "stretto/peer_flags.h"
#include "stretto/prompts.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct embed_options {
    struct model_options model;
    const char *file, *pooling;
    bool json, raw, truncate;
};

#define AT(field) offsetof(struct embed_options, field)
static const struct option rows[] = {
    {"-f --file", "FILE", OPT_TEXT, AT(file), 0, 0, "read the lines from a file [standard input]"},
    {"--pooling", "mean|cls|last|none", OPT_CHOICE, AT(pooling), 0, 0,
     "which token vectors to use: their average, the first, the last, or each on its own "
     "[what the model's file says, else mean]"},
    {"--no-normalize", NULL, OPT_FLAG, AT(raw), 0, 0,
     "do not scale vectors to length 1; with --pooling none they never are"},
    {"--truncate", NULL, OPT_FLAG, AT(truncate), 0, 0,
     "cut lines that are longer than the context; otherwise they are reported and skipped"},
    {"--json", NULL, OPT_FLAG, AT(json), 0, 0, "print one JSON value"},
};
#undef AT

/* The work on one line after the other. */
struct lines {
    stretto_session *s;
    const stretto_model *m;
    stretto_embed_options how;
    uint32_t width;
    size_t line;
    float *v;
    size_t room;                     /* floats of v */
    json_t *list;                    /* with --json */
    bool failed;                     /* a line was left out */
};

static json_t *vector_json(const float *v, uint32_t width)
{
    json_t *numbers = json_array();
    for (uint32_t i = 0; i < width; i++) json_array_append_new(numbers, json_real((double)v[i]));
    return numbers;
}

static json_t *line_json(const struct lines *x, const stretto_embedded *r, size_t n)
{
    json_t *value = r->pooling == STRETTO_POOLING_NONE ? json_array() : vector_json(x->v, x->width);
    for (size_t i = 0; r->pooling == STRETTO_POOLING_NONE && i < r->vectors; i++)
        json_array_append_new(value, vector_json(x->v + i * x->width, x->width));
    json_t *j = json_pack("{s:o,s:I}", "embedding", value, "tokens", (json_int_t)r->tokens);
    if (r->tokens < n) json_object_set_new(j, "cut_from", json_integer((json_int_t)n));
    return j;
}

static void print_line(const struct lines *x, const stretto_embedded *r)
{
    for (size_t k = 0; k < r->vectors; k++)
        for (uint32_t i = 0; i < x->width; i++)
            printf("%.7g%c", (double)x->v[k * x->width + i], i + 1 < x->width ? ' ' : '\n');
    if (r->pooling == STRETTO_POOLING_NONE) putchar('\n');
}

/* A line that cannot be read is named; the others come all the same, each in its place. */
static void leave_out(struct lines *x, const char *words)
{
    x->failed = true;
    fprintf(stderr, "stretto embed: line %zu: %s\n", x->line, words);
    if (x->list)
        json_array_append_new(x->list, json_pack("{s:I,s:s}", "line", (json_int_t)x->line, "error", words));
    else putchar('\n');
}

static stretto_status embed_ids(struct lines *x, const int32_t *ids, size_t n, stretto_embedded *r)
{
    stretto_status s = stretto_session_embedding(x->s, ids, n, &x->how, x->v, x->room, r);
    if (s != STRETTO_E_FULL || !r->vectors) return s;
    size_t room = r->vectors * x->width;
    float *v = realloc(x->v, room * sizeof *v);
    if (!v) return STRETTO_E_NOMEM;
    x->v = v;
    x->room = room;
    return stretto_session_embedding(x->s, ids, n, &x->how, x->v, x->room, r);
}

static int embed_line(struct lines *x, const char *line, size_t length)
{
    int32_t *ids = NULL;
    size_t n = 0;
    stretto_embedded r = { .size = sizeof r };
    struct error err = { 0 };
    stretto_status s = encode_text(x->m, line, length, STRETTO_TOKENIZE_ADD, &ids, &n, &err);
    if (s == STRETTO_E_UNSUP) leave_out(x, err.text);
    if (s != STRETTO_OK) return s == STRETTO_E_UNSUP ? EXIT_DONE : command_fail("embed", s, err.text);
    if (n == 0) {
        free(ids);
        leave_out(x, "it is empty, and the model adds no tokens of its own");
        return EXIT_DONE;
    }
    s = embed_ids(x, ids, n, &r);
    free(ids);
    if (s == STRETTO_E_FULL && !r.vectors) {
        leave_out(x, stretto_session_error(x->s));
        return EXIT_DONE;
    }
    if (s != STRETTO_OK) return command_fail("embed", s, stretto_session_error(x->s));
    if (r.tokens < n)
        fprintf(stderr, "stretto embed: line %zu: cut from %zu tokens to %zu\n", x->line, n, r.tokens);
    if (x->list) json_array_append_new(x->list, line_json(x, &r, n));
    else print_line(x, &r);
    return EXIT_DONE;
}

static int embed_text(struct lines *x, const char *text, size_t length)
{
    int code = EXIT_DONE;
    for (const char *line = text, *end; code == EXIT_DONE && line < text + length; line = end + 1) {
        end = memchr(line, '\n', (size_t)(text + length - line));
        if (!end) end = text + length;
        x->line++;
        code = embed_line(x, line, (size_t)(end - line));
    }
    if (code == EXIT_DONE && x->list) {
        json_t *j = json_pack("{s:i,s:O}", "width", (int)x->width, "data", x->list);
        json_dumpf(j, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
        putchar('\n');
        json_decref(j);
    }
    return code == EXIT_DONE && x->failed ? EXIT_FAILED : code;
}

static stretto_embed_options how_of(const struct embed_options *o)
{
    static const char *const words[] = { "", "mean", "cls", "last", "none" };
    stretto_embed_options how = STRETTO_EMBED_OPTIONS_INIT;
    for (uint32_t i = 1; o->pooling && i < sizeof words / sizeof *words; i++)
        if (strcmp(o->pooling, words[i]) == 0) how.pooling = i;
    how.raw = o->raw;
    how.truncate = o->truncate;
    return how;
}

static int embed_run(void *options, size_t n_operands, char **operands)
{
    (void)n_operands; (void)operands;
    struct embed_options *o = options;
    stretto_engine_options eo;
    stretto_model *m = NULL;
    struct lines x = { .how = how_of(o) };
    char err[600], *text = NULL;
    size_t length = 0;
    int code = engine_options_from("embed", &o->model, 1, &eo);
    if (code == EXIT_DONE) code = open_model("embed", &o->model, false, &m);
    if (code == EXIT_DONE) {
        stretto_status st = stretto_session_open_model(&x.s, m, &eo, err, sizeof err);
        if (st != STRETTO_OK) code = command_fail("embed", st, err);
    }
    if (code == EXIT_DONE && !(text = read_text("embed", o->file ? o->file : "-", &length)))
        code = EXIT_FAILED;
    if (code == EXIT_DONE) {
        stretto_model_info info = { .size = sizeof info };
        stretto_model_about(m, &info);
        x.m = m;
        x.width = info.width;
        x.list = o->json ? json_array() : NULL;
        code = embed_text(&x, text, length);
    }
    json_decref(x.list);
    free(x.v);
    free(text);
    stretto_session_close(x.s);
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
        "Reads lines and prints the embedding of each: the model's last hidden states as its file asks "
        "(the pooling and the modules of sentence-transformers, or GGUF's pooling_type), averaged "
        "where it asks for nothing, and scaled to length 1 unless modules.json leaves that out. "
        "A line that is too long is named by its "
        "number and left out, an empty line in its place; the exit status is then 1. With --pooling "
        "none every token has a line, and an empty line follows each text. Meant for encoders such "
        "as all-MiniLM-L6-v2.",
    .uses = uses,
    .n_uses = 2,
    .options_size = sizeof(struct embed_options),
    .defaults = embed_defaults,
    .run = embed_run,
    .unknown = peer_flag,
};
