/* The routes by which programs talk to ollama: /api/chat, /api/generate, /api/embed, /api/tags, /api/show and what
 * they look at before. Answers are lines of JSON. */
#include "base/clock.h"
#include "serve/infill.h"
#include "serve/route.h"
#include "serve/served.h"
#include "serve/server.h"
#include "serve/words.h"
#include <stdio.h>
#include <string.h>

/* ---- what is asked ----------------------------------------------------------------------------- */

/* -1 and -2 mean no limit there. */
static bool own_predict(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    if (!json_is_integer(v) || json_integer_value(v) < -2 || json_integer_value(v) > 1 << 24)
        return trouble(t, TROUBLE_INVALID, name, "%s must be an integer from -1 up", name);
    a->max_tokens = json_integer_value(v) < 0 ? -1 : json_integer_value(v);
    return true;
}

#define NO_SAMPLER "the sampler has temperature, top_k, top_p, min_p and penalties: leave it out"
static const struct field option_rows[] = {
    { "num_predict", FIELD_INT, FIELD_READ, 0, 0, 0, own_predict, NULL },
    { "num_ctx", FIELD_INT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "num_keep", FIELD_INT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "num_batch", FIELD_INT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "num_gpu", FIELD_INT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "main_gpu", FIELD_INT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "num_thread", FIELD_INT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "use_mmap", FIELD_BOOL, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "use_mlock", FIELD_BOOL, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "numa", FIELD_BOOL, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "low_vram", FIELD_BOOL, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "penalize_newline", FIELD_BOOL, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "tfs_z", FIELD_REAL, FIELD_REFUSED, 0, 1, 1, NULL, NO_SAMPLER },
};
static const struct field_table options_table = FIELD_TABLE(option_rows);

/* true, false, or how much. */
static bool own_think(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    if (!json_is_boolean(v) && !json_is_string(v))
        return trouble(t, TROUBLE_INVALID, name, "%s must be true or false, not %s", name, kind_words(v));
    a->think = !json_is_false(v);
    a->effort = json_string_value(v);
    return true;
}

#define AT(member) offsetof(struct ask, member)
static const struct field rows[] = {
    { "messages", FIELD_ARRAY, FIELD_LATER, 0, 0, 0, NULL, NULL },
    { "prompt", FIELD_TEXT, FIELD_LATER, 0, 0, 0, NULL, NULL },
    { "system", FIELD_TEXT, FIELD_LATER, 0, 0, 0, NULL, NULL },
    { "suffix", FIELD_TEXT, FIELD_READ, AT(suffix), 0, 0, NULL, NULL },
    { "raw", FIELD_BOOL, FIELD_LATER, 0, 0, 0, NULL, NULL },
    { "options", FIELD_OBJECT, FIELD_LATER, 0, 0, 0, NULL, NULL },
    { "tools", FIELD_ARRAY, FIELD_READ, 0, 0, 0, field_tools, NULL },
    { "format", FIELD_ANY, FIELD_UNSUPPORTED, 0, 0, 0, NULL, "answers cannot be held to a form yet: leave it out" },
    { "template", FIELD_TEXT, FIELD_REFUSED, 0, 0, 0, NULL,
      "a request brings no template: the model's own is used; leave it out" },
    { "context", FIELD_ARRAY, FIELD_REFUSED, 0, 0, 0, NULL, "send the conversation to /api/chat" },
    { "images", FIELD_ARRAY, FIELD_REFUSED, 0, 0, 0, NULL, "the model reads text alone: leave them out" },
    { "keep_alive", FIELD_ANY, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "think", FIELD_ANY, FIELD_READ, 0, 0, 0, own_think, NULL },
    { "logprobs", FIELD_BOOL, FIELD_REFUSED, 0, 0, 0, NULL, "ask /v1/chat/completions for log probabilities" },
};
static const struct field embed_rows[] = {
    { "input", FIELD_ANY, FIELD_LATER, 0, 0, 0, NULL, NULL },
    { "prompt", FIELD_TEXT, FIELD_LATER, 0, 0, 0, NULL, NULL },
    { "options", FIELD_OBJECT, FIELD_LATER, 0, 0, 0, NULL, NULL },
    { "truncate", FIELD_BOOL, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "keep_alive", FIELD_ANY, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "dimensions", FIELD_INT, FIELD_READ, AT(dimensions), 1, 1 << 20, NULL, NULL },
};
#undef AT
static const struct field_table table = FIELD_TABLE(rows), embed_table = FIELD_TABLE(embed_rows);

/* Names there end in a tag. */
static void drop_tag(struct exchange *x)
{
    static const char tag[] = ":latest";
    const char *name = x->ask.model_name;
    size_t n = name ? strlen(name) : 0;
    if (n < sizeof tag || n >= sizeof x->rest || strcmp(name + n - (sizeof tag - 1), tag) != 0) return;
    snprintf(x->rest, sizeof x->rest, "%.*s", (int)(n - (sizeof tag - 1)), name);
    x->ask.model_name = x->rest;
}

/* Fields, then what stands in `options`, then the model. */
static bool read_fields(struct exchange *x, const struct field_table *own)
{
    const struct field_table *const outer[] = { own, &fields_job };
    const struct field_table *const inner[] = { &options_table, &fields_sampling, &fields_llama };
    struct ask *a = &x->ask;
    bool strict = exchange_strict(x);
    const json_t *options = json_object_get(x->json, "options");
    if (!fields_read(x->json, outer, 2, strict, a, &x->ignored, &x->trouble)) return false;
    if (options && !json_is_null(options) && !json_is_object(options))
        return exchange_refuse(x, TROUBLE_INVALID, "options", "options must be an object, not %s", kind_words(options));
    if (options && !fields_read(options, inner, 3, strict, a, &x->ignored, &x->trouble)) return false;
    drop_tag(x);
    return exchange_model(x) && exchange_tools(x)
           && (!a->bias_words || field_bias_words(a, &x->trouble));
}

static bool read_ask(struct exchange *x)
{
    x->ask.stream = true;                      /* unless the request says otherwise */
    return exchange_object(x) && read_fields(x, &table);
}

static bool read_message(struct exchange *x, const json_t *m, size_t i)
{
    const char *role = json_string_value(json_object_get(m, "role"));
    if (!json_is_object(m) || !role || !*role || strlen(role) > 40)
        return exchange_refuse(x, TROUBLE_INVALID, "messages", "message %zu must be an object with a role and a "
                               "content", i + 1);
    if (json_array_size(json_object_get(m, "images")))
        return exchange_refuse(x, TROUBLE_INVALID, "messages", "message %zu has images, and the model %s reads text "
                               "alone: leave them out", i + 1, x->ask.model->name);
    if (strcmp(role, "tool") == 0) return words_result_message(x, json_object_get(m, "content"));
    return words_message_calls(x, role, json_object_get(m, "content"), json_object_get(m, "tool_calls"));
}

static bool read_messages(struct exchange *x, const json_t *list)
{
    size_t i;
    json_t *m;
    json_array_foreach((json_t *)(uintptr_t)list, i, m)
        if (!read_message(x, m, i)) return false;
    x->ask.continues = strcmp(x->ask.messages[x->ask.n_messages - 1].role, "assistant") == 0;
    return ask_render(&x->ask, NULL, &x->trouble);
}

/* ---- what is answered -------------------------------------------------------------------------- */

static void now_words(char out[40])
{
    struct timespec t;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &tm);
    size_t n = strftime(out, 40, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, 40 - n, ".%06ldZ", t.tv_nsec / 1000);
}

static bool is_chat(const struct exchange *x) { return x->ask.n_messages && !json_object_get(x->json, "prompt"); }

static json_t *line(const struct exchange *x, json_t *text, bool last)
{
    char when[40];
    now_words(when);
    json_t *v = json_pack("{s:s,s:s,s:b}", "model", x->ask.shown, "created_at", when, "done", (int)last);
    if (is_chat(x))                            /* both take the text, whatever comes of it */
        json_object_set_new(v, "message", json_pack("{s:s,s:o}", "role", "assistant", "content", text));
    else json_object_set_new(v, "response", text);
    return v;
}

static json_int_t ns(double seconds) { return (json_int_t)(1e9 * seconds); }

static json_t *last_line(const struct exchange *x, json_t *text)
{
    const struct choice *c = &x->choices[0];
    json_t *v = line(x, text, true);
    json_t *more = json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "done_reason", words_finish(c->finish),
                             "total_duration", ns(clock_seconds() - x->began), "load_duration", ns(x->loading),
                             "queued_duration", ns(c->usage.queued), "prompt_eval_count", (json_int_t)c->usage.prompt,
                             "prompt_eval_duration", ns(c->usage.reading), "eval_count", (json_int_t)c->usage.written,
                             "eval_duration", ns(c->usage.writing));
    if (v && more) json_object_update(v, more);
    json_decref(more);
    return v;
}

static stretto_status text(struct exchange *x, struct choice *c, const struct job_event *e)
{
    (void)c;
    return e->n_text ? put_line(x, line(x, text_json(e->text, e->n_text), false)) : STRETTO_OK;
}

/* Beside the empty text. */
static void set_thought(const struct exchange *x, json_t *v, const char *p, size_t n)
{
    json_t *to = is_chat(x) ? json_object_get(v, "message") : v;
    if (to && n) json_object_set_new(to, "thinking", text_json(p, n));
}

static stretto_status thought(struct exchange *x, struct choice *c, const char *p, size_t n)
{
    (void)c;
    json_t *v = line(x, json_string(""), false);
    set_thought(x, v, p, n);
    return put_line(x, v);
}

static stretto_status done(struct exchange *x, struct choice *c)
{
    (void)c;
    return put_line(x, last_line(x, json_string("")));
}

static stretto_status end(struct exchange *x)
{
    (void)x;
    return STRETTO_OK;
}

static stretto_status failed(struct exchange *x, const struct trouble *t)
{
    return put_line(x, manner_ollama.error(x, t));
}

static json_t *whole(struct exchange *x)
{
    const struct buffer *b = &x->choices[0].text, *t = &x->choices[0].thought;
    json_t *v = last_line(x, text_json(b->data ? b->data : "", b->len));
    set_thought(x, v, t->data, t->len);
    return v;
}

/* While it waits, a stream of lines says a space, which stands before the next line. */
static const struct dialect dialect = {
    .kind = JOB_WRITE, .type = "application/x-ndjson", .ping = " ", .text = text, .thought = thought, .done = done,
    .end = end, .failed = failed, .whole = whole,
};

/* Without a text the model is to be loaded, which it is. */
static void loaded(struct exchange *x, bool chat)
{
    char when[40];
    now_words(when);
    json_t *v = json_pack("{s:s,s:s,s:b,s:s}", "model", x->ask.shown, "created_at", when, "done", 1,
                          "done_reason", "load");
    if (v && chat) json_object_set_new(v, "message", json_pack("{s:s,s:s}", "role", "assistant", "content", ""));
    else if (v) json_object_set_new(v, "response", json_string(""));
    exchange_reply(x, 200, v);
}

static void chat(struct exchange *x)
{
    if (!read_ask(x)) return;
    const json_t *list = json_object_get(x->json, "messages");
    if (list && !json_is_array(list))
        exchange_refuse(x, TROUBLE_INVALID, "messages", "messages must be a list, not %s", kind_words(list));
    else if (!json_array_size(list)) loaded(x, true);
    else if (read_messages(x, list)) exchange_run(x, &dialect);
}

static bool read_prompt(struct exchange *x, const json_t *prompt)
{
    struct ask *a = &x->ask;
    const char *p = json_string_value(prompt);
    size_t n = json_string_length(prompt);
    const json_t *told = json_object_get(x->json, "system");
    if (a->suffix && *a->suffix) return infill_prompt(x, p, n, a->suffix, strlen(a->suffix), NULL, 0);
    if (json_is_true(json_object_get(x->json, "raw")) || !a->model->chat)
        return words_prompts(x, "prompt", prompt, TOKENIZE_ADD | TOKENIZE_SPECIAL);
    if (json_string_length(told)
        && !ask_message(a, "system", json_string_value(told), json_string_length(told), &x->trouble))
        return false;
    return ask_message(a, "user", p, n, &x->trouble) && ask_render(a, NULL, &x->trouble);
}

static void generate(struct exchange *x)
{
    if (!read_ask(x)) return;
    const json_t *prompt = json_object_get(x->json, "prompt");
    if (prompt && !json_is_null(prompt) && !json_is_string(prompt))
        exchange_refuse(x, TROUBLE_INVALID, "prompt", "prompt must be a string, not %s", kind_words(prompt));
    else if (!json_string_length(prompt)) loaded(x, false);
    else if (read_prompt(x, prompt)) exchange_run(x, &dialect);
}

/* ---- vectors ----------------------------------------------------------------------------------- */

static stretto_status put_vector(struct exchange *x, size_t i)
{
    const struct choice *c = &x->choices[i];
    if (!c->vector) return STRETTO_E_NOMEM;
    return put_numbers(&x->reply_text, c->vector, c->n_vector);
}

static stretto_status put_vectors(struct exchange *x)
{
    struct buffer *b = &x->reply_text;
    const char *name = x->ask.shown;
    if (json_object_get(x->json, "prompt")) {          /* /api/embeddings, which was there before */
        TRY(buffer_str(b, "{\"embedding\":"));
        TRY(put_vector(x, 0));
        return buffer_append(b, "}", 1);
    }
    TRY(buffer_str(b, "{\"model\":"));
    TRY(put_string(b, name, strlen(name)));
    TRY(buffer_str(b, ",\"embeddings\":["));
    for (size_t i = 0; i < x->n_choices; i++) {
        if (i) TRY(buffer_append(b, ",", 1));
        TRY(put_vector(x, i));
    }
    return buffer_printf(b, "],\"total_duration\":%lld,\"load_duration\":%lld,\"prompt_eval_count\":%llu}",
                         (long long)ns(clock_seconds() - x->began), (long long)ns(x->loading),
                         (unsigned long long)exchange_usage(x).prompt);
}

static const struct dialect of_vectors = { .kind = JOB_EMBED, .put_whole = put_vectors };

static void embed(struct exchange *x)
{
    if (!exchange_object(x) || !read_fields(x, &embed_table)) return;
    json_t *input = json_object_get(x->json, "input");
    if (!input) input = json_object_get(x->json, "prompt");
    size_t width = x->ask.model->model->config.width;
    if (x->ask.dimensions && (size_t)x->ask.dimensions != width)
        exchange_refuse(x, TROUBLE_INVALID, "dimensions", "the vectors of %s have %zu dimensions and cannot be cut: "
                        "leave it out", x->ask.model->name, width);
    else if (words_prompts(x, "input", input, TOKENIZE_ADD)) {
        x->ask.stream = false;
        if (x->ask.each)
            exchange_refuse(x, TROUBLE_INVALID, NULL, "this server makes a vector for each token (--pooling none), "
                            "which /embeddings gives");
        else exchange_run(x, &of_vectors);
    }
}

/* ---- what there is ----------------------------------------------------------------------------- */

static void version(struct exchange *x) { exchange_reply(x, 200, json_pack("{s:s}", "version", "0.20.0")); }

static json_t *details(const struct served *m, stretto_model_info *i)
{
    char size[16];
    *i = m->about;
    if (i->parameters >= 950000000u) snprintf(size, sizeof size, "%.1fB", (double)i->parameters / 1e9);
    else if (i->parameters >= 950000u) snprintf(size, sizeof size, "%.0fM", (double)i->parameters / 1e6);
    else snprintf(size, sizeof size, "%.0fK", (double)i->parameters / 1e3);
    return json_pack("{s:s,s:s,s:s,s:[s],s:s,s:s}", "parent_model", "", "format", "gguf", "family", i->family,
                     "families", i->family, "parameter_size", size, "quantization_level", m->type);
}

static void since(const struct served *m, char out[40])
{
    struct tm tm;
    gmtime_r(&m->since, &tm);
    strftime(out, 40, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static bool ready(struct exchange *x)
{
    if (atomic_load(&server_models(x->server)->ready) == 1) return true;
    return exchange_refuse(x, TROUBLE_LOADING, NULL, "Loading model");
}

/* A model, or one of its adapters (-1: none). */
static json_t *listed(const struct served *m, int adapter, bool running)
{
    stretto_model_info about;
    char when[40], name[SERVED_SHOWN];
    json_t *d = details(m, &about);
    snprintf(name, sizeof name, "%s%s%s", m->name, adapter < 0 ? "" : ":", adapter < 0 ? "" : m->adapter[adapter].name);
    since(m, when);
    json_t *v = json_pack("{s:s,s:s,s:I,s:s,s:s,s:o}", "name", name, "model", name, "size",
                          (json_int_t)about.file_bytes, "digest", "", "modified_at", when, "details", d);
    if (v && running) {
        json_object_set_new(v, "expires_at", json_string("9999-12-31T23:59:59Z"));
        json_object_set_new(v, "size_vram", json_integer(0));
        json_object_set_new(v, "context_length", json_integer(m->context));
    }
    return v;
}

static void list_models(struct exchange *x, bool running)
{
    struct served_list *l = server_models(x->server);
    json_t *list = json_array();
    for (size_t i = 0; i < l->n; i++)
        for (int k = -1; k < (int)l->v[i].n_adapters; k++)
            if (k < 0 || *l->v[i].adapter[k].name) json_array_append_new(list, listed(&l->v[i], k, running));
    exchange_reply(x, 200, json_pack("{s:o}", "models", list));
}

static void tags(struct exchange *x)
{
    if (ready(x)) list_models(x, false);
}

static void ps(struct exchange *x)
{
    if (ready(x)) list_models(x, true);
}

static json_t *capabilities(const struct served *m)
{
    json_t *list = json_array();
    json_array_append_new(list, json_string(m->embeds ? "embedding" : "completion"));
    if (!m->embeds && infill_can(m)) json_array_append_new(list, json_string("insert"));
    return list;
}

static json_t *model_info(const struct served *m, const stretto_model_info *i)
{
    char key[64];
    json_t *v = json_pack("{s:s,s:I}", "general.architecture", i->family, "general.parameter_count",
                          (json_int_t)i->parameters);
    const struct { const char *name; uint32_t value; } more[] = {
        { "context_length", m->context }, { "embedding_length", i->width }, { "block_count", i->layers },
        { "attention.head_count", i->heads }, { "attention.head_count_kv", i->kv_heads },
        { "feed_forward_length", i->feed }, { "vocab_size", i->vocabulary },
    };
    for (size_t k = 0; v && k < sizeof more / sizeof *more; k++) {
        snprintf(key, sizeof key, "%s.%s", i->family, more[k].name);
        json_object_set_new(v, key, json_integer(more[k].value));
    }
    return v;
}

static void show(struct exchange *x)
{
    stretto_model_info about;
    char when[40];
    const char *p = "";
    size_t n = 0;
    if (!exchange_object(x)) return;
    const json_t *name = json_object_get(x->json, "model");
    if (!name) name = json_object_get(x->json, "name");
    if (!json_string_length(name)) {
        exchange_refuse(x, TROUBLE_INVALID, "model", "model must be the name of one: /api/tags lists them");
        return;
    }
    x->ask.model_name = json_string_value(name);
    drop_tag(x);
    if (!exchange_model(x)) return;
    const struct served *m = x->ask.model;
    if (!m->model->tokenizer || !tokenizer_chat_template(m->model->tokenizer, false, &p, &n)) n = 0;
    json_t *d = details(m, &about);
    since(m, when);
    exchange_reply(x, 200, json_pack("{s:s,s:s,s:s,s:o,s:o,s:o,s:o,s:s}", "license", "", "modelfile", "", "parameters",
                                     "", "template", text_json(p, n), "details", d, "model_info", model_info(m, &about),
                                     "capabilities", capabilities(m), "modified_at", when));
}

/* Models come from the command line alone: nothing is fetched, made or deleted for a client. */
static void fixed(struct exchange *x)
{
    exchange_refuse(x, TROUBLE_UNSUPPORTED, NULL, "models are named on the command line of the server (-m): no request "
                    "fetches, makes or deletes one");
}

static const struct route routes[] = {
    { "POST", "/api/chat", &manner_ollama, chat, 0 },
    { "POST", "/api/generate", &manner_ollama, generate, 0 },
    { "POST", "/api/embed", &manner_ollama, embed, 0 },
    { "POST", "/api/embeddings", &manner_ollama, embed, 0 },
    { "GET", "/api/tags", &manner_ollama, tags, ROUTE_OPEN },
    { "GET", "/api/ps", &manner_ollama, ps, ROUTE_OPEN },
    { "GET", "/api/version", &manner_ollama, version, ROUTE_OPEN | ROUTE_EARLY },
    { "POST", "/api/show", &manner_ollama, show, 0 },
    { "POST", "/api/pull", &manner_ollama, fixed, 0 },
    { "POST", "/api/push", &manner_ollama, fixed, 0 },
    { "POST", "/api/create", &manner_ollama, fixed, 0 },
    { "POST", "/api/copy", &manner_ollama, fixed, 0 },
    { "DELETE", "/api/delete", &manner_ollama, fixed, 0 },
};
const struct routes routes_ollama = ROUTES(routes);
