#include "decode/tree.h"
#include <string.h>

void tree_plan(struct guess_tree *d, struct arena *a)
{
    d->node = arena_take(a, TREE_NODES * sizeof *d->node);
}

void tree_clear(struct guess_tree *d, uint32_t deepest)
{
    d->n = d->n_sent = 0;
    d->first = -1;
    d->deepest = deepest;
}

int32_t tree_find(const struct guess_tree *d, int32_t parent, int32_t token)
{
    for (int32_t i = parent < 0 ? d->first : d->node[parent].child; i >= 0; i = d->node[i].sibling)
        if (d->node[i].token == token) return i;
    return TREE_FULL;
}

int32_t tree_add(struct guess_tree *d, int32_t parent, int32_t token, unsigned strategy, unsigned bucket,
                  float p)
{
    uint32_t depth = parent < 0 ? 1 : d->node[parent].depth + 1;
    int32_t i = tree_find(d, parent, token);
    if (i < 0) {
        if (d->n == TREE_NODES || depth > d->deepest) return TREE_FULL;
        i = (int32_t)d->n++;
        int32_t *head = parent < 0 ? &d->first : &d->node[parent].child;
        d->node[i] = (struct guess_node){.token = token, .parent = parent, .child = -1,
                                         .sibling = *head, .p = p, .depth = depth, .answer = -1};
        *head = i;
    }
    struct guess_node *n = &d->node[i];
    if (!(n->strategies >> strategy & 1) || p > n->p) n->bucket_of[strategy] = (uint8_t)bucket;
    n->strategies |= 1u << strategy;
    if (p > n->p) n->p = p;
    return i;
}

/* Children have higher indices than their parents, so one pass in order is enough. */
void tree_weigh(struct guess_tree *d)
{
    float sum[TREE_NODES], root = 0;
    memset(sum, 0, d->n * sizeof *sum);
    for (uint32_t i = 0; i < d->n; i++) {
        const struct guess_node *n = &d->node[i];
        if (n->parent < 0) root += n->p;
        else sum[n->parent] += n->p;
    }
    for (uint32_t i = 0; i < d->n; i++) {
        struct guess_node *n = &d->node[i];
        float all = n->parent < 0 ? root : sum[n->parent];
        float above = n->parent < 0 ? 1 : d->node[n->parent].path;
        n->path = above * (all > 1 ? n->p / all : n->p);
    }
}

/* Whether node a goes before node b: the better path, then the earlier (an ancestor is earlier). */
static bool before(const struct guess_tree *d, int32_t a, int32_t b)
{
    float x = d->node[a].path, y = d->node[b].path;
    return x > y || (x == y && a < b);
}

/* The best n nodes in order of path, all or those that are not wanted; returns how many there are. */
static uint32_t best_nodes(const struct guess_tree *d, int32_t *list, uint32_t n, bool all)
{
    uint32_t k = 0;
    for (uint32_t i = 0; i < d->n; i++) {
        if (!all && d->node[i].wanted) continue;
        if (k == n && (n == 0 || !before(d, (int32_t)i, list[k - 1]))) continue;
        uint32_t at = k < n ? k++ : k - 1;
        while (at && before(d, (int32_t)i, list[at - 1])) {
            list[at] = list[at - 1];
            at--;
        }
        list[at] = (int32_t)i;
    }
    return k;
}

static uint32_t gains(const struct guess_tree *d, float *path, uint32_t n, bool all)
{
    int32_t list[TREE_NODES];
    uint32_t k = best_nodes(d, list, n < TREE_NODES ? n : TREE_NODES, all);
    for (uint32_t i = 0; i < k; i++) path[i] = d->node[list[i]].path;
    return k;
}

uint32_t tree_gains(const struct guess_tree *d, float *path, uint32_t n) { return gains(d, path, n, true); }

uint32_t tree_gains_beside(const struct guess_tree *d, float *path, uint32_t n) { return gains(d, path, n, false); }

/* Marks the node and its ancestors; false, with nothing marked, when that passes the limit. */
static bool mark(const struct guess_tree *d, int32_t node, bool *chosen, uint32_t *n, uint32_t most)
{
    uint32_t need = 0;
    for (int32_t i = node; i >= 0 && !chosen[i]; i = d->node[i].parent) need++;
    if (*n + need > most) return false;
    *n += need;
    for (int32_t i = node; i >= 0 && !chosen[i]; i = d->node[i].parent) chosen[i] = true;
    return true;
}

/* The chosen child that goes first; -1 when there is none, or none behind `after`. */
static int32_t next_child(const struct guess_tree *d, int32_t first, const bool *chosen, int32_t after)
{
    int32_t best = -1;
    for (int32_t i = first; i >= 0; i = d->node[i].sibling)
        if (chosen[i] && (after < 0 || before(d, after, i)) && (best < 0 || before(d, i, best)))
            best = i;
    return best;
}

uint32_t tree_select(struct guess_tree *d, uint32_t n)
{
    bool chosen[TREE_NODES] = { false };
    int32_t list[TREE_NODES];
    uint32_t k = 0, all = best_nodes(d, list, TREE_NODES, true);
    if (n > TREE_ROWS) n = TREE_ROWS;
    for (uint32_t i = 0; i < all; i++) if (d->node[list[i]].wanted) mark(d, list[i], chosen, &k, n);
    for (uint32_t i = 0; i < all && k < n; i++) mark(d, list[i], chosen, &k, n);
    for (uint32_t i = 0; i < d->n; i++) d->node[i].row = 0;
    d->n_sent = 0;
    for (int32_t at = next_child(d, d->first, chosen, -1); at >= 0;) {
        d->order[d->n_sent++] = at;
        d->node[at].row = (int32_t)d->n_sent;
        int32_t next = next_child(d, d->node[at].child, chosen, -1);
        while (next < 0 && at >= 0) {
            int32_t parent = d->node[at].parent;
            next = next_child(d, parent < 0 ? d->first : d->node[parent].child, chosen, at);
            at = parent;
        }
        at = next;
    }
    return d->n_sent;
}
