/* /v1/models: what is served. Whoever sends the anthropic-version header gets that API's shape. */
#include "model/model.h"
#include "serve/route.h"
#include "serve/served.h"
#include "serve/server.h"
#include <string.h>

static json_t *meta(const struct served *m)
{
    const stretto_model_info *i = &m->about;
    return json_pack("{s:i,s:I,s:I,s:I,s:I,s:I,s:I,s:s,s:s}", "vocab_type", 2, "n_vocab", (json_int_t)i->vocabulary,
                     "n_ctx_train", (json_int_t)i->context, "n_ctx", (json_int_t)m->context, "n_embd",
                     (json_int_t)i->width, "n_params", (json_int_t)i->parameters, "size", (json_int_t)i->file_bytes,
                     "family", i->family, "format", i->format);
}

/* "one,two" as a list. */
static json_t *words_of(const char *p)
{
    json_t *list = json_array();
    for (size_t n; p && *p; p += n + (p[n] == ',')) {
        n = strcspn(p, ",");
        if (n) json_array_append_new(list, text_json(p, n));
    }
    return list;
}

/* Where its weights are, as llama.cpp's router calls it. */
static const char *status(struct exchange *x, const struct served *m)
{
    struct service_state s;
    enum served_at at = served_look(server_models(x->server), m, &s, NULL, 0);
    return at == SERVED_AWAY ? "unloaded" : at == SERVED_WANTED || at == SERVED_LOADING ? "loading" : "loaded";
}

static json_t *openai_model(struct exchange *x, const struct served *m)
{
    json_t *aliases = json_array();
    for (size_t i = 0; i < m->n_aliases; i++) json_array_append_new(aliases, json_string(m->alias[i]));
    return json_pack("{s:s,s:s,s:I,s:s,s:o,s:o,s:{s:s},s:o}", "id", m->name, "object", "model", "created",
                     (json_int_t)m->since, "owned_by", "stretto", "aliases", aliases, "tags", words_of(m->tags),
                     "status", "value", status(x, m), "meta", meta(m));
}

static json_t *anthropic_model(const struct served *m)
{
    char when[40];
    struct tm tm;
    gmtime_r(&m->since, &tm);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return json_pack("{s:s,s:s,s:s,s:s,s:s}", "id", m->name, "type", "model", "display_name", m->name, "created_at",
                     when, "lifecycle", "active");
}

static bool anthropic(const struct exchange *x) { return exchange_header(x, "anthropic-version") != NULL; }

static void list(struct exchange *x)
{
    struct served_list *l = server_models(x->server);
    json_t *data = json_array(), *models = json_array();
    for (size_t i = 0; i < l->n; i++) {
        json_array_append_new(data, anthropic(x) ? anthropic_model(&l->v[i]) : openai_model(x, &l->v[i]));
        json_array_append_new(models, json_pack("{s:s,s:s,s:s}", "name", l->v[i].name, "model", l->v[i].name, "slug",
                                                l->v[i].name));
    }
    if (anthropic(x)) {
        json_decref(models);
        exchange_reply(x, 200, json_pack("{s:o,s:b,s:s,s:s}", "data", data, "has_more", 0, "first_id", l->v[0].name,
                                         "last_id", l->v[l->n - 1].name));
    } else exchange_reply(x, 200, json_pack("{s:s,s:o,s:o}", "object", "list", "data", data, "models", models));
}

static void one(struct exchange *x)
{
    struct served_list *l = server_models(x->server);
    const struct served *m = NULL;
    for (size_t i = 0; i < l->n && !m; i++)
        if (strcmp(l->v[i].name, x->rest) == 0) m = &l->v[i];
    if (!m && l->n) {                          /* aliases, and with one model any name */
        m = served_find(l, x->rest, strlen(x->rest));
    }
    if (!m) exchange_refuse(x, TROUBLE_NOT_FOUND, "model", "there is no model '%.100s' here", x->rest);
    else exchange_reply(x, 200, anthropic(x) ? anthropic_model(m) : openai_model(x, m));
}

static const struct route routes[] = {
    { "GET", "/v1/models", &manner_openai, list, ROUTE_OPEN },
    { "GET", "/v1/models/*", &manner_openai, one, ROUTE_OPEN },
};
const struct routes routes_openai_models = ROUTES(routes);
