/* Who is given up first where several have something: a heap for each owner's unlocked leaves, the least recently used
 * at its top (pairing heaps: Fredman, Sedgewick, Sleator, Tarjan 1986), so nobody's long list is walked to find
 * another's end. A leaf is added and dropped in O(log n) on average over many; who is rich is a look at every owner.
 *
 * Links of a top are PREFIX_NONE. */
#include "cache/prefix_int.h"

static int32_t *top_of(struct prefix *p, int32_t node)
{
    return &p->owner[p->node[node].owner].oldest[p->node[node].is_protected];
}

static int32_t meld(struct prefix *p, int32_t a, int32_t b)
{
    if (a < 0 || b < 0) return a < 0 ? b : a;
    p->counts.looked++;
    int32_t top = p->node[a].used_at < p->node[b].used_at ? a : b, under = top == a ? b : a;
    struct prefix_age *t = &p->node[top].age, *u = &p->node[under].age;
    *u = (struct prefix_age){ u->child, t->child, top };
    if (t->child >= 0) p->node[t->child].age.prev = under;
    t->child = under;
    return top;
}

/* Neighbours by twos from the front, then those from the back. */
static int32_t meld_all(struct prefix *p, int32_t first)
{
    int32_t twos = PREFIX_NONE, all = PREFIX_NONE;
    while (first >= 0) {
        int32_t a = first, b = p->node[a].age.next;
        first = b >= 0 ? p->node[b].age.next : PREFIX_NONE;
        p->node[a].age.next = p->node[a].age.prev = PREFIX_NONE;
        if (b >= 0) p->node[b].age.next = p->node[b].age.prev = PREFIX_NONE;
        a = meld(p, a, b);
        p->node[a].age.next = twos;
        twos = a;
    }
    while (twos >= 0) {
        int32_t next = p->node[twos].age.next;
        p->node[twos].age.next = PREFIX_NONE;
        all = meld(p, all, twos);
        twos = next;
    }
    return all;
}

void prefix_age_add(struct prefix *p, int32_t node)
{
    int32_t *top = top_of(p, node);
    p->node[node].age = (struct prefix_age){ PREFIX_NONE, PREFIX_NONE, PREFIX_NONE };
    *top = meld(p, *top, node);
}

void prefix_age_drop(struct prefix *p, int32_t node)
{
    int32_t *top = top_of(p, node);
    const struct prefix_age *x = &p->node[node].age;
    if (x->next >= 0) p->node[x->next].age.prev = x->prev;
    if (x->prev >= 0) {
        struct prefix_age *before = &p->node[x->prev].age;
        *(before->child == node ? &before->child : &before->next) = x->next;
    } else *top = PREFIX_NONE;
    *top = meld(p, *top, meld_all(p, x->child));
}

int32_t prefix_age_rich(struct prefix *p)
{
    uint32_t most = p->n_nodes / p->n_owners;
    for (int k = 0; k < 2; k++) {
        int32_t first = PREFIX_NONE;
        for (const struct prefix_owner *o = p->owner; o < p->owner + PREFIX_OWNERS; o++) {
            if (o->nodes <= most || o->oldest[k] < 0) continue;
            p->counts.looked++;
            if (first < 0 || p->node[o->oldest[k]].used_at < p->node[first].used_at) first = o->oldest[k];
        }
        if (first >= 0) return first;
    }
    return PREFIX_NONE;
}
