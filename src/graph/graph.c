/* Building graphs, with shape inference: a node whose inputs do not fit is refused where it is
 * made. */
#include "graph/graph.h"
#include "base/memory.h"
#include <stdio.h>
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

/* One link more at the end of the last span. */
static void link_one(struct graph_builder *b, struct graph_span *s, int32_t item)
{
    struct graph *g = b->g;
    if (b->status != STRETTO_OK) return;
    if (!grow((void **)&g->links, g->n_links, &g->cap_links, sizeof *g->links)) {
        refuse(b, STRETTO_E_NOMEM, "out of memory");
        return;
    }
    g->links[g->n_links++] = item;
    s->count++;
}

/* What a node names; GRAPH_NONE at the end is left away. */
static struct graph_span links(struct graph_builder *b, const int32_t *item, uint32_t n)
{
    struct graph_span s = { (uint32_t)b->g->n_links, 0 };
    while (n && item[n - 1] == GRAPH_NONE) n--;
    for (uint32_t i = 0; i < n; i++) link_one(b, &s, item[i]);
    return s;
}
#define LINKS(b, ...) \
    links(b, (const int32_t[]){ __VA_ARGS__ }, sizeof((int32_t[]){ __VA_ARGS__ }) / sizeof(int32_t))

/* width 0: it makes no value. */
static int32_t node(struct graph_builder *b, struct graph_node n, enum rows_kind rows,
                    uint32_t width)
{
    struct graph *g = b->g;
    if (b->status != STRETTO_OK) return GRAPH_NONE;
    if (!grow((void **)&g->nodes, g->n_nodes, &g->cap_nodes, sizeof *g->nodes)
        || !grow((void **)&g->values, g->n_values, &g->cap_values, sizeof *g->values))
        return refuse(b, STRETTO_E_NOMEM, "out of memory");
    n.layer = b->layer;
    n.out = width ? (int32_t)g->n_values : GRAPH_NONE;
    if (width) g->values[g->n_values++] = (struct graph_value){ rows, width, (int32_t)g->n_nodes };
    if (width && rows_are_set(rows) && rows_set(rows) >= g->n_sets) g->n_sets = rows_set(rows) + 1;
    g->nodes[g->n_nodes++] = n;
    return n.out;
}

static const struct graph_value *value(struct graph_builder *b, int32_t v)
{
    return b->status == STRETTO_OK && v >= 0 && (size_t)v < b->g->n_values ? &b->g->values[v]
                                                                           : NULL;
}

int32_t graph_embed(struct graph_builder *b, const char *name, uint32_t rows, uint32_t width,
                    enum embed_index index)
{
    struct graph_node n = { .op = OP_EMBED, .embed = index };
    n.param = LINKS(b, param(b, name, width, rows));
    return node(b, n, ROWS_ALL, width);
}

int32_t graph_input(struct graph_builder *b, uint32_t width)
{
    return node(b, (struct graph_node){ .op = OP_EMBED, .embed = EMBED_VECTOR }, ROWS_ALL, width);
}

int32_t graph_linear(struct graph_builder *b, int32_t x, const char *weight, const char *bias,
                     uint32_t n_out)
{
    const struct graph_value *v = value(b, x);
    if (!v) return GRAPH_NONE;
    int32_t w = param(b, weight, v->width, n_out), with = param(b, bias, n_out, 1);
    struct graph_node n = { .op = OP_LINEAR, .in = LINKS(b, x), .param = LINKS(b, w, with) };
    return node(b, n, v->rows, n_out);
}

int32_t graph_norm(struct graph_builder *b, int32_t x, enum norm_kind kind, float eps,
                   uint32_t head_dim, const char *weight, const char *bias)
{
    const struct graph_value *v = value(b, x);
    if (!v) return GRAPH_NONE;
    if (head_dim && v->width % head_dim)
        return refuse(b, STRETTO_E_FORMAT, "a norm does not fit its heads");
    uint32_t length = head_dim ? head_dim : v->width;
    int32_t w = param(b, weight, length, 1), with = param(b, bias, length, 1);
    struct graph_node n = { .op = OP_NORM, .in = LINKS(b, x), .param = LINKS(b, w, with),
                            .norm = { kind, eps, head_dim } };
    return node(b, n, v->rows, v->width);
}

int32_t graph_rope(struct graph_builder *b, int32_t x, enum rope_style style, uint32_t heads,
                   uint32_t head_dim, uint32_t table)
{
    const struct graph_value *v = value(b, x);
    if (!v) return GRAPH_NONE;
    if (v->width != heads * head_dim || table >= b->g->n_rope || b->g->rope[table].n_rot > head_dim)
        return refuse(b, STRETTO_E_FORMAT, "rotary positions do not fit the heads");
    struct graph_node n = { .op = OP_ROPE, .in = LINKS(b, x),
                            .rope = { style, heads, head_dim, table, false } };
    return node(b, n, v->rows, v->width);
}

/* The group of layers that keep keys and values of this shape for as long; a new one where there is none. */
static struct layer_group *group_for(struct graph_builder *b, uint32_t kv_heads, uint32_t head_dim,
                                     uint32_t window)
{
    struct graph *g = b->g;
    for (uint32_t i = 0; i < g->n_groups; i++) {
        struct layer_group *x = &g->group[i];
        if (x->kv_heads == kv_heads && x->head_dim == head_dim && x->window == window) return x;
    }
    if (g->n_groups == GRAPH_GROUPS) return NULL;
    g->group[g->n_groups] = (struct layer_group){ window ? GROUP_WINDOW : GROUP_FULL, 0, kv_heads, head_dim,
                                                  window };
    return &g->group[g->n_groups++];
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
    if (window && !causal)
        return refuse(b, STRETTO_E_UNSUP, "a window of rows that see each other is not supported");
    if (vq->rows != ROWS_ALL || vk->rows != ROWS_ALL || vv->rows != ROWS_ALL)
        return refuse(b, STRETTO_E_FORMAT, "attention needs all rows, not those that ask alone");
    struct layer_group *group = group_for(b, kv_heads, head_dim, window);
    if (!group)
        return refuse(b, STRETTO_E_UNSUP, "the layers keep keys and values in more than 8 different ways");
    struct graph_node n = { .op = OP_ATTENTION, .in = LINKS(b, q, k, v),
                            .attention = { heads, kv_heads, head_dim, window,
                                           (uint32_t)(group - b->g->group), group->layers++, scale,
                                           softcap, causal } };
    return node(b, n, ROWS_ALL, vq->width);
}

int32_t graph_act(struct graph_builder *b, int32_t x, enum act_kind act)
{
    const struct graph_value *v = value(b, x);
    if (!v) return GRAPH_NONE;
    return node(b, (struct graph_node){ .op = OP_ACT, .in = LINKS(b, x), .act = act }, v->rows,
                v->width);
}

static int32_t binary(struct graph_builder *b, enum op op, int32_t x, int32_t y)
{
    const struct graph_value *vx = value(b, x), *vy = value(b, y);
    if (!vx || !vy) return GRAPH_NONE;
    bool some = op == OP_ADD && rows_are_set(vy->rows) && rows_whole(vy->rows) == vx->rows;
    if (vx->width != vy->width || (vx->rows != vy->rows && !some))
        return refuse(b, STRETTO_E_FORMAT, "two values of different shape are combined");
    return node(b, (struct graph_node){ .op = op, .in = LINKS(b, x, y) }, vx->rows, vx->width);
}

int32_t graph_mul(struct graph_builder *b, int32_t x, int32_t y) { return binary(b, OP_MUL, x, y); }
int32_t graph_add(struct graph_builder *b, int32_t x, int32_t y) { return binary(b, OP_ADD, x, y); }

int32_t graph_scale(struct graph_builder *b, int32_t x, float by)
{
    const struct graph_value *v = value(b, x);
    if (!v) return GRAPH_NONE;
    return node(b, (struct graph_node){ .op = OP_SCALE, .in = LINKS(b, x), .scale = by }, v->rows,
                v->width);
}

int32_t graph_weigh(struct graph_builder *b, int32_t x, float by)
{
    const struct graph_value *v = value(b, x);
    if (!v) return GRAPH_NONE;
    if (!rows_are_set(v->rows)) return refuse(b, STRETTO_E_FORMAT, "rows have weights in sets alone");
    return node(b, (struct graph_node){ .op = OP_WEIGH, .in = LINKS(b, x), .scale = by }, v->rows, v->width);
}

int32_t graph_softcap(struct graph_builder *b, int32_t x, float cap)
{
    const struct graph_value *v = value(b, x);
    if (!v) return GRAPH_NONE;
    return node(b, (struct graph_node){ .op = OP_SOFTCAP, .in = LINKS(b, x), .cap = cap }, v->rows,
                v->width);
}

int32_t graph_ask(struct graph_builder *b, int32_t x)
{
    const struct graph_value *v = value(b, x);
    if (!v) return GRAPH_NONE;
    if (v->rows != ROWS_ALL)
        return refuse(b, STRETTO_E_FORMAT, "rows that ask are picked out of all rows, once");
    return node(b, (struct graph_node){ .op = OP_ASK, .in = LINKS(b, x) }, ROWS_ASKING, v->width);
}

int32_t graph_pick(struct graph_builder *b, int32_t x, uint32_t set)
{
    const struct graph_value *v = value(b, x);
    if (!v) return GRAPH_NONE;
    if (rows_are_set(v->rows) || set >= GRAPH_SETS)
        return refuse(b, STRETTO_E_FORMAT, "rows of a set are picked out of all that there are, once");
    return node(b, (struct graph_node){ .op = OP_ASK, .in = LINKS(b, x) }, rows_of_set(v->rows, set), v->width);
}

/* Whatever the operation is: its links are named anew, and an attention joins the layer group here. */
int32_t graph_repeat(struct graph_builder *b, const struct graph *of, const struct graph_node *n,
                     const int32_t *as)
{
    struct graph_node own = *n;
    const struct graph_value *out = &of->values[n->out];
    own.in = (struct graph_span){ n->in.count ? (uint32_t)b->g->n_links : n->in.first, 0 };
    for (uint32_t i = 0; i < n->in.count; i++) {
        int32_t v = node_in(of, n, i);
        if (v != GRAPH_NONE && !value(b, as[v]))
            return refuse(b, STRETTO_E_FORMAT, "a value is read that is not there");
        link_one(b, &own.in, v == GRAPH_NONE ? v : as[v]);
    }
    own.param = (struct graph_span){ n->param.count ? (uint32_t)b->g->n_links : n->param.first, 0 };
    for (uint32_t i = 0; i < n->param.count; i++) {
        int32_t at = node_param(of, n, i);
        const struct graph_param *p = at == GRAPH_NONE ? NULL : &of->params[at];
        link_one(b, &own.param, p ? param(b, p->name, p->n_in, p->n_out) : GRAPH_NONE);
    }
    if (n->op == OP_ATTENTION && b->status == STRETTO_OK) {
        struct layer_group *group = group_for(b, n->attention.kv_heads, n->attention.head_dim,
                                              n->attention.window);
        if (!group) return refuse(b, STRETTO_E_UNSUP, "too many layer groups");
        own.attention.group = (uint32_t)(group - b->g->group);
        own.attention.member = group->layers++;
    }
    return node(b, own, out->rows, out->width);
}

void graph_params_like(struct graph_builder *b, const struct graph *of)
{
    for (size_t i = 0; i < of->n_params; i++) param(b, of->params[i].name, of->params[i].n_in, of->params[i].n_out);
}

int32_t graph_derived(struct graph_builder *b, struct graph_node n, const int32_t *in, uint32_t n_in,
                      const int32_t *of, uint32_t n_param, enum rows_kind rows, uint32_t width)
{
    n.in = links(b, in, n_in);
    n.param = links(b, of, n_param);
    return node(b, n, rows, width);
}

/* Where the rows stand among a node's parameters; 0: it is none that has them. */
static uint32_t rows_place(const struct graph *g, const struct graph_node *n, int32_t of)
{
    if (node_param(g, n, 0) != of) return 0;
    return n->op == OP_EMBED ? 1 : n->op == OP_LINEAR ? 2 : 0;
}

stretto_status graph_part_rows(struct graph *g, const char *name, uint32_t rows, struct error *err)
{
    struct graph_builder b = { .g = g, .err = err, .layer = -1 };
    int32_t of = graph_param_find(g, name), more;
    char own[GRAPH_NAME];
    if (of == GRAPH_NONE || g->params[of].n_out <= rows) return fail(err, STRETTO_E_ARG, "%s has no such rows", name);
    uint32_t left = g->params[of].n_out - rows;
    int length = snprintf(own, sizeof own, "%s.rows", name);
    if (left % ROWS_TOGETHER || length < 0 || length >= GRAPH_NAME)
        return fail(err, STRETTO_E_UNSUP, "a vocabulary of %u tokens cannot get trained rows beside frozen ones: it is "
                    "no multiple of %d", left, ROWS_TOGETHER);
    more = param(&b, own, g->params[of].n_in, rows);
    if (more != GRAPH_NONE) g->params[of].n_out = left;
    for (size_t i = 0; i < g->n_nodes && b.status == STRETTO_OK; i++) {
        struct graph_node *n = &g->nodes[i];
        uint32_t at = rows_place(g, n, of);
        if (at == 2 && node_param(g, n, 1) != GRAPH_NONE)
            return fail(err, STRETTO_E_UNSUP, "a head with a bias cannot get trained rows beside frozen ones");
        if (at) n->param = links(&b, (const int32_t[]){ of, at == 1 ? more : GRAPH_NONE, more }, at + 1);
    }
    return b.status;
}

void graph_answer(struct graph_builder *b, int32_t hidden, int32_t logits)
{
    int32_t answer[2] = { hidden, logits };
    for (int i = 0; i < 2; i++) {
        const struct graph_value *v = value(b, answer[i]);
        if (v && v->rows != ROWS_ASKING)
            refuse(b, STRETTO_E_FORMAT, "an answer is made for the rows that ask, not for all");
    }
    b->g->hidden = hidden;
    b->g->logits = logits;
}

void graph_done(struct graph *g)
{
    mem_free(g->nodes);
    mem_free(g->values);
    mem_free(g->params);
    mem_free(g->links);
    *g = (struct graph){ 0 };
}

uint32_t graph_sharing(const struct graph *g)
{
    uint32_t most = 1;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const struct graph_node *n = &g->nodes[i];
        if (n->op == OP_ATTENTION && n->attention.heads / n->attention.kv_heads > most)
            most = n->attention.heads / n->attention.kv_heads;
    }
    return most;
}

/* ---- what an operation costs
 * ---------------------------------------------------------------------- */

/* Sets are taken to be empty, where they are trained to have all rows. */
static double rows_of(const struct graph *g, int32_t v, double rows, double asks)
{
    if (rows_are_set(g->values[v].rows) && !g->loss) return 0;
    return rows_whole(g->values[v].rows) == ROWS_ASKING ? asks : rows;
}

static void cost_embed(const struct graph *g, const struct graph_node *n, double rows, double asks,
                       double context, struct graph_cost *out)
{
    (void)asks; (void)context;
    out->param_elements = n->embed == EMBED_VECTOR ? 0 : rows * g->params[node_param(g, n, 0)].n_in;
}

static void cost_linear(const struct graph *g, const struct graph_node *n, double rows, double asks,
                        double context, struct graph_cost *out)
{
    (void)context;
    const struct graph_param *w = &g->params[node_param(g, n, 0)];
    out->param_elements = (double)w->n_in * w->n_out;
    out->flops = 2 * out->param_elements * rows_of(g, node_in(g, n, 0), rows, asks);
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

/* Scores, and what comes of them; backward, keys and values share theirs. */
static void cost_see(const struct graph *g, const struct graph_node *n, double rows, double asks, double context,
                     struct graph_cost *out)
{
    (void)asks; (void)g;
    double sees = n->see.window && n->see.window < context ? n->see.window : context;
    out->flops = (n->op == OP_SEE ? 4 : 5) * rows * sees * n->see.heads * n->see.head_dim;
}

/* The head, and its gradient by what it reads. */
static void cost_loss(const struct graph *g, const struct graph_node *n, double rows, double asks, double context,
                      struct graph_cost *out)
{
    (void)rows; (void)context;
    const struct graph_param *w = &g->params[node_param(g, n, 0)];
    out->param_elements = (double)w->n_in * w->n_out;
    out->flops = 4 * out->param_elements * asks;
}

static void cost_sink(const struct graph *g, const struct graph_node *n, double rows, double asks, double context,
                      struct graph_cost *out)
{
    (void)context;
    int32_t dy = node_in(g, n, n->op == OP_GRAD_NORM);
    out->flops = 2 * rows_of(g, dy, rows, asks) * g->values[dy].width;
}

const struct op_info op_table[OP_COUNT] = {
    [OP_EMBED] = { "embed", cost_embed },       [OP_LINEAR] = { "linear", cost_linear },
    [OP_NORM] = { "norm", cost_rowwise },       [OP_ROPE] = { "rope", cost_rowwise },
    [OP_ATTENTION] = { "attention", cost_attention }, [OP_ACT] = { "act", cost_rowwise },
    [OP_MUL] = { "mul", cost_rowwise },         [OP_ADD] = { "add", cost_rowwise },
    [OP_SCALE] = { "scale", cost_rowwise },     [OP_SOFTCAP] = { "softcap", cost_rowwise },
    [OP_ASK] = { "ask", cost_rowwise },         [OP_WEIGH] = { "weigh", cost_rowwise },
    [OP_SEE] = { "see", cost_see },             [OP_SEE_BACK] = { "gradient of see", cost_see },
    [OP_DOTS] = { "dots", cost_rowwise },
    [OP_BESIDE] = { "what is made beside", cost_rowwise },
    [OP_LOSS] = { "loss", cost_loss },          [OP_UNASK] = { "unask", cost_rowwise },
    [OP_LINEAR_BACK] = { "gradient of linear", cost_linear },
    [OP_NORM_BACK] = { "gradient of norm", cost_rowwise },
    [OP_ACT_BACK] = { "gradient of act", cost_rowwise },
    [OP_SOFTCAP_BACK] = { "gradient of softcap", cost_rowwise },
    [OP_GRAD_LINEAR] = { "gradient of weights", cost_linear },
    [OP_GRAD_NORM] = { "gradient of a norm's weights", cost_sink },
    [OP_GRAD_EMBED] = { "gradient of a table", cost_sink },
};

struct graph_cost graph_node_cost(const struct graph *g, size_t i, double rows, double asks,
                                  double context)
{
    const struct graph_node *n = &g->nodes[i];
    struct graph_cost c = { 0 };
    op_table[n->op].cost(g, n, rows, asks, context, &c);
    if (n->out != GRAPH_NONE)
        c.activation_bytes = 4 * rows_of(g, n->out, rows, asks) * g->values[n->out].width;
    for (uint32_t k = 0; k < n->in.count; k++) {
        int32_t v = node_in(g, n, k);
        c.activation_bytes += 4 * rows_of(g, v, rows, asks) * g->values[v].width;
    }
    return c;
}
