/* /v1/completions: texts that go on, as the older OpenAI API has them; `echo` with `logprobs` scores a text, as
 * lm-eval asks; `suffix` fills a gap where the model has tokens for that. */
#include "serve/infill.h"
#include "serve/route.h"
#include "serve/served.h"
#include "serve/words.h"
#include <stdio.h>
#include <string.h>

/* ---- what is asked ----------------------------------------------------------------------------- */

/* A number, and true as llama.cpp has it. */
static bool own_logprobs(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    if (json_is_boolean(v)) {
        a->logprobs = json_is_true(v) ? 0 : -1;
        return true;
    }
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > JOB_LOGPROBS)
        return trouble(t, TROUBLE_INVALID, name, "%s must be an integer from 0 to %d", name, (int)JOB_LOGPROBS);
    a->logprobs = json_integer_value(v);
    return true;
}

#define AT(member) offsetof(struct ask, member)
static const struct field rows[] = {
    { "prompt", FIELD_ANY, FIELD_LATER, 0, 0, 0, NULL, NULL },
    { "max_tokens", FIELD_INT, FIELD_READ, AT(max_tokens), -1, 1 << 24, NULL, NULL },
    { "n", FIELD_INT, FIELD_READ, AT(n), 1, ASK_CHOICES, NULL, NULL },
    { "best_of", FIELD_INT, FIELD_READ, AT(best_of), 1, ASK_CHOICES, NULL, NULL },
    { "stream_options", FIELD_OBJECT, FIELD_READ, 0, 0, 0, field_stream_options, NULL },
    { "logprobs", FIELD_ANY, FIELD_READ, 0, 0, 0, own_logprobs, NULL },
    { "echo", FIELD_BOOL, FIELD_READ, AT(echo), 0, 0, NULL, NULL },
    { "suffix", FIELD_TEXT, FIELD_READ, AT(suffix), 0, 0, NULL, NULL },
    { "metadata", FIELD_OBJECT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
};
#undef AT
static const struct field_table table = FIELD_TABLE(rows);
static const struct field_table *const tables[] = { &table };

static bool read_prompt(struct exchange *x)
{
    struct ask *a = &x->ask;
    json_t *prompt = json_object_get(x->json, "prompt");
    if (a->suffix && *a->suffix) {
        if (!json_is_string(prompt))
            return exchange_refuse(x, TROUBLE_INVALID, "suffix", "suffix goes with one prompt that is a string");
        if (a->echo) return exchange_refuse(x, TROUBLE_INVALID, "echo", "echo and suffix exclude each other: take one");
        return infill_prompt(x, json_string_value(prompt), json_string_length(prompt), a->suffix, strlen(a->suffix),
                             NULL, 0);
    }
    return words_prompts(x, "prompt", prompt, TOKENIZE_ADD | TOKENIZE_SPECIAL)
           && (!a->echo || words_echo(x, prompt));
}

static bool read_ask(struct exchange *x)
{
    struct ask *a = &x->ask;
    a->max_tokens = 16;                        /* as that API has it */
    if (!exchange_object(x) || !exchange_fields(x, tables, 1)) return false;
    if (a->best_of > 0 && a->best_of != a->n)
        return exchange_refuse(x, TROUBLE_INVALID, "best_of", "best_of %lld differs from n %lld: answers are not "
                               "ranked; ask for n", (long long)a->best_of, (long long)a->n);
    if (a->echo && a->logprobs >= 0 && a->stream)
        return exchange_refuse(x, TROUBLE_INVALID, "stream", "log probabilities of the prompt (echo with logprobs) do "
                               "not come as a stream: leave stream out");
    return read_prompt(x);
}

/* ---- what is answered -------------------------------------------------------------------------- */

static stretto_status begin(struct exchange *x)
{
    TRY(buffer_printf(&x->head, "data: {\"id\":\"cmpl-%s\",\"object\":\"text_completion\",\"created\":%lld,\"model\":",
                      x->id, (long long)x->created));
    TRY(put_string(&x->head, x->ask.shown, strlen(x->ask.shown)));
    TRY(buffer_str(&x->head, ",\"system_fingerprint\":\"stretto-" STRETTO_VERSION "\",\"choices\":["));
    for (size_t i = 0; x->ask.echo && i < x->n_choices; i++) {
        const struct buffer *b = &x->ask.echoes[x->choices[i].prompt];
        TRY(buffer_printf(&x->out, "%s{\"index\":%zu,\"text\":", x->head.data, i));
        TRY(put_string(&x->out, b->data ? b->data : "", b->len));
        TRY(buffer_str(&x->out, ",\"logprobs\":null,\"finish_reason\":null}]}\n\n"));
    }
    return STRETTO_OK;
}

/* The four lists of this API. */
struct lists { json_t *tokens, *logprobs, *top, *offsets; size_t at; };

static struct lists lists_make(size_t at)
{
    return (struct lists){ json_array(), json_array(), json_array(), json_array(), at };
}

static json_t *lists_value(struct lists *l)
{
    return json_pack("{s:o,s:o,s:o,s:o}", "tokens", l->tokens, "token_logprobs", l->logprobs, "top_logprobs", l->top,
                     "text_offset", l->offsets);
}

static void add_first(const struct exchange *x, struct lists *l, int32_t id)
{
    struct buffer b = buffer_make(1 << 16);
    words_piece(x, id, &b);
    json_array_append_new(l->tokens, text_json(b.data ? b.data : "", b.len));
    json_array_append_new(l->logprobs, json_null());
    json_array_append_new(l->top, json_null());
    json_array_append_new(l->offsets, json_integer((json_int_t)l->at));
    l->at += b.len;
    buffer_done(&b);
}

static void add_token(const struct exchange *x, struct lists *l, const struct job_token *t)
{
    struct buffer b = buffer_make(1 << 16);
    json_t *top = json_object();
    words_piece(x, t->id, &b);
    for (uint32_t i = 0; i < t->n_top; i++) {
        json_t *piece = words_piece_json(x, t->top[i].id);
        const char *name = json_string_value(piece);
        if (name && !json_object_get(top, name))
            json_object_set_new(top, name, json_real(words_logprob(t->top[i].logprob)));
        json_decref(piece);
    }
    json_array_append_new(l->tokens, text_json(b.data ? b.data : "", b.len));
    json_array_append_new(l->logprobs, json_real(words_logprob(t->logprob)));
    json_array_append_new(l->top, top);
    json_array_append_new(l->offsets, json_integer((json_int_t)l->at));
    l->at += b.len;
    buffer_done(&b);
}

static json_t *logprobs(const struct exchange *x, const struct choice *c)
{
    const struct tokens *prompt = &x->ask.prompts[c->prompt];
    struct lists l = lists_make(0);
    if (x->ask.echo && prompt->n) add_first(x, &l, prompt->id[0]);
    for (size_t i = 0; i < c->n_scored; i++) add_token(x, &l, &c->scored[i]);
    for (size_t i = 0; i < c->n_tokens; i++) add_token(x, &l, &c->tokens[i]);
    return lists_value(&l);
}

static stretto_status text(struct exchange *x, struct choice *c, const struct job_event *e)
{
    TRY(buffer_append(&x->out, x->head.data, x->head.len));
    TRY(buffer_printf(&x->out, "{\"index\":%u,\"text\":", c->index));
    TRY(put_string(&x->out, e->text ? e->text : "", e->n_text));
    if (x->ask.logprobs >= 0 && e->tokens) {
        struct lists l = lists_make(c->n_text);
        for (uint32_t i = 0; i < e->n_ids; i++) add_token(x, &l, &e->tokens[i]);
        TRY(put_member(x, "logprobs", lists_value(&l)));
    } else TRY(buffer_str(&x->out, ",\"logprobs\":null"));
    TRY(buffer_str(&x->out, ",\"finish_reason\":null}]"));
    if (x->ask.timings) TRY(put_member(x, "timings", words_timings_now(x, c, e)));
    return buffer_str(&x->out, "}\n\n");
}

static stretto_status done(struct exchange *x, struct choice *c)
{
    TRY(buffer_append(&x->out, x->head.data, x->head.len));
    return buffer_printf(&x->out, "{\"index\":%u,\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"%s\"}]}\n\n",
                         c->index, words_finish(c->finish));
}

static json_t *whole_text(const struct exchange *x, const struct choice *c)
{
    const struct buffer *echo = x->ask.echo ? &x->ask.echoes[c->prompt] : NULL;
    if (!echo || !echo->len) return text_json(c->text.data ? c->text.data : "", c->text.len);
    struct buffer b = buffer_make(1 << 30);
    json_t *v = NULL;
    if (buffer_append(&b, echo->data, echo->len) == STRETTO_OK
        && buffer_append(&b, c->text.data ? c->text.data : "", c->text.len) == STRETTO_OK)
        v = text_json(b.data, b.len);
    else json_lost();
    buffer_done(&b);
    return v;
}

static json_t *whole(struct exchange *x)
{
    json_t *choices = json_array();
    char id[64];
    snprintf(id, sizeof id, "cmpl-%s", x->id);
    for (size_t i = 0; i < x->n_choices; i++) {
        const struct choice *c = &x->choices[i];
        json_array_append_new(choices, json_pack("{s:i,s:o,s:o,s:s}", "index", (int)c->index, "text", whole_text(x, c),
            "logprobs", x->ask.logprobs >= 0 ? logprobs(x, c) : json_null(), "finish_reason", words_finish(c->finish)));
    }
    json_t *v = json_pack("{s:s,s:s,s:I,s:s,s:s,s:o,s:o,s:o}", "id", id, "object", "text_completion", "created",
                          (json_int_t)x->created, "model", x->ask.shown, "system_fingerprint",
                          "stretto-" STRETTO_VERSION, "choices", choices, "usage", words_usage(x), "timings",
                          words_timings(x));
    /* Without /v1 llama.cpp's clients mean its own route: they find their answer beside. */
    if (v && strncmp(x->path, "/v1/", 4) != 0 && x->n_choices)
        json_object_set_new(v, "content", whole_text(x, &x->choices[0]));
    if (v && x->ask.verbose) json_object_set_new(v, "__verbose", words_verbose(x, &x->choices[0]));
    return v;
}

static const struct dialect dialect = {
    .kind = JOB_WRITE, .type = "text/event-stream", .ping = ": \n\n", .begin = begin, .text = text, .done = done,
    .end = words_stream_end, .failed = words_stream_failed, .whole = whole,
};

static void complete(struct exchange *x)
{
    if (read_ask(x)) exchange_run(x, &dialect);
}

static const struct route routes[] = { { "POST", "/v1/completions", &manner_openai, complete, 0 } };
const struct routes routes_openai_text = ROUTES(routes);
