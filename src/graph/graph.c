/* Building graphs, with shape inference: a node whose inputs do not fit is refused where it is
 * made. */
#include "graph/graph.h"
#include "base/memory.h"
#include <string.h>

/* Makes room for one more item; the arrays grow by doubling. */
static bool grow(void **items, size_t n, size_t *cap, size_t size)
{
    if (n < *cap) return true;
    size_t want = *cap ? *cap * 2 : 64;
    void *p = mem_resize(*items, want * size);
    if (!p) return false;
    *items = p;
    *cap = want;
    return true;
}

static int32_t refuse(struct graph_builder *b, stretto_status s, const char *what)
{
    if (b->status == STRETTO_OK)
        b->status = fail(b->err, s, "layer %d: %s", b->layer, what);
    return GRAPH_NONE;
}

int32_t graph_param_find(const struct graph *g, const char *name)
{
    for (size_t i = 0; i < g->n_params; i++)
        if (strcmp(g->params[i].name, name) == 0) return (int32_t)i;
    return GRAPH_NONE;
}

static int32_t param(struct graph_builder *b, const char *name, uint32_t n_in, uint32_t n_out)
{
    struct graph *g = b->g;
    if (!name || b->status != STRETTO_OK) return GRAPH_NONE;
    int32_t at = graph_param_find(g, name);
    if (at != GRAPH_NONE) {
        if (g->params[at].n_in != n_in || g->params[at].n_out != n_out)
            return refuse(b, STRETTO_E_FORMAT, "a shared tensor is used with two shapes");
        return at;
    }
    if (strlen(name) >= GRAPH_NAME) return refuse(b, STRETTO_E_FORMAT, "a tensor name is too long");
    if (!grow((void **)&g->params, g->n_params, &g->cap_params, sizeof *g->params))
        return refuse(b, STRETTO_E_NOMEM, "out of memory");
    struct graph_param *p = &g->params[g->n_params];
    *p = (struct graph_param){ .n_in = n_in, .n_out = n_out };
    memcpy(p->name, name, strlen(name) + 1);
    return (int32_t)g->n_params++;
}

static int32_t node(struct graph_builder *b, struct graph_node n, enum rows_kind rows,
                    uint32_t width)
{
    struct graph *g = b->g;
    if (b->status != STRETTO_OK) return GRAPH_NONE;
    if (!grow((void **)&g->nodes, g->n_nodes, &g->cap_nodes, sizeof *g->nodes)
        || !grow((void **)&g->values, g->n_values, &g->cap_values, sizeof *g->values))
        return refuse(b, STRETTO_E_NOMEM, "out of memory");
    n.layer = b->layer;
    n.out = (int32_t)g->n_values;
    g->values[g->n_values++] = (struct graph_value){ rows, width, (int32_t)g->n_nodes };
    g->nodes[g->n_nodes++] = n;
    return n.out;
}

static const struct graph_value *value(struct graph_builder *b, int32_t v)
{
    return b->status == STRETTO_OK && v >= 0 && (size_t)v < b->g->n_values ? &b->g->values[v]
                                                                           : NULL;
}

#define NODE(kind, ...) \
    (struct graph_node){ .op = kind, .in = { __VA_ARGS__ }, .param = { GRAPH_NONE, GRAPH_NONE } }

int32_t graph_embed(struct graph_builder *b, const char *name, uint32_t rows, uint32_t width,
                    enum embed_index index)
{
    struct graph_node n = NODE(OP_EMBED, GRAPH_NONE, GRAPH_NONE, GRAPH_NONE);
    n.param[0] = param(b, name, width, rows);
    n.embed = index;
    return node(b, n, ROWS_ALL, width);
}

int32_t graph_linear(struct graph_builder *b, int32_t x, const char *weight, const char *bias,
                     uint32_t n_out)
{
    const struct graph_value *v = value(b, x);
    if (!v) return GRAPH_NONE;
    struct graph_node n = NODE(OP_LINEAR, x, GRAPH_NONE, GRAPH_NONE);
    n.param[0] = param(b, weight, v->width, n_out);
    n.param[1] = param(b, bias, n_out, 1);
    return node(b, n, v->rows, n_out);
}

int32_t graph_norm(struct graph_builder *b, int32_t x, enum norm_kind kind, float eps,
                   uint32_t head_dim, const char *weight, const char *bias)
{
    const struct graph_value *v = value(b, x);
    if (!v) return GRAPH_NONE;
    if (head_dim && v->width % head_dim)
        return refuse(b, STRETTO_E_FORMAT, "a norm does not fit its heads");
    struct graph_node n = NODE(OP_NORM, x, GRAPH_NONE, GRAPH_NONE);
    n.norm.kind = kind;
    n.norm.eps = eps;
    n.norm.head_dim = head_dim;
    n.param[0] = param(b, weight, head_dim ? head_dim : v->width, 1);
    n.param[1] = param(b, bias, head_dim ? head_dim : v->width, 1);
    return node(b, n, v->rows, v->width);
}

int32_t graph_rope(struct graph_builder *b, int32_t x, enum rope_style style, uint32_t heads,
                   uint32_t head_dim, uint32_t table)
{
    const struct graph_value *v = value(b, x);
    if (!v) return GRAPH_NONE;
    if (v->width != heads * head_dim || table >= b->g->n_rope || b->g->rope[table].n_rot > head_dim)
        return refuse(b, STRETTO_E_FORMAT, "rotary positions do not fit the heads");
    struct graph_node n = NODE(OP_ROPE, x, GRAPH_NONE, GRAPH_NONE);
    n.rope.style = style;
    n.rope.heads = heads;
    n.rope.head_dim = head_dim;
    n.rope.table = table;
    return node(b, n, v->rows, v->width);
}

int32_t graph_attention(struct graph_builder *b, int32_t q, int32_t k, int32_t v, uint32_t heads,
                        uint32_t kv_heads, uint32_t head_dim, uint32_t window, float scale,
                        float softcap, bool causal)
{
    const struct graph_value *vq = value(b, q), *vk = value(b, k), *vv = value(b, v);
    if (!vq || !vk || !vv) return GRAPH_NONE;
    if (!kv_heads || heads % kv_heads || vq->width != heads * head_dim
        || vk->width != kv_heads * head_dim || vv->width != kv_heads * head_dim)
        return refuse(b, STRETTO_E_FORMAT, "attention heads do not fit the tensors");
    struct graph_node n = NODE(OP_ATTENTION, q, k, v);
    n.attention.heads = heads;
    n.attention.kv_heads = kv_heads;
    n.attention.head_dim = head_dim;
    n.attention.window = window;
    n.attention.scale = scale;
    n.attention.softcap = softcap;
    n.attention.causal = causal;
    return node(b, n, ROWS_ALL, vq->width);
}

int32_t graph_act(struct graph_builder *b, int32_t x, enum act_kind act)
{
    const struct graph_value *v = value(b, x);
    if (!v) return GRAPH_NONE;
    struct graph_node n = NODE(OP_ACT, x, GRAPH_NONE, GRAPH_NONE);
    n.act = act;
    return node(b, n, v->rows, v->width);
}

static int32_t binary(struct graph_builder *b, enum op op, int32_t x, int32_t y)
{
    const struct graph_value *vx = value(b, x), *vy = value(b, y);
    if (!vx || !vy) return GRAPH_NONE;
    if (vx->width != vy->width || vx->rows != vy->rows)
        return refuse(b, STRETTO_E_FORMAT, "two values of different shape are combined");
    return node(b, NODE(op, x, y, GRAPH_NONE), vx->rows, vx->width);
}

int32_t graph_mul(struct graph_builder *b, int32_t x, int32_t y) { return binary(b, OP_MUL, x, y); }
int32_t graph_add(struct graph_builder *b, int32_t x, int32_t y) { return binary(b, OP_ADD, x, y); }

int32_t graph_scale(struct graph_builder *b, int32_t x, float by)
{
    const struct graph_value *v = value(b, x);
    if (!v) return GRAPH_NONE;
    struct graph_node n = NODE(OP_SCALE, x, GRAPH_NONE, GRAPH_NONE);
    n.scale = by;
    return node(b, n, v->rows, v->width);
}

int32_t graph_softcap(struct graph_builder *b, int32_t x, float cap)
{
    const struct graph_value *v = value(b, x);
    if (!v) return GRAPH_NONE;
    struct graph_node n = NODE(OP_SOFTCAP, x, GRAPH_NONE, GRAPH_NONE);
    n.cap = cap;
    return node(b, n, v->rows, v->width);
}

int32_t graph_ask(struct graph_builder *b, int32_t x)
{
    const struct graph_value *v = value(b, x);
    if (!v) return GRAPH_NONE;
    return node(b, NODE(OP_ASK, x, GRAPH_NONE, GRAPH_NONE), ROWS_ASKING, v->width);
}

void graph_done(struct graph *g)
{
    mem_free(g->nodes);
    mem_free(g->values);
    mem_free(g->params);
    *g = (struct graph){ 0 };
}

/* ---- what an operation costs
 * ---------------------------------------------------------------------- */

static double rows_of(const struct graph *g, int32_t v, double rows, double asks)
{
    return g->values[v].rows == ROWS_ASKING ? asks : rows;
}

static void cost_embed(const struct graph *g, const struct graph_node *n, double rows, double asks,
                       double context, struct graph_cost *out)
{
    (void)asks; (void)context;
    out->param_elements = rows * g->params[n->param[0]].n_in;
}

static void cost_linear(const struct graph *g, const struct graph_node *n, double rows, double asks,
                        double context, struct graph_cost *out)
{
    (void)context;
    const struct graph_param *w = &g->params[n->param[0]];
    out->param_elements = (double)w->n_in * w->n_out;
    out->flops = 2 * out->param_elements * rows_of(g, n->in[0], rows, asks);
}

static void cost_attention(const struct graph *g, const struct graph_node *n, double rows,
                           double asks, double context, struct graph_cost *out)
{
    (void)asks; (void)g;
    double sees =
        n->attention.window && n->attention.window < context ? n->attention.window : context;
    out->flops = 4 * rows * sees * n->attention.heads * n->attention.head_dim;
    out->cache_elements = 2 * sees * n->attention.kv_heads * n->attention.head_dim;
}

static void cost_rowwise(const struct graph *g, const struct graph_node *n, double rows,
                         double asks, double context, struct graph_cost *out)
{
    (void)context;
    out->flops = 4 * rows_of(g, n->out, rows, asks) * g->values[n->out].width;
}

const struct op_info op_table[OP_COUNT] = {
    [OP_EMBED] = { "embed", cost_embed },       [OP_LINEAR] = { "linear", cost_linear },
    [OP_NORM] = { "norm", cost_rowwise },       [OP_ROPE] = { "rope", cost_rowwise },
    [OP_ATTENTION] = { "attention", cost_attention }, [OP_ACT] = { "act", cost_rowwise },
    [OP_MUL] = { "mul", cost_rowwise },         [OP_ADD] = { "add", cost_rowwise },
    [OP_SCALE] = { "scale", cost_rowwise },     [OP_SOFTCAP] = { "softcap", cost_rowwise },
    [OP_ASK] = { "ask", cost_rowwise },
};

struct graph_cost graph_node_cost(const struct graph *g, size_t i, double rows, double asks,
                                  double context)
{
    const struct graph_node *n = &g->nodes[i];
    struct graph_cost c = { 0 };
    op_table[n->op].cost(g, n, rows, asks, context, &c);
    c.activation_bytes = 4 * rows_of(g, n->out, rows, asks) * g->values[n->out].width;
    for (int k = 0; k < 3; k++)
        if (n->in[k] != GRAPH_NONE)
            c.activation_bytes += 4 * rows_of(g, n->in[k], rows, asks) * g->values[n->in[k]].width;
    return c;
}
