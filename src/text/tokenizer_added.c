/* Added tokens: the longest that matches where the leftmost begins, as Hugging Face's matcher does. */
#include "text/tokenizer_int.h"
#include "base/memory.h"
#include <stdlib.h>
#include <string.h>

void added_done(struct added_set *s)
{
    mem_free(s->item);
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

void added_sort(struct added_set *s)
{
    /* glibc's qsort_r merges (stable) while it finds memory; equal strings have one id anyway. */
    if (s->n) qsort_r(s->item, s->n, sizeof *s->item, by_text, s);
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
    return content && (a->special || a->ends) && memchr(content + at, 1, a->len);
}

/* The token at i, or NULL. One that is forged hides nothing of the template's: only what lies in the
 * same run of somebody's words is looked for then. */
static const struct added *token_at(const struct added_set *s, const char *text, size_t n,
                                    const unsigned char *content, size_t i, bool *refused)
{
    const struct added *a = longest_at(s, text + i, n - i);
    *refused = a && forged(a, content, i);
    if (!*refused) return a;
    const unsigned char *run = memchr(content + i, !content[i], n - i);
    size_t end = run ? (size_t)(run - content) : n;
    if (i + a->len > end) a = longest_at(s, text + i, end - i);
    *refused = a && forged(a, content, i);
    return a;
}

const struct added *added_find(const struct added_set *s, const char *text, size_t n, size_t *from,
                               size_t floor, bool specials, const unsigned char *content, size_t *at,
                               size_t *end)
{
    if (!s->n) { *from = n; return NULL; }
    for (size_t i = *from; i < n; i++) {
        bool refused;
        if (!s->starts[(unsigned char)text[i]]) continue;
        const struct added *a = token_at(s, text, n, content, i, &refused);
        if (!a) continue;
        size_t stop = i + a->len;
        /* What is refused still hides the tokens inside it. */
        refused = refused || (a->special && !specials) ||
                       (a->single_word && (word_before(text, i) || word_after(text, n, stop)));
        if (refused) { i = stop - 1; continue; }
        *at = i;
        *end = stop;
        int32_t cp;
        while (a->lstrip && *at > floor) {
            size_t b = utf8_before(text, *at);
            utf8_decode(text + b, *at - b, &cp);
            if (b < floor || !unicode_is_space(cp)) break;
            *at = b;
        }
        while (a->rstrip && *end < n) {
            size_t len = utf8_decode(text + *end, n - *end, &cp);
            if (!unicode_is_space(cp)) break;
            *end += len;
        }
        *from = stop;
        return a;
    }
    *from = n;
    return NULL;
}
