#include "cache/cache.h"

void cache_plan(struct cache *c, struct arena *a, uint32_t max_pages, uint32_t max_seq_pages)
{
    c->max_pages = max_pages;
    c->max_seq_pages = max_seq_pages;
    c->refs = arena_take(a, max_pages * sizeof *c->refs);
    c->free = arena_take(a, max_pages * sizeof *c->free);
}

void cache_seq_plan(struct cache_seq *s, struct arena *a, uint32_t max_seq_pages)
{
    *s = (struct cache_seq){ .pages = arena_take(a, max_seq_pages * sizeof *s->pages) };
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

stretto_status cache_reserve(struct cache *c, struct cache_seq *s, uint32_t n_slots,
                             struct error *err)
{
    uint32_t pages = (n_slots + PAGE_SLOTS - 1) / PAGE_SLOTS, first = s->n_tokens / PAGE_SLOTS;
    uint32_t need = pages > s->n_pages ? pages - s->n_pages : 0;
    for (uint32_t i = first; i < s->n_pages && i < pages; i++) need += c->refs[s->pages[i]] > 1;
    if (pages > c->max_seq_pages || need > c->n_free)
        return fail(err, STRETTO_E_FULL,
                    "the cache is full: %u tokens do not fit, %u pages of %d tokens are free",
                    n_slots, c->n_free, PAGE_SLOTS);
    for (uint32_t i = first; i < s->n_pages && i < pages; i++)
        if (c->refs[s->pages[i]] > 1) {
            int32_t own = page_take(c);
            c->backend->page_copy(c->program, s->pages[i], own);
            page_drop(c, s->pages[i]);
            s->pages[i] = own;
        }
    while (s->n_pages < pages) s->pages[s->n_pages++] = page_take(c);
    return STRETTO_OK;
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

void cache_accept(struct cache *c, struct cache_seq *s, const int32_t *slot, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        int32_t to = (int32_t)s->n_tokens;
        if (slot[i] != to) c->backend->slot_move(c->program, s->pages, slot[i], to);
        s->n_tokens++;
    }
}
