#include "cache/cache.h"

void cache_plan(struct cache *c, struct arena *a, uint32_t max_pages, uint32_t max_seq_pages,
                uint32_t sequences)
{
    c->max_pages = max_pages;
    c->max_seq_pages = max_seq_pages;
    c->refs = arena_take(a, max_pages * sizeof *c->refs);
    c->free = arena_take(a, max_pages * sizeof *c->free);
    c->tables = arena_take(a, (size_t)sequences * max_seq_pages * sizeof *c->tables);
}

void cache_seq_plan(const struct cache *c, struct cache_seq *s, uint32_t number)
{
    *s = (struct cache_seq){ .pages = c->tables ? c->tables + (size_t)number * c->max_seq_pages : NULL };
}

int32_t cache_seq_table(const struct cache *c, const struct cache_seq *s)
{
    return (int32_t)(s->pages - c->tables);
}

void cache_init(struct cache *c, const struct backend *b, struct program *p)
{
    c->backend = b;
    c->program = p;
    c->n_free = c->max_pages;
    for (uint32_t i = 0; i < c->max_pages; i++) {
        c->refs[i] = 0;
        c->free[i] =
            (int32_t)(c->max_pages - 1 - i); /* low pages first: memory is touched in order */
    }
}

static int32_t page_take(struct cache *c)
{
    int32_t page = c->free[--c->n_free];
    c->refs[page] = 1;
    return page;
}

static void page_drop(struct cache *c, int32_t page)
{
    if (--c->refs[page] == 0) c->free[c->n_free++] = page;
}

uint32_t cache_reserve(struct cache *c, struct cache_seq *s, uint32_t n_slots)
{
    uint32_t pages = (n_slots + PAGE_SLOTS - 1) / PAGE_SLOTS, i = s->n_tokens / PAGE_SLOTS;
    if (pages > c->max_seq_pages) pages = c->max_seq_pages;
    for (; i < pages; i++) {
        bool own = i < s->n_pages && c->refs[s->pages[i]] == 1;
        if (own) continue;
        if (!c->n_free) break;
        int32_t page = page_take(c);
        if (i < s->n_pages) {          /* shared: a copy of its own, before it is written to */
            c->backend->page_copy(c->program, s->pages[i], page);
            page_drop(c, s->pages[i]);
        } else s->n_pages++;
        s->pages[i] = page;
    }
    uint32_t reach = i * PAGE_SLOTS;
    return n_slots < reach ? n_slots : reach > s->n_tokens ? reach : s->n_tokens;
}

uint32_t cache_rewind(struct cache *c, struct cache_seq *s, uint32_t n)
{
    if (n < s->n_tokens) s->n_tokens = n;
    uint32_t keep = (s->n_tokens + PAGE_SLOTS - 1) / PAGE_SLOTS;
    while (s->n_pages > keep) page_drop(c, s->pages[--s->n_pages]);
    return s->n_tokens;
}

stretto_status cache_fork(struct cache *c, const struct cache_seq *from, struct cache_seq *to,
                          uint32_t n, struct error *err)
{
    if (n > from->n_tokens || to->n_pages)
        return fail(err, STRETTO_E_ARG,
                    "a fork takes at most what is there, into an empty sequence");
    uint32_t pages = (n + PAGE_SLOTS - 1) / PAGE_SLOTS;
    for (uint32_t i = 0; i < pages; i++)
        if (c->refs[from->pages[i]] == UINT16_MAX)
            return fail(err, STRETTO_E_FULL, "a cache page is shared by too many sequences");
    for (uint32_t i = 0; i < pages; i++) {
        to->pages[i] = from->pages[i];
        c->refs[to->pages[i]]++;
    }
    to->n_pages = pages;
    to->n_tokens = n;
    return STRETTO_OK;
}

/* One call of the backend for a path: no path of guesses is longer than MOVES. */
void cache_accept(struct cache *c, struct cache_seq *s, const int32_t *slot, uint32_t n)
{
    enum { MOVES = 64 };
    int32_t from[MOVES], to[MOVES];
    size_t k = 0;
    for (uint32_t i = 0; i < n; i++, s->n_tokens++) {
        if (slot[i] == (int32_t)s->n_tokens) continue;
        if (k == MOVES) {
            c->backend->slots_move(c->program, s->pages, from, to, k);
            k = 0;
        }
        from[k] = slot[i];
        to[k++] = (int32_t)s->n_tokens;
    }
    if (k) c->backend->slots_move(c->program, s->pages, from, to, k);
}
