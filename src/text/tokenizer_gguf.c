/* Three descriptions of a tokenizer that GGUF knows: "gpt2" is byte-level BPE, its pre-tokenizer is
 * one of a list of names; "llama" is SentencePiece, where scores say which pair merges first;
 * "bert" is WordPiece, with U+2581 before the beginnings of words instead of ## before the rest.
 * Keys and the meaning of the names: gguf-py's constants and llama.cpp's readers. */
#include "text/tokenizer_gguf.h"
#include "base/json.h"
#include "base/json_tree.h"
#include "base/memory.h"
#include "format/gguf_write.h"
#include "text/tokenizer_int.h"
#include <stdlib.h>
#include <string.h>

#define KEY(name) "tokenizer.ggml." name
#define OWN(name) "stretto.tokenizer." name      /* docs/gguf-keys.md */
#define UNDERLINE "\xE2\x96\x81"                   /* U+2581 stands for a space */

struct writing {
    const struct tokenizer *t;
    const struct source *src;
    struct gguf_writer *w;
    struct error *err;
    size_t n;                       /* tokens to write: as many as the model has embeddings */
};

static stretto_status unsupported(struct writing *x, const char *what)
{
    return fail(x->err, STRETTO_E_UNSUP,
                "%s: GGUF has no words for %s of this tokenizer.json, so the "
                "folder cannot be converted; it can be used as it is",
                source_path(x->src), what);
}

static stretto_status no_memory(struct writing *x)
{
    return fail(x->err, STRETTO_E_NOMEM, "no memory to convert the tokenizer of %s",
                source_path(x->src));
}

/* ---- the vocabulary ------------------------------------------------------------------------- */

static enum token_type type_of_token(const struct writing *x, size_t id)
{
    if (id >= x->t->vocab.n || vocab_len(&x->t->vocab, (int32_t)id) == 0) return TOKEN_UNUSED;
    return (enum token_type)x->t->vocab.type[id];
}

/* One token as GGUF spells it; ids that the tokenizer does not have get a name of their own. */
static stretto_status spell(struct writing *x, size_t id, bool wordpiece, struct buffer *b)
{
    buffer_clear(b);
    enum token_type type = type_of_token(x, id);
    if (type == TOKEN_UNUSED) return buffer_printf(b, "[PAD%zu]", id);
    const char *p = vocab_text(&x->t->vocab, (int32_t)id);
    size_t n = vocab_len(&x->t->vocab, (int32_t)id);
    if (wordpiece && type != TOKEN_CONTROL) {
        if (n > 2 && memcmp(p, "##", 2) == 0) return buffer_append(b, p + 2, n - 2);
        TRY(buffer_append(b, UNDERLINE, 3));
    }
    return buffer_append(b, p, n);
}

static stretto_status put_tokens(struct writing *x, bool wordpiece)
{
    struct buffer b = buffer_make((size_t)2 * VOCAB_MAX_PIECE);
    int32_t *types = mem_zalloc(x->n, sizeof *types);
    stretto_status st = types ? STRETTO_OK : STRETTO_E_NOMEM;
    gguf_put_strings(x->w, KEY("tokens"), x->n);
    for (size_t i = 0; i < x->n && st == STRETTO_OK; i++) {
        st = spell(x, i, wordpiece, &b);
        if (st != STRETTO_OK) break;
        gguf_put_item(x->w, b.data ? b.data : "", b.len);
        types[i] = (int32_t)type_of_token(x, i);
        if (!wordpiece && (int32_t)i == x->t->unk && !x->t->byte_level && !x->t->letters)
            types[i] = TOKEN_UNKNOWN;
    }
    if (st == STRETTO_OK) gguf_put_i32s(x->w, KEY("token_type"), types, x->n);
    mem_free(types);
    buffer_done(&b);
    return st == STRETTO_OK ? st : no_memory(x);
}

static int by_rank(const void *a, const void *b)
{
    const struct bpe_merge *x = a, *y = b;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

/* All merges, the first to be tried first. The caller frees. */
static struct bpe_merge *sorted_merges(const struct tokenizer *t, size_t *n)
{
    struct bpe_merge *list = mem_alloc((t->bpe.n_used + 1) * sizeof *list);
    *n = 0;
    if (!list) return NULL;
    for (size_t i = 0; i < t->bpe.n_slots; i++)
        if (t->bpe.slot[i].id >= 0) list[(*n)++] = t->bpe.slot[i];
    qsort(list, *n, sizeof *list, by_rank);
    return list;
}

static bool has_space(const struct vocab *v, int32_t id)
{
    return memchr(vocab_text(v, id), ' ', vocab_len(v, id)) != NULL;
}

static stretto_status put_merges(struct writing *x)
{
    size_t n;
    struct bpe_merge *list = sorted_merges(x->t, &n);
    struct buffer b = buffer_make((size_t)4 * VOCAB_MAX_PIECE);
    stretto_status st = list ? STRETTO_OK : STRETTO_E_NOMEM;
    const struct vocab *v = &x->t->vocab;
    if (st == STRETTO_OK) gguf_put_strings(x->w, KEY("merges"), n);
    for (size_t i = 0; i < n && st == STRETTO_OK; i++) {
        if (has_space(v, list[i].left) || has_space(v, list[i].right)) {
            mem_free(list);
            buffer_done(&b);
            return unsupported(x, "merges with spaces in them");
        }
        buffer_clear(&b);
        st = buffer_append(&b, vocab_text(v, list[i].left), vocab_len(v, list[i].left));
        if (st == STRETTO_OK) st = buffer_append(&b, " ", 1);
        if (st == STRETTO_OK)
            st = buffer_append(&b, vocab_text(v, list[i].right), vocab_len(v, list[i].right));
        if (st == STRETTO_OK) gguf_put_item(x->w, b.data, b.len);
    }
    buffer_done(&b);
    mem_free(list);
    return st == STRETTO_OK ? st : no_memory(x);
}

/* SentencePiece merges the pair whose piece has the highest score: minus the rank of the first
 * merge that makes the piece. */
static stretto_status put_scores(struct writing *x)
{
    size_t n;
    struct bpe_merge *list = sorted_merges(x->t, &n);
    float *scores = mem_zalloc(x->n, sizeof *scores);
    if (list && scores) {
        for (size_t i = n; i-- > 0;)
            if ((size_t)list[i].id < x->n) scores[list[i].id] = -(float)i - 1;
        gguf_put_f32s(x->w, KEY("scores"), scores, x->n);
    }
    bool done = list && scores;
    mem_free(list);
    mem_free(scores);
    return done ? STRETTO_OK : no_memory(x);
}

/* ---- the pre-tokenizer's name --------------------------------------------------------------- */

#define GPT2_WORDS \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

struct expressions { const char *e[6]; size_t n; bool known; };

static void add_expression(struct expressions *x, const char *e)
{
    if (!e || x->n == 6) x->known = false;
    else x->e[x->n++] = e;
}

static bool flag(const json_t *part, const char *key, bool otherwise)
{
    const json_t *v = json_object_get(part, key);
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

/* The steps of a pre-tokenizer as a list of expressions, as GGUF's names mean them. */
static void read_steps(const json_t *part, struct expressions *x, int depth)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    if (!type || depth > 4) {
        x->known = false;
    } else if (strcmp(type, "Sequence") == 0) {
        const json_t *list = json_object_get(part, "pretokenizers");
        for (size_t i = 0; i < json_array_size(list); i++)
            read_steps(json_array_get(list, i), x, depth + 1);
    } else if (strcmp(type, "Split") == 0) {
        const char *how = json_string_value(json_object_get(part, "behavior"));
        bool same = how && (strcmp(how, "Isolated") == 0
                            || (strcmp(how, "Removed") == 0 && flag(part, "invert", false)));
        const json_t *pattern = json_object_get(part, "pattern");
        add_expression(x, same ? json_string_value(json_object_get(pattern, "Regex")) : NULL);
    } else if (strcmp(type, "Digits") == 0) {
        add_expression(x, flag(part, "individual_digits", false) ? "\\p{N}" : "\\p{N}+");
    } else if (strcmp(type, "ByteLevel") == 0) {
        if (flag(part, "add_prefix_space", true)) x->known = false;
        if (flag(part, "use_regex", true)) add_expression(x, GPT2_WORDS);
    } else {
        x->known = false;
    }
}

static bool names_these(const struct pretok_name *name, const struct expressions *x, bool ignore)
{
    if (!(name->flags & PRE_IGNORE_MERGES) != !ignore) return false;
    for (size_t i = 0; i < 6; i++) {
        const char *e = i < x->n ? x->e[i] : NULL;
        if (!e != !name->expression[i] || (e && strcmp(e, name->expression[i]) != 0)) return false;
    }
    return true;
}

static stretto_status put_pre_name(struct writing *x)
{
    /* Where several names mean the same, the one that most readers know. */
    static const char *const candidates[] = {"gpt-2",  "smollm",     "llama-bpe",   "dbrx",
                                             "qwen2",  "qwen35",     "tekken",      "gpt-4o",
                                             "falcon", "seed-coder", "deepseek-v3", "default"};
    struct source_str text;
    struct json j;
    const char *raw = NULL;
    size_t n = 0;
    source_file(x->src, "tokenizer.json", &text);
    json_open(&j, text.p, text.n, "tokenizer.json", x->err);
    json_next(&j);
    while (!raw && json_next(&j) == JT_KEY)
        if (json_is(&j, "pre_tokenizer") ? !json_raw(&j, &raw, &n) : !json_skip(&j)) break;
    json_done(&j);
    json_t *tree = NULL;
    if (raw) TRY(json_tree(&tree, raw, n, JSON_TWICE_LAST, "tokenizer.json, pre_tokenizer", x->err));
    struct expressions list = { .known = true };
    read_steps(tree, &list, 0);
    const struct pretok_name *found = NULL;
    for (size_t i = 0; list.known && !found && i < sizeof candidates / sizeof *candidates; i++) {
        const struct pretok_name *name = pretok_find(candidates[i], strlen(candidates[i]));
        if (name && names_these(name, &list, x->t->ignore_merges)) found = name;
    }
    json_decref(tree);
    if (!found) return unsupported(x, "the pre-tokenizer");
    gguf_put_string(x->w, KEY("pre"), found->name, strlen(found->name));
    return STRETTO_OK;
}

/* ---- special tokens ------------------------------------------------------------------------- */

static void put_id(struct writing *x, const char *key, int32_t id)
{
    if (id >= 0 && (size_t)id < x->n) gguf_put_u32(x->w, key, (uint32_t)id);
}

static void put_named_id(struct writing *x, const char *key, const char *spelling)
{
    put_id(x, key, vocab_find(&x->t->vocab, spelling, strlen(spelling)));
}

/* The first end of an answer behind `after` that readers do not know by its name, or -1. */
static int32_t first_end(const struct writing *x, int32_t after)
{
    const struct tokenizer *t = x->t;
    for (int32_t i = after + 1; (size_t)i < t->vocab.n && (size_t)i < x->n; i++)
        if ((t->flag[i] & TOKEN_IS_EOG) && !tokenizer_end_by_name(t, i)) return i;
    return -1;
}

/* Further ends: GGUF has two more places. */
static void put_more_ends(struct writing *x, int32_t eos)
{
    static const char *const places[] = { KEY("eot_token_id"), KEY("eom_token_id") };
    size_t used = 0;
    for (int32_t id = -1; used < 2 && (id = first_end(x, id)) >= 0;)
        if (id != eos) put_id(x, places[used++], id);
}

/* GGUF puts at most BOS before and EOS behind a text. */
static stretto_status put_ids(struct writing *x)
{
    const struct tokenizer *t = x->t;
    if (t->n_before > 1 || t->n_after > 1) return unsupported(x, "the tokens around a text");
    int32_t bos = t->n_before ? t->before[0] : t->bos,
            eos = t->eos >= 0 ? t->eos : t->n_after ? t->after[0] : first_end(x, -1);
    if (t->n_after && t->after[0] != eos) return unsupported(x, "the token behind a text");
    put_id(x, KEY("bos_token_id"), bos);
    put_id(x, KEY("eos_token_id"), eos);
    put_id(x, KEY("unknown_token_id"), t->unk);
    gguf_put_bool(x->w, KEY("add_bos_token"), t->n_before > 0);
    gguf_put_bool(x->w, KEY("add_eos_token"), t->n_after > 0);
    put_more_ends(x, eos);
    return STRETTO_OK;
}

/* ---- all the rest, in words of our own --------------------------------------------------------- */

static void put_list(struct writing *x, const char *key, const int32_t *id, size_t n)
{
    if (n) gguf_put_i32s(x->w, key, id, n);
}

static stretto_status put_added(struct writing *x)
{
    const struct tokenizer *t = x->t;
    int32_t *id = mem_alloc((t->n_added + 1) * sizeof *id), *how = mem_alloc((t->n_added + 1) * sizeof *how);
    size_t n = 0;
    for (size_t i = 0; id && how && i < t->n_added; i++) {
        const struct added_json *a = &t->added[i];
        if ((size_t)a->id >= x->n) continue;
        id[n] = a->id;
        how[n++] = (a->special ? ADDED_SPECIAL : 0) | (a->lstrip ? ADDED_LSTRIP : 0) |
                   (a->rstrip ? ADDED_RSTRIP : 0) | (a->single_word ? ADDED_SINGLE_WORD : 0) |
                   (a->normalized ? ADDED_NORMALIZED : 0) |
                   (t->vocab.outside[a->id] ? ADDED_OUTSIDE : 0);
    }
    bool done = id && how;
    if (done) put_list(x, OWN("added_ids"), id, n);
    if (done) put_list(x, OWN("added_flags"), how, n);
    mem_free(id);
    mem_free(how);
    return done ? STRETTO_OK : no_memory(x);
}

static stretto_status put_ends(struct writing *x)
{
    const struct tokenizer *t = x->t;
    int32_t *id = mem_alloc((t->vocab.n + 1) * sizeof *id);
    size_t n = 0;
    if (!id) return no_memory(x);
    for (size_t i = 0; i < t->vocab.n && i < x->n; i++)
        if (t->flag[i] & TOKEN_IS_EOG) id[n++] = (int32_t)i;
    put_list(x, OWN("end_ids"), id, n);
    mem_free(id);
    return STRETTO_OK;
}

/* The pipeline as the folder has it: GGUF's words stand for the nearest that other readers do. */
static stretto_status put_described(struct writing *x)
{
    static const char *const keys[N_DESCRIBED] = { OWN("model"), OWN("normalizer"), OWN("pre_tokenizer"),
                                                   OWN("decoder") };
    const struct tokenizer *t = x->t;
    gguf_put_u32(x->w, OWN("version"), DESCRIBED_VERSION);
    for (size_t i = 0; i < N_DESCRIBED; i++)
        gguf_put_string(x->w, keys[i], t->described[i], strlen(t->described[i]));
    const int32_t named[2] = { t->bos, t->eos };
    put_list(x, OWN("bos_eos_ids"), named, 2);
    put_list(x, OWN("before_ids"), t->before, t->n_before);
    put_list(x, OWN("after_ids"), t->after, t->n_after);
    TRY(put_added(x));
    return put_ends(x);
}

/* ---- the three kinds ------------------------------------------------------------------------ */

static stretto_status put_byte_bpe(struct writing *x)
{
    const struct tokenizer *t = x->t;
    if (t->n_word_suffix || t->n_inner_prefix) return unsupported(x, "the marks inside words");
    for (size_t i = 0; i < t->normal.n; i++)       /* readers of GGUF take texts to be in NFC */
        if (t->normal.step[i].kind != NORMAL_FORM || t->normal.step[i].form != UNICODE_NFC)
            return unsupported(x, "the normalizer");
    gguf_put_string(x->w, KEY("model"), "gpt2", 4);
    TRY(put_pre_name(x));
    TRY(put_tokens(x, false));
    TRY(put_merges(x));
    return put_ids(x);
}

/* Only what SentencePiece does too: spaces become U+2581, perhaps one in front. */
static stretto_status put_sentencepiece(struct writing *x)
{
    const struct tokenizer *t = x->t;
    bool prefix = false;
    if (!t->byte_fallback || t->ignore_merges) return unsupported(x, "the model");
    for (size_t i = 0; i < t->normal.n; i++) {
        const struct normal_step *k = &t->normal.step[i];
        bool underline = k->kind == NORMAL_REPLACE && !k->pattern && k->n_from == 1 &&
                         k->from[0] == ' ' && k->n_to == 3 && memcmp(k->to, UNDERLINE, 3) == 0;
        bool before =
            k->kind == NORMAL_PREPEND && k->n_from == 3 && memcmp(k->from, UNDERLINE, 3) == 0;
        if (!underline && !before) return unsupported(x, "the normalizer");
        prefix |= before;
    }
    for (size_t i = 0; i < t->pretok.n; i++) {
        const struct pretok_step *k = &t->pretok.step[i];
        bool spaces = k->kind == PRETOK_LITERAL && k->n_literal == 1 && k->literal[0] == ' ';
        if (!spaces && k->kind != PRETOK_METASPACE) return unsupported(x, "the pre-tokenizer");
        if (k->kind == PRETOK_METASPACE) prefix |= k->prepend != PREPEND_NEVER;
    }
    gguf_put_string(x->w, KEY("model"), "llama", 5);
    gguf_put_string(x->w, KEY("pre"), "default", 7);
    TRY(put_tokens(x, false));
    TRY(put_scores(x));
    TRY(put_merges(x));
    gguf_put_bool(x->w, KEY("add_space_prefix"), prefix);
    return put_ids(x);
}

static stretto_status put_wordpiece(struct writing *x)
{
    const struct tokenizer *t = x->t;
    bool lower = false, strip = false;
    if (t->wordpiece.n_inside != 2 || memcmp(t->wordpiece.inside, "##", 2) != 0)
        return unsupported(x, "the marks inside words");
    for (size_t i = 0; i < t->normal.n; i++) {
        lower |= t->normal.step[i].kind == NORMAL_LOWER;
        strip |= t->normal.step[i].kind == NORMAL_STRIP_MARKS;
    }
    if (t->n_before != 1 || t->n_after != 1) return unsupported(x, "the tokens around a text");
    gguf_put_string(x->w, KEY("model"), "bert", 4);
    gguf_put_string(x->w, KEY("pre"), "default", 7);
    TRY(put_tokens(x, true));
    gguf_put_bool(x->w, KEY("normalizer.lowercase"), lower);
    gguf_put_bool(x->w, KEY("normalizer.strip_accents"), strip);
    put_id(x, KEY("bos_token_id"), t->before[0]);
    put_id(x, KEY("eos_token_id"), t->after[0]);
    put_id(x, KEY("seperator_token_id"), t->after[0]);      /* spelled so in the format */
    put_more_ends(x, t->after[0]);
    put_id(x, KEY("unknown_token_id"), t->unk);
    put_named_id(x, KEY("padding_token_id"), "[PAD]");
    put_named_id(x, KEY("mask_token_id"), "[MASK]");
    return STRETTO_OK;
}

/* Chat templates: the keys are those of gguf-py's add_chat_template. */
static stretto_status put_chats(struct writing *x)
{
    struct buffer key = buffer_make(256);
    stretto_status st = STRETTO_OK;
    for (size_t i = 0; i < x->t->n_chat && st == STRETTO_OK; i++) {
        const struct chat_text *c = &x->t->chat[i];
        bool usual = strcmp(c->name, "default") == 0;
        buffer_clear(&key);
        st = buffer_printf(&key, "tokenizer.chat_template%s%.100s", usual ? "" : ".", usual ? "" : c->name);
        for (char *p = key.data; st == STRETTO_OK && *p; p++)
            if (!(*p >= '0' && *p <= '9') && !((*p | 0x20) >= 'a' && (*p | 0x20) <= 'z') && *p != '.')
                *p = '_';
        if (st == STRETTO_OK) gguf_put_string(x->w, key.data, c->text, c->n);
    }
    buffer_done(&key);
    return st == STRETTO_OK ? st : no_memory(x);
}

stretto_status tokenizer_to_gguf(const struct source *src, struct gguf_writer *w, struct error *err)
{
    struct tokenizer *t;
    TRY(tokenizer_open(&t, src, err));
    struct writing x = { .t = t, .src = src, .w = w, .err = err, .n = t->vocab.n };
    const struct source_tensor *embedding = source_tensor_find(src, "token_embd.weight");
    stretto_status st = STRETTO_OK;
    if (embedding) x.n = (size_t)embedding->dims[1];
    if (x.n > VOCAB_MAX)
        st = fail(err, STRETTO_E_FORMAT,
                  "%s has embeddings for %zu tokens; at most %d are supported", source_path(src),
                  x.n, VOCAB_MAX);
    else if (t->model == MODEL_WORDPIECE) st = put_wordpiece(&x);
    else if (t->byte_level || t->letters) st = put_byte_bpe(&x);
    else st = put_sentencepiece(&x);
    if (st == STRETTO_OK) st = put_described(&x);
    if (st == STRETTO_OK) st = put_chats(&x);
    tokenizer_close(t);
    return st;
}
