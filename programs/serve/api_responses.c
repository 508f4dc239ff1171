/* /v1/responses: the newer OpenAI API, without a memory: a request brings the whole conversation. */
#include "serve/route.h"
#include "serve/served.h"
#include "serve/words.h"
#include <stdio.h>
#include <string.h>

/* ---- what is asked ----------------------------------------------------------------------------- */

/* Tools that run elsewhere are none of ours: clients send them always. Those that the client runs would have to be
 * called. */
static bool own_tools(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    size_t i;
    json_t *tool;
    if (!json_is_array(v)) return trouble(t, TROUBLE_INVALID, name, "%s must be a list, not %s", name, kind_words(v));
    a->hosted = json_array_size(v) != 0;
    json_array_foreach((json_t *)(uintptr_t)v, i, tool) {
        const char *type = json_string_value(json_object_get(tool, "type"));
        if (!type)
            return trouble(t, TROUBLE_INVALID, name, "%s[%zu] must be an object with a type", name, i);
        if (strcmp(type, "function") == 0 || strcmp(type, "custom") == 0 || strcmp(type, "namespace") == 0)
            a->tools = true;
    }
    return true;
}

static bool own_text(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    const json_t *format = json_object_get(v, "format");
    const char *type = json_string_value(json_object_get(format, "type"));
    (void)a;
    if (!json_is_object(v))
        return trouble(t, TROUBLE_INVALID, name, "%s must be an object, not %s", name, kind_words(v));
    if (!format || json_is_null(format) || (type && strcmp(type, "text") == 0)) return true;
    return trouble(t, TROUBLE_UNSUPPORTED, name, "%s.format: answers cannot be held to a form yet; leave it out", name);
}

/* {"effort": "none" | "low" ...} */
static bool own_reasoning(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    const json_t *effort = json_object_get(v, "effort");
    if (!json_is_object(v))
        return trouble(t, TROUBLE_INVALID, name, "%s must be an object, not %s", name, kind_words(v));
    return !effort || json_is_null(effort) || field_effort(a, "reasoning.effort", effort, t);
}

static bool own_truncation(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    const char *word = json_string_value(v);
    (void)a;
    if (word && strcmp(word, "disabled") == 0) return true;
    return trouble(t, TROUBLE_INVALID, name, "%s: conversations are not cut; send \"disabled\", or leave it out", name);
}

#define NO_MEMORY "nothing of earlier answers is kept: send the whole conversation as input"
#define AT(member) offsetof(struct ask, member)
static const struct field rows[] = {
    { "input", FIELD_ANY, FIELD_LATER, 0, 0, 0, NULL, NULL },
    { "instructions", FIELD_ANY, FIELD_LATER, 0, 0, 0, NULL, NULL },
    { "max_output_tokens", FIELD_INT, FIELD_READ, AT(max_tokens), -1, 1 << 24, NULL, NULL },
    { "text", FIELD_OBJECT, FIELD_READ, 0, 0, 0, own_text, NULL },
    { "tools", FIELD_ARRAY, FIELD_READ, 0, 0, 0, own_tools, NULL },
    { "tool_choice", FIELD_ANY, FIELD_READ, 0, 0, 0, field_tool_choice, NULL },
    { "truncation", FIELD_TEXT, FIELD_READ, 0, 0, 0, own_truncation, NULL },
    { "previous_response_id", FIELD_TEXT, FIELD_REFUSED, 0, 0, 0, NULL, NO_MEMORY },
    { "conversation", FIELD_ANY, FIELD_REFUSED, 0, 0, 0, NULL, NO_MEMORY },
    { "background", FIELD_BOOL, FIELD_REFUSED, 0, 0, 0, NULL, "answers are written while somebody reads them: leave it "
      "out" },
    { "prompt", FIELD_OBJECT, FIELD_REFUSED, 0, 0, 0, NULL, "no prompts are kept: send the text as input" },
    { "top_logprobs", FIELD_INT, FIELD_REFUSED, 0, 0, 0, NULL, "ask /v1/chat/completions for log probabilities" },
    { "parallel_tool_calls", FIELD_BOOL, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "max_tool_calls", FIELD_INT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "reasoning", FIELD_OBJECT, FIELD_READ, 0, 0, 0, own_reasoning, NULL },
    { "include", FIELD_ARRAY, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "store", FIELD_BOOL, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "metadata", FIELD_OBJECT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "stream_options", FIELD_OBJECT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "service_tier", FIELD_TEXT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "safety_identifier", FIELD_TEXT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "prompt_cache_options", FIELD_OBJECT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "prompt_cache_retention", FIELD_TEXT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "context_management", FIELD_ANY, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "moderation", FIELD_ANY, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
};
#undef AT
static const struct field_table table = FIELD_TABLE(rows);
static const struct field_table *const tables[] = { &table };

static bool add_call(struct exchange *x, const json_t *item)
{
    struct buffer b = buffer_make(x->body.max);
    const json_t *arguments = json_object_get(item, "arguments");
    bool good = words_call(x, json_string_value(json_object_get(item, "name")),
                           arguments ? arguments : json_object_get(item, "input"), &b)
                && ask_message(&x->ask, "assistant", b.data, b.len, &x->trouble);
    buffer_done(&b);
    return good;
}

static bool read_item(struct exchange *x, const json_t *item, size_t i)
{
    const char *type = json_string_value(json_object_get(item, "type"));
    const char *role = json_string_value(json_object_get(item, "role"));
    if (type && strcmp(type, "reasoning") == 0) return true;   /* what was thought before is not read again */
    if (type && strcmp(type, "item_reference") == 0)
        return exchange_refuse(x, TROUBLE_INVALID, "input", "input[%zu] names an item that is not kept: send it "
                               "whole", i);
    if (type && strstr(type, "_call_output"))
        return words_result_message(x, json_object_get(item, "output"));
    if (type && (strcmp(type, "function_call") == 0 || strcmp(type, "custom_tool_call") == 0)) return add_call(x, item);
    if (type && strcmp(type, "message") != 0)
        return exchange_refuse(x, TROUBLE_UNSUPPORTED, "input", "input[%zu] is of type %.40s: tools cannot be called "
                               "yet", i, type);
    if (!json_is_object(item) || !role || !*role || strlen(role) > 40)
        return exchange_refuse(x, TROUBLE_INVALID, "input", "input[%zu] must be an object with a role and a "
                               "content", i);
    return words_message(x, strcmp(role, "developer") == 0 ? "system" : role, json_object_get(item, "content"));
}

static bool read_input(struct exchange *x)
{
    size_t i;
    json_t *item, *input = json_object_get(x->json, "input"), *told = json_object_get(x->json, "instructions");
    if (told && !json_is_null(told) && !words_message(x, "system", told)) return false;
    if (json_is_array(input)) {
        json_array_foreach(input, i, item)
            if (!read_item(x, item, i)) return false;
    } else if (json_is_string(input)) {
        if (!words_message(x, "user", input)) return false;
    } else if (input && !json_is_null(input))
        return exchange_refuse(x, TROUBLE_INVALID, "input", "input must be a string or a list of items, not %s",
                               kind_words(input));
    struct ask *a = &x->ask;
    /* Clients try a server with a request that asks nothing. */
    if (!a->n_messages || strcmp(a->messages[a->n_messages - 1].role, "system") == 0)
        return ask_message(a, "user", "", 0, &x->trouble);
    return true;
}

static bool read_ask(struct exchange *x)
{
    if (!exchange_object(x) || !exchange_fields(x, tables, 1) || !read_input(x)) return false;
    if (x->ask.hosted && !x->ask.tools)
        buffer_printf(&x->ignored, "%stools", x->ignored.len ? ", " : "");
    return ask_render(&x->ask, NULL, &x->trouble);
}

/* ---- what is answered -------------------------------------------------------------------------- */

static json_t *part(json_t *text)
{
    return json_pack("{s:s,s:o,s:[],s:[]}", "type", "output_text", "text", text, "annotations", "logprobs");
}

static void item_id(const struct exchange *x, char id[64]) { snprintf(id, 64, "msg_%s", x->id); }

static json_t *item(const struct exchange *x, const char *status, json_t *content)
{
    char id[64];
    item_id(x, id);
    return json_pack("{s:s,s:s,s:s,s:s,s:o}", "type", "message", "id", id, "status", status, "role", "assistant",
                     "content", content);
}

static json_t *usage(const struct job_usage *u, uint32_t thought)
{
    return json_pack("{s:I,s:{s:I,s:I},s:I,s:{s:I},s:I}", "input_tokens", (json_int_t)u->prompt, "input_tokens_details",
                     "cached_tokens", (json_int_t)u->cached, "cache_write_tokens", (json_int_t)0, "output_tokens",
                     (json_int_t)u->written, "output_tokens_details", "reasoning_tokens", (json_int_t)thought,
                     "total_tokens", (json_int_t)u->prompt + u->written);
}

/* A copy of what the request says, or another value where it says nothing. */
static json_t *echoed(const struct exchange *x, const char *name, json_t *otherwise)
{
    json_t *v = json_object_get(x->json, name);
    if (!v || json_is_null(v)) return otherwise;
    json_decref(otherwise);
    return json_incref(v);
}

/* done: NULL while it is being written. */
static json_t *response(const struct exchange *x, const struct choice *done, json_t *output)
{
    char id[64];
    bool cut = done && words_finish(done->finish)[0] == 'l';
    const struct ask *a = &x->ask;
    snprintf(id, sizeof id, "resp_%s", x->id);
    json_t *v = json_pack("{s:s,s:s,s:I,s:s,s:b,s:n,s:o,s:s,s:o,s:n,s:o}", "id", id, "object", "response", "created_at",
        (json_int_t)x->created, "status", !done ? "in_progress" : cut ? "incomplete" : "completed", "background", 0,
        "error", "incomplete_details", cut ? json_pack("{s:s}", "reason", "max_output_tokens") : json_null(), "model",
        a->shown, "output", output, "previous_response_id", "usage",
        done ? usage(&done->usage, done->n_thought) : json_null());
    json_t *more = json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:f,s:f,s:s,s:b,s:o,s:o}", "instructions",
        echoed(x, "instructions", json_null()), "max_output_tokens", echoed(x, "max_output_tokens", json_null()),
        "metadata", echoed(x, "metadata", json_object()), "parallel_tool_calls",
        echoed(x, "parallel_tool_calls", json_true()), "reasoning",
        echoed(x, "reasoning", json_pack("{s:n,s:n}", "effort", "summary")), "tool_choice",
        echoed(x, "tool_choice", json_string("auto")), "tools", echoed(x, "tools", json_array()), "temperature",
        a->temperature, "top_p", a->top_p, "truncation", "disabled", "store", 0, "text",
        echoed(x, "text", json_pack("{s:{s:s}}", "format", "type", "text")), "user", echoed(x, "user", json_null()));
    if (v && more) json_object_update(v, more);
    json_decref(more);
    return v;
}

/* Events are numbered: x->sequence. */
static stretto_status say(struct exchange *x, const char *type, json_t *value)
{
    if (value) {
        json_object_set_new(value, "type", json_string(type));
        json_object_set_new(value, "sequence_number", json_integer(x->sequence++));
    }
    return put_event(x, type, value);
}

/* About the one part of the message, which stands behind what was thought. */
static int place(const struct exchange *x) { return x->choices[0].thought.len != 0; }

static json_t *about_part(const struct exchange *x, const char *name, json_t *value)
{
    char id[64];
    item_id(x, id);
    return json_pack("{s:s,s:i,s:i,s:o}", "item_id", id, "output_index", place(x), "content_index", 0, name, value);
}

/* ---- what is thought --------------------------------------------------------------------------- */

static json_t *thoughts(const struct exchange *x, const char *status)
{
    char id[64];
    const struct buffer *b = &x->choices[0].thought;
    snprintf(id, sizeof id, "rs_%s", x->id);
    return json_pack("{s:s,s:s,s:s,s:[],s:o}", "type", "reasoning", "id", id, "status", status, "summary", "content",
                     *status == 'i' ? json_array() : json_pack("[{s:s,s:o}]", "type", "reasoning_text", "text",
                                                               text_json(b->data, b->len)));
}

static json_t *about_thoughts(const struct exchange *x, const char *name, json_t *value)
{
    char id[64];
    snprintf(id, sizeof id, "rs_%s", x->id);
    return json_pack("{s:s,s:i,s:i,s:o}", "item_id", id, "output_index", 0, "content_index", 0, name, value);
}

static stretto_status begin(struct exchange *x)
{
    TRY(say(x, "response.created", json_pack("{s:o}", "response", response(x, NULL, json_array()))));
    return say(x, "response.in_progress", json_pack("{s:o}", "response", response(x, NULL, json_array())));
}

static stretto_status thought(struct exchange *x, struct choice *c, const char *p, size_t n)
{
    if (!c->thought.len)
        TRY(say(x, "response.output_item.added", json_pack("{s:i,s:o}", "output_index", 0, "item",
                                                           thoughts(x, "in_progress"))));
    return say(x, "response.reasoning_text.delta", about_thoughts(x, "delta", text_json(p, n)));
}

/* What was thought is over, and the message begins. */
static stretto_status open_message(struct exchange *x, const struct choice *c)
{
    if (x->opened) return STRETTO_OK;
    x->opened = true;
    if (c->thought.len) {
        TRY(say(x, "response.reasoning_text.done", about_thoughts(x, "text", text_json(c->thought.data,
                                                                                     c->thought.len))));
        TRY(say(x, "response.output_item.done", json_pack("{s:i,s:o}", "output_index", 0, "item",
                                                          thoughts(x, "completed"))));
    }
    TRY(say(x, "response.output_item.added", json_pack("{s:i,s:o}", "output_index", place(x), "item",
                                                       item(x, "in_progress", json_array()))));
    return say(x, "response.content_part.added", about_part(x, "part", part(json_string(""))));
}

/* llama.cpp's own, in an event that clients know. */
static stretto_status progress(struct exchange *x, struct choice *c, const struct job_event *e)
{
    (void)c;
    json_t *v = json_pack("{s:o,s:o}", "response", response(x, NULL, json_array()), "prompt_progress",
                          words_progress(e));
    if (v && x->ask.timings) json_object_set_new(v, "timings", words_timings_read(e));
    return say(x, "response.in_progress", v);
}

static stretto_status text(struct exchange *x, struct choice *c, const struct job_event *e)
{
    if (!e->n_text) return STRETTO_OK;
    TRY(open_message(x, c));
    TRY(buffer_append(&x->scratch, e->text, e->n_text));
    json_t *v = about_part(x, "delta", text_json(e->text, e->n_text));
    if (v) json_object_set_new(v, "logprobs", json_array());
    if (v && x->ask.timings) json_object_set_new(v, "timings", words_timings_now(x, c, e));
    return say(x, "response.output_text.delta", v);
}

static json_t *written(const struct exchange *x)
{
    return x->streams_out ? text_json(x->scratch.data ? x->scratch.data : "", x->scratch.len)
                          : text_json(x->choices[0].text.data ? x->choices[0].text.data : "", x->choices[0].text.len);
}

static json_t *output(const struct exchange *x, const struct choice *c)
{
    return item(x, words_finish(c->finish)[0] == 'l' ? "incomplete" : "completed", json_pack("[o]", part(written(x))));
}

static stretto_status done(struct exchange *x, struct choice *c)
{
    TRY(open_message(x, c));
    json_t *v = about_part(x, "text", written(x));
    if (v) json_object_set_new(v, "logprobs", json_array());
    TRY(say(x, "response.output_text.done", v));
    TRY(say(x, "response.content_part.done", about_part(x, "part", part(written(x)))));
    return say(x, "response.output_item.done", json_pack("{s:i,s:o}", "output_index", place(x), "item", output(x, c)));
}

static json_t *outputs(const struct exchange *x, const struct choice *c)
{
    return c->thought.len ? json_pack("[o,o]", thoughts(x, "completed"), output(x, c)) : json_pack("[o]", output(x, c));
}

static stretto_status end(struct exchange *x)
{
    const struct choice *c = &x->choices[0];
    const char *type = words_finish(c->finish)[0] == 'l' ? "response.incomplete" : "response.completed";
    json_t *v = json_pack("{s:o}", "response", response(x, c, outputs(x, c)));
    if (v && x->ask.timings) json_object_set_new(v, "timings", words_timings(x));
    return say(x, type, v);
}

static stretto_status failed(struct exchange *x, const struct trouble *t)
{
    return say(x, "error", json_pack("{s:s,s:o,s:o}", "code", trouble_row(t->kind)->openai, "message",
                                     text_json(t->text, strlen(t->text)), "param",
                                     *t->param ? json_string(t->param) : json_null()));
}

static json_t *whole(struct exchange *x)
{
    return response(x, &x->choices[0], outputs(x, &x->choices[0]));
}

static const struct dialect dialect = {
    .kind = JOB_WRITE, .type = "text/event-stream", .ping = ": \n\n", .begin = begin, .progress = progress,
    .text = text, .thought = thought, .done = done, .end = end, .failed = failed, .whole = whole,
};

static void respond(struct exchange *x)
{
    if (read_ask(x)) exchange_run(x, &dialect);
}

static void count(struct exchange *x)
{
    x->ask.counts = true;
    if (read_ask(x))
        exchange_reply(x, 200, json_pack("{s:s,s:I}", "object", "response.input_tokens", "input_tokens",
                                         (json_int_t)x->ask.prompts[0].n));
}

/* Nothing is kept. */
static void gone(struct exchange *x)
{
    exchange_refuse(x, TROUBLE_NOT_FOUND, NULL, "there is no response '%.80s': answers are not kept", x->rest);
}

static const struct route routes[] = {
    { "POST", "/v1/responses", &manner_openai, respond, 0 },
    { "POST", "/v1/responses/input_tokens", &manner_openai, count, 0 },
    { "GET", "/v1/responses/*", &manner_openai, gone, 0 },
    { "DELETE", "/v1/responses/*", &manner_openai, gone, 0 },
};
const struct routes routes_responses = ROUTES(routes);
