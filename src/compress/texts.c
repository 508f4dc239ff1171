#include "compress/texts.h"
#include "base/buffer.h"
#include "base/hash.h"
#include "base/json_tree.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "text/chat.h"
#include "text/tokenizer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GRAM = 13, TEXT_MAX = 1 << 28, PARTS_MAX = 64 };

/* Made by cmake/embed.cmake. */
struct embedded { const char *name; const unsigned char *text; };
extern const struct embedded texts_calibration[], texts_heldout[], texts_tasks[];

static bool ends(const char *s, const char *with)
{
    size_t n = strlen(s), w = strlen(with);
    return n >= w && strcmp(s + n - w, with) == 0;
}

size_t texts_builtin(bool heldout, struct text_file *out, size_t cap)
{
    size_t n = 0;
    for (const struct embedded *e = heldout ? texts_heldout : texts_calibration; e->name && n < cap; e++) {
        const char *text = (const char *)e->text;
        out[n++] = (struct text_file){ e->name, text, strlen(text), ends(e->name, ".jsonl") };
    }
    return n;
}

struct text_file texts_hellaswag(void)
{
    const struct embedded *e = texts_tasks;
    const char *text = (const char *)e->text;
    return (struct text_file){ e->name, text, strlen(text), false };
}

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory"); }

/* ---- conversations as plain text ------------------------------------------------------------ */

/* What the messages of a line say, one behind the other; where: "chats.jsonl, line 3". */
static stretto_status say_line(const char *line, size_t n, const char *where, struct buffer *out, struct error *err)
{
    json_t *j = NULL;
    TRY(json_tree(&j, line, n, JSON_TWICE_REFUSED, where, err));
    const json_t *list = json_object_get(j, "messages");
    stretto_status s = json_is_array(list) ? STRETTO_OK
        : fail(err, STRETTO_E_FORMAT, "%s has no \"messages\"; each line is {\"messages\": [{\"role\": ..., "
               "\"content\": ...}, ...]}", where);
    for (size_t i = 0; i < json_array_size(list) && s == STRETTO_OK; i++) {
        const char *content = json_string_value(json_object_get(json_array_get(list, i), "content"));
        if (content) s = buffer_printf(out, "%s\n\n", content);
    }
    json_decref(j);
    return s;
}

static stretto_status say_lines(const struct text_file *f, struct buffer *out, struct error *err)
{
    char where[200];
    unsigned line = 1;
    for (const char *p = f->data, *end = f->data + f->n; p < end; line++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((stop ? stop : end) - p);
        snprintf(where, sizeof where, "%s, line %u", f->name, line);
        if (n) TRY(say_line(p, n, where, out, err));
        p += n + 1;
    }
    return STRETTO_OK;
}

/* ---- windows -------------------------------------------------------------------------------- */

static stretto_status check_ids(const struct eval_set *s, uint32_t vocab, struct error *err)
{
    for (size_t i = 0; i < s->at[s->n]; i++)
        if (s->id[i] < 0 || (uint32_t)s->id[i] >= vocab)
            return fail(err, STRETTO_E_FORMAT, "the tokenizer makes token %d of the text '%s', and the model has %u: "
                        "they do not belong together", (int)s->id[i], s->name, vocab);
    return STRETTO_OK;
}

static stretto_status plain_set(struct eval_set *out, const char *name, const char *text, size_t n,
                                const struct tokenizer *t, uint32_t window, struct error *err)
{
    struct tokens ids = { 0 };
    stretto_status s = tokenizer_encode(t, text, n, TOKENIZE_ADD, &ids, err);
    int32_t bos = s == STRETTO_OK && ids.n && ids.id[0] == tokenizer_bos(t) ? ids.id[0] : -1;
    if (s == STRETTO_OK) s = eval_set_text(out, name, ids.id, ids.n, window, 0, bos, err);
    tokens_done(&ids);
    return s;
}

static stretto_status whole_set(struct eval_set *out, const struct text_file *f, const struct tokenizer *t,
                                const struct chat *chat, uint32_t window, struct error *err)
{
    if (!f->lines) return plain_set(out, f->name, f->data, f->n, t, window, err);
    if (chat && !chat_trouble(chat)) return eval_set_chat(out, f->name, t, chat, f->data, f->n, window, 0, err);
    struct buffer text = buffer_make(TEXT_MAX);
    stretto_status s = say_lines(f, &text, err);
    if (s == STRETTO_OK) s = plain_set(out, f->name, text.len ? text.data : "", text.len, t, window, err);
    buffer_done(&text);
    return s;
}

static bool is_spread(size_t w, size_t n, size_t most) { return (w + 1) * most / n != w * most / n; }

static bool in_part(const struct eval_set *s, size_t w, struct texts_part p)
{
    size_t at = w, n = s->n;
    if (p.half != TEXTS_BOTH && n > 1) {
        bool odd = p.half == TEXTS_SECOND;
        if (w % 2 != odd) return false;
        at = w / 2;
        n = (n + !odd) / 2;
    }
    return !p.most || p.most >= n || is_spread(at, n, p.most);
}

size_t texts_counted(const struct eval_set *s, struct texts_part p)
{
    size_t tokens = 0;
    for (size_t w = 0; w < s->n; w++)
        for (size_t i = s->at[w]; i < s->at[w + 1] && in_part(s, w, p); i++) tokens += s->counts[i];
    return tokens;
}

void texts_keep(struct eval_set *s, struct texts_part p)
{
    size_t kept = 0, to = 0, tokens = texts_counted(s, p);
    s->longest = 0;
    for (size_t w = 0; w < s->n; w++) {
        if (!in_part(s, w, p)) continue;
        size_t from = s->at[w], n = s->at[w + 1] - from;
        memmove(s->id + to, s->id + from, n * sizeof *s->id);
        memmove(s->counts + to, s->counts + from, n);
        if (n > s->longest) s->longest = (uint32_t)n;
        s->at[kept++] = to;
        to += n;
    }
    s->at[kept] = to;
    s->n = kept;
    s->tokens = tokens;
}

static void thin(struct eval_set *s, size_t most) { texts_keep(s, (struct texts_part){ TEXTS_BOTH, most }); }

stretto_status texts_set(struct eval_set *out, const struct text_file *f, const struct tokenizer *t,
                         const struct chat *chat, uint32_t window, size_t most, uint32_t vocab, struct error *err)
{
    *out = (struct eval_set){ 0 };
    if (!t) return fail(err, STRETTO_E_UNSUP, "the model has no tokenizer, so no text can be read");
    TRY(texts_check(f, err));
    TRY(whole_set(out, f, t, chat, window, err));
    thin(out, most);
    stretto_status s = check_ids(out, vocab, err);
    if (s != STRETTO_OK) eval_set_done(out);
    return s;
}

static stretto_status windows_add(struct windows *w, const struct eval_set *s, struct error *err)
{
    size_t n = s->at[s->n];
    if (w->tokens + n > UINT32_MAX) return fail(err, STRETTO_E_ARG, "the texts have too many tokens");
    int32_t *id = mem_resize(w->id, (w->tokens + n) * sizeof *id);
    if (id) w->id = id;
    uint32_t *at = mem_resize(w->at, (w->n + s->n + 1) * sizeof *at);
    if (at) w->at = at;
    if (!id || !at) return no_memory(err);
    memcpy(id + w->tokens, s->id, n * sizeof *id);
    for (size_t i = 0; i < s->n; i++) at[w->n + i] = (uint32_t)(w->tokens + s->at[i]);
    w->n += s->n;
    w->tokens += n;
    at[w->n] = (uint32_t)w->tokens;
    return STRETTO_OK;
}

stretto_status windows_make(struct windows *out, const struct text_file *f, size_t n, const struct tokenizer *t,
                            const struct chat *chat, uint32_t window, size_t tokens, uint32_t vocab,
                            struct error *err)
{
    struct eval_set sets[PARTS_MAX] = { { 0 } };
    size_t all = 0;
    stretto_status s = n && n <= PARTS_MAX ? STRETTO_OK
        : fail(err, STRETTO_E_ARG, "%zu texts; 1 to %d can be read", n, PARTS_MAX);
    *out = (struct windows){ 0 };
    for (size_t i = 0; i < n && s == STRETTO_OK; i++) {
        s = texts_set(&sets[i], &f[i], t, chat, window, 0, vocab, err);
        if (s == STRETTO_OK) all += sets[i].at[sets[i].n];
    }
    for (size_t i = 0; i < n && s == STRETTO_OK; i++) {
        size_t most = tokens && tokens < all ? sets[i].n * tokens / all : sets[i].n;
        thin(&sets[i], most ? most : 1);
        s = windows_add(out, &sets[i], err);
    }
    for (size_t i = 0; i < n && i < PARTS_MAX; i++) eval_set_done(&sets[i]);
    if (s == STRETTO_OK) out->hash = hash_bytes(out->n, out->id, out->tokens * sizeof *out->id);
    else windows_done(out);
    return s;
}

void windows_done(struct windows *w)
{
    mem_free(w->id);
    mem_free(w->at);
    *w = (struct windows){ 0 };
}

/* ---- what two texts share ------------------------------------------------------------------- */

struct words { const char *p, *end; uint64_t last[GRAM]; const char *begin[GRAM]; size_t n; };

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Whether there is a further word; letters count alike in both cases. In lines of conversations what is escaped
 * is escaped in both texts. */
static bool next_word(struct words *w)
{
    while (w->p < w->end && is_space(*w->p)) w->p++;
    if (w->p == w->end) return false;
    uint64_t h = 0;
    w->begin[w->n % GRAM] = w->p;
    for (; w->p < w->end && !is_space(*w->p); w->p++) {
        char c = *w->p;
        h = random_mix(h ^ (unsigned char)(c >= 'A' && c <= 'Z' ? c + 32 : c));
    }
    w->last[w->n++ % GRAM] = h;
    return true;
}

static uint64_t gram(const struct words *w)
{
    uint64_t h = 0;
    for (size_t i = 0; i < GRAM; i++) h = random_mix(h ^ w->last[(w->n + i) % GRAM]);
    return h;
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t *grams_of(const struct text_file *f, size_t *n)
{
    uint64_t *list = mem_alloc((f->n / 2 + 1) * sizeof *list);
    *n = 0;
    struct words w = { .p = f->data, .end = f->data + f->n };
    while (list && next_word(&w))
        if (w.n >= GRAM) list[(*n)++] = gram(&w);
    if (list) qsort(list, *n, sizeof *list, ascending);
    return list;
}

static stretto_status shares(const struct text_file *a, const struct text_file *b, bool *shared, char *words,
                             size_t cap, struct error *err)
{
    size_t n;
    bool found = false;
    uint64_t *list = grams_of(a, &n);
    if (!list) return fail(err, STRETTO_E_NOMEM, "not enough memory to compare the texts %s and %s", a->name, b->name);
    struct words w = { .p = b->data, .end = b->data + b->n };
    while (!found && next_word(&w)) {
        if (w.n < GRAM) continue;
        uint64_t h = gram(&w);
        found = bsearch(&h, list, n, sizeof h, ascending) != NULL;
    }
    if (found) {
        const char *from = w.begin[w.n % GRAM];
        snprintf(words, cap, "%.*s", (int)((size_t)(w.p - from) < cap ? (size_t)(w.p - from) : cap - 1), from);
    }
    mem_free(list);
    *shared = found;
    return STRETTO_OK;
}

stretto_status texts_leak(const struct text_file *learned, size_t n, const struct text_file *measured,
                          const char **which, char *words, size_t cap, struct error *err)
{
    *which = NULL;
    for (size_t i = 0; i < n; i++) {
        bool shared = false;
        TRY(shares(&learned[i], measured, &shared, words, cap, err));
        if (!shared) continue;
        *which = learned[i].name;
        return STRETTO_OK;
    }
    return STRETTO_OK;
}

stretto_status texts_check(const struct text_file *f, struct error *err)
{
    size_t odd = 0;
    const char *nul = f->n ? memchr(f->data, 0, f->n) : NULL;
    if (nul)
        return fail(err, STRETTO_E_FORMAT, "%s is no text: byte %zu of it is NUL", f->name,
                    (size_t)(nul - f->data) + 1);
    for (size_t i = 0; i < f->n;) {
        int32_t c;
        i += utf8_decode(f->data + i, f->n - i, &c);
        odd += c == UTF8_BAD;
    }
    if (odd * 100 <= f->n) return STRETTO_OK;
    return fail(err, STRETTO_E_FORMAT, "%s is no text in UTF-8: %zu of its %zu bytes belong to no character",
                f->name, odd, f->n);
}
