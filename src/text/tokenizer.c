#include "text/tokenizer_int.h"
#include "base/memory.h"
#include "text/spm.h"
#include <stdio.h>
#include <string.h>

enum { TEXT_MAX = 1 << 30, WORK_MAX = 0x7FFFFFF0 };

void tokens_done(struct tokens *t)
{
    mem_free(t->id);
    *t = (struct tokens){ 0 };
}

stretto_status tokens_push(struct tokens *t, int32_t id)
{
    if (t->n == t->cap) {
        size_t cap = t->cap + t->cap / 2 + 64;
        int32_t *p = cap <= SIZE_MAX / sizeof *p ? mem_resize(t->id, cap * sizeof *p) : NULL;
        if (!p) return STRETTO_E_NOMEM;
        t->id = p;
        t->cap = cap;
    }
    t->id[t->n++] = id;
    return STRETTO_OK;
}

stretto_status copy_text(char **out, const char *p, size_t n, struct error *err)
{
    *out = mem_strndup(p, n);
    return *out ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "no memory for the tokenizer");
}

/* ---- open and close --------------------------------------------------------------------------------- */

struct tokenizer *tokenizer_new(void)
{
    struct tokenizer *t = mem_zalloc(1, sizeof *t);
    if (t) t->unk = t->bos = t->eos = -1;
    return t;
}

/* A phrase says what its pieces say, and no text is spelled with it. */
static stretto_status take_phrases(struct tokenizer *t, const struct source *src, struct error *err)
{
    struct phrases *p = &t->phrases;
    struct buffer one = buffer_make(1 << 20), all = buffer_make(1 << 20);
    stretto_status s = phrases_from_source(p, src, t->vocab.n, err);
    for (uint32_t i = 0; i < p->n && s == STRETTO_OK; i++) {
        int32_t id = p->first + (int32_t)i;
        buffer_clear(&one);
        buffer_clear(&all);
        t->vocab.outside[id] = true;
        s = tokenizer_piece(t, id, false, true, &one);
        for (uint32_t k = p->at[i]; k < p->at[i + 1] && s == STRETTO_OK; k++)
            s = tokenizer_piece(t, p->piece[k], false, true, &all);
        if (s != STRETTO_OK) fail(err, s, "no memory for the phrases");
        else if (one.len != all.len || !one.len || memcmp(one.data, all.data, one.len) != 0)
            s = fail(err, STRETTO_E_FORMAT, "%s: the phrase %d says other words than the tokens that it stands for",
                     source_path(src), id);
    }
    buffer_done(&one);
    buffer_done(&all);
    return s;
}

stretto_status tokenizer_open(struct tokenizer **out, const struct source *src, struct error *err)
{
    *out = NULL;
    struct tokenizer *t = tokenizer_new();
    if (!t) return fail(err, STRETTO_E_NOMEM, "no memory for the tokenizer");
    struct source_str s;
    stretto_status st = vocab_is_described(src) ? vocab_from_described(t, src, err)
                      : source_string(src, "tokenizer.ggml.model", &s) ? vocab_from_gguf(t, src, err)
                      : source_file(src, "tokenizer.json", &s) ? vocab_from_json(t, src, err)
                      : fail(err, STRETTO_E_UNSUP, "%s holds no tokenizer: a GGUF file needs "
                             "tokenizer.ggml.model, a folder needs tokenizer.json", source_path(src));
    if (st == STRETTO_OK) st = tokenizer_finish(t, err);
    if (st == STRETTO_OK) st = take_phrases(t, src, err);
    if (st != STRETTO_OK) { tokenizer_close(t); return st; }
    *out = t;
    return STRETTO_OK;
}

void tokenizer_close(struct tokenizer *t)
{
    if (!t) return;
    vocab_done(&t->vocab);
    added_done(&t->raw);
    added_done(&t->normalized);
    phrases_done(&t->phrases);
    normal_done(&t->normal);
    pretok_done(&t->pretok);
    bpe_done(&t->bpe);
    pair_filter_done(&t->pairs);
    spelling_done(&t->spell.replace);
    spelling_done(&t->spell.late);
    mem_free(t->spell.suffix);
    mem_free(t->flag);
    mem_free(t->word_suffix);
    mem_free(t->inner_prefix);
    for (size_t i = 0; i < N_DESCRIBED; i++) mem_free(t->described[i]);
    mem_free(t->added);
    mem_free(t->before);
    mem_free(t->after);
    for (size_t i = 0; i < t->n_chat; i++) {
        mem_free(t->chat[i].name);
        mem_free(t->chat[i].text);
    }
    mem_free(t->chat);
    mem_free(t);
}

/* Tokens that end an answer whatever the file says of them; the names are those that published models
 * use. llama.cpp counts the same ones. */
static const char *const eog_names[] = {
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|calls|>", "<|flush|>",
    "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]",
    "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
    "<\uFF5Cend\u2581of\u2581sentence\uFF5C>", "[e~[",
    "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|fim_repo|>", "<|repo_name|>",
    "<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>",
};

static bool eog_named(const struct tokenizer *t, const char *name, int32_t *id)
{
    *id = vocab_find(&t->vocab, name, strlen(name));
    return *id >= 0 && t->flag[*id] & TOKEN_IS_EOG;
}

bool tokenizer_end_by_name(const struct tokenizer *t, int32_t id)
{
    const char *p = vocab_text(&t->vocab, id);
    size_t n = vocab_len(&t->vocab, id);
    for (size_t i = 0; n && i < sizeof eog_names / sizeof *eog_names; i++)
        if (strlen(eog_names[i]) == n && !memcmp(eog_names[i], p, n)) return true;
    return false;
}

/* By the names above, and by what the files named. */
static void find_ends(struct tokenizer *t)
{
    const struct vocab *v = &t->vocab;
    int32_t id, other;
    for (size_t i = 0; i < sizeof eog_names / sizeof *eog_names; i++) {
        id = vocab_find(v, eog_names[i], strlen(eog_names[i]));
        /* An ordinary word of the vocabulary may look like one; those that files mark never do. */
        if (id >= 0 && (t->flag[id] & TOKEN_IS_ADDED)) t->flag[id] |= TOKEN_IS_EOG;
    }
    if (t->eos >= 0) t->flag[t->eos] |= TOKEN_IS_EOG;
    /* Where channels have ends of their own, <|end|> closes a channel and not the answer. */
    bool calls = eog_named(t, "<|call|>", &other) || eog_named(t, "<|calls|>", &other);
    if (calls && (eog_named(t, "<|return|>", &other) || eog_named(t, "<|flush|>", &other)) &&
        eog_named(t, "<|end|>", &id) && id != t->eos)
        t->flag[id] &= (unsigned char)~TOKEN_IS_EOG;
    if (eog_named(t, "<|tool_response>", &other) && eog_named(t, "</s>", &id) && id != t->eos)
        t->flag[id] &= (unsigned char)~TOKEN_IS_EOG;
}

/* <x> with its </x>, or that: tags inside a text, not ends or beginnings of turns. */
static bool is_tag(const struct tokenizer *t, const char *p, size_t n)
{
    char other[130];
    if (n < 3 || n > 127 || p[0] != '<' || p[n - 1] != '>') return false;
    int len = p[1] == '/' ? snprintf(other, sizeof other, "<%.*s", (int)n - 2, p + 2)
                          : snprintf(other, sizeof other, "</%.*s", (int)n - 1, p + 1);
    int32_t id = vocab_find(&t->vocab, other, (size_t)len);
    return id >= 0 && t->flag[id] & TOKEN_IS_ADDED;
}

/* Tokens that files do not call special and that steer the model all the same: those that end an
 * answer, and those that a chat template marks turns with, as DeepSeek's <|User|>. */
static void find_steering(const struct tokenizer *t, struct added_set *s)
{
    for (size_t k = 0; k < t->n_chat; k++) added_spelled(s, t->chat[k].text, t->chat[k].n);
    for (size_t i = 0; i < s->n; i++) {
        struct added *a = &s->item[i];
        bool word = a->len < 3 || is_tag(t, s->text + a->at, a->len);
        a->steers = (a->steers && !word) || t->flag[a->id] & TOKEN_IS_EOG;
    }
}

stretto_status tokenizer_finish(struct tokenizer *t, struct error *err)
{
    struct vocab *v = &t->vocab;
    if (!v->n) return fail(err, STRETTO_E_FORMAT, "the tokenizer has no tokens");
    if (!t->flag && !(t->flag = mem_zalloc(v->n, 1)))
        return fail(err, STRETTO_E_NOMEM, "no memory for the tokenizer");
    for (size_t i = 0; i < v->n; i++) {
        if (v->type[i] == TOKEN_CONTROL || v->type[i] == TOKEN_UNKNOWN)
            t->flag[i] |= TOKEN_IS_SPECIAL | TOKEN_IS_ADDED;
        if (v->type[i] == TOKEN_USER) t->flag[i] |= TOKEN_IS_ADDED;
    }
    for (size_t i = 0; i < t->normalized.n; i++)
        t->flag[t->normalized.item[i].id] |= TOKEN_IS_NORMALIZED;
    if (!t->ends_known) find_ends(t);
    if (t->eos >= 0) t->flag[t->eos] |= TOKEN_IS_SPECIAL;
    TRY(added_sort(&t->raw, err));
    TRY(added_sort(&t->normalized, err));
    find_steering(t, &t->raw);
    find_steering(t, &t->normalized);
    return STRETTO_OK;
}

/* How many bytes may become one before words are spelled; 0: any number. Three letters of Hangul, or a letter with its
 * marks, compose to one; the sign for kelvin is three bytes and becomes k. */
static size_t shrinks(const struct normal *n)
{
    size_t times = 1;
    for (size_t i = 0; i < n->n; i++) {
        const struct normal_step *s = &n->step[i];
        if (s->kind == NORMAL_PREPEND || s->kind == NORMAL_BYTE_LETTERS) continue;
        if (s->kind == NORMAL_REPLACE && !s->pattern && s->n_to >= s->n_from) continue;
        if (s->kind != NORMAL_FORM && s->kind != NORMAL_LOWER) return 0;
        times *= 4;
    }
    return times;
}

static bool takes_space(const struct added_set *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->item[i].lstrip || s->item[i].rstrip) return true;
    return false;
}

size_t tokenizer_covers(const struct tokenizer *t)
{
    if (t->fuse_unk || !(t->model == MODEL_SPM || (t->model == MODEL_BPE && t->byte_level))) return 0;
    if (takes_space(&t->raw) || takes_space(&t->normalized)) return 0;
    size_t longest = t->vocab.max_len;
    for (size_t i = 0; i < t->raw.n; i++) if (t->raw.item[i].len > longest) longest = t->raw.item[i].len;
    for (size_t i = 0; i < t->normalized.n; i++)
        if (t->normalized.item[i].len > longest) longest = t->normalized.item[i].len;
    return longest * shrinks(&t->normal);
}

/* ---- text to ids ------------------------------------------------------------------------------------ */

struct job {
    const struct tokenizer *t;
    struct tokens *out;
    struct error *err;
    struct buffer content;               /* marks of one stretch that is all somebody's words */
    struct buffer text, spare;           /* one stretch between added tokens, normalized */
    struct pretok_work work;
    struct merge_work merge;
};

/* Spells a word in the byte alphabet; the length, or 0 when it would not fit. */
static size_t spell_bytes(const char *p, size_t n, char *out, size_t max)
{
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        if (max - len < 2) return 0;
        len += utf8_encode(byte_letter((unsigned char)p[i]), out + len);
    }
    return len;
}

static int32_t whole_word(const struct tokenizer *t, const char *p, size_t n)
{
    char spelled[1024];
    if (n > t->vocab.max_len) return -1;
    if (!t->byte_level) return vocab_piece(&t->vocab, p, n);
    size_t len = spell_bytes(p, n, spelled, sizeof spelled);
    return len ? vocab_piece(&t->vocab, spelled, len) : -1;
}

static stretto_status add_symbol(struct job *j, int32_t id)
{
    if (j->merge.n_sym == j->merge.cap_sym) TRY(merge_symbols(&j->merge, j->merge.n_sym + 1));
    j->merge.sym[j->merge.n_sym++].id = id;
    return STRETTO_OK;
}

/* The id of one character of a word; old vocabularies spell its place into it. */
static int32_t character(const struct tokenizer *t, const char *p, size_t n, bool first, bool last)
{
    bool prefix = !first && t->n_inner_prefix, suffix = last && t->n_word_suffix;
    if (!prefix && !suffix) return vocab_piece_any(&t->vocab, p, n);
    char key[4 + 2 * 64];
    size_t len = 0;
    if (prefix) { memcpy(key, t->inner_prefix, t->n_inner_prefix); len = t->n_inner_prefix; }
    memcpy(key + len, p, n);
    len += n;
    if (suffix) { memcpy(key + len, t->word_suffix, t->n_word_suffix); len += t->n_word_suffix; }
    return vocab_piece_any(&t->vocab, key, len);
}

/* All bytes as <0xXX>, or nothing when the vocabulary lacks one of them. */
static stretto_status fall_back(struct job *j, const char *p, size_t n, bool *done)
{
    size_t had = j->merge.n_sym;
    *done = false;
    for (size_t i = 0; i < n; i++) {
        int32_t id = vocab_byte(&j->t->vocab, (unsigned char)p[i]);
        if (id < 0) { j->merge.n_sym = had; return STRETTO_OK; }
        TRY(add_symbol(j, id));
    }
    *done = true;
    return STRETTO_OK;
}

/* Begins a word character by character; a long one is merged in the pieces that it falls apart into. */
static stretto_status bpe_characters(struct job *j, const char *p, size_t n)
{
    const struct tokenizer *t = j->t;
    bool unknown = false;                    /* one not yet written: its neighbours may join it */
    bool known_before = false;
    int32_t before = 0, cp = 0, id;
    for (size_t at = 0; at < n; before = cp, known_before = id >= 0) {
        char letter[4];
        size_t len = 1, n_key;
        const char *key = p + at;
        if (t->byte_level) {
            n_key = utf8_encode(byte_letter((unsigned char)p[at]), letter);
            key = letter;
        } else {
            n_key = len = utf8_decode(p + at, n - at, &cp);
        }
        id = character(t, key, n_key, at == 0, at + len == n);
        at += len;
        if (id >= 0) {
            if (unknown) TRY(add_symbol(j, t->unk));
            unknown = false;
            if (known_before && !t->byte_level && !pair_may_join(&t->pairs, before, cp)) {
                TRY(bpe_merge_word(&t->bpe, &j->merge, j->out));
                j->merge.n_sym = 0;
            }
            TRY(add_symbol(j, id));
            continue;
        }
        if (t->byte_fallback) {
            bool done;
            TRY(fall_back(j, key, n_key, &done));
            if (done) continue;
        }
        if (t->unk < 0) {
            j->merge.unspelled = (unsigned char)p[at - len];
            return STRETTO_E_UNSUP;
        }
        if (unknown && !t->fuse_unk) TRY(add_symbol(j, t->unk));
        unknown = true;
    }
    return unknown ? add_symbol(j, t->unk) : STRETTO_OK;
}

/* Steps of a merge that are no tokens themselves fall apart into the tokens of their bytes. */
static stretto_status split_virtual(struct job *j, size_t from)
{
    const struct tokenizer *t = j->t;
    struct tokens *out = j->out;
    size_t n = out->n - from;
    bool any = false;
    for (size_t i = from; i < out->n; i++) any |= (size_t)out->id[i] >= t->vocab.n;
    if (!any) return STRETTO_OK;
    int32_t *copy = mem_alloc(n * sizeof *copy);
    if (!copy) return STRETTO_E_NOMEM;
    memcpy(copy, out->id + from, n * sizeof *copy);
    out->n = from;
    stretto_status st = STRETTO_OK;
    for (size_t i = 0; i < n && st == STRETTO_OK; i++) {
        if ((size_t)copy[i] < t->vocab.n) { st = tokens_push(out, copy[i]); continue; }
        const char *p = vocab_text(&t->vocab, copy[i]);
        size_t len = vocab_len(&t->vocab, copy[i]);
        for (size_t k = 0; k < len && st == STRETTO_OK;) {
            int32_t cp;
            size_t step = utf8_decode(p + k, len - k, &cp);
            int32_t id = vocab_piece(&t->vocab, p + k, step);
            int byte = byte_of_letter(cp);
            if (id < 0) j->merge.unspelled = byte < 0 ? (unsigned char)p[k] : (unsigned char)byte;
            st = id >= 0 ? tokens_push(out, id) : STRETTO_E_UNSUP;
            k += step;
        }
    }
    mem_free(copy);
    return st;
}

static stretto_status bpe_word(struct job *j, const char *p, size_t n)
{
    const struct tokenizer *t = j->t;
    if (t->ignore_merges) {
        int32_t id = whole_word(t, p, n);
        if (id >= 0) return tokens_push(j->out, id);
    }
    j->merge.n_sym = 0;
    bool plain = t->byte_level && !t->n_inner_prefix && !t->n_word_suffix;
    if (plain) {
        if (n > j->merge.cap_sym) TRY(merge_symbols(&j->merge, n));
        size_t i = 0;
        for (; i < n; i++) {
            int32_t id = t->bpe.byte_id[(unsigned char)p[i]];
            if (id < 0) break;
            j->merge.sym[i].id = id;
        }
        if (i == n) j->merge.n_sym = n;
        else plain = false;
    }
    if (!plain) TRY(bpe_characters(j, p, n));
    size_t from = j->out->n;
    if (j->merge.n_sym) TRY(bpe_merge_word(&t->bpe, &j->merge, j->out));
    return t->vocab.n_all > t->vocab.n ? split_virtual(j, from) : STRETTO_OK;
}

static stretto_status encode_words(struct job *j, const char *p, size_t n, bool first)
{
    const struct tokenizer *t = j->t;
    buffer_clear(&j->work.text);
    TRY(buffer_append(&j->work.text, p, n));
    TRY(pretok_run(&t->pretok, &j->work, first, j->err));
    for (size_t i = 0; i < j->work.words.n; i++) {
        struct span s = j->work.words.item[i];
        const char *word = j->work.text.data + s.at;
        if (t->model == MODEL_BPE) TRY(bpe_word(j, word, s.len));
        else if (t->model == MODEL_SPM)
            TRY(spm_encode(&t->vocab, &t->pairs, t->unk, word, s.len, &j->merge, j->out));
        else {
            j->merge.unspelled = (unsigned char)*word;
            TRY(wordpiece_encode(&t->wordpiece, &t->vocab, word, s.len, j->out));
        }
    }
    return STRETTO_OK;
}

/* Text between added tokens that are looked for as the text came. `words`: all of it is somebody's. */
static stretto_status encode_stretch(struct job *j, const char *p, size_t n, bool first, bool specials,
                                     bool words)
{
    if (!n) return STRETTO_OK;
    const struct tokenizer *t = j->t;
    if (!t->normal.n && !t->normalized.n) return encode_words(j, p, n, first);
    buffer_clear(&j->text);
    TRY(buffer_append(&j->text, p, n));
    TRY(normal_run(&t->normal, &j->text, &j->spare, &j->work, j->err));
    const unsigned char *content = NULL;
    if (words) {
        buffer_clear(&j->content);
        TRY(buffer_reserve(&j->content, j->text.len));
        memset(j->content.data, 1, j->text.len);
        content = (const unsigned char *)j->content.data;
    }
    struct added_search k = { 0 };
    const struct added *a;
    while ((a = added_find(&t->normalized, j->text.data, j->text.len, specials, content, &k))) {
        if (k.at > k.done)
            TRY(encode_words(j, j->text.data + k.done, k.at - k.done, first && !k.done));
        TRY(tokens_push(j->out, a->id));
    }
    if (k.done >= j->text.len) return STRETTO_OK;
    return encode_words(j, j->text.data + k.done, j->text.len - k.done, first && !k.done);
}

/* A normalizer moves bytes about, so where steering tokens are looked for behind it, words and
 * template are encoded one after the other. */
static bool steers_normalized(const struct tokenizer *t)
{
    bool any = false;
    for (size_t i = 0; i < t->normalized.n && !any; i++)
        any = t->normalized.item[i].special || t->normalized.item[i].steers;
    return any;
}

static stretto_status encode_mixed(struct job *j, const char *p, const unsigned char *content, size_t n,
                                   bool first, bool specials)
{
    if (!content || !n || !memchr(content, 1, n) || !steers_normalized(j->t))
        return encode_stretch(j, p, n, first, specials, false);
    for (size_t at = 0, end; at < n; at = end) {
        const unsigned char *run = memchr(content + at, !content[at], n - at);
        end = run ? (size_t)(run - content) : n;
        TRY(encode_stretch(j, p + at, end - at, first && !at, specials, content[at]));
    }
    return STRETTO_OK;
}

static stretto_status encode_all(struct job *j, const char *text, const unsigned char *content, size_t n,
                                 unsigned flags)
{
    const struct tokenizer *t = j->t;
    bool specials = flags & TOKENIZE_SPECIAL, add = flags & TOKENIZE_ADD;
    for (size_t i = 0; add && i < t->n_before; i++) TRY(tokens_push(j->out, t->before[i]));
    struct added_search k = { 0 };
    const struct added *a;
    while ((a = added_find(&t->raw, text, n, specials, content, &k))) {
        if (k.at > k.done)
            TRY(encode_mixed(j, text + k.done, content ? content + k.done : NULL, k.at - k.done, k.done == 0,
                             specials));
        TRY(tokens_push(j->out, a->id));
    }
    TRY(encode_mixed(j, text + k.done, content ? content + k.done : NULL, n - k.done, k.done == 0, specials));
    for (size_t i = 0; add && i < t->n_after; i++) TRY(tokens_push(j->out, t->after[i]));
    return STRETTO_OK;
}

stretto_status tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, unsigned flags,
                                struct tokens *out, struct error *err)
{
    return tokenizer_encode_chat(t, text, NULL, n, flags, out, err);
}

stretto_status tokenizer_encode_chat(const struct tokenizer *t, const char *text,
                                     const unsigned char *content, size_t n, unsigned flags,
                                     struct tokens *out, struct error *err)
{
    if (n > TEXT_MAX)
        return fail(err, STRETTO_E_ARG, "a text of %zu bytes is longer than the %d a tokenizer takes: "
                    "pass it in parts", n, TEXT_MAX);
    struct job j = { .t = t, .out = out, .err = err, .text = buffer_make(WORK_MAX),
                     .spare = buffer_make(WORK_MAX), .content = buffer_make(WORK_MAX) };
    j.work.text = buffer_make(TEXT_MAX);
    j.work.spare = buffer_make(TEXT_MAX);
    size_t had = out->n;
    stretto_status st = encode_all(&j, n ? text : "", content, n, flags);
    if (st != STRETTO_OK) {
        out->n = had;
        if (st == STRETTO_E_UNSUP)
            fail(err, st, "the vocabulary has no token for the byte 0x%02X of the text and none for what is "
                 "unknown: leave it out, or use a model whose vocabulary has all bytes", j.merge.unspelled);
        else
            fail(err, st, st == STRETTO_E_NOMEM ? "no memory to tokenize %zu bytes"
                                                : "a text of %zu bytes grew too long while tokenizing", n);
    }
    buffer_done(&j.text);
    buffer_done(&j.spare);
    buffer_done(&j.content);
    pretok_work_done(&j.work);
    merge_work_done(&j.merge);
    return st;
}

/* ---- ids to text ------------------------------------------------------------------------------------ */

static stretto_status put_bytes(const char *p, size_t n, struct buffer *out)
{
    for (size_t at = 0; at < n;) {
        int32_t cp;
        size_t len = utf8_decode(p + at, n - at, &cp);
        int byte = cp == UTF8_BAD ? -1 : byte_of_letter(cp);
        char one = (char)byte;
        TRY(byte < 0 ? buffer_append(out, p + at, len) : buffer_append(out, &one, 1));
        at += len;
    }
    return STRETTO_OK;
}

static stretto_status put_replaced(const struct spelling_steps *r, const char *p, size_t n,
                                   struct buffer *out)
{
    struct spelling_chain c = { .n = { 0 } };
    TRY(spelling_push(r, &c, p, n, out));
    return spelling_end(r, &c, out);
}

static void drop_space(struct buffer *b, size_t at)
{
    if (b->len <= at || b->data[at] != ' ') return;
    memmove(b->data + at, b->data + at + 1, b->len - at);
    b->len--;
}

/* The blanks that WordPiece's word-by-word printing puts where English has none; the list and its order
 * are those of the models' decoder. */
static void clean_up(struct buffer *b, size_t from)
{
    static const char *const change[][2] = {
        { " .", "." }, { " ?", "?" }, { " !", "!" }, { " ,", "," }, { " ' ", "'" }, { " n't", "n't" },
        { " 'm", "'m" }, { " do not", " don't" }, { " 's", "'s" }, { " 've", "'ve" }, { " 're", "'re" },
    };
    for (size_t i = 0; i < sizeof change / sizeof *change; i++) {
        size_t n = strlen(change[i][0]), m = strlen(change[i][1]);
        for (size_t at = from; at + n <= b->len;) {
            if (memcmp(b->data + at, change[i][0], n)) { at++; continue; }
            memcpy(b->data + at, change[i][1], m);             /* never longer */
            memmove(b->data + at + m, b->data + at + n, b->len - at - n);
            b->len -= n - m;
            at += m;
        }
    }
    if (b->data) b->data[b->len] = '\0';
}

static stretto_status put_piece(const struct tokenizer *t, int32_t id, bool first, struct buffer *out)
{
    const struct spelling_rules *r = &t->spell;
    const char *p = vocab_text(&t->vocab, id);
    size_t n = vocab_len(&t->vocab, id), from = out->len;
    bool added = t->flag[id] & TOKEN_IS_ADDED;
    /* A token that was found in normalized text stands for what was found: "▁fox" and not "fox". */
    const struct added *a = t->flag[id] & TOKEN_IS_NORMALIZED ? added_of(&t->normalized, id) : NULL;
    if (a) { p = t->normalized.text + a->at; n = a->len; }
    if (r->wordpiece) {
        bool inside = n >= t->wordpiece.n_inside && t->wordpiece.n_inside &&
                      !memcmp(p, t->wordpiece.inside, t->wordpiece.n_inside);
        if (!first && inside) { p += t->wordpiece.n_inside; n -= t->wordpiece.n_inside; }
        else if (!first) TRY(buffer_append(out, " ", 1));
        TRY(buffer_append(out, p, n));
        if (r->cleanup) clean_up(out, from);
        return STRETTO_OK;
    }
    int byte = r->byte_fallback && (!added || t->vocab.type[id] == TOKEN_BYTE) ? byte_spelled(p, n) : -1;
    if (byte >= 0) {
        char one = (char)byte;
        TRY(buffer_append(out, &one, 1));
    } else if (added && !r->replace_added) {
        TRY(buffer_append(out, p, n));
    } else if (r->byte_level && !added) {
        TRY(put_bytes(p, n, out));
    } else {
        bool ends = !added && r->n_suffix && n >= r->n_suffix &&
                    !memcmp(p + n - r->n_suffix, r->suffix, r->n_suffix);
        if (ends) n -= r->n_suffix;
        TRY(put_replaced(&r->replace, p, n, out));
        if (ends) TRY(buffer_append(out, " ", 1));
    }
    if (r->drop_each_space || (first && r->drop_first_space)) drop_space(out, from);
    return STRETTO_OK;
}

stretto_status tokenizer_piece(const struct tokenizer *t, int32_t id, bool first, bool special,
                               struct buffer *out)
{
    if (id < 0 || (size_t)id >= t->vocab.n) return STRETTO_E_ARG;
    if (t->flag[id] & TOKEN_IS_SPECIAL && !special) return STRETTO_OK;
    if (!vocab_len(&t->vocab, id)) return STRETTO_OK;
    size_t had = out->len;
    stretto_status st = put_piece(t, id, first, out);
    if (st != STRETTO_OK && out->data) { out->len = had; out->data[had] = '\0'; }
    return st;
}

bool tokenizer_rereads(const struct tokenizer *t) { return t->spell.late.n > 0; }

stretto_status tokenizer_reread(const struct tokenizer *t, struct spelling_chain *c, const char *p, size_t n,
                                struct buffer *out)
{
    return spelling_push(&t->spell.late, c, p, n, out);
}

stretto_status tokenizer_reread_end(const struct tokenizer *t, struct spelling_chain *c, struct buffer *out)
{
    return spelling_end(&t->spell.late, c, out);
}

static stretto_status decode_all(const struct tokenizer *t, const int32_t *id, size_t n, bool special,
                                 struct buffer *piece, struct buffer *out)
{
    bool first = true, late = tokenizer_rereads(t);
    struct spelling_chain c = { .n = { 0 } };
    for (size_t i = 0; i < n; i++) {
        if (late) buffer_clear(piece);
        TRY(tokenizer_piece(t, id[i], first, special, late ? piece : out));
        if (late && piece->len) TRY(tokenizer_reread(t, &c, piece->data, piece->len, out));
        first = first && !special && tokenizer_is_special(t, id[i]);
    }
    return late ? tokenizer_reread_end(t, &c, out) : STRETTO_OK;
}

stretto_status tokenizer_decode(const struct tokenizer *t, const int32_t *id, size_t n, bool special,
                                struct buffer *out)
{
    size_t had = out->len;
    struct buffer piece = buffer_make((size_t)1 << 22);
    stretto_status st = decode_all(t, id, n, special, &piece, out);
    buffer_done(&piece);
    if (st != STRETTO_OK) {
        if (out->data) { out->len = had; out->data[had] = '\0'; }
        return st;
    }
    if (t->spell.drop_late_space) drop_space(out, had);
    /* The last word's end is the text's, not a blank. */
    if (t->spell.n_suffix && out->len > had && out->data[out->len - 1] == ' ')
        out->data[--out->len] = '\0';
    return STRETTO_OK;
}

/* ---- what it knows ---------------------------------------------------------------------------------- */

static bool in_range(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && (size_t)id < t->vocab.n;
}

size_t tokenizer_size(const struct tokenizer *t) { return t->vocab.n; }
const int32_t *tokenizer_before(const struct tokenizer *t, size_t *n)
{
    *n = t->n_before;
    return t->before;
}
int32_t tokenizer_bos(const struct tokenizer *t) { return t->bos; }
int32_t tokenizer_eos(const struct tokenizer *t) { return t->eos; }
const char *tokenizer_kind(const struct tokenizer *t) { return t->kind; }
const char *tokenizer_warning(const struct tokenizer *t) { return *t->warning ? t->warning : NULL; }

bool tokenizer_is_eog(const struct tokenizer *t, int32_t id)
{
    return in_range(t, id) && t->flag[id] & TOKEN_IS_EOG;
}

bool tokenizer_is_special(const struct tokenizer *t, int32_t id)
{
    return in_range(t, id) && t->flag[id] & TOKEN_IS_SPECIAL;
}

const struct phrases *tokenizer_phrases(const struct tokenizer *t) { return t->phrases.n ? &t->phrases : NULL; }

int32_t tokenizer_find(const struct tokenizer *t, const char *piece, size_t n)
{
    return vocab_find(&t->vocab, piece, n);
}

const char *tokenizer_spelling(const struct tokenizer *t, int32_t id, size_t *n)
{
    *n = 0;
    if (!in_range(t, id)) return NULL;
    *n = vocab_len(&t->vocab, id);
    return *n ? vocab_text(&t->vocab, id) : "";
}

/* ---- chat templates --------------------------------------------------------------------------------- */

stretto_status tokenizer_add_chat(struct tokenizer *t, const char *name, size_t n_name, const char *p,
                                  size_t n, struct error *err)
{
    struct chat_text *list = mem_resize(t->chat, (t->n_chat + 1) * sizeof *list);
    if (list) t->chat = list;
    struct chat_text c = { .name = mem_strndup(name, n_name), .text = mem_alloc(n + 1), .n = n };
    if (!list || !c.name || !c.text) {
        mem_free(c.name);
        mem_free(c.text);
        return fail(err, STRETTO_E_NOMEM, "no memory for the chat template");
    }
    if (n) memcpy(c.text, p, n);
    c.text[n] = '\0';
    t->chat[t->n_chat++] = c;
    return STRETTO_OK;
}

bool tokenizer_chat_template(const struct tokenizer *t, bool tools, const char **p, size_t *n)
{
    const struct chat_text *found = NULL;
    for (size_t i = 0; i < t->n_chat; i++) {
        const struct chat_text *c = &t->chat[i];
        if (strcmp(c->name, "default") == 0 && !found) found = c;
        if (tools && strcmp(c->name, "tool_use") == 0) found = c;
    }
    *p = found ? found->text : NULL;
    *n = found ? found->n : 0;
    return found != NULL;
}

stretto_status tokenizer_no_chat(const struct tokenizer *t, struct error *err)
{
    struct buffer names = buffer_make(200);
    for (size_t i = 0; t && i < t->n_chat; i++)
        if (buffer_printf(&names, "%s%s", i ? ", " : "", t->chat[i].name) != STRETTO_OK) break;
    fail(err, STRETTO_E_UNSUP, names.len ? "the model has chat templates, but none that is called "
         "default (it has %s); give the prompt as plain text" : "the model has no chat template; give "
         "the prompt as plain text", names.len ? names.data : "");
    buffer_done(&names);
    return STRETTO_E_UNSUP;
}
