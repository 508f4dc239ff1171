/* Between the tree and its files: nodes of which there is a record become records, and records nodes. */
#include "cache/disk.h"
#include "cache/prefix_int.h"

/* The digest of the way to a node; false where it has no record, so nothing behind it can have one. */
static bool way_to(const struct prefix *p, int32_t node, uint64_t salt, unsigned char *way)
{
    if (node == PREFIX_ROOT) disk_root(p->disk, salt, way);
    else if (disk_has(p->disk, p->node[node].record))
        for (size_t i = 0; i < DISK_DIGEST; i++) way[i] = disk_way_of(p->disk, p->node[node].record)[i];
    else return false;
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

/* A page of each group that the record has; of a window, or none. */
static bool take_pages(struct prefix *p, uint32_t groups, int32_t *page)
{
    bool all = true;
    for (uint32_t g = 0; g < p->cache->n_groups; g++) {
        bool window = p->cache->group[g].layers->kind == GROUP_WINDOW;
        page[g] = PREFIX_NONE;
        if (!(groups >> g & 1)) {
            all &= window;
            continue;
        }
        while (!p->cache->group[g].n_free && prefix_evict(p, g)) continue;
        page[g] = cache_take(p->cache, g);
        all &= window || page[g] >= 0;
    }
    if (!all) drop_pages(p, page);
    return all;
}

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

/* The node behind `parent`, which is locked, that the record makes; PREFIX_NONE. */
static int32_t restore(struct prefix *p, int32_t parent, const struct prefix_seq *s, const int32_t *tokens,
                       int32_t record)
{
    struct prefix_page x = { .tokens = tokens, .salt = s->salt, .owner = s->owner, .n = PAGE_SLOTS, .record = record,
                             .roles = p->roles ? disk_roles_of(p->disk, record) : ~(uint64_t)0 };
    const void *bytes;
    uint32_t groups;
    if (disk_read(p->disk, record, &groups, &bytes, NULL) != STRETTO_OK) {
        forget_records(p);
        return PREFIX_NONE;
    }
    if (!take_pages(p, groups, x.page)) return PREFIX_NONE;
    x.text = prefix_text(p->node[parent].text, tokens);
    int32_t node = fill_pages(p, groups, x.page, bytes) ? prefix_insert(p, parent, &x) : PREFIX_NONE;
    drop_pages(p, x.page);             /* the node has its own hold on them */
    return node;
}

bool prefix_place(struct prefix *p, struct prefix_seq *s, const int32_t *tokens, const uint8_t *given, uint32_t n,
                  uint32_t groups, const unsigned char *bytes)
{
    uint64_t roles = p->roles ? prefix_roles(given, n) : ~(uint64_t)0;
    struct prefix_page x = { .tokens = tokens, .salt = s->salt, .owner = s->owner, .n = n, .roles = roles,
                             .record = PREFIX_NONE };
    if (n == PAGE_SLOTS) x.text = prefix_text(p->node[s->node].text, tokens);
    int32_t node = n < PAGE_SLOTS ? PREFIX_NONE : prefix_child(p, s->node, s->salt, x.text, tokens, roles);
    if (node < 0) {
        if (!take_pages(p, groups, x.page)) return false;
        if (fill_pages(p, groups, x.page, bytes)) node = prefix_insert(p, s->node, &x);
        drop_pages(p, x.page);         /* the node has its own hold on them */
    }
    if (node >= 0 && n == PAGE_SLOTS) prefix_step(p, s, node);
    return node >= 0;
}

uint32_t prefix_restore(struct prefix *p, struct prefix_seq *s, const int32_t *tokens, const uint8_t *given, uint32_t n,
                        int32_t node, uint32_t most)
{
    unsigned char way[DISK_DIGEST];
    uint32_t restored = 0;
    int32_t own = s->node;
    if (!p->disk || p->off) return 0;
    prefix_lock(p, own);               /* it comes back */
    prefix_move(p, s, node);
    for (uint32_t at; (at = p->node[s->node].depth * PAGE_SLOTS) + PAGE_SLOTS <= n && restored < most;
         restored++) {
        uint64_t roles = p->roles ? prefix_roles(given + at, PAGE_SLOTS) : 0;
        if (!way_to(p, s->node, s->salt, way)) break;
        int32_t record = disk_find(p->disk, way, tokens + at, roles, s->exact);
        int32_t next = record < 0 ? PREFIX_NONE : restore(p, s->node, s, tokens + at, record);
        if (next < 0) break;
        prefix_step(p, s, next);
    }
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
    x->record = groups ? disk_append(p->disk, &page) : PREFIX_NONE;
    p->counts.saved += x->record >= 0;
    return x->record >= 0;
}

static bool may_save(const struct prefix *p, uint32_t i, uint32_t hits)
{
    const struct prefix_node *x = &p->node[i];
    if (x->n_tokens != PAGE_SLOTS || x->record >= 0 || x->hits < hits) return false;
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
