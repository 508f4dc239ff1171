/* llama.cpp's own routes about text: /tokenize, /detokenize, and what needs no answer of the model. */
#include "base/utf8.h"
#include "serve/route.h"
#include "serve/served.h"
#include "serve/server.h"
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
static stretto_status put_piece(struct exchange *x, int32_t id, struct buffer *spare)
{
    struct buffer *out = &x->reply_text;
    buffer_clear(spare);
    TRY(words_piece(x, id, spare));
    TRY(buffer_printf(out, "{\"id\":%d,\"piece\":", id));
    if (utf8_valid_run(spare->data ? spare->data : "", spare->len) == spare->len)
        TRY(put_string(out, spare->data ? spare->data : "", spare->len));
    else
        for (size_t i = 0; i < spare->len; i++)
            TRY(buffer_printf(out, "%c%d%s", i ? ',' : '[', (unsigned char)spare->data[i],
                              i + 1 == spare->len ? "]" : ""));
    return buffer_str(out, "}");
}

/* As text at once: millions of tokens are not made a tree first. */
static stretto_status put_tokens(struct exchange *x, const struct tokens *t, bool pieces, struct buffer *spare)
{
    struct buffer *out = &x->reply_text;
    TRY(buffer_str(out, "{\"tokens\":["));
    for (size_t i = 0; i < t->n; i++) {
        if (i) TRY(buffer_append(out, ",", 1));
        if (pieces) TRY(put_piece(x, t->id[i], spare));
        else TRY(buffer_printf(out, "%d", t->id[i]));
    }
    return buffer_str(out, "]}");
}

static void reply_tokens(struct exchange *x, const struct tokens *t, bool pieces)
{
    struct buffer spare = buffer_make(1 << 16);
    stretto_status s = put_tokens(x, t, pieces, &spare);
    buffer_done(&spare);
    if (s == STRETTO_E_FULL)
        exchange_refuse(x, TROUBLE_LARGE, NULL, "the tokens of this text take more than %zu MB: send it in pieces",
                        x->reply_text.max >> 20);
    else if (s != STRETTO_OK) trouble_status(&x->trouble, TROUBLE_BUSY, NULL, s, NULL);
    else if (exchange_hold(x, x->reply_text.len)) exchange_reply_text(x, 200, "application/json; charset=utf-8");
}

static void tokenize(struct exchange *x)
{
    if (!begin(x)) return;
    json_t *content = json_object_get(x->json, "content");
    bool add = flag_of(x, "add_special", false), special = flag_of(x, "parse_special", true);
    bool pieces = flag_of(x, "with_pieces", false);
    if (x->trouble.kind != TROUBLE_NONE) return;
    unsigned flags = (add ? TOKENIZE_ADD : 0u) | (special ? TOKENIZE_SPECIAL : 0u);
    struct tokens none = { 0 }, *t = &none;
    bool empty = !content || (json_is_array(content) && !json_array_size(content));
    if (!empty && (!json_is_array(content) || json_is_string(json_array_get(content, 0))
                   || json_is_integer(json_array_get(content, 0)))
        && ask_prompts(&x->ask, 1, &x->trouble)) {
        t = &x->ask.prompts[0];
        size_t n = json_is_array(content) ? json_array_size(content) : 1;
        for (size_t i = 0; i < n && x->trouble.kind == TROUBLE_NONE; i++) {
            const json_t *v = json_is_array(content) ? json_array_get(content, i) : content;
            if (json_is_integer(v)) words_id(x, "content", v, t);
            else if (!json_is_string(v))
                exchange_refuse(x, TROUBLE_INVALID, "content", "content must be a string, not %s", kind_words(v));
            else ask_encode(&x->ask, json_string_value(v), json_string_length(v), flags, t, &x->trouble);
            flags &= ~(unsigned)TOKENIZE_ADD;
        }
    } else if (!empty)
        exchange_refuse(x, TROUBLE_INVALID, "content", "content must be a string, not %s", kind_words(content));
    if (x->trouble.kind == TROUBLE_NONE) reply_tokens(x, t, pieces);
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

/* ---- adapters, as llama.cpp's server has them ---------------------------------------------------- */

static bool adapters_of(struct exchange *x)
{
    x->ask.model_name = exchange_query(x, "model");
    return exchange_model(x);
}

static json_t *adapter_json(const struct served *m, size_t i, float weight)
{
    const struct served_adapter *a = &m->adapter[i];
    json_t *v = json_pack("{s:I,s:s,s:o,s:f,s:s,s:s}", "id", (json_int_t)i, "name", a->name, "path",
                          text_json(a->path, strlen(a->path)), "scale", (double)weight, "task_name", "",
                          "prompt_prefix", "");
    const struct adapter *read = m->model->n_adapters == m->n_adapters ? &m->model->adapters[i].pairs : NULL;
    if (v && read) json_object_set_new(v, "rows", json_string(adapter_rows_word(read->rows)));
    if (!v || !read || !read->n_invocation) return v;
    json_t *ids = json_array();
    for (size_t k = 0; k < read->n_invocation; k++) json_array_append_new(ids, json_integer(read->invocation[k]));
    json_object_set_new(v, "alora_invocation_tokens", ids);
    return v;
}

static void adapters(struct exchange *x)
{
    float weight[SERVED_ADAPTERS];
    if (!adapters_of(x)) return;
    json_t *list = json_array();
    served_weights(server_models(x->server), x->ask.model, weight);
    for (size_t i = 0; i < x->ask.model->n_adapters; i++)
        json_array_append_new(list, adapter_json(x->ask.model, i, weight[i]));
    exchange_reply(x, 200, list);
}

static void weigh_adapters(struct exchange *x)
{
    float weight[SERVED_ADAPTERS];
    if (!exchange_json(x) || !adapters_of(x) || !exchange_weights(x, "the request", x->json, weight)) return;
    served_weigh(server_models(x->server), x->ask.model, weight);
    exchange_reply(x, 200, json_pack("{s:b}", "success", 1));
}

static const struct route routes[] = {
    { "POST", "/tokenize", &manner_native, tokenize, 0 },
    { "POST", "/detokenize", &manner_native, detokenize, 0 },
    { "POST", "/v1/rerank", &manner_openai, no_reranker, 0 },
    { "POST", "/v1/reranking", &manner_openai, no_reranker, 0 },
    { "GET", "/lora-adapters", &manner_native, adapters, 0 },
    { "POST", "/lora-adapters", &manner_native, weigh_adapters, 0 },
};
const struct routes routes_native = ROUTES(routes);
