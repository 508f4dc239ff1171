/* Random programs on the tree of pages against two plain lists: all texts that ever were, and all nodes that are
 * there now. What is found must be the longest beginning in whole pages that a look at every one of them finds; what
 * is taken over must hold the text; and the books must balance.
 *
 * Noticed when planted in the source: an index that trusts its hash, a child that is not locked when it is sat on,
 * nodes that are protected without their parents, roles passed over by `exact`, a salt passed over, the missing page of
 * a window passed over. */
#include "cache/prefix.h"
#include "base/random.h"
#include "unit/unit.h"

enum { SEQS = 6, SEQ_PAGES = 14, SLOTS = SEQ_PAGES * PAGE_SLOTS, MOST_PAGES = 30000, GROUPS = 3, TEXTS = 4000 };

struct program { int32_t (*cell[GROUPS])[PAGE_SLOTS]; };

static void page_copy(struct program *p, uint32_t group, int32_t from, int32_t to)
{
    memcpy(p->cell[group][to], p->cell[group][from], sizeof p->cell[group][to]);
}

static const struct backend backend = { .page_copy = page_copy };

struct text { uint64_t salt; uint32_t n, filled; int32_t tokens[SLOTS]; uint8_t given[SLOTS]; };

struct world {
    struct graph graph;
    struct program program;
    struct cache cache;
    struct prefix prefix;
    struct cache_seq seq[SEQS];
    struct prefix_seq at[SEQS];
    struct text text[SEQS];          /* what each is reading; filled: pages that it had */
    struct text *old;                /* [TEXTS] */
    uint32_t n_old, salts;
    bool roles, whole;               /* whole: the pool has room for all texts */
    void *memory;
    uint64_t noise;
    int32_t last;
    uint64_t found, possible, shared, parts;
    uint64_t chosen, walked;         /* pages of owners who had more than an equal part that went; looks at a list */
    uint32_t owners;
};

static uint32_t below(struct world *w, uint32_t n) { return (uint32_t)(random_mix(++w->noise) % n); }

static int32_t *cell(struct world *w, uint32_t g, uint32_t s, uint32_t slot)
{
    int32_t page = cache_page(&w->cache, &w->seq[s], g, slot / PAGE_SLOTS);
    assert_in_range(page, 0, w->cache.group[g].max_pages - 1);
    return &w->program.cell[g][page][slot % PAGE_SLOTS];
}

static void take_all(struct world *w, struct arena *a, const struct program_limits *l)
{
    cache_plan(&w->cache, a, &w->graph, l, SEQS);
    prefix_plan(&w->prefix, a, &w->cache);
    for (uint32_t g = 0; g < w->graph.n_groups; g++)
        w->program.cell[g] = arena_take(a, l->max_pages[g] * sizeof *w->program.cell[g]);
    w->old = arena_take(a, TEXTS * sizeof *w->old);
}

static void open_world(struct world *w, uint64_t seed, bool whole)
{
    static const uint32_t windows[] = { 1, 63, 64, 65, 100, 300 };
    memset(w, 0, sizeof *w);
    w->noise = seed << 32;
    w->whole = whole;
    w->roles = seed % 3 != 0;
    w->salts = 1 + (uint32_t)seed % 3;
    w->owners = 1 + (uint32_t)seed % 5;
    struct program_limits l = { .max_seq_pages = SEQ_PAGES };
    w->graph.n_groups = whole ? 1 : 1 + below(w, GROUPS);
    for (uint32_t g = 0; g < w->graph.n_groups; g++) {
        struct layer_group *x = &w->graph.group[g];
        *x = (struct layer_group){ GROUP_FULL, 1, 1, 1, 0 };
        if (!whole && (g || seed % 8 == 7)) *x = (struct layer_group){ GROUP_WINDOW, 1, 1, 1, windows[below(w, 6)] };
        l.max_pages[g] = whole ? MOST_PAGES : SEQS * SEQ_PAGES + below(w, 100);
    }
    struct arena a = { 0 };
    take_all(w, &a, &l);
    w->memory = aligned_alloc(64, (a.top + 63) / 64 * 64);
    assert_non_null(w->memory);
    memset(w->memory, 0, a.top);
    a = (struct arena){ .base = w->memory, .cap = a.top };
    take_all(w, &a, &l);
    cache_init(&w->cache, &backend, &w->program);
    prefix_init(&w->prefix, &w->cache, &w->graph, !w->roles);
    for (uint32_t s = 0; s < SEQS; s++) {
        w->seq[s] = (struct cache_seq){ .number = s };
        w->at[s] = (struct prefix_seq){ .cache = &w->seq[s], .tokens = w->text[s].tokens, .given = w->text[s].given };
        prefix_seat(&w->prefix, &w->at[s]);
    }
}

/* ---- what must be true ----------------------------------------------------------------------- */

static bool texts_stand(struct world *w)
{
    for (uint32_t s = 0; s < SEQS; s++)
        for (uint32_t g = 0; g < w->graph.n_groups; g++) {
            uint32_t n = w->seq[s].n_tokens;
            for (uint32_t i = cache_first_seen(&w->graph.group[g], n) * PAGE_SLOTS; i < n; i++)
                if (cache_page(&w->cache, &w->seq[s], g, i / PAGE_SLOTS) < 0 ||
                    *cell(w, g, s, i) != w->text[s].tokens[i]) return false;
        }
    return true;
}

static bool is_before(const struct prefix *p, int32_t node, int32_t of)
{
    for (; of >= 0; of = p->node[of].parent) if (of == node) return true;
    return false;
}

/* Nodes that are there: [top], zero for those on the free list. */
static const uint8_t *live(const struct prefix *p)
{
    static uint8_t is[MOST_PAGES + 1];
    memset(is, 1, p->top);
    for (int32_t i = p->free; i >= 0; i = p->node[i].same) is[i] = 0;
    is[PREFIX_ROOT] = 0;
    return is;
}

static bool lists_are_right(const struct prefix *p, const uint8_t *is)
{
    static uint32_t rank[MOST_PAGES + 1];
    uint32_t n = 0, unlocked = 0;
    memset(rank, 0, p->top * sizeof *rank);
    for (int k = 0; k < 2; k++) {
        for (int32_t i = p->used[k].first; i >= 0; i = p->node[i].used.next) {
            if (!is[i] || p->node[i].is_protected != k || p->node[i].locks) return false;
            rank[i] = ++n;
        }
    }
    if (n != p->used[0].n + p->used[1].n || p->used[1].n > p->cap / 4) return false;
    for (uint32_t i = 1; i < p->top; i++) {          /* children before parents */
        if (!is[i]) continue;
        unlocked += !p->node[i].locks;
        int32_t up = p->node[i].parent;
        if (up > PREFIX_ROOT && (!is[up] || (rank[up] && (!rank[i] || rank[i] > rank[up])))) return false;
    }
    return n == unlocked;
}

/* Every unlocked leaf, and nothing else, stands in the heap of its owner, under an older one. */
static bool heaps_are_right(const struct prefix *p, const uint8_t *is)
{
    for (uint32_t i = 1; i < p->top; i++) {
        const struct prefix_node *x = &p->node[i];
        if (!is[i] || x->locks || x->child >= 0) continue;
        if (x->age.prev < 0) {
            if (p->owner[x->owner].oldest[x->is_protected] != (int32_t)i || x->age.next >= 0) return false;
            continue;
        }
        const struct prefix_node *before = &p->node[x->age.prev];
        if (!is[x->age.prev] || before->locks || before->child >= 0 || before->owner != x->owner) return false;
        if (before->age.child != (int32_t)i ? before->age.next != (int32_t)i : before->used_at >= x->used_at)
            return false;
    }
    for (int k = 0; k < 2 * PREFIX_OWNERS; k++) {
        int32_t top = p->owner[k / 2].oldest[k % 2];
        if (top >= 0 && (!is[top] || p->node[top].locks || p->node[top].child >= 0 || p->node[top].age.prev >= 0))
            return false;
    }
    return true;
}

static bool books_balance(const struct world *w)
{
    const struct prefix *p = &w->prefix;
    const uint8_t *is = live(p);
    static uint32_t refs[MOST_PAGES], kept[MOST_PAGES];
    for (uint32_t g = 0; g < w->graph.n_groups; g++) {
        const struct cache_group *x = &w->cache.group[g];
        uint32_t held = 0, in_window = 0, spare = 0;
        memset(refs, 0, x->max_pages * sizeof *refs);
        memset(kept, 0, x->max_pages * sizeof *kept);
        for (uint32_t s = 0; s < SEQS; s++)
            for (uint32_t i = w->seq[s].first[g]; i < w->seq[s].n_pages; i++)
                refs[cache_page(&w->cache, &w->seq[s], g, i)]++;
        for (uint32_t i = 1; i < p->top; i++) {
            if (!is[i] || p->node[i].page[g] < 0) continue;
            refs[p->node[i].page[g]]++;
            kept[p->node[i].page[g]]++;
            in_window++;
        }
        for (uint32_t i = 0; i < x->max_pages; i++) {
            held += refs[i] > 0;
            spare += kept[i] && refs[i] == kept[i];
            if (refs[i] != x->refs[i]) return false;
        }
        if (held + x->n_free != x->max_pages || spare != prefix_spare(p, g)) return false;
        if (w->graph.group[g].kind == GROUP_WINDOW && in_window != p->window[g].n) return false;
    }
    for (uint32_t i = 1; i < p->top; i++) {
        uint32_t locks = 0;
        for (uint32_t s = 0; is[i] && s < SEQS; s++) locks += is_before(p, (int32_t)i, w->at[s].node);
        if (is[i] && locks != p->node[i].locks) return false;
    }
    for (uint32_t s = 0; s < SEQS; s++)
        if (p->node[w->at[s].node].depth != w->seq[s].n_tokens / PAGE_SLOTS) return false;
    return lists_are_right(p, is) && heaps_are_right(p, is);
}

/* ---- the two oracles ------------------------------------------------------------------------- */

static uint32_t pages_alike(const struct world *w, const struct text *a, const struct text *b, uint32_t n, bool exact)
{
    uint32_t pages = 0;
    if (a->salt != b->salt) return 0;
    for (; (pages + 1) * PAGE_SLOTS <= n && pages < b->filled; pages++) {
        uint32_t at = pages * PAGE_SLOTS;
        if (memcmp(a->tokens + at, b->tokens + at, PAGE_SLOTS * sizeof *a->tokens)) break;
        if (exact && w->roles && memcmp(a->given + at, b->given + at, PAGE_SLOTS)) break;
    }
    return pages;
}

/* Of all texts that ever were; those that are being read too. */
static uint32_t of_texts(const struct world *w, const struct text *t, uint32_t n, bool exact)
{
    uint32_t best = 0;
    for (uint32_t i = 0; i < w->n_old + SEQS; i++) {
        const struct text *x = i < w->n_old ? &w->old[i] : &w->text[i - w->n_old];
        uint32_t k = pages_alike(w, t, x, n, exact);
        if (k > best) best = k;
    }
    return best;
}

static bool holds(const struct world *w, int32_t node, const struct text *t, bool exact)
{
    const struct prefix *p = &w->prefix;
    uint32_t depth = p->node[node].depth;
    uint32_t last[GROUPS] = { 0 };
    for (; node > PREFIX_ROOT; node = p->node[node].parent) {
        const struct prefix_node *x = &p->node[node];
        uint32_t at = (x->depth - 1) * PAGE_SLOTS;
        if (x->n_tokens < PAGE_SLOTS || x->salt != t->salt) return false;
        if (memcmp(x->tokens, t->tokens + at, sizeof x->tokens)) return false;
        for (uint32_t i = 0; exact && w->roles && i < PAGE_SLOTS; i++)
            if ((x->roles >> i & 1) != t->given[at + i]) return false;
        for (uint32_t g = 0; g < w->graph.n_groups; g++)
            if (x->page[g] < 0 && x->depth > last[g]) last[g] = x->depth;
    }
    for (uint32_t g = 0; g < w->graph.n_groups; g++)
        if (cache_first_seen(&w->graph.group[g], depth * PAGE_SLOTS) < last[g]) return false;
    return true;
}

static uint32_t of_nodes(const struct world *w, const struct text *t, uint32_t n, bool exact)
{
    const uint8_t *is = live(&w->prefix);
    uint32_t best = 0;
    for (uint32_t i = 1; i < w->prefix.top; i++) {
        uint32_t depth = w->prefix.node[i].depth;
        if (is[i] && depth > best && depth * PAGE_SLOTS <= n && holds(w, (int32_t)i, t, exact)) best = depth;
    }
    return best;
}

/* ---- what happens ---------------------------------------------------------------------------- */

static void note(struct world *w, uint32_t s)
{
    uint32_t depth = w->prefix.node[w->at[s].node].depth;
    if (depth > w->text[s].filled) w->text[s].filled = depth;
}

static void leave(struct world *w, uint32_t s)
{
    struct text *t = &w->text[s];
    prefix_leave(&w->prefix, &w->at[s]);
    cache_rewind(&w->cache, &w->seq[s], 0);
    prefix_back(&w->prefix, &w->at[s]);
    if (t->filled) w->old[w->n_old < TEXTS ? w->n_old++ : below(w, TEXTS)] = *t;
    t->filled = 0;
}

/* A text that begins like another one, as far as a page's end or anywhere; from there on in other roles, or not. */
static void begin(struct world *w, uint32_t s)
{
    struct text *t = &w->text[s];
    struct prefix_found f;
    if (w->whole && w->n_old == TEXTS) return;
    leave(w, s);
    uint32_t same = 0;
    t->salt = w->salts > 1 ? below(w, w->salts) : 0;
    if (w->n_old && below(w, 8)) {
        const struct text *x = &w->old[below(w, w->n_old)];
        same = below(w, 3) ? below(w, x->filled + 1) * PAGE_SLOTS : below(w, x->n);
        memcpy(t->tokens, x->tokens, same * sizeof *t->tokens);
        memcpy(t->given, x->given, same);
        if (below(w, 4)) t->salt = x->salt;
        if (below(w, 4) == 0) memset(t->given, 1, same);
    }
    t->n = same + 1 + below(w, SLOTS - same);
    uint8_t role = below(w, 2) != 0;
    for (uint32_t i = same; i < t->n; i++) {
        t->tokens[i] = below(w, 3) ? ++w->last : (int32_t)below(w, 2);
        t->given[i] = role;
    }
    bool exact = below(w, 2);
    w->at[s].salt = t->salt;
    w->at[s].exact = exact;
    w->at[s].owner = below(w, w->owners) ? below(w, w->owners) : 0;    /* somebody has more than others */
    prefix_find(&w->prefix, &w->at[s], t->tokens, t->given, t->n - 1, &f);
    uint32_t full = w->prefix.node[f.node].depth, ever = of_texts(w, t, t->n - 1, exact);
    assert_int_equal(full, of_nodes(w, t, t->n - 1, exact));
    assert_true(full <= ever && f.n >= full * PAGE_SLOTS && f.n < t->n && f.n - full * PAGE_SLOTS < PAGE_SLOTS);
    assert_true(f.miss.matched == f.n && (f.n == t->n - 1) == (f.miss.cause == PREFIX_MISS_NOTHING));
    if (w->whole) assert_int_equal(full, ever);
    if (w->whole) assert_int_not_equal(f.miss.cause, PREFIX_MISS_EVICTED);
    w->found += full;
    w->possible += ever;
    w->parts += f.n > full * PAGE_SLOTS;
    uint8_t was[SLOTS];
    memcpy(was, t->given, t->n);
    prefix_take(&w->prefix, &w->at[s], &f, below(w, 8) != 0);
    note(w, s);
    assert_int_equal(w->seq[s].n_tokens, f.n);
    if (exact && w->roles) assert_memory_equal(was, t->given, t->n);
    else assert_memory_equal(was + f.n, t->given + f.n, t->n - f.n);
}

/* A walk over all that nobody locks: the first leaf of an owner with more than an equal part, or the first at all. */
static int32_t who_goes(struct world *w)
{
    const struct prefix *p = &w->prefix;
    uint32_t most = p->n_owners ? p->n_nodes / p->n_owners : 0;
    for (int k = 0; k < 2 && p->n_owners > 1; k++)
        for (int32_t i = p->used[k].first; i >= 0; i = p->node[i].used.next) {
            w->walked++;
            if (p->owner[p->node[i].owner].nodes <= most || p->node[i].child >= 0) continue;
            w->chosen += i != p->used[k].first;
            return i;
        }
    return p->used[0].n ? p->used[0].first : p->used[1].first;
}

static bool evict(struct world *w, uint32_t g)
{
    int32_t goes = w->graph.group[g].kind == GROUP_FULL ? who_goes(w) : PREFIX_NONE;
    bool made = prefix_evict(&w->prefix, g);
    if (w->graph.group[g].kind == GROUP_FULL) assert_true(made == (goes >= 0) && (!made || w->prefix.free == goes));
    return made;
}

static bool make_room(struct world *w)
{
    bool made = false;
    for (uint32_t g = 0; g < w->graph.n_groups; g++)
        if (!w->cache.group[g].n_free) made |= evict(w, g);
    return made;
}

static void grow(struct world *w, uint32_t s)
{
    struct cache_seq *q = &w->seq[s];
    uint32_t at = q->n_tokens, want = 1 + below(w, 200), reach;
    if (want > w->text[s].n - at) want = w->text[s].n - at;
    if (prefix_has_next(&w->prefix, &w->at[s], w->text[s].n)) w->shared++;
    cache_rewind(&w->cache, q, at);
    while ((reach = cache_reserve(&w->cache, q, at + want)) < at + want) if (!make_room(w)) break;
    assert_int_equal(reach, at + want);              /* there are pages for all sequences */
    for (uint32_t i = at; i < reach; i++)
        for (uint32_t g = 0; g < w->graph.n_groups; g++) *cell(w, g, s, i) = w->text[s].tokens[i];
    while (q->n_tokens < reach) {
        uint32_t k = PAGE_SLOTS - q->n_tokens % PAGE_SLOTS;
        cache_commit(&w->cache, q, k < reach - q->n_tokens ? k : reach - q->n_tokens);
        prefix_grow(&w->prefix, &w->at[s]);
        note(w, s);
    }
}

static void go_back(struct world *w, uint32_t s)
{
    uint32_t n = w->seq[s].n_tokens;
    cache_rewind(&w->cache, &w->seq[s], below(w, 2) ? n - below(w, n < 100 ? n + 1 : 100) : below(w, n + 1));
    prefix_back(&w->prefix, &w->at[s]);
}

static void fork_of(struct world *w, uint32_t from, uint32_t to)
{
    if (w->whole && w->n_old == TEXTS) return;
    uint32_t n = below(w, w->seq[from].n_tokens + 1);
    if (cache_reach(&w->cache, &w->seq[from], n) != n) return;
    leave(w, to);
    assert_int_equal(cache_fork(&w->cache, &w->seq[from], &w->seq[to], n, NULL), STRETTO_OK);
    w->text[to] = w->text[from];
    w->text[to].filled = n / PAGE_SLOTS;
    prefix_fork(&w->prefix, &w->at[from], &w->at[to]);
}

static void one(struct world *w)
{
    uint32_t s = below(w, SEQS), to = below(w, SEQS);
    switch (below(w, 12)) {
    case 0: case 1: begin(w, s); break;
    case 2: go_back(w, s); break;
    case 3: if (s != to) fork_of(w, s, to); break;
    default: if (w->seq[s].n_tokens < w->text[s].n) grow(w, s); else begin(w, s); break;
    }
}

static void run(struct world *w, uint32_t operations, uint32_t every)
{
    for (uint32_t i = 0; i < operations; i++) {
        one(w);
        if (i % every) continue;
        assert_true(texts_stand(w));
        assert_true(books_balance(w));
    }
    for (uint32_t s = 0; s < SEQS; s++) leave(w, s);
    assert_true(books_balance(w));
    while (evict(w, 0)) continue;
    for (uint32_t g = 0; g < w->graph.n_groups; g++)
        while (w->graph.group[g].kind == GROUP_WINDOW && prefix_evict(&w->prefix, g)) continue;
    for (uint32_t g = 0; g < w->graph.n_groups; g++)
        assert_int_equal(w->cache.group[g].n_free, w->cache.group[g].max_pages);
}

static struct world world;

/* All that was ever filled is found while nobody needs its pages. */
static void finds_all_that_was(void **state)
{
    (void)state;
    uint64_t found = 0, possible = 0, parts = 0;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        open_world(&world, seed, true);
        run(&world, 8000, 2000);
        found += world.found;
        possible += world.possible;
        parts += world.parts;
        free(world.memory);
    }
    printf("%llu of %llu pages found, and %llu parts of one\n", (unsigned long long)found,
           (unsigned long long)possible, (unsigned long long)parts);
    assert_int_equal(found, possible);
    assert_true(found > 3000 && parts > 100);
}

static void finds_all_that_is_there(void **state)
{
    (void)state;
    uint64_t found = 0, possible = 0, evicted = 0, stripped = 0, equal = 0, chosen = 0;
    for (uint64_t seed = 10; seed < 26; seed++) {
        open_world(&world, seed, false);
        run(&world, 100000 / 16, 16);
        found += world.found;
        possible += world.possible;
        evicted += world.prefix.counts.evicted;
        stripped += world.prefix.counts.stripped;
        equal += world.prefix.counts.equal;
        chosen += world.chosen;
        free(world.memory);
    }
    printf("%llu of %llu pages found; %llu given up, %llu of them not the oldest, and %llu of windows; %llu computed "
           "twice\n", (unsigned long long)found, (unsigned long long)possible, (unsigned long long)evicted,
           (unsigned long long)chosen, (unsigned long long)stripped, (unsigned long long)equal);
    assert_true(found > 1000 && evicted > 10000 && stripped > 1000 && equal > 100 && chosen > 500);
}

/* Somebody's many pages, which are older and no more than an equal part, are not looked at for every one that another
 * gives up. */
static void nobody_is_walked_over(void **state)
{
    enum { FEW = 300, MANY = 420, GONE = 200 };
    (void)state;
    struct text *t = &world.text[0];
    open_world(&world, 1, true);
    for (int32_t i = 0; i < FEW + MANY; i++) {
        leave(&world, 0);
        *t = (struct text){ .n = 5 * PAGE_SLOTS };
        for (int32_t k = 0; k < 5 * PAGE_SLOTS; k++) t->tokens[k] = i * SLOTS + k;
        world.at[0].salt = 0;
        world.at[0].owner = i >= FEW;
        while (world.seq[0].n_tokens < t->n) grow(&world, 0);
    }
    leave(&world, 0);
    assert_true(world.prefix.n_owners == 2 && world.prefix.n_nodes == 5 * (FEW + MANY));
    uint64_t looked = world.prefix.counts.looked;
    for (int i = 0; i < GONE; i++) assert_true(evict(&world, 0));
    looked = world.prefix.counts.looked - looked;
    printf("%d pages given up: %llu looks, a walk takes %llu\n", (int)GONE, (unsigned long long)looked,
           (unsigned long long)world.walked);
    assert_true(books_balance(&world) && world.walked >= 5 * FEW * GONE && looked < 10 * GONE);
    free(world.memory);
}

/* ---- planted faults -------------------------------------------------------------------------- */

/* A node that answers for other tokens than its pages hold, as if only hashes had been compared. */
static bool plant_compare(struct world *w, uint32_t s)
{
    struct prefix_node *x = &w->prefix.node[w->at[s].node];
    if (!x->depth) return false;
    w->text[s].tokens[x->depth * PAGE_SLOTS - 1]++;
    x->tokens[PAGE_SLOTS - 1]++;
    return true;
}

/* A sequence forgets where it sits. */
static bool plant_lock(struct world *w, uint32_t s)
{
    uint32_t n = w->seq[s].n_tokens;
    if (w->at[s].node == PREFIX_ROOT) return false;
    w->prefix.node[w->at[s].node].locks--;
    return n > 0;
}

static bool plant_page(struct world *w, uint32_t s)
{
    struct prefix_node *x = &w->prefix.node[w->at[s].node];
    if (!x->depth || x->page[0] < 0) return false;
    w->cache.group[0].refs[x->page[0]]--;
    return true;
}

static void faults_are_noticed(void **state)
{
    (void)state;
    static bool (*const plants[])(struct world *, uint32_t) = { plant_compare, plant_lock, plant_page };
    for (size_t p = 0; p < sizeof plants / sizeof *plants; p++) {
        int planted = 0;
        for (uint64_t seed = 100; planted < 5; seed++) {
            open_world(&world, seed, false);
            for (int i = 0; i < 300; i++) one(&world);
            uint32_t s = below(&world, SEQS);
            assert_true(texts_stand(&world) && books_balance(&world));
            bool sees = world.graph.group[0].kind == GROUP_FULL;
            if (sees && plants[p](&world, s)) {
                assert_false(texts_stand(&world) && books_balance(&world));
                planted++;
            }
            free(world.memory);
        }
    }
}

/* ---- what people are told -------------------------------------------------------------------- */

static void read_text(struct world *w, uint32_t s, uint64_t salt, bool exact, uint8_t role, int32_t first, uint32_t n,
                      struct prefix_found *f)
{
    struct text *t = &w->text[s];
    leave(w, s);
    *t = (struct text){ .salt = salt, .n = n };
    for (uint32_t i = 0; i < n; i++) t->tokens[i] = i < 300 ? (int32_t)i : first + (int32_t)i;
    memset(t->given, role, n);
    w->at[s].salt = salt;
    w->at[s].exact = exact;
    prefix_find(&w->prefix, &w->at[s], t->tokens, t->given, n - 1, f);
    prefix_take(&w->prefix, &w->at[s], f, true);
    while (w->seq[s].n_tokens < n) grow(w, s);
}

static void says_why(void **state)
{
    (void)state;
    struct prefix_found f;
    open_world(&world, 1, true);
    world.graph.n_groups = 1;
    read_text(&world, 0, 0, false, 1, 1000, 500, &f);
    assert_true(f.n == 0 && f.miss.cause == PREFIX_MISS_TEXT && f.miss.had == -1 && f.miss.asked == 499);
    read_text(&world, 1, 0, false, 1, 5000, 500, &f);           /* the same for 300 tokens */
    assert_true(f.n == 300 && f.miss.cause == PREFIX_MISS_TEXT && f.miss.at == 300);
    assert_true(f.miss.wanted == 5300 && f.miss.had == 1300);
    read_text(&world, 2, 7, false, 1, 1000, 500, &f);
    assert_true(f.n == 0 && f.miss.cause == PREFIX_MISS_SALT);
    read_text(&world, 3, 0, true, 0, 1000, 500, &f);
    assert_true(f.n == 0 && f.miss.cause == PREFIX_MISS_ROLE);
    read_text(&world, 4, 0, false, 0, 1000, 500, &f);           /* the node in equal roles */
    assert_true(f.n == 499 && f.miss.cause == PREFIX_MISS_NOTHING && !f.unlike);
    for (uint32_t s = 0; s < SEQS; s++) leave(&world, s);
    while (prefix_evict(&world.prefix, 0)) continue;
    read_text(&world, 0, 0, false, 1, 1000, 500, &f);
    assert_true(f.n == 0 && f.miss.cause == PREFIX_MISS_EVICTED);
    for (int c = 0; c < PREFIX_MISSES; c++) assert_non_null(prefix_cause_text((enum prefix_cause)c));
    free(world.memory);
}

/* A long text that comes once takes its own pages again, not those that two others took over. */
static void long_texts_wash_nothing_away(void **state)
{
    (void)state;
    struct prefix_found f;
    open_world(&world, 11, false);
    for (int i = 0; i < 3; i++) read_text(&world, 0, 0, false, 1, 1000, 300, &f);
    leave(&world, 0);
    for (int32_t i = 0; i < 40; i++) {
        struct text *t = &world.text[1];
        leave(&world, 1);
        *t = (struct text){ .n = SLOTS };
        for (int32_t k = 0; k < SLOTS; k++) t->tokens[k] = 100000 + i * SLOTS + k;
        world.at[1].salt = 0;
        while (world.seq[1].n_tokens < SLOTS) grow(&world, 1);
    }
    assert_true(world.prefix.counts.evicted > 100);
    read_text(&world, 0, 0, false, 1, 1000, 300, &f);
    assert_int_equal(f.n, 299);
    free(world.memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(finds_all_that_was),
                                        cmocka_unit_test(finds_all_that_is_there),
                                        cmocka_unit_test(nobody_is_walked_over),
                                        cmocka_unit_test(faults_are_noticed),
                                        cmocka_unit_test(says_why),
                                        cmocka_unit_test(long_texts_wash_nothing_away) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
