/* /v1/chat/completions: conversations, as the OpenAI API has them, with llama.cpp's further fields. */
#include "serve/route.h"
#include "serve/served.h"
#include "serve/words.h"
#include <stdio.h>
#include <string.h>

/* ---- what is asked ----------------------------------------------------------------------------- */

/* Text that the answer is likely to repeat: guesses, which change nothing but the time. */
enum { BYTES_OF_TOKEN = 16 };              /* more than texts have on average */

static bool own_prediction(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    const json_t *content = json_object_get(v, "content");
    if (!json_is_object(v) || !(json_is_string(content) || json_is_array(content)))
        return trouble(t, TROUBLE_INVALID, name, "%s must be an object as in {\"type\": \"content\", \"content\": "
                       "\"words\"}", name);
    if (json_is_array(content)) content = json_object_get(json_array_get(content, 0), "text");
    a->prediction_words = json_string_value(content);
    return true;
}

static bool own_modalities(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    (void)a;
    if (json_is_array(v) && json_array_size(v) == 1 && json_is_string(json_array_get(v, 0))
        && strcmp(json_string_value(json_array_get(v, 0)), "text") == 0)
        return true;
    return trouble(t, TROUBLE_INVALID, name, "%s: the model writes text alone; send [\"text\"], or leave it out", name);
}

static bool own_messages(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    (void)a;
    if (json_is_array(v) && json_array_size(v)) return true;
    return trouble(t, TROUBLE_INVALID, name, "messages must be a list of at least one message, as in "
                   "[{\"role\": \"user\", \"content\": \"Hello\"}]");
}

#define AT(member) offsetof(struct ask, member)
static const struct field rows[] = {
    { "messages", FIELD_ARRAY, FIELD_READ, 0, 0, 0, own_messages, NULL },
    { "max_tokens", FIELD_INT, FIELD_READ, AT(max_tokens), -1, 1 << 24, NULL, NULL },
    { "max_completion_tokens", FIELD_INT, FIELD_READ, AT(max_tokens), -1, 1 << 24, NULL, NULL },
    { "n", FIELD_INT, FIELD_READ, AT(n), 1, ASK_CHOICES, NULL, NULL },
    { "stream_options", FIELD_OBJECT, FIELD_READ, 0, 0, 0, field_stream_options, NULL },
    { "logprobs", FIELD_BOOL, FIELD_READ, AT(want_logprobs), 0, 0, NULL, NULL },
    { "top_logprobs", FIELD_INT, FIELD_READ, AT(top_logprobs), 0, JOB_LOGPROBS, NULL, NULL },
    { "add_generation_prompt", FIELD_BOOL, FIELD_READ, AT(generation_prompt), 0, 0, NULL, NULL },
    { "continue_final_message", FIELD_BOOL, FIELD_READ, AT(continues), 0, 0, NULL, NULL },
    { "prediction", FIELD_OBJECT, FIELD_READ, 0, 0, 0, own_prediction, NULL },
    { "reasoning_effort", FIELD_TEXT, FIELD_READ, 0, 0, 0, field_effort, NULL },
    { "reasoning_format", FIELD_TEXT, FIELD_READ, 0, 0, 0, field_reasoning_format, NULL },
    { "tools", FIELD_ARRAY, FIELD_READ, 0, 0, 0, field_tools, NULL },
    { "functions", FIELD_ARRAY, FIELD_READ, 0, 0, 0, field_tools, NULL },
    { "tool_choice", FIELD_ANY, FIELD_READ, 0, 0, 0, field_tool_choice, NULL },
    { "function_call", FIELD_ANY, FIELD_READ, 0, 0, 0, field_tool_choice, NULL },
    { "parallel_tool_calls", FIELD_BOOL, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "chat_template_kwargs", FIELD_OBJECT, FIELD_READ, 0, 0, 0, field_template_vars, NULL },
    { "chat_template", FIELD_TEXT, FIELD_REFUSED, 0, 0, 0, NULL,
      "a request brings no template: the model's own is used; leave it out" },
    { "modalities", FIELD_ARRAY, FIELD_READ, 0, 0, 0, own_modalities, NULL },
    { "audio", FIELD_OBJECT, FIELD_REFUSED, 0, 0, 0, NULL, "the model writes text alone: leave it out" },
    { "web_search_options", FIELD_OBJECT, FIELD_REFUSED, 0, 0, 0, NULL, "nothing is searched: leave it out" },
    { "metadata", FIELD_OBJECT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "store", FIELD_BOOL, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "service_tier", FIELD_TEXT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "safety_identifier", FIELD_TEXT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "prompt_cache_options", FIELD_OBJECT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "prompt_cache_retention", FIELD_TEXT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "verbosity", FIELD_TEXT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "moderation", FIELD_ANY, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "include_obfuscation", FIELD_BOOL, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
};
#undef AT
static const struct field_table table = FIELD_TABLE(rows);
static const struct field_table *const tables[] = { &table };

static bool read_message(struct exchange *x, const json_t *m, size_t i)
{
    const char *role = json_string_value(json_object_get(m, "role"));
    const json_t *calls = json_object_get(m, "tool_calls");
    if (!json_is_object(m) || !role || !*role || strlen(role) > 40)
        return exchange_refuse(x, TROUBLE_INVALID, "messages", "message %zu must be an object with a role and a "
                               "content", i + 1);
    if (json_is_object(json_object_get(m, "function_call")))
        return exchange_refuse(x, TROUBLE_UNSUPPORTED, "messages", "message %zu has a function_call: send it as "
                               "tool_calls", i + 1);
    if (strcmp(role, "developer") == 0) role = "system";
    if (strcmp(role, "tool") == 0) return words_result_message(x, json_object_get(m, "content"));
    return words_message_calls(x, role, json_object_get(m, "content"), calls);
}

static bool read_messages(struct exchange *x)
{
    size_t i;
    json_t *m, *list = json_object_get(x->json, "messages");
    if (!list || json_is_null(list)) return own_messages(NULL, "messages", json_null(), &x->trouble);
    json_array_foreach(list, i, m)
        if (!read_message(x, m, i)) return false;
    return true;
}

/* The last message of an assistant is the beginning of the answer, as in llama.cpp, unless a request says that
 * it is whole. */
static bool check_beginning(struct exchange *x)
{
    struct ask *a = &x->ask;
    const char *last = a->messages[a->n_messages - 1].role;
    if (a->continues && json_is_true(json_object_get(x->json, "add_generation_prompt")))
        return exchange_refuse(x, TROUBLE_INVALID, "continue_final_message", "continue_final_message and "
                               "add_generation_prompt exclude each other: take one");
    if (a->n_messages > 1 && strcmp(last, "assistant") == 0
        && strcmp(a->messages[a->n_messages - 2].role, "assistant") == 0)
        return exchange_refuse(x, TROUBLE_INVALID, "messages", "the last two messages are both the assistant's: "
                               "join them into one to have it continued, or put a message of the user behind");
    if (strcmp(last, "assistant") == 0 && !json_object_get(x->json, "add_generation_prompt")
        && !json_is_false(json_object_get(x->json, "continue_final_message")))
        a->continues = true;
    return true;
}

static bool read_ask(struct exchange *x)
{
    struct ask *a = &x->ask;
    if (!exchange_object(x) || !exchange_fields(x, tables, 1) || !read_messages(x) || !check_beginning(x)) return false;
    if (a->top_logprobs && !a->want_logprobs)
        return exchange_refuse(x, TROUBLE_INVALID, "top_logprobs", "top_logprobs goes with \"logprobs\": true");
    if (a->want_logprobs) a->logprobs = a->top_logprobs;
    if (!a->prediction_words) return true;
    /* Each of its jobs gets a copy: no more of it than an answer can have. */
    size_t n = strlen(a->prediction_words), most = BYTES_OF_TOKEN * (size_t)a->model->context;
    if (n > most)
        for (n = most; n && ((unsigned char)a->prediction_words[n] & 0xc0) == 0x80;) n--;
    return ask_encode(a, a->prediction_words, n, 0, &a->prediction, &x->trouble);
}

/* ---- what is answered -------------------------------------------------------------------------- */

/* Up to the list of choices. */
static stretto_status begin(struct exchange *x)
{
    TRY(buffer_printf(&x->head, "data: {\"id\":\"chatcmpl-%s\",\"object\":\"chat.completion.chunk\",\"created\":%lld,"
                      "\"model\":", x->id, (long long)x->created));
    TRY(put_string(&x->head, x->ask.shown, strlen(x->ask.shown)));
    TRY(buffer_str(&x->head, ",\"system_fingerprint\":\"stretto-" STRETTO_VERSION "\",\"choices\":["));
    for (size_t i = 0; i < x->n_choices; i++)
        TRY(buffer_printf(&x->out, "%s{\"index\":%zu,\"delta\":{\"role\":\"assistant\",\"content\":null},"
                          "\"logprobs\":null,\"finish_reason\":null}]}\n\n", x->head.data, i));
    return STRETTO_OK;
}

static json_t *logprobs(const struct exchange *x, const struct job_token *tokens, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, words_token(x, &tokens[i]));
    return json_pack("{s:o,s:n}", "content", list, "refusal");
}

static stretto_status text(struct exchange *x, struct choice *c, const struct job_event *e)
{
    TRY(buffer_append(&x->out, x->head.data, x->head.len));
    TRY(buffer_printf(&x->out, "{\"index\":%u,\"delta\":{\"content\":", c->index));
    TRY(put_string(&x->out, e->text ? e->text : "", e->n_text));
    TRY(buffer_str(&x->out, "}"));
    if (x->ask.logprobs >= 0 && e->tokens) TRY(put_member(x, "logprobs", logprobs(x, e->tokens, e->n_ids)));
    else TRY(buffer_str(&x->out, ",\"logprobs\":null"));
    TRY(buffer_str(&x->out, ",\"finish_reason\":null}]"));
    if (x->ask.timings) TRY(put_member(x, "timings", words_timings_now(x, c, e)));
    return buffer_str(&x->out, "}\n\n");
}

static stretto_status thought(struct exchange *x, struct choice *c, const char *p, size_t n)
{
    TRY(buffer_append(&x->out, x->head.data, x->head.len));
    TRY(buffer_printf(&x->out, "{\"index\":%u,\"delta\":{\"reasoning_content\":", c->index));
    TRY(put_string(&x->out, p, n));
    return buffer_str(&x->out, "},\"logprobs\":null,\"finish_reason\":null}]}\n\n");
}

static stretto_status progress(struct exchange *x, struct choice *c, const struct job_event *e)
{
    TRY(buffer_append(&x->out, x->head.data, x->head.len));
    TRY(buffer_printf(&x->out, "{\"index\":%u,\"delta\":{},\"logprobs\":null,\"finish_reason\":null}]", c->index));
    TRY(put_member(x, "prompt_progress", words_progress(e)));
    if (x->ask.timings) TRY(put_member(x, "timings", words_timings_read(e)));
    return buffer_str(&x->out, "}\n\n");
}

static stretto_status done(struct exchange *x, struct choice *c)
{
    bool last = x->n_done == x->n_choices;
    TRY(buffer_append(&x->out, x->head.data, x->head.len));
    TRY(buffer_printf(&x->out, "{\"index\":%u,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"%s\"}]", c->index,
                      words_finish(c->finish)));
    if (last && !x->ask.usage) TRY(put_member(x, "timings", words_timings(x)));
    return buffer_str(&x->out, "}\n\n");
}

static json_t *whole(struct exchange *x)
{
    json_t *choices = json_array();
    char id[64];
    snprintf(id, sizeof id, "chatcmpl-%s", x->id);
    for (size_t i = 0; i < x->n_choices; i++) {
        const struct choice *c = &x->choices[i];
        json_array_append_new(choices, json_pack("{s:i,s:{s:s,s:o,s:n},s:o,s:s}", "index", (int)c->index, "message",
            "role", "assistant", "content", text_json(c->text.data ? c->text.data : "", c->text.len), "refusal",
            "logprobs", x->ask.logprobs >= 0 ? logprobs(x, c->tokens, c->n_tokens) : json_null(), "finish_reason",
            words_finish(c->finish)));
        if (c->thought.len)
            json_object_set_new(json_object_get(json_array_get(choices, i), "message"), "reasoning_content",
                                text_json(c->thought.data, c->thought.len));
    }
    json_t *v = json_pack("{s:s,s:s,s:I,s:s,s:s,s:o,s:o,s:o}", "id", id, "object", "chat.completion", "created",
                          (json_int_t)x->created, "model", x->ask.shown, "system_fingerprint",
                          "stretto-" STRETTO_VERSION, "choices", choices, "usage", words_usage(x), "timings",
                          words_timings(x));
    if (v && x->ask.verbose) json_object_set_new(v, "__verbose", words_verbose(x, &x->choices[0]));
    return v;
}

static const struct dialect dialect = {
    .kind = JOB_WRITE, .type = "text/event-stream", .ping = ": \n\n", .begin = begin, .progress = progress,
    .text = text, .thought = thought, .done = done, .end = words_stream_end, .failed = words_stream_failed,
    .whole = whole,
};

static void chat(struct exchange *x)
{
    if (read_ask(x) && ask_render(&x->ask, NULL, &x->trouble)) exchange_run(x, &dialect);
}

/* How many tokens such a request would read. */
static void count(struct exchange *x)
{
    x->ask.counts = true;
    if (read_ask(x) && ask_render(&x->ask, NULL, &x->trouble))
        exchange_reply(x, 200, json_pack("{s:s,s:I}", "object", "response.input_tokens", "input_tokens",
                                         (json_int_t)x->ask.prompts[0].n));
}

static void apply_template(struct exchange *x)
{
    x->ask.counts = true;
    struct buffer b = buffer_make(1 << 30);
    if (read_ask(x) && ask_render(&x->ask, &b, &x->trouble))
        exchange_reply(x, 200, json_pack("{s:o}", "prompt", text_json(b.data ? b.data : "", b.len)));
    buffer_done(&b);
}

static const struct route routes[] = {
    { "POST", "/v1/chat/completions", &manner_openai, chat, 0 },
    { "POST", "/v1/chat/completions/input_tokens", &manner_openai, count, 0 },
    { "POST", "/apply-template", &manner_native, apply_template, 0 },
};
const struct routes routes_openai_chat = ROUTES(routes);
