/* /set: the sampling options by the names they have on the command line and in ollama, n, stop, system,
 * verbose. The rows of the option tables say what a value may be. */
#include "stretto/chat.h"
#include "base/memory.h"
#include "stretto/nearest.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct option length_row = {
    "-n --predict --n-predict --num-predict", "N", OPT_INT, 0, -1, 1 << 24,
    "most tokens of an answer; -1 until the model ends [-1]" };

/* A number that can be set: the row that describes it and where it is kept. */
struct parameter { const struct option *row; void *at; };

static struct parameter parameter_at(struct chat *c, size_t i)
{
    for (size_t k = 0; k < group_sampling.n; k++) {
        const struct option *o = &group_sampling.options[k];
        if (o->kind != OPT_INT && o->kind != OPT_REAL) continue;
        if (i-- == 0) return (struct parameter){ o, (char *)&c->sampling + o->at };
    }
    return i == 0 ? (struct parameter){ &length_row, &c->n } : (struct parameter){ NULL, NULL };
}

/* The next name of a row: no dashes before it, underscores between its words. */
static const char *next_name(const char *flags, char *name, size_t cap)
{
    flags += strspn(flags, " -");
    size_t n = strcspn(flags, " ");
    if (!n || n >= cap) return NULL;
    for (size_t i = 0; i < n; i++) name[i] = flags[i] == '-' ? '_' : flags[i];
    name[n] = '\0';
    return flags + n;
}

/* The name a person sees: the longest, but n. */
static void shown_name(const struct option *row, char *name, size_t cap)
{
    char other[64];
    snprintf(name, cap, "%s", row == &length_row ? "n" : "");
    if (*name) return;
    for (const char *p = row->flags; (p = next_name(p, other, sizeof other));)
        if (strlen(other) > strlen(name)) snprintf(name, cap, "%s", other);
}

static bool is_named(const struct option *row, const char *word)
{
    char name[64];
    for (const char *p = row->flags; (p = next_name(p, name, sizeof name));)
        if (strcmp(name, word) == 0) return true;
    return false;
}

static struct parameter find(struct chat *c, const char *word)
{
    struct parameter p;
    for (size_t i = 0; (p = parameter_at(c, i)).row; i++)
        if (is_named(p.row, word)) return p;
    return p;
}

static void write_value(const struct parameter *p, char *out, size_t cap)
{
    if (p->row->kind == OPT_INT) snprintf(out, cap, "%lld", (long long)*(int64_t *)p->at);
    else snprintf(out, cap, "%.15g", *(double *)p->at);
}

/* Hands the numbers on, the lists of biases stay; a seed of -1 becomes one that is drawn. */
static void use(struct chat *c)
{
    struct sampling_options numbers = c->sampling;
    stretto_sampling next;
    numbers.logit_bias.n = 0;
    sampling_from("chat", &numbers, &next);
    next.bias_ids = c->how.bias_ids;
    next.bias_values = c->how.bias_values;
    next.n_bias = c->how.n_bias;
    c->how = next;
    c->sampling.seed = (int64_t)next.seed;
}

/* ---- stop strings ---------------------------------------------------------------------------- */

static size_t count_stops(const struct chat *c)
{
    size_t n = 0;
    while (c->stops[n]) n++;
    return n;
}

bool chat_add_stop(struct chat *c, const char *text)
{
    size_t n = count_stops(c);
    if (n == CHAT_MAX_STOPS || !*text) return false;
    c->stops[n] = mem_strdup(text);
    return c->stops[n] != NULL;
}

void chat_clear_stops(struct chat *c)
{
    for (size_t i = 0; c->stops[i]; i++) {
        mem_free(c->stops[i]);
        c->stops[i] = NULL;
    }
}

static void set_stop(struct chat *c, const char *text)
{
    if (strcmp(text, "-") == 0) {
        chat_clear_stops(c);
        chat_say("No stop strings from now on.");
    } else if (!*text) {
        for (size_t i = 0; c->stops[i]; i++) chat_say("  stop before: %s", c->stops[i]);
        if (!c->stops[0]) chat_say("There are no stop strings; /set stop TEXT adds one, - removes them.");
    } else if (chat_add_stop(c, text)) {
        chat_say("An answer stops before \"%s\" from now on.", text);
    } else
        chat_wrong(c, "there are %d stop strings, and there cannot be more; /set stop - removes them",
                   CHAT_MAX_STOPS);
}

/* ---- the command ----------------------------------------------------------------------------- */

static void show_all(struct chat *c)
{
    struct parameter p;
    char name[64], value[64];
    for (size_t i = 0; (p = parameter_at(c, i)).row; i++) {
        shown_name(p.row, name, sizeof name);
        write_value(&p, value, sizeof value);
        chat_say("  %-18s %s", name, value);
    }
    for (size_t i = 0; c->stops[i]; i++) chat_say("  %-18s %s", "stop", c->stops[i]);
    chat_say("  %-18s %s", "system", c->talk.system ? c->talk.system : "(none)");
    chat_say("  %-18s %s", "verbose", c->verbose ? "on" : "off");
    chat_say("/set NAME VALUE changes one; /set NAME shows it.");
}

static void unknown(struct chat *c, const char *word)
{
    struct nearest near;
    struct parameter p;
    char name[64];
    nearest_begin(&near, word);
    for (size_t i = 0; (p = parameter_at(c, i)).row; i++)
        for (const char *at = p.row->flags; (at = next_name(at, name, sizeof name));)
            nearest_try(&near, name, strlen(name));
    nearest_try_list(&near, "stop|system|verbose|quiet", '|');
    chat_wrong(c, "there is no parameter %s%s /set shows them all", word,
               near.best[0] ? nearest_words(&near) : ";");
}

static void set_number(struct chat *c, const struct parameter *p, const char *value)
{
    char name[64], now[64];
    shown_name(p->row, name, sizeof name);
    if (!*value) {
        write_value(p, now, sizeof now);
        chat_say("%s is %s: %s", name, now, p->row->help);
    } else if (!option_number(p->row, value, p->at)) {
        chat_wrong(c, "%s takes a %snumber from %.15g to %.15g, not '%s'", name,
                   p->row->kind == OPT_INT ? "whole " : "", p->row->min, p->row->max, value);
    } else {
        use(c);
        write_value(p, now, sizeof now);
        chat_say("%s is %s from now on.", name, now);
    }
}

static void set_verbose(struct chat *c, bool on)
{
    c->verbose = on;
    chat_say(on ? "Answers are followed by their speed." : "Answers are no longer followed by their speed.");
}

/* "temp = 1", "temp 1", "--temp 1" and ollama's "parameter temp 1" are the same. */
void chat_set(struct chat *c, char *words)
{
    static const char parameter[] = "parameter";
    if (strncmp(words, parameter, sizeof parameter - 1) == 0 && strchr(" \t", words[sizeof parameter - 1]))
        words += sizeof parameter - 1;
    words += strspn(words, " \t-");
    if (!*words) {
        show_all(c);
        return;
    }
    char *value = words + strcspn(words, " \t\n=");
    if (*value) *value++ = '\0';
    value += strspn(value, " \t=");
    for (char *p = words; *p; p++) *p = *p == '-' ? '_' : (char)tolower((unsigned char)*p);
    struct parameter p = find(c, words);
    if (p.row) set_number(c, &p, value);
    else if (strcmp(words, "stop") == 0 || strcmp(words, "reverse_prompt") == 0) set_stop(c, value);
    else if (strcmp(words, "verbose") == 0) set_verbose(c, strcmp(value, "off") != 0);
    else if (strcmp(words, "quiet") == 0) set_verbose(c, false);
    else unknown(c, words);
}

/* ---- as a saved conversation holds them ------------------------------------------------------ */

json_t *chat_parameters(const struct chat *c)
{
    struct chat *mine = (struct chat *)(uintptr_t)c;           /* parameter_at serves both ways */
    struct parameter p;
    char name[64];
    json_t *all = json_object(), *stops = json_array();
    for (size_t i = 0; (p = parameter_at(mine, i)).row; i++) {
        shown_name(p.row, name, sizeof name);
        json_object_set_new(all, name, p.row->kind == OPT_INT ? json_integer(*(int64_t *)p.at)
                                                              : json_real(*(double *)p.at));
    }
    for (size_t i = 0; c->stops[i]; i++) json_array_append_new(stops, json_string(c->stops[i]));
    json_object_set_new(all, "stop", stops);
    if (c->talk.special_in_text) json_object_set_new(all, "special_in_text", json_true());
    if (!c->how.n_bias) return all;
    json_t *biases = json_array();
    for (size_t i = 0; i < c->how.n_bias; i++)
        json_array_append_new(biases, json_pack("[i,f]", (int)c->how.bias_ids[i], (double)c->how.bias_values[i]));
    json_object_set_new(all, "logit_bias", biases);
    return all;
}

/* What differs from its default was given on the command line. */
static bool was_given(const struct chat *c, const struct parameter *p)
{
    struct sampling_options standard;
    sampling_options_defaults(&standard);
    if (p->row == &length_row) return c->options->n != -1;
    const char *given = (const char *)&c->options->sampling + p->row->at;
    return memcmp(given, (const char *)&standard + p->row->at, 8) != 0;
}

static stretto_status check_stops(const json_t *list, struct error *err)
{
    size_t n = json_array_size(list);
    bool good = json_is_array(list) && n <= CHAT_MAX_STOPS;
    for (size_t i = 0; good && i < n; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        good = text && *text;
    }
    return good ? STRETTO_OK
                : fail(err, STRETTO_E_FORMAT, "its \"stop\" is not a list of at most %d texts", CHAT_MAX_STOPS);
}

static stretto_status take_stops(struct chat *c, const json_t *list, struct error *err)
{
    chat_clear_stops(c);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!chat_add_stop(c, json_string_value(json_array_get(list, i))))
            return fail(err, STRETTO_E_NOMEM, "out of memory");
    return STRETTO_OK;
}

/* A list of [id, value]; NULL: none. */
static stretto_status take_biases(struct chat *c, const json_t *list, struct error *err)
{
    size_t n = json_array_size(list);
    int32_t *ids = malloc((n + 1) * sizeof *ids);
    float *values = malloc((n + 1) * sizeof *values);
    bool good = ids && values;
    for (size_t i = 0; good && i < n; i++) {
        const json_t *pair = json_array_get(list, i), *id = json_array_get(pair, 0), *v = json_array_get(pair, 1);
        good = json_is_integer(id) && json_is_number(v) && json_integer_value(id) >= 0 &&
               json_integer_value(id) <= INT32_MAX;
        ids[i] = (int32_t)json_integer_value(id);
        values[i] = (float)json_number_value(v);
    }
    if (!good || (list && !json_is_array(list))) {
        free(ids);
        free(values);
        return fail(err, STRETTO_E_FORMAT, "its \"logit_bias\" is not a list of [id, value]");
    }
    free((void *)(uintptr_t)c->how.bias_ids);
    free((void *)(uintptr_t)c->how.bias_values);
    c->how.bias_ids = ids;
    c->how.bias_values = values;
    c->how.n_bias = n;
    return STRETTO_OK;
}

static stretto_status take_number(struct chat *c, const char *key, const json_t *v, bool keep_given,
                                  struct error *err)
{
    char text[64];
    struct parameter p = find(c, key);
    if (!p.row) return fail(err, STRETTO_E_UNSUP, "this version does not know its parameter \"%.60s\"", key);
    if (keep_given && was_given(c, &p)) return STRETTO_OK;
    if (json_is_integer(v)) snprintf(text, sizeof text, "%lld", (long long)json_integer_value(v));
    else snprintf(text, sizeof text, "%.17g", json_is_real(v) ? json_real_value(v) : NAN);
    if (option_number(p.row, text, p.at)) return STRETTO_OK;
    return fail(err, STRETTO_E_FORMAT, "the value of its parameter \"%.60s\" is not allowed", key);
}

/* The numbers come first, which chat_take_parameters() can put back, and lists are taken when nothing but
 * memory can fail any more: a file that is refused changes nothing. */
static stretto_status take_all(struct chat *c, const json_t *all, bool keep_given, struct error *err)
{
    const struct chat_options *o = c->options;
    const json_t *stops = keep_given && o->stop.n ? NULL : json_object_get(all, "stop");
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)all, key, v)
        if (strcmp(key, "stop") != 0 && strcmp(key, "special_in_text") != 0 && strcmp(key, "logit_bias") != 0)
            TRY(take_number(c, key, v, keep_given, err));
    if (stops) TRY(check_stops(stops, err));
    if (!keep_given || !o->sampling.logit_bias.n) TRY(take_biases(c, json_object_get(all, "logit_bias"), err));
    if (stops) TRY(take_stops(c, stops, err));
    if (!keep_given || !o->special_in_text)
        c->talk.special_in_text = json_is_true(json_object_get(all, "special_in_text"));
    return STRETTO_OK;
}

stretto_status chat_take_parameters(struct chat *c, const json_t *all, bool keep_given, struct error *err)
{
    const struct sampling_options before = c->sampling;
    const int64_t n = c->n;
    stretto_status s = take_all(c, all, keep_given, err);
    if (s == STRETTO_OK) {
        use(c);
        return s;
    }
    c->sampling = before;
    c->n = n;
    return s;
}
