/* What the server is doing: /health, /props, /slots, /metrics. Answers come from what each service's last step
 * left, so they never wait for a model. */
#include "base/clock.h"
#include "base/memory.h"
#include "serve/infill.h"
#include "serve/route.h"
#include "serve/served.h"
#include "serve/server.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void health(struct exchange *x)
{
    struct served_list *l = server_models(x->server);
    if (server_draining(x->server)) {
        exchange_refuse(x, TROUBLE_DRAINING, NULL, "draining");
        return;
    }
    if (atomic_load(&l->ready) != 1) {
        exchange_refuse(x, TROUBLE_LOADING, NULL, "Loading model");
        return;
    }
    uint32_t running = 0, waiting = 0, slots = 0;
    double at = 0;
    for (size_t i = 0; i < l->n; i++) {
        struct service_state s;
        served_look(l, &l->v[i], &s, NULL, 0);
        running += s.running;
        waiting += s.waiting;
        slots += s.slots;
        if (s.at > at) at = s.at;
    }
    exchange_reply(x, 200, json_pack("{s:s,s:I,s:I,s:I,s:f}", "status", "ok", "slots_idle",
                                     (json_int_t)slots - running, "slots_processing", (json_int_t)running, "waiting",
                                     (json_int_t)waiting, "last_step_seconds_ago",
                                     at > 0 ? clock_seconds() - at : 0.0));
}

static json_t *sampling_json(const struct serve_options *o)
{
    const struct sampling_options *s = &o->sampling;
    return json_pack("{s:f,s:I,s:f,s:f,s:f,s:f,s:f,s:I,s:I}", "temperature", s->temp, "top_k", (json_int_t)s->top_k,
                     "top_p", s->top_p, "min_p", s->min_p, "repeat_penalty", s->repeat_penalty, "presence_penalty",
                     s->presence_penalty, "frequency_penalty", s->frequency_penalty, "repeat_last_n",
                     (json_int_t)s->repeat_last_n, "seed", (json_int_t)s->seed);
}

static json_t *spelled(const struct served *m, int32_t id)
{
    size_t n = 0;
    const char *p = id >= 0 ? tokenizer_spelling(m->model->tokenizer, id, &n) : NULL;
    return text_json(p ? p : "", p ? n : 0);
}

static bool away(struct exchange *x, const struct served *m)
{
    struct service_state s;
    enum served_at at = served_look(server_models(x->server), m, &s, NULL, 0);
    return at != SERVED_HERE && at != SERVED_LEAVING;
}

static void props(struct exchange *x)
{
    const char *name = exchange_query(x, "model"), *p = "";
    struct serve_options const *o = server_options(x->server);
    size_t n = 0;
    x->ask.model_name = name;
    if (!exchange_model(x)) return;
    const struct served *m = x->ask.model;
    const struct tokenizer *t = m->model->tokenizer;
    if (!t || !tokenizer_chat_template(t, false, &p, &n)) n = 0;
    exchange_reply(x, 200, json_pack("{s:{s:o,s:I},s:I,s:s,s:s,s:o,s:o,s:o,s:{s:b,s:b},s:s,s:b,s:b,s:b,s:b}",
        "default_generation_settings", "params", sampling_json(o), "n_ctx", (json_int_t)m->context, "total_slots",
        (json_int_t)m->slots, "model_alias", m->name, "model_path", m->path ? strrchr(m->path, '/')
        ? strrchr(m->path, '/') + 1 : m->path : "", "chat_template", text_json(p, n), "bos_token",
        t ? spelled(m, tokenizer_bos(t)) : json_string(""), "eos_token",
        t ? spelled(m, tokenizer_eos(t)) : json_string(""), "modalities", "vision", 0, "audio", 0, "build_info",
        "stretto " STRETTO_VERSION, "is_sleeping", (int)away(x, m), "infill", (int)infill_can(m),
        "embedding", (int)m->embeds, "chat", (int)(m->chat != NULL)));
}

static json_t *slot_json(const struct served *m, const struct service_slot *s, size_t i)
{
    return json_pack("{s:i,s:s,s:I,s:b,s:I,s:I,s:I,s:I,s:s}", "id", (int)i, "model", m->name, "n_ctx",
                     (json_int_t)m->context, "is_processing", (int)s->busy, "id_task", (json_int_t)s->job, "n_prompt",
                     (json_int_t)s->prompt, "n_read", (json_int_t)s->read, "n_decoded", (json_int_t)s->written,
                     "client", s->client);
}

static void slots(struct exchange *x)
{
    struct served_list *l = server_models(x->server);
    json_t *out = json_array();
    if (server_options(x->server)->no_slots) {
        json_decref(out);
        exchange_refuse(x, TROUBLE_UNSUPPORTED, NULL, "this server does not tell (--no-slots)");
        return;
    }
    for (size_t i = 0; i < l->n; i++) {
        const struct served *m = &l->v[i];
        struct service_slot *v = mem_zalloc(m->slots, sizeof *v);
        struct service_state s = { 0 };
        if (v) served_look(l, m, &s, v, m->slots);
        else json_lost();
        for (uint32_t k = 0; v && k < m->slots; k++) json_array_append_new(out, slot_json(m, &v[k], k));
        mem_free(v);
    }
    exchange_reply(x, 200, out);
}

/* ---- texts that are put aside ---------------------------------------------------------------------- */

static json_t *told_kept(struct exchange *x)
{
    static const char *const counts[] = { "n_saved", "n_restored", "n_erased" };
    static const char *const bytes[] = { "n_written", "n_read", NULL };
    static const char *const times[] = { "save_ms", "restore_ms", NULL };
    const struct job_usage *u = &x->choices[0].usage;
    enum job_keep what = x->ask.keep;
    json_t *v = json_pack("{s:I,s:I}", "id_slot", (json_int_t)x->ask.place, counts[what], (json_int_t)u->prompt);
    if (!v || what == KEEP_ERASE) return v;
    json_object_set(v, "filename", json_object_get(x->json, "filename"));
    json_object_set_new(v, bytes[what], json_integer((json_int_t)u->bytes));
    json_object_set_new(v, "timings", json_pack("{s:f}", times[what], 1e3 * u->reading));
    return v;
}

static const struct dialect of_kept = { .kind = JOB_KEEP, .whole = told_kept };

/* What files of keys and salts begin with. */
static bool begins_as_salted(const char *name)
{
    return strspn(name, "0123456789abcdef") >= 16 && name[16] == '-';
}

/* A name and no way: no folders, nothing hidden. Every key and cache_salt has names of its own. */
static bool file_name(struct exchange *x)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    const json_t *v = json_object_get(x->json, "filename");
    const char *name = json_string_value(v);
    const char *folder = server_options(x->server)->slots;
    uint64_t salt = exchange_salt(x);
    size_t n = json_string_length(v);          /* a zero in it is no letter either */
    if (!n || n > 64 || *name == '.' || strspn(name, letters) != n || (n > 5 && strcmp(name + n - 5, ".part") == 0)
        || (!salt && begins_as_salted(name)))
        return exchange_refuse(x, TROUBLE_INVALID, "filename", "filename must be a name of at most 64 letters, digits, "
                               "'.', '_' and '-', not with a '.' in front");
    size_t cap = strlen(folder) + n + 24;
    if (!(x->ask.path = mem_alloc(cap))) return trouble_status(&x->trouble, TROUBLE_BUSY, NULL, STRETTO_E_NOMEM, NULL);
    if (salt) snprintf(x->ask.path, cap, "%s/%016llx-%s", folder, (unsigned long long)salt, name);
    else snprintf(x->ask.path, cap, "%s/%s", folder, name);
    return true;
}

#define AT(member) offsetof(struct ask, member)
static const struct field kept_rows[] = {
    { "filename", FIELD_ANY, FIELD_LATER, 0, 0, 0, NULL, NULL },
    { "model", FIELD_TEXT, FIELD_READ, AT(model_name), 0, 0, NULL, NULL },
    { "cache_salt", FIELD_TEXT, FIELD_READ, AT(cache_key), 0, 0, NULL, NULL },
    { "prompt_cache_key", FIELD_TEXT, FIELD_READ, AT(cache_key), 0, 0, NULL, NULL },
    { "lora", FIELD_ARRAY, FIELD_READ, AT(lora), 0, 0, NULL, NULL },
};
#undef AT
static const struct field_table kept_table = FIELD_TABLE(kept_rows);

static bool is_kept(struct exchange *x)
{
    if (access(x->ask.path, F_OK) == 0 || errno != ENOENT) return true;
    return exchange_refuse(x, TROUBLE_INVALID, "filename", "no text called '%s' was saved here with this key and "
                           "cache_salt", json_string_value(json_object_get(x->json, "filename")));
}

/* A body, if there is one, and the model. */
static bool kept_fields(struct exchange *x)
{
    static const struct field_table *const tables[] = { &kept_table };
    if (x->body.len && (!exchange_object(x) || !fields_read(x->json, tables, 1, exchange_strict(x), &x->ask,
                                                            &x->ignored, &x->trouble)))
        return false;
    return exchange_model(x);
}

static void keep(struct exchange *x)
{
    static const char *const actions[] = { "save", "restore", "erase" };
    const char *action = exchange_query(x, "action");
    char *end;
    long place = strtol(x->rest, &end, 10);
    int what = 0;
    while (what < 3 && (!action || strcmp(action, actions[what]) != 0)) what++;
    if (!server_options(x->server)->slots)
        exchange_refuse(x, TROUBLE_UNSUPPORTED, NULL, "texts are not saved here: start the server with "
                        "--slot-save-path DIR");
    else if (what == 3)
        exchange_refuse(x, TROUBLE_INVALID, "action", "the action must be save, restore or erase, as in "
                        "/slots/0?action=save");
    else if (*end || end == x->rest || place < 0 || place > INT32_MAX)
        exchange_refuse(x, TROUBLE_INVALID, NULL, "a slot is called by its number, not '%.40s'", x->rest);
    else {
        x->ask.place = place;
        x->ask.keep = (enum job_keep)what;
        if (kept_fields(x) && (what == KEEP_ERASE || file_name(x)) && (what != KEEP_LOAD || is_kept(x))
            && ask_prompts(&x->ask, 1, &x->trouble))
            exchange_run(x, &of_kept);
    }
}

/* ---- Prometheus -------------------------------------------------------------------------------- */

/* Names as dashboards of llama.cpp and vLLM know them; a row for each. */
enum shape { COUNTER, GAUGE };
struct figure { const char *name, *help; enum shape shape; double (*value)(const struct service_state *s); };

#define VALUE(name, expression) static double name(const struct service_state *s) { return (double)(expression); }
VALUE(prompt_tokens, s->prompt_tokens)
VALUE(prompt_seconds, s->prompt_seconds)
VALUE(written_tokens, s->written_tokens)
VALUE(write_seconds, s->write_seconds)
VALUE(steps, s->steps)
VALUE(prompt_rate, s->prompt_seconds > 0 ? (double)s->prompt_tokens / s->prompt_seconds : 0)
VALUE(write_rate, s->write_seconds > 0 ? (double)s->written_tokens / s->write_seconds : 0)
VALUE(running, s->running)
VALUE(waiting, s->waiting)
VALUE(guesses, s->guesses)
VALUE(accepted, s->accepted)
VALUE(cached, s->cached_tokens)
VALUE(queries, s->prompt_tokens + s->cached_tokens)
VALUE(jobs, s->jobs)
VALUE(preempted, s->preempted)
VALUE(yielded, s->yielded)
VALUE(evicted, s->evicted)
VALUE(cancelled, s->cancelled)
VALUE(used, s->pages ? (double)s->pages_used / s->pages : 0)
VALUE(kept, s->pages_kept)
VALUE(waits, s->wait)
VALUE(waiting_tokens, s->waiting_tokens)
VALUE(drafts, s->drafts)
VALUE(longest, s->longest)
VALUE(busy, s->steps ? (double)s->busy / (double)s->steps : 0)
VALUE(silence, s->at > 0 ? clock_seconds() - s->at : 0)
#undef VALUE

static const struct figure rows[] = {
    { "llamacpp:prompt_tokens_total", "Tokens of prompts that were read.", COUNTER, prompt_tokens },
    { "llamacpp:prompt_tokens_cached_total", "Tokens of prompts that were known.", COUNTER, cached },
    { "llamacpp:prompt_seconds_total", "Seconds of reading.", COUNTER, prompt_seconds },
    { "llamacpp:tokens_predicted_total", "Tokens that were written.", COUNTER, written_tokens },
    { "llamacpp:tokens_predicted_seconds_total", "Seconds of writing.", COUNTER, write_seconds },
    { "llamacpp:n_decode_total", "Steps of the engine.", COUNTER, steps },
    { "llamacpp:prompt_tokens_seconds", "Tokens read per second.", GAUGE, prompt_rate },
    { "llamacpp:predicted_tokens_seconds", "Tokens written per second.", GAUGE, write_rate },
    { "llamacpp:requests_processing", "Requests that are answered.", GAUGE, running },
    { "llamacpp:requests_deferred", "Requests that wait.", GAUGE, waiting },
    { "llamacpp:spec_decode_num_draft_tokens_total", "Guesses.", COUNTER, guesses },
    { "llamacpp:spec_decode_num_accepted_tokens_total", "Guesses that were right.", COUNTER, accepted },
    { "llamacpp:spec_decode_num_drafts_total", "Steps of a text with guesses.", COUNTER, drafts },
    { "llamacpp:n_tokens_max", "Tokens of the longest text.", COUNTER, longest },
    { "llamacpp:n_busy_slots_per_decode", "Texts in a step, on average.", GAUGE, busy },
    { "stretto:prompt_tokens_total", "Tokens of prompts that were read.", COUNTER, prompt_tokens },
    { "stretto:generation_tokens_total", "Tokens that were written.", COUNTER, written_tokens },
    { "stretto:steps_total", "Steps of the engine.", COUNTER, steps },
    { "stretto:guesses_total", "Guesses.", COUNTER, guesses },
    { "stretto:guesses_right_total", "Guesses that were right.", COUNTER, accepted },
    { "stretto:prefix_cache_queries", "Tokens of prompts, known ones too.", COUNTER, queries },
    { "stretto:prefix_cache_hits", "Tokens of prompts that were known.", COUNTER, cached },
    { "stretto:kv_cache_usage_perc", "Share of cache pages in use.", GAUGE, used },
    { "stretto:kv_cache_pages_kept", "Cache pages kept for texts that begin alike.", GAUGE, kept },
    { "stretto:num_requests_running", "Requests that are answered.", GAUGE, running },
    { "stretto:num_requests_waiting", "Requests that wait.", GAUGE, waiting },
    { "stretto:waiting_tokens", "Tokens to be read of those that wait.", GAUGE, waiting_tokens },
    { "stretto:expected_wait_seconds", "What a new request would wait.", GAUGE, waits },
    { "stretto:jobs_total", "Texts that were begun.", COUNTER, jobs },
    { "stretto:preempted_total", "Places that were given to others.", COUNTER, preempted },
    { "stretto:yielded_total", "Texts that gave their pages to others and are read again.", COUNTER, yielded },
    { "stretto:evicted_total", "Pages of texts that are gone, given to others.", COUNTER, evicted },
    { "stretto:cancelled_total", "Texts that were cancelled.", COUNTER, cancelled },
    { "stretto:last_step_seconds", "Seconds since the last step.", GAUGE, silence },
};

/* One model's names have no label, as those of llama.cpp's server. */
static stretto_status put_label(struct buffer *b, const struct served_list *l, size_t i, const char *name)
{
    if (l->n == 1 && strncmp(name, "llamacpp:", 9) == 0) return buffer_str(b, " ");
    TRY(buffer_str(b, "{model_name="));
    TRY(put_string(b, l->v[i].name, strlen(l->v[i].name)));
    return buffer_str(b, "} ");
}

static stretto_status put_rows(struct buffer *b, const struct served_list *l, const struct service_state *s)
{
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        TRY(buffer_printf(b, "# HELP %s %s\n# TYPE %s %s\n", rows[r].name, rows[r].help, rows[r].name,
                          rows[r].shape == COUNTER ? "counter" : "gauge"));
        for (size_t i = 0; i < l->n; i++) {
            TRY(buffer_str(b, rows[r].name));
            TRY(put_label(b, l, i, rows[r].name));
            TRY(buffer_printf(b, "%.9g\n", rows[r].value(&s[i])));
        }
    }
    return STRETTO_OK;
}

static stretto_status put_own(struct buffer *b, const struct metrics *m, const struct served_list *l, double uptime,
                              size_t held)
{
    static const char *const reasons[] = { "stop", "length", "stop_string", "context", "cancelled", "deadline",
                                           "failed" };
    TRY(buffer_str(b, "# HELP stretto:request_success_total Answers by how they ended.\n"
                   "# TYPE stretto:request_success_total counter\n"));
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        TRY(buffer_printf(b, "stretto:request_success_total{finished_reason=\"%s\"} %llu\n", reasons[i],
                          (unsigned long long)m->finish[i]));
    TRY(buffer_str(b, "# HELP stretto:http_requests_total Requests by class of status.\n"
                   "# TYPE stretto:http_requests_total counter\n"));
    for (size_t i = 1; i < 6; i++)
        TRY(buffer_printf(b, "stretto:http_requests_total{code=\"%zuxx\"} %llu\n", i,
                          (unsigned long long)m->by_class[i]));
    const struct { const char *name, *help; uint64_t v; } more[] = {
        { "stretto:refused_busy_total", "Requests that were told to come again.", m->refused_busy },
        { "stretto:vanished_total", "Clients that left before their answer was whole.", m->vanished },
        { "stretto:cut_slow_total", "Connections that were too slow.", m->cut_slow },
        { "stretto:http_bytes_in_total", "Bytes of bodies.", m->bytes_in },
        { "stretto:http_bytes_out_total", "Bytes of answers.", m->bytes_out },
        { "stretto:model_loads_total", "Times that a model's weights came.", l->loads },
        { "stretto:model_releases_total", "Times that they were put aside.", l->releases },
    };
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        TRY(buffer_printf(b, "# HELP %s %s\n# TYPE %s counter\n%s %llu\n", more[i].name, more[i].help, more[i].name,
                          more[i].name, (unsigned long long)more[i].v));
    TRY(buffer_printf(b, "# HELP stretto:requests_waiting_for_model Requests whose model is being loaded.\n"
                      "# TYPE stretto:requests_waiting_for_model gauge\nstretto:requests_waiting_for_model %u\n",
                      l->waiting));
    TRY(buffer_printf(b, "# HELP stretto:requests_held_bytes What requests and vectors take, as far as it is counted.\n"
                      "# TYPE stretto:requests_held_bytes gauge\nstretto:requests_held_bytes %zu\n", held));
    TRY(buffer_printf(b, "# HELP stretto:uptime_seconds Since the start.\n# TYPE stretto:uptime_seconds gauge\n"
                      "stretto:uptime_seconds %.3f\n", uptime));
    return metrics_histograms(b, m);
}

static void metrics(struct exchange *x)
{
    struct served_list *l = server_models(x->server);
    struct service_state s[SERVED_MOST] = { 0 };
    if (server_options(x->server)->no_metrics) {
        exchange_refuse(x, TROUBLE_UNSUPPORTED, NULL, "this server does not count (--no-metrics)");
        return;
    }
    for (size_t i = 0; i < l->n; i++) served_look(l, &l->v[i], &s[i], NULL, 0);
    if (put_rows(&x->reply_text, l, s) != STRETTO_OK
        || put_own(&x->reply_text, server_metrics(x->server), l, server_uptime(x->server),
                   server_hold(x->server, 0)) != STRETTO_OK)
        trouble_status(&x->trouble, TROUBLE_BUSY, NULL, STRETTO_E_NOMEM, NULL);
    else exchange_reply_text(x, 200, "text/plain; version=0.0.4; charset=utf-8");
}

static const struct route routes[] = {
    { "GET", "/health", &manner_openai, health, ROUTE_OPEN | ROUTE_EARLY | ROUTE_LATE },
    { "GET", "/props", &manner_native, props, 0 },
    { "GET", "/slots", &manner_native, slots, 0 },
    { "POST", "/slots/*", &manner_native, keep, 0 },
    { "GET", "/metrics", &manner_native, metrics, ROUTE_LATE },
};
const struct routes routes_state = ROUTES(routes);
