#include "compress/places.h"
#include "base/memory.h"

static size_t uses_of_value(const struct graph *g, int32_t value)
{
    size_t n = (size_t)(g->hidden == value) + (size_t)(g->logits == value);
    for (size_t i = 0; i < g->n_nodes; i++)
        for (uint32_t k = 0; k < g->nodes[i].in.count; k++) n += node_in(g, &g->nodes[i], k) == value;
    return n;
}

static size_t uses_of_param(const struct graph *g, int32_t param)
{
    size_t n = 0;
    for (size_t i = 0; i < g->n_nodes; i++)
        for (uint32_t k = 0; k < g->nodes[i].param.count; k++) n += node_param(g, &g->nodes[i], k) == param;
    return n;
}

const struct graph_node *place_reader(const struct graph *g, const struct place *p, size_t *at)
{
    while (*at < g->n_nodes) {
        const struct graph_node *n = &g->nodes[(*at)++];
        if (n->op == OP_LINEAR && node_in(g, n, 0) == p->value) return n;
    }
    return NULL;
}

/* The linear layer that makes a value nobody else reads; NULL: there is none. */
static const struct graph_node *linear_alone(const struct graph *g, int32_t value)
{
    const struct graph_node *n = &g->nodes[g->values[value].made_by];
    return n->op == OP_LINEAR && uses_of_value(g, value) == 1 ? n : NULL;
}

/* Who makes the value, of those who pass factors on; NULL: nobody. */
static const struct graph_node *maker_of(const struct graph *g, struct place *p)
{
    const struct graph_node *n = &g->nodes[g->values[p->value].made_by], *from;
    p->kind = PLACE_LINEAR;
    switch (n->op) {
    case OP_LINEAR: return n;
    case OP_NORM:
        p->kind = PLACE_NORM;
        return n->norm.head_dim ? NULL : n;
    case OP_MUL:
        from = linear_alone(g, node_in(g, n, 0));
        return from ? from : linear_alone(g, node_in(g, n, 1));
    case OP_ATTENTION:
        p->kind = PLACE_VALUES;
        p->head_dim = n->attention.head_dim;
        p->sharing = n->attention.heads / n->attention.kv_heads;
        return linear_alone(g, node_in(g, n, 2));
    default: return NULL;
    }
}

static const char *find_place(const struct graph *g, struct place *p)
{
    size_t at = 0, readers = 0;
    for (const struct graph_node *r; (r = place_reader(g, p, &at)) != NULL; readers++)
        if (uses_of_param(g, node_param(g, r, 0)) > 1) return "a weight that reads it stands elsewhere too";
    if (readers > PLACE_READERS) return "too many layers read it";
    if (uses_of_value(g, p->value) > readers) return "others than linear layers read it too";
    const struct graph_node *maker = maker_of(g, p);
    if (!maker) return "what makes it passes no factors on";
    p->weight = node_param(g, maker, 0);
    p->bias = node_param(g, maker, 1);
    p->channels = p->kind == PLACE_NORM ? p->width : g->params[p->weight].n_out;
    if (uses_of_param(g, p->weight) > 1) return "the weight that makes it stands elsewhere too";
    if (p->bias != GRAPH_NONE && uses_of_param(g, p->bias) > 1) return "the bias that makes it stands elsewhere too";
    return NULL;
}

stretto_status places_find(struct place **out, size_t *n, const struct graph *g, struct error *err)
{
    *n = 0;
    *out = mem_alloc((g->n_values + 1) * sizeof **out);
    if (!*out) return fail(err, STRETTO_E_NOMEM, "out of memory");
    for (size_t v = 0; v < g->n_values; v++) {
        struct place p = { .value = (int32_t)v, .weight = GRAPH_NONE, .bias = GRAPH_NONE,
                           .width = g->values[v].width };
        size_t at = 0;
        const struct graph_node *reader = place_reader(g, &p, &at);
        if (!reader) continue;
        p.layer = reader->layer;
        p.why = find_place(g, &p);
        (*out)[(*n)++] = p;
    }
    return STRETTO_OK;
}
