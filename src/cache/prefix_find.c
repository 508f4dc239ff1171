/* How much of a text is there: down the tree page by page, keeping those ways that hold the same tokens in other
 * roles beside each other, and then the best beginning of one more page. */
#include "cache/prefix_int.h"
#include "base/hash.h"
#include <string.h>

uint64_t prefix_key(uint64_t text, uint64_t salt) { return random_mix(text ^ random_mix(salt)); }

uint64_t prefix_text(uint64_t before, const int32_t *page)
{
    return hash_bytes(before, page, PAGE_SLOTS * sizeof *page);
}

uint64_t prefix_roles(const uint8_t *given, uint32_t n)
{
    uint64_t bits = 0;
    for (uint32_t i = 0; i < n; i++) bits |= (uint64_t)(given[i] != 0) << i;
    return bits;
}

uint64_t prefix_salt(const struct prefix *p, const struct prefix_seq *s, int32_t parent, uint64_t roles, uint32_t n)
{
    return prefix_salt_behind(s, parent == PREFIX_ROOT ? s->salt : p->node[parent].salt, roles, n);
}

uint64_t prefix_salt_behind(const struct prefix_seq *s, uint64_t before, uint64_t roles, uint32_t n)
{
    uint64_t all = n < PAGE_SLOTS ? ((uint64_t)1 << n) - 1 : ~(uint64_t)0;
    if (!s->adapts) return s->salt;
    bool acts = (s->adapts & ADAPTS_GIVEN && roles & all) || (s->adapts & ADAPTS_WRITTEN && ~roles & all);
    if (!acts && before == s->salt) return s->salt;
    return s->by_role ? random_mix(s->adapted ^ random_mix((roles & all) + n)) : s->adapted;
}

uint32_t prefix_alike(const struct prefix *p, const struct prefix_node *x, const int32_t *tokens, uint64_t roles,
                      bool exact)
{
    uint32_t n = 0;
    uint64_t differ = exact && p->roles ? x->roles ^ roles : 0;
    while (n < x->n_tokens && x->tokens[n] == tokens[n] && !(differ >> n & 1)) n++;
    return n;
}

static bool is_page(const struct prefix_node *x, int32_t parent, uint64_t salt, const int32_t *tokens)
{
    return x->parent == parent && x->salt == salt && !memcmp(x->tokens, tokens, sizeof x->tokens);
}

int32_t prefix_child(const struct prefix *p, int32_t parent, uint64_t salt, uint64_t text, const int32_t *tokens,
                     uint64_t roles)
{
    int32_t node = p->bucket[prefix_key(text, salt) & (p->buckets - 1)];
    for (; node >= 0; node = p->node[node].same)
        if (is_page(&p->node[node], parent, salt, tokens) && (!p->roles || p->node[node].roles == roles)) return node;
    return PREFIX_NONE;
}

/* ---- full pages ------------------------------------------------------------------------------ */

enum { WAYS = 4 };

struct way { int32_t node; uint32_t unlike, gap[GRAPH_GROUPS]; };   /* gap: pages up to the last that is missing */

struct search {
    const struct prefix *p;
    const struct prefix_seq *s;
    const int32_t *tokens;
    const uint8_t *given;
    uint32_t n;
    struct way *way, *next, best;      /* [WAYS] */
    uint32_t n_ways, n_next, depth;    /* depth: of `way` */
    bool other_roles, any_roles;       /* were passed over, of the page behind `way`; of some page */
};

/* Whether all that a row at position n would see of n tokens' pages is there. */
static bool can_end(const struct search *x, const struct way *w, uint32_t n)
{
    for (uint32_t g = 0; g < x->p->cache->n_groups; g++)
        if (cache_first_seen(x->p->cache->group[g].layers, n) < w->gap[g]) return false;
    return true;
}

static void add_way(struct search *x, const struct way *from, int32_t node, uint32_t unlike)
{
    struct way w = *from;
    w.node = node;
    w.unlike += unlike;
    for (uint32_t g = 0; g < x->p->cache->n_groups; g++)
        if (x->p->node[node].page[g] < 0) w.gap[g] = x->depth + 1;
    if (x->n_next < WAYS) {
        x->next[x->n_next++] = w;
        return;
    }
    struct way *worst = x->next;
    for (struct way *k = x->next; k < x->next + WAYS; k++) if (k->unlike > worst->unlike) worst = k;
    if (w.unlike < worst->unlike) *worst = w;
}

static void better(struct search *x, const struct way *w)
{
    if (x->p->node[x->best.node].depth < x->depth || w->unlike < x->best.unlike) x->best = *w;
}

/* One page further on all ways. */
static bool descend(struct search *x, uint64_t text)
{
    const struct prefix *p = x->p;
    const int32_t *tokens = x->tokens + x->depth * PAGE_SLOTS;
    uint64_t roles = prefix_roles(x->given + x->depth * PAGE_SLOTS, PAGE_SLOTS);
    x->n_next = 0;
    x->other_roles = false;
    for (uint32_t i = 0; i < x->n_ways; i++) {
        uint64_t salt = prefix_salt(p, x->s, x->way[i].node, roles, PAGE_SLOTS);
        int32_t node = p->bucket[prefix_key(text, salt) & (p->buckets - 1)];
        for (; node >= 0; node = p->node[node].same) {
            if (!is_page(&p->node[node], x->way[i].node, salt, tokens)) continue;
            bool unlike = p->roles && p->node[node].roles != roles;
            if (unlike && x->s->exact) x->other_roles = x->any_roles = true;
            else add_way(x, &x->way[i], node, unlike);
        }
    }
    if (!x->n_next) return false;
    struct way *old = x->way;
    x->way = x->next;
    x->next = old;
    x->n_ways = x->n_next;
    x->depth++;
    for (uint32_t i = 0; i < x->n_ways; i++)
        if (can_end(x, &x->way[i], x->depth * PAGE_SLOTS)) better(x, &x->way[i]);
    return true;
}

/* ---- a part of a page ------------------------------------------------------------------------ */

/* The text that goes on most like this one behind the best way. */
struct like { uint32_t n, usable; int32_t had, part; const struct prefix_seq *tail; };

/* `tokens[0..n)` is another text's; it was computed as far as `cached`. */
static void compare(const struct search *x, const int32_t *tokens, uint32_t n, uint32_t in_roles, bool whole,
                    int32_t part, const struct prefix_seq *tail, struct like *l)
{
    uint32_t at = x->p->node[x->best.node].depth * PAGE_SLOTS, most = x->n - at, k = 0;
    while (k < n && k < most && tokens[k] == x->tokens[at + k]) k++;
    if (k > l->n || (k == l->n && l->had < 0)) {
        l->n = k;
        l->had = k < n && k < most ? tokens[k] : -1;
    }
    if (k > in_roles) k = in_roles;
    if (!whole || k < PREFIX_COPY || k <= l->usable || !can_end(x, &x->best, at + k)) return;
    l->usable = k;
    l->part = part;
    l->tail = tail;
}

/* How many of the page's first tokens have rows on which no adapter of the sequence acts. */
static uint32_t bare(const struct prefix_seq *s, const uint8_t *given, uint32_t n)
{
    uint32_t k = 0;
    while (k < n && !(s->adapts & (given[k] ? ADAPTS_GIVEN : ADAPTS_WRITTEN))) k++;
    return k;
}

/* How many of a page's first n tokens could be taken from this one behind the same pages; UINT32_MAX: it is
 * another's. */
static uint32_t alike_in(const struct search *x, const struct prefix_node *c, const uint8_t *given, uint32_t n)
{
    const struct prefix_seq *s = x->s;
    int32_t behind = x->best.node;
    uint32_t k = 0;
    if (c->salt == s->salt && (behind == PREFIX_ROOT || x->p->node[behind].salt == s->salt)) return bare(s, given, n);
    if (!s->adapts || c->salt != prefix_salt(x->p, s, behind, c->roles, c->n_tokens)) return UINT32_MAX;
    while (k < n && (!s->by_role || (c->roles >> k & 1) == given[k])) k++;
    return k;
}

/* The same of the page that another sequence fills. */
static uint32_t alike_to(const struct search *x, const struct prefix_seq *t, const uint8_t *have, const uint8_t *given,
                         uint32_t n)
{
    const struct prefix_seq *s = x->s;
    uint32_t k = 0;
    if (t->salt != s->salt) return UINT32_MAX;
    if (t->adapts != s->adapts || (s->adapts && t->adapted != s->adapted)) {
        uint32_t a = bare(s, given, n), b = bare(t, have, n);
        return a < b ? a : b;
    }
    while (k < n && (!s->by_role || have[k] == given[k])) k++;
    return k;
}

static void look_beside(const struct search *x, struct like *l)
{
    const struct prefix *p = x->p;
    const struct prefix_node *at = &p->node[x->best.node];
    uint32_t first = at->depth * PAGE_SLOTS, n = x->n - first < PAGE_SLOTS ? x->n - first : PAGE_SLOTS;
    uint64_t roles = prefix_roles(x->given + first, n), mask = n < PAGE_SLOTS ? ((uint64_t)1 << n) - 1 : ~(uint64_t)0;
    int32_t node = at->child;
    for (uint32_t looks = 0, seen = 0; node >= 0 && looks < PREFIX_LOOKS && seen < 16 * PREFIX_LOOKS; seen++) {
        const struct prefix_node *c = &p->node[node];
        uint32_t alike = alike_in(x, c, x->given + first, n);
        if (alike != UINT32_MAX) {
            uint64_t differ = x->s->exact && p->roles ? (c->roles ^ roles) & mask : 0;
            uint32_t in_roles = 0;
            bool whole = true;
            while (in_roles < alike && !(differ >> in_roles & 1)) in_roles++;
            for (uint32_t g = 0; g < p->cache->n_groups; g++) whole &= c->page[g] >= 0;
            compare(x, c->tokens, c->n_tokens, in_roles, whole, node, NULL, l);
            looks++;
        }
        node = c->beside.next;
    }
    node = 0;
    for (const struct prefix_seq *t = at->here; t && node < PREFIX_LOOKS; t = t->next, node++) {
        uint32_t have = t->cache->n_tokens > first ? t->cache->n_tokens - first : 0, in_roles = 0;
        uint32_t alike = have > PAGE_SLOTS ? UINT32_MAX
                                           : alike_to(x, t, t->given + first, x->given + first, have < n ? have : n);
        if (t == x->s || alike == UINT32_MAX) continue;
        while (in_roles < alike &&
               !(x->s->exact && p->roles && (t->given[first + in_roles] != 0) != (x->given[first + in_roles] != 0)))
            in_roles++;
        compare(x, t->tokens + first, have, in_roles, true, PREFIX_NONE, t, l);
    }
}

/* ---- why no more ----------------------------------------------------------------------------- */

static enum prefix_cause cause_of(const struct search *x, uint32_t deepest)
{
    if (x->p->node[x->best.node].depth < deepest) return PREFIX_MISS_EVICTED;      /* what a window sees of it */
    if (x->other_roles) return PREFIX_MISS_ROLE;
    if (x->n < (deepest + 1) * PAGE_SLOTS) return PREFIX_MISS_TEXT;
    uint64_t text = 0;
    for (uint32_t i = 0; i <= deepest; i++) text = prefix_text(text, x->tokens + i * PAGE_SLOTS);
    size_t at = text & (x->p->buckets - 1);
    if (x->p->seen[at].text != text) return PREFIX_MISS_TEXT;
    if (x->p->seen[at].salt != x->s->salt && !x->s->adapts) return PREFIX_MISS_SALT;
    return x->any_roles ? PREFIX_MISS_ROLE : PREFIX_MISS_EVICTED;
}

void prefix_find(const struct prefix *p, const struct prefix_seq *s, const int32_t *tokens, const uint8_t *given,
                 uint32_t n, struct prefix_found *out)
{
    *out = (struct prefix_found){ .part = PREFIX_NONE };
    if (p->off) n = 0;
    struct way ways[2][WAYS] = { 0 };
    struct search x = { .p = p, .s = s, .tokens = tokens, .given = given, .n = n, .way = ways[0], .next = ways[1],
                        .n_ways = 1 };
    uint64_t text = 0;
    while ((x.depth + 1) * PAGE_SLOTS <= n) {
        text = prefix_text(text, tokens + x.depth * PAGE_SLOTS);
        if (!descend(&x, text)) break;
    }
    struct like l = { .had = -1, .part = PREFIX_NONE };
    uint32_t full = p->node[x.best.node].depth * PAGE_SLOTS;
    if (full < n) look_beside(&x, &l);
    out->node = x.best.node;
    out->unlike = x.best.unlike;
    out->deepest = x.way[0].node;
    out->n = full + l.usable;
    if (l.usable) {
        out->part = l.part;
        out->tail = l.tail;
    }
    out->miss = (struct prefix_miss){ .asked = n, .matched = out->n, .at = full + l.n, .wanted = -1, .had = -1 };
    if (out->n >= n) return;
    out->miss.cause = cause_of(&x, x.depth);
    out->miss.wanted = full + l.n < n ? tokens[full + l.n] : -1;
    out->miss.had = l.had;
}

bool prefix_has_next(const struct prefix *p, const struct prefix_seq *s, uint32_t n)
{
    uint32_t at = p->node[s->node].depth * PAGE_SLOTS;
    if (p->off || at + PAGE_SLOTS > n || s->cache->n_tokens >= at + PAGE_SLOTS) return false;
    uint64_t text = prefix_text(p->node[s->node].text, s->tokens + at), roles = prefix_roles(s->given + at, PAGE_SLOTS);
    uint64_t salt = prefix_salt(p, s, s->node, roles, PAGE_SLOTS);
    return prefix_child(p, s->node, salt, text, s->tokens + at, roles) >= 0;
}
