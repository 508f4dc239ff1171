#include "serve/words.h"
#include "base/clock.h"
#include "base/memory.h"
#include "serve/route.h"
#include "serve/served.h"
#include <math.h>
#include <string.h>

const char *words_finish(enum job_finish f)
{
    return f == JOB_LENGTH || f == JOB_CONTEXT || f == JOB_DEADLINE ? "length" : "stop";
}

json_t *words_usage(const struct exchange *x)
{
    struct job_usage u = exchange_usage(x);
    return json_pack("{s:I,s:I,s:I,s:{s:I,s:I}}", "prompt_tokens", (json_int_t)u.prompt, "completion_tokens",
                     (json_int_t)u.written, "total_tokens", (json_int_t)u.prompt + u.written, "prompt_tokens_details",
                     "cached_tokens", (json_int_t)u.cached, "written_tokens", (json_int_t)u.cached_written);
}

static double rate(double n, double seconds) { return seconds > 0 ? n / seconds : 0; }

/* The first token comes with the end of the prompt: it costs no step of writing. */
static json_t *timings(const struct job_usage *u)
{
    double steps = u->written > 1 ? u->written - 1 : 0, read = u->prompt > u->cached ? u->prompt - u->cached : 0;
    return json_pack("{s:f,s:I,s:I,s:f,s:f,s:f,s:I,s:f,s:f,s:f}", "queued_ms", 1e3 * u->queued, "cache_n",
                     (json_int_t)u->cached, "prompt_n", (json_int_t)read, "prompt_ms", 1e3 * u->reading,
                     "prompt_per_token_ms", rate(1e3 * u->reading, read), "prompt_per_second", rate(read, u->reading),
                     "predicted_n", (json_int_t)u->written, "predicted_ms", 1e3 * u->writing, "predicted_per_token_ms",
                     steps > 0 ? rate(1e3 * u->writing, steps) : 0, "predicted_per_second", rate(steps, u->writing));
}

json_t *words_missed(const struct exchange *x, const struct prefix_miss *m)
{
    if (m->cause == PREFIX_MISS_NOTHING || m->asked < m->matched + PAGE_SLOTS) return NULL;
    json_t *j = json_pack("{s:s,s:I}", "cause", prefix_cause_text(m->cause), "at", (json_int_t)m->at);
    if (j && m->wanted >= 0) json_object_set_new(j, "wanted", words_piece_json(x, m->wanted));
    if (j && m->had >= 0) json_object_set_new(j, "had", words_piece_json(x, m->had));
    return j;
}

json_t *words_timings(const struct exchange *x)
{
    struct job_usage u = exchange_usage(x);
    json_t *t = timings(&u);
    if (!t) return NULL;
    json_object_set_new(t, "steps", json_integer(u.steps));
    json_object_set_new(t, "draft_n", json_integer(u.guesses));
    json_object_set_new(t, "draft_n_accepted", json_integer(u.accepted));
    json_t *missed = words_missed(x, &u.missed);
    if (missed) json_object_set_new(t, "cache_miss", missed);
    return t;
}

json_t *words_timings_now(const struct exchange *x, const struct choice *c, const struct job_event *e)
{
    const struct job_usage u = { .prompt = (uint32_t)x->ask.prompts[c->prompt].n, .cached = c->n_cached,
                                 .written = c->n_written + e->n_ids, .queued = c->queued, .reading = c->reading,
                                 .writing = c->first > 0 ? clock_seconds() - c->first : 0 };
    json_t *t = timings(&u);
    if (t) json_object_set_new(t, "steps", json_pack("[i]", (int)e->n_ids));
    return t;
}

json_t *words_timings_read(const struct job_event *e)
{
    const struct job_usage u = { .prompt = e->read, .cached = e->cached, .queued = e->queued, .reading = e->reading };
    return timings(&u);
}

json_t *words_verbose(const struct exchange *x, const struct choice *c)
{
    struct buffer b = buffer_make(1 << 30);
    const struct tokens *prompt = &x->ask.prompts[c->prompt];
    const struct tokenizer *t = x->ask.model->model->tokenizer;
    if (t) tokenizer_decode(t, prompt->id, prompt->n, true, &b);
    json_t *v = json_pack("{s:o,s:I,s:I}", "prompt", text_json(b.data ? b.data : "", b.len), "tokens_evaluated",
                          (json_int_t)prompt->n, "tokens_predicted", (json_int_t)c->usage.written);
    buffer_done(&b);
    return v;
}

json_t *words_progress(const struct job_event *e)
{
    return json_pack("{s:I,s:I,s:I,s:I}", "total", (json_int_t)e->total, "cache", (json_int_t)e->cached, "processed",
                     (json_int_t)e->read, "time_ms", (json_int_t)(1e3 * e->reading));
}

double words_logprob(float p) { return isfinite(p) && p > -9999 ? (double)p : -9999; }

stretto_status words_piece(const struct exchange *x, int32_t id, struct buffer *out)
{
    stretto_status s = tokenizer_piece(x->ask.model->model->tokenizer, id, false, true, out);
    if (s != STRETTO_OK) json_lost();
    return s;
}

json_t *words_piece_json(const struct exchange *x, int32_t id)
{
    struct buffer b = buffer_make(1 << 16);
    words_piece(x, id, &b);
    json_t *v = text_json(b.data ? b.data : "", b.len);
    buffer_done(&b);
    return v;
}

static json_t *one_token(const struct exchange *x, int32_t id, float logprob)
{
    struct buffer b = buffer_make(1 << 16);
    words_piece(x, id, &b);
    json_t *bytes = json_array();
    for (size_t i = 0; i < b.len; i++) json_array_append_new(bytes, json_integer((unsigned char)b.data[i]));
    json_t *j = json_pack("{s:I,s:o,s:f,s:o}", "id", (json_int_t)id, "token", text_json(b.data ? b.data : "", b.len),
                          x->ask.drawn ? "prob" : "logprob", x->ask.drawn ? exp((double)logprob)
                          : words_logprob(logprob), "bytes", bytes);
    buffer_done(&b);
    return j;
}

json_t *words_token(const struct exchange *x, const struct job_token *t)
{
    json_t *j = one_token(x, t->id, t->logprob), *top = json_array();
    for (uint32_t i = 0; i < t->n_top; i++)
        if (!x->ask.drawn || exp((double)t->top[i].logprob) > 0)
            json_array_append_new(top, one_token(x, t->top[i].id, t->top[i].logprob));
    json_object_set_new(j, x->ask.drawn ? "top_probs" : "top_logprobs", top);       /* takes it, whatever comes of it */
    return j;
}

/* ---- prompts ----------------------------------------------------------------------------------- */

static bool is_ids(const json_t *v)
{
    size_t i;
    json_t *one;
    if (!json_array_size(v)) return false;
    json_array_foreach((json_t *)(uintptr_t)v, i, one)
        if (!json_is_integer(one)) return false;
    return true;
}

/* Texts and ids in turn, as llama.cpp takes them. */
static bool is_mixed(const json_t *v)
{
    size_t i;
    json_t *one;
    bool ids = false;
    json_array_foreach((json_t *)(uintptr_t)v, i, one) {
        if (!json_is_integer(one) && !json_is_string(one)) return false;
        ids |= json_is_integer(one);
    }
    return ids;
}

bool words_id(struct exchange *x, const char *name, const json_t *v, struct tokens *out)
{
    size_t vocab = x->ask.model->model->tokenizer ? tokenizer_size(x->ask.model->model->tokenizer)
                                                  : x->ask.model->model->config.vocab;
    json_int_t id = json_integer_value(v);
    if (id < 0 || (uint64_t)id >= vocab)
        return exchange_refuse(x, TROUBLE_INVALID, name, "%s has the token %lld, and the model has 0 to %zu", name,
                               (long long)id, vocab - 1);
    if (tokens_push(out, (int32_t)id) == STRETTO_OK) return true;
    return trouble_status(&x->trouble, TROUBLE_BUSY, NULL, STRETTO_E_NOMEM, NULL);
}

static bool add_one(struct exchange *x, const char *name, const json_t *v, unsigned flags, struct tokens *out)
{
    size_t i;
    json_t *one;
    if (json_is_string(v))
        return ask_fits(&x->ask, json_string_length(v), &x->trouble)
               && ask_encode(&x->ask, json_string_value(v), json_string_length(v), flags, out, &x->trouble);
    if (json_is_object(v) && json_is_string(json_object_get(v, "prompt_string")))
        return json_object_get(v, "multimodal_data")
            ? exchange_refuse(x, TROUBLE_INVALID, name, "the model reads text alone: send no pictures or sounds")
            : add_one(x, name, json_object_get(v, "prompt_string"), flags, out);
    if (json_is_object(v) && json_is_array(json_object_get(v, "content"))) {
        struct buffer b = buffer_make(x->body.max);
        bool good = words_content(x, json_object_get(v, "content"), &b)
                    && ask_encode(&x->ask, b.data ? b.data : "", b.len, flags, out, &x->trouble);
        buffer_done(&b);
        return good;
    }
    if (!json_is_array(v) || !(is_ids(v) || is_mixed(v)))
        return exchange_refuse(x, TROUBLE_INVALID, name, "%s must be a string, a list of token ids, or a list of "
                               "these, not with %s in it", name, kind_words(v));
    json_array_foreach((json_t *)(uintptr_t)v, i, one) {
        if (json_is_integer(one) ? !words_id(x, name, one, out)
                                 : !add_one(x, name, one, i ? flags & ~(unsigned)TOKENIZE_ADD : flags, out))
            return false;
    }
    return true;
}

bool words_prompts(struct exchange *x, const char *name, const json_t *v, unsigned flags)
{
    bool several = json_is_array(v) && !is_ids(v) && !is_mixed(v);
    size_t n = several ? json_array_size(v) : 1;
    if (!v || json_is_null(v))
        return exchange_refuse(x, TROUBLE_INVALID, name, "%s is missing: a string, a list of token ids, or a list of "
                               "these", name);
    if (json_is_array(v) && !json_array_size(v))
        return exchange_refuse(x, TROUBLE_INVALID, name, "%s is an empty list: send at least one", name);
    if (n > ASK_JOBS)
        return exchange_refuse(x, TROUBLE_INVALID, name, "%s has %zu members, and %d are the most: send several "
                               "requests", name, n, (int)ASK_JOBS);
    if (!ask_prompts(&x->ask, n, &x->trouble)) return false;
    for (size_t i = 0; i < n; i++)
        if (!add_one(x, name, several ? json_array_get(v, i) : v, flags, &x->ask.prompts[i])) return false;
    return true;
}

bool words_echo(struct exchange *x, const json_t *v)
{
    bool several = json_is_array(v) && !is_ids(v) && !is_mixed(v);
    for (size_t i = 0; i < x->ask.n_prompts; i++) {
        const json_t *one = several ? json_array_get(v, i) : v;
        const struct tokens *t = &x->ask.prompts[i];
        stretto_status s = json_is_string(one)
            ? buffer_append(&x->ask.echoes[i], json_string_value(one), json_string_length(one))
            : tokenizer_decode(x->ask.model->model->tokenizer, t->id, t->n, true, &x->ask.echoes[i]);
        if (s != STRETTO_OK) return trouble_status(&x->trouble, TROUBLE_BUSY, NULL, STRETTO_E_NOMEM, NULL);
    }
    return true;
}

/* ---- contents ---------------------------------------------------------------------------------- */

static bool one_of(const char *word, const char *const *list)
{
    while (*list && strcmp(word, *list) != 0) list++;
    return *list != NULL;
}

static bool refuse_part(struct exchange *x, const char *type)
{
    static const char *const calls[] = { "server_tool_use", NULL };
    if (one_of(type, calls))
        return exchange_refuse(x, TROUBLE_UNSUPPORTED, "messages", "a message has a part of type %s: tools cannot be "
                               "called yet; leave it out", type);
    return exchange_refuse(x, TROUBLE_INVALID, "messages", "a message has a part of type %.40s, and the model %s reads "
                           "text alone: leave it out", type, x->ask.model->name);
}

static bool no_memory(struct exchange *x)
{
    return trouble_status(&x->trouble, TROUBLE_BUSY, NULL, STRETTO_E_NOMEM, NULL);
}

bool words_call(struct exchange *x, const char *name, const json_t *arguments, struct buffer *out)
{
    if (!name)
        return exchange_refuse(x, TROUBLE_INVALID, "messages", "a call of a tool has no name");
    stretto_status s = buffer_printf(out, "%s<tool_call>\n{\"name\": ", out->len ? "\n" : "");
    if (s == STRETTO_OK) s = put_string(out, name, strlen(name));
    if (s == STRETTO_OK) s = buffer_str(out, ", \"arguments\": ");
    if (s == STRETTO_OK && json_is_string(arguments)) s = buffer_str(out, json_string_value(arguments));
    else if (s == STRETTO_OK) s = arguments ? put_value(out, arguments) : buffer_str(out, "{}");
    if (s == STRETTO_OK) s = buffer_str(out, "}\n</tool_call>");
    return s == STRETTO_OK || no_memory(x);
}

bool words_result(struct exchange *x, const json_t *content, struct buffer *out)
{
    if (buffer_printf(out, "%s<tool_response>\n", out->len ? "\n" : "") != STRETTO_OK) return no_memory(x);
    return words_content(x, content, out)
           && (buffer_str(out, "\n</tool_response>") == STRETTO_OK || no_memory(x));
}

bool words_calls(struct exchange *x, const json_t *calls, struct buffer *out)
{
    size_t i;
    json_t *call;
    if (calls && !json_is_array(calls) && !json_is_null(calls))
        return exchange_refuse(x, TROUBLE_INVALID, "messages", "tool_calls must be a list, not %s", kind_words(calls));
    json_array_foreach((json_t *)(uintptr_t)calls, i, call) {
        const json_t *f = json_object_get(call, "function");
        if (!f) f = json_object_get(call, "custom");
        const json_t *arguments = json_object_get(f, "arguments");
        if (!words_call(x, json_string_value(json_object_get(f, "name")),
                        arguments ? arguments : json_object_get(f, "input"), out))
            return false;
    }
    return true;
}

bool words_result_message(struct exchange *x, const json_t *content)
{
    static const char end[] = "</tool_response>";
    const size_t n_end = sizeof end - 1;
    struct buffer b = buffer_make(x->body.max);
    struct ask *a = &x->ask;
    const stretto_message *last = a->n_messages ? &a->messages[a->n_messages - 1] : NULL;
    bool more = last && strcmp(last->role, "user") == 0 && a->last_bytes >= n_end
                && strcmp(last->content + a->last_bytes - n_end, end) == 0;
    bool good = words_result(x, content, &b);
    if (good && more) good = ask_append(a, "\n", 1, &x->trouble) && ask_append(a, b.data, b.len, &x->trouble);
    else if (good) good = ask_message(a, "user", b.data, b.len, &x->trouble);
    buffer_done(&b);
    return good;
}

static bool call_part(struct exchange *x, const char *type, const json_t *part, struct buffer *out)
{
    return strcmp(type, "tool_use") == 0
        ? words_call(x, json_string_value(json_object_get(part, "name")), json_object_get(part, "input"), out)
        : words_result(x, json_object_get(part, "content"), out);
}

bool words_content(struct exchange *x, const json_t *v, struct buffer *out)
{
    static const char *const texts[] = { "text", "input_text", "output_text", "refusal", NULL };
    static const char *const thoughts[] = { "thinking", "redacted_thinking", "reasoning", NULL };
    size_t i;
    json_t *part;
    if (!v || json_is_null(v)) return true;
    if (json_is_string(v)) {
        stretto_status s = buffer_append(out, json_string_value(v), json_string_length(v));
        return s == STRETTO_OK || trouble_status(&x->trouble, TROUBLE_BUSY, NULL, STRETTO_E_NOMEM, NULL);
    }
    if (!json_is_array(v))
        return exchange_refuse(x, TROUBLE_INVALID, "messages", "the content of a message must be a string or a list of "
                               "parts, not %s", kind_words(v));
    json_array_foreach((json_t *)(uintptr_t)v, i, part) {
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *text = json_object_get(part, "text");
        if (!json_is_object(part) || !type)
            return exchange_refuse(x, TROUBLE_INVALID, "messages", "a part of a content must be an object with a type, "
                                   "as in {\"type\": \"text\", \"text\": \"words\"}");
        if (one_of(type, thoughts)) continue;
        if (strcmp(type, "tool_use") == 0 || strcmp(type, "tool_result") == 0) {
            if (!call_part(x, type, part, out)) return false;
            continue;
        }
        if (!one_of(type, texts)) return refuse_part(x, type);
        if (strcmp(type, "refusal") == 0) text = json_object_get(part, "refusal");
        if (!json_is_string(text))
            return exchange_refuse(x, TROUBLE_INVALID, "messages", "a part of type %s has no string in \"text\"", type);
        if (buffer_append(out, json_string_value(text), json_string_length(text)) != STRETTO_OK)
            return trouble_status(&x->trouble, TROUBLE_BUSY, NULL, STRETTO_E_NOMEM, NULL);
    }
    return true;
}

bool words_message(struct exchange *x, const char *role, const json_t *content)
{
    return words_message_calls(x, role, content, NULL);
}

bool words_message_calls(struct exchange *x, const char *role, const json_t *content, const json_t *calls)
{
    struct buffer b = buffer_make(x->body.max);
    bool good = words_content(x, content, &b) && words_calls(x, calls, &b)
                && ask_message(&x->ask, role, b.data ? b.data : "", b.len, &x->trouble);
    buffer_done(&b);
    return good;
}

/* ---- the ends of OpenAI's streams -------------------------------------------------------------- */

stretto_status words_stream_end(struct exchange *x)
{
    if (x->ask.usage) {
        TRY(buffer_append(&x->out, x->head.data, x->head.len));
        TRY(buffer_str(&x->out, "]"));
        TRY(put_member(x, "usage", words_usage(x)));
        TRY(put_member(x, "timings", words_timings(x)));
        TRY(buffer_str(&x->out, "}\n\n"));
    }
    return buffer_str(&x->out, "data: [DONE]\n\n");
}

stretto_status words_stream_failed(struct exchange *x, const struct trouble *t)
{
    return put_event(x, NULL, manner_openai.error(x, t));
}
