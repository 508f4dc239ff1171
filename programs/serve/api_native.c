/* llama.cpp's own routes about text: /tokenize, /detokenize, and what needs no answer of the model. */
#include "serve/route.h"
#include "serve/served.h"
#include "serve/words.h"
#include <string.h>

static bool flag_of(struct exchange *x, const char *name, bool otherwise)
{
    const json_t *v = json_object_get(x->json, name);
    if (!v || json_is_null(v)) return otherwise;
    if (json_is_boolean(v)) return json_is_true(v);
    return exchange_refuse(x, TROUBLE_INVALID, name, "%s must be true or false, not %s", name, kind_words(v));
}

static bool begin(struct exchange *x)
{
    const json_t *model;
    if (!exchange_object(x)) return false;
    model = json_object_get(x->json, "model");
    if (model && !json_is_string(model) && !json_is_null(model))
        return exchange_refuse(x, TROUBLE_INVALID, "model", "model must be a string, not %s", kind_words(model));
    x->ask.model_name = json_string_value(model);
    if (!exchange_model(x)) return false;
    if (x->ask.model->model->tokenizer) return true;
    return exchange_refuse(x, TROUBLE_INVALID, "model", "the model %s has no vocabulary", x->ask.model->name);
}

/* A piece as text, or as bytes where it is none. */
static json_t *piece_json(const struct exchange *x, int32_t id)
{
    struct buffer b = buffer_make(1 << 16);
    words_piece(x, id, &b);
    json_t *v = json_stringn(b.data ? b.data : "", b.len);
    if (!v && (v = json_array()))
        for (size_t i = 0; i < b.len; i++) json_array_append_new(v, json_integer((unsigned char)b.data[i]));
    buffer_done(&b);
    return json_pack("{s:I,s:o}", "id", (json_int_t)id, "piece", v);
}

static void tokenize(struct exchange *x)
{
    if (!begin(x)) return;
    json_t *content = json_object_get(x->json, "content");
    bool add = flag_of(x, "add_special", false), special = flag_of(x, "parse_special", true);
    bool pieces = flag_of(x, "with_pieces", false);
    if (x->trouble.kind != TROUBLE_NONE) return;
    json_t *out = json_array();
    unsigned flags = (add ? TOKENIZE_ADD : 0u) | (special ? TOKENIZE_SPECIAL : 0u);
    bool empty = !content || (json_is_array(content) && !json_array_size(content));
    if (!empty && (!json_is_array(content) || json_is_string(json_array_get(content, 0))
                   || json_is_integer(json_array_get(content, 0)))
        && ask_prompts(&x->ask, 1, &x->trouble)) {
        struct tokens *t = &x->ask.prompts[0];
        size_t n = json_is_array(content) ? json_array_size(content) : 1;
        for (size_t i = 0; i < n; i++) {
            const json_t *v = json_is_array(content) ? json_array_get(content, i) : content;
            if (json_is_integer(v)) words_id(x, "content", v, t);
            else if (!json_is_string(v))
                exchange_refuse(x, TROUBLE_INVALID, "content", "content must be a string, not %s", kind_words(v));
            else ask_encode(&x->ask, json_string_value(v), json_string_length(v), flags, t, &x->trouble);
            flags &= ~(unsigned)TOKENIZE_ADD;
        }
        for (size_t i = 0; i < t->n; i++)
            json_array_append_new(out, pieces ? piece_json(x, t->id[i]) : json_integer(t->id[i]));
    } else if (!empty)
        exchange_refuse(x, TROUBLE_INVALID, "content", "content must be a string, not %s", kind_words(content));
    if (x->trouble.kind != TROUBLE_NONE) json_decref(out);
    else exchange_reply(x, 200, json_pack("{s:o}", "tokens", out));
}

static bool read_ids(struct exchange *x, json_t *ids)
{
    size_t i;
    json_t *one;
    if (!json_is_array(ids))
        return exchange_refuse(x, TROUBLE_INVALID, "tokens", "tokens must be a list of ids, not %s", kind_words(ids));
    if (!ask_prompts(&x->ask, 1, &x->trouble)) return false;
    json_array_foreach(ids, i, one) {
        if (!json_is_integer(one))
            return exchange_refuse(x, TROUBLE_INVALID, "tokens", "tokens must be a list of ids, not with %s in it",
                                   kind_words(one));
        if (!words_id(x, "tokens", one, &x->ask.prompts[0])) return false;
    }
    return true;
}

static void detokenize(struct exchange *x)
{
    if (!begin(x)) return;
    json_t *ids = json_object_get(x->json, "tokens");
    if (!ids) {
        exchange_reply(x, 200, json_pack("{s:s}", "content", ""));
        return;
    }
    if (!read_ids(x, ids)) return;
    struct buffer b = buffer_make(1 << 28);
    const struct tokens *t = &x->ask.prompts[0];
    stretto_status s = tokenizer_decode(x->ask.model->model->tokenizer, t->id, t->n, true, &b);
    if (s != STRETTO_OK) trouble_status(&x->trouble, TROUBLE_INVALID, "tokens", s, NULL);
    else exchange_reply(x, 200, json_pack("{s:o}", "content", text_json(b.data ? b.data : "", b.len)));
    buffer_done(&b);
}

static void no_reranker(struct exchange *x)
{
    exchange_refuse(x, TROUBLE_UNSUPPORTED, NULL, "there is no model here that ranks documents: /v1/embeddings gives "
                    "vectors to compare");
}

static void adapters(struct exchange *x) { exchange_reply(x, 200, json_array()); }

static const struct route routes[] = {
    { "POST", "/tokenize", &manner_native, tokenize, 0 },
    { "POST", "/detokenize", &manner_native, detokenize, 0 },
    { "POST", "/v1/rerank", &manner_openai, no_reranker, 0 },
    { "POST", "/v1/reranking", &manner_openai, no_reranker, 0 },
    { "GET", "/lora-adapters", &manner_native, adapters, 0 },
};
const struct routes routes_native = ROUTES(routes);
