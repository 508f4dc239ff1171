/* Errors as the OpenAI API and llama.cpp's server have them: one shape. */
#include "serve/route.h"
#include <string.h>

static json_t *openai_error(const struct exchange *x, const struct trouble *t)
{
    const struct trouble_row *r = trouble_row(t->kind);
    json_t *e = json_pack("{s:i,s:o,s:s,s:o}", "code", (int)r->http, "message", text_json(t->text, strlen(t->text)),
                          "type", r->openai, "param", *t->param ? json_string(t->param) : json_null());
    (void)x;
    if (t->kind == TROUBLE_CONTEXT && e) {
        json_object_set_new(e, "n_prompt_tokens", json_integer(t->n_prompt));
        json_object_set_new(e, "n_ctx", json_integer(t->n_context));
    }
    return e ? json_pack("{s:o}", "error", e) : NULL;
}

const struct manner manner_openai = { .name = "openai", .error = openai_error, .id_header = "x-request-id" };
const struct manner manner_native = { .name = "native", .error = openai_error, .id_header = "x-request-id" };

/* ---- Anthropic --------------------------------------------------------------------------------- */

static json_t *anthropic_error(const struct exchange *x, const struct trouble *t)
{
    return json_pack("{s:s,s:{s:s,s:o},s:s}", "type", "error", "error", "type", trouble_row(t->kind)->anthropic,
                     "message", text_json(t->text, strlen(t->text)), "request_id", x->id);
}

/* 529: overloaded. */
static unsigned anthropic_http(const struct trouble *t)
{
    unsigned http = trouble_row(t->kind)->http;
    return http == 503 ? 529 : http;
}

const struct manner manner_anthropic = { .name = "anthropic", .error = anthropic_error, .http = anthropic_http,
                                         .id_header = "request-id" };

/* ---- ollama ------------------------------------------------------------------------------------ */

static json_t *ollama_error(const struct exchange *x, const struct trouble *t)
{
    (void)x;
    return json_pack("{s:o}", "error", text_json(t->text, strlen(t->text)));
}

const struct manner manner_ollama = { .name = "ollama", .error = ollama_error, .id_header = "x-request-id" };
