/* The order of merges is llama.cpp's and SentencePiece's: highest score first, leftmost on a tie. */
#include "text/spm.h"
#include "text/unicode.h"
#include <string.h>

/* Ascending order of the result is descending order of the score. NaN sorts last. */
static uint64_t score_order(float score)
{
    if (score != score) return UINT64_MAX;
    if (score == 0) score = 0;                       /* -0 and 0 are one score */
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;      /* now ascending with the score */
    return (uint64_t)(0xFFFFFFFFu - bits);
}

static stretto_status consider(const struct vocab *v, struct merge_work *w, const char *text,
                               int32_t left)
{
    int32_t right = left < 0 ? -1 : w->sym[left].next;
    if (right < 0) return STRETTO_OK;
    size_t len = (size_t)w->sym[left].len + w->sym[right].len;
    if (len > v->max_len) return STRETTO_OK;
    int32_t id = vocab_find(v, text + w->sym[left].at, len);
    if (id < 0) return STRETTO_OK;
    return merge_push(w, (struct merge_entry){ .order = score_order(v->score[id]), .pos = left,
                                               .id = id, .len = (uint32_t)len });
}

static stretto_status emit(const struct vocab *v, int32_t unk, const char *p, size_t n,
                           struct tokens *out)
{
    int32_t id = vocab_find(v, p, n);
    if (id >= 0) return tokens_push(out, id);
    size_t had = out->n;
    for (size_t i = 0; i < n; i++) {
        id = vocab_byte(v, (unsigned char)p[i]);
        if (id < 0) id = vocab_find(v, p + i, 1);
        if (id < 0) { out->n = had; return unk < 0 ? STRETTO_OK : tokens_push(out, unk); }
        TRY(tokens_push(out, id));
    }
    return STRETTO_OK;
}

stretto_status spm_encode(const struct vocab *v, int32_t unk, const char *p, size_t n,
                          struct merge_work *w, struct tokens *out)
{
    size_t count = 0;
    for (size_t at = 0; at < n; count++) {
        int32_t cp;
        size_t len = utf8_decode(p + at, n - at, &cp);
        if (count == w->cap_sym) TRY(merge_symbols(w, count + 1));
        w->sym[count] = (struct merge_symbol){ .id = 0, .prev = (int32_t)count - 1,
            .next = (int32_t)count + 1, .at = (uint32_t)at, .len = (uint32_t)len };
        at += len;
    }
    if (!count) return STRETTO_OK;
    struct merge_symbol *sym = w->sym;
    sym[count - 1].next = -1;
    w->n_heap = 0;
    for (size_t i = 0; i + 1 < count; i++) TRY(consider(v, w, p, (int32_t)i));
    while (w->n_heap) {
        struct merge_entry e = merge_pop(w);
        struct merge_symbol *left = &sym[e.pos];
        if (!left->len || left->next < 0) continue;
        struct merge_symbol *right = &sym[left->next];
        if (left->len + right->len != e.len) continue;            /* outdated */
        left->len = e.len;
        right->len = 0;
        left->next = right->next;
        if (right->next >= 0) sym[right->next].prev = e.pos;
        TRY(consider(v, w, p, left->prev));
        TRY(consider(v, w, p, e.pos));
    }
    for (int32_t i = 0; i >= 0; i = sym[i].next)
        TRY(emit(v, unk, p + sym[i].at, sym[i].len, out));
    return STRETTO_OK;
}
