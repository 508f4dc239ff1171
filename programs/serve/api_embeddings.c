/* /v1/embeddings: one vector for each text. */
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

/* RFC 4648, of little-endian float32, as a JSON string. */
static stretto_status put_base64(struct buffer *b, const void *bytes, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = bytes;
    size_t text = (n + 2) / 3 * 4;
    TRY(buffer_append(b, "\"", 1));
    TRY(buffer_reserve(b, text + 1));
    char *to = b->data + b->len;
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)p[i] << 16 | (i + 1 < n ? (unsigned)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0);
        *to++ = digits[v >> 18];
        *to++ = digits[v >> 12 & 63];
        *to++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
        *to++ = i + 2 < n ? digits[v & 63] : '=';
    }
    b->len += text;
    return buffer_append(b, "\"", 1);
}

static stretto_status put_vector(struct exchange *x, const struct choice *c)
{
    if (!c->vector) return STRETTO_E_NOMEM;
    if (x->ask.encoding && strcmp(x->ask.encoding, "base64") == 0)
        return put_base64(&x->reply_text, c->vector, c->n_vector * sizeof *c->vector);
    return put_numbers(&x->reply_text, c->vector, c->n_vector);
}

static stretto_status put_whole(struct exchange *x)
{
    struct buffer *b = &x->reply_text;
    unsigned long long read = exchange_usage(x).prompt;
    const char *name = x->ask.shown;
    TRY(buffer_str(b, "{\"object\":\"list\",\"model\":"));
    TRY(put_string(b, name, strlen(name)));
    TRY(buffer_str(b, ",\"data\":["));
    for (size_t i = 0; i < x->n_choices; i++) {
        TRY(buffer_printf(b, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", i ? "," : "", i));
        TRY(put_vector(x, &x->choices[i]));
        TRY(buffer_append(b, "}", 1));
    }
    return buffer_printf(b, "],\"usage\":{\"prompt_tokens\":%llu,\"total_tokens\":%llu}}", read, read);
}

/* llama.cpp's own shape: a vector for each token of each text. */
static stretto_status put_each(struct exchange *x)
{
    struct buffer *b = &x->reply_text;
    size_t width = x->ask.model->model->config.width;
    TRY(buffer_append(b, "[", 1));
    for (size_t i = 0; i < x->n_choices; i++) {
        const struct choice *c = &x->choices[i];
        TRY(buffer_printf(b, "%s{\"index\":%zu,\"embedding\":[", i ? "," : "", i));
        for (size_t at = 0; at + width <= c->n_vector; at += width) {
            if (at) TRY(buffer_append(b, ",", 1));
            TRY(put_numbers(b, c->vector + at, width));
        }
        TRY(buffer_str(b, "]}"));
    }
    return buffer_append(b, "]", 1);
}

static const struct dialect dialect = { .kind = JOB_EMBED, .put_whole = put_whole };
static const struct dialect each = { .kind = JOB_EMBED, .put_whole = put_each };

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
