/* Added tokens: the longest that matches where the leftmost begins, as Hugging Face's matcher does. */
#include "text/tokenizer_int.h"
#include "base/memory.h"
#include <stdlib.h>
#include <string.h>

void added_done(struct added_set *s)
{
    mem_free(s->item);
    mem_free(s->by_id);
    mem_free(s->text);
    *s = (struct added_set){ 0 };
}

stretto_status added_add(struct added_set *s, struct added a, const char *p, size_t n,
                         struct error *err)
{
    if (!n) return STRETTO_OK;
    if (s->n == s->cap) {
        size_t cap = s->cap * 2 + 64;
        struct added *item = cap <= VOCAB_MAX * 2 ? mem_resize(s->item, cap * sizeof *item) : NULL;
        if (!item) return fail(err, STRETTO_E_NOMEM, "no memory for %zu added tokens", cap);
        s->item = item;
        s->cap = cap;
    }
    if (s->text_cap - s->text_len < n) {
        size_t cap = s->text_cap * 2 + n + 1024;
        char *text = cap <= UINT32_MAX ? mem_resize(s->text, cap) : NULL;
        if (!text) return fail(err, STRETTO_E_NOMEM, "no memory for the added tokens");
        s->text = text;
        s->text_cap = cap;
    }
    a.at = (uint32_t)s->text_len;
    a.len = (uint32_t)n;
    memcpy(s->text + s->text_len, p, n);
    s->text_len += n;
    s->item[s->n++] = a;
    s->starts[(unsigned char)*p] = true;
    return STRETTO_OK;
}

static int compare(const struct added_set *s, const struct added *a, const struct added *b)
{
    size_t n = a->len < b->len ? a->len : b->len;
    int c = memcmp(s->text + a->at, s->text + b->at, n);
    return c ? c : (a->len > b->len) - (a->len < b->len);
}

static int by_text(const void *a, const void *b, void *set) { return compare(set, a, b); }

static int by_id(const void *a, const void *b, void *set)
{
    const struct added_set *s = set;
    int32_t x = s->item[*(const uint32_t *)a].id, y = s->item[*(const uint32_t *)b].id;
    return (x > y) - (x < y);
}

stretto_status added_sort(struct added_set *s, struct error *err)
{
    if (!s->n) return STRETTO_OK;
    /* glibc's qsort_r merges (stable) while it finds memory; equal strings have one id anyway. */
    qsort_r(s->item, s->n, sizeof *s->item, by_text, s);
    s->by_id = mem_alloc(s->n * sizeof *s->by_id);
    if (!s->by_id) return fail(err, STRETTO_E_NOMEM, "no memory for %zu added tokens", s->n);
    for (size_t i = 0; i < s->n; i++) s->by_id[i] = (uint32_t)i;
    qsort_r(s->by_id, s->n, sizeof *s->by_id, by_id, s);
    return STRETTO_OK;
}

const struct added *added_of(const struct added_set *s, int32_t id)
{
    size_t a = 0, b = s->n;
    while (a < b) {
        size_t mid = a + (b - a) / 2;
        if (s->item[s->by_id[mid]].id < id) a = mid + 1; else b = mid;
    }
    return a < s->n && s->item[s->by_id[a]].id == id ? &s->item[s->by_id[a]] : NULL;
}

/* Narrows [lo, hi) to the items whose byte `depth` is c. All share the bytes before it and are longer. */
static void narrow(const struct added_set *s, size_t *lo, size_t *hi, size_t depth, unsigned char c)
{
    size_t a = *lo, b = *hi;
    while (a < b) {
        size_t mid = a + (b - a) / 2;
        if ((unsigned char)s->text[s->item[mid].at + depth] < c) a = mid + 1; else b = mid;
    }
    *lo = a;
    b = *hi;
    while (a < b) {
        size_t mid = a + (b - a) / 2;
        if ((unsigned char)s->text[s->item[mid].at + depth] <= c) a = mid + 1; else b = mid;
    }
    *hi = a;
}

static const struct added *longest_at(const struct added_set *s, const char *p, size_t n)
{
    const struct added *best = NULL;
    size_t lo = 0, hi = s->n;
    for (size_t depth = 0; depth < n; depth++) {
        narrow(s, &lo, &hi, depth, (unsigned char)p[depth]);
        if (lo >= hi) break;
        /* Shorter strings come first: those that end here are complete. */
        while (lo < hi && s->item[lo].len == depth + 1) best = &s->item[lo++];
        if (lo >= hi) break;
    }
    return best;
}

void added_spelled(struct added_set *s, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!s->starts[(unsigned char)text[i]]) continue;
        size_t lo = 0, hi = s->n;
        for (size_t depth = 0; depth < n - i && lo < hi; depth++) {
            narrow(s, &lo, &hi, depth, (unsigned char)text[i + depth]);
            while (lo < hi && s->item[lo].len == depth + 1) s->item[lo++].steers = true;
        }
    }
}

static bool word_before(const char *text, size_t at)
{
    if (!at) return false;
    int32_t cp;
    size_t b = utf8_before(text, at);
    utf8_decode(text + b, at - b, &cp);
    return unicode_is_word(cp);
}

static bool word_after(const char *text, size_t n, size_t at)
{
    if (at >= n) return false;
    int32_t cp;
    utf8_decode(text + at, n - at, &cp);
    return unicode_is_word(cp);
}

/* Somebody else's bytes in the token, which then may not be one that steers. */
static bool forged(const struct added *a, const unsigned char *content, size_t at)
{
    return content && (a->special || a->steers) && memchr(content + at, 1, a->len);
}

/* The token at i, or NULL. One that is forged hides nothing of the template's: only what lies in the
 * same run of somebody's words is looked for then. */
static const struct added *token_at(const struct added_set *s, const char *text, size_t n,
                                    const unsigned char *content, size_t i, bool *refused)
{
    const struct added *a = longest_at(s, text + i, n - i);
    *refused = a && forged(a, content, i);
    if (!*refused) return a;
    const unsigned char *end = memchr(content + i, !content[i], a->len);
    if (end) a = longest_at(s, text + i, (size_t)(end - content) - i);
    *refused = a && forged(a, content, i);
    return a;
}

/* The white space at a token's sides. What was passed over once to the right is not read again: tokens
 * may follow one another inside of it. */
static void strip_spaces(const struct added *a, const char *text, size_t n, struct added_search *k)
{
    int32_t cp;
    size_t stop = k->end;
    while (a->lstrip && k->at > k->done) {
        size_t b = utf8_before(text, k->at);
        utf8_decode(text + b, k->at - b, &cp);
        if (b < k->done || !unicode_is_space(cp)) break;
        k->at = b;
    }
    /* What the token before it took is gone, and where that is all of this one, so is this one. */
    if (a->lstrip && k->at < k->done) k->at = k->done;
    if (!a->rstrip) return;
    if (stop < k->spaces_end) { k->end = k->spaces_end; return; }
    while (k->end < n) {
        size_t len = utf8_decode(text + k->end, n - k->end, &cp);
        if (!unicode_is_space(cp)) break;
        k->end += len;
    }
    k->spaces_end = k->end;
}

const struct added *added_find(const struct added_set *s, const char *text, size_t n, bool specials,
                               const unsigned char *content, struct added_search *k)
{
    k->done = k->end;
    for (size_t i = s->n ? k->from : n; i < n; i++) {
        bool refused;
        if (!s->starts[(unsigned char)text[i]]) continue;
        const struct added *a = token_at(s, text, n, content, i, &refused);
        if (!a) continue;
        size_t stop = i + a->len;
        /* What is refused still hides the tokens inside it. */
        refused = refused || (a->special && !specials) ||
                       (a->single_word && (word_before(text, i) || word_after(text, n, stop)));
        if (refused) { i = stop - 1; continue; }
        k->at = i;
        k->from = k->end = stop;
        strip_spaces(a, text, n, k);
        if (k->at < k->end) return a;
        k->end = k->done;
        i = stop - 1;
    }
    k->from = n;
    return NULL;
}
