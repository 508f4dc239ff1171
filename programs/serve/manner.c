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
