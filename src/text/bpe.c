/* Short words are merged by looking at every pair again after each merge; longer ones with a heap over
 * a linked list, O(n log n), which a text without word borders needs. Both give the same answer: a
 * left symbol's span only ever ends where a merge ended it, so an outdated heap entry can be told by
 * the id its pair would make now. */
#include "text/bpe.h"
#include "base/memory.h"
#include "base/utf8.h"
#include <string.h>

void pair_filter_done(struct pair_filter *f)
{
    mem_free(f->bits);
    *f = (struct pair_filter){ 0 };
}

stretto_status pair_filter_open(struct pair_filter *f, size_t n_tokens, struct error *err)
{
    uint64_t n = 1 << 12;
    while (n < (uint64_t)n_tokens * 8) n *= 2;
    f->bits = mem_zalloc((size_t)(n / 64), sizeof *f->bits);
    if (!f->bits) return fail(err, STRETTO_E_NOMEM, "no memory for the tokenizer");
    f->mask = n - 1;
    return STRETTO_OK;
}

void pair_filter_add(struct pair_filter *f, const char *p, size_t n)
{
    int32_t before = 0, cp;
    for (size_t at = 0; at < n; before = cp) {
        size_t len = utf8_decode(p + at, n - at, &cp);
        if (at) {
            uint64_t h = pair_hash(f, before, cp);
            f->bits[h >> 6] |= UINT64_C(1) << (h & 63);
        }
        at += len;
    }
}

void bpe_done(struct bpe *b)
{
    mem_free(b->slot);
    *b = (struct bpe){ 0 };
}

stretto_status bpe_reserve(struct bpe *b, size_t n_merges, struct error *err)
{
    if (n_merges > VOCAB_MAX)
        return fail(err, STRETTO_E_FORMAT, "the tokenizer has %zu merges; at most %d are accepted",
                    n_merges, VOCAB_MAX);
    size_t n = 64;
    while (n * 2 < n_merges * 3) n *= 2;
    b->slot = mem_alloc(n * sizeof *b->slot);
    if (!b->slot) return fail(err, STRETTO_E_NOMEM, "no memory for %zu merges", n_merges);
    for (size_t i = 0; i < n; i++) b->slot[i].id = -1;
    b->n_slots = n;
    return STRETTO_OK;
}

static inline const struct bpe_merge *find(const struct bpe *b, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * UINT64_C(0x9E3779B97F4A7C15);
    size_t mask = b->n_slots - 1, i = (size_t)(h >> 32) & mask;
    while (b->slot[i].id >= 0 && (b->slot[i].left != left || b->slot[i].right != right))
        i = (i + 1) & mask;
    return &b->slot[i];
}

stretto_status bpe_add(struct bpe *b, int32_t left, int32_t right, uint32_t rank, int32_t id,
                       bool replace, struct error *err)
{
    struct bpe_merge *at = &b->slot[find(b, left, right) - b->slot];
    if (at->id < 0) {
        if (b->n_used + 1 >= b->n_slots)
            return fail(err, STRETTO_E_FORMAT, "the tokenizer has more merges than it said");
        b->n_used++;
    } else if (!replace) {
        return STRETTO_OK;
    }
    *at = (struct bpe_merge){ left, right, rank, id };
    return STRETTO_OK;
}

void merge_work_done(struct merge_work *w)
{
    mem_free(w->sym);
    mem_free(w->heap);
    *w = (struct merge_work){ 0 };
}

stretto_status merge_symbols(struct merge_work *w, size_t n)
{
    if (n <= w->cap_sym) return STRETTO_OK;
    size_t cap = n + n / 2 + 64;
    struct merge_symbol *sym = mem_resize(w->sym, cap * sizeof *sym);
    if (!sym) return STRETTO_E_NOMEM;
    w->sym = sym;
    w->cap_sym = cap;
    return STRETTO_OK;
}

static inline bool before(const struct merge_entry *a, const struct merge_entry *b)
{
    return a->order < b->order || (a->order == b->order && a->pos < b->pos);
}

stretto_status merge_push(struct merge_work *w, struct merge_entry e)
{
    if (w->n_heap == w->cap_heap) {
        size_t cap = w->cap_heap * 2 + 64;
        struct merge_entry *heap = mem_resize(w->heap, cap * sizeof *heap);
        if (!heap) return STRETTO_E_NOMEM;
        w->heap = heap;
        w->cap_heap = cap;
    }
    size_t i = w->n_heap++;
    while (i && before(&e, &w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = e;
    return STRETTO_OK;
}

struct merge_entry merge_pop(struct merge_work *w)
{
    struct merge_entry top = w->heap[0], last = w->heap[--w->n_heap];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->n_heap) break;
        if (child + 1 < w->n_heap && before(&w->heap[child + 1], &w->heap[child])) child++;
        if (!before(&w->heap[child], &last)) break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

enum { SHORT_WORD = 24 };

static size_t merge_short(const struct bpe *b, int32_t *id, size_t n)
{
    const struct bpe_merge *pair[SHORT_WORD];
    for (size_t i = 0; i + 1 < n; i++) pair[i] = find(b, id[i], id[i + 1]);
    while (n > 1) {
        size_t best = n;
        uint32_t rank = 0;
        for (size_t i = 0; i + 1 < n; i++)
            if (pair[i]->id >= 0 && (best == n || pair[i]->rank < rank)) {
                best = i;
                rank = pair[i]->rank;
            }
        if (best == n) break;
        id[best] = pair[best]->id;
        n--;
        for (size_t i = best + 1; i < n; i++) {
            id[i] = id[i + 1];
            if (i + 1 < n) pair[i] = pair[i + 1];
        }
        if (best > 0) pair[best - 1] = find(b, id[best - 1], id[best]);
        if (best + 1 < n) pair[best] = find(b, id[best], id[best + 1]);
    }
    return n;
}

static stretto_status consider(const struct bpe *b, struct merge_work *w, int32_t left)
{
    int32_t right = left < 0 ? -1 : w->sym[left].next;
    if (right < 0) return STRETTO_OK;
    const struct bpe_merge *m = find(b, w->sym[left].id, w->sym[right].id);
    if (m->id < 0) return STRETTO_OK;
    return merge_push(w, (struct merge_entry){ .order = m->rank, .pos = left, .id = m->id });
}

static stretto_status merge_long(const struct bpe *b, struct merge_work *w)
{
    struct merge_symbol *sym = w->sym;
    size_t n = w->n_sym;
    w->n_heap = 0;
    for (size_t i = 0; i < n; i++) {
        sym[i].prev = (int32_t)i - 1;
        sym[i].next = i + 1 < n ? (int32_t)i + 1 : -1;
    }
    for (size_t i = 0; i + 1 < n; i++) TRY(consider(b, w, (int32_t)i));
    while (w->n_heap) {
        struct merge_entry e = merge_pop(w);
        struct merge_symbol *left = &sym[e.pos];
        if (left->id < 0 || left->next < 0) continue;
        struct merge_symbol *right = &sym[left->next];
        if (find(b, left->id, right->id)->id != e.id) continue;
        left->id = e.id;
        right->id = -1;
        left->next = right->next;
        if (right->next >= 0) sym[right->next].prev = e.pos;
        TRY(consider(b, w, left->prev));
        TRY(consider(b, w, e.pos));
    }
    return STRETTO_OK;
}

stretto_status bpe_merge_word(const struct bpe *b, struct merge_work *w, struct tokens *out)
{
    if (w->n_sym <= SHORT_WORD) {
        int32_t id[SHORT_WORD];
        for (size_t i = 0; i < w->n_sym; i++) id[i] = w->sym[i].id;
        size_t n = merge_short(b, id, w->n_sym);
        for (size_t i = 0; i < n; i++) TRY(tokens_push(out, id[i]));
        return STRETTO_OK;
    }
    TRY(merge_long(b, w));
    for (int32_t i = 0; i >= 0; i = w->sym[i].next) TRY(tokens_push(out, w->sym[i].id));
    return STRETTO_OK;
}
