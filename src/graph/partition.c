/* Where a graph can be cut follows from the lives of its values: a value lives from the node that makes it to
 * the last that reads it, an answer to the end. Between two nodes where only one lives, and all of the layers
 * before on one side, the graph falls in two. */
#include "graph/partition.h"
#include "base/memory.h"
#include <string.h>

/* Before which node layers up to `layer` end and the others begin: the least place, *first, and the last, *end.
 * Nodes outside the layers may stand on either side. False where layers stand mixed. */
static bool places_between(const struct graph *g, uint32_t layer, size_t *first, size_t *end)
{
    *first = 0;
    *end = g->n_nodes;
    for (size_t i = g->n_nodes; i-- > 0;)
        if (g->nodes[i].layer >= (int32_t)layer) *end = i;
    for (size_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].layer >= 0 && g->nodes[i].layer < (int32_t)layer) *first = i + 1;
    return *first <= *end;
}

/* What lies before `at` and is needed behind it: nothing, one value, or more. */
struct crossing { int32_t value; bool more; };

static void crosses(struct crossing *c, const struct graph *g, size_t at, int32_t v)
{
    if (v == GRAPH_NONE || g->values[v].made_by >= (int32_t)at || v == c->value) return;
    if (c->value == GRAPH_NONE) c->value = v;
    else c->more = true;
}

static struct crossing crossing_at(const struct graph *g, size_t at)
{
    struct crossing c = { GRAPH_NONE, false };
    crosses(&c, g, at, g->hidden);
    crosses(&c, g, at, g->logits);
    for (size_t i = at; i < g->n_nodes && !c.more; i++)
        for (uint32_t k = 0; k < g->nodes[i].in.count; k++) crosses(&c, g, at, node_in(g, &g->nodes[i], k));
    return c;
}

/* Rows have their tokens in the first part alone. */
static bool looks_up_tokens(const struct graph *g, size_t from)
{
    for (size_t i = from; i < g->n_nodes; i++) {
        const struct graph_node *n = &g->nodes[i];
        if (n->op == OP_EMBED && (n->embed == EMBED_TOKEN || n->embed == EMBED_VECTOR)) return true;
    }
    return false;
}

static bool can_be_cut(const struct graph *g, size_t at, struct crossing c)
{
    return !c.more && c.value != GRAPH_NONE && g->values[c.value].rows == ROWS_ALL
        && !looks_up_tokens(g, at);
}

stretto_status graph_cut_find(const struct graph *g, uint32_t layer, size_t *nodes, int32_t *value,
                              struct error *err)
{
    size_t first, end;
    bool more = true;
    *nodes = layer ? g->n_nodes : 0;
    *value = GRAPH_NONE;
    if (!layer || layer >= g->layers) return STRETTO_OK;
    if (!places_between(g, layer, &first, &end))
        return fail(err, STRETTO_E_UNSUP, "the model cannot be cut before layer %u: its layers stand in no "
                    "order", layer);
    for (size_t at = first; at <= end; at++) {
        struct crossing c = crossing_at(g, at);
        if (can_be_cut(g, at, c)) {
            *nodes = at;
            *value = c.value;
            return STRETTO_OK;
        }
        more &= c.more;
    }
    return fail(err, STRETTO_E_UNSUP, "the model cannot be cut before layer %u: what the layers behind it read "
                "%s", layer, more ? "are several values, not one" : "is not one vector of every row");
}

/* Nodes from .. end, which read `in` of what is before them; `as` says what each value of the whole is here. */
static void copy_nodes(struct graph_builder *b, const struct graph *g, size_t from, size_t end, int32_t in,
                       int32_t *as, uint32_t first_layer)
{
    for (size_t v = 0; v < g->n_values; v++) as[v] = GRAPH_NONE;
    if (in != GRAPH_NONE) as[in] = graph_input(b, g->values[in].width);
    for (size_t i = from; i < end && b->status == STRETTO_OK; i++) {
        const struct graph_node *n = &g->nodes[i];
        b->layer = n->layer < (int32_t)first_layer ? -1 : n->layer - (int32_t)first_layer;
        as[n->out] = graph_repeat(b, g, n, as);
    }
    b->layer = -1;
}

/* The whole's groups in the part: the one of the same shape, if it has one. */
static void number_groups(struct graph_part *p, const struct graph *g)
{
    for (uint32_t i = 0; i < GRAPH_GROUPS; i++) {
        p->group[i] = GRAPH_NONE;
        for (uint32_t k = 0; i < g->n_groups && k < p->graph.n_groups; k++) {
            const struct layer_group *x = &g->group[i], *y = &p->graph.group[k];
            if (x->kind == y->kind && x->kv_heads == y->kv_heads && x->head_dim == y->head_dim &&
                x->window == y->window)
                p->group[i] = (int32_t)k;
        }
    }
}

static void answer(struct graph_builder *b, const struct graph *g, int32_t out, const int32_t *as)
{
    if (b->status != STRETTO_OK) return;
    if (out != GRAPH_NONE) graph_answer(b, graph_ask(b, as[out]), GRAPH_NONE);
    else graph_answer(b, g->hidden == GRAPH_NONE ? GRAPH_NONE : as[g->hidden],
                      g->logits == GRAPH_NONE ? GRAPH_NONE : as[g->logits]);
}

stretto_status graph_cut(struct graph_part *out, const struct graph *g, uint32_t first, uint32_t end,
                         struct error *err)
{
    size_t from, to;
    int32_t in, out_of;
    *out = (struct graph_part){ .first = first, .layers = end - first };
    TRY(graph_cut_find(g, first, &from, &in, err));
    if (end >= g->layers) {
        to = g->n_nodes;
        out_of = GRAPH_NONE;
    } else TRY(graph_cut_find(g, end, &to, &out_of, err));
    int32_t *as = mem_alloc((g->n_values + 1) * sizeof *as);
    if (!as) return fail(err, STRETTO_E_NOMEM, "out of memory");
    struct graph *p = &out->graph;
    *p = (struct graph){ .layers = end - first, .bidirectional = g->bidirectional, .n_rope = g->n_rope };
    memcpy(p->rope, g->rope, sizeof p->rope);
    struct graph_builder b = { .g = p, .err = err, .layer = -1 };
    copy_nodes(&b, g, from, to, in, as, first);
    answer(&b, g, out_of, as);
    number_groups(out, g);
    mem_free(as);
    if (b.status != STRETTO_OK) graph_part_done(out);
    return b.status;
}

void graph_part_done(struct graph_part *p) { graph_done(&p->graph); }
