/* Reverse mode, one rule for each operation (`rules`): given the gradient dy of what a node made, a rule adds to the
 * gradients of what it read, and appends sinks for its parameters. Nodes are walked backwards, so when a node's turn
 * comes all its readers have had theirs and its dy is complete. Sinks that read what is computed once more wait until
 * the gradient of it has been passed on: both read the same rows, and lowering makes one pass of them. The oracle is a
 * forward in float64 with complex steps (tests/train). */
#include "graph/differentiate.h"
#include "base/memory.h"
#include <string.h>

/* A linear layer's sink that waits. */
struct waiting { const struct graph_node *n; int32_t dy; };

struct diff {
    struct graph_builder b;
    const struct graph *f;             /* the forward                                                */
    const struct differentiate *what;
    /* [n_values] of the forward: its value here; the same repeated for backward nodes; its gradient so far */
    int32_t *as, *again, *grad;
    bool *leads;                       /* [n_values] a trained parameter is among what it was made of */
    bool *kept;                        /* [n_values] backward nodes read it where the forward made it */
    struct waiting *waiting;           /* [n_nodes]                                                  */
    size_t n_waiting;
};

static bool trained(const struct diff *d, int32_t param)
{
    return param != GRAPH_NONE && d->what->trained && d->what->trained[param];
}

static const struct graph_node *maker(const struct diff *d, int32_t v)
{
    return &d->f->nodes[d->f->values[v].made_by];
}

/* A node of the backward pass; its value is like the forward's `like`. */
static int32_t back(struct diff *d, struct graph_node n, const int32_t *in, uint32_t n_in, int32_t param, int32_t like)
{
    const struct graph_value *v = &d->f->values[like];
    return graph_derived(&d->b, n, in, n_in, &param, 1, v->rows, v->width);
}
#define BACK(d, node, param, like, ...)                \
    back(d, node, (const int32_t[]){ __VA_ARGS__ },    \
         sizeof((int32_t[]){ __VA_ARGS__ }) / sizeof(int32_t), param, like)

static void sink(struct diff *d, enum op op, const int32_t *in, uint32_t n_in, int32_t weight, int32_t bias)
{
    int32_t param[2] = { trained(d, weight) ? weight : GRAPH_NONE, trained(d, bias) ? bias : GRAPH_NONE };
    if (param[0] == GRAPH_NONE && param[1] == GRAPH_NONE) return;
    graph_derived(&d->b, (struct graph_node){ .op = op }, in, n_in, param, 2, ROWS_ALL, 0);
}

/* dv is one more part of the gradient of the forward's value v. */
static void flow(struct diff *d, int32_t v, int32_t dv)
{
    d->grad[v] = d->grad[v] == GRAPH_NONE ? dv : graph_add(&d->b, d->grad[v], dv);
}

/* ---- the forward, and again what is not kept of it -------------------------------------------------------------- */

static int32_t repeat(struct diff *d, const struct graph_node *n, const int32_t *as)
{
    if (n->op != OP_ATTENTION) return graph_repeat(&d->b, d->f, n, as);
    struct graph_node see = { .op = OP_SEE, .see = { n->attention.heads, n->attention.kv_heads, n->attention.head_dim,
                                                     n->attention.window, n->attention.scale, n->attention.softcap,
                                                     SEE_Q } };
    return BACK(d, see, GRAPH_NONE, n->out, as[node_in(d->f, n, 0)], as[node_in(d->f, n, 1)],
                as[node_in(d->f, n, 2)]);
}

/* The forward's value as backward nodes read it. */
static int32_t read(struct diff *d, int32_t v)
{
    if (d->kept[v]) return d->as[v];
    if (d->again[v] != GRAPH_NONE) return d->again[v];
    const struct graph_node *n = maker(d, v);
    for (uint32_t i = 0; i < n->in.count; i++) {
        int32_t in = node_in(d->f, n, i);
        if (read(d, in) == GRAPH_NONE) return GRAPH_NONE;
        d->again[in] = read(d, in);
    }
    return d->again[v] = repeat(d, n, d->again);
}

static bool cheap(const struct diff *d, const struct graph_node *n)
{
    if (n->op != OP_MUL) return n->op == OP_NORM || n->op == OP_ACT;
    return maker(d, node_in(d->f, n, 0))->op == OP_ACT || maker(d, node_in(d->f, n, 1))->op == OP_ACT;
}

/* What layers read of each other is kept always. */
static void choose_kept(struct diff *d)
{
    const struct graph *f = d->f;
    for (size_t v = 0; v < f->n_values; v++) {
        const struct graph_node *n = maker(d, (int32_t)v);
        d->kept[v] = d->what->keep == KEEP_VALUES ? !cheap(d, n) : n->layer < 0 && !cheap(d, n);
    }
    for (size_t i = 0; i < f->n_nodes; i++)
        for (uint32_t k = 0; k < f->nodes[i].in.count; k++) {
            int32_t v = node_in(f, &f->nodes[i], k);
            if (maker(d, v)->layer != f->nodes[i].layer) d->kept[v] = true;
        }
}

static void find_leads(struct diff *d)
{
    for (size_t i = 0; i < d->f->n_nodes; i++) {
        const struct graph_node *n = &d->f->nodes[i];
        bool leads = false;
        for (uint32_t k = 0; k < n->param.count; k++) leads |= trained(d, node_param(d->f, n, k));
        for (uint32_t k = 0; k < n->in.count; k++) leads |= d->leads[node_in(d->f, n, k)];
        d->leads[n->out] = leads;
    }
}

/* ---- rules ------------------------------------------------------------------------------------------------------ */

static int32_t in(const struct diff *d, const struct graph_node *n, uint32_t i) { return node_in(d->f, n, i); }

static void embed_rule(struct diff *d, const struct graph_node *n, int32_t dy)
{
    int32_t table = node_param(d->f, n, 0), more = node_param(d->f, n, 1);
    struct graph_node sum = { .op = OP_GRAD_EMBED, .embed = n->embed };
    if (n->embed == EMBED_VECTOR) return;
    if (trained(d, table)) graph_derived(&d->b, sum, &dy, 1, &table, 1, ROWS_ALL, 0);
    if (trained(d, more)) graph_derived(&d->b, sum, &dy, 1, (const int32_t[]){ more, table }, 2, ROWS_ALL, 0);
}

static void linear_sink(struct diff *d, const struct waiting *w)
{
    d->b.layer = w->n->layer;
    sink(d, OP_GRAD_LINEAR, (const int32_t[]){ read(d, in(d, w->n, 0)), w->dy }, 2, node_param(d->f, w->n, 0),
         node_param(d->f, w->n, 1));
}

static void linear_rule(struct diff *d, const struct graph_node *n, int32_t dy)
{
    int32_t x = in(d, n, 0), weight = node_param(d->f, n, 0), bias = node_param(d->f, n, 1);
    const struct waiting w = { n, dy };
    if (d->leads[x]) flow(d, x, BACK(d, (struct graph_node){ .op = OP_LINEAR_BACK }, weight, x, dy));
    if (!trained(d, weight) && !trained(d, bias)) return;
    if (cheap(d, maker(d, x))) d->waiting[d->n_waiting++] = w;
    else linear_sink(d, &w);
}

/* The sinks of what was made behind node i, in the order in which they came. */
static void sinks_behind(struct diff *d, int32_t i)
{
    size_t left = 0;
    for (size_t k = 0; k < d->n_waiting; k++) {
        const struct waiting w = d->waiting[k];
        if (d->f->values[in(d, w.n, 0)].made_by > i) linear_sink(d, &w);
        else d->waiting[left++] = w;
    }
    d->n_waiting = left;
}

static void norm_rule(struct diff *d, const struct graph_node *n, int32_t dy)
{
    int32_t x = in(d, n, 0), weight = node_param(d->f, n, 0), bias = node_param(d->f, n, 1);
    struct graph_node norm = { .op = OP_NORM_BACK, .norm = n->norm }, norm_alone = { .op = OP_NORM, .norm = n->norm };
    if (d->leads[x]) flow(d, x, BACK(d, norm, weight, x, read(d, x), dy));
    if (!trained(d, weight) && !trained(d, bias)) return;
    int32_t bare = BACK(d, norm_alone, GRAPH_NONE, x, read(d, x));
    sink(d, OP_GRAD_NORM, (const int32_t[]){ bare, dy }, 2, weight, bias);
}

static void rope_rule(struct diff *d, const struct graph_node *n, int32_t dy)
{
    struct graph_node turn = { .op = OP_ROPE, .rope = n->rope };
    turn.rope.inverse = true;
    if (d->leads[in(d, n, 0)]) flow(d, in(d, n, 0), BACK(d, turn, GRAPH_NONE, in(d, n, 0), dy));
}

/* dk and dv are made together, whichever of them is read. */
static void attention_rule(struct diff *d, const struct graph_node *n, int32_t dy)
{
    int32_t y = read(d, n->out);
    struct graph_node see = { .op = OP_SEE_BACK, .see = { n->attention.heads, n->attention.kv_heads,
                                                          n->attention.head_dim, n->attention.window,
                                                          n->attention.scale, n->attention.softcap, SEE_Q } };
    struct graph_node dot = { .op = OP_DOTS, .see = see.see };
    int32_t sums = graph_derived(&d->b, (struct graph_node){ .op = OP_BESIDE }, &y, 1, NULL, 0, ROWS_ALL,
                                 n->attention.heads);
    int32_t dots = graph_derived(&d->b, dot, (const int32_t[]){ y, dy }, 2, NULL, 0, ROWS_ALL, n->attention.heads);
    bool keys = d->leads[in(d, n, 1)] || d->leads[in(d, n, 2)];
    for (uint32_t i = 0; i < 3; i++) {
        if (i ? !keys : !d->leads[in(d, n, 0)]) continue;
        see.see.side = (enum see_side)i;
        int32_t dx = BACK(d, see, GRAPH_NONE, in(d, n, i), read(d, in(d, n, 0)), read(d, in(d, n, 1)),
                          read(d, in(d, n, 2)), dy, sums, dots);
        if (d->leads[in(d, n, i)]) flow(d, in(d, n, i), dx);
    }
}

static void act_rule(struct diff *d, const struct graph_node *n, int32_t dy)
{
    int32_t x = in(d, n, 0);
    struct graph_node act = { .op = OP_ACT_BACK, .act = n->act };
    if (d->leads[x]) flow(d, x, BACK(d, act, GRAPH_NONE, x, read(d, x), dy));
}

/* What it reads stands before the products: an activation and they are one pass of lowering's. */
static void mul_rule(struct diff *d, const struct graph_node *n, int32_t dy)
{
    for (uint32_t i = 0; i < 2; i++)
        if (d->leads[in(d, n, 1 - i)] && read(d, in(d, n, i)) == GRAPH_NONE) return;
    for (uint32_t i = 0; i < 2; i++)
        if (d->leads[in(d, n, i)]) flow(d, in(d, n, i), graph_mul(&d->b, dy, read(d, in(d, n, 1 - i))));
}

/* What was added to some rows has their gradients. */
static void add_rule(struct diff *d, const struct graph_node *n, int32_t dy)
{
    for (uint32_t i = 0; i < 2; i++) {
        int32_t v = in(d, n, i);
        bool some = d->f->values[v].rows != d->f->values[n->out].rows;
        if (!d->leads[v]) continue;
        flow(d, v, some ? BACK(d, (struct graph_node){ .op = OP_ASK }, GRAPH_NONE, v, dy) : dy);
    }
}

static void weigh_rule(struct diff *d, const struct graph_node *n, int32_t dy)
{
    struct graph_node weigh = { .op = OP_WEIGH, .scale = n->scale };
    if (d->leads[in(d, n, 0)]) flow(d, in(d, n, 0), BACK(d, weigh, GRAPH_NONE, in(d, n, 0), dy));
}

static void scale_rule(struct diff *d, const struct graph_node *n, int32_t dy)
{
    if (d->leads[in(d, n, 0)]) flow(d, in(d, n, 0), graph_scale(&d->b, dy, n->scale));
}

static void softcap_rule(struct diff *d, const struct graph_node *n, int32_t dy)
{
    struct graph_node cap = { .op = OP_SOFTCAP_BACK, .cap = n->cap };
    int32_t x = in(d, n, 0);
    if (d->leads[x]) flow(d, x, BACK(d, cap, GRAPH_NONE, x, read(d, n->out), dy));
}

static void ask_rule(struct diff *d, const struct graph_node *n, int32_t dy)
{
    int32_t x = in(d, n, 0);
    if (d->leads[x]) flow(d, x, BACK(d, (struct graph_node){ .op = OP_UNASK }, GRAPH_NONE, x, dy));
}

static void (*const rules[OP_COUNT])(struct diff *d, const struct graph_node *n, int32_t dy) = {
    [OP_EMBED] = embed_rule, [OP_LINEAR] = linear_rule, [OP_NORM] = norm_rule,       [OP_ROPE] = rope_rule,
    [OP_ATTENTION] = attention_rule, [OP_ACT] = act_rule, [OP_MUL] = mul_rule,       [OP_ADD] = add_rule,
    [OP_SCALE] = scale_rule, [OP_WEIGH] = weigh_rule, [OP_SOFTCAP] = softcap_rule, [OP_ASK] = ask_rule,
};

/* ---- the walk --------------------------------------------------------------------------------------------------- */

/* The linear layer that makes the logits, and the softcap behind it, or NULL. */
struct head { const struct graph_node *linear, *cap; };

static struct head find_head(const struct graph *f)
{
    struct head h = { NULL, NULL };
    if (f->logits == GRAPH_NONE) return h;
    const struct graph_node *n = &f->nodes[f->values[f->logits].made_by];
    if (n->op == OP_SOFTCAP) {
        h.cap = n;
        n = &f->nodes[f->values[node_in(f, n, 0)].made_by];
    }
    h.linear = n->op == OP_LINEAR ? n : NULL;
    return h;
}

static stretto_status check(const struct graph *f, struct head h, struct error *err)
{
    if (f->logits == GRAPH_NONE)
        return fail(err, STRETTO_E_UNSUP, "a model without a head (an encoder) has no loss to be trained by");
    if (!h.linear)
        return fail(err, STRETTO_E_UNSUP, "the head is not one linear layer (has it an adapter?): leave it out");
    for (size_t i = 0; i < f->n_nodes; i++)
        if (!rules[f->nodes[i].op])
            return fail(err, STRETTO_E_UNSUP, "'%s' has no gradient", op_table[f->nodes[i].op].name);
    return STRETTO_OK;
}

static void walk(struct diff *d, struct head h)
{
    const struct graph *f = d->f;
    for (size_t i = 0; i < f->n_nodes; i++) {
        const struct graph_node *n = &f->nodes[i];
        d->b.layer = n->layer;
        if (n != h.linear && n != h.cap) d->as[n->out] = repeat(d, n, d->as);
    }
    int32_t x = node_in(f, h.linear, 0), param[3];
    bool any = false;
    for (uint32_t i = 0; i < 3; i++) {
        param[i] = node_param(f, h.linear, i);
        any |= trained(d, param[i]);
    }
    struct graph_node loss = { .op = OP_LOSS, .loss = { h.cap ? h.cap->cap : 0, any } };
    int32_t dx = graph_derived(&d->b, loss, &d->as[x], 1, param, 3, ROWS_ASKING, f->values[x].width);
    if (d->leads[x]) flow(d, x, dx);
    for (size_t i = f->n_nodes; i-- > 0 && d->b.status == STRETTO_OK;) {
        const struct graph_node *n = &f->nodes[i];
        if (!cheap(d, n)) sinks_behind(d, (int32_t)i);
        d->b.layer = n->layer;
        if (n != h.linear && n != h.cap && d->grad[n->out] != GRAPH_NONE) rules[n->op](d, n, d->grad[n->out]);
    }
    sinks_behind(d, -1);
    graph_answer(&d->b, GRAPH_NONE, GRAPH_NONE);
}

stretto_status differentiate(struct graph *out, const struct graph *forward, const struct differentiate *what,
                             struct error *err)
{
    struct head h = find_head(forward);
    *out = (struct graph){ .layers = forward->layers, .n_rope = forward->n_rope, .loss = true };
    TRY(check(forward, h, err));
    memcpy(out->rope, forward->rope, sizeof out->rope);
    struct diff d = { .b = { .g = out, .err = err, .layer = -1 }, .f = forward, .what = what };
    size_t n = forward->n_values;
    int32_t *numbers = mem_alloc(3 * n * sizeof *numbers);
    bool *flags = mem_zalloc(2 * n, sizeof *flags);
    d.waiting = mem_alloc(forward->n_nodes * sizeof *d.waiting);
    if (!numbers || !flags || !d.waiting)
        d.b.status = fail(err, STRETTO_E_NOMEM, "out of memory while differentiating");
    else {
        memset(numbers, 0xff, 3 * n * sizeof *numbers);        /* GRAPH_NONE */
        d.as = numbers, d.again = numbers + n, d.grad = numbers + 2 * n;
        d.leads = flags, d.kept = flags + n;
        graph_params_like(&d.b, forward);
        find_leads(&d);
        choose_kept(&d);
        walk(&d, h);
    }
    mem_free(numbers);
    mem_free(flags);
    mem_free(d.waiting);
    if (d.b.status != STRETTO_OK) graph_done(out);
    return d.b.status;
}
