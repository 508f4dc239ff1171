#include "text/vocab_json.h"
#include "base/json.h"
#include "base/json_tree.h"
#include "base/memory.h"
#include <stdio.h>
#include <string.h>

struct raw { const char *p; size_t n; };

/* ---- the model, streamed ---------------------------------------------------------------------------- */

struct model_text {
    struct raw vocab, merges;
    char type[32], unk[256];
    size_t n_unk;
    bool has_unk, has_prefix, has_dropout;
    int64_t max_chars;
};

static bool take_text(const struct json *j, char *out, size_t max, size_t *n)
{
    if (j->n >= max) return false;
    memcpy(out, j->p, j->n);
    out[j->n] = '\0';
    *n = j->n;
    return true;
}

static stretto_status affix(struct json *j, enum json_kind kind, char **out, size_t *n, struct error *err)
{
    if (kind == JT_NULL) return STRETTO_OK;
    if (kind != JT_STRING || j->n > 64)
        return json_fail(j, "a prefix or suffix of words is a string of at most 64 bytes");
    mem_free(*out);
    *out = mem_alloc(j->n + 1);
    if (!*out) return fail(err, STRETTO_E_NOMEM, "no memory for the tokenizer");
    memcpy(*out, j->p, j->n);
    (*out)[j->n] = '\0';
    *n = j->n;
    return STRETTO_OK;
}

static stretto_status model_member(struct tokenizer *t, struct json *j, struct model_text *m,
                                   struct error *err)
{
    char key[32];
    size_t n;
    if (!take_text(j, key, sizeof key, &n)) return json_skip(j) ? STRETTO_OK : json_status(j);
    struct raw *raw = !strcmp(key, "vocab") ? &m->vocab : !strcmp(key, "merges") ? &m->merges : NULL;
    if (raw) return json_raw(j, &raw->p, &raw->n) ? STRETTO_OK : json_status(j);
    enum json_kind kind = json_next(j);
    if (kind == JT_ERROR) return json_status(j);
    if (!strcmp(key, "type") && kind == JT_STRING) {
        if (!take_text(j, m->type, sizeof m->type, &n))
            return json_fail(j, "the model's type is longer than any that is known");
    } else if (!strcmp(key, "unk_token") && kind == JT_STRING) {
        m->has_unk = take_text(j, m->unk, sizeof m->unk, &m->n_unk);
        if (!m->has_unk) return json_fail(j, "the unknown token is longer than 255 bytes");
    } else if (!strcmp(key, "byte_fallback")) t->byte_fallback = kind == JT_TRUE;
    else if (!strcmp(key, "fuse_unk")) t->fuse_unk = kind == JT_TRUE;
    else if (!strcmp(key, "ignore_merges")) t->ignore_merges = kind == JT_TRUE;
    else if (!strcmp(key, "max_input_chars_per_word")) {
        if (kind != JT_NUMBER || !json_i64(j, &m->max_chars) || m->max_chars < 0)
            return json_fail(j, "max_input_chars_per_word is no count");
    } else if (!strcmp(key, "dropout")) {
        double rate;
        m->has_dropout = kind == JT_NUMBER && json_f64(j, &rate) && rate > 0;
    } else if (!strcmp(key, "continuing_subword_prefix")) {
        m->has_prefix = true;
        return affix(j, kind, &t->inner_prefix, &t->n_inner_prefix, err);
    } else if (!strcmp(key, "end_of_word_suffix")) {
        return affix(j, kind, &t->word_suffix, &t->n_word_suffix, err);
    } else if (kind == JT_OBJECT || kind == JT_ARRAY) {
        if (!json_skip(j)) return json_status(j);
    }
    return STRETTO_OK;
}

static stretto_status read_model(struct tokenizer *t, struct raw text, struct model_text *m,
                                 struct error *err)
{
    struct json j;
    json_open(&j, text.p, text.n, "tokenizer.json, model", err);
    stretto_status st = STRETTO_OK;
    enum json_kind kind = json_next(&j);
    if (kind == JT_OBJECT)
        while (st == STRETTO_OK && (kind = json_next(&j)) == JT_KEY) st = model_member(t, &j, m, err);
    else if (kind != JT_ERROR) st = json_fail(&j, "the model is no object");
    if (st == STRETTO_OK) st = json_status(&j);
    json_done(&j);
    return st;
}

/* { "piece": id, ... } */
static stretto_status read_vocab(struct tokenizer *t, struct raw text, struct error *err)
{
    struct json j;
    json_open(&j, text.p, text.n, "tokenizer.json, vocab", err);
    struct buffer piece = buffer_make(VOCAB_MAX_PIECE + 1);
    stretto_status st = STRETTO_OK;
    enum json_kind kind = json_next(&j);
    if (kind != JT_OBJECT && kind != JT_ERROR) st = json_fail(&j, "the vocabulary is no object");
    while (st == STRETTO_OK && (kind = json_next(&j)) == JT_KEY) {
        int64_t id;
        buffer_clear(&piece);
        st = buffer_append(&piece, j.p, j.n);
        if (st == STRETTO_E_NOMEM) fail(err, st, "no memory for the vocabulary");
        else if (st != STRETTO_OK) st = json_fail(&j, "a token of %zu bytes is too long", j.n);
        if (st != STRETTO_OK) break;
        if (json_next(&j) != JT_NUMBER || !json_i64(&j, &id) || id < 0 || id >= VOCAB_MAX) {
            st = json_fail(&j, "a token's id is no number from 0 to %d", VOCAB_MAX - 1);
            break;
        }
        st = vocab_set(&t->vocab, (size_t)id, piece.data, piece.len, err);
        if (st == STRETTO_OK) t->vocab.type[id] = TOKEN_NORMAL;
    }
    if (st == STRETTO_OK) st = json_status(&j);
    json_done(&j);
    buffer_done(&piece);
    return st;
}

/* One merge: "left right" or ["left", "right"]; both parts into `b`, the length of the left in *left. */
static stretto_status read_merge(struct json *j, enum json_kind kind, struct buffer *b, size_t *left)
{
    buffer_clear(b);
    if (kind == JT_STRING) {
        const char *space = memchr(j->p, ' ', j->n);
        size_t n = space ? (size_t)(space - j->p) : 0;
        if (!space || memchr(space + 1, ' ', j->n - n - 1))
            return json_fail(j, "a merge is two pieces with one space between them");
        *left = n;
        TRY(buffer_append(b, j->p, n));
        return buffer_append(b, space + 1, j->n - n - 1);
    }
    if (kind != JT_ARRAY || json_next(j) != JT_STRING) return json_fail(j, "a merge is two pieces");
    TRY(buffer_append(b, j->p, j->n));
    *left = b->len;
    if (json_next(j) != JT_STRING) return json_fail(j, "a merge is two pieces");
    TRY(buffer_append(b, j->p, j->n));
    return json_next(j) == JT_ARRAY_END ? STRETTO_OK : json_fail(j, "a merge is two pieces");
}

static stretto_status add_merge(struct tokenizer *t, struct json *j, const struct buffer *b, size_t left,
                                size_t rank, struct error *err)
{
    struct buffer joined = { 0 };
    const char *right = b->data + left;
    size_t n_right = b->len - left, skip = t->n_inner_prefix;
    int32_t l = vocab_piece(&t->vocab, b->data, left), r = vocab_piece(&t->vocab, right, n_right), id;
    if (!skip) {
        id = vocab_piece(&t->vocab, b->data, b->len);
    } else {
        /* The right part's own prefix is not part of what the two become. */
        joined = buffer_make((size_t)2 * VOCAB_MAX_PIECE + 64);
        stretto_status st = buffer_append(&joined, b->data, left);
        if (n_right < skip) skip = n_right;
        if (st == STRETTO_OK) st = buffer_append(&joined, right + skip, n_right - skip);
        if (st != STRETTO_OK) { buffer_done(&joined); return fail(err, st, "no memory for a merge"); }
        id = vocab_piece(&t->vocab, joined.data, joined.len);
        buffer_done(&joined);
    }
    if (l < 0 || r < 0 || id < 0)
        return json_fail(j, "merge %zu makes or uses a piece that is not in the vocabulary", rank);
    if (t->pairs.bits) pair_filter_add(&t->pairs, b->data, b->len);
    return bpe_add(&t->bpe, l, r, (uint32_t)rank, id, true, err);
}

static size_t count_items(struct raw text)
{
    struct json j;
    size_t n = 0;
    json_open(&j, text.p, text.n, "tokenizer.json, merges", NULL);
    enum json_kind kind;
    while ((kind = json_next(&j)) > JT_END) {
        if (j.depth == 1 && kind == JT_STRING) n++;
        if (j.depth == 2 && kind == JT_ARRAY) n++;
    }
    json_done(&j);
    return n;
}

stretto_status json_merges_begin(struct tokenizer *t, size_t n, struct error *err)
{
    TRY(bpe_reserve(&t->bpe, n, err));
    if (t->byte_level || t->n_inner_prefix || t->n_word_suffix) return STRETTO_OK;
    return pair_filter_open(&t->pairs, t->vocab.n, err);
}

static stretto_status read_merges(struct tokenizer *t, struct raw text, struct error *err)
{
    TRY(json_merges_begin(t, text.n ? count_items(text) : 0, err));
    if (!text.n) return STRETTO_OK;
    struct json j;
    json_open(&j, text.p, text.n, "tokenizer.json, merges", err);
    struct buffer b = buffer_make((size_t)2 * VOCAB_MAX_PIECE + 64);
    stretto_status st = STRETTO_OK;
    enum json_kind kind = json_next(&j);
    if (kind != JT_ARRAY && kind != JT_ERROR) st = json_fail(&j, "the merges are no array");
    for (size_t rank = 0; st == STRETTO_OK && (kind = json_next(&j)) > JT_END && kind != JT_ARRAY_END;
         rank++) {
        size_t left = 0;
        st = read_merge(&j, kind, &b, &left);
        if (st == STRETTO_E_NOMEM) fail(err, st, "no memory for merge %zu", rank);
        else if (st == STRETTO_E_FULL) st = json_fail(&j, "merge %zu is too long", rank);
        if (st == STRETTO_OK) st = add_merge(t, &j, &b, left, rank, err);
    }
    if (st == STRETTO_OK) st = json_status(&j);
    json_done(&j);
    buffer_done(&b);
    return st;
}

/* ---- added tokens ----------------------------------------------------------------------------------- */

void added_list_done(struct added_list *l)
{
    mem_free(l->item);
    mem_free(l->at);
    *l = (struct added_list){ 0 };
}

const struct added_json *added_list_find(const struct tokenizer *t, const struct added_list *l,
                                         struct source_str s)
{
    int32_t id = vocab_find(&t->vocab, s.p, s.n);
    uint32_t at = id >= 0 && (size_t)id < l->n_at ? l->at[id] : 0;
    return at ? &l->item[at - 1] : NULL;
}

struct added_json added_json_of(const json_t *v)
{
    bool special = json_flag(v, "special", false);
    return (struct added_json){ .special = special, .lstrip = json_flag(v, "lstrip", false),
                                .rstrip = json_flag(v, "rstrip", false),
                                .single_word = json_flag(v, "single_word", false),
                                .normalized = json_flag(v, "normalized", !special) };
}

/* Room for one item more, and for its id. */
static stretto_status added_list_grow(struct added_list *l, size_t id, struct error *err)
{
    if (l->n == l->cap) {
        size_t cap = l->cap * 2 + 64;
        struct added_json *item = cap <= VOCAB_MAX * 2 ? mem_resize(l->item, cap * sizeof *item) : NULL;
        if (!item) return fail(err, STRETTO_E_NOMEM, "no memory for %zu added tokens", cap);
        l->item = item;
        l->cap = cap;
    }
    if (id < l->n_at) return STRETTO_OK;
    size_t n = id + id / 2 + 64;
    uint32_t *at = mem_resize(l->at, n * sizeof *at);
    if (!at) return fail(err, STRETTO_E_NOMEM, "no memory for %zu added tokens", l->n + 1);
    memset(at + l->n_at, 0, (n - l->n_at) * sizeof *at);
    l->at = at;
    l->n_at = n;
    return STRETTO_OK;
}

stretto_status added_list_put(struct tokenizer *t, struct added_list *l, struct source_str s,
                              struct added_json a, struct error *err)
{
    struct vocab *v = &t->vocab;
    a.id = vocab_find(v, s.p, s.n);
    if (a.id < 0) {
        int64_t id = l->last >= (int64_t)l->n_model ? l->last + 1 : (int64_t)l->n_model;
        if (id >= VOCAB_MAX)
            return fail(err, STRETTO_E_FORMAT, "the added token \"%.100s\" is one too many", s.p);
        TRY(vocab_set(v, (size_t)id, s.p, s.n, err));
        v->outside[id] = true;
        a.id = (int32_t)id;
    }
    TRY(added_list_grow(l, (size_t)a.id, err));
    if (!l->at[a.id]) l->at[a.id] = (uint32_t)++l->n;
    l->item[l->at[a.id] - 1] = a;
    if (a.id > l->last) l->last = a.id;
    return STRETTO_OK;
}

static stretto_status find_when_normalized(struct tokenizer *t, struct added a, struct error *err)
{
    const char *p = vocab_text(&t->vocab, a.id);
    struct buffer text = buffer_make((size_t)16 * VOCAB_MAX_PIECE), spare = buffer_make(text.max);
    struct pretok_work work = { .text = buffer_make(text.max), .spare = buffer_make(text.max) };
    stretto_status st = buffer_append(&text, p, vocab_len(&t->vocab, a.id));
    if (st == STRETTO_OK) st = normal_run(&t->normal, &text, &spare, &work, err);
    if (st == STRETTO_OK && text.len) st = added_add(&t->normalized, a, text.data, text.len, err);
    if (st != STRETTO_OK) fail(err, st, "no memory for the added tokens");
    buffer_done(&text);
    buffer_done(&spare);
    pretok_work_done(&work);
    return st;
}

stretto_status added_list_apply(struct tokenizer *t, struct added_list *l, struct error *err)
{
    t->added = l->item;
    t->n_added = l->n;
    l->item = NULL;
    for (size_t i = 0; i < t->n_added; i++) {
        const struct added_json *k = &t->added[i];
        struct added a = { .id = k->id, .special = k->special, .lstrip = k->lstrip, .rstrip = k->rstrip,
                           .single_word = k->single_word };
        t->vocab.type[k->id] = k->special ? TOKEN_CONTROL : TOKEN_USER;
        /* What is looked for in normalized text is the normalized string. */
        if (k->normalized) TRY(find_when_normalized(t, a, err));
        else TRY(added_add(&t->raw, a, vocab_text(&t->vocab, k->id), vocab_len(&t->vocab, k->id), err));
    }
    return STRETTO_OK;
}

static stretto_status check_added(const json_t *list, struct error *err)
{
    struct source_str s;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        if (!json_text(item, "content", &s) || !json_is_integer(json_object_get(item, "id")))
            return fail(err, STRETTO_E_FORMAT, "tokenizer.json: an added token lacks its content or id");
    }
    return STRETTO_OK;
}

/* ---- the whole file --------------------------------------------------------------------------------- */

enum { PART_MODEL, PART_ADDED, PART_NORMALIZER, PART_PRE, PART_POST, PART_DECODER, N_PARTS };

static stretto_status find_parts(const char *p, size_t n, struct raw part[N_PARTS], struct error *err)
{
    static const char *const names[N_PARTS] = { "model", "added_tokens", "normalizer", "pre_tokenizer",
                                                "post_processor", "decoder" };
    struct json j;
    json_open(&j, p, n, "tokenizer.json", err);
    stretto_status st = STRETTO_OK;
    enum json_kind kind = json_next(&j);
    if (kind != JT_OBJECT && kind != JT_ERROR) st = json_fail(&j, "tokenizer.json is no object");
    while (st == STRETTO_OK && (kind = json_next(&j)) == JT_KEY) {
        struct raw ignored, *to = &ignored;
        for (size_t i = 0; i < N_PARTS; i++) if (json_is(&j, names[i])) to = &part[i];
        if (!json_raw(&j, &to->p, &to->n)) break;
    }
    if (st == STRETTO_OK) st = json_status(&j);
    json_done(&j);
    return st;
}

static stretto_status tree(json_t **out, struct raw text, const char *what, struct error *err)
{
    *out = NULL;
    return text.p ? json_tree(out, text.p, text.n, JSON_TWICE_LAST, what, err) : STRETTO_OK;
}

/* jansson passes over a failure here and there: the first is kept. */
struct dump { struct buffer text; stretto_status st; };

static int append_dump(const char *p, size_t n, void *ud)
{
    struct dump *d = ud;
    if (d->st == STRETTO_OK) d->st = buffer_append(&d->text, p, n);
    return d->st == STRETTO_OK ? 0 : -1;
}

static stretto_status describe(struct tokenizer *t, enum described which, const json_t *j,
                               struct error *err)
{
    struct dump d = { .text = buffer_make((size_t)1 << 24) };
    if (!j) append_dump("null", 4, &d);
    else if (json_dump_callback(j, append_dump, &d, JSON_COMPACT | JSON_ENCODE_ANY)) d.st = STRETTO_E_NOMEM;
    if (d.st == STRETTO_OK) t->described[which] = mem_strdup(d.text.data);
    buffer_done(&d.text);
    return t->described[which] ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "no memory for the tokenizer");
}

static stretto_status describe_model(struct tokenizer *t, const struct model_text *m, struct error *err)
{
    json_t *j = json_pack("{s:s, s:b, s:b, s:b, s:I}", "type",
                          t->model == MODEL_WORDPIECE ? "WordPiece" : "BPE", "byte_fallback",
                          t->byte_fallback, "fuse_unk", t->fuse_unk, "ignore_merges", t->ignore_merges,
                          "max_input_chars_per_word", (json_int_t)m->max_chars);
    if (!j) return fail(err, STRETTO_E_NOMEM, "no memory for the tokenizer");
    const struct { const char *key, *text; bool is; } more[] = {
        { "unk_token", m->unk, m->has_unk },
        { "continuing_subword_prefix", t->inner_prefix, t->inner_prefix != NULL },
        { "end_of_word_suffix", t->word_suffix, t->word_suffix != NULL },
    };
    bool bad = false;
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        if (more[i].is) bad |= json_object_set_new(j, more[i].key, json_string(more[i].text)) != 0;
    stretto_status st = bad ? fail(err, STRETTO_E_NOMEM, "no memory for the tokenizer")
                            : describe(t, DESCRIBED_MODEL, j, err);
    json_decref(j);
    return st;
}

static stretto_status part_of(struct tokenizer *t, struct raw text, const char *what,
                              const struct beside *b, int which,
                              stretto_status (*read)(struct tokenizer *, const json_t *, struct error *),
                              struct error *err)
{
    json_t *j;
    TRY(tree(&j, text, what, err));
    stretto_status st = which < 0 ? STRETTO_OK : beside_adjust(b, (enum beside_part)which, &j, err);
    if (st == STRETTO_OK && which >= 0)
        st = describe(t, (enum described)(DESCRIBED_NORMALIZER + which), j, err);
    if (st == STRETTO_OK) st = read(t, j, err);
    json_decref(j);
    return st;
}

static stretto_status all_added(struct tokenizer *t, struct raw text, const struct beside *b,
                                struct error *err)
{
    json_t *j;
    struct added_list l = { .n_model = t->vocab.n_used, .last = -1 };
    TRY(tree(&j, text, "tokenizer.json, added_tokens", err));
    stretto_status st = check_added(j, err);
    if (st == STRETTO_OK) st = beside_added(t, b, &l, j, err);
    json_decref(j);
    if (st == STRETTO_OK) st = added_list_apply(t, &l, err);
    added_list_done(&l);
    return st;
}

static stretto_status settle_model(struct tokenizer *t, const struct model_text *m, struct error *err)
{
    bool wordpiece = !strcmp(m->type, "WordPiece") || (!*m->type && m->has_prefix && !m->merges.n);
    bool bpe = !strcmp(m->type, "BPE") || (!*m->type && !wordpiece && m->merges.n);
    if (!wordpiece && !bpe)
        return fail(err, STRETTO_E_UNSUP, "tokenizer.json uses the model \"%s\", which this version does "
                    "not support (it knows BPE and WordPiece)", *m->type ? m->type : "(no type)");
    if (m->has_dropout)
        return fail(err, STRETTO_E_UNSUP, "tokenizer.json asks for BPE dropout, which is random: set "
                    "\"dropout\" to null");
    if (m->has_unk) {
        t->unk = vocab_piece(&t->vocab, m->unk, m->n_unk);
        if (t->unk < 0)
            return fail(err, STRETTO_E_FORMAT, "tokenizer.json: the unknown token \"%s\" is not in the "
                        "vocabulary", m->unk);
    }
    snprintf(t->kind, sizeof t->kind, "%s", wordpiece ? "WordPiece" : t->byte_level ? "BPE bytes" : "BPE");
    for (int i = 0; i < 256; i++) {
        char letter[4];
        size_t n = utf8_encode(byte_letter((unsigned char)i), letter);
        t->bpe.byte_id[i] = vocab_piece(&t->vocab, letter, n);
    }
    if (t->byte_fallback)
        for (int i = 0; i < 256; i++) {
            int32_t id = vocab_byte(&t->vocab, (unsigned char)i);
            if (id >= 0) t->vocab.type[id] = TOKEN_BYTE;
        }
    t->model = MODEL_BPE;
    if (bpe) return STRETTO_OK;
    if (t->byte_level || t->letters)
        return fail(err, STRETTO_E_UNSUP, "tokenizer.json combines WordPiece with ByteLevel, which this "
                    "version does not support");
    t->model = MODEL_WORDPIECE;
    if (t->n_inner_prefix >= sizeof t->wordpiece.inside)
        return fail(err, STRETTO_E_FORMAT, "tokenizer.json: the prefix inside words is too long");
    if (t->inner_prefix) memcpy(t->wordpiece.inside, t->inner_prefix, t->n_inner_prefix);
    else memcpy(t->wordpiece.inside, "##", 2);
    t->wordpiece.n_inside = t->inner_prefix ? t->n_inner_prefix : 2;
    t->wordpiece.max_chars = m->max_chars < 4096 ? (size_t)m->max_chars : 4096;
    t->wordpiece.unk = t->unk;
    return STRETTO_OK;
}

stretto_status json_model(struct tokenizer *t, const char *p, size_t n, struct error *err)
{
    struct model_text m = { .max_chars = 100 };
    TRY(read_model(t, (struct raw){ p, n }, &m, err));
    return settle_model(t, &m, err);
}

static stretto_status read_parts(struct tokenizer *t, const char *p, size_t n, struct beside *b,
                                 struct error *err)
{
    struct raw part[N_PARTS] = { 0 };
    struct model_text m = { .max_chars = 100 };
    TRY(find_parts(p, n, part, err));
    if (!part[PART_MODEL].n) return fail(err, STRETTO_E_FORMAT, "tokenizer.json has no model");
    TRY(read_model(t, part[PART_MODEL], &m, err));
    if (!m.vocab.n) return fail(err, STRETTO_E_FORMAT, "tokenizer.json has no vocabulary");
    if (part[PART_PRE].n) beside_look(b, part[PART_PRE].p, part[PART_PRE].n);
    TRY(part_of(t, part[PART_NORMALIZER], "tokenizer.json, normalizer", b, BESIDE_NORMALIZER, json_normalizer,
                err));
    TRY(part_of(t, part[PART_PRE], "tokenizer.json, pre_tokenizer", b, BESIDE_PRE, json_pre_tokenizer, err));
    TRY(part_of(t, part[PART_DECODER], "tokenizer.json, decoder", b, BESIDE_DECODER, json_decoder, err));
    TRY(read_vocab(t, m.vocab, err));
    TRY(settle_model(t, &m, err));
    if (t->model == MODEL_BPE) TRY(read_merges(t, m.merges, err));
    TRY(describe_model(t, &m, err));
    TRY(all_added(t, part[PART_ADDED], b, err));
    return part_of(t, part[PART_POST], "tokenizer.json, post_processor", b, -1, json_post_processor, err);
}

stretto_status vocab_from_json_text(struct tokenizer *t, const char *p, size_t n, struct error *err)
{
    struct beside b = { 0 };
    stretto_status st = beside_settle(&b, err);
    if (st == STRETTO_OK) st = read_parts(t, p, n, &b, err);
    beside_done(&b);
    return st;
}

/* ---- what stands beside tokenizer.json -------------------------------------------------------------- */

static stretto_status bad_chats(struct error *err)
{
    return fail(err, STRETTO_E_FORMAT, "chat_template is neither a text nor texts with names: mend it in "
                "tokenizer_config.json or chat_template.json");
}

/* chat_template of tokenizer_config.json or chat_template.json: one text, or several with names, as an
 * object or as a list of { "name", "template" }. Where an earlier file gave one, it counts alone. */
static stretto_status config_chats(struct tokenizer *t, const json_t *config, struct error *err)
{
    struct source_str s, name;
    const json_t *v = json_object_get(config, "chat_template");
    if (t->n_chat || !v || json_is_null(v)) return STRETTO_OK;
    if (json_text(config, "chat_template", &s))
        return tokenizer_add_chat(t, "default", 7, s.p, s.n, err);
    for (void *at = json_object_iter((json_t *)(uintptr_t)v); at;
         at = json_object_iter_next((json_t *)(uintptr_t)v, at)) {
        const char *key = json_object_iter_key(at);
        if (!json_text(v, key, &s)) return bad_chats(err);
        TRY(tokenizer_add_chat(t, key, strlen(key), s.p, s.n, err));
    }
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *item = json_array_get(v, i);
        if (!json_text(item, "name", &name) || !json_text(item, "template", &s)) return bad_chats(err);
        TRY(tokenizer_add_chat(t, name.p, name.n, s.p, s.n, err));
    }
    return json_is_object(v) || json_is_array(v) ? STRETTO_OK : bad_chats(err);
}

/* Texts of their own beside the folder; they go before what JSON files say. */
static stretto_status file_chats(struct tokenizer *t, const struct source *src, struct error *err)
{
    static const char *const files[][2] = {
        { "default", "chat_template.jinja" },
        { "tool_use", "additional_chat_templates/tool_use.jinja" },
    };
    struct source_str s;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (source_file(src, files[i][1], &s))
            TRY(tokenizer_add_chat(t, files[i][0], strlen(files[i][0]), s.p, s.n, err));
    return STRETTO_OK;
}

static stretto_status open_beside(struct beside *b, const struct source *src, struct error *err)
{
    struct { const char *file; json_t **to; } files[] = {
        { "tokenizer_config.json", &b->tokenizer }, { "special_tokens_map.json", &b->map },
        { "added_tokens.json", &b->added }, { "config.json", &b->model },
        { "generation_config.json", &b->generation },
    };
    struct source_str s;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        /* transformers goes on without a generation_config.json that it cannot read; some are empty. */
        if (source_file(src, files[i].file, &s) && (files[i].to != &b->generation || !json_blank(s.p, s.n)))
            TRY(tree(files[i].to, (struct raw){ s.p, s.n }, files[i].file, err));
    return beside_settle(b, err);
}

static stretto_status read_folder(struct tokenizer *t, const struct source *src, struct source_str text,
                                  struct beside *b, struct error *err)
{
    struct source_str s;
    json_t *chats = NULL;
    TRY(open_beside(b, src, err));
    TRY(read_parts(t, text.p, text.n, b, err));
    t->flag = mem_zalloc(t->vocab.n, 1);
    if (!t->flag) return fail(err, STRETTO_E_NOMEM, "no memory for the tokenizer");
    beside_ids(t, b);
    TRY(file_chats(t, src, err));
    TRY(config_chats(t, b->tokenizer, err));
    if (!source_file(src, "chat_template.json", &s)) return STRETTO_OK;
    TRY(tree(&chats, (struct raw){ s.p, s.n }, "chat_template.json", err));
    stretto_status st = config_chats(t, chats, err);
    json_decref(chats);
    return st;
}

stretto_status vocab_from_json(struct tokenizer *t, const struct source *src, struct error *err)
{
    struct source_str s;
    if (!source_file(src, "tokenizer.json", &s))
        return fail(err, STRETTO_E_FORMAT, "%s holds no tokenizer.json", source_path(src));
    struct beside b = { 0 };
    stretto_status st = read_folder(t, src, s, &b, err);
    beside_done(&b);
    return st;
}
