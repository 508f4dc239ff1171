/* Tokenizers as GGUF files describe them: tokenizer.ggml.* names a model and a pre-tokenizer; what the
 * names mean is spelled out here in the pipeline's own terms. */
#include "text/tokenizer_int.h"
#include "base/memory.h"
#include <stdio.h>
#include <string.h>

#define KEY(name) "tokenizer.ggml." name
#define UNDERLINE "\xE2\x96\x81"                   /* U+2581 stands for a space */

static bool is(struct source_str s, const char *text)
{
    return s.n == strlen(text) && !memcmp(s.p, text, s.n);
}

static bool contains(struct source_str s, const char *text)
{
    for (size_t n = strlen(text), i = 0; i + n <= s.n; i++) {
        size_t k = 0;
        while (k < n && (s.p[i + k] | 0x20) == text[k]) k++;
        if (k == n) return true;
    }
    return false;
}

static stretto_status wrong_kind(const struct source *src, const char *key, const char *what, struct error *err)
{
    return fail(err, STRETTO_E_FORMAT, "%s: %s is not %s, so what it says is lost: convert the model again",
                source_path(src), key, what);
}

static stretto_status list_or_absent(const struct source *src, const char *key, struct error *err)
{
    size_t n;
    double v;
    if (!source_has(src, key)) return STRETTO_OK;
    if (!source_array(src, key, NULL, &n) || (n && !source_array_f64(src, key, 0, &v)))
        return wrong_kind(src, key, "a list of numbers", err);
    return STRETTO_OK;
}

/* Keeps *v where the file is silent. Some writers have no truth values, only numbers. */
static stretto_status flag_at(const struct source *src, const char *key, bool *v, struct error *err)
{
    uint64_t number;
    if (!source_has(src, key) || source_bool(src, key, v)) return STRETTO_OK;
    if (!source_u64(src, key, &number) || number > 1) return wrong_kind(src, key, "true or false", err);
    *v = number != 0;
    return STRETTO_OK;
}

static stretto_status read_tokens(struct tokenizer *t, const struct source *src, struct error *err)
{
    enum source_kind kind;
    size_t n, n_types = 0, n_scores = 0;
    if (!source_array(src, KEY("tokens"), &kind, &n) || kind != SOURCE_STRING)
        return fail(err, STRETTO_E_FORMAT, "%s has no list of tokens (tokenizer.ggml.tokens)",
                    source_path(src));
    TRY(list_or_absent(src, KEY("token_type"), err));
    TRY(list_or_absent(src, KEY("scores"), err));
    if (source_array(src, KEY("token_type"), &kind, &n_types) && n_types < n)
        return fail(err, STRETTO_E_FORMAT, "%s lists %zu tokens but only %zu token types",
                    source_path(src), n, n_types);
    if (source_array(src, KEY("scores"), &kind, &n_scores) && n_scores < n)
        return fail(err, STRETTO_E_FORMAT, "%s lists %zu tokens but only %zu scores",
                    source_path(src), n, n_scores);
    struct vocab *v = &t->vocab;
    TRY(vocab_resize(v, n, err));
    for (size_t i = 0; i < n; i++) {
        struct source_str s;
        if (!source_array_string(src, KEY("tokens"), i, &s))
            return fail(err, STRETTO_E_FORMAT, "token %zu of %s is not a string", i, source_path(src));
        TRY(vocab_set(v, i, s.p, s.n, err));
        int64_t type = TOKEN_NORMAL;
        double score = 0;
        if (n_types && !source_array_i64(src, KEY("token_type"), i, &type)) type = TOKEN_NORMAL;
        if (n_scores && source_array_f64(src, KEY("scores"), i, &score)) v->score[i] = (float)score;
        v->type[i] = type >= TOKEN_NORMAL && type <= TOKEN_BYTE ? (unsigned char)type : TOKEN_UNUSED;
    }
    return STRETTO_OK;
}

/* Merges some steps ahead of the one at work: their lookups are cache misses, three for each. */
enum { AHEAD = 12 };

static void prefetch_merge(const struct vocab *v, const struct source *src, size_t i)
{
    struct source_str s;
    if (!source_array_string(src, KEY("merges"), i, &s) || s.n < 3 || s.n > 64) return;
    const char *space = memchr(s.p + 1, ' ', s.n - 1);
    if (!space) return;
    char both[64];
    size_t n = (size_t)(space - s.p);
    memcpy(both, s.p, n);
    memcpy(both + n, space + 1, s.n - n - 1);
    vocab_prefetch(v, s.p, n);
    vocab_prefetch(v, space + 1, s.n - n - 1);
    vocab_prefetch(v, both, s.n - 1);
}

/* "left right": a part may itself begin with the space, so the first byte never separates. */
static stretto_status read_merges(struct tokenizer *t, const struct source *src, struct error *err)
{
    enum source_kind kind;
    size_t n;
    if (!source_array(src, KEY("merges"), &kind, &n) || kind != SOURCE_STRING)
        return fail(err, STRETTO_E_FORMAT, "%s has no list of merges (tokenizer.ggml.merges)",
                    source_path(src));
    struct vocab *v = &t->vocab;
    TRY(bpe_reserve(&t->bpe, n, err));
    struct buffer both = buffer_make((size_t)4 * VOCAB_MAX_PIECE);
    stretto_status st = STRETTO_OK;
    for (size_t i = 0; i < n && st == STRETTO_OK; i++) {
        struct source_str s;
        if (i + AHEAD < n) prefetch_merge(v, src, i + AHEAD);
        if (!source_array_string(src, KEY("merges"), i, &s)) {
            st = fail(err, STRETTO_E_FORMAT, "merge %zu of %s is not a string", i, source_path(src));
            break;
        }
        const char *space = s.n > 1 ? memchr(s.p + 1, ' ', s.n - 1) : NULL;
        if (!space) continue;
        size_t n_left = (size_t)(space - s.p), n_right = s.n - n_left - 1;
        if (!n_right) continue;
        int32_t left, right, id;
        buffer_clear(&both);
        if ((st = buffer_append(&both, s.p, n_left)) != STRETTO_OK ||
            (st = buffer_append(&both, space + 1, n_right)) != STRETTO_OK) {
            fail(err, st, "no memory for merge %zu", i);
            break;
        }
        if ((st = vocab_intern(v, s.p, n_left, &left, err)) != STRETTO_OK ||
            (st = vocab_intern(v, space + 1, n_right, &right, err)) != STRETTO_OK ||
            (st = vocab_intern(v, both.data, both.len, &id, err)) != STRETTO_OK) break;
        st = bpe_add(&t->bpe, left, right, (uint32_t)i, id, false, err);
        if (t->pairs.bits) pair_filter_add(&t->pairs, both.data, both.len);
    }
    buffer_done(&both);
    return st;
}

static stretto_status byte_table(struct tokenizer *t, struct error *err)
{
    for (int i = 0; i < 256; i++) {
        char letter[4];
        size_t n = utf8_encode(byte_letter((unsigned char)i), letter);
        TRY(vocab_intern(&t->vocab, letter, n, &t->bpe.byte_id[i], err));
    }
    return STRETTO_OK;
}

/* An id named by the file; out of range counts as absent. */
static int32_t id_at(const struct tokenizer *t, const struct source *src, const char *key,
                     int32_t otherwise)
{
    uint64_t id;
    if (source_u64(src, key, &id) && id < t->vocab.n) return (int32_t)id;
    return otherwise >= 0 && (size_t)otherwise < t->vocab.n ? otherwise : -1;
}

/* Ids of any kind of number; one below zero is none. */
static stretto_status check_ids(const struct source *src, struct error *err)
{
    static const char *const keys[] = { KEY("bos_token_id"), KEY("eos_token_id"), KEY("unknown_token_id"),
        KEY("cls_token_id"), KEY("seperator_token_id"), KEY("eot_token_id"), KEY("eom_token_id"),
        KEY("fim_pad_token_id"), KEY("fim_rep_token_id"), KEY("fim_sep_token_id") };
    double v;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (source_has(src, keys[i]) && !source_f64(src, keys[i], &v))
            return wrong_kind(src, keys[i], "the id of a token", err);
    return STRETTO_OK;
}

static stretto_status add_prefix(struct normal *s, const char *text, struct error *err)
{
    struct normal_step *k;
    TRY(normal_add(s, &k, err));
    k->kind = NORMAL_PREPEND;
    k->n_from = strlen(text);
    return copy_text(&k->from, text, k->n_from, err);
}

static stretto_status add_replace(struct normal *s, const char *from, const char *to,
                                  struct error *err)
{
    struct normal_step *k;
    TRY(normal_add(s, &k, err));
    k->kind = NORMAL_REPLACE;
    k->n_from = strlen(from);
    k->n_to = strlen(to);
    TRY(copy_text(&k->from, from, k->n_from, err));
    return copy_text(&k->to, to, k->n_to, err);
}

static stretto_status spell_underline(struct tokenizer *t, struct error *err)
{
    return spelling_add(&t->spell.replace, UNDERLINE, 3, " ", 1, err);
}

static stretto_status open_bpe(struct tokenizer *t, const struct source *src, bool *add_bos,
                               bool *no_bos, struct error *err)
{
    struct source_str pre = { "default", 7 };
    if (!source_string(src, KEY("pre"), &pre))
        snprintf(t->warning, sizeof t->warning, "%.200s does not name its pre-tokenizer "
                 "(tokenizer.ggml.pre): texts are cut as llama.cpp does by default, which may be wrong for "
                 "this model; a newer file of it says it", source_path(src));
    const struct pretok_name *name = pretok_find(pre.p, pre.n);
    if (!name)
        return fail(err, STRETTO_E_UNSUP, "%s names the pre-tokenizer \"%.*s\", which this version does "
                    "not know: use a newer version, or the model's Hugging Face folder",
                    source_path(src), (int)(pre.n < 100 ? pre.n : 100), pre.p);
    TRY(pretok_add_name(&t->pretok, name, err));
    t->model = MODEL_BPE;
    t->byte_level = t->spell.byte_level = true;
    t->ignore_merges = name->flags & PRE_IGNORE_MERGES;
    *add_bos = name->flags & PRE_ADD_BOS;
    *no_bos = name->flags & PRE_NO_BOS;
    snprintf(t->kind, sizeof t->kind, "BPE %s", name->name);
    TRY(read_merges(t, src, err));
    return byte_table(t, err);
}

/* Merges over characters with U+2581 for spaces: gemma 4's spelling of its SentencePiece model. */
static stretto_status open_gemma4(struct tokenizer *t, const struct source *src, struct error *err)
{
    t->model = MODEL_BPE;
    t->byte_fallback = t->spell.byte_fallback = true;
    snprintf(t->kind, sizeof t->kind, "BPE gemma4");
    TRY(add_replace(&t->normal, " ", UNDERLINE, err));
    TRY(pretok_add_regex(&t->pretok, "[^\\n]+|\\n+", 10, err));
    TRY(spell_underline(t, err));
    TRY(pair_filter_open(&t->pairs, t->vocab.n, err));
    return read_merges(t, src, err);
}

static stretto_status open_spm(struct tokenizer *t, const struct source *src, struct error *err)
{
    t->model = MODEL_SPM;
    t->spell.byte_fallback = true;
    snprintf(t->kind, sizeof t->kind, "SPM");
    bool prefix = true, collapse = false;
    TRY(flag_at(src, KEY("add_space_prefix"), &prefix, err));
    TRY(flag_at(src, KEY("remove_extra_whitespaces"), &collapse, err));
    if (collapse) {
        struct normal_step *k;
        TRY(normal_add(&t->normal, &k, err));
        k->kind = NORMAL_COLLAPSE;
    }
    if (prefix) TRY(add_prefix(&t->normal, UNDERLINE, err));
    TRY(add_replace(&t->normal, " ", UNDERLINE, err));
    t->spell.drop_first_space = prefix;
    TRY(pair_filter_open(&t->pairs, t->vocab.n, err));
    for (size_t i = 0; i < t->vocab.n; i++)
        pair_filter_add(&t->pairs, vocab_text(&t->vocab, (int32_t)i), vocab_len(&t->vocab, (int32_t)i));
    return spell_underline(t, err);
}

static stretto_status open_wordpiece(struct tokenizer *t, const struct source *src, struct error *err)
{
    t->model = MODEL_WORDPIECE;
    snprintf(t->kind, sizeof t->kind, "WordPiece");
    memcpy(t->wordpiece.begin, UNDERLINE, 3);
    t->wordpiece.n_begin = 3;
    t->wordpiece.max_chars = 100;
    t->wordpiece.unk = t->unk;
    bool lower = true, strip;
    TRY(flag_at(src, "tokenizer.ggml.normalizer.lowercase", &lower, err));
    strip = lower;
    TRY(flag_at(src, "tokenizer.ggml.normalizer.strip_accents", &strip, err));
    struct normal_step *k;
    static const enum normal_kind always[] = { NORMAL_BERT_CLEAN, NORMAL_BERT_CJK };
    for (size_t i = 0; i < 2; i++) { TRY(normal_add(&t->normal, &k, err)); k->kind = always[i]; }
    if (strip) {
        TRY(normal_add(&t->normal, &k, err));
        k->kind = NORMAL_FORM;
        k->form = UNICODE_NFD;
        TRY(normal_add(&t->normal, &k, err));
        k->kind = NORMAL_STRIP_MARKS;
    }
    if (lower) { TRY(normal_add(&t->normal, &k, err)); k->kind = NORMAL_LOWER; }
    struct pretok_step *s;
    TRY(pretok_add(&t->pretok, &s, err));
    s->kind = PRETOK_SPACES;
    s->cut = CUT_REMOVED;
    TRY(pretok_add(&t->pretok, &s, err));
    s->kind = PRETOK_PUNCT;
    t->spell.drop_first_space = true;
    return spell_underline(t, err);
}

/* phi-3 and a few encoders strip white space beside their special tokens, which GGUF cannot say: the
 * model's name says it (as llama.cpp reads it). */
static void name_rules(const struct tokenizer *t, const struct source *src, int32_t id, struct added *a)
{
    struct source_str name = { "", 0 }, pre = { "", 0 };
    source_string(src, "general.name", &name);
    source_string(src, KEY("pre"), &pre);
    struct source_str text = { vocab_text(&t->vocab, id), vocab_len(&t->vocab, id) };
    if (contains(pre, "jina-v2-de") || contains(pre, "jina-v2-es") || contains(pre, "jina-v2-code"))
        a->lstrip = is(text, "<mask>");
    else if (contains(name, "phi-3") || contains(name, "phi3"))
        a->rstrip = !is(text, "<unk>") && !is(text, "<s>") && !is(text, "<|endoftext|>");
    else if (contains(name, "modern-bert"))
        a->lstrip = is(text, "[MASK]");
}

static stretto_status find_added(struct tokenizer *t, const struct source *src, struct error *err)
{
    for (size_t i = 0; i < t->vocab.n; i++) {
        unsigned char type = t->vocab.type[i];
        if (type != TOKEN_CONTROL && type != TOKEN_UNKNOWN && type != TOKEN_USER) continue;
        struct added a = { .id = (int32_t)i, .special = type != TOKEN_USER };
        name_rules(t, src, a.id, &a);
        TRY(added_add(&t->raw, a, vocab_text(&t->vocab, a.id), vocab_len(&t->vocab, a.id), err));
    }
    return STRETTO_OK;
}

/* Spellings that end a turn or steer one are control tokens even where a file forgot to say so. */
static void mend_types(struct tokenizer *t)
{
    static const char *const control[] = { "<|im_end|>", "<|im_start|>", "<|eot_id|>", "<|eom_id|>",
        "<end_of_turn>", "<|end_of_text|>", "<|endoftext|>", "<|end|>", "<|return|>", "<|call|>" };
    static const char *const user[] = { "<|channel|>", "<|message|>", "<|start|>", "<|constrain|>" };
    for (size_t i = 0; i < sizeof control / sizeof *control; i++) {
        int32_t id = vocab_find(&t->vocab, control[i], strlen(control[i]));
        if (id >= 0) t->vocab.type[id] = TOKEN_CONTROL;
    }
    for (size_t i = 0; i < sizeof user / sizeof *user; i++) {
        int32_t id = vocab_find(&t->vocab, user[i], strlen(user[i]));
        if (id >= 0 && t->vocab.type[id] == TOKEN_CONTROL) t->vocab.type[id] = TOKEN_USER;
    }
}

static stretto_status around(int32_t **list, size_t *n, int32_t id, const char *what,
                             const struct source *src, struct error *err)
{
    if (id < 0)
        return fail(err, STRETTO_E_FORMAT, "%s asks for a %s token in front of or behind every text but "
                    "names none", source_path(src), what);
    *list = mem_alloc(sizeof **list);
    if (!*list) return fail(err, STRETTO_E_NOMEM, "no memory for the tokenizer");
    (*list)[0] = id;
    *n = 1;
    return STRETTO_OK;
}

static stretto_status mark_eog(struct tokenizer *t, const struct source *src, struct error *err)
{
    static const char *const keys[] = { KEY("eos_token_id"), KEY("eot_token_id"), KEY("eom_token_id"),
        KEY("fim_pad_token_id"), KEY("fim_rep_token_id"), KEY("fim_sep_token_id") };
    t->flag = mem_zalloc(t->vocab.n, 1);
    if (!t->flag) return fail(err, STRETTO_E_NOMEM, "no memory for the tokenizer");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        int32_t id = id_at(t, src, keys[i], -1);
        if (id >= 0) t->flag[id] |= TOKEN_IS_EOG;
    }
    return STRETTO_OK;
}

stretto_status vocab_gguf_chats(struct tokenizer *t, const struct source *src, struct error *err)
{
    static const char *const chats[][2] = { { "default", "tokenizer.chat_template" },
                                            { "tool_use", "tokenizer.chat_template.tool_use" } };
    struct source_str text;
    for (size_t i = 0; i < sizeof chats / sizeof *chats; i++)
        if (source_string(src, chats[i][1], &text))
            TRY(tokenizer_add_chat(t, chats[i][0], strlen(chats[i][0]), text.p, text.n, err));
    return STRETTO_OK;
}

stretto_status vocab_from_gguf(struct tokenizer *t, const struct source *src, struct error *err)
{
    struct source_str model;
    if (!source_string(src, KEY("model"), &model))
        return fail(err, STRETTO_E_FORMAT, "%s names no tokenizer (tokenizer.ggml.model)",
                    source_path(src));
    bool bpe = is(model, "gpt2"), gemma4 = is(model, "gemma4"), spm = is(model, "llama");
    bool wordpiece = is(model, "bert");
    if (!bpe && !gemma4 && !spm && !wordpiece)
        return fail(err, STRETTO_E_UNSUP, "%s uses the tokenizer model \"%.*s\", which this version does "
                    "not support (it knows gpt2, llama, bert and gemma4)", source_path(src),
                    (int)(model.n < 100 ? model.n : 100), model.p);
    TRY(check_ids(src, err));
    TRY(read_tokens(t, src, err));
    mend_types(t);
    t->bos = id_at(t, src, KEY("bos_token_id"), spm ? 1 : wordpiece ? 101 : -1);
    t->eos = id_at(t, src, KEY("eos_token_id"), spm ? 2 : -1);
    t->unk = id_at(t, src, KEY("unknown_token_id"), spm ? 0 : wordpiece ? 100 : -1);
    int32_t cls = id_at(t, src, KEY("cls_token_id"), t->bos);
    int32_t sep = id_at(t, src, KEY("seperator_token_id"), wordpiece ? 102 : -1);
    TRY(mark_eog(t, src, err));
    TRY(find_added(t, src, err));
    bool add_bos = spm || wordpiece || gemma4, add_eos = wordpiece, no_bos = false;
    if (bpe) TRY(open_bpe(t, src, &add_bos, &no_bos, err));
    else if (gemma4) TRY(open_gemma4(t, src, err));
    else if (spm) TRY(open_spm(t, src, err));
    else TRY(open_wordpiece(t, src, err));
    if (no_bos && !source_string(src, KEY("bos_token_id"), &model)) {
        uint64_t id;
        if (!source_u64(src, KEY("bos_token_id"), &id)) t->bos = -1;
    }
    /* BERT always stands between its two; the flags are for the others. */
    if (!wordpiece && !gemma4) TRY(flag_at(src, KEY("add_bos_token"), &add_bos, err));
    if (!wordpiece) TRY(flag_at(src, KEY("add_eos_token"), &add_eos, err));
    int32_t begin = wordpiece ? cls : t->bos, end = wordpiece ? sep : t->eos;
    if (begin < 0 && (wordpiece || !source_has(src, KEY("add_bos_token")))) add_bos = false;
    if (end < 0 && (wordpiece || !source_has(src, KEY("add_eos_token")))) add_eos = false;
    /* Where only a default asked for these and the file gives none, nothing is added. */
    if (add_bos) TRY(around(&t->before, &t->n_before, begin, "BOS", src, err));
    if (add_eos) TRY(around(&t->after, &t->n_after, end, "EOS", src, err));
    return vocab_gguf_chats(t, src, err);
}
