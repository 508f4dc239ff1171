/* /v1/messages and /v1/messages/count_tokens: conversations, as the Anthropic API has them. */
#include "serve/route.h"
#include "serve/served.h"
#include "serve/words.h"
#include <stdio.h>
#include <string.h>

/* ---- what is asked ----------------------------------------------------------------------------- */

/* The effort changes nothing; a form cannot be held to. */
static bool own_output(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    (void)a;
    if (!json_is_object(v))
        return trouble(t, TROUBLE_INVALID, name, "%s must be an object, not %s", name, kind_words(v));
    const json_t *format = json_object_get(v, "format");
    if (!format || json_is_null(format)) return true;
    return trouble(t, TROUBLE_UNSUPPORTED, name, "%s.format: answers cannot be held to a form yet; leave it out", name);
}

static bool own_metadata(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    const json_t *user = json_object_get(v, "user_id");
    if (!json_is_object(v) || (user && !json_is_string(user) && !json_is_null(user)))
        return trouble(t, TROUBLE_INVALID, name, "%s must be an object as in {\"user_id\": \"someone\"}", name);
    a->user = json_string_value(user);
    return true;
}

/* {"type": "enabled" | "adaptive" | "disabled"} */
static bool own_thinking(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    const char *type = json_string_value(json_object_get(v, "type"));
    if (!type) return trouble(t, TROUBLE_INVALID, name, "%s must be an object as in {\"type\": \"disabled\"}", name);
    a->think = strcmp(type, "disabled") != 0;
    return true;
}

#define AT(member) offsetof(struct ask, member)
static const struct field rows[] = {
    { "messages", FIELD_ARRAY, FIELD_LATER, 0, 0, 0, NULL, NULL },
    { "system", FIELD_ANY, FIELD_LATER, 0, 0, 0, NULL, NULL },
    { "max_tokens", FIELD_INT, FIELD_READ, AT(max_tokens), 0, 1 << 24, NULL, NULL },
    { "stop_sequences", FIELD_ARRAY, FIELD_READ, 0, 0, 0, field_stops, NULL },
    { "metadata", FIELD_OBJECT, FIELD_READ, 0, 0, 0, own_metadata, NULL },
    { "tools", FIELD_ARRAY, FIELD_READ, 0, 0, 0, field_tools, NULL },
    { "tool_choice", FIELD_OBJECT, FIELD_READ, 0, 0, 0, field_tool_choice, NULL },
    { "output_config", FIELD_OBJECT, FIELD_READ, 0, 0, 0, own_output, NULL },
    { "output_format", FIELD_OBJECT, FIELD_UNSUPPORTED, 0, 0, 0, NULL,
      "answers cannot be held to a form yet: leave it out" },
    { "thinking", FIELD_OBJECT, FIELD_READ, 0, 0, 0, own_thinking, NULL },
    { "service_tier", FIELD_TEXT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "cache_control", FIELD_OBJECT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "inference_geo", FIELD_TEXT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "betas", FIELD_ARRAY, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "container", FIELD_ANY, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "context_management", FIELD_OBJECT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "mcp_servers", FIELD_ARRAY, FIELD_REFUSED, 0, 0, 0, NULL, "no other servers are asked: leave it out" },
};
#undef AT
static const struct field_table table = FIELD_TABLE(rows);
static const struct field_table *const tables[] = { &table };

/* Claude Code begins its system text with a header that is another one in every request, which would make every
 * conversation begin differently: it is left out, and named in X-Stretto-Ignored. */
static size_t billing_header(const char *p, size_t n)
{
    static const char name[] = "x-anthropic-billing-header:";
    if (n < sizeof name - 1 || memcmp(p, name, sizeof name - 1) != 0) return 0;
    const char *line = memchr(p, '\n', n);
    return line ? (size_t)(line + 1 - p) : n;
}

static bool add_message(struct exchange *x, const char *role, const json_t *content)
{
    struct buffer b = buffer_make(x->body.max);
    bool good = words_content(x, content, &b);
    size_t skip = good && strcmp(role, "system") == 0 && b.len ? billing_header(b.data, b.len) : 0;
    if (skip) buffer_printf(&x->ignored, "%ssystem.x-anthropic-billing-header", x->ignored.len ? ", " : "");
    if (good && (b.len > skip || !skip))
        good = ask_message(&x->ask, role, b.data ? b.data + skip : "", b.len - skip, &x->trouble);
    buffer_done(&b);
    return good;
}

static bool read_message(struct exchange *x, const json_t *m, size_t i)
{
    static const char *const roles[] = { "user", "assistant", "system" };
    const char *role = json_string_value(json_object_get(m, "role"));
    for (size_t k = 0; role && k < sizeof roles / sizeof *roles; k++)
        if (strcmp(role, roles[k]) == 0) return add_message(x, roles[k], json_object_get(m, "content"));
    return exchange_refuse(x, TROUBLE_INVALID, "messages", "messages.%zu must be an object with a role, user or "
                           "assistant, and a content", i);
}

static bool read_messages(struct exchange *x)
{
    size_t i;
    json_t *m, *list = json_object_get(x->json, "messages"), *system = json_object_get(x->json, "system");
    if (!json_is_array(list) || !json_array_size(list))
        return exchange_refuse(x, TROUBLE_INVALID, "messages", "messages must be a list of at least one message, as in "
                               "[{\"role\": \"user\", \"content\": \"Hello\"}]");
    if (system && !json_is_null(system) && !add_message(x, "system", system)) return false;
    json_array_foreach(list, i, m)
        if (!read_message(x, m, i)) return false;
    struct ask *a = &x->ask;
    if (!a->n_messages)
        return exchange_refuse(x, TROUBLE_INVALID, "messages", "messages say nothing but a header that is left out: "
                               "add one of the user");
    /* The beginning of an answer that is to be continued. */
    a->continues = strcmp(a->messages[a->n_messages - 1].role, "assistant") == 0;
    return true;
}

static bool read_ask(struct exchange *x, bool counts)
{
    if (!exchange_object(x)) return false;
    const json_t *most = json_object_get(x->json, "max_tokens");
    if (!counts && (!most || json_is_null(most)))
        return exchange_refuse(x, TROUBLE_INVALID, "max_tokens", "max_tokens is missing: how many tokens the answer "
                               "may have");
    return exchange_fields(x, tables, 1) && read_messages(x) && ask_render(&x->ask, NULL, &x->trouble);
}

/* ---- what is answered -------------------------------------------------------------------------- */

static const char *stop_reason(enum job_finish f)
{
    switch (f) {
    case JOB_STOP: return "stop_sequence";
    case JOB_LENGTH: case JOB_DEADLINE: return "max_tokens";
    case JOB_CONTEXT: return "model_context_window_exceeded";
    case JOB_END: case JOB_CANCELLED: case JOB_FAILED: break;
    }
    return "end_turn";
}

/* Tokens that were taken over do not count as read there. */
static json_t *usage(const struct job_usage *u)
{
    return json_pack("{s:I,s:I,s:I,s:I}", "input_tokens", (json_int_t)(u->prompt - u->cached),
                     "cache_creation_input_tokens", (json_int_t)0, "cache_read_input_tokens", (json_int_t)u->cached,
                     "output_tokens", (json_int_t)u->written);
}

static json_t *message(const struct exchange *x, json_t *content, json_t *reason, json_t *sequence,
                       const struct job_usage *u)
{
    char id[64];
    snprintf(id, sizeof id, "msg_%s", x->id);
    return json_pack("{s:s,s:s,s:s,s:s,s:o,s:o,s:o,s:o}", "id", id, "type", "message", "role", "assistant", "model",
                     x->ask.shown, "content", content, "stop_reason", reason, "stop_sequence", sequence, "usage",
                     usage(u));
}

static json_t *sequence(const struct choice *c)
{
    return c->finish == JOB_STOP ? text_json(c->stop, strlen(c->stop)) : json_null();
}

static stretto_status begin(struct exchange *x)
{
    struct job_usage u = { .prompt = (uint32_t)x->ask.prompts[0].n };
    return put_event(x, "message_start", json_pack("{s:s,s:o}", "type", "message_start", "message",
                                                   message(x, json_array(), json_null(), json_null(), &u)));
}

/* Blocks stand one behind the other; x->sequence says which is open. */
enum block { BLOCK_NONE, BLOCK_THINKING, BLOCK_TEXT };

static int index_of(const struct exchange *x, enum block b)
{
    return b == BLOCK_TEXT && x->choices[0].thought.len ? 1 : 0;
}

static stretto_status close_block(struct exchange *x)
{
    enum block b = (enum block)x->sequence;
    if (b == BLOCK_THINKING)                   /* nobody here signs what was thought */
        TRY(put_event(x, "content_block_delta", json_pack("{s:s,s:i,s:{s:s,s:s}}", "type", "content_block_delta",
                                                          "index", 0, "delta", "type", "signature_delta", "signature",
                                                          "")));
    x->sequence = BLOCK_NONE;
    return put_event(x, "content_block_stop", json_pack("{s:s,s:i}", "type", "content_block_stop", "index",
                                                        index_of(x, b)));
}

static stretto_status open_block(struct exchange *x, enum block b)
{
    if (x->sequence == (uint32_t)b) return STRETTO_OK;
    if (x->sequence != BLOCK_NONE) TRY(close_block(x));
    x->sequence = b;
    json_t *block = b == BLOCK_TEXT ? json_pack("{s:s,s:s}", "type", "text", "text", "")
                                    : json_pack("{s:s,s:s,s:s}", "type", "thinking", "thinking", "", "signature", "");
    return put_event(x, "content_block_start", json_pack("{s:s,s:i,s:o}", "type", "content_block_start", "index",
                                                         index_of(x, b), "content_block", block));
}

static stretto_status thought(struct exchange *x, struct choice *c, const char *p, size_t n)
{
    (void)c;
    TRY(open_block(x, BLOCK_THINKING));
    return put_event(x, "content_block_delta", json_pack("{s:s,s:i,s:{s:s,s:o}}", "type", "content_block_delta",
                                                         "index", 0, "delta", "type", "thinking_delta", "thinking",
                                                         text_json(p, n)));
}

static stretto_status text(struct exchange *x, struct choice *c, const struct job_event *e)
{
    (void)c;
    if (!e->n_text) return STRETTO_OK;
    TRY(open_block(x, BLOCK_TEXT));
    TRY(buffer_printf(&x->out, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":%d,"
                      "\"delta\":{\"type\":\"text_delta\",\"text\":", index_of(x, BLOCK_TEXT)));
    TRY(put_string(&x->out, e->text, e->n_text));
    return buffer_str(&x->out, "}}\n\n");
}

static stretto_status done(struct exchange *x, struct choice *c)
{
    TRY(open_block(x, BLOCK_TEXT));            /* there is one, be it empty */
    TRY(close_block(x));
    return put_event(x, "message_delta", json_pack("{s:s,s:{s:s,s:o},s:o}", "type", "message_delta", "delta",
                                                   "stop_reason", stop_reason(c->finish), "stop_sequence", sequence(c),
                                                   "usage", usage(&c->usage)));
}

static stretto_status end(struct exchange *x)
{
    return put_event(x, "message_stop", json_pack("{s:s}", "type", "message_stop"));
}

static stretto_status failed(struct exchange *x, const struct trouble *t)
{
    return put_event(x, "error", manner_anthropic.error(x, t));
}

static json_t *whole(struct exchange *x)
{
    const struct choice *c = &x->choices[0];
    json_t *content = json_pack("[{s:s,s:o}]", "type", "text", "text",
                                text_json(c->text.data ? c->text.data : "", c->text.len));
    if (c->thought.len)
        json_array_insert_new(content, 0, json_pack("{s:s,s:o,s:s}", "type", "thinking", "thinking",
                                                    text_json(c->thought.data, c->thought.len), "signature", ""));
    return message(x, content, json_string(stop_reason(c->finish)), sequence(c), &c->usage);
}

static const struct dialect dialect = {
    .kind = JOB_WRITE, .type = "text/event-stream", .ping = "event: ping\ndata: {\"type\":\"ping\"}\n\n",
    .begin = begin, .text = text, .thought = thought, .done = done, .end = end, .failed = failed, .whole = whole,
};

static void answer(struct exchange *x)
{
    if (read_ask(x, false)) exchange_run(x, &dialect);
}

static void count(struct exchange *x)
{
    x->ask.counts = true;
    if (read_ask(x, true))
        exchange_reply(x, 200, json_pack("{s:I}", "input_tokens", (json_int_t)x->ask.prompts[0].n));
}

static const struct route routes[] = {
    { "POST", "/v1/messages", &manner_anthropic, answer, 0 },
    { "POST", "/v1/messages/count_tokens", &manner_anthropic, count, 0 },
};
const struct routes routes_messages = ROUTES(routes);
