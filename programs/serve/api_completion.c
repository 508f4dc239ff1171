/* /completion and /infill: texts that go on, and gaps in texts, as llama.cpp's server has them. */
#include "serve/infill.h"
#include "serve/route.h"
#include "serve/served.h"
#include "serve/server.h"
#include "serve/words.h"
#include "stretto/serve_options.h"
#include <string.h>

/* ---- what is asked ----------------------------------------------------------------------------- */

/* 0 asks for none here. */
static bool own_probs(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > JOB_LOGPROBS)
        return trouble(t, TROUBLE_INVALID, name, "%s must be an integer from 0 to %d", name, (int)JOB_LOGPROBS);
    a->logprobs = json_integer_value(v) ? json_integer_value(v) : -1;
    return true;
}

#define AT(member) offsetof(struct ask, member)
static const struct field rows[] = {
    { "prompt", FIELD_ANY, FIELD_LATER, 0, 0, 0, NULL, NULL },
    { "n_probs", FIELD_INT, FIELD_READ, 0, 0, 0, own_probs, NULL },
    { "n_cmpl", FIELD_INT, FIELD_READ, AT(n), 1, ASK_CHOICES, NULL, NULL },
    { "max_tokens", FIELD_INT, FIELD_READ, AT(max_tokens), -1, 1 << 24, NULL, NULL },
    { "input_prefix", FIELD_TEXT, FIELD_LATER, 0, 0, 0, NULL, NULL },
    { "input_suffix", FIELD_TEXT, FIELD_LATER, 0, 0, 0, NULL, NULL },
    { "input_extra", FIELD_ARRAY, FIELD_LATER, 0, 0, 0, NULL, NULL },
    { "response_fields", FIELD_ARRAY, FIELD_LATER, 0, 0, 0, NULL, NULL },
};
#undef AT
static const struct field_table table = FIELD_TABLE(rows);
static const struct field_table *const tables[] = { &table };

/* ---- what is answered -------------------------------------------------------------------------- */

static const char *stop_type(enum job_finish f)
{
    return f == JOB_END ? "eos" : f == JOB_STOP ? "word" : words_finish(f)[0] == 'l' ? "limit" : "none";
}

static json_t *settings(const struct exchange *x)
{
    const struct ask *a = &x->ask;
    json_t *stops = json_array(), *biases = json_array();
    for (uint32_t i = 0; i < a->n_stops; i++)
        json_array_append_new(stops, text_json(a->stops[i], strlen(a->stops[i])));
    for (size_t i = 0; i < a->n_bias; i++)
        json_array_append_new(biases, json_pack("{s:i,s:o}", "token", (int)a->bias[i].token, "bias",
            a->bias[i].add < -1e29F ? json_null() : json_real((double)a->bias[i].add)));
    return json_pack("{s:I,s:f,s:I,s:f,s:f,s:f,s:I,s:f,s:f,s:I,s:I,s:b,s:b,s:o,s:I,s:o,s:b}", "seed",
                     (json_int_t)a->seed, "temperature", a->temperature, "top_k", (json_int_t)a->top_k, "top_p",
                     a->top_p, "min_p", a->min_p, "repeat_penalty", a->repeat_penalty, "repeat_last_n",
                     (json_int_t)a->repeat_last_n,
                     "presence_penalty", a->presence_penalty, "frequency_penalty", a->frequency_penalty, "n_predict",
                     (json_int_t)a->max_tokens, "max_tokens", (json_int_t)a->max_tokens, "ignore_eos",
                     (int)a->ignore_end, "stream", (int)a->stream, "stop", stops, "n_probs",
                     (json_int_t)(a->logprobs > 0 ? a->logprobs : 0), "logit_bias", biases,
                     "post_sampling_probs", (int)a->drawn);
}

static json_t *probabilities(const struct exchange *x, const struct job_token *tokens, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, words_token(x, &tokens[i]));
    return list;
}

static json_t *ids_json(const int32_t *ids, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_integer(ids[i]));
    return list;
}

static json_t *piece(const struct exchange *x, const struct choice *c, json_t *content, json_t *ids, uint32_t written)
{
    return json_pack("{s:i,s:o,s:o,s:b,s:i,s:I,s:I}", "index", (int)c->index, "content", content, "tokens", ids, "stop",
                     0, "id_slot", -1, "tokens_predicted", (json_int_t)written, "tokens_evaluated",
                     (json_int_t)x->ask.prompts[c->prompt].n);
}

static stretto_status text(struct exchange *x, struct choice *c, const struct job_event *e)
{
    json_t *v = piece(x, c, text_json(e->text ? e->text : "", e->n_text), ids_json(e->ids, e->n_ids),
                      c->n_written + e->n_ids);
    if (v && e->tokens) json_object_set_new(v, "completion_probabilities", probabilities(x, e->tokens, e->n_ids));
    if (v && x->ask.timings) json_object_set_new(v, "timings", words_timings_now(x, c, e));
    return put_event(x, NULL, v);
}

static stretto_status progress(struct exchange *x, struct choice *c, const struct job_event *e)
{
    json_t *v = piece(x, c, json_string(""), json_array(), 0);
    if (v) json_object_set_new(v, "prompt_progress", words_progress(e));
    if (v && x->ask.timings) json_object_set_new(v, "timings", words_timings_read(e));
    return put_event(x, NULL, v);
}

/* Only what was asked for, under its path in the whole: "generation_settings/seed". */
static json_t *chosen(const struct exchange *x, json_t *whole)
{
    size_t i;
    json_t *name, *list = json_object_get(x->json, "response_fields");
    if (!json_array_size(list) || !whole) return whole;
    json_t *out = json_object();
    json_array_foreach(list, i, name) {
        const char *path = json_string_value(name), *slash = path ? strchr(path, '/') : NULL;
        json_t *v = path ? json_object_get(whole, path) : NULL;
        if (!v && slash) {
            json_t *outer = json_object_getn(whole, path, (size_t)(slash - path));
            v = json_object_get(outer, slash + 1);
        }
        if (v) json_object_set(out, path, v);
    }
    json_decref(whole);
    return out;
}

/* What a choice ends with; whole answers have their text in it. */
static json_t *last(const struct exchange *x, const struct choice *c, json_t *content, json_t *ids)
{
    json_t *v = piece(x, c, content, ids, c->usage.written);
    struct buffer b = buffer_make(1 << 30);
    const struct tokens *prompt = &x->ask.prompts[c->prompt];
    const struct tokenizer *t = x->ask.model->model->tokenizer;
    if (t && tokenizer_decode(t, prompt->id, prompt->n, true, &b) != STRETTO_OK) json_lost();
    json_t *more = json_pack("{s:s,s:b,s:o,s:o,s:b,s:b,s:s,s:o,s:I,s:o}", "model", x->ask.shown, "stop", 1,
                             "generation_settings", settings(x), "prompt", text_json(b.data ? b.data : "", b.len),
                             "truncated", c->finish == JOB_CONTEXT, "has_new_line", c->new_line, "stop_type",
                             stop_type(c->finish), "stopping_word", text_json(c->stop, strlen(c->stop)),
                             "tokens_cached", (json_int_t)c->usage.cached, "timings", words_timings(x));
    buffer_done(&b);
    if (v && more) json_object_update(v, more);
    json_decref(more);
    return v;
}

static stretto_status done(struct exchange *x, struct choice *c)
{
    return put_event(x, NULL, last(x, c, json_string(""), json_array()));
}

static stretto_status end(struct exchange *x)
{
    (void)x;
    return STRETTO_OK;
}

static stretto_status failed(struct exchange *x, const struct trouble *t)
{
    return put_event(x, NULL, manner_native.error(x, t));
}

static json_t *whole(struct exchange *x)
{
    json_t *list = json_array();
    for (size_t i = 0; i < x->n_choices; i++) {
        const struct choice *c = &x->choices[i];
        json_t *v = last(x, c, text_json(c->text.data ? c->text.data : "", c->text.len), ids_json(c->ids, c->n_ids));
        if (v && x->ask.logprobs >= 0)
            json_object_set_new(v, "completion_probabilities", probabilities(x, c->tokens, c->n_tokens));
        json_array_append_new(list, chosen(x, v));
    }
    if (x->n_choices != 1) return list;
    json_t *one = json_incref(json_array_get(list, 0));
    json_decref(list);
    return one;
}

static const struct dialect dialect = {
    .kind = JOB_WRITE, .type = "text/event-stream", .ping = ": \n\n", .progress = progress, .text = text, .done = done,
    .end = end, .failed = failed, .whole = whole,
};

static void complete(struct exchange *x)
{
    if (exchange_object(x) && exchange_fields(x, tables, 1)
        && words_prompts(x, "prompt", json_object_get(x->json, "prompt"), TOKENIZE_ADD | TOKENIZE_SPECIAL))
        exchange_run(x, &dialect);
}

/* ---- gaps -------------------------------------------------------------------------------------- */

static bool text_of(struct exchange *x, const char *name, struct buffer *out)
{
    const json_t *v = json_object_get(x->json, name);
    if (!v || json_is_null(v)) return true;
    if (!json_is_string(v))
        return exchange_refuse(x, TROUBLE_INVALID, name, "%s must be a string, not %s", name, kind_words(v));
    return buffer_append(out, json_string_value(v), json_string_length(v)) == STRETTO_OK
           || trouble_status(&x->trouble, TROUBLE_BUSY, NULL, STRETTO_E_NOMEM, NULL);
}

/* Other files stand in front, each behind its name. */
static bool extra_of(struct exchange *x, struct buffer *out)
{
    size_t i;
    json_t *one, *list = json_object_get(x->json, "input_extra");
    json_array_foreach(list, i, one) {
        const json_t *file = json_object_get(one, "filename"), *words = json_object_get(one, "text");
        const char *name = json_string_value(file);
        if (!json_is_string(words) || (file && !name))
            return exchange_refuse(x, TROUBLE_INVALID, "input_extra", "input_extra must be a list of objects as in "
                                   "{\"filename\": \"a.py\", \"text\": \"words\"}");
        if (buffer_printf(out, "%s%s\n", i ? "\n" : "", name ? name : "file") != STRETTO_OK
            || buffer_append(out, json_string_value(words), json_string_length(words)) != STRETTO_OK
            || buffer_str(out, "\n") != STRETTO_OK)
            return trouble_status(&x->trouble, TROUBLE_BUSY, NULL, STRETTO_E_NOMEM, NULL);
    }
    return true;
}

static void infill(struct exchange *x)
{
    struct buffer before = buffer_make(1 << 30), behind = buffer_make(1 << 30), extra = buffer_make(1 << 30);
    if (!exchange_object(x) || !exchange_fields(x, tables, 1)) return;
    /* What was begun in the gap is read as the end of what stands before it. */
    if (text_of(x, "input_prefix", &before) && text_of(x, "prompt", &before) && text_of(x, "input_suffix", &behind)
        && extra_of(x, &extra)
        && infill_prompt(x, before.data, before.len, behind.data, behind.len, extra.data, extra.len))
        exchange_run(x, &dialect);
    buffer_done(&before);
    buffer_done(&behind);
    buffer_done(&extra);
}

static const struct route routes[] = {
    { "POST", "/completion", &manner_native, complete, 0 },
    { "POST", "/infill", &manner_native, infill, 0 },
};
const struct routes routes_completion = ROUTES(routes);
