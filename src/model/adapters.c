#include "model/adapters.h"
#include "base/blake2b.h"
#include "base/buffer.h"
#include "base/memory.h"
#include "format/adapter_tokens.h"
#include "format/content.h"
#include "graph/adapt.h"
#include "model/model.h"
#include "text/vocab.h"
#include <stdio.h>
#include <string.h>

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory"); }

/* Weights may be rounded otherwise than those it was trained beside; then it is near to what it was, not equal. */
static void compare(const struct model *m, const struct model_adapter *a, void (*log)(void *ud, const char *line),
                    void *ud)
{
    char now[CONTENT_DIGITS], line[400];
    const char *p;
    size_t n;
    if (a->pairs.base_content[0] && source_tensor_whole(m->source, NULL) == STRETTO_OK) {
        source_content(m->source, now);
        if (strcmp(now, a->pairs.base_content) != 0) {
            snprintf(line, sizeof line, "%.200s was trained beside other weights than these; it may do less well here",
                     a->path);
            log(ud, line);
        }
    }
    if (!a->pairs.template_content[0] || !m->tokenizer) return;
    bool has = tokenizer_chat_template(m->tokenizer, false, &p, &n);
    content_of(has ? p : "", has ? n : 0, now);
    if (strcmp(now, a->pairs.template_content) == 0) return;
    snprintf(line, sizeof line, "%.200s was trained with another chat template than this model has; conversations may "
             "look strange to it", a->path);
    log(ud, line);
}

const struct model_adapter *model_gated(const struct model *m)
{
    for (size_t i = 0; i < m->n_adapters; i++)
        if (m->adapters[i].pairs.rows == ADAPTER_GUESSES) return &m->adapters[i];
    return NULL;
}

/* Of all that it adds, and where. */
static uint64_t key_of(const struct adapter *a)
{
    struct blake2b b;
    uint64_t key;
    blake2b_begin(&b, sizeof key);
    for (size_t i = 0; i < a->n; i++) {
        const struct adapter_pair *p = &a->pair[i];
        blake2b_add(&b, p->weight, strlen(p->weight) + 1);
        blake2b_add(&b, &p->scale, sizeof p->scale);
        blake2b_add(&b, p->a, (size_t)p->rank * p->n_in * sizeof *p->a);
        blake2b_add(&b, p->b, (size_t)p->rank * p->n_out * sizeof *p->b);
    }
    blake2b_add(&b, adapter_rows_word(a->rows), strlen(adapter_rows_word(a->rows)) + 1);
    blake2b_add(&b, a->invocation, a->n_invocation * sizeof *a->invocation);
    blake2b_end(&b, &key);
    return key;
}

static stretto_status read_one(struct model *m, const struct model_adapter *from, struct error *err)
{
    struct model_adapter *a = &m->adapters[m->n_adapters];
    *a = (struct model_adapter){ .path = mem_strdup(from->path), .scale = from->scale, .chosen = from->chosen };
    if (!a->path) return no_memory(err);
    m->n_adapters++;
    TRY(adapter_read(&a->pairs, a->path, m->source, err));
    if (a->pairs.rows == ADAPTER_GUESSES && !a->chosen && a->scale != 1)
        return fail(err, STRETTO_E_ARG, "%s acts on guesses alone, which are right or wrong: it has no scale; leave "
                    "=%g away", a->path, (double)a->scale);
    a->key = key_of(&a->pairs);
    return STRETTO_OK;
}

static stretto_status put_into_graph(struct model *m, struct error *err)
{
    size_t n = 0, at = 0;
    struct graph adapted;
    for (size_t i = 0; i < m->n_adapters; i++) n += m->adapters[i].pairs.n;
    struct adapt_pair *pairs = mem_zalloc(n + 1, sizeof *pairs);
    if (!pairs) return no_memory(err);
    for (size_t i = 0; i < m->n_adapters; i++)
        for (size_t k = 0; k < m->adapters[i].pairs.n; k++, at++) {
            const struct adapter_pair *p = &m->adapters[i].pairs.pair[k];
            bool in_set = model_adapter_in_set(&m->adapters[i]);
            pairs[at] = (struct adapt_pair){ .rank = p->rank, .adapter = (uint32_t)i, .chosen = in_set,
                                             .scale = in_set ? p->scale : p->scale * m->adapters[i].scale };
            memcpy(pairs[at].weight, p->weight, sizeof pairs[at].weight);
        }
    stretto_status s = adapt(&m->graph, pairs, n, &adapted, err);
    mem_free(pairs);
    if (s != STRETTO_OK) return s;
    graph_done(&m->graph);
    m->graph = adapted;
    return STRETTO_OK;
}

void model_adapters_tell(const struct model *m, void (*log)(void *ud, const char *line), void *ud)
{
    for (size_t i = 0; i < m->n_adapters; i++) compare(m, &m->adapters[i], log, ud);
}

/* A table that it has no rows for would get means, which nobody has learned. */
static stretto_status all_tables(const struct model *m, const struct model_adapter *a, const struct adapter_tokens *t,
                                 struct error *err)
{
    static const char *const tables[] = { "token_embd.weight", "output.weight" };
    for (size_t k = 0; k < sizeof tables / sizeof *tables; k++) {
        bool has = !source_tensor_find(m->source, tables[k]);
        for (size_t i = 0; i < t->n_tables && !has; i++) has = strcmp(t->table[i].tensor, tables[k]) == 0;
        if (!has)
            return fail(err, STRETTO_E_ARG, "%s is for another model: it has no rows for %s", a->path, tables[k]);
    }
    return STRETTO_OK;
}

/* How the model's vocabulary spells these tokens together (text/phrases.h). False: some are missing, or memory. */
static bool spell(const struct source *s, const int32_t *piece, size_t n, struct buffer *out)
{
    for (size_t i = 0; i < n; i++) {
        struct source_str text;
        if (!source_array_string(s, "tokenizer.ggml.tokens", (size_t)piece[i], &text)) return false;
        int byte = byte_spelled(text.p, text.n);
        char one = (char)byte;
        if (buffer_append(out, byte < 0 ? text.p : &one, byte < 0 ? text.n : 1) != STRETTO_OK) return false;
    }
    return true;
}

/* A vocabulary of the same size may be another one. */
static stretto_status same_words(const struct model *m, const struct model_adapter *a, const struct more_tokens *t,
                                 struct error *err)
{
    struct buffer b = buffer_make(1 << 20);
    stretto_status s = STRETTO_OK;
    for (size_t i = 0; i < t->n && s == STRETTO_OK; i++) {
        const char *text = t->spelled + t->spelled_at[i];
        size_t n = t->spelled_at[i + 1] - t->spelled_at[i];
        buffer_clear(&b);
        if (spell(m->source, t->piece + t->at[i], t->at[i + 1] - t->at[i], &b) && b.len == n
            && memcmp(b.data, text, n) == 0) continue;
        s = fail(err, STRETTO_E_ARG, "%s is for another model: its phrase '%.*s' says other words with the tokens of "
                 "%s", a->path, (int)(n < 60 ? n : 60), text, source_path(m->source));
    }
    buffer_done(&b);
    return s;
}

static stretto_status take_tokens(struct model *m, const struct model_adapter *a, const struct adapter_tokens *t,
                                  struct error *err)
{
    if (!t->more.n) return STRETTO_OK;
    if (a->chosen || a->scale != 1)
        return fail(err, STRETTO_E_UNSUP, "%s brings phrases along, which become the model's vocabulary: it is always "
                    "there and whole, and cannot be %s", a->path,
                    a->chosen ? "chosen for some requests" : "scaled");
    if (source_has(m->source, "stretto.phrases.version"))
        return fail(err, STRETTO_E_ARG, "%s brings phrases along, and %s has some already: an adapter with phrases "
                    "stands alone, beside a model without", a->path, source_path(m->source));
    TRY(all_tables(m, a, t, err));
    TRY(same_words(m, a, &t->more, err));
    for (size_t i = 0; i < t->n_tables; i++) {
        const struct source_tensor *of = source_tensor_find(m->source, t->table[i].tensor);
        if (!of || of->n_dims != 2 || of->dims[0] != t->table[i].width)
            return fail(err, STRETTO_E_ARG, "%s is for another model: it has rows of %u for %s", a->path,
                        t->table[i].width, t->table[i].tensor);
    }
    return source_extend(m->source, &t->more, err);
}

stretto_status model_adapters_tokens(struct model *m, const struct model_adapter *list, size_t n, struct error *err)
{
    stretto_status s = STRETTO_OK;
    for (size_t i = 0; i < n && s == STRETTO_OK; i++) {
        struct adapter_tokens t;
        TRY(adapter_tokens_read(&t, list[i].path, err));
        s = take_tokens(m, &list[i], &t, err);
        adapter_tokens_done(&t);
    }
    return s;
}

stretto_status model_adapter_look(const char *path, bool *phrases, enum adapter_rows *rows, struct error *err)
{
    struct adapter_tokens t;
    TRY(adapter_tokens_read(&t, path, err));
    *phrases = t.more.n > 0;
    adapter_tokens_done(&t);
    return adapter_rows_read(path, rows, err);
}

stretto_status model_adapters_open(struct model *m, const struct model_adapter *list, size_t n, struct error *err)
{
    if (!n) return STRETTO_OK;
    m->adapters = mem_zalloc(n, sizeof *m->adapters);
    if (!m->adapters) return no_memory(err);
    for (size_t i = 0; i < n; i++) TRY(read_one(m, &list[i], err));
    return put_into_graph(m, err);
}

void model_adapters_done(struct model *m)
{
    for (size_t i = 0; i < m->n_adapters; i++) {
        mem_free(m->adapters[i].path);
        adapter_done(&m->adapters[i].pairs);
    }
    mem_free(m->adapters);
}

bool adapter_param(const struct adapter *a, size_t which, const char *name, struct param_bytes *out)
{
    for (size_t i = 0; i < a->n; i++) {
        const struct adapter_pair *p = &a->pair[i];
        struct adapt_pair named = { .adapter = (uint32_t)which };
        char side_a[GRAPH_NAME], side_b[GRAPH_NAME];
        if (strncmp(name, p->weight, strlen(p->weight)) != 0) continue;
        memcpy(named.weight, p->weight, sizeof named.weight);
        if (!adapt_name(side_a, &named, 'a') || !adapt_name(side_b, &named, 'b')) continue;
        bool b = strcmp(name, side_b) == 0;
        if (!b && strcmp(name, side_a) != 0) continue;
        uint32_t n_in = b ? p->rank : p->n_in;
        *out = (struct param_bytes){ .type = DT_F32, .n_in = n_in, .n_out = b ? p->n_out : p->rank,
                                     .data = b ? p->b : p->a, .row_bytes = n_in * sizeof(float), .memory = true };
        return true;
    }
    return false;
}

bool model_adapters_param(const struct model *m, const char *name, struct param_bytes *out)
{
    for (size_t i = 0; i < m->n_adapters && adapt_owns(name); i++)
        if (adapter_param(&m->adapters[i].pairs, i, name, out)) return true;
    return false;
}
