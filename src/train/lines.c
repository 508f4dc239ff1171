#include "train/lines.h"
#include "base/blake2b.h"
#include "base/hash.h"
#include "base/json_tree.h"
#include "base/memory.h"
#include "format/content.h"
#include "text/conversation.h"
#include "train/states.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_MOST = 1 << 24, RUN = 4 };
#define REPEATS_MOST 0.25
#define WEIGHT_MOST 1e6
#define WEIGHT_LEAST 1e-6

static const char forms[] = "a line has \"messages\", or \"prompt\" and \"completion\", or \"text\"";

struct reader {
    struct lines *l;
    const struct lines_how *how;
    struct conversation talk;
    struct tokens one, other;
    uint32_t file, line;
    bool special;            /* this line's text spells a special token */
};

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory for the data"); }

/* ---- samples --------------------------------------------------------------------------------- */

static stretto_status room_for(struct lines *l, size_t tokens, struct error *err)
{
    if (l->n_ids + tokens > l->cap_ids) {
        size_t cap = (l->n_ids + tokens) * 3 / 2 + 1024;
        int32_t *id = mem_resize(l->id, cap * sizeof *id);
        if (id) l->id = id;
        float *weight = id ? mem_resize(l->weight, cap * sizeof *weight) : NULL;
        if (!weight) return no_memory(err);
        l->weight = weight;
        l->cap_ids = cap;
    }
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 256;
        struct sample *s = mem_resize(l->sample, cap * sizeof *s);
        if (!s) return no_memory(err);
        l->sample = s;
        l->cap = cap;
    }
    return STRETTO_OK;
}

stretto_status lines_add(struct lines *l, const struct sample *s, int32_t **id, float **weight, struct error *err)
{
    TRY(room_for(l, s->n, err));
    l->sample[l->n] = *s;
    l->sample[l->n++].at = l->n_ids;
    *id = l->id + l->n_ids;
    *weight = l->weight + l->n_ids;
    l->n_ids += s->n;
    return STRETTO_OK;
}

static void skip(struct reader *r)
{
    struct lines *l = r->l;
    size_t most = sizeof l->skipped_line / sizeof *l->skipped_line;
    if (l->skipped < most) {
        l->skipped_line[l->skipped] = r->line;
        l->skipped_file[l->skipped] = r->file;
    }
    l->skipped++;
}

/* Takes a text of n tokens of which those with counts[i] are learned; counts NULL: those from `from` on. */
static stretto_status take(struct reader *r, const int32_t *id, size_t n, const uint8_t *counts, size_t from,
                           double weight, uint64_t group, struct error *err)
{
    struct lines *l = r->l;
    struct sample s = { .at = l->n_ids, .n = (uint32_t)n, .group = group, .file = r->file, .line = r->line };
    if (n > r->how->context) {
        if (!r->how->skip_long)
            return fail(err, STRETTO_E_FORMAT, "it has %zu tokens, and the model reads %u at most; shorten it, or "
                        "leave such lines out with --skip-long", n, r->how->context);
        skip(r);
        return STRETTO_OK;
    }
    TRY(room_for(l, n, err));
    for (size_t i = 0; i < n; i++)
        if (id[i] < 0 || (uint32_t)id[i] >= r->how->vocab)
            return fail(err, STRETTO_E_FORMAT, "token %d is none of the model's %u", id[i], r->how->vocab);
    for (size_t i = 0; i < n; i++) {
        bool learned = i > 0 && (r->how->all || (counts ? counts[i] : i >= from));
        l->id[s.at + i] = id[i];
        l->weight[s.at + i] = learned ? (float)weight : 0;
        if (!learned) continue;
        if (!s.first) s.first = (uint32_t)i;
        s.last = (uint32_t)i;
        l->learned++;
    }
    if (!s.first) return fail(err, STRETTO_E_FORMAT, "nothing of it would be learned");
    if (n > l->longest) {
        l->longest = (uint32_t)n;
        l->longest_line = r->line;
        l->longest_file = r->file;
    }
    l->n_ids += n;
    l->sample[l->n++] = s;
    return STRETTO_OK;
}

/* ---- the forms ------------------------------------------------------------------------------- */

struct about { double weight; uint64_t group; };

static stretto_status about_line(const json_t *j, struct about *out, struct error *err)
{
    const json_t *w = json_object_get(j, "weight"), *g = json_object_get(j, "group");
    *out = (struct about){ .weight = w ? json_number_value(w) : 1 };
    if (w && (!json_is_number(w) || !(out->weight >= WEIGHT_LEAST && out->weight <= WEIGHT_MOST)))
        return fail(err, STRETTO_E_FORMAT, "its \"weight\" must be a number from 1e-6 to 1e6");
    if (json_is_string(g)) out->group = hash_bytes(1, json_string_value(g), json_string_length(g)) | 1;
    else if (json_is_integer(g)) {
        json_int_t v = json_integer_value(g);
        out->group = hash_bytes(2, &v, sizeof v) | 1;
    } else if (g && !json_is_null(g))
        return fail(err, STRETTO_E_FORMAT, "its \"group\" must be a text or a whole number");
    return STRETTO_OK;
}

static stretto_status check_messages(const struct reader *r, const json_t *j, const json_t *list, struct error *err)
{
    const json_t *tools = json_object_get(j, "tools"), *m;
    size_t i;
    json_array_foreach(list, i, m)
        if (json_object_get(m, "tool_calls"))
            return fail(err, STRETTO_E_UNSUP, "message %zu calls tools, which cannot be learned yet", i + 1);
    if (tools && !json_is_null(tools) && json_array_size(tools))
        return fail(err, STRETTO_E_UNSUP, "it has \"tools\", which cannot be learned yet");
    if (!r->how->chat)
        return fail(err, STRETTO_E_UNSUP, "the model has no chat template, which \"messages\" need; write "
                    "\"prompt\" and "
                    "\"completion\", or \"text\"");
    return STRETTO_OK;
}

/* Messages [0, n), of which the first `given` are never learned. */
static stretto_status take_talk(struct reader *r, const json_t *list, stretto_message *m, size_t n, size_t given,
                                const struct about *a, struct error *err)
{
    uint8_t skipped[CONVERSATION_MOST] = { 0 };
    size_t last = 0, silent;
    bool open;
    for (size_t i = 0; i < n; i++) {
        const json_t *w = json_object_get(json_array_get(list, i), "weight");
        skipped[i] = i < given || (w && json_number_value(w) == 0);
        if (strcmp(m[i].role, "assistant") == 0 && !skipped[i]) last = i + 1;
    }
    if (!last)
        return fail(err, STRETTO_E_FORMAT, "no message is the assistant's, so nothing of it would be learned");
    TRY(conversation_read(&r->talk, m, last, skipped, &silent, &open, err));
    if (silent < last)
        return fail(err, STRETTO_E_FORMAT, "the model's template prints nothing of message %zu, so it cannot be "
                    "learned",
                    silent + 1);
    r->l->open |= open;
    return take(r, r->talk.all.id, r->talk.all.n, r->talk.said, 0, a->weight, a->group, err);
}

static stretto_status take_messages(struct reader *r, const json_t *j, const struct about *a, struct error *err)
{
    stretto_message m[CONVERSATION_MOST];
    const json_t *list = json_object_get(j, "messages");
    size_t n;
    TRY(check_messages(r, j, list, err));
    TRY(conversation_messages(list, m, &n, err));
    return take_talk(r, list, m, n, 0, a, err);
}

/* "prompt" and "completion" as lists of messages. */
static stretto_status take_two_lists(struct reader *r, const json_t *j, const struct about *a, struct error *err)
{
    stretto_message m[CONVERSATION_MOST];
    json_t *all = json_array();
    size_t n = 0, given = json_array_size(json_object_get(j, "prompt"));
    if (!all) return no_memory(err);
    bool joined = json_array_extend(all, json_object_get(j, "prompt")) == 0
               && json_array_extend(all, json_object_get(j, "completion")) == 0;
    stretto_status s = joined ? check_messages(r, j, all, err) : no_memory(err);
    if (s == STRETTO_OK) s = conversation_messages(all, m, &n, err);
    if (s == STRETTO_OK) s = take_talk(r, all, m, n, given, a, err);
    json_decref(all);
    return s;
}

static stretto_status encode_as(const struct reader *r, const char *p, size_t n, unsigned flags, struct tokens *out,
                                struct error *err)
{
    out->n = 0;
    if (!r->how->tokenizer)
        return fail(err, STRETTO_E_UNSUP, "the model has no tokenizer, so it learns from token ids alone (stretto "
                    "trace)");
    return tokenizer_encode(r->how->tokenizer, p, n, r->how->plain ? flags : flags | TOKENIZE_SPECIAL, out, err);
}

/* Whether a special token is spelled in the text of these tokens, and not only put around it. */
static stretto_status note_special(struct reader *r, const char *p, size_t n, unsigned flags, const struct tokens *got,
                                   struct error *err)
{
    struct tokens plain = { 0 };
    size_t at;
    tokenizer_before(r->how->tokenizer, &at);
    if (!(flags & TOKENIZE_ADD)) at = 0;
    while (at < got->n && !tokenizer_is_special(r->how->tokenizer, got->id[at])) at++;
    if (r->how->plain || r->special || at >= got->n) return STRETTO_OK;
    stretto_status s = tokenizer_encode(r->how->tokenizer, p, n, flags, &plain, err);
    r->special = s == STRETTO_OK
              && (plain.n != got->n || memcmp(plain.id, got->id, got->n * sizeof *got->id) != 0);
    tokens_done(&plain);
    return s;
}

static stretto_status encode(struct reader *r, const char *p, size_t n, unsigned flags, struct tokens *out,
                             struct error *err)
{
    TRY(encode_as(r, p, n, flags, out, err));
    return note_special(r, p, n, flags, out, err);
}

static stretto_status encode_string(struct reader *r, const json_t *s, struct tokens *out, struct error *err)
{
    return encode(r, json_string_value(s), json_string_length(s), TOKENIZE_ADD, out, err);
}

/* What the tokenizer puts behind a text is not part of a prompt. */
static void drop_end(const struct reader *r, struct tokens *t)
{
    size_t before;
    tokenizer_before(r->how->tokenizer, &before);
    while (t->n > before && tokenizer_is_eog(r->how->tokenizer, t->id[t->n - 1])) t->n--;
}

static stretto_status push_end(struct reader *r, struct tokens *t, struct error *err)
{
    int32_t eos = tokenizer_eos(r->how->tokenizer);
    if (eos < 0) r->l->open = true;
    if (eos < 0 || (t->n && tokenizer_is_eog(r->how->tokenizer, t->id[t->n - 1]))) return STRETTO_OK;
    return tokens_push(t, eos) == STRETTO_OK ? STRETTO_OK : no_memory(err);
}

/* Tokens of both as one text, where the prompt's are its beginning; else one behind the other: a model that is asked
 * reads the prompt alone. */
static stretto_status take_completion(struct reader *r, const json_t *j, const struct about *a, struct error *err)
{
    const json_t *p = json_object_get(j, "prompt"), *c = json_object_get(j, "completion");
    struct buffer both = buffer_make(2 * (size_t)LINE_MOST);
    TRY(encode_string(r, p, &r->one, err));
    drop_end(r, &r->one);
    size_t given = r->one.n;
    stretto_status s = buffer_append(&both, json_string_value(p), json_string_length(p));
    if (s == STRETTO_OK) s = buffer_append(&both, json_string_value(c), json_string_length(c));
    if (s != STRETTO_OK) no_memory(err);
    if (s == STRETTO_OK) s = encode(r, both.data ? both.data : "", both.len, TOKENIZE_ADD, &r->other, err);
    bool begins = r->other.n >= given && (!given || memcmp(r->other.id, r->one.id, given * sizeof *r->one.id) == 0);
    if (s == STRETTO_OK && !begins) {
        s = encode(r, json_string_value(c), json_string_length(c), 0, &r->other, err);
        for (size_t i = 0; i < r->other.n && s == STRETTO_OK; i++) s = tokens_push(&r->one, r->other.id[i]);
    }
    buffer_done(&both);
    struct tokens *t = begins ? &r->other : &r->one;
    if (s == STRETTO_OK) s = push_end(r, t, err);
    return s == STRETTO_OK ? take(r, t->id, t->n, NULL, given, a->weight, a->group, err) : s;
}

static stretto_status take_text(struct reader *r, const json_t *j, const struct about *a, struct error *err)
{
    TRY(encode_string(r, json_object_get(j, "text"), &r->one, err));
    TRY(push_end(r, &r->one, err));
    return take(r, r->one.id, r->one.n, NULL, 1, a->weight, a->group, err);
}

static stretto_status push_ids(struct tokens *t, const json_t *list, struct error *err)
{
    size_t i;
    const json_t *v;
    json_array_foreach(list, i, v) {
        json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
        if (id < 0 || id > INT32_MAX) return fail(err, STRETTO_E_FORMAT, "a token id is no whole number");
        if (tokens_push(t, (int32_t)id) != STRETTO_OK) return no_memory(err);
    }
    return STRETTO_OK;
}

/* The share of runs of four tokens that were there before. */
static double repeats(const int32_t *id, size_t n)
{
    size_t again = 0, runs = n < RUN ? 0 : n - RUN + 1;
    for (size_t i = 0; i < runs; i++)
        for (size_t k = 0; k < i; k++)
            if (memcmp(id + k, id + i, RUN * sizeof *id) == 0) {
                again++;
                break;
            }
    return runs ? (double)again / (double)runs : 0;
}

/* Nothing is to be learned from how an answer runs on or in circles. */
static bool leave_out(struct reader *r, const json_t *j, size_t given)
{
    const char *finish = json_string_value(json_object_get(j, "finish"));
    bool cut = finish && strcmp(finish, "length") == 0;
    bool turns = !cut && repeats(r->one.id + given, r->one.n - given) > REPEATS_MOST;
    r->l->left_out[LEFT_CUT] += cut;
    r->l->left_out[LEFT_REPEATS] += turns;
    return cut || turns;
}

static stretto_status take_ids(struct reader *r, const json_t *j, const struct about *a, struct error *err)
{
    struct lines *l = r->l;
    size_t had = l->n;
    r->one.n = 0;
    TRY(push_ids(&r->one, json_object_get(j, "prompt"), err));
    size_t given = r->one.n;
    TRY(push_ids(&r->one, json_object_get(j, "answer"), err));
    if (r->how->states && leave_out(r, j, given)) return STRETTO_OK;
    TRY(take(r, r->one.id, r->one.n, NULL, given ? given : 1, a->weight, a->group, err));
    if (!r->how->states || l->n == had || !given) return STRETTO_OK;
    return states_take(r->how->states, j, (uint32_t)(r->one.n - given), r->how->vocab, &l->sample[had].states, err);
}

/* The first line of a file of `stretto trace`. */
static stretto_status take_header(const struct reader *r, const json_t *j, struct error *err)
{
    const json_t *v = json_object_get(json_object_get(j, "model"), "vocabulary");
    if (r->how->states) TRY(states_head(r->how->states, j, r->how->content, err));
    if (json_integer_value(v) == (json_int_t)r->how->vocab) return STRETTO_OK;
    return fail(err, STRETTO_E_FORMAT, "it was traced with a model of %lld tokens; this one has %u",
                (long long)json_integer_value(v), r->how->vocab);
}

static stretto_status take_line(struct reader *r, const json_t *j, struct error *err)
{
    struct about a;
    const json_t *p = json_object_get(j, "prompt"), *c = json_object_get(j, "completion");
    const json_t *answer = json_object_get(j, "answer"), *format = json_object_get(j, "format");
    if (!json_is_object(j)) return fail(err, STRETTO_E_FORMAT, "it is no JSON object; %s", forms);
    if (json_is_string(format) && strcmp(json_string_value(format), "stretto-jacobi") == 0) return take_header(r,
                                                                                                               j, err);
    if (json_object_get(j, "skipped") && p && !c) return STRETTO_OK;         /* a prompt that trace left out */
    TRY(about_line(j, &a, err));
    if (json_is_array(json_object_get(j, "messages"))) return take_messages(r, j, &a, err);
    if (json_is_string(p) && json_is_string(c)) return take_completion(r, j, &a, err);
    if (json_is_array(p) && json_is_array(c)) return take_two_lists(r, j, &a, err);
    if (json_is_array(p) && json_is_array(answer)) return take_ids(r, j, &a, err);
    if (json_is_string(json_object_get(j, "text"))) return take_text(r, j, &a, err);
    return fail(err, STRETTO_E_FORMAT, "it is of no form that is known; %s", forms);
}

/* ---- files ----------------------------------------------------------------------------------- */

static stretto_status add_line(struct reader *r, const char *p, size_t n, struct error *err)
{
    struct error why = { 0 };
    json_t *j = NULL;
    stretto_status s = n > LINE_MOST ? fail(&why, STRETTO_E_FORMAT, "it is longer than %d bytes", LINE_MOST)
                                     : json_tree(&j, p, n, JSON_TWICE_REFUSED, "the line", &why);
    r->special = false;
    if (s == STRETTO_OK) s = take_line(r, j, &why);
    json_decref(j);
    if (r->special && !r->l->special++) {
        r->l->special_line = r->line;
        r->l->special_file = r->file;
    }
    if (s == STRETTO_OK) return s;
    return fail(err, s == STRETTO_E_ARG ? STRETTO_E_FORMAT : s, "%s, line %u: %s", r->l->file[r->file], r->line,
                why.text);
}

stretto_status lines_add_file(struct lines *l, const char *name, struct error *err)
{
    char **file = mem_resize(l->file, (l->n_files + 1) * sizeof *file);
    if (!file) return no_memory(err);
    l->file = file;
    file[l->n_files] = mem_strdup(name);
    return file[l->n_files] ? l->n_files++, STRETTO_OK : no_memory(err);
}

static stretto_status read_all(struct reader *r, const char *text, size_t n, struct error *err)
{
    const char *p = text, *end = text + n;
    for (r->line = 1; n && p < end; r->line++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t length = (size_t)((stop ? stop : end) - p), blank = 0;
        while (blank < length && strchr(" \t\r", p[blank]) && p[blank]) blank++;
        if (blank < length) TRY(add_line(r, p, length, err));
        p += length + 1;
    }
    return STRETTO_OK;
}

struct hashed { uint64_t hash; size_t i; };

static int by_hash(const void *p, const void *q)
{
    const struct hashed *a = p, *b = q;
    if (a->hash != b->hash) return a->hash < b->hash ? -1 : 1;
    return (a->i > b->i) - (a->i < b->i);
}

/* Of the samples from `from` on those that are there already go. */
static stretto_status drop_twice(struct lines *l, size_t from, struct error *err)
{
    size_t n = l->n - from, kept = from;
    struct hashed *h = mem_alloc((n + 1) * sizeof *h);
    if (!h) return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        const struct sample *s = &l->sample[from + i];
        h[i] = (struct hashed){ hash_bytes(4, sample_ids(l, s), s->n * sizeof *l->id), i };
    }
    qsort(h, n, sizeof *h, by_hash);
    for (size_t i = 1; i < n; i++) {
        struct sample *s = &l->sample[from + h[i].i];
        if (h[i].hash != h[i - 1].hash) continue;
        for (uint32_t k = s->first; k <= s->last; k++) l->learned -= sample_weights(l, s)[k] > 0;
        s->n = 0;
    }
    mem_free(h);
    for (size_t i = from; i < l->n; i++)
        if (l->sample[i].n) l->sample[kept++] = l->sample[i];
    l->left_out[LEFT_TWICE] += (uint32_t)(l->n - kept);
    l->n = kept;
    return STRETTO_OK;
}

static uint64_t seen(const struct lines *l)
{
    uint64_t n = l->n + l->skipped;
    for (int i = 0; i < LEFT_KINDS; i++) n += l->left_out[i];
    return n;
}

stretto_status lines_read(struct lines *l, const struct lines_how *how, const char *name, const char *text, size_t n,
                          struct error *err)
{
    size_t had = l->n;
    uint64_t before = seen(l);
    TRY(lines_add_file(l, name, err));
    struct reader r = { .l = l, .how = how, .file = (uint32_t)l->n_files - 1 };
    conversation_init(&r.talk, how->tokenizer, how->chat, how->now);
    stretto_status s = read_all(&r, text, n, err);
    conversation_done(&r.talk);
    tokens_done(&r.one);
    tokens_done(&r.other);
    if (s == STRETTO_OK && how->states) s = drop_twice(l, had, err);
    if (s == STRETTO_OK && seen(l) == before)
        return fail(err, STRETTO_E_FORMAT, "%s has no line to learn from; %s", name, forms);
    return s;
}

void lines_done(struct lines *l)
{
    for (size_t i = 0; i < l->n_files; i++) mem_free(l->file[i]);
    mem_free(l->file);
    mem_free(l->sample);
    mem_free(l->id);
    mem_free(l->weight);
    *l = (struct lines){ 0 };
}

void lines_digest(const struct lines *l, char out[33])
{
    struct blake2b b;
    unsigned char digest[32];
    blake2b_begin(&b, sizeof digest);
    for (size_t i = 0; i < l->n; i++) {
        const struct sample *s = &l->sample[i];
        const uint64_t head[2] = { s->n, s->group };
        blake2b_add(&b, head, sizeof head);
        blake2b_add(&b, sample_ids(l, s), s->n * sizeof *l->id);
        blake2b_add(&b, sample_weights(l, s), s->n * sizeof *l->weight);
    }
    blake2b_end(&b, digest);
    content_of(digest, sizeof digest, out);
}

/* ---- a part of them -------------------------------------------------------------------------- */

/* Where a sample falls between 0 and 1. */
static double place_of(const struct lines *l, const struct sample *s)
{
    uint64_t h = s->group ? s->group : hash_bytes(3, sample_ids(l, s), s->n * sizeof *l->id);
    return random_unit(random_mix(h));
}

static stretto_status copy_sample(const struct lines *l, const struct sample *s, struct lines *out, struct error *err)
{
    int32_t *id;
    float *weight;
    TRY(lines_add(out, s, &id, &weight, err));
    memcpy(id, sample_ids(l, s), s->n * sizeof *id);
    memcpy(weight, sample_weights(l, s), s->n * sizeof *weight);
    for (uint32_t i = 0; i < s->n; i++) out->learned += weight[i] > 0;
    if (s->n > out->longest) out->longest = s->n;
    return STRETTO_OK;
}

stretto_status lines_split(struct lines *l, double share, struct lines *out, struct error *err)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->n_files; i++) TRY(lines_add_file(out, l->file[i], err));
    for (size_t i = 0; i < l->n; i++)
        if (place_of(l, &l->sample[i]) < share) TRY(copy_sample(l, &l->sample[i], out, err));
    for (size_t i = 0; i < l->n; i++)
        if (!(place_of(l, &l->sample[i]) < share)) l->sample[kept++] = l->sample[i];
    l->n = kept;
    l->learned -= out->learned;
    l->longest = 0;
    for (size_t i = 0; i < kept; i++)
        if (l->sample[i].n > l->longest) {
            l->longest = l->sample[i].n;
            l->longest_line = l->sample[i].line;
            l->longest_file = l->sample[i].file;
        }
    return STRETTO_OK;
}
