/* The cache's bookkeeping: for each layer group of a graph a pool of pages with reference counts, and for
 * each sequence tables of its pages, one table a group. A page holds 64 token slots of the group's layers;
 * the backend owns the bytes, this room owns the indices.
 *
 * All groups of a sequence hold its tokens; which pages they still have differs. A GROUP_FULL keeps all
 * of them. A GROUP_WINDOW gives back what stands wholly behind the window of the next row and WINDOW_KEPT
 * tokens more: so far a sequence can go back. Further back it can only be emptied, and read again.
 *
 * Invariants: a page with more than one reference is full or only read; before a sequence writes into a
 * shared page it gets a copy of its own. Entry i of a table is a page for first <= i < n_pages, and -1
 * before and behind. */
#ifndef CACHE_CACHE_H
#define CACHE_CACHE_H
#include "backend/backend.h"
#include "base/arena.h"

/* What a writer takes back (tokens that nobody has seen yet) is less. */
enum { WINDOW_KEPT = 4 * PAGE_SLOTS };

struct cache_group {                /* a layer group's pool */
    const struct layer_group *layers;
    uint16_t *refs; /* [max_pages]                                                  */
    uint16_t *kept; /* [max_pages] of them, those of the tree (prefix.h)            */
    int32_t *free;  /* stack of free pages                                          */
    uint32_t n_free, n_spare, max_pages; /* spare: held by the tree alone           */
};

struct cache {
    const struct backend *backend;
    struct program *program;
    struct cache_group group[GRAPH_GROUPS];
    uint32_t n_groups, sequences, max_seq_pages;
    int32_t *tables; /* [n_groups][sequences][max_seq_pages] (step.h: page)         */
};

struct cache_seq { uint32_t number, n_tokens, n_pages, first[GRAPH_GROUPS]; };

/* The most pages of a group that a sequence holds between steps, when its table has seq_pages. */
uint32_t cache_held(const struct layer_group *g, uint32_t seq_pages);

/* Sizes and places (base == NULL measures), as the program has them. */
void cache_plan(struct cache *c, struct arena *a, const struct graph *g, const struct program_limits *l,
                uint32_t sequences);
/* After the arena has real memory: all pages free. */
void cache_init(struct cache *c, const struct backend *b, struct program *p);
/* Where a sequence's table of a group stands in `tables`. */
int32_t cache_table(const struct cache *c, const struct cache_seq *s, uint32_t group);
static inline int32_t cache_page(const struct cache *c, const struct cache_seq *s, uint32_t group, uint32_t i)
{
    return c->tables[cache_table(c, s, group) + (int32_t)i];
}
/* The first page of which a row at position n sees something, and the first that a sequence of n tokens keeps. */
uint32_t cache_first_seen(const struct layer_group *g, uint32_t n);
uint32_t cache_first_kept(const struct layer_group *g, uint32_t n);
/* A free page, held once; -1: there is none. */
int32_t cache_take(struct cache *c, uint32_t group);
/* One reference less. */
void cache_drop(struct cache *c, uint32_t group, int32_t page);
/* One reference of the tree's more on a page, and one less. */
void cache_keep(struct cache *c, uint32_t group, int32_t page);
void cache_let_go(struct cache *c, uint32_t group, int32_t page);
/* Entry i of a sequence's table becomes this page, which is held once more; what it was is dropped. */
void cache_put(struct cache *c, struct cache_seq *s, uint32_t group, uint32_t i, int32_t page);
/* Pages that every group has: free ones, and in all. */
uint32_t cache_free(const struct cache *c);
uint32_t cache_pages(const struct cache *c);

/* Makes slots [n_tokens, n_slots) of the sequence writable, as far as there are pages: new ones, and
 * copies of shared ones. Returns the first slot that is not, n_slots when all are. */
uint32_t cache_reserve(struct cache *c, struct cache_seq *s, uint32_t n_slots);
/* The next n slots, written by a step, are tokens. */
void cache_commit(struct cache *c, struct cache_seq *s, uint32_t n);
/* Slots of an accepted path move to their logical places: slot[i] -> n_tokens + i; then they count. The
 * slots ascend, as rows of a step do. */
void cache_accept(struct cache *c, struct cache_seq *s, const int32_t *slot, uint32_t n);

/* How much of its first n tokens the sequence would have after going back to n: all of them, or nothing
 * where a group has given back what the next row would see. */
uint32_t cache_reach(const struct cache *c, const struct cache_seq *s, uint32_t n);
/* Goes back to n tokens; pages behind them are given back. Returns the length reached: cache_reach. */
uint32_t cache_rewind(struct cache *c, struct cache_seq *s, uint32_t n);
/* `to`, which must be empty, shares the first n tokens of `from`; E_ARG where it does not reach that far. */
stretto_status cache_fork(struct cache *c, const struct cache_seq *from, struct cache_seq *to,
                          uint32_t n, struct error *err);
#endif
