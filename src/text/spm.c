/* The order of merges is llama.cpp's and SentencePiece's: highest score first, leftmost on a tie. */
#include "text/spm.h"
#include "base/utf8.h"
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
    int32_t id = vocab_piece(v, text + w->sym[left].at, len);
    /* Control tokens are no pieces: SentencePiece keeps them out of its merges too. */
    if (id < 0 || v->type[id] == TOKEN_CONTROL) return STRETTO_OK;
    return merge_push(w, (struct merge_entry){ .order = score_order(v->score[id]), .pos = left,
                                               .id = id, .len = (uint32_t)len });
}

static stretto_status emit(const struct vocab *v, int32_t unk, const char *p, size_t n,
                           struct merge_work *w, struct tokens *out)
{
    int32_t id = vocab_piece(v, p, n);
    if (id >= 0) return tokens_push(out, id);
    size_t had = out->n;
    for (size_t i = 0; i < n; i++) {
        id = vocab_byte(v, (unsigned char)p[i]);
        if (id < 0) id = vocab_piece(v, p + i, 1);
        if (id < 0) {
            out->n = had;
            w->unspelled = (unsigned char)p[i];
            return unk < 0 ? STRETTO_E_UNSUP : tokens_push(out, unk);
        }
        TRY(tokens_push(out, id));
    }
    return STRETTO_OK;
}

/* Merges the symbols gathered in w and appends what they became. */
static stretto_status merge(const struct vocab *v, int32_t unk, const char *p, struct merge_work *w,
                            struct tokens *out)
{
    struct merge_symbol *sym = w->sym;
    sym[w->n_sym - 1].next = -1;
    w->n_heap = 0;
    for (size_t i = 0; i + 1 < w->n_sym; i++) TRY(consider(v, w, p, (int32_t)i));
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
        TRY(emit(v, unk, p + sym[i].at, sym[i].len, w, out));
    w->n_sym = 0;
    return STRETTO_OK;
}

stretto_status spm_encode(const struct vocab *v, const struct pair_filter *pairs, int32_t unk,
                          const char *p, size_t n, struct merge_work *w, struct tokens *out)
{
    int32_t before = 0, cp;
    w->n_sym = 0;
    for (size_t at = 0; at < n; before = cp) {
        size_t len = utf8_decode(p + at, n - at, &cp), k = w->n_sym;
        if (k && !pair_may_join(pairs, before, cp)) {
            TRY(merge(v, unk, p, w, out));
            k = 0;
        }
        if (k == w->cap_sym) TRY(merge_symbols(w, k + 1));
        w->sym[k] = (struct merge_symbol){ .prev = (int32_t)k - 1, .next = (int32_t)k + 1,
                                           .at = (uint32_t)at, .len = (uint32_t)len };
        w->n_sym = k + 1;
        at += len;
    }
    return w->n_sym ? merge(v, unk, p, w, out) : STRETTO_OK;
}
