#include "cache/prefix_int.h"
#include "base/hash.h"
#include <string.h>

const char *prefix_cause_text(enum prefix_cause c)
{
    static const char *const text[] = {
#define X(name, words) [PREFIX_MISS_##name] = words,
        PREFIX_CAUSES(X)
#undef X
    };
    return text[c];
}

/* ---- sizes and places ------------------------------------------------------------------------ */

/* Where a group keeps all, every node has a page of it. Elsewhere nodes outlive their pages; as many as all
 * sequences can sit on are enough, and untouched ones cost nothing. */
static uint32_t nodes_of(const struct cache *c)
{
    uint64_t full = 0, all = (uint64_t)c->max_seq_pages * c->sequences;
    for (uint32_t g = 0; g < c->n_groups; g++) {
        if (c->group[g].layers->kind == GROUP_FULL) full = c->group[g].max_pages;
        all += c->group[g].max_pages;
    }
    if (full) all = full;
    return (uint32_t)(all < INT32_MAX / 2 ? all : INT32_MAX / 2) + 1;
}

void prefix_plan(struct prefix *p, struct arena *a, const struct cache *c)
{
    p->cap = nodes_of(c);
    for (p->buckets = 64; p->buckets < p->cap;) p->buckets *= 2;
    p->node = arena_take(a, p->cap * sizeof *p->node);
    p->bucket = arena_take(a, p->buckets * sizeof *p->bucket);
    p->seen = arena_take(a, p->buckets * sizeof *p->seen);
    p->way = arena_take(a, c->max_seq_pages * sizeof *p->way);
}

static struct prefix_list empty_list(void) { return (struct prefix_list){ PREFIX_NONE, PREFIX_NONE, 0 }; }

void prefix_init(struct prefix *p, struct cache *c, const struct graph *g, bool strict)
{
    p->cache = c;
    p->off = g->bidirectional;
    p->roles = !strict;
    p->top = 1;
    p->free = PREFIX_NONE;
    p->used[0] = p->used[1] = empty_list();
    for (uint32_t i = 0; i < PREFIX_OWNERS; i++) p->owner[i].oldest[0] = p->owner[i].oldest[1] = PREFIX_NONE;
    for (uint32_t i = 0; i < GRAPH_GROUPS; i++) p->window[i] = empty_list();
    memset(p->bucket, 0xff, p->buckets * sizeof *p->bucket);
    p->node[PREFIX_ROOT] = (struct prefix_node){ .parent = PREFIX_NONE, .child = PREFIX_NONE, .record = PREFIX_NONE,
                                                 .locks = 1 };
}

/* ---- lists ----------------------------------------------------------------------------------- */

/* Lists of nodes by their number; `of` says which links of a node are meant. */
typedef struct prefix_links *links_of(struct prefix *p, int32_t node, uint32_t group);

static struct prefix_links *used_of(struct prefix *p, int32_t node, uint32_t group)
{
    (void)group;
    return &p->node[node].used;
}

static struct prefix_links *window_of(struct prefix *p, int32_t node, uint32_t group)
{
    return &p->node[node].window[group];
}

static void list_add(struct prefix *p, struct prefix_list *l, links_of *of, int32_t node, uint32_t group)
{
    *of(p, node, group) = (struct prefix_links){ l->last, PREFIX_NONE };
    if (l->last >= 0) of(p, l->last, group)->next = node;
    else l->first = node;
    l->last = node;
    l->n++;
}

static void list_drop(struct prefix *p, struct prefix_list *l, links_of *of, int32_t node, uint32_t group)
{
    struct prefix_links *x = of(p, node, group);
    if (x->prev >= 0) of(p, x->prev, group)->next = x->next;
    else l->first = x->next;
    if (x->next >= 0) of(p, x->next, group)->prev = x->prev;
    else l->last = x->prev;
    l->n--;
}

static void lie(struct prefix *p, int32_t node, bool is_protected)
{
    struct prefix_node *x = &p->node[node];
    x->is_protected = is_protected;
    x->used_at = ++p->clock;
    list_add(p, &p->used[is_protected], used_of, node, 0);
    if (x->child < 0) prefix_age_add(p, node);
}

/* It is about to be locked, moved or removed. */
static void wake(struct prefix *p, int32_t node)
{
    struct prefix_node *x = &p->node[node];
    list_drop(p, &p->used[x->is_protected], used_of, node, 0);
    if (x->child < 0) prefix_age_drop(p, node);
}

/* A node that nobody locks is in one of two lists; of the protected there is a quarter at most. A child is
 * unlocked, and so added, before its parent. */
static void rest(struct prefix *p, int32_t node)
{
    lie(p, node, p->node[node].hits >= 2);
    while (p->used[1].n > p->cap / 4) {
        int32_t oldest = p->used[1].first;
        wake(p, oldest);
        p->node[oldest].hits = 1;
        lie(p, oldest, false);
    }
}

void prefix_lock(struct prefix *p, int32_t node)
{
    for (; node > PREFIX_ROOT; node = p->node[node].parent) {
        struct prefix_node *x = &p->node[node];
        if (!x->locks++) wake(p, node);
    }
}

void prefix_unlock(struct prefix *p, int32_t node)
{
    for (; node > PREFIX_ROOT; node = p->node[node].parent)
        if (!--p->node[node].locks) rest(p, node);
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static int32_t *bucket_of(struct prefix *p, uint64_t text, uint64_t salt)
{
    return &p->bucket[prefix_key(text, salt) & (p->buckets - 1)];
}

static void beside_add(struct prefix *p, int32_t parent, int32_t node)
{
    int32_t old = p->node[parent].child;
    p->node[node].beside = (struct prefix_links){ PREFIX_NONE, old };
    if (old >= 0) p->node[old].beside.prev = node;
    p->node[parent].child = node;
}

static void beside_drop(struct prefix *p, int32_t node)
{
    struct prefix_links *x = &p->node[node].beside;
    if (x->prev >= 0) p->node[x->prev].beside.next = x->next;
    else p->node[p->node[node].parent].child = x->next;
    if (x->next >= 0) p->node[x->next].beside.prev = x->prev;
}

static bool is_window(const struct prefix *p, uint32_t g)
{
    return p->cache->group[g].layers->kind == GROUP_WINDOW;
}

void prefix_hold(struct prefix *p, int32_t node, uint32_t g, int32_t page)
{
    p->node[node].page[g] = page;
    if (page < 0) return;
    cache_keep(p->cache, g, page);
    if (is_window(p, g)) list_add(p, &p->window[g], window_of, node, g);
}

void prefix_use(struct prefix *p, int32_t node, uint32_t g)
{
    if (!is_window(p, g) || p->node[node].page[g] < 0) return;
    list_drop(p, &p->window[g], window_of, node, g);
    list_add(p, &p->window[g], window_of, node, g);
}

uint32_t prefix_groups(const struct prefix *p, int32_t node)
{
    uint32_t groups = 0;
    for (uint32_t g = 0; g < p->cache->n_groups; g++) groups |= (uint32_t)(p->node[node].page[g] >= 0) << g;
    return groups;
}

static void page_drop(struct prefix *p, int32_t node, uint32_t g)
{
    int32_t *page = &p->node[node].page[g];
    if (*page < 0) return;
    if (is_window(p, g)) list_drop(p, &p->window[g], window_of, node, g);
    cache_let_go(p->cache, g, *page);
    *page = PREFIX_NONE;
}

/* ---- owners ---------------------------------------------------------------------------------- */

/* Places of those that have nothing serve others. */
static uint16_t owner_of(const struct prefix *p, uint64_t who)
{
    uint32_t at = (uint32_t)(random_mix(who) % PREFIX_OWNERS), empty = PREFIX_OWNERS;
    for (uint32_t i = 0; i < PREFIX_OWNERS; i++, at = (at + 1) % PREFIX_OWNERS) {
        if (p->owner[at].nodes && p->owner[at].who == who) return (uint16_t)at;
        if (!p->owner[at].nodes && empty == PREFIX_OWNERS) empty = at;
    }
    return (uint16_t)(empty < PREFIX_OWNERS ? empty : at);
}

static void own(struct prefix *p, struct prefix_node *x, uint64_t who)
{
    x->owner = owner_of(p, who);
    struct prefix_owner *o = &p->owner[x->owner];
    if (!o->nodes) o->who = who;
    p->n_owners += !o->nodes++;
    p->n_nodes++;
}

static void disown(struct prefix *p, const struct prefix_node *x)
{
    p->n_owners -= !--p->owner[x->owner].nodes;
    p->n_nodes--;
}

/* An unlocked leaf goes. */
static void remove_leaf(struct prefix *p, int32_t node)
{
    struct prefix_node *x = &p->node[node];
    disown(p, x);
    int32_t *at = bucket_of(p, x->text, x->salt);
    if (x->n_tokens == PAGE_SLOTS) {
        while (*at != node) at = &p->node[*at].same;
        *at = x->same;
    }
    wake(p, node);
    beside_drop(p, node);
    if (x->parent > PREFIX_ROOT && p->node[x->parent].child < 0 && !p->node[x->parent].locks)
        prefix_age_add(p, x->parent);
    for (uint32_t g = 0; g < p->cache->n_groups; g++) page_drop(p, node, g);
    x->n_tokens = 0;
    x->born = 0;
    x->same = p->free;
    p->free = node;
}

/* Whoever is used longest ago; its children would stand before it. */
static int32_t oldest(struct prefix *p)
{
    int32_t rich = p->n_owners > 1 ? prefix_age_rich(p) : PREFIX_NONE;
    if (rich >= 0) return rich;
    return p->used[0].n ? p->used[0].first : p->used[1].first;
}

static int32_t node_take(struct prefix *p)
{
    if (p->free < 0 && p->top == p->cap) {
        int32_t old = oldest(p);
        if (old < 0) return PREFIX_NONE;
        p->counts.evicted++;
        remove_leaf(p, old);
    }
    int32_t node = p->free;
    if (node < 0) return (int32_t)p->top++;
    p->free = p->node[node].same;
    return node;
}

static void remember(struct prefix *p, uint64_t text, uint64_t salt)
{
    size_t at = text & (p->buckets - 1);
    p->seen[at].text = text;
    p->seen[at].salt = salt;
}

int32_t prefix_insert(struct prefix *p, int32_t parent, const struct prefix_page *of)
{
    int32_t node = node_take(p);
    if (node < 0) return node;
    struct prefix_node *x = &p->node[node];
    *x = (struct prefix_node){ .parent = parent, .child = PREFIX_NONE, .n_tokens = of->n, .salt = of->salt,
                               .depth = p->node[parent].depth + (of->n == PAGE_SLOTS), .text = of->text,
                               .roles = of->roles, .record = of->record, .born = ++p->counts.inserted };
    memcpy(x->tokens, of->tokens, of->n * sizeof *x->tokens);
    own(p, x, of->owner);
    for (uint32_t g = 0; g < p->cache->n_groups; g++) prefix_hold(p, node, g, of->page[g]);
    beside_add(p, parent, node);
    rest(p, node);
    if (of->n < PAGE_SLOTS) return node;
    int32_t *at = bucket_of(p, of->text, of->salt);
    x->same = *at;
    *at = node;
    remember(p, of->text, of->salt);
    return node;
}

/* A node for the next n tokens of the sequence, with its pages. */
static int32_t insert(struct prefix *p, const struct prefix_seq *s, uint64_t salt, uint32_t n, uint64_t text)
{
    uint32_t depth = p->node[s->node].depth;
    struct prefix_page x = { .tokens = s->tokens + depth * PAGE_SLOTS, .salt = salt, .text = text, .n = n,
                             .owner = s->owner,
                             .roles = prefix_roles(s->given + depth * PAGE_SLOTS, n), .record = PREFIX_NONE };
    for (uint32_t g = 0; g < p->cache->n_groups; g++) x.page[g] = cache_page(p->cache, s->cache, g, depth);
    if (p->disk && n == PAGE_SLOTS) x.record = prefix_record(p, s->node, salt, x.tokens, x.roles);
    return prefix_insert(p, s->node, &x);
}

/* ---- where sequences sit --------------------------------------------------------------------- */

static void sit(struct prefix *p, struct prefix_seq *s, int32_t node)
{
    struct prefix_node *x = &p->node[node];
    s->node = node;
    s->prev = NULL;
    s->next = x->here;
    if (x->here) x->here->prev = s;
    x->here = s;
}

static void rise(struct prefix *p, struct prefix_seq *s)
{
    if (s->prev) s->prev->next = s->next;
    else p->node[s->node].here = s->next;
    if (s->next) s->next->prev = s->prev;
}

void prefix_seat(struct prefix *p, struct prefix_seq *s)
{
    s->goal.node = PREFIX_NONE;
    sit(p, s, PREFIX_ROOT);
}

void prefix_move(struct prefix *p, struct prefix_seq *s, int32_t node)
{
    int32_t from = s->node;
    if (from == node) return;
    rise(p, s);
    sit(p, s, node);
    prefix_lock(p, node);
    prefix_unlock(p, from);
}

void prefix_back(struct prefix *p, struct prefix_seq *s)
{
    int32_t node = s->node;
    while (p->node[node].depth > s->cache->n_tokens / PAGE_SLOTS) node = p->node[node].parent;
    prefix_move(p, s, node);
}

void prefix_fork(struct prefix *p, const struct prefix_seq *from, struct prefix_seq *to)
{
    int32_t node = from->node;
    to->salt = from->salt;
    to->adapted = from->adapted;
    to->adapts = from->adapts;
    to->by_role = from->by_role;
    while (p->node[node].depth > to->cache->n_tokens / PAGE_SLOTS) node = p->node[node].parent;
    prefix_move(p, to, node);
}

void prefix_hit(struct prefix *p, int32_t node)
{
    for (; node > PREFIX_ROOT; node = p->node[node].parent) p->node[node].hits += p->node[node].hits < UINT32_MAX;
}

/* All before it are locked by the sequence already. */
void prefix_step(struct prefix *p, struct prefix_seq *s, int32_t node)
{
    struct prefix_node *x = &p->node[node];
    if (!x->locks++) wake(p, node);
    rise(p, s);
    sit(p, s, node);
}

/* ---- growing --------------------------------------------------------------------------------- */

/* The children that end before 64 tokens, all of which the sequence's page has in these roles, are of no more
 * use. Looks at those used last. */
static void drop_parts(struct prefix *p, const struct prefix_seq *s, uint64_t salt, int32_t parent, uint32_t n)
{
    const int32_t *tokens = s->tokens + p->node[parent].depth * PAGE_SLOTS;
    uint64_t roles = prefix_roles(s->given + p->node[parent].depth * PAGE_SLOTS, n);
    int32_t node = p->node[parent].child, next;
    for (int i = 0; node >= 0 && i < PREFIX_LOOKS; node = next, i++) {
        const struct prefix_node *x = &p->node[node];
        next = x->beside.next;
        if (x->n_tokens <= n && x->n_tokens < PAGE_SLOTS && x->salt == salt && !x->locks &&
            prefix_alike(p, x, tokens, roles, true) == x->n_tokens)
            remove_leaf(p, node);
    }
}

void prefix_compare(struct prefix *p, void *room) { p->compare = room; }

static void compare(struct prefix *p, uint32_t g, int32_t a, int32_t b, uint64_t bytes)
{
    const struct backend *k = p->cache->backend;
    if (!k->page_read || !k->batch_invariant) return;
    if (k->page_read(p->cache->program, g, a, p->compare, NULL) != STRETTO_OK ||
        k->page_read(p->cache->program, g, b, p->compare + bytes, NULL) != STRETTO_OK) return;
    p->counts.compared++;
    p->counts.unlike += memcmp(p->compare, p->compare + bytes, (size_t)bytes) != 0;
}

/* The sequence's page and the node's hold the same: one of them is enough. */
static void join(struct prefix *p, struct prefix_seq *s, int32_t node, uint32_t i)
{
    struct prefix_node *x = &p->node[node];
    p->counts.equal++;
    for (uint32_t g = 0; g < p->cache->n_groups; g++) {
        int32_t own = cache_page(p->cache, s->cache, g, i);
        if (own < 0 || own == x->page[g]) continue;
        if (p->compare && x->page[g] >= 0 && x->roles == prefix_roles(s->given + i * PAGE_SLOTS, PAGE_SLOTS))
            compare(p, g, own, x->page[g], p->page_bytes[g]);
        if (x->page[g] < 0) prefix_hold(p, node, g, own);
        else cache_put(p->cache, s->cache, g, i, x->page[g]);
    }
}

void prefix_grow(struct prefix *p, struct prefix_seq *s)
{
    if (p->off) return;
    for (;;) {
        uint32_t i = p->node[s->node].depth, at = i * PAGE_SLOTS;
        if (at + PAGE_SLOTS > s->cache->n_tokens) return;
        uint64_t text = prefix_text(p->node[s->node].text, s->tokens + at);
        uint64_t roles = prefix_roles(s->given + at, PAGE_SLOTS), salt = prefix_salt(p, s, s->node, roles, PAGE_SLOTS);
        int32_t node = prefix_child(p, s->node, salt, text, s->tokens + at, roles);
        if (node >= 0) join(p, s, node, i);
        else {
            drop_parts(p, s, salt, s->node, PAGE_SLOTS);
            node = insert(p, s, salt, PAGE_SLOTS, text);
        }
        if (node < 0) return;            /* others sit everywhere: this text is nobody else's for now */
        prefix_step(p, s, node);
    }
}

int32_t prefix_part(const struct prefix *p, const struct prefix_seq *s, const int32_t *tokens, uint64_t roles,
                    uint32_t n, uint32_t groups)
{
    int32_t node = p->node[s->node].child;
    for (int k = 0; node >= 0 && k < PREFIX_LOOKS; node = p->node[node].beside.next, k++) {
        const struct prefix_node *x = &p->node[node];
        uint64_t unlike = s->by_role ? (x->roles ^ roles) & (((uint64_t)1 << n) - 1) : 0;
        if (x->n_tokens >= n && x->salt == prefix_salt(p, s, s->node, x->roles, x->n_tokens) && !unlike &&
            prefix_alike(p, x, tokens, roles, true) >= n && !(groups & ~prefix_groups(p, node))) return node;
    }
    return PREFIX_NONE;
}

void prefix_leave(struct prefix *p, struct prefix_seq *s)
{
    uint32_t i = p->node[s->node].depth, n = s->cache->n_tokens - i * PAGE_SLOTS;
    if (p->off || n < PREFIX_PART || n >= PAGE_SLOTS) return;
    uint64_t roles = prefix_roles(s->given + i * PAGE_SLOTS, n), salt = prefix_salt(p, s, s->node, roles, n);
    if (prefix_part(p, s, s->tokens + i * PAGE_SLOTS, roles, n, 0) >= 0) return;
    drop_parts(p, s, salt, s->node, n);
    insert(p, s, salt, n, 0);
}

/* ---- taking over ----------------------------------------------------------------------------- */

/* How far back from page n the way to a node has pages of the group; what a sequence of so many tokens keeps of
 * them. */
static uint32_t first_of(struct prefix *p, int32_t node, uint32_t g, uint32_t tokens)
{
    uint32_t keep = cache_first_kept(p->cache->group[g].layers, tokens);
    while (node > PREFIX_ROOT && p->node[node].depth > keep && p->node[node].page[g] >= 0) node = p->node[node].parent;
    return p->node[node].depth > keep ? p->node[node].depth : keep;
}

static void take_group(struct prefix *p, struct prefix_seq *s, const struct prefix_found *f, uint32_t g)
{
    struct cache_seq *c = s->cache;
    uint32_t i = p->node[f->node].depth;
    c->first[g] = first_of(p, f->node, g, f->n);
    int32_t part = f->part >= 0 ? p->node[f->part].page[g] : PREFIX_NONE;
    if (f->tail) part = cache_page(p->cache, f->tail->cache, g, i);
    if (f->n > i * PAGE_SLOTS) cache_put(p->cache, c, g, i, part);
    for (int32_t node = f->node; node > PREFIX_ROOT && p->node[node].depth > c->first[g];
         node = p->node[node].parent) {
        cache_put(p->cache, c, g, p->node[node].depth - 1, p->node[node].page[g]);
        prefix_use(p, node, g);
    }
}

static void take_roles(struct prefix *p, struct prefix_seq *s, const struct prefix_found *f)
{
    uint32_t at = p->node[f->node].depth * PAGE_SLOTS;
    if (s->by_role) return;            /* where roles count they are the text's own */
    for (uint32_t i = at; i < f->n; i++)
        s->given[i] = f->part >= 0 ? p->node[f->part].roles >> (i - at) & 1 : f->tail->given[i];
    for (int32_t node = f->node; node > PREFIX_ROOT; node = p->node[node].parent)
        for (uint32_t i = 0; i < PAGE_SLOTS; i++)
            s->given[(p->node[node].depth - 1) * PAGE_SLOTS + i] = p->node[node].roles >> i & 1;
}

void prefix_take(struct prefix *p, struct prefix_seq *s, const struct prefix_found *f, bool anew)
{
    prefix_move(p, s, f->node);
    cache_rewind(p->cache, s->cache, 0);
    if (anew) prefix_hit(p, f->node);
    if (anew && f->part >= 0) {
        struct prefix_node *x = &p->node[f->part];
        x->hits += x->hits < UINT32_MAX;
        if (!x->locks) {
            wake(p, f->part);
            rest(p, f->part);
        }
    }
    if (p->node[f->node].parent >= 0) {
        beside_drop(p, f->node);
        beside_add(p, p->node[f->node].parent, f->node);
    }
    for (uint32_t g = 0; g < p->cache->n_groups; g++) take_group(p, s, f, g);
    s->cache->n_tokens = f->n;
    s->cache->n_pages = (f->n + PAGE_SLOTS - 1) / PAGE_SLOTS;
    take_roles(p, s, f);
}

/* ---- counting -------------------------------------------------------------------------------- */

void prefix_count_anew(struct prefix *p) { p->counting++; }

/* Before a node that was counted all are. */
uint32_t prefix_uncounted(const struct prefix *p, int32_t node)
{
    uint32_t n = 0;
    for (; node > PREFIX_ROOT && p->node[node].counted != p->counting; node = p->node[node].parent) n++;
    return n;
}

uint32_t prefix_count(struct prefix *p, int32_t node)
{
    uint32_t n = prefix_uncounted(p, node);
    for (uint32_t i = 0; i < n; i++, node = p->node[node].parent) p->node[node].counted = p->counting;
    return n;
}

/* ---- giving up ------------------------------------------------------------------------------- */

bool prefix_evict(struct prefix *p, uint32_t group)
{
    if (!is_window(p, group)) {
        int32_t old = oldest(p);
        if (old < 0) return false;
        p->counts.evicted++;
        remove_leaf(p, old);
        return true;
    }
    struct prefix_list *l = &p->window[group];
    const struct cache_group *g = &p->cache->group[group];
    for (uint32_t i = g->n_spare ? l->n : 0; i; i--) {
        int32_t node = l->first, page = p->node[node].page[group];
        if (g->refs[page] == g->kept[page]) {
            p->counts.stripped++;
            page_drop(p, node, group);
            return true;
        }
        prefix_use(p, node, group);                  /* a sequence has it */
    }
    return false;
}

uint32_t prefix_forget(struct prefix *p, const struct prefix_seq *s, const int32_t *tokens, const uint8_t *given,
                       uint32_t n)
{
    struct prefix_found f;
    uint32_t gone = 0;
    prefix_find(p, s, tokens, given, n, &f);
    if (f.part >= 0 && !p->node[f.part].locks && p->node[f.part].n_tokens < PAGE_SLOTS) {
        gone += f.n % PAGE_SLOTS;
        remove_leaf(p, f.part);
    }
    for (int32_t node = f.node, up; node > PREFIX_ROOT; node = up) {
        const struct prefix_node *x = &p->node[node];
        if (x->locks || x->child >= 0) break;
        up = x->parent;
        gone += PAGE_SLOTS;
        remove_leaf(p, node);
    }
    return gone;
}

uint32_t prefix_spare(const struct prefix *p, uint32_t group) { return p->cache->group[group].n_spare; }
