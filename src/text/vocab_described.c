/* A GGUF file that `convert` made from a folder: the strings and merges stand where every GGUF file has
 * them, and keys of our own (docs/gguf-keys.md) say what GGUF has no words for, in tokenizer.json's.
 * So the file and the folder are one tokenizer. */
#include "text/vocab_json.h"
#include "base/json_tree.h"
#include "base/memory.h"
#include <string.h>

#define KEY(name) "tokenizer.ggml." name
#define OWN(name) "stretto.tokenizer." name
#define UNDERLINE "\xE2\x96\x81"

bool vocab_is_described(const struct source *src)
{
    uint64_t version;
    return source_u64(src, OWN("version"), &version);
}

static stretto_status check_version(const struct source *src, struct error *err)
{
    uint64_t version = 0;
    source_u64(src, OWN("version"), &version);
    if (version == DESCRIBED_VERSION) return STRETTO_OK;
    return fail(err, STRETTO_E_UNSUP, "%s describes its tokenizer in version %llu; this program reads %d: use a "
                "newer version, or convert the folder again", source_path(src), (unsigned long long)version,
                DESCRIBED_VERSION);
}

static stretto_status missing(const struct source *src, const char *key, struct error *err)
{
    return fail(err, STRETTO_E_FORMAT, "%s: %s is missing or malformed: convert the folder again",
                source_path(src), key);
}

static stretto_status part(struct tokenizer *t, const struct source *src, const char *key,
                           stretto_status (*read)(struct tokenizer *, const json_t *, struct error *),
                           struct error *err)
{
    struct source_str s;
    if (!source_string(src, key, &s)) return missing(src, key, err);
    json_t *j;
    TRY(json_tree(&j, s.p, s.n, JSON_TWICE_REFUSED, key, err));
    stretto_status st = read(t, j, err);
    json_decref(j);
    return st;
}

/* "▁x" begins a word and "x" goes on in one: "x" and "##x" in the folder. */
static stretto_status word_piece(struct buffer *b, struct source_str s)
{
    buffer_clear(b);
    bool begins = s.n >= 3 && !memcmp(s.p, UNDERLINE, 3);
    if (!begins) TRY(buffer_append(b, "##", 2));
    return buffer_append(b, s.p + (begins ? 3 : 0), s.n - (begins ? 3 : 0));
}

static stretto_status tokens(struct tokenizer *t, const struct source *src, bool wordpiece, struct error *err)
{
    enum source_kind kind;
    size_t n, n_types;
    if (!source_array(src, KEY("tokens"), &kind, &n) || kind != SOURCE_STRING ||
        !source_array(src, KEY("token_type"), &kind, &n_types) || n_types < n)
        return missing(src, KEY("tokens"), err);
    struct buffer b = buffer_make((size_t)2 * VOCAB_MAX_PIECE);
    stretto_status st = STRETTO_OK;
    for (size_t i = 0; i < n && st == STRETTO_OK; i++) {
        struct source_str s;
        int64_t type = TOKEN_UNUSED;
        source_array_i64(src, KEY("token_type"), i, &type);
        if (type == TOKEN_UNUSED || !source_array_string(src, KEY("tokens"), i, &s)) continue;
        bool spelled = wordpiece && type != TOKEN_CONTROL;
        if (spelled && word_piece(&b, s) != STRETTO_OK)
            st = fail(err, STRETTO_E_NOMEM, "no memory for the tokenizer");
        if (spelled) s = (struct source_str){ b.data, b.len };
        if (st == STRETTO_OK) st = vocab_set(&t->vocab, i, s.p, s.n, err);
        if (st == STRETTO_OK) t->vocab.type[i] = TOKEN_NORMAL;
    }
    buffer_done(&b);
    return st;
}

static stretto_status merges(struct tokenizer *t, const struct source *src, struct error *err)
{
    enum source_kind kind;
    size_t n = 0;
    struct source_str s;
    if (source_array(src, KEY("merges"), &kind, &n) && kind != SOURCE_STRING)
        return missing(src, KEY("merges"), err);
    TRY(json_merges_begin(t, n, err));
    struct buffer b = buffer_make((size_t)4 * VOCAB_MAX_PIECE);
    stretto_status st = STRETTO_OK;
    for (size_t i = 0; i < n && st == STRETTO_OK; i++) {
        bool there = source_array_string(src, KEY("merges"), i, &s);
        const char *space = there ? memchr(s.p, ' ', s.n) : NULL;
        if (!space) { st = missing(src, KEY("merges"), err); break; }
        size_t left = (size_t)(space - s.p), right = s.n - left - 1;
        buffer_clear(&b);
        if (buffer_append(&b, s.p, left) != STRETTO_OK || buffer_append(&b, space + 1, right) != STRETTO_OK) {
            st = fail(err, STRETTO_E_NOMEM, "no memory for merge %zu", i);
            break;
        }
        int32_t l = vocab_piece(&t->vocab, s.p, left), r = vocab_piece(&t->vocab, space + 1, right),
                id = vocab_piece(&t->vocab, b.data, b.len);
        if (l < 0 || r < 0 || id < 0) { st = missing(src, KEY("merges"), err); break; }
        if (t->pairs.bits) pair_filter_add(&t->pairs, b.data, b.len);
        st = bpe_add(&t->bpe, l, r, (uint32_t)i, id, true, err);
    }
    buffer_done(&b);
    return st;
}

/* Element i of a list of ids; false when it is none of the vocabulary. */
static bool id_at(const struct tokenizer *t, const struct source *src, const char *key, size_t i, int64_t *id)
{
    return source_array_i64(src, key, i, id) && *id >= 0 && (uint64_t)*id < t->vocab.n;
}

static size_t length(const struct source *src, const char *key)
{
    enum source_kind kind;
    size_t n = 0;
    return source_array(src, key, &kind, &n) ? n : 0;
}

/* Said before the model looks for its pieces. */
static void mark_outside(struct tokenizer *t, const struct source *src)
{
    size_t n = length(src, OWN("added_ids"));
    for (size_t i = 0; i < n; i++) {
        int64_t id, how;
        if (id_at(t, src, OWN("added_ids"), i, &id) && source_array_i64(src, OWN("added_flags"), i, &how))
            t->vocab.outside[id] = how & ADDED_OUTSIDE;
    }
}

static stretto_status added(struct tokenizer *t, const struct source *src, struct error *err)
{
    struct added_list l = { .last = -1 };
    size_t n = length(src, OWN("added_ids"));
    stretto_status st = STRETTO_OK;
    for (size_t i = 0; i < n && st == STRETTO_OK; i++) {
        int64_t id, how;
        if (!id_at(t, src, OWN("added_ids"), i, &id) || !source_array_i64(src, OWN("added_flags"), i, &how) ||
            !vocab_len(&t->vocab, (int32_t)id)) {
            st = missing(src, OWN("added_ids"), err);
            break;
        }
        struct source_str s = { vocab_text(&t->vocab, (int32_t)id), vocab_len(&t->vocab, (int32_t)id) };
        struct added_json a = { .special = how & ADDED_SPECIAL, .lstrip = how & ADDED_LSTRIP,
                                .rstrip = how & ADDED_RSTRIP, .single_word = how & ADDED_SINGLE_WORD,
                                .normalized = how & ADDED_NORMALIZED };
        st = added_list_put(t, &l, s, a, err);
    }
    if (st == STRETTO_OK) st = added_list_apply(t, &l, err);
    added_list_done(&l);
    return st;
}

static stretto_status around(struct tokenizer *t, const struct source *src, const char *key, int32_t **list,
                             size_t *n, struct error *err)
{
    size_t m = length(src, key);
    if (!m) return STRETTO_OK;
    if (m > 64) return missing(src, key, err);
    *list = mem_alloc(m * sizeof **list);
    if (!*list) return fail(err, STRETTO_E_NOMEM, "no memory for the tokenizer");
    for (; *n < m; ++*n) {
        int64_t id;
        if (!id_at(t, src, key, *n, &id)) return missing(src, key, err);
        (*list)[*n] = (int32_t)id;
    }
    return STRETTO_OK;
}

static stretto_status ends(struct tokenizer *t, const struct source *src, struct error *err)
{
    int64_t id;
    t->flag = mem_zalloc(t->vocab.n + 1, 1);
    if (!t->flag) return fail(err, STRETTO_E_NOMEM, "no memory for the tokenizer");
    t->bos = id_at(t, src, OWN("bos_eos_ids"), 0, &id) ? (int32_t)id : -1;
    t->eos = id_at(t, src, OWN("bos_eos_ids"), 1, &id) ? (int32_t)id : -1;
    size_t n = length(src, OWN("end_ids"));
    for (size_t i = 0; i < n; i++)
        if (id_at(t, src, OWN("end_ids"), i, &id)) t->flag[id] |= TOKEN_IS_EOG;
    t->ends_known = true;
    return STRETTO_OK;
}

static stretto_status whole(struct tokenizer *t, const struct source *src, struct error *err)
{
    struct source_str model, s;
    TRY(check_version(src, err));
    if (!source_string(src, OWN("model"), &model)) return missing(src, OWN("model"), err);
    TRY(part(t, src, OWN("normalizer"), json_normalizer, err));
    TRY(part(t, src, OWN("pre_tokenizer"), json_pre_tokenizer, err));
    TRY(part(t, src, OWN("decoder"), json_decoder, err));
    bool wordpiece = source_string(src, KEY("model"), &s) && s.n == 4 && !memcmp(s.p, "bert", 4);
    TRY(tokens(t, src, wordpiece, err));
    mark_outside(t, src);
    TRY(json_model(t, model.p, model.n, err));
    if (t->model == MODEL_BPE) TRY(merges(t, src, err));
    TRY(added(t, src, err));
    TRY(around(t, src, OWN("before_ids"), &t->before, &t->n_before, err));
    TRY(around(t, src, OWN("after_ids"), &t->after, &t->n_after, err));
    return ends(t, src, err);
}

stretto_status vocab_from_described(struct tokenizer *t, const struct source *src, struct error *err)
{
    TRY(whole(t, src, err));
    return vocab_gguf_chats(t, src, err);
}
