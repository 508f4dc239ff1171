#include "cache/cache.h"

/* ---- reclaim rules --------------------------------------------------------------------------- */

uint32_t cache_first_seen(const struct layer_group *g, uint32_t n)
{
    return g->kind == GROUP_WINDOW && n + 1 > g->window ? (n + 1 - g->window) / PAGE_SLOTS : 0;
}

uint32_t cache_first_kept(const struct layer_group *g, uint32_t n)
{
    return n > WINDOW_KEPT ? cache_first_seen(g, n - WINDOW_KEPT) : 0;
}

uint32_t cache_held(const struct layer_group *g, uint32_t seq_pages)
{
    if (g->kind == GROUP_FULL) return seq_pages;
    /* Tokens that are kept, wherever in a page the first and the last of them stand. */
    uint64_t most = ((uint64_t)g->window + WINDOW_KEPT - 1 + 2 * (PAGE_SLOTS - 1)) / PAGE_SLOTS;
    return most < seq_pages ? (uint32_t)most : seq_pages;
}

/* ---- sizes and places ------------------------------------------------------------------------ */

void cache_plan(struct cache *c, struct arena *a, const struct graph *g, const struct program_limits *l,
                uint32_t sequences)
{
    c->n_groups = g->n_groups;
    c->sequences = sequences;
    c->max_seq_pages = l->max_seq_pages;
    for (uint32_t i = 0; i < c->n_groups; i++) {
        struct cache_group *x = &c->group[i];
        *x = (struct cache_group){ .layers = &g->group[i], .max_pages = l->max_pages[i] };
        x->refs = arena_take(a, x->max_pages * sizeof *x->refs);
        x->kept = arena_take(a, x->max_pages * sizeof *x->kept);
        x->free = arena_take(a, x->max_pages * sizeof *x->free);
    }
    c->tables = arena_take(a, (size_t)c->n_groups * sequences * c->max_seq_pages * sizeof *c->tables);
}

void cache_init(struct cache *c, const struct backend *b, struct program *p)
{
    c->backend = b;
    c->program = p;
    for (uint32_t g = 0; g < c->n_groups; g++) {
        struct cache_group *x = &c->group[g];
        x->n_free = x->max_pages;
        for (uint32_t i = 0; i < x->max_pages; i++) {
            x->refs[i] = x->kept[i] = 0;
            x->free[i] =
                (int32_t)(x->max_pages - 1 - i); /* low pages first: memory is touched in order */
        }
    }
    for (size_t i = 0; i < (size_t)c->n_groups * c->sequences * c->max_seq_pages; i++) c->tables[i] = -1;
}

int32_t cache_table(const struct cache *c, const struct cache_seq *s, uint32_t group)
{
    return (int32_t)((group * c->sequences + s->number) * c->max_seq_pages);
}

static int32_t *entry(const struct cache *c, const struct cache_seq *s, uint32_t group, uint32_t i)
{
    return c->tables + cache_table(c, s, group) + i;
}

uint32_t cache_free(const struct cache *c)
{
    uint32_t n = UINT32_MAX;
    for (uint32_t g = 0; g < c->n_groups; g++)
        if (c->group[g].n_free < n) n = c->group[g].n_free;
    return n;
}

uint32_t cache_pages(const struct cache *c)
{
    uint32_t n = 0;
    for (uint32_t g = 0; g < c->n_groups; g++)
        if (c->group[g].max_pages > n) n = c->group[g].max_pages;
    return n;
}

/* ---- pages ----------------------------------------------------------------------------------- */

static int32_t page_take(struct cache_group *g)
{
    int32_t page = g->free[--g->n_free];
    g->refs[page] = 1;
    return page;
}

/* References of a page change, in all and those of the tree; spare ones are counted. */
static void refer(struct cache_group *g, int32_t page, int by, int kept)
{
    g->n_spare -= g->kept[page] && g->kept[page] == g->refs[page];
    g->refs[page] = (uint16_t)(g->refs[page] + by);
    g->kept[page] = (uint16_t)(g->kept[page] + kept);
    g->n_spare += g->kept[page] && g->kept[page] == g->refs[page];
    if (!g->refs[page]) g->free[g->n_free++] = page;
}

static void page_drop(struct cache_group *g, int32_t *page)
{
    refer(g, *page, -1, 0);
    *page = -1;
}

int32_t cache_take(struct cache *c, uint32_t group)
{
    return c->group[group].n_free ? page_take(&c->group[group]) : -1;
}

void cache_drop(struct cache *c, uint32_t group, int32_t page) { refer(&c->group[group], page, -1, 0); }
void cache_keep(struct cache *c, uint32_t group, int32_t page) { refer(&c->group[group], page, 1, 1); }
void cache_let_go(struct cache *c, uint32_t group, int32_t page) { refer(&c->group[group], page, -1, -1); }

void cache_put(struct cache *c, struct cache_seq *s, uint32_t group, uint32_t i, int32_t page)
{
    int32_t *at = entry(c, s, group, i);
    refer(&c->group[group], page, 1, 0);
    if (*at >= 0) page_drop(&c->group[group], at);
    *at = page;
}

static bool is_own(const struct cache_group *g, int32_t page) { return page >= 0 && g->refs[page] == 1; }

/* Page i of the sequence becomes its own in all groups, or in none where one has no page left. */
static bool own_page(struct cache *c, struct cache_seq *s, uint32_t i)
{
    for (uint32_t g = 0; g < c->n_groups; g++)
        if (!is_own(&c->group[g], *entry(c, s, g, i)) && !c->group[g].n_free) return false;
    for (uint32_t g = 0; g < c->n_groups; g++) {
        int32_t *page = entry(c, s, g, i);
        if (is_own(&c->group[g], *page)) continue;
        int32_t own = page_take(&c->group[g]);
        if (*page >= 0) {              /* shared: a copy of its own, before it is written to */
            c->backend->page_copy(c->program, g, *page, own);
            page_drop(&c->group[g], page);
        }
        *page = own;
    }
    if (i == s->n_pages) s->n_pages++;
    return true;
}

uint32_t cache_reserve(struct cache *c, struct cache_seq *s, uint32_t n_slots)
{
    uint32_t pages = (n_slots + PAGE_SLOTS - 1) / PAGE_SLOTS, i = s->n_tokens / PAGE_SLOTS;
    if (pages > c->max_seq_pages) pages = c->max_seq_pages;
    while (i < pages && own_page(c, s, i)) i++;
    uint32_t reach = i * PAGE_SLOTS;
    return n_slots < reach ? n_slots : reach > s->n_tokens ? reach : s->n_tokens;
}

/* The sequence has grown: each group's rule gives back pages from the front. */
static void reclaim(struct cache *c, struct cache_seq *s)
{
    for (uint32_t g = 0; g < c->n_groups; g++)
        for (uint32_t keep = cache_first_kept(c->group[g].layers, s->n_tokens); s->first[g] < keep; s->first[g]++)
            page_drop(&c->group[g], entry(c, s, g, s->first[g]));
}

void cache_commit(struct cache *c, struct cache_seq *s, uint32_t n)
{
    s->n_tokens += n;
    reclaim(c, s);
}

static void slots_move(struct cache *c, const struct cache_seq *s, const int32_t *from,
                       const int32_t *to, size_t n)
{
    for (uint32_t g = 0; n && g < c->n_groups; g++)
        c->backend->slots_move(c->program, g, entry(c, s, g, 0), from, to, n);
}

/* One call of the backend for a path: no path of guesses is longer than MOVES. */
void cache_accept(struct cache *c, struct cache_seq *s, const int32_t *slot, uint32_t n)
{
    enum { MOVES = 64 };
    int32_t from[MOVES], to[MOVES];
    size_t k = 0;
    for (uint32_t i = 0; i < n; i++) {
        int32_t home = (int32_t)(s->n_tokens + i);
        if (slot[i] == home) continue;
        if (k == MOVES) {
            slots_move(c, s, from, to, k);
            k = 0;
        }
        from[k] = slot[i];
        to[k++] = home;
    }
    slots_move(c, s, from, to, k);
    cache_commit(c, s, n);
}

/* ---- going back ------------------------------------------------------------------------------ */

uint32_t cache_reach(const struct cache *c, const struct cache_seq *s, uint32_t n)
{
    if (n >= s->n_tokens) return s->n_tokens;
    for (uint32_t g = 0; g < c->n_groups; g++)
        if (s->first[g] > cache_first_seen(c->group[g].layers, n)) return 0;
    return n;
}

uint32_t cache_rewind(struct cache *c, struct cache_seq *s, uint32_t n)
{
    s->n_tokens = cache_reach(c, s, n);
    uint32_t keep = (s->n_tokens + PAGE_SLOTS - 1) / PAGE_SLOTS;
    for (uint32_t g = 0; g < c->n_groups; g++) {
        for (uint32_t i = s->n_pages; i > keep && i > s->first[g]; i--)
            page_drop(&c->group[g], entry(c, s, g, i - 1));
        if (!s->n_tokens) s->first[g] = 0;
    }
    if (s->n_pages > keep) s->n_pages = keep;
    return s->n_tokens;
}

stretto_status cache_fork(struct cache *c, const struct cache_seq *from, struct cache_seq *to,
                          uint32_t n, struct error *err)
{
    if (cache_reach(c, from, n) != n || to->n_pages)
        return fail(err, STRETTO_E_ARG,
                    "a fork takes at most what is there, into an empty sequence");
    uint32_t pages = (n + PAGE_SLOTS - 1) / PAGE_SLOTS;
    for (uint32_t g = 0; g < c->n_groups; g++)
        for (uint32_t i = from->first[g]; i < pages; i++)
            if (c->group[g].refs[*entry(c, from, g, i)] == UINT16_MAX)
                return fail(err, STRETTO_E_FULL, "a cache page is shared by too many sequences");
    for (uint32_t g = 0; g < c->n_groups; g++) {
        uint32_t kept = cache_first_kept(c->group[g].layers, n);
        to->first[g] = n && from->first[g] > kept ? from->first[g] : kept;
        for (uint32_t i = to->first[g]; i < pages; i++) {
            int32_t page = *entry(c, from, g, i);
            *entry(c, to, g, i) = page;
            refer(&c->group[g], page, 1, 0);
        }
    }
    to->n_pages = pages;
    to->n_tokens = n;
    return STRETTO_OK;
}
