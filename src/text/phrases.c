#include "text/phrases.h"
#include "base/memory.h"
#include "text/tokenizer_int.h"
#include <stdlib.h>
#include <string.h>

#define OWN(name) "stretto.phrases." name
#define UNDERLINE "\xE2\x96\x81"

static stretto_status no_memory(struct error *err)
{
    return fail(err, STRETTO_E_NOMEM, "no memory for the phrases");
}

void phrases_done(struct phrases *p)
{
    mem_free(p->at);
    mem_free(p->piece);
    mem_free(p->order);
    *p = (struct phrases){ 0 };
}

/* ---- the table ------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b, void *of)
{
    const struct phrases *p = of;
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b, n = phrase_length(p, i), m = phrase_length(p, j);
    for (uint32_t k = 0; k < n && k < m; k++) {
        int32_t x = p->piece[p->at[i] + k], y = p->piece[p->at[j] + k];
        if (x != y) return x < y ? -1 : 1;
    }
    return (n > m) - (n < m);
}

static stretto_status check(const struct phrases *p, struct error *err)
{
    for (uint32_t i = 0; i < p->at[p->n]; i++)
        if (p->piece[i] < 0 || p->piece[i] >= p->first)
            return fail(err, STRETTO_E_FORMAT, "a phrase is made of token %d, and the vocabulary's own are those below "
                        "%d", p->piece[i], p->first);
    for (uint32_t i = 0; i + 1 < p->n; i++)
        if (compare(&p->order[i], &p->order[i + 1], (void *)(uintptr_t)p) == 0)
            return fail(err, STRETTO_E_FORMAT, "the tokens %d and %d are the same phrase",
                        p->first + (int32_t)p->order[i], p->first + (int32_t)p->order[i + 1]);
    return STRETTO_OK;
}

stretto_status phrases_make(struct phrases *p, int32_t first, const uint32_t *length, size_t n, const int32_t *piece,
                            struct error *err)
{
    *p = (struct phrases){ .first = first, .n = (uint32_t)n };
    if (n > PHRASES_MOST || first < 0 || (size_t)first > VOCAB_MAX - n)
        return fail(err, STRETTO_E_FORMAT, "%zu phrases are more than the %d there may be", n, PHRASES_MOST);
    p->at = mem_zalloc(n + 1, sizeof *p->at);
    p->order = mem_zalloc(n + 1, sizeof *p->order);
    if (!p->at || !p->order) return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        if (length[i] < 2 || length[i] > PHRASE_PIECES)
            return fail(err, STRETTO_E_FORMAT, "a phrase of %u tokens: they have 2 to %d", length[i], PHRASE_PIECES);
        if (length[i] > p->longest) p->longest = length[i];
        p->at[i + 1] = p->at[i] + length[i];
        p->order[i] = (uint32_t)i;
    }
    p->piece = mem_zalloc(p->at[n] + 1, sizeof *p->piece);
    if (!p->piece) return no_memory(err);
    memcpy(p->piece, piece, p->at[n] * sizeof *piece);
    qsort_r(p->order, n, sizeof *p->order, compare, p);
    return check(p, err);
}

/* Narrows order[*lo .. *hi) to the phrases whose piece `depth` is id; all have those before it and are longer. */
static void narrow(const struct phrases *p, size_t *lo, size_t *hi, size_t depth, int32_t id)
{
    size_t a = *lo, b = *hi;
    while (a < b) {
        size_t mid = a + (b - a) / 2;
        if (p->piece[p->at[p->order[mid]] + depth] < id) a = mid + 1; else b = mid;
    }
    *lo = a;
    b = *hi;
    while (a < b) {
        size_t mid = a + (b - a) / 2;
        if (p->piece[p->at[p->order[mid]] + depth] <= id) a = mid + 1; else b = mid;
    }
    *hi = a;
}

size_t phrases_match(const struct phrases *p, const int32_t *id, size_t n, int32_t *phrase)
{
    size_t lo = 0, hi = p->n, best = 0;
    for (size_t depth = 0; depth < n && lo < hi; depth++) {
        narrow(p, &lo, &hi, depth, id[depth]);
        if (lo == hi || phrase_length(p, p->order[lo]) != depth + 1) continue;
        *phrase = p->first + (int32_t)p->order[lo++];
        best = depth + 1;
    }
    return best;
}

stretto_status phrases_join(const struct phrases *p, const int32_t *id, size_t n, struct tokens *out)
{
    for (size_t i = 0, taken; i < n; i += taken) {
        int32_t token = id[i];
        taken = phrases_match(p, id + i, n - i, &token);
        if (!taken) taken = 1;
        TRY(tokens_push(out, token));
    }
    return STRETTO_OK;
}

stretto_status phrases_split(const struct phrases *p, const int32_t *id, size_t n, struct tokens *out)
{
    for (size_t i = 0; i < n; i++) {
        if (id[i] < p->first || (uint32_t)(id[i] - p->first) >= p->n) {
            TRY(tokens_push(out, id[i]));
            continue;
        }
        size_t phrase = (size_t)(id[i] - p->first);
        for (uint32_t k = p->at[phrase]; k < p->at[phrase + 1]; k++) TRY(tokens_push(out, p->piece[k]));
    }
    return STRETTO_OK;
}

/* ---- in a file ------------------------------------------------------------------------------- */

static stretto_status malformed(const struct source *src, struct error *err)
{
    return fail(err, STRETTO_E_FORMAT, "%s has phrases (stretto.phrases.*) that its vocabulary does not fit: it was "
                "damaged, or changed by a program that does not know them", source_path(src));
}

static stretto_status read_numbers(const struct source *src, const char *key, size_t n, int32_t *out, struct error *err)
{
    int64_t v;
    for (size_t i = 0; i < n; i++) {
        if (!source_array_i64(src, key, i, &v) || v < 0 || v > INT32_MAX) return malformed(src, err);
        out[i] = (int32_t)v;
    }
    return STRETTO_OK;
}

static stretto_status read_phrases(struct phrases *p, const struct source *src, size_t vocab, int32_t *numbers,
                                   size_t n, size_t pieces, struct error *err)
{
    uint64_t first, sum = 0;
    TRY(read_numbers(src, OWN("lengths"), n, numbers, err));
    TRY(read_numbers(src, OWN("pieces"), pieces, numbers + n, err));
    for (size_t i = 0; i < n; i++) sum += (uint64_t)numbers[i];
    if (!source_u64(src, OWN("first"), &first) || sum != pieces || first > vocab || vocab - first != n)
        return malformed(src, err);
    return phrases_make(p, (int32_t)first, (const uint32_t *)numbers, n, numbers + n, err);
}

stretto_status phrases_from_source(struct phrases *p, const struct source *src, size_t vocab, struct error *err)
{
    size_t n, pieces;
    enum source_kind kind;
    uint64_t version;
    *p = (struct phrases){ 0 };
    if (!source_has(src, OWN("version"))) return STRETTO_OK;
    if (!source_u64(src, OWN("version"), &version) || version != 1)
        return fail(err, STRETTO_E_UNSUP, "%s has phrases of another version than 1: use a newer version of this "
                    "program", source_path(src));
    if (!source_array(src, OWN("lengths"), &kind, &n) || !source_array(src, OWN("pieces"), &kind, &pieces) || !n
        || n > PHRASES_MOST || pieces > n * PHRASE_PIECES)
        return malformed(src, err);
    int32_t *numbers = mem_alloc((n + pieces) * sizeof *numbers);
    stretto_status s = numbers ? read_phrases(p, src, vocab, numbers, n, pieces, err) : no_memory(err);
    mem_free(numbers);
    return s;
}

/* ---- how one is spelled ---------------------------------------------------------------------- */

static bool ordinary(const struct tokenizer *t, int32_t id)
{
    unsigned char type = id >= 0 && (size_t)id < t->vocab.n ? t->vocab.type[id] : TOKEN_UNUSED;
    return (type == TOKEN_NORMAL || type == TOKEN_BYTE) && vocab_len(&t->vocab, id)
        && !(t->flag[id] & (TOKEN_IS_SPECIAL | TOKEN_IS_EOG | TOKEN_IS_ADDED | TOKEN_IS_NORMALIZED));
}

static bool whole_utf8(const char *p, size_t n)
{
    int32_t cp;
    for (size_t at = 0; at < n;) {
        at += utf8_decode(p + at, n - at, &cp);
        if (cp == UTF8_BAD) return false;
    }
    return true;
}

/* Blanks as such vocabularies spell them. */
static stretto_status spell_text(const struct buffer *text, struct buffer *out)
{
    if (!whole_utf8(text->data, text->len)) return STRETTO_E_ARG;
    for (size_t i = 0; i < text->len; i++)
        TRY(text->data[i] == ' ' ? buffer_append(out, UNDERLINE, 3) : buffer_append(out, text->data + i, 1));
    return STRETTO_OK;
}

/* Whether a text of this alone would become this token, where words are looked up before they are merged. */
static stretto_status one_word(const struct tokenizer *t, const struct buffer *text, bool *one, struct error *err)
{
    struct pretok_work w = { .text = buffer_make(1 << 20), .spare = buffer_make(1 << 20) };
    stretto_status s = buffer_append(&w.text, text->data, text->len);
    if (s == STRETTO_OK) s = pretok_run(&t->pretok, &w, false, err);
    *one = w.words.n <= 1;
    pretok_work_done(&w);
    return s == STRETTO_OK ? s : no_memory(err);
}

static stretto_status spell(const struct tokenizer *t, const int32_t *id, size_t n, const struct buffer *text,
                            struct buffer *out, struct error *err)
{
    struct added_search k = { 0 };
    bool one = false;
    size_t had = out->len;
    if (t->byte_level)
        for (size_t i = 0; i < n; i++)
            TRY(buffer_append(out, vocab_text(&t->vocab, id[i]), vocab_len(&t->vocab, id[i])));
    else TRY(spell_text(text, out));
    const char *p = out->data + had;
    size_t len = out->len - had;
    if (vocab_find(&t->vocab, p, len) >= 0 || vocab_piece_any(&t->vocab, p, len) >= 0) return STRETTO_E_ARG;
    if (added_find(&t->raw, text->data, text->len, true, NULL, &k)) return STRETTO_E_ARG;
    if (t->ignore_merges) TRY(one_word(t, text, &one, err));
    return one ? STRETTO_E_ARG : STRETTO_OK;
}

static bool kind_known(const struct tokenizer *t)
{
    const struct spelling_rules *r = &t->spell;
    if (t->model == MODEL_WORDPIECE || t->letters || t->n_word_suffix || t->n_inner_prefix || r->n_suffix
        || r->drop_each_space) return false;
    return t->byte_level ? r->byte_level : r->replace.n > 0;
}

stretto_status tokenizer_phrase(const struct tokenizer *t, const int32_t *id, size_t n, struct buffer *out,
                                struct error *err)
{
    struct buffer text = buffer_make(1 << 20);
    size_t had = out->len;
    stretto_status s = STRETTO_OK;
    if (!kind_known(t))
        return fail(err, STRETTO_E_UNSUP, "a vocabulary of this kind (%s) cannot spell phrases", t->kind);
    for (size_t i = 0; i < n && s == STRETTO_OK; i++)
        s = ordinary(t, id[i]) ? tokenizer_piece(t, id[i], false, false, &text) : STRETTO_E_ARG;
    if (s == STRETTO_OK && !text.len) s = STRETTO_E_ARG;
    if (s == STRETTO_OK) s = spell(t, id, n, &text, out, err);
    buffer_done(&text);
    if (s != STRETTO_OK) out->len = had;
    return s == STRETTO_OK || s == STRETTO_E_ARG ? s : s == STRETTO_E_UNSUP ? s : no_memory(err);
}
