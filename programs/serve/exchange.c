#include "serve/exchange.h"
#include "base/blake2b.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/json_tree.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "serve/served.h"
#include "serve/server.h"
#include "serve/shelf.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { BODY_DEPTH = 64, BODY_VALUES = 4 << 20, OUT_MAX = 16 << 20, REPLY_MAX = 128 << 20, TEXT_MAX = 1 << 28,
       RUNNING_MOST = 32, HELD_LEAST = 64 << 20, HELD_BODIES = 16,
       SCALE_MOST = 1000 };            /* of an adapter that a request names */

/* ---- JSON out ---------------------------------------------------------------------------------- */

stretto_status put_string(struct buffer *b, const char *p, size_t n)
{
    static const char replacement[] = "\xef\xbf\xbd";
    TRY(buffer_append(b, "\"", 1));
    for (size_t i = 0, from = 0; i <= n;) {
        unsigned char c = i < n ? (unsigned char)p[i] : '"';
        size_t good = c >= 0x80 ? utf8_valid_run(p + i, n - i) : 0;
        if (good) {                    /* its letters: what follows them may need a backslash */
            while (good-- && (unsigned char)p[i] >= 0x80) i++;
            continue;
        }
        if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') { i++; continue; }
        if (i > from) TRY(buffer_append(b, p + from, i - from));
        size_t skip = 1;
        if (c >= 0x80) {
            skip = utf8_bad_run(p + i, n - i);
            TRY(buffer_str(b, replacement));
        } else if (i < n && (c == '"' || c == '\\')) TRY(buffer_printf(b, "\\%c", c));
        else if (i < n && c == '\n') TRY(buffer_append(b, "\\n", 2));
        else if (i < n) TRY(buffer_printf(b, "\\u%04x", c));
        i += skip ? skip : 1;
        from = i;
    }
    return buffer_append(b, "\"", 1);
}

stretto_status put_numbers(struct buffer *b, const float *v, size_t n)
{
    char text[40];
    TRY(buffer_append(b, "[", 1));
    for (size_t i = 0; i < n; i++) {
        snprintf(text, sizeof text, "%.9g", (double)v[i]);
        TRY(buffer_printf(b, "%s%s%s", i ? "," : "", text, strpbrk(text, ".e") ? "" : ".0"));
    }
    return buffer_append(b, "]", 1);
}

json_t *text_json(const char *p, size_t n)
{
    if (!n) return json_string("");
    if (utf8_valid_run(p, n) == n) return json_stringn_nocheck(p, n);
    struct buffer b = buffer_make(3 * n + 1);
    json_t *v = utf8_repair(&b, p, n) == STRETTO_OK ? json_stringn_nocheck(b.data, b.len) : NULL;
    if (!v) json_lost();
    buffer_done(&b);
    return v;
}

static json_t *whole_json(json_t *value);

struct printing { struct buffer *to; stretto_status status; };

/* jansson goes on behind a key that could not be printed. */
static int append(const char *p, size_t n, void *ud)
{
    struct printing *x = ud;
    if (x->status == STRETTO_OK) x->status = buffer_append(x->to, p, n);
    return x->status == STRETTO_OK ? 0 : -1;
}

stretto_status put_value(struct buffer *b, const json_t *value)
{
    struct printing out = { b, STRETTO_OK };
    bool whole = value && json_dump_callback(value, append, &out, JSON_COMPACT | JSON_REAL_PRECISION(12)
                                             | JSON_ENCODE_ANY) == 0 && out.status == STRETTO_OK;
    return whole ? STRETTO_OK : STRETTO_E_NOMEM;
}

/* Takes the value. */
static stretto_status put_json(struct exchange *x, json_t *value)
{
    value = whole_json(value);
    stretto_status s = put_value(&x->out, value);
    json_decref(value);
    return s;
}

stretto_status put_event(struct exchange *x, const char *event, json_t *value)
{
    stretto_status s = event ? buffer_printf(&x->out, "event: %s\n", event) : STRETTO_OK;
    if (s == STRETTO_OK) s = buffer_str(&x->out, "data: ");
    stretto_status put = put_json(x, value);
    if (s == STRETTO_OK) s = put;
    return s == STRETTO_OK ? buffer_str(&x->out, "\n\n") : s;
}

stretto_status put_line(struct exchange *x, json_t *value)
{
    TRY(put_json(x, value));
    return buffer_str(&x->out, "\n");
}

stretto_status put_member(struct exchange *x, const char *name, json_t *value)
{
    stretto_status s = buffer_printf(&x->out, ",\"%s\":", name), put = put_json(x, value);
    return s == STRETTO_OK ? put : s;
}

/* ---- want of memory in jansson ------------------------------------------------------------------ */

/* A list without one of its values looks whole: what was built while memory was out is not sent. */
static _Thread_local bool starved;

static void *json_memory(size_t n)
{
    void *p = mem_alloc(n);
    if (!p) starved = true;
    return p;
}

void json_lost(void) { starved = true; }
void exchange_setup(void) { json_set_alloc_funcs(json_memory, mem_free); }

/* Takes the value; NULL where it is not whole. */
static json_t *whole_json(json_t *value)
{
    if (!starved) return value;
    starved = false;
    json_decref(value);
    return NULL;
}

/* ---- replies ----------------------------------------------------------------------------------- */

bool exchange_refuse(struct exchange *x, enum trouble_kind kind, const char *param, const char *fmt, ...)
{
    char words[TROUBLE_TEXT];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    return trouble(&x->trouble, kind, param, "%s", words);
}

void exchange_reply(struct exchange *x, unsigned http, json_t *value)
{
    if (!(value = whole_json(value))) {
        trouble_status(&x->trouble, TROUBLE_BUSY, NULL, STRETTO_E_NOMEM, NULL);
        return;
    }
    json_decref(x->reply);
    x->reply = value;
    x->http = http;
}

void exchange_reply_text(struct exchange *x, unsigned http, const char *type)
{
    x->http = http;
    x->reply_type = type;
}

/* ---- memory for requests ----------------------------------------------------------------------- */

size_t exchange_hold_most(const struct exchange *x)
{
    size_t bodies = (size_t)server_options(x->server)->body << 20;
    return HELD_BODIES * bodies > HELD_LEAST ? HELD_BODIES * bodies : HELD_LEAST;
}

bool exchange_hold_refuse(struct exchange *x)
{
    return exchange_refuse(x, TROUBLE_BUSY, NULL, "the requests that are being read take all the memory there is for "
                           "them: try again later, or send a shorter one");
}

bool exchange_hold(struct exchange *x, size_t bytes)
{
    size_t all = server_hold(x->server, (ptrdiff_t)bytes);
    x->held += bytes;
    if (x->held <= EXCHANGE_SMALL || all <= exchange_hold_most(x)) return true;
    return exchange_hold_refuse(x);
}

void exchange_let_go(struct exchange *x, size_t bytes)
{
    server_hold(x->server, -(ptrdiff_t)bytes);
    x->held -= bytes;
}

/* ---- the body ---------------------------------------------------------------------------------- */

/* Files of models hold NaN and infinities, requests do not. */
static bool is_finite(const struct json *j)
{
    int64_t i;
    double f;
    return json_i64(j, &i) || !json_f64(j, &f) || isfinite(f);
}

/* Bytes of a value in memory, about: "{}," has 3 bytes here and 200 there. */
static size_t cost_of(const struct json *j, enum json_kind k)
{
    switch (k) {
    case JT_OBJECT: return 240;
    case JT_ARRAY: return 160;
    case JT_KEY: return 80 + j->n;
    case JT_STRING: return 64 + j->n;
    case JT_NUMBER: return 40;
    default: return 8;
    }
}

/* Whether it is JSON within all limits; *cost: what it takes as a tree. */
static stretto_status look_through(struct exchange *x, const char *p, size_t *cost, struct error *err)
{
    struct json j;
    size_t values = 0;
    json_open(&j, p, x->body.len, "the request", err);
    for (enum json_kind k = json_next(&j); k > JT_END; k = json_next(&j)) {
        *cost += cost_of(&j, k);
        if (j.depth > BODY_DEPTH) json_fail(&j, "nested deeper than %d", (int)BODY_DEPTH);
        else if (++values > BODY_VALUES) json_fail(&j, "more than %d values", (int)BODY_VALUES);
        else if (k == JT_NUMBER && !is_finite(&j)) json_fail(&j, "no finite number");
        else if (k == JT_KEY && memchr(j.p, '\0', j.n)) json_fail(&j, "a name holds the character U+0000");
    }
    stretto_status s = json_status(&j);
    json_done(&j);
    return s;
}

/* The same of a tree that is there. */
static size_t cost_of_tree(const json_t *v)
{
    size_t i, n;
    const char *name;
    json_t *one;
    if (json_is_string(v)) return 64 + json_string_length(v);
    if (json_is_number(v)) return 40;
    n = json_is_object(v) ? 240 : json_is_array(v) ? 160 : 8;
    json_object_foreach((json_t *)(uintptr_t)v, name, one) n += 80 + strlen(name) + cost_of_tree(one);
    json_array_foreach((json_t *)(uintptr_t)v, i, one) n += cost_of_tree(one);
    return n;
}

/* What became prompts is needed no more, however long the answer takes. */
static void drop_read(struct exchange *x)
{
    static const char *const names[] = { "messages", "input", "prompt", "content" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *v = json_object_get(x->json, names[i]);
        size_t cost = v ? cost_of_tree(v) : 0;
        if (cost > EXCHANGE_SMALL / 4 && json_object_set_new(x->json, names[i], json_null()) == 0)
            exchange_let_go(x, cost < x->held ? cost : x->held);
    }
}

bool exchange_object(struct exchange *x)
{
    if (!exchange_json(x)) return false;
    if (json_is_object(x->json)) return true;
    return exchange_refuse(x, TROUBLE_INVALID, NULL, "the request must be a JSON object, not %s",
                           kind_words(x->json));
}

bool exchange_json(struct exchange *x)
{
    struct error err = { 0 };
    size_t cost = 0, n = x->body.len;
    const char *p = x->body.data ? x->body.data : "";
    starved = false;
    stretto_status s = look_through(x, p, &cost, &err);
    if (s == STRETTO_OK && cost > exchange_hold_most(x) / 2)
        return exchange_refuse(x, TROUBLE_LARGE, NULL, "the values of this request take %zu MB, and %zu are the most "
                               "here: send several requests", cost >> 20, exchange_hold_most(x) >> 21);
    if (s == STRETTO_OK && !exchange_hold(x, cost)) return false;
    if (s == STRETTO_OK) s = json_tree(&x->json, p, n, JSON_TWICE_REFUSED, "the request", &err);
    buffer_done(&x->body);
    exchange_let_go(x, x->held < n ? x->held : n);
    return s == STRETTO_OK || trouble_status(&x->trouble, TROUBLE_INVALID, NULL, s, &err);
}

/* [{"id": 0, "scale": 0.5}]: what is not named weighs nothing, as in llama.cpp. */
bool exchange_weights(struct exchange *x, const char *name, const json_t *list, float *out)
{
    const struct served *m = x->ask.model;
    bool said[ASK_ADAPTERS] = { false };
    size_t i;
    json_t *one;
    for (i = 0; i < m->n_adapters; i++) out[i] = 0;
    if (!json_is_array(list))
        return exchange_refuse(x, TROUBLE_INVALID, name, "%s must be a list as in [{\"id\": 0, \"scale\": 0.5}], not "
                               "%s", name, kind_words(list));
    json_array_foreach((json_t *)(uintptr_t)list, i, one) {
        const json_t *id = json_object_get(one, "id"), *scale = json_object_get(one, "scale");
        if (!json_is_integer(id) || !json_is_number(scale))
            return exchange_refuse(x, TROUBLE_INVALID, name, "%s must be a list as in [{\"id\": 0, \"scale\": 0.5}]",
                                   name);
        if (!(fabs(json_number_value(scale)) <= SCALE_MOST))
            return exchange_refuse(x, TROUBLE_INVALID, name, "%s has the scale %g, and they are from -%d to %d", name,
                                   json_number_value(scale), (int)SCALE_MOST, (int)SCALE_MOST);
        if (json_integer_value(id) < 0 || json_integer_value(id) >= (json_int_t)m->n_adapters)
            return exchange_refuse(x, TROUBLE_INVALID, name, "the model %s has %zu adapter%s, and none has the id "
                                   "%lld: /lora-adapters lists them", m->name, m->n_adapters,
                                   m->n_adapters == 1 ? "" : "s", (long long)json_integer_value(id));
        if (said[json_integer_value(id)])
            return exchange_refuse(x, TROUBLE_INVALID, name, "%s names the adapter %lld twice", name,
                                   (long long)json_integer_value(id));
        said[json_integer_value(id)] = true;
        out[json_integer_value(id)] = (float)json_number_value(scale);
    }
    return true;
}

/* What the request says, or its model's name, or what is so for all. */
static bool choose_adapters(struct exchange *x)
{
    struct ask *a = &x->ask;
    if (json_array_size(a->lora)) return exchange_weights(x, "lora", a->lora, a->weights);
    if (a->adapter < 0) served_weights(server_models(x->server), a->model, a->weights);
    else
        for (size_t i = 0; i < a->model->n_adapters; i++)
            a->weights[i] = (int)i == a->adapter ? a->model->adapter[i].scale : 0;
    return true;
}

/* A text that becomes vectors has no answer and no guesses: an adapter of these does nothing to it, and is not asked
 * to. */
static bool choose_given(struct exchange *x)
{
    struct ask *a = &x->ask;
    for (size_t i = 0; i < a->model->n_adapters; i++) {
        const struct served_adapter *one = &a->model->adapter[i];
        if ((one->rows != ADAPTER_ANSWERS && one->rows != ADAPTER_GUESSES) || a->weights[i] == 0) continue;
        if (a->adapter >= 0 || json_array_size(a->lora))
            return exchange_refuse(x, TROUBLE_INVALID, a->adapter >= 0 ? "model" : "lora", "the adapter %zu (%s) acts "
                                   "on %s alone, and texts that become vectors have none: leave it out", i,
                                   *one->name ? one->name : "without a name", adapter_rows_word(one->rows));
        a->weights[i] = 0;
    }
    return true;
}

bool exchange_model(struct exchange *x)
{
    const char *name = x->ask.model_name ? x->ask.model_name : "";
    struct served_list *l = server_models(x->server);
    if (atomic_load(&l->ready) != 1)
        return exchange_refuse(x, TROUBLE_LOADING, NULL, "Loading model");
    const struct served *m = x->ask.model = served_find(l, name, strlen(name), &x->ask.adapter);
    if (m && x->ask.adapter >= 0)
        snprintf(x->ask.shown, sizeof x->ask.shown, "%s:%s", m->name, m->adapter[x->ask.adapter].name);
    else if (m) snprintf(x->ask.shown, sizeof x->ask.shown, "%s", m->name);
    if (m) return true;
    char all[400] = "";
    for (size_t i = 0; i < l->n; i++) {
        size_t n = strlen(all);
        snprintf(all + n, sizeof all - n, "%s%s", n ? ", " : "", l->v[i].name);
        for (size_t k = 0; k < l->v[i].n_adapters; k++) {
            n = strlen(all);
            if (*l->v[i].adapter[k].name)
                snprintf(all + n, sizeof all - n, ", %s:%s", l->v[i].name, l->v[i].adapter[k].name);
        }
    }
    return exchange_refuse(x, TROUBLE_NOT_FOUND, "model", "there is no model '%.100s' here: take one of %s", name, all);
}

bool exchange_strict(const struct exchange *x) { return server_options(x->server)->strict_api; }

/* Tools that are not to be called are as good as none, and are named among what did nothing. */
bool exchange_tools(struct exchange *x)
{
    if (!x->ask.tools) return true;
    if (!x->ask.tool_none && !server_options(x->server)->ignore_tools)
        return exchange_refuse(x, TROUBLE_UNSUPPORTED, "tools", "tools: tools cannot be called yet; leave tools out, "
                               "or send \"tool_choice\": \"none\", or start the server with --ignore-tools");
    buffer_printf(&x->ignored, "%stools", x->ignored.len ? ", " : "");
    return true;
}

bool exchange_fields(struct exchange *x, const struct field_table *const *tables, size_t n)
{
    const struct field_table *all[8];
    size_t count = 0;
    for (size_t i = 0; i < n && count < 4; i++) all[count++] = tables[i];
    all[count++] = &fields_job;
    all[count++] = &fields_sampling;
    all[count++] = &fields_llama;
    return fields_read(x->json, all, count, exchange_strict(x), &x->ask, &x->ignored, &x->trouble) && exchange_model(x)
           && exchange_tools(x) && (!x->ask.bias_words || field_bias_words(&x->ask, &x->trouble));
}

_Static_assert((int)ASK_ADAPTERS == (int)SERVED_ADAPTERS && 2 * (int)ASK_NAME >= (int)SERVED_SHOWN, "room for all");

/* ---- jobs -------------------------------------------------------------------------------------- */

uint64_t exchange_salt(const struct exchange *x)
{
    const char *word = x->ask.cache_key;
    unsigned char bits[sizeof x->salt];
    uint64_t salt;
    struct blake2b b;
    if (!word || !*word) return x->salt;
    blake2b_begin(&b, sizeof bits);
    blake2b_add(&b, &x->salt, sizeof x->salt);
    blake2b_add(&b, word, strlen(word));
    blake2b_end(&b, bits);
    memcpy(&salt, bits, sizeof salt);
    return salt;
}

static struct job_options options_of(const struct exchange *x, const struct choice *c, char client[160])
{
    const struct ask *a = &x->ask;
    if (a->user && !x->keyed) snprintf(client, 160, "%.72s/%.64s", x->client, a->user);
    else snprintf(client, 160, "%s", x->client);
    struct job_options o = {
        .kind = x->dialect->kind, .ids = a->prompts[c->prompt].id, .n_ids = (uint32_t)a->prompts[c->prompt].n,
        .how = ask_sampling(a, c->index % (uint32_t)a->n), .max_tokens = a->max_tokens, .stops = a->stops,
        .n_stops = a->n_stops, .ignore_end = a->ignore_end, .logprobs = (int32_t)a->logprobs, .drawn = a->drawn,
        .prompt_logprobs = a->echo && a->logprobs >= 0, .client = client, .salt = exchange_salt(x),
        .cache_exact = a->cache_exact, .no_cache = a->no_cache, .prediction = a->prediction.id,
        .n_prediction = (uint32_t)a->prediction.n, .priority = (int32_t)a->priority, .ud = (void *)(uintptr_t)c,
        .adapters = a->model->n_adapters ? a->weights : NULL, .n_adapters = (uint32_t)a->model->n_adapters,
        .place = (int32_t)a->place, .keep = a->keep, .path = a->path,
        .room = { shelf_take, shelf_done, server_shelf(x->server) }, .pooling = a->pooling, .each = a->each,
        .deadline = a->time_limit > 0 ? x->began + a->time_limit / 1e3 : 0 };
    return o;
}

static bool not_begun(struct exchange *x, const struct choice *c, stretto_status s, const struct job_busy *busy,
                      const struct error *err)
{
    struct trouble *t = &x->trouble;
    size_t n = x->ask.prompts[c->prompt].n;
    if (s == STRETTO_E_FULL && busy->context) {
        trouble(t, TROUBLE_CONTEXT, NULL, x->dialect->kind == JOB_EMBED
                ? "the input (%zu tokens) is too large: the model reads %u at once; send it in pieces"
                : "request (%zu tokens) exceeds the available context size (%u tokens), try increasing it", n,
                busy->context);
        t->n_prompt = (uint32_t)n;
        t->n_context = busy->context;
        return false;
    }
    if (s == STRETTO_E_FULL && busy->late)
        return trouble(t, TROUBLE_LATE, "t_max_predict_ms", "the time for this request is over before it begins: give "
                       "it more");
    if (s == STRETTO_E_FULL) {
        double wait = busy->retry_after > 1 ? busy->retry_after : 1;
        trouble(t, TROUBLE_BUSY, NULL, "too many requests wait already: try again in %.0f second%s", wait,
                wait < 1.5 ? "" : "s");
        t->retry_after = wait;
        return false;
    }
    if (s == STRETTO_E_DEVICE)
        return trouble(t, TROUBLE_DRAINING, NULL, "the server is shutting down: %s", err->text[0] ? err->text : "");
    return trouble_status(t, s == STRETTO_E_ARG || s == STRETTO_E_UNSUP ? TROUBLE_INVALID : TROUBLE_FAILED, NULL, s,
                          err);
}

static void stop_waiting(struct exchange *x)
{
    if (!x->waits) return;
    served_wait(server_models(x->server), -1);
    x->loading = clock_seconds() - x->loading;
    x->waits = false;
}

/* The model's service; where its weights are not here, the exchange waits and is true all the same, unless they
 * could not be loaded. */
static bool hold_service(struct exchange *x)
{
    struct served_list *l = server_models(x->server);
    uint32_t failures;
    if (x->service) return true;
    if ((x->service = served_use(l, x->ask.model, &failures))) {
        stop_waiting(x);
        return true;
    }
    if (server_draining(x->server))
        return exchange_refuse(x, TROUBLE_DRAINING, NULL, "the server is shutting down: ask again later");
    if (x->waits && failures != x->failures)
        return exchange_refuse(x, TROUBLE_BUSY, "model", "the weights of the model %s could not be loaded now, as the "
                               "server's log says: try again later, or take another model", x->ask.model->name);
    if (x->ask.time_limit > 0 && clock_seconds() > x->began + x->ask.time_limit / 1e3)
        return exchange_refuse(x, TROUBLE_LATE, "t_max_predict_ms", "the time for this request was over before the "
                               "weights of the model %s were here: give it more", x->ask.model->name);
    if (!x->waits) served_wait(l, 1);
    if (!x->waits) x->failures = failures;
    if (!x->waits) x->loading = clock_seconds();
    x->waits = x->waited = true;
    return true;
}

/* Begins jobs as far as there is room; those that find the queue full wait for the exchange's others. */
static bool begin_more(struct exchange *x)
{
    char client[160];
    if (!hold_service(x)) return false;
    if (!x->service) return true;
    while (x->n_begun < x->n_choices && x->n_running < RUNNING_MOST) {
        struct choice *c = &x->choices[x->n_begun];
        struct error err = { 0 };
        struct job_busy busy = { 0 };
        struct job_options o = options_of(x, c, client);
        if (!o.n_ids && o.kind != JOB_KEEP)
            return exchange_refuse(x, TROUBLE_INVALID, NULL, "the prompt is empty, and the model adds no token of its "
                                   "own: send some text");
        stretto_status s = service_submit(x->service, &o, &c->job, &busy, &err);
        if (s == STRETTO_E_FULL && !busy.context && x->n_running) return true;
        if (s != STRETTO_OK) return not_begun(x, c, s, &busy, &err);
        c->begun = true;
        x->n_begun++;
        x->n_running++;
    }
    return true;
}

/* Vectors of a request are there together, as numbers and as text, until the last one is sent. */
static bool hold_vectors(struct exchange *x)
{
    enum { A_NUMBER = sizeof(float) + 2 * 16 };
    const struct ask *a = &x->ask;
    size_t half = exchange_hold_most(x) / 2, most = half < 2 * (size_t)REPLY_MAX ? half : 2 * (size_t)REPLY_MAX;
    size_t vectors = 0;
    for (size_t i = 0; i < a->n_prompts; i++) vectors += a->each ? a->prompts[i].n : 1;
    size_t numbers = vectors * a->model->model->config.width;
    if (numbers <= most / A_NUMBER) return exchange_hold(x, numbers * A_NUMBER);
    return exchange_refuse(x, TROUBLE_INVALID, "input", "the answer would be %zu vectors of %u numbers, and %zu such "
                           "vectors are the most here: send fewer or shorter texts", vectors,
                           a->model->model->config.width, most / A_NUMBER / a->model->model->config.width);
}

bool exchange_run(struct exchange *x, const struct dialect *d)
{
    struct ask *a = &x->ask;
    size_t n = a->n_prompts * (size_t)a->n;
    if (n > ASK_JOBS)
        return exchange_refuse(x, TROUBLE_INVALID, NULL, "%zu answers are asked for at once, and %d are the most", n,
                               (int)ASK_JOBS);
    if (d->kind == JOB_EMBED ? !hold_vectors(x) : !ask_writes(a, &x->trouble)) return false;
    if (!choose_adapters(x) || (d->kind == JOB_EMBED && !choose_given(x))) return false;
    x->dialect = d;
    if (!(x->choices = mem_zalloc(n ? n : 1, sizeof *x->choices)))
        return trouble_status(&x->trouble, TROUBLE_BUSY, NULL, STRETTO_E_NOMEM, NULL);
    x->n_choices = n;
    for (size_t i = 0; i < n; i++)
        x->choices[i] = (struct choice){ .exchange = x, .index = (uint32_t)i, .prompt = (uint32_t)(i / (size_t)a->n),
                                         .text = buffer_make(TEXT_MAX), .thought = buffer_make(TEXT_MAX), .stop = "" };
    for (size_t i = 0; i < n && d->thought && a->think_close; i++)
        thoughts_begin(&x->choices[i].thoughts, a->think_open, a->think_close, a->think_inside);
    ask_seed(a);
    ask_drop_words(a);
    drop_read(x);
    x->streams_out = a->stream;
    if (!begin_more(x)) {
        exchange_cancel(x);
        return false;
    }
    x->state = a->stream ? EXCHANGE_STREAMING : EXCHANGE_WAITING;
    if (a->stream && d->begin && d->begin(x) != STRETTO_OK)
        return trouble_status(&x->trouble, TROUBLE_BUSY, NULL, STRETTO_E_NOMEM, NULL);
    return true;
}

/* ---- what jobs say ----------------------------------------------------------------------------- */

/* What has no room beside other requests ends this one (x->trouble). */
static stretto_status keep_tokens(struct exchange *x, struct job_token **list, size_t *n, size_t *cap,
                                  const struct job_event *e, size_t at)
{
    enum { A_WORD = 250 };             /* bytes of a token with its log probability as JSON, about */
    if (*n + e->n_ids > *cap) {
        size_t more = 2 * (*n + e->n_ids) + 16, top = x->ask.logprobs > 0 ? (size_t)x->ask.logprobs : 0;
        if (!exchange_hold(x, (more - *cap) * (sizeof **list + (1 + top) * A_WORD))) return STRETTO_OK;
        struct job_token *tokens = mem_resize(*list, more * sizeof *tokens);
        if (!tokens) return STRETTO_E_NOMEM;
        *list = tokens;
        *cap = more;
    }
    for (uint32_t i = 0; i < e->n_ids; i++) {
        (*list)[*n] = e->tokens[i];
        (*list)[(*n)++].text += (uint32_t)at;
    }
    return STRETTO_OK;
}

static stretto_status keep_text(struct exchange *x, struct choice *c, const struct job_event *e)
{
    size_t at = c->text.len;
    TRY(buffer_append(&c->text, e->text ? e->text : "", e->n_text));
    if (x->ask.tokens) {
        if (c->n_ids + e->n_ids > c->cap_ids) {
            size_t cap = 2 * (c->n_ids + e->n_ids) + 16;
            int32_t *ids = mem_resize(c->ids, cap * sizeof *ids);
            if (!ids) return STRETTO_E_NOMEM;
            c->ids = ids;
            c->cap_ids = cap;
        }
        if (e->n_ids) memcpy(c->ids + c->n_ids, e->ids, e->n_ids * sizeof *c->ids);
        c->n_ids += e->n_ids;
    }
    if (!e->tokens || !e->n_ids) return STRETTO_OK;
    return keep_tokens(x, &c->tokens, &c->n_tokens, &c->cap_tokens, e, at);
}

static stretto_status hand_on(struct exchange *x, struct choice *c, const struct job_event *e)
{
    return x->streams_out ? x->dialect->text(x, c, e) : keep_text(x, c, e);
}

/* What was taken apart goes on: thoughts to their place, the rest as the event would have. */
static stretto_status hand_apart(struct exchange *x, struct choice *c, const struct job_event *e)
{
    struct job_event rest = *e;
    rest.text = x->said.data;
    rest.n_text = x->said.len;
    if (x->thinking.len && x->streams_out)
        TRY(x->dialect->thought(x, c, x->thinking.data, x->thinking.len));
    if (x->thinking.len) TRY(buffer_append(&c->thought, x->thinking.data, x->thinking.len));
    if (!rest.n_text) c->n_thought += e->n_ids;
    return rest.n_text || e->tokens || !x->streams_out ? hand_on(x, c, &rest) : STRETTO_OK;
}

static stretto_status take_text(struct exchange *x, struct choice *c, const struct job_event *e)
{
    stretto_status s;
    if (c->thoughts.close) {
        buffer_clear(&x->thinking);
        buffer_clear(&x->said);
        s = thoughts_take(&c->thoughts, e->text ? e->text : "", e->n_text, &x->thinking, &x->said);
        if (s == STRETTO_OK) s = hand_apart(x, c, e);
    } else
        s = hand_on(x, c, e);
    if (!(c->first > 0)) c->first = clock_seconds();
    if (!x->first_byte) x->first_byte = c->first;
    c->n_text += e->n_text;
    c->new_line = c->new_line || (e->n_text && memchr(e->text, '\n', e->n_text));
    c->n_written += e->n_ids;
    return s;
}

static stretto_status end_thoughts(struct exchange *x, struct choice *c)
{
    const struct job_event nothing = { .kind = JOB_TEXT };
    if (!c->thoughts.close) return STRETTO_OK;
    buffer_clear(&x->thinking);
    buffer_clear(&x->said);
    TRY(thoughts_end(&c->thoughts, &x->thinking, &x->said));
    return x->thinking.len || x->said.len ? hand_apart(x, c, &nothing) : STRETTO_OK;
}

static stretto_status take_done(struct exchange *x, struct choice *c, const struct job_event *e)
{
    TRY(end_thoughts(x, c));
    c->done = true;
    c->finish = e->finish;
    c->usage = e->usage;
    for (uint32_t i = 0; e->stop && i < x->ask.n_stops; i++)
        if (strcmp(e->stop, x->ask.stops[i]) == 0) c->stop = x->ask.stops[i];
    x->n_done++;
    x->n_running--;
    if (e->vector) {
        size_t bytes = e->n_vector * sizeof *c->vector;
        if (!(c->vector = mem_alloc(bytes))) return STRETTO_E_NOMEM;
        memcpy(c->vector, e->vector, bytes);
        c->n_vector = e->n_vector;
    }
    if (e->finish == JOB_FAILED && e->error.status == STRETTO_E_NAN && json_array_size(x->ask.lora))
        trouble(&x->trouble, TROUBLE_INVALID, "lora", "with these scales of adapters the model's numbers overflow: "
                "take smaller ones");
    else if (e->finish == JOB_FAILED)
        trouble_status(&x->trouble, x->dialect->kind != JOB_KEEP ? TROUBLE_FAILED
                       : e->error.status == STRETTO_E_FULL ? TROUBLE_BUSY : TROUBLE_INVALID, NULL,
                       e->error.status ? e->error.status : STRETTO_E_NAN, &e->error);
    else if (e->finish == JOB_CANCELLED && !x->gone && !server_draining(x->server))
        trouble(&x->trouble, TROUBLE_SLOW, NULL, "nobody read this answer for too long, and it was cut: read faster");
    else if (e->finish == JOB_CANCELLED && !x->gone)
        trouble(&x->trouble, TROUBLE_DRAINING, NULL, "the server is shutting down, and this answer was cut: ask again");
    else if (e->finish == JOB_DEADLINE && !x->streams_out && !c->n_written)
        trouble(&x->trouble, TROUBLE_LATE, "t_max_predict_ms", "the time for this request was over before its first "
                "token: give it more");
    job_close(c->job);
    c->job = NULL;
    return x->streams_out && x->trouble.kind == TROUBLE_NONE ? x->dialect->done(x, c) : STRETTO_OK;
}

static stretto_status take(struct exchange *x, struct choice *c, const struct job_event *e)
{
    const struct dialect *d = x->dialect;
    if (e->kind == JOB_STARTED || e->kind == JOB_PROGRESS) {
        c->n_cached = e->cached;
        c->queued = e->queued;
        c->reading = e->reading;
    }
    switch (e->kind) {
    case JOB_STARTED:
        c->started = true;
        if (x->streams_out && d->started) TRY(d->started(x, c));
        return x->streams_out && x->ask.progress && d->progress ? d->progress(x, c, e) : STRETTO_OK;
    case JOB_PROGRESS:
        return x->streams_out && x->ask.progress && d->progress ? d->progress(x, c, e) : STRETTO_OK;
    case JOB_TEXT: return take_text(x, c, e);
    case JOB_SCORED: return keep_tokens(x, &c->scored, &c->n_scored, &c->cap_scored, e, 0);
    case JOB_DONE: return take_done(x, c, e);
    }
    return STRETTO_OK;
}

static void reply_whole(struct exchange *x)
{
    stretto_status s;
    if (!x->dialect->put_whole) exchange_reply(x, 200, x->dialect->whole(x));
    else if ((s = x->dialect->put_whole(x)) == STRETTO_OK)
        exchange_reply_text(x, 200, "application/json; charset=utf-8");
    else trouble_status(&x->trouble, TROUBLE_FAILED, NULL, s == STRETTO_E_FULL ? STRETTO_E_NOMEM : s, NULL);
}

static void end(struct exchange *x)
{
    x->ended_at = clock_seconds();
    x->ended = true;
    if (!x->streams_out) {
        x->state = EXCHANGE_ENDED;
        if (x->trouble.kind == TROUBLE_NONE) reply_whole(x);
        return;
    }
    stretto_status s = STRETTO_OK;
    if (x->trouble.kind == TROUBLE_NONE) s = x->dialect->end(x);
    else {
        x->cut = true;
        s = x->dialect->failed(x, &x->trouble);
    }
    if (s != STRETTO_OK) x->cut = true;
}

static void fail_all(struct exchange *x, stretto_status s)
{
    if (s != STRETTO_OK) trouble_status(&x->trouble, TROUBLE_FAILED, NULL, s, NULL);
    exchange_cancel(x);
}

bool exchange_pump(struct exchange *x)
{
    if ((x->state != EXCHANGE_WAITING && x->state != EXCHANGE_STREAMING) || x->ended) return x->ended;
    starved = false;
    stretto_status s = STRETTO_OK;
    for (size_t i = 0; i < x->n_begun && s == STRETTO_OK; i++) {
        struct choice *c = &x->choices[i];
        struct job_event e = { 0 };
        while (s == STRETTO_OK && c->job && x->out.len - x->out_at < EXCHANGE_OUT && job_read(c->job, &e))
            s = take(x, c, &e);
    }
    if (s == STRETTO_OK && x->trouble.kind == TROUBLE_NONE && !x->gone) begin_more(x);
    if (s != STRETTO_OK || x->trouble.kind != TROUBLE_NONE) fail_all(x, s);
    if (x->n_done == x->n_choices || s != STRETTO_OK || x->trouble.kind != TROUBLE_NONE) end(x);
    return x->ended || x->out.len > x->out_at;
}

void exchange_cancel(struct exchange *x)
{
    for (size_t i = 0; i < x->n_choices; i++)
        if (x->choices[i].job) job_cancel(x->choices[i].job);
}

struct job_usage exchange_usage(const struct exchange *x)
{
    struct job_usage u = { 0 };
    if (x->n_choices) u.missed = x->choices[0].usage.missed;
    for (size_t i = 0; i < x->n_choices; i++) {
        const struct choice *c = &x->choices[i];
        if (i % (size_t)x->ask.n == 0) {
            u.prompt += c->usage.prompt;
            u.cached += c->usage.cached;
            u.cached_written += c->usage.cached_written;
        }
        u.written += c->usage.written;
        u.steps += c->usage.steps;
        u.guesses += c->usage.guesses;
        u.accepted += c->usage.accepted;
        if (c->usage.queued > u.queued) u.queued = c->usage.queued;
        if (c->usage.reading > u.reading) u.reading = c->usage.reading;
        if (c->usage.writing > u.writing) u.writing = c->usage.writing;
    }
    return u;
}

/* ---- open, close ------------------------------------------------------------------------------- */

struct exchange *exchange_open(struct server *s, struct wire *w)
{
    struct exchange *x = mem_zalloc(1, sizeof *x);
    starved = false;
    if (!x) return NULL;
    const struct serve_options *o = server_options(s);
    x->server = s;
    x->wire = w;
    x->began = clock_seconds();
    x->created = time(NULL);
    x->body = buffer_make(((size_t)o->body << 20) + 1);
    x->ignored = buffer_make(4096);
    x->out = buffer_make(OUT_MAX);
    x->head = buffer_make(1 << 16);
    x->scratch = buffer_make(OUT_MAX);
    x->thinking = buffer_make(OUT_MAX);
    x->said = buffer_make(OUT_MAX);
    x->reply_text = buffer_make(REPLY_MAX);
    ask_init(&x->ask, o);
    return x;
}

void exchange_close(struct exchange *x)
{
    for (size_t i = 0; i < x->n_choices; i++) {
        struct choice *c = &x->choices[i];
        if (c->job) job_close(c->job);
        buffer_done(&c->text);
        buffer_done(&c->thought);
        mem_free(c->tokens);
        mem_free(c->scored);
        mem_free(c->ids);
        mem_free(c->vector);
    }
    mem_free(x->choices);
    stop_waiting(x);
    if (x->service) served_let_go(server_models(x->server), x->ask.model);
    ask_done(&x->ask);
    json_decref(x->json);
    json_decref(x->reply);
    buffer_done(&x->body);
    buffer_done(&x->ignored);
    buffer_done(&x->out);
    buffer_done(&x->head);
    buffer_done(&x->scratch);
    buffer_done(&x->thinking);
    buffer_done(&x->said);
    buffer_done(&x->reply_text);
    trouble_done(&x->trouble);
    mem_free(x->policy);
    exchange_let_go(x, x->held);
    mem_free(x);
}
