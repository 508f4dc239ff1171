/* Between the tree and its files: nodes of which there is a record become records, and records nodes. */
#include "cache/disk.h"
#include "cache/prefix_int.h"

/* The digest of the way to a node; false where it has no record, so nothing behind it can have one. */
static bool way_to(const struct prefix *p, int32_t node, uint64_t salt, unsigned char *way)
{
    if (node == PREFIX_ROOT) disk_root(p->disk, salt, way);
    else if (disk_has(p->disk, p->node[node].record)) {
        for (size_t i = 0; i < DISK_DIGEST; i++) way[i] = disk_way_of(p->disk, p->node[node].record)[i];
        if (p->node[node].salt != salt) disk_turn(way, salt);
    } else return false;
    return true;
}

int32_t prefix_record(const struct prefix *p, int32_t parent, uint64_t salt, const int32_t *tokens, uint64_t roles)
{
    unsigned char way[DISK_DIGEST];
    if (!way_to(p, parent, salt, way)) return PREFIX_NONE;
    return disk_find(p->disk, way, tokens, p->roles ? roles : 0, true);
}

void prefix_use_disk(struct prefix *p, struct disk *d)
{
    p->disk = d;
    for (uint32_t i = 0; i < p->top; i++) p->node[i].record = PREFIX_NONE;
}

/* Records are gone: nodes forget theirs before others take their numbers. */
static void forget_records(struct prefix *p)
{
    for (uint32_t i = 1; i < p->top; i++)
        if (p->node[i].record >= 0 && !disk_has(p->disk, p->node[i].record)) p->node[i].record = PREFIX_NONE;
}

/* ---- restoring -------------------------------------------------------------------------------- */

static void drop_pages(struct prefix *p, const int32_t *page)
{
    for (uint32_t g = 0; g < p->cache->n_groups; g++) if (page[g] >= 0) cache_drop(p->cache, g, page[g]);
}

/* A page of each of these groups; of a window, or none. */
static bool take_pages(struct prefix *p, uint32_t groups, int32_t *page)
{
    bool all = true;
    for (uint32_t g = 0; g < p->cache->n_groups; g++) {
        page[g] = PREFIX_NONE;
        if (!(groups >> g & 1)) continue;
        while (!p->cache->group[g].n_free && prefix_evict(p, g)) continue;
        page[g] = cache_take(p->cache, g);
        all &= page[g] >= 0 || p->cache->group[g].layers->kind == GROUP_WINDOW;
    }
    if (!all) drop_pages(p, page);
    return all;
}

/* from: the bytes of the groups' pages, of which page[] has some. */
static bool fill_pages(struct prefix *p, uint32_t groups, const int32_t *page, const unsigned char *from)
{
    for (uint32_t g = 0; g < p->cache->n_groups; g++) {
        if (!(groups >> g & 1)) continue;
        if (page[g] >= 0 &&
            p->cache->backend->page_write(p->cache->program, g, page[g], from, NULL) != STRETTO_OK) return false;
        from += p->page_bytes[g];
    }
    return true;
}

/* The node gets those of the pages that are wanted and that it lacks; whether there are any. */
static bool fill_gap(struct prefix *p, int32_t node, uint32_t wanted, uint32_t groups, const unsigned char *bytes)
{
    int32_t page[GRAPH_GROUPS];
    bool some = false;
    if (!take_pages(p, wanted & groups & ~prefix_groups(p, node), page)) return false;
    bool well = fill_pages(p, groups, page, bytes);
    for (uint32_t g = 0; g < p->cache->n_groups; g++) {
        if (!well || page[g] < 0) continue;
        prefix_hold(p, node, g, page[g]);
        some = true;
    }
    drop_pages(p, page);               /* the node has its own hold on them */
    return some;
}

/* The full groups must all be there. */
static int32_t make_node(struct prefix *p, int32_t parent, struct prefix_page *x, uint32_t wanted, uint32_t groups,
                         const unsigned char *bytes)
{
    for (uint32_t g = 0; g < p->cache->n_groups; g++)
        if (p->cache->group[g].layers->kind != GROUP_WINDOW && !(groups & wanted & 1U << g)) return PREFIX_NONE;
    if (!take_pages(p, wanted & groups, x->page)) return PREFIX_NONE;
    int32_t node = fill_pages(p, groups, x->page, bytes) ? prefix_insert(p, parent, x) : PREFIX_NONE;
    drop_pages(p, x->page);            /* the node has its own hold on them */
    return node;
}

static bool read_record(struct prefix *p, int32_t record, uint32_t *groups, const void **bytes)
{
    if (disk_read(p->disk, record, groups, bytes, NULL) == STRETTO_OK) return true;
    forget_records(p);
    return false;
}

bool prefix_place(struct prefix *p, struct prefix_seq *s, const int32_t *tokens, const uint8_t *given, uint32_t n,
                  uint32_t groups, const unsigned char *bytes)
{
    uint64_t roles = p->roles || s->by_role ? prefix_roles(given, n) : ~(uint64_t)0;
    uint64_t salt = prefix_salt(p, s, s->node, prefix_roles(given, n), n);
    struct prefix_page x = { .tokens = tokens, .salt = salt, .owner = s->owner, .n = n, .roles = roles,
                             .record = PREFIX_NONE };
    int32_t node = PREFIX_NONE;
    if (n < PAGE_SLOTS) {
        if (prefix_part(p, s, tokens, roles, n, groups) >= 0) return true;
        node = prefix_part(p, s, tokens, roles, n, 0);
        if (node >= 0 && p->node[node].n_tokens > n) node = PREFIX_NONE;
    } else {
        x.text = prefix_text(p->node[s->node].text, tokens);
        node = prefix_child(p, s->node, salt, x.text, tokens, roles);
        if (node < 0 && p->disk) x.record = prefix_record(p, s->node, salt, tokens, roles);
    }
    if (node >= 0) fill_gap(p, node, groups, groups, bytes);
    else node = make_node(p, s->node, &x, groups, groups, bytes);
    if (node >= 0 && n == PAGE_SLOTS) prefix_step(p, s, node);
    return node >= 0;
}

/* Groups whose page `i` a text of `end` pages keeps. */
static uint32_t wants(const struct prefix *p, uint32_t i, uint32_t end)
{
    uint32_t groups = 0;
    for (uint32_t g = 0; g < p->cache->n_groups; g++)
        groups |= (uint32_t)(i >= cache_first_kept(p->cache->group[g].layers, end * PAGE_SLOTS)) << g;
    return groups;
}

/* The first page of which a window is among them. */
static uint32_t first_wanted(const struct prefix *p, uint32_t end)
{
    uint32_t first = end;
    for (uint32_t g = 0; g < p->cache->n_groups; g++) {
        const struct layer_group *x = p->cache->group[g].layers;
        uint32_t kept = cache_first_kept(x, end * PAGE_SLOTS);
        if (x->kind == GROUP_WINDOW && kept < first) first = kept;
    }
    return first;
}

/* Up to which page a text can be taken over, as pages become known from the root on. */
struct ends { uint32_t n, best, gap[GRAPH_GROUPS]; };

static void next_page(const struct prefix *p, uint32_t groups, struct ends *e)
{
    bool can_end = true;
    e->n++;
    for (uint32_t g = 0; g < p->cache->n_groups; g++) {
        if (!(groups >> g & 1)) e->gap[g] = e->n;
        can_end &= cache_first_seen(p->cache->group[g].layers, e->n * PAGE_SLOTS) >= e->gap[g];
    }
    if (can_end) e->best = e->n;
}

static uint32_t record_groups(const struct prefix *p, int32_t record)
{
    return disk_has(p->disk, record) ? disk_groups_of(p->disk, record) : 0;
}

/* The record of the text's next page behind a way, in the text's roles or others. */
static int32_t find_record(const struct prefix *p, const struct prefix_seq *s, const unsigned char *way,
                           const int32_t *tokens, const uint8_t *given, uint32_t at)
{
    return disk_find(p->disk, way, tokens + at, p->roles ? prefix_roles(given + at, PAGE_SLOTS) : 0, s->exact);
}

static void set_goal(struct prefix *p, struct prefix_seq *s, int32_t node, uint32_t end)
{
    s->goal = (struct prefix_goal){ node, node >= 0 ? p->node[node].born : 0, end };
}

/* How far the text can be taken over with what the disk has, where that is further than without. */
static void find_goal(struct prefix *p, struct prefix_seq *s, const int32_t *tokens, const uint8_t *given, uint32_t n)
{
    unsigned char way[DISK_DIGEST];
    struct prefix_found f;
    struct ends e = { 0 };
    prefix_find(p, s, tokens, given, n, &f);
    uint32_t depth = p->node[f.deepest].depth;
    for (int32_t node = f.deepest; node > PREFIX_ROOT; node = p->node[node].parent)
        p->way[p->node[node].depth - 1] = node;
    while (e.n < depth)
        next_page(p, prefix_groups(p, p->way[e.n]) | record_groups(p, p->node[p->way[e.n]].record), &e);
    uint64_t before = f.deepest == PREFIX_ROOT ? s->salt : p->node[f.deepest].salt;
    for (bool first = true; (e.n + 1) * PAGE_SLOTS <= n; first = false) {
        uint64_t salt = prefix_salt_behind(s, before, prefix_roles(given + e.n * PAGE_SLOTS, PAGE_SLOTS), PAGE_SLOTS);
        if (first && !way_to(p, f.deepest, salt, way)) break;
        if (!first && salt != before) disk_turn(way, salt);
        int32_t record = find_record(p, s, way, tokens, given, e.n * PAGE_SLOTS);
        if (!disk_has(p->disk, record)) break;
        next_page(p, disk_groups_of(p->disk, record), &e);
        for (size_t i = 0; i < DISK_DIGEST; i++) way[i] = disk_way_of(p->disk, record)[i];
        before = salt;
    }
    uint32_t known = e.best < depth ? e.best : depth;
    set_goal(p, s, e.best <= p->node[f.node].depth ? PREFIX_NONE : known ? p->way[known - 1] : PREFIX_ROOT, e.best);
}

static bool goal_stands(const struct prefix *p, const struct prefix_seq *s)
{
    return s->goal.node >= 0 && p->node[s->goal.node].born == s->goal.born;
}

/* Of the way to a node, windows' pages that the goal sees and only the disk has; those that are here are used now. */
static uint32_t fill_gaps(struct prefix *p, int32_t last, uint32_t end, uint32_t most)
{
    const void *bytes;
    uint32_t n = 0, groups, first = first_wanted(p, end);
    for (int32_t node = last; p->node[node].depth > first; node = p->node[node].parent)
        for (uint32_t g = 0; g < p->cache->n_groups; g++)
            if (wants(p, p->node[node].depth - 1, end) >> g & 1) prefix_use(p, node, g);
    for (int32_t node = last; p->node[node].depth > first && n < most; node = p->node[node].parent) {
        uint32_t lacks = wants(p, p->node[node].depth - 1, end) & ~prefix_groups(p, node);
        int32_t record = p->node[node].record;
        if (lacks & record_groups(p, record) && read_record(p, record, &groups, &bytes))
            n += fill_gap(p, node, lacks, groups, bytes);
    }
    return n;
}

/* The text's next page behind the sequence, from disk. */
static bool go_on(struct prefix *p, struct prefix_seq *s, const int32_t *tokens, const uint8_t *given)
{
    unsigned char way[DISK_DIGEST];
    const void *bytes;
    uint32_t groups, i = p->node[s->node].depth;
    uint64_t roles = prefix_roles(given + i * PAGE_SLOTS, PAGE_SLOTS);
    uint64_t salt = prefix_salt(p, s, s->node, roles, PAGE_SLOTS);
    if (!way_to(p, s->node, salt, way)) return false;
    int32_t record = find_record(p, s, way, tokens, given, i * PAGE_SLOTS);
    if (!disk_has(p->disk, record) || !read_record(p, record, &groups, &bytes)) return false;
    if (p->roles) roles = disk_roles_of(p->disk, record);
    else if (!s->by_role) roles = ~(uint64_t)0;
    struct prefix_page x = { .tokens = tokens + i * PAGE_SLOTS, .salt = salt, .owner = s->owner, .n = PAGE_SLOTS,
                             .record = record, .roles = roles };
    x.text = prefix_text(p->node[s->node].text, x.tokens);
    int32_t node = prefix_child(p, s->node, salt, x.text, x.tokens, x.roles);
    if (node >= 0) fill_gap(p, node, wants(p, i, s->goal.end), groups, bytes);   /* another text brought it meanwhile */
    else node = make_node(p, s->node, &x, wants(p, i, s->goal.end), groups, bytes);
    if (node >= 0) prefix_step(p, s, node);
    return node >= 0;
}

uint32_t prefix_restore(struct prefix *p, struct prefix_seq *s, const int32_t *tokens, const uint8_t *given, uint32_t n,
                        uint32_t most)
{
    int32_t own = s->node;
    if (!p->disk || p->off) return 0;
    if (!goal_stands(p, s)) find_goal(p, s, tokens, given, n);
    if (s->goal.node < 0) return 0;
    prefix_lock(p, own);               /* it comes back */
    prefix_move(p, s, s->goal.node);
    uint32_t restored = fill_gaps(p, s->node, s->goal.end, most);
    while (restored < most && p->node[s->node].depth < s->goal.end && go_on(p, s, tokens, given)) restored++;
    set_goal(p, s, restored ? s->node : PREFIX_NONE, s->goal.end);
    prefix_move(p, s, own);
    prefix_unlock(p, own);
    p->counts.restored += restored;
    return restored;
}

/* ---- saving ----------------------------------------------------------------------------------- */

static bool save(struct prefix *p, int32_t node)
{
    struct prefix_node *x = &p->node[node];
    unsigned char way[DISK_DIGEST], *to = disk_place(p->disk);
    uint32_t groups = 0;
    if (disk_room(p->disk)) forget_records(p);
    if (!way_to(p, x->parent, x->salt, way)) return false;
    for (uint32_t g = 0; g < p->cache->n_groups; g++) {
        if (x->page[g] < 0) continue;
        if (p->cache->backend->page_read(p->cache->program, g, x->page[g], to, NULL) != STRETTO_OK) return false;
        to += p->page_bytes[g];
        groups |= 1U << g;
    }
    struct disk_page page = { .before = way, .tokens = x->tokens, .roles = p->roles ? x->roles : 0, .depth = x->depth,
                              .groups = groups };
    int32_t record = groups ? disk_append(p->disk, &page) : PREFIX_NONE;
    if (record < 0) return false;
    x->record = record;
    p->counts.saved++;
    return true;
}

static bool may_save(const struct prefix *p, uint32_t i, uint32_t hits)
{
    const struct prefix_node *x = &p->node[i];
    if (x->n_tokens != PAGE_SLOTS || x->hits < hits) return false;
    if (x->record >= 0) {              /* a window's page that came since */
        uint32_t has = prefix_groups(p, (int32_t)i), had = record_groups(p, x->record);
        if (had & ~has || has == had) return false;
    }
    return x->parent == PREFIX_ROOT || p->node[x->parent].record >= 0;
}

/* Round and round: a node's turn comes when its parent has a record. */
uint32_t prefix_save(struct prefix *p, uint32_t hits, uint32_t most)
{
    uint32_t saved = 0, looks = hits && p->top > 1000 ? 1000 : p->top;
    struct disk_state state;
    if (!p->disk) return 0;
    for (uint32_t idle = 0; idle <= looks && saved < most; idle++) {
        if (++p->save_at >= p->top) p->save_at = 1;
        if (p->save_at >= p->top || !may_save(p, p->save_at, hits)) continue;
        disk_look(p->disk, &state);
        if (state.off) break;
        if (!save(p, (int32_t)p->save_at)) continue;
        saved++;
        idle = 0;
    }
    return saved;
}
