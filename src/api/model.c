/* The public functions on models and text. */
#include "api/handles.h"
#include "base/memory.h"
#include "format/pooling.h"
#include "stretto/experimental.h"
#include "text/conversation.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

stretto_status options_take(void *ours, size_t our_size, const void *theirs, struct error *err)
{
    if (!theirs) return STRETTO_OK;
    size_t size;
    memcpy(&size, theirs, sizeof size);
    if (size < sizeof size || size > 1 << 16)
        return fail(err, STRETTO_E_ARG,
                    "an options struct has no valid size; fill it with its INIT macro");
    for (size_t i = our_size; i < size; i++)
        if (((const unsigned char *)theirs)[i])
            return fail(err, STRETTO_E_UNSUP,
                        "an options struct asks for something this version does not know");
    memcpy(ours, theirs, size < our_size ? size : our_size);
    return STRETTO_OK;
}

stretto_status report(stretto_status s, const struct error *e, char *err, size_t err_size)
{
    if (err && err_size)
        snprintf(err, err_size, "%s",
                 s == STRETTO_OK ? ""
                 : e->status     ? e->text
                                 : stretto_status_text(s));
    return s;
}

/* Said when the model opens, since the first conversation may come much later. */
static void tell_of_chat(const struct chat *c, const stretto_model_options *o)
{
    const char *why = c ? chat_trouble(c) : NULL;
    char line[700];
    if (!why || !o->log) return;
    snprintf(line, sizeof line, "conversations with this model will be refused: %s", why);
    o->log(o->user, line);
}

/* The devices that are asked for, one or several cards: their words, as backend_find has them. */
struct places { size_t n; char word[SPLIT_MEMBERS - 1][24]; char name[128]; };

static stretto_status find_places(const char *words, struct places *out, struct error *err)
{
    *out = (struct places){ .n = 0 };
    for (const char *p = words ? words : backends[0]->name; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
        char word[24];
        struct device_about about;
        snprintf(word, sizeof word, "%.*s", (int)strcspn(p, ","), p);
        if (out->n == SPLIT_MEMBERS - 1)
            return fail(err, STRETTO_E_ARG, "a model can be on %d devices", SPLIT_MEMBERS - 1);
        TRY(backend_find(word, &about, err));
        for (size_t i = 0; i < out->n; i++)
            if (strcmp(out->word[i], about.word) == 0)
                return fail(err, STRETTO_E_ARG, "the device %s is named twice: %s", about.word, words);
        memcpy(out->word[out->n++], about.word, sizeof about.word);
        if (out->n == 1) memcpy(out->name, about.name, sizeof out->name);
    }
    return STRETTO_OK;
}

/* "int" is a device of its own, instead of the cpu. */
static stretto_status read_arithmetic(stretto_model_options *o, struct error *err)
{
    bool integers = o->arithmetic && strcmp(o->arithmetic, "int") == 0;
    if (o->scales && !integers)
        return fail(err, STRETTO_E_ARG, "scales known beforehand go with integer arithmetic alone");
    if (!o->arithmetic || strcmp(o->arithmetic, "float") == 0) return STRETTO_OK;
    if (!integers)
        return fail(err, STRETTO_E_ARG, "there is no arithmetic '%.40s'; there are float and int", o->arithmetic);
    if (o->device && strcmp(o->device, backends[0]->name) != 0 && strcmp(o->device, "integer") != 0)
        return fail(err, STRETTO_E_ARG, "integer arithmetic is the CPU's; it does not go with the device %.60s",
                    o->device);
    o->device = "integer";
    return STRETTO_OK;
}

static stretto_status which_devices(const stretto_model_options *o, struct places *out, bool *automatic,
                                    struct error *err)
{
    const char *named = getenv("STRETTO_DEVICE"), *word = o->device ? o->device : named && *named ? named : NULL;
    char words[200];
    *automatic = word && strcmp(word, "auto") == 0;
    device_words(words, sizeof words);
    if (word && !device_word_known(word))
        return fail(err, STRETTO_E_ARG, "there is no device '%.60s' in this build; there is: %s", word, words);
    if (o->device_layers > 0 && o->device_layers < INT32_MAX && word && strchr(word, ','))
        return fail(err, STRETTO_E_ARG, "a number of layers goes with one device, not with %s", word);
    return find_places(o->device_layers < 0 ? NULL : word, out, err);
}

enum { ADAPTERS = 32 };

/* "FILE" or "FILE=SCALE"; a file of such a name is a file. The paths are to be freed. */
static stretto_status read_adapters(const char *const *words, bool chosen, struct model_adapter *list, size_t *n,
                                    struct error *err)
{
    for (; words && *words; ++words, ++*n) {
        if (*n == ADAPTERS) return fail(err, STRETTO_E_ARG, "more than %d adapters", ADAPTERS);
        const char *word = *words, *equals = access(word, F_OK) == 0 ? NULL : strrchr(word, '=');
        char *end = NULL;
        double scale = equals ? strtod(equals + 1, &end) : 1;
        if (equals && (end == equals + 1 || *end || !(fabs(scale) <= 1e6)))
            return fail(err, STRETTO_E_ARG, "an adapter is FILE or FILE=SCALE, as my.gguf=0.5; not '%.200s'", word);
        list[*n].path = mem_strndup(word, equals ? (size_t)(equals - word) : strlen(word));
        list[*n].scale = (float)scale;
        list[*n].chosen = chosen;
        if (!list[*n].path) return fail(err, STRETTO_E_NOMEM, "out of memory");
    }
    return STRETTO_OK;
}

static void take_back(stretto_model *m)
{
    while (m->n_taken) shared_device_give(m->taken[--m->n_taken]);
}

static stretto_status take(stretto_model *m, const char *word, struct error *err)
{
    TRY(shared_device_take(word, m->level, &m->taken[m->n_taken], err));
    m->n_taken++;
    return STRETTO_OK;
}

/* On the cpu, or on cards, with the cpu for what has no room there. */
static stretto_status open_on(stretto_model *m, const char *path, const struct places *at,
                              const stretto_model_options *o, struct model_open_options mo, struct error *err)
{
    int32_t shares[SPLIT_MEMBERS];
    bool cards = strchr(at->word[0], ':') != NULL;       /* they are numbered */
    for (size_t i = 0; i < at->n; i++) TRY(take(m, at->word[i], err));
    if (cards) TRY(take(m, NULL, err));
    for (size_t i = 0; i < SPLIT_MEMBERS; i++) shares[i] = SPLIT_AUTOMATIC;
    if (at->n == 1 && o->device_layers) shares[0] = o->device_layers;
    const struct split_ask ask = { .members = m->taken, .layers = shares, .n = m->n_taken, .cache = CACHE_F16,
                                   .reference = mo.reference, .context = o->device_context };
    mo.device = cards ? NULL : m->taken[0];
    mo.split = cards ? &ask : NULL;
    return model_open(&m->model, path, &mo, err);
}

/* What a card cannot do the cpu does, when anything goes. */
static stretto_status open_somewhere(stretto_model *m, const char *path, const stretto_model_options *o,
                                     const struct model_open_options *mo, struct error *err)
{
    struct places at, cpu = { .n = 1 };
    struct error why = { .status = STRETTO_OK };
    char line[800];
    if (o->vocabulary_only) return model_open(&m->model, path, mo, err);
    TRY(which_devices(o, &at, &m->automatic, err));
    m->automatic &= strcmp(at.word[0], backends[0]->name) != 0;
    stretto_status s = open_on(m, path, &at, o, *mo, &why);
    if (s == STRETTO_OK && m->n_taken > 1 && m->model->device == m->taken[m->n_taken - 1] && o->log) {
        snprintf(line, sizeof line, "%s (%s) has no room for a layer of this model, which is on the cpu",
                 at.word[0], at.name);
        o->log(o->user, line);
    }
    bool again = s == STRETTO_E_DEVICE || s == STRETTO_E_NOMEM || s == STRETTO_E_UNSUP;
    if (s == STRETTO_OK || !m->automatic || !again) return s == STRETTO_OK ? s : fail(err, s, "%s", why.text);
    m->automatic = false;
    take_back(m);
    snprintf(cpu.word[0], sizeof cpu.word[0], "%s", backends[0]->name);
    TRY(open_on(m, path, &cpu, o, *mo, err));
    snprintf(line, sizeof line, "%s (%s) cannot have this model, which is on the cpu instead: %s", at.word[0],
             at.name, why.text);
    if (o->log) o->log(o->user, line);
    return STRETTO_OK;
}

stretto_status stretto_model_open(stretto_model **out, const char *path,
                                  const stretto_model_options *opt, char *err, size_t err_size)
{
    struct error e = { 0 };
    if (!out || !path)
        return report(fail(&e, STRETTO_E_ARG, "a model needs a path"), &e, err, err_size);
    *out = NULL;
    stretto_model_options o = STRETTO_MODEL_OPTIONS_INIT;
    stretto_status s = options_take(&o, sizeof o, opt, &e);
    if (s == STRETTO_OK) s = read_arithmetic(&o, &e);
    stretto_model *m = s == STRETTO_OK ? mem_zalloc(1, sizeof *m) : NULL;
    if (s == STRETTO_OK && !m) s = fail(&e, STRETTO_E_NOMEM, "out of memory");
    if (s == STRETTO_OK) {
        const char *level = o.cpu ? o.cpu : getenv("STRETTO_CPU");
        pthread_mutex_init(&m->lock, NULL);
        m->threads = o.threads;
        m->moved = o.moved;
        m->moved_user = o.moved_user;
        if (level && !(m->level = mem_strdup(level))) s = fail(&e, STRETTO_E_NOMEM, "out of memory");
        struct model_open_options mo = {.threads = o.threads,
                                        .reference = o.reference != 0,
                                        .scales = o.scales,
                                        .vocabulary_only = o.vocabulary_only != 0,
                                        .progress = o.progress,
                                        .log = o.log,
                                        .ud = o.user,
                                        .cancel = o.cancel};
        struct model_adapter adapters[ADAPTERS] = { 0 };
        if (s == STRETTO_OK) s = read_adapters(o.adapters, false, adapters, &mo.n_adapters, &e);
        if (s == STRETTO_OK) s = read_adapters(o.chosen, true, adapters, &mo.n_adapters, &e);
        mo.adapters = adapters;
        if (s == STRETTO_OK) s = open_somewhere(m, path, &o, &mo, &e);
        for (size_t i = 0; i < ADAPTERS; i++) mem_free(adapters[i].path);
        if (s == STRETTO_OK) s = chat_open(&m->chat, m->model->tokenizer, &e);
        if (s == STRETTO_OK) tell_of_chat(m->chat, &o);
    }
    if (s != STRETTO_OK) stretto_model_close(m);
    else *out = m;
    return report(s, &e, err, err_size);
}

const struct model *stretto_model_inside(const stretto_model *m) { return m->model; }

void stretto_model_close(stretto_model *m)
{
    if (!m) return;
    chat_close(m->chat);
    model_close(m->spare);
    model_close(m->model);
    shared_device_give(m->spare_device);
    take_back(m);
    pthread_mutex_destroy(&m->lock);
    mem_free(m->level);
    mem_free(m);
}

stretto_status stretto_model_adapter(const stretto_model *m, size_t number, stretto_adapter_info *info)
{
    if (!m || !info || info->size < sizeof(size_t) || number >= m->model->n_adapters) return STRETTO_E_ARG;
    const struct model_adapter *a = &m->model->adapters[number];
    const stretto_adapter_info i = { .size = info->size, .path = a->path, .scale = a->scale, .chosen = a->chosen,
                                     .rows = adapter_rows_word(a->pairs.rows), .layers = (uint32_t)a->pairs.n };
    memcpy(info, &i, info->size < sizeof i ? info->size : sizeof i);
    return STRETTO_OK;
}

stretto_status stretto_model_about(const stretto_model *m, stretto_model_info *info)
{
    if (!m || !info || info->size < sizeof(size_t)) return STRETTO_E_ARG;
    const struct model *x = m->model;
    stretto_model_info i = {
        .size = info->size, .file_bytes = x->tensor_bytes, .load_seconds = x->load_seconds};
    snprintf(i.family, sizeof i.family, "%s", source_arch(x->source));
    snprintf(i.format, sizeof i.format, "%s", source_format(x->source));
    struct pooling_rule rule;
    source_pooling(x->source, &rule);
    if (!rule.refusal[0]) snprintf(i.pooling, sizeof i.pooling, "%s", pooling_name(rule.kind));
    if (x->tokenizer) {
        snprintf(i.tokenizer, sizeof i.tokenizer, "%s", tokenizer_kind(x->tokenizer));
        i.vocabulary = (uint32_t)tokenizer_size(x->tokenizer);
        i.chat = m->chat != NULL;
    }
    for (size_t t = 0; t < source_tensor_count(x->source); t++) {
        const struct source_tensor *s = source_tensor_at(x->source, t);
        uint64_t elements = 1;
        for (int d = 0; d < SOURCE_MAX_DIMS; d++) elements *= s->dims[d];
        i.parameters += elements;
    }
    if (x->weights) {
        const struct config *c = &x->config;
        i.layers = c->layers; i.width = c->width; i.heads = c->heads; i.kv_heads = c->kv_heads;
        i.head_dim = c->head_dim; i.feed = c->feed; i.vocabulary = c->vocab; i.context = c->context;
        i.encoder = x->graph.logits == GRAPH_NONE;
        i.weight_bytes = x->device->backend->weights_bytes(x->weights);
        struct model *on;
        if (model_running(m, &on, NULL) != STRETTO_OK) on = m->model;
        snprintf(i.device, sizeof i.device, "%s", on->device->word);
    }
    memcpy(info, &i, info->size < sizeof i ? info->size : sizeof i);
    return STRETTO_OK;
}

stretto_status stretto_tokenize(const stretto_model *m, const char *text, size_t length,
                                unsigned flags, int32_t *ids, size_t capacity, size_t *count)
{
    if (!m || !count || (!text && length) || (!ids && capacity)) return STRETTO_E_ARG;
    *count = 0;
    if (!m->model->tokenizer) return STRETTO_E_UNSUP;
    struct tokens t = { 0 };
    struct error e = { 0 };
    unsigned f = (flags & STRETTO_TOKENIZE_SPECIAL ? TOKENIZE_SPECIAL : 0) |
                 (flags & STRETTO_TOKENIZE_ADD ? TOKENIZE_ADD : 0);
    stretto_status s = tokenizer_encode(m->model->tokenizer, text ? text : "", length, f, &t, &e);
    if (s == STRETTO_OK) {
        *count = t.n;
        if (t.n > capacity) s = STRETTO_E_FULL;
        if (capacity && t.n) memcpy(ids, t.id, (t.n < capacity ? t.n : capacity) * sizeof *ids);
    }
    tokens_done(&t);
    return s;
}

/* Copies text out under the rule of the public functions: as much as fits, always a NUL, E_FULL. */
static stretto_status give_text(const struct buffer *b, char *text, size_t capacity, size_t *length)
{
    *length = b->len;
    size_t n = b->len < capacity ? b->len : capacity ? capacity - 1 : 0;
    if (n) memcpy(text, b->data, n);
    if (capacity) text[n] = '\0';
    return b->len < capacity ? STRETTO_OK : STRETTO_E_FULL;
}

enum { TEXT_MAX = 1 << 30 };

stretto_status stretto_detokenize(const stretto_model *m, const int32_t *ids, size_t count,
                                  char *text, size_t capacity, size_t *length)
{
    if (!m || !length || (!ids && count) || (!text && capacity)) return STRETTO_E_ARG;
    *length = 0;
    if (!m->model->tokenizer) return STRETTO_E_UNSUP;
    struct buffer b = buffer_make(TEXT_MAX);
    stretto_status s = tokenizer_decode(m->model->tokenizer, ids, count, true, &b);
    if (s == STRETTO_OK) s = give_text(&b, text, capacity, length);
    buffer_done(&b);
    return s;
}

int stretto_token_ends(const stretto_model *m, int32_t id)
{
    return m && m->model->tokenizer && tokenizer_is_eog(m->model->tokenizer, id);
}

/* ---- conversations --------------------------------------------------------------------------- */

static stretto_status rendered(const stretto_model *m, const stretto_message *messages, size_t count,
                               bool answer, struct buffer *text, struct buffer *content,
                               unsigned *notes, struct error *e)
{
    if (!m->chat) return tokenizer_no_chat(m->model->tokenizer, e);
    return chat_render(m->chat, messages, count, answer, time(NULL), text, content, notes, e);
}

stretto_status stretto_chat_render(const stretto_model *m, const stretto_message *messages,
                                   size_t count, int generate, char *text, size_t capacity,
                                   size_t *length, char *err, size_t err_size)
{
    struct error e = { 0 };
    if (!m || !length || (!messages && count) || (!text && capacity)) return STRETTO_E_ARG;
    *length = 0;
    struct buffer b = buffer_make(TEXT_MAX);
    stretto_status s = rendered(m, messages, count, generate != 0, &b, NULL, NULL, &e);
    if (s == STRETTO_OK) s = give_text(&b, text, capacity, length);
    buffer_done(&b);
    return report(s, &e, err, err_size);
}

/* BOS in front where the tokenizer puts it and the template did not. */
static stretto_status begin(const struct tokenizer *t, struct tokens *out, const struct tokens *ids,
                            bool *twice)
{
    size_t n;
    const int32_t *before = tokenizer_before(t, &n);
    *twice = n && ids->n >= n && memcmp(ids->id, before, n * sizeof *before) == 0;
    for (size_t i = 0; i < n && !*twice; i++) TRY(tokens_push(out, before[i]));
    return STRETTO_OK;
}

static void tell(const stretto_chat_options *o, const struct tokenizer *t, unsigned notes, bool twice)
{
    char line[300];
    size_t n = 0;
    if (!o->log) return;
    if (notes & CHAT_SYSTEM_FOLDED)
        o->log(o->user, "the model's chat template has no place for a system message: it stands in front "
                        "of the user's message");
    const int32_t *before = tokenizer_before(t, &n);
    const char *p = twice ? tokenizer_spelling(t, before[0], &n) : NULL;
    if (!p) return;
    snprintf(line, sizeof line, "the chat template and the tokenizer both begin with %.*s: it comes once",
             (int)(n < 100 ? n : 100), p);
    o->log(o->user, line);
}

stretto_status stretto_chat_tokenize(const stretto_model *m, const stretto_message *messages,
                                     size_t count, const stretto_chat_options *opt, int32_t *ids,
                                     size_t capacity, size_t *n_ids, char *err, size_t err_size)
{
    struct error e = { 0 };
    struct tokens made = { 0 }, first = { 0 };
    bool twice = false;
    unsigned notes = 0;
    if (!m || !n_ids || (!messages && count) || (!ids && capacity)) return STRETTO_E_ARG;
    *n_ids = 0;
    stretto_chat_options o = STRETTO_CHAT_OPTIONS_INIT;
    stretto_status s = options_take(&o, sizeof o, opt, &e);
    struct buffer text = buffer_make(TEXT_MAX), content = buffer_make(TEXT_MAX);
    const struct tokenizer *t = m->model->tokenizer;
    if (s == STRETTO_OK) s = rendered(m, messages, count, o.answer != 0, &text, &content, &notes, &e);
    if (s == STRETTO_OK)
        s = tokenizer_encode_chat(t, text.data, o.special_in_text ? NULL
                                  : (const unsigned char *)content.data, text.len, TOKENIZE_SPECIAL,
                                  &made, &e);
    if (s == STRETTO_OK) s = conversation_join(t, m->chat, &made, &e);
    if (s == STRETTO_OK && o.begin) s = begin(t, &first, &made, &twice);
    if (s == STRETTO_OK) {
        tell(&o, t, notes, twice);
        *n_ids = first.n + made.n;
        if (*n_ids > capacity) s = STRETTO_E_FULL;
        else if (first.n) memcpy(ids, first.id, first.n * sizeof *ids);
        if (s == STRETTO_OK && made.n) memcpy(ids + first.n, made.id, made.n * sizeof *ids);
    }
    tokens_done(&made);
    tokens_done(&first);
    buffer_done(&text);
    buffer_done(&content);
    return report(s, &e, err, err_size);
}
