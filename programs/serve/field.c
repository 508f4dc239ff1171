#include "serve/field.h"
#include "base/memory.h"
#include "serve/served.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *kind_words(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "a list";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number";
    case JSON_TRUE: case JSON_FALSE: return "a boolean";
    case JSON_NULL: return "null";
    }
    return "something else";
}

static const char *wanted(enum field_kind k)
{
    static const char *const words[] = { "true or false", "an integer", "a number", "a string", "an object", "a list",
                                         "a value" };
    return words[k];
}

static bool right_type(enum field_kind k, const json_t *v)
{
    switch (k) {
    case FIELD_BOOL: return json_is_boolean(v);
    case FIELD_INT: return json_is_integer(v) || (json_is_real(v) && json_real_value(v) == floor(json_real_value(v))
                                                  && fabs(json_real_value(v)) < 9e15);
    case FIELD_REAL: return json_is_number(v);
    case FIELD_TEXT: return json_is_string(v);
    case FIELD_OBJECT: return json_is_object(v);
    case FIELD_ARRAY: return json_is_array(v);
    case FIELD_ANY: return true;
    }
    return false;
}

bool field_check(const struct field *f, const json_t *v, struct trouble *t)
{
    bool ranged = f->min != 0 || f->max != 0;
    if (!right_type(f->kind, v) && ranged && (f->kind == FIELD_INT || f->kind == FIELD_REAL))
        return trouble(t, TROUBLE_INVALID, f->name, "%s must be %s from %.15g to %.15g, not %s", f->name,
                       wanted(f->kind), f->min, f->max, kind_words(v));
    if (!right_type(f->kind, v))
        return trouble(t, TROUBLE_INVALID, f->name, "%s must be %s, not %s", f->name, wanted(f->kind),
                       kind_words(v));
    if (ranged && json_is_number(v) && !(json_number_value(v) >= f->min && json_number_value(v) <= f->max))
        return trouble(t, TROUBLE_INVALID, f->name, "%s must be %s from %.15g to %.15g, not %.15g", f->name,
                       wanted(f->kind), f->min, f->max, json_number_value(v));
    if (f->kind == FIELD_TEXT && memchr(json_string_value(v), '\0', json_string_length(v)))
        return trouble(t, TROUBLE_INVALID, f->name, "%s holds the character U+0000: leave it out", f->name);
    return true;
}

static bool read_value(const struct field *f, struct ask *a, const json_t *v, struct trouble *t)
{
    void *at = (char *)a + f->at;
    if (f->own) return f->own(a, f->name, v, t);
    if (!field_check(f, v, t)) return false;
    switch (f->kind) {
    case FIELD_BOOL: *(bool *)at = json_is_true(v); break;
    case FIELD_INT: *(int64_t *)at = json_is_integer(v) ? json_integer_value(v) : (int64_t)json_real_value(v); break;
    case FIELD_REAL: *(double *)at = json_number_value(v); break;
    case FIELD_TEXT: *(const char **)at = json_string_value(v); break;
    case FIELD_OBJECT: case FIELD_ARRAY: case FIELD_ANY: *(const json_t **)at = v; break;
    }
    return true;
}

/* Whether a value asks for nothing. */
static bool asks_nothing(const struct field *f, const json_t *v)
{
    if (json_is_number(v)) return json_number_value(v) >= f->min && json_number_value(v) <= f->max;
    if (json_is_string(v)) return !json_string_length(v);
    return json_is_false(v) || (json_is_array(v) && !json_array_size(v)) || (json_is_object(v) && !json_object_size(v));
}

/* Names go into a header: those that may stand there, and "..." for others. */
static void name_ignored(struct buffer *ignored, const char *name)
{
    size_t n = strlen(name), len = ignored->len;
    bool fits = n && n <= 64 && len <= 600;
    for (size_t i = 0; fits && i < n; i++)
        fits = (unsigned char)name[i] > ' ' && (unsigned char)name[i] <= '~' && name[i] != ',';
    if (fits) buffer_printf(ignored, "%s%s", len ? ", " : "", name);
    else if (len < 3 || strcmp(ignored->data + len - 3, "...") != 0)
        buffer_printf(ignored, "%s...", len ? ", " : "");
}

static bool take(const struct field *f, struct ask *a, const json_t *v, struct buffer *ignored, struct trouble *t)
{
    switch (f->does) {
    case FIELD_READ: return read_value(f, a, v, t);
    case FIELD_LATER: return field_check(f, v, t);
    case FIELD_NOTHING:
        if (!field_check(f, v, t)) return false;
        name_ignored(ignored, f->name);
        return true;
    case FIELD_REFUSED:
    case FIELD_UNSUPPORTED:
        if (f->kind != FIELD_ANY && !right_type(f->kind, v)) return field_check(f, v, t);
        if (asks_nothing(f, v)) return true;
        return trouble(t, f->does == FIELD_REFUSED ? TROUBLE_INVALID : TROUBLE_UNSUPPORTED, f->name, "%s: %s", f->name,
                       f->words);
    }
    return false;
}

bool fields_read(const json_t *object, const struct field_table *const *tables, size_t n, bool strict, struct ask *a,
                 struct buffer *ignored, struct trouble *t)
{
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)object, name, v) {
        const struct field *f = NULL;
        for (size_t k = 0; k < n && !f; k++)
            for (size_t i = 0; i < tables[k]->n && !f; i++)
                if (strcmp(tables[k]->rows[i].name, name) == 0) f = &tables[k]->rows[i];
        if (f && !json_is_null(v)) {
            if (!take(f, a, v, ignored, t)) return false;
        } else if (!f && strict)
            return trouble(t, TROUBLE_INVALID, name, "there is no field %.60s: leave it out, or start the server "
                           "without --strict-api", name);
        else if (!f) name_ignored(ignored, name);
    }
    return true;
}

/* ---- fields with a shape of their own ---------------------------------------------------------- */

static bool add_stop(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    size_t n = json_string_length(v);
    if (!json_is_string(v))
        return trouble(t, TROUBLE_INVALID, name, "%s must be a string or a list of strings, not with %s in it", name,
                       kind_words(v));
    if (!n) return true;
    if (n > ASK_STOP_BYTES)
        return trouble(t, TROUBLE_INVALID, name, "%s has a string of %zu bytes, and %d are the most", name, n,
                       (int)ASK_STOP_BYTES);
    if (memchr(json_string_value(v), '\0', n))
        return trouble(t, TROUBLE_INVALID, name, "%s holds the character U+0000: leave it out", name);
    if (a->n_stops == JOB_STOPS)
        return trouble(t, TROUBLE_INVALID, name, "%s has more than %d strings", name, (int)JOB_STOPS);
    a->stops[a->n_stops++] = json_string_value(v);
    return true;
}

bool field_stops(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    size_t i;
    json_t *one;
    a->n_stops = 0;
    if (json_is_string(v)) return add_stop(a, name, v, t);
    if (!json_is_array(v))
        return trouble(t, TROUBLE_INVALID, name, "%s must be a string or a list of strings, not %s", name,
                       kind_words(v));
    json_array_foreach((json_t *)(uintptr_t)v, i, one)
        if (!add_stop(a, name, one, t)) return false;
    return true;
}

bool field_tools(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    if (!json_is_array(v)) return trouble(t, TROUBLE_INVALID, name, "%s must be a list, not %s", name, kind_words(v));
    a->tools = a->tools || json_array_size(v);
    return true;
}

bool field_tool_choice(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    const char *word = json_string_value(json_is_object(v) ? json_object_get(v, "type") : v);
    a->tool_none = word && strcmp(word, "none") == 0;
    if (a->tool_none || (word && strcmp(word, "auto") == 0)) return true;
    return trouble(t, TROUBLE_UNSUPPORTED, name, "%s: tools cannot be called yet; leave it out", name);
}

bool field_stream_options(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    const json_t *usage = json_object_get(v, "include_usage");
    if (!json_is_object(v) || (usage && !json_is_boolean(usage)))
        return trouble(t, TROUBLE_INVALID, name, "%s must be an object as in {\"include_usage\": true}", name);
    a->usage = json_is_true(usage);
    return true;
}

/* A ban is a bias that nothing outweighs. */
static const float banned = -1e30f;

static bool add_bias(struct ask *a, const char *name, int64_t id, const json_t *v, struct trouble *t)
{
    double add = json_number_value(v);
    if (json_is_false(v)) add = (double)banned;
    else if (!json_is_number(v) || !(fabs(add) <= 1e6))
        return trouble(t, TROUBLE_INVALID, name, "%s must give each token a number, as in {\"42\": -100}, or false for "
                       "never, not %s", name, kind_words(v));
    if (id < 0 || id > INT32_MAX)
        return trouble(t, TROUBLE_INVALID, name, "%s names the token %lld, which there is not", name, (long long)id);
    if (a->n_bias == ASK_BIASES)
        return trouble(t, TROUBLE_INVALID, name, "%s has more than %d tokens", name, (int)ASK_BIASES);
    if (!a->bias && !(a->bias = mem_zalloc(ASK_BIASES, sizeof *a->bias)))
        return trouble_status(t, TROUBLE_BUSY, NULL, STRETTO_E_NOMEM, NULL);
    a->bias[a->n_bias++] = (struct logit_bias){ (int32_t)id, (float)add };
    return true;
}

static bool is_id(const char *key, int64_t *id)
{
    char *end;
    errno = 0;
    *id = strtoll(key, &end, 10);
    return (isdigit((unsigned char)*key) || *key == '-') && end != key && !*end && !errno;
}

/* All tokens of the word get it, as in llama.cpp. */
static bool add_word(struct ask *a, const char *name, const char *word, size_t n, const json_t *v, struct trouble *t)
{
    struct tokens ids = { 0 };
    bool good = ask_encode(a, word, n, 0, &ids, t);
    if (good && !ids.n) good = trouble(t, TROUBLE_INVALID, name, "%s has a word without letters", name);
    for (size_t i = 0; good && i < ids.n; i++) good = add_bias(a, name, ids.id[i], v, t);
    tokens_done(&ids);
    return good;
}

bool field_bias_words(struct ask *a, struct trouble *t)
{
    static const char name[] = "logit_bias";
    json_t *one, *v = (json_t *)(uintptr_t)a->bias_words;
    const char *key;
    int64_t id;
    size_t i;
    if (json_is_object(v))
        json_object_foreach(v, key, one)
            if (!is_id(key, &id) && !add_word(a, name, key, strlen(key), one, t)) return false;
    if (json_is_array(v))
        json_array_foreach(v, i, one) {
            const json_t *word = json_array_get(one, 0);
            if (json_is_string(word)
                && !add_word(a, name, json_string_value(word), json_string_length(word), json_array_get(one, 1), t))
                return false;
        }
    return true;
}

/* {"42": -100, " word": -5}, or llama.cpp's [[42, -100], [" word", false]]. */
static bool field_bias(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    const char *key;
    json_t *one;
    size_t i;
    int64_t number;
    a->n_bias = 0;
    a->bias_words = v;
    if (json_is_object(v)) {
        json_object_foreach((json_t *)(uintptr_t)v, key, one)
            if (is_id(key, &number) && !add_bias(a, name, number, one, t)) return false;
        return true;
    }
    if (!json_is_array(v))
        return trouble(t, TROUBLE_INVALID, name, "%s must be an object as in {\"42\": -100}, not %s", name,
                       kind_words(v));
    json_array_foreach((json_t *)(uintptr_t)v, i, one) {
        const json_t *id = json_array_get(one, 0), *add = json_array_get(one, 1);
        if (json_array_size(one) != 2 || !(json_is_integer(id) || json_is_string(id)))
            return trouble(t, TROUBLE_INVALID, name, "%s must be pairs of a token's id, or a word, and a number", name);
        if (json_is_integer(id) && !add_bias(a, name, json_integer_value(id), add, t)) return false;
    }
    return true;
}

/* false: nothing is taken over; "exact": only what was read in the same roles. */
static bool field_cache(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    a->no_cache = json_is_false(v);
    a->cache_exact = json_is_string(v) && strcmp(json_string_value(v), "exact") == 0;
    if (json_is_boolean(v) || a->cache_exact) return true;
    return trouble(t, TROUBLE_INVALID, name, "%s must be true, false or \"exact\"", name);
}

bool field_effort(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    if (!json_is_string(v)) return trouble(t, TROUBLE_INVALID, name, "%s must be a string such as \"low\"", name);
    a->effort = json_string_value(v);
    a->think = strcmp(a->effort, "none") != 0;
    return true;
}

bool field_reasoning_format(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    static const char *const words[] = { "none", "auto", "deepseek", "deepseek-legacy" };
    const char *word = json_string_value(v);
    for (size_t i = 0; word && i < sizeof words / sizeof *words; i++)
        if (strcmp(word, words[i]) == 0) {
            a->plain = i == 0;
            return true;
        }
    return trouble(t, TROUBLE_INVALID, name, "%s must be \"none\", \"auto\" or \"deepseek\"", name);
}

bool field_template_vars(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    static const char *const taken[] = { "messages", "tools", "documents", "add_generation_prompt", "bos_token",
                                         "eos_token" };
    if (!json_is_object(v))
        return trouble(t, TROUBLE_INVALID, name, "%s must be an object as in {\"enable_thinking\": false}", name);
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        if (json_object_get(v, taken[i]))
            return trouble(t, TROUBLE_INVALID, name, "%s cannot set %s: the request says it elsewhere", name, taken[i]);
    a->template_vars = v;
    return true;
}

static bool field_format(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    const char *type = json_string_value(json_object_get(v, "type"));
    (void)a;
    if (!json_is_object(v) || !type)
        return trouble(t, TROUBLE_INVALID, name, "%s must be an object with a type, as in {\"type\": \"text\"}", name);
    if (strcmp(type, "text") == 0) return true;
    if (strcmp(type, "json_object") == 0 || strcmp(type, "json_schema") == 0 || strcmp(type, "grammar") == 0)
        return trouble(t, TROUBLE_UNSUPPORTED, name, "%s: answers cannot be held to a form yet; ask for it in the "
                       "messages, and leave %s out", name, name);
    return trouble(t, TROUBLE_INVALID, name, "%s.type is '%.40s', and there are text, json_object and json_schema",
                   name, type);
}

static bool field_ids(struct ask *a, const char *name, const json_t *v, struct trouble *t)
{
    if (json_is_integer(v) && json_integer_value(v) >= -1 && json_integer_value(v) <= INT32_MAX) {
        a->place = json_integer_value(v);
        return true;
    }
    return trouble(t, TROUBLE_INVALID, name, "%s must be an integer from -1 to 2147483647", name);
}

#define AT(member) offsetof(struct ask, member)
#define NO_FORM "answers cannot be held to a form yet: leave it out"
#define NO_SAMPLER "the sampler has temperature, top_k, top_p, min_p and penalties: leave it out"

static const struct field sampling[] = {
    { "temperature", FIELD_REAL, FIELD_READ, AT(temperature), 0, 100, NULL, NULL },
    { "top_p", FIELD_REAL, FIELD_READ, AT(top_p), 0, 1, NULL, NULL },
    { "top_k", FIELD_INT, FIELD_READ, AT(top_k), -1, 1 << 24, NULL, NULL },
    { "min_p", FIELD_REAL, FIELD_READ, AT(min_p), 0, 1, NULL, NULL },
    { "seed", FIELD_INT, FIELD_READ, AT(seed), 0, 0, NULL, NULL },
    { "presence_penalty", FIELD_REAL, FIELD_READ, AT(presence_penalty), -100, 100, NULL, NULL },
    { "frequency_penalty", FIELD_REAL, FIELD_READ, AT(frequency_penalty), -100, 100, NULL, NULL },
    { "repeat_penalty", FIELD_REAL, FIELD_READ, AT(repeat_penalty), 0.01, 100, NULL, NULL },
    { "repetition_penalty", FIELD_REAL, FIELD_READ, AT(repeat_penalty), 0.01, 100, NULL, NULL },
    { "repeat_last_n", FIELD_INT, FIELD_READ, AT(repeat_last_n), -1, 1 << 24, NULL, NULL },
    { "logit_bias", FIELD_ANY, FIELD_READ, 0, 0, 0, field_bias, NULL },
    { "stop", FIELD_ANY, FIELD_READ, 0, 0, 0, field_stops, NULL },
};
const struct field_table fields_sampling = FIELD_TABLE(sampling);

/* How a request runs, whatever it asks for. */
static const struct field job[] = {
    { "model", FIELD_TEXT, FIELD_READ, AT(model_name), 0, 0, NULL, NULL },
    { "stream", FIELD_BOOL, FIELD_READ, AT(stream), 0, 0, NULL, NULL },
    { "priority", FIELD_INT, FIELD_READ, AT(priority), -1000, 1000, NULL, NULL },
    { "prompt_cache_key", FIELD_TEXT, FIELD_READ, AT(cache_key), 0, 0, NULL, NULL },
    { "cache_salt", FIELD_TEXT, FIELD_READ, AT(cache_key), 0, 0, NULL, NULL },
    { "cache_prompt", FIELD_ANY, FIELD_READ, 0, 0, 0, field_cache, NULL },
    { "t_max_predict_ms", FIELD_REAL, FIELD_READ, AT(time_limit), -1, 1e9, NULL, NULL },
    { "user", FIELD_TEXT, FIELD_READ, AT(user), 0, 0, NULL, NULL },
    { "id_slot", FIELD_ANY, FIELD_READ, 0, 0, 0, field_ids, NULL },
};
const struct field_table fields_job = FIELD_TABLE(job);

static const struct field llama[] = {
    { "n_predict", FIELD_INT, FIELD_READ, AT(max_tokens), -1, 1 << 24, NULL, NULL },
    { "ignore_eos", FIELD_BOOL, FIELD_READ, AT(ignore_end), 0, 0, NULL, NULL },
    { "n_probs", FIELD_INT, FIELD_READ, AT(logprobs), 0, JOB_LOGPROBS, NULL, NULL },
    { "timings_per_token", FIELD_BOOL, FIELD_READ, AT(timings), 0, 0, NULL, NULL },
    { "return_progress", FIELD_BOOL, FIELD_READ, AT(progress), 0, 0, NULL, NULL },
    { "return_tokens", FIELD_BOOL, FIELD_READ, AT(tokens), 0, 0, NULL, NULL },
    { "typical_p", FIELD_REAL, FIELD_REFUSED, 0, 1, 1, NULL, NO_SAMPLER },
    { "top_n_sigma", FIELD_REAL, FIELD_REFUSED, 0, -1e9, 0, NULL, NO_SAMPLER },
    { "dynatemp_range", FIELD_REAL, FIELD_REFUSED, 0, 0, 0, NULL, NO_SAMPLER },
    { "dynatemp_exponent", FIELD_REAL, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "mirostat", FIELD_INT, FIELD_REFUSED, 0, 0, 0, NULL, NO_SAMPLER },
    { "mirostat_tau", FIELD_REAL, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "mirostat_eta", FIELD_REAL, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "dry_multiplier", FIELD_REAL, FIELD_REFUSED, 0, 0, 0, NULL, NO_SAMPLER },
    { "dry_base", FIELD_REAL, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "dry_allowed_length", FIELD_INT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "dry_penalty_last_n", FIELD_INT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "dry_sequence_breakers", FIELD_ARRAY, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "xtc_probability", FIELD_REAL, FIELD_REFUSED, 0, 0, 0, NULL, NO_SAMPLER },
    { "xtc_threshold", FIELD_REAL, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "samplers", FIELD_ANY, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "min_keep", FIELD_INT, FIELD_REFUSED, 0, 0, 1, NULL, NO_SAMPLER },
    { "n_keep", FIELD_INT, FIELD_NOTHING, 0, -1, 1e9, NULL, NULL },
    { "n_discard", FIELD_INT, FIELD_REFUSED, 0, 0, 0, NULL, "the context never shifts: leave it out" },
    { "n_indent", FIELD_INT, FIELD_REFUSED, 0, 0, 0, NULL, "lines are not measured: leave it out" },
    { "grammar", FIELD_TEXT, FIELD_UNSUPPORTED, 0, 0, 0, NULL, NO_FORM },
    { "grammar_lazy", FIELD_BOOL, FIELD_UNSUPPORTED, 0, 0, 0, NULL, NO_FORM },
    { "json_schema", FIELD_ANY, FIELD_UNSUPPORTED, 0, 0, 0, NULL, NO_FORM },
    { "response_format", FIELD_ANY, FIELD_READ, 0, 0, 0, field_format, NULL },
    { "lora", FIELD_ARRAY, FIELD_READ, AT(lora), 0, 0, NULL, NULL },
    { "post_sampling_probs", FIELD_BOOL, FIELD_READ, AT(drawn), 0, 0, NULL, NULL },
    { "verbose", FIELD_BOOL, FIELD_READ, AT(verbose), 0, 0, NULL, NULL },
    { "speculative.n_max", FIELD_INT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "speculative.n_min", FIELD_INT, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
    { "speculative.p_min", FIELD_REAL, FIELD_NOTHING, 0, 0, 0, NULL, NULL },
};
const struct field_table fields_llama = FIELD_TABLE(llama);
#undef AT
