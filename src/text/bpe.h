/* Byte-pair merging: a word begins as single bytes or characters and the pair of lowest rank merges
 * first, leftmost on a tie, until no pair has a rank. */
#ifndef TEXT_BPE_H
#define TEXT_BPE_H
#include "text/tokenizer.h"
#include "text/vocab.h"

struct bpe_merge { int32_t left, right; uint32_t rank; int32_t id; };

/* Which two characters ever stand side by side inside a token (or, rarely, seem to: it is a Bloom filter
 * of one hash). Between any other two a merge cannot happen, so a long text falls apart into short
 * words with the same answer. */
struct pair_filter { uint64_t *bits; uint64_t mask; };

void pair_filter_done(struct pair_filter *f);
stretto_status pair_filter_open(struct pair_filter *f, size_t n_tokens, struct error *err);
/* All neighbours in the string. */
void pair_filter_add(struct pair_filter *f, const char *p, size_t n);

static inline uint64_t pair_hash(const struct pair_filter *f, int32_t a, int32_t b)
{
    uint64_t h = ((uint64_t)(uint32_t)a << 32 | (uint32_t)b) * UINT64_C(0x9E3779B97F4A7C15);
    return h >> 32 & f->mask;
}
static inline bool pair_may_join(const struct pair_filter *f, int32_t a, int32_t b)
{
    uint64_t h = pair_hash(f, a, b);
    return !f->bits || f->bits[h >> 6] >> (h & 63) & 1;
}

struct bpe {
    struct bpe_merge *slot;     /* open addressing by (left, right); id < 0 = free */
    size_t n_slots, n_used;
    int32_t byte_id[256];       /* byte-level: where every word begins             */
};

/* A word at work. Kept from word to word so that memory is asked for once. */
struct merge_symbol { int32_t id, prev, next; uint32_t at, len; };
struct merge_entry { uint64_t order; int32_t pos, id; uint32_t len; };
struct merge_work {
    struct merge_symbol *sym;
    size_t n_sym, cap_sym;
    struct merge_entry *heap;
    size_t n_heap, cap_heap;
    unsigned char unspelled;            /* with E_UNSUP: a byte that no token spells */
};

void bpe_done(struct bpe *b);
stretto_status bpe_reserve(struct bpe *b, size_t n_merges, struct error *err);
/* The pair already there keeps its rank unless `replace`. */
stretto_status bpe_add(struct bpe *b, int32_t left, int32_t right, uint32_t rank, int32_t id,
                       bool replace, struct error *err);
/* Merges the symbols in w->sym[0 .. n_sym) (only `id` is read) and appends the ids that remain. */
stretto_status bpe_merge_word(const struct bpe *b, struct merge_work *w, struct tokens *out);

void merge_work_done(struct merge_work *w);
stretto_status merge_symbols(struct merge_work *w, size_t n);       /* room for n */
/* A binary heap: smallest `order` first. */
stretto_status merge_push(struct merge_work *w, struct merge_entry e);
struct merge_entry merge_pop(struct merge_work *w);
#endif
