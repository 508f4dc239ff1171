/* /v1/models: what is served. Whoever sends the anthropic-version header gets that API's shape. */
#include "model/model.h"
#include "serve/route.h"
#include "serve/served.h"
#include "serve/server.h"
#include <stdio.h>
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

static bool anthropic(const struct exchange *x) { return exchange_header(x, "anthropic-version") != NULL; }

/* A model, or one of its adapters (-1: none), which is a model of its own to clients. */
static void name_of(const struct served *m, int adapter, char out[SERVED_SHOWN])
{
    if (adapter < 0) snprintf(out, SERVED_SHOWN, "%s", m->name);
    else snprintf(out, SERVED_SHOWN, "%s:%s", m->name, m->adapter[adapter].name);
}

static json_t *openai_model(struct exchange *x, const struct served *m, int adapter)
{
    char name[SERVED_SHOWN];
    json_t *aliases = json_array();
    name_of(m, adapter, name);
    for (size_t i = 0; i < m->n_aliases && adapter < 0; i++) json_array_append_new(aliases, json_string(m->alias[i]));
    json_t *v = json_pack("{s:s,s:s,s:I,s:s,s:o,s:o,s:{s:s},s:o}", "id", name, "object", "model", "created",
                          (json_int_t)m->since, "owned_by", "stretto", "aliases", aliases, "tags", words_of(m->tags),
                          "status", "value", status(x, m), "meta", meta(m));
    if (v && adapter >= 0) json_object_set_new(v, "parent", json_string(m->name));
    return v;
}

static json_t *anthropic_model(const struct served *m, int adapter)
{
    char when[40], name[SERVED_SHOWN];
    struct tm tm;
    name_of(m, adapter, name);
    gmtime_r(&m->since, &tm);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return json_pack("{s:s,s:s,s:s,s:s,s:s}", "id", name, "type", "model", "display_name", name, "created_at", when,
                     "lifecycle", "active");
}

static void add(struct exchange *x, const struct served *m, int adapter, json_t *data, json_t *models)
{
    char name[SERVED_SHOWN];
    name_of(m, adapter, name);
    json_array_append_new(data, anthropic(x) ? anthropic_model(m, adapter) : openai_model(x, m, adapter));
    json_array_append_new(models, json_pack("{s:s,s:s,s:s}", "name", name, "model", name, "slug", name));
}

static void list(struct exchange *x)
{
    struct served_list *l = server_models(x->server);
    json_t *data = json_array(), *models = json_array();
    for (size_t i = 0; i < l->n; i++)
        for (int k = -1; k < (int)l->v[i].n_adapters; k++)
            if (k < 0 || *l->v[i].adapter[k].name) add(x, &l->v[i], k, data, models);
    if (anthropic(x)) {
        const json_t *last = json_array_get(data, json_array_size(data) - 1);
        json_t *id = json_incref(json_object_get(last, "id"));
        json_decref(models);
        exchange_reply(x, 200, json_pack("{s:o,s:b,s:s,s:o}", "data", data, "has_more", 0, "first_id", l->v[0].name,
                                         "last_id", id));
    } else exchange_reply(x, 200, json_pack("{s:s,s:o,s:o}", "object", "list", "data", data, "models", models));
}

static void one(struct exchange *x)
{
    struct served_list *l = server_models(x->server);
    int adapter;
    const struct served *m = served_find(l, x->rest, strlen(x->rest), &adapter);
    if (!m) exchange_refuse(x, TROUBLE_NOT_FOUND, "model", "there is no model '%.100s' here", x->rest);
    else exchange_reply(x, 200, anthropic(x) ? anthropic_model(m, adapter) : openai_model(x, m, adapter));
}

static const struct route routes[] = {
    { "GET", "/v1/models", &manner_openai, list, ROUTE_OPEN },
    { "GET", "/v1/models/*", &manner_openai, one, ROUTE_OPEN },
};
const struct routes routes_openai_models = ROUTES(routes);
