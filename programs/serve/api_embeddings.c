/* /v1/embeddings: one vector for each text. */
#include "base/memory.h"
#include "serve/route.h"
#include "serve/served.h"
#include "serve/words.h"
#include <string.h>

static bool own_encoding(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    const char *word = json_string_value(v);
    if (!word || (strcmp(word, "float") != 0 && strcmp(word, "base64") != 0))
        return trouble(t, TROUBLE_INVALID, name, "%s must be \"float\" or \"base64\"", name);
    a->encoding = word;
    return true;
}

#define AT(member) offsetof(struct ask, member)
static const struct field rows[] = {
    { "input", FIELD_ANY, FIELD_LATER, 0, 0, 0, NULL, NULL },
    { "content", FIELD_ANY, FIELD_LATER, 0, 0, 0, NULL, NULL },
    { "encoding_format", FIELD_TEXT, FIELD_READ, 0, 0, 0, own_encoding, NULL },
    { "dimensions", FIELD_INT, FIELD_READ, AT(dimensions), 1, 1 << 20, NULL, NULL },
    { "stream", FIELD_BOOL, FIELD_REFUSED, 0, 0, 0, NULL, "vectors do not come as a stream: leave it out" },
};
#undef AT
static const struct field_table table = FIELD_TABLE(rows);
static const struct field_table *const tables[] = { &table };

/* RFC 4648, of little-endian float32. */
static json_t *base64(const void *bytes, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = bytes;
    char *out = mem_alloc((n + 2) / 3 * 4 + 1), *to = out;
    for (size_t i = 0; out && i < n; i += 3) {
        unsigned v = (unsigned)p[i] << 16 | (i + 1 < n ? (unsigned)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0);
        *to++ = digits[v >> 18];
        *to++ = digits[v >> 12 & 63];
        *to++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
        *to++ = i + 2 < n ? digits[v & 63] : '=';
    }
    json_t *v = out ? json_stringn_nocheck(out, (size_t)(to - out)) : NULL;
    if (!v) json_lost();
    mem_free(out);
    return v;
}

static json_t *vector(const struct exchange *x, const struct choice *c)
{
    size_t n = c->n_vector;
    if (!c->vector) json_lost();
    if (x->ask.encoding && strcmp(x->ask.encoding, "base64") == 0) return base64(c->vector, n * sizeof *c->vector);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_real((double)c->vector[i]));
    return list;
}

static json_t *whole(struct exchange *x)
{
    json_t *data = json_array();
    struct job_usage u = exchange_usage(x);
    for (size_t i = 0; i < x->n_choices; i++)
        json_array_append_new(data, json_pack("{s:s,s:i,s:o}", "object", "embedding", "index", (int)i, "embedding",
                                              vector(x, &x->choices[i])));
    return json_pack("{s:s,s:s,s:o,s:{s:I,s:I}}", "object", "list", "model", x->ask.shown, "data", data, "usage",
                     "prompt_tokens", (json_int_t)u.prompt, "total_tokens", (json_int_t)u.prompt);
}

/* llama.cpp's own shape: a vector for each token of each text. */
static json_t *whole_each(struct exchange *x)
{
    json_t *out = json_array();
    size_t width = x->ask.model->model->config.width;
    for (size_t i = 0; i < x->n_choices; i++) {
        const struct choice *c = &x->choices[i];
        json_t *list = json_array();
        for (size_t at = 0; at + width <= c->n_vector; at += width) {
            json_t *one = json_array();
            for (size_t k = 0; k < width; k++) json_array_append_new(one, json_real((double)c->vector[at + k]));
            json_array_append_new(list, one);
        }
        json_array_append_new(out, json_pack("{s:i,s:o}", "index", (int)i, "embedding", list));
    }
    return out;
}

static const struct dialect dialect = { .kind = JOB_EMBED, .whole = whole };
static const struct dialect each = { .kind = JOB_EMBED, .whole = whole_each };

static void embed(struct exchange *x)
{
    if (!exchange_object(x) || !exchange_fields(x, tables, 1)) return;
    json_t *input = json_object_get(x->json, "input");
    if (!input) input = json_object_get(x->json, "content");
    size_t width = x->ask.model->model->config.width;
    if (x->ask.dimensions && (size_t)x->ask.dimensions != width) {
        exchange_refuse(x, TROUBLE_INVALID, "dimensions", "the vectors of %s have %zu dimensions and cannot be cut: "
                        "leave it out", x->ask.model->name, width);
        return;
    }
    x->ask.n = 1;
    x->ask.stream = false;
    if (!words_prompts(x, "input", input, TOKENIZE_ADD)) return;
    for (size_t i = 0; i < x->ask.n_prompts; i++)
        if (!x->ask.prompts[i].n) {
            exchange_refuse(x, TROUBLE_INVALID, "input", "text %zu of the input is empty: send some words", i + 1);
            return;
        }
    if (x->ask.each && strncmp(x->path, "/v1/", 4) == 0)
        exchange_refuse(x, TROUBLE_INVALID, NULL, "this server makes a vector for each token (--pooling none), which "
                        "/embeddings gives, without /v1");
    else exchange_run(x, x->ask.each ? &each : &dialect);
}

static const struct route routes[] = {
    { "POST", "/v1/embeddings", &manner_openai, embed, 0 },
};
const struct routes routes_embeddings = ROUTES(routes);
