/* The KV cache's bookkeeping: pages with reference counts, and sequences as lists of pages. A page
 * holds 64 token slots of all layers; the backend owns the bytes, this room owns the indices.
 *
 * Invariant: a page with more than one reference is full or only read; before a sequence writes
 * into a shared page it gets a copy of its own. */
#ifndef CACHE_CACHE_H
#define CACHE_CACHE_H
#include "backend/backend.h"
#include "base/arena.h"

struct cache {
    const struct backend *backend;
    struct program *program;
    uint16_t *refs; /* [max_pages]                                                  */
    int32_t *free;  /* stack of free pages                                          */
    int32_t *tables; /* [sequences][max_seq_pages] the page tables of all sequences (step.h: page) */
    uint32_t n_free, max_pages, max_seq_pages;
};

struct cache_seq { int32_t *pages; uint32_t n_pages, n_tokens; };

/* Sizes and places (base == NULL measures). */
void cache_plan(struct cache *c, struct arena *a, uint32_t max_pages, uint32_t max_seq_pages,
                uint32_t sequences);
void cache_seq_plan(const struct cache *c, struct cache_seq *s, uint32_t number);
/* Where its table stands in `tables`. */
int32_t cache_seq_table(const struct cache *c, const struct cache_seq *s);
/* After the arena has real memory: all pages free. */
void cache_init(struct cache *c, const struct backend *b, struct program *p);

/* Makes slots [n_tokens, n_slots) of the sequence writable, as far as there are pages: new ones, and
 * copies of shared ones. Returns the first slot that is not, n_slots when all are. */
uint32_t cache_reserve(struct cache *c, struct cache_seq *s, uint32_t n_slots);
/* The first n tokens stay; pages behind them are given back. Returns the length reached. */
uint32_t cache_rewind(struct cache *c, struct cache_seq *s, uint32_t n);
/* `to`, which must be empty, shares the first n tokens of `from`. */
stretto_status cache_fork(struct cache *c, const struct cache_seq *from, struct cache_seq *to,
                          uint32_t n, struct error *err);
/* Slots of an accepted path move to their logical places: slot[i] -> n_tokens + i; then they count. The
 * slots ascend, as rows of a step do. */
void cache_accept(struct cache *c, struct cache_seq *s, const int32_t *slot, uint32_t n);
#endif
