#include "graph/adapt.h"
#include "base/memory.h"
#include <stdio.h>
#include <string.h>

bool adapt_name(char out[GRAPH_NAME], const struct adapt_pair *p, char side)
{
    char name[2 * GRAPH_NAME], number[16] = "";
    if (p->adapter) snprintf(number, sizeof number, ".%u", p->adapter);
    snprintf(name, sizeof name, "%.*s.lora_%c%s", GRAPH_NAME - 1, p->weight, side, number);
    size_t n = strlen(name);
    if (n >= GRAPH_NAME) return false;
    memcpy(out, name, n + 1);
    return true;
}

bool adapt_owns(const char *param) { return strstr(param, ".lora_a") || strstr(param, ".lora_b"); }

static bool is_linear(const struct graph *g, const char *weight)
{
    for (size_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op == OP_LINEAR
            && strcmp(g->params[node_param(g, &g->nodes[i], 0)].name, weight) == 0) return true;
    return false;
}

static stretto_status check(const struct graph *g, const struct adapt_pair *pairs, size_t n, struct error *err)
{
    char name[GRAPH_NAME];
    for (size_t i = 0; i < n; i++) {
        const struct adapt_pair *p = &pairs[i];
        if (!is_linear(g, p->weight))
            return fail(err, STRETTO_E_ARG, "the model has no linear layer %s, which an adapter is for", p->weight);
        if (p->chosen && p->adapter >= GRAPH_SETS)
            return fail(err, STRETTO_E_ARG, "more than %d adapters", GRAPH_SETS);
        if (!p->rank) return fail(err, STRETTO_E_ARG, "the adapter of %s has rank 0", p->weight);
        if (!adapt_name(name, p, 'a'))
            return fail(err, STRETTO_E_UNSUP, "the name of tensor %s is too long for an adapter", p->weight);
        for (size_t k = 0; k < i; k++)
            if (pairs[k].adapter == p->adapter && strcmp(pairs[k].weight, p->weight) == 0)
                return fail(err, STRETTO_E_ARG, "an adapter has two pairs for %s", p->weight);
    }
    return STRETTO_OK;
}

/* ---- putting them in ------------------------------------------------------------------------- */

struct adapting {
    struct graph_builder b;
    const struct graph *g;
    const struct adapt_pair *pairs;
    size_t n;
    int32_t *as;                           /* [n_values] what a value of g is here                     */
    int32_t *low;                          /* [n] what A makes of the group's input                    */
    int32_t *param;                        /* [n] g's parameter that the pair is for                   */
    bool *done;                            /* [n_nodes] a layer that joined one before it              */
    bool *has;                             /* [n_params] there is a pair for it                        */
    int32_t picked[GRAPH_SETS];            /* the input's rows of each set                             */
};

static bool joins(const struct adapting *x, size_t i, int32_t in)
{
    const struct graph_node *n = &x->g->nodes[i];
    return n->op == OP_LINEAR && node_in(x->g, n, 0) == in && !x->done[i] && x->has[node_param(x->g, n, 0)];
}

static int32_t input_of(struct adapting *x, const struct adapt_pair *p, int32_t in)
{
    if (!p->chosen) return x->as[in];
    int32_t *picked = &x->picked[p->adapter];
    if (*picked == GRAPH_NONE) *picked = graph_pick(&x->b, x->as[in], p->adapter);
    return *picked;
}

/* The group's pairs, one kind of node after the other: what can run together stands together. Scaled where it is
 * narrowest. step: 0 A, 1 scale, 2 B, 3 the sum. */
static void pair_step(struct adapting *x, const struct graph_node *of, size_t k, int step)
{
    const struct adapt_pair *p = &x->pairs[k];
    char name[GRAPH_NAME];
    int32_t *low = &x->low[k];
    if (step == 0) {
        int32_t in = input_of(x, p, node_in(x->g, of, 0));
        adapt_name(name, p, 'a');
        *low = graph_linear(&x->b, in, name, NULL, p->rank);
    } else if (step == 1 && p->chosen) *low = graph_weigh(&x->b, *low, p->scale);
    else if (step == 1 && p->scale != 1) *low = graph_scale(&x->b, *low, p->scale);
    else if (step == 2) {
        adapt_name(name, p, 'b');
        *low = graph_linear(&x->b, *low, name, NULL, x->g->values[of->out].width);
    } else if (step == 3) x->as[of->out] = graph_add(&x->b, x->as[of->out], *low);
}

/* Node `first` and the adapted layers behind it that read the same value, then what their pairs add. */
static void adapted(struct adapting *x, size_t first)
{
    int32_t in = node_in(x->g, &x->g->nodes[first], 0);
    size_t end = first;
    memset(x->picked, 0xff, sizeof x->picked);            /* GRAPH_NONE */
    for (size_t i = first; i < x->g->n_nodes; i++) {
        if (!joins(x, i, in)) continue;
        const struct graph_node *of = &x->g->nodes[i];
        x->as[of->out] = graph_repeat(&x->b, x->g, of, x->as);
        end = i + 1;
    }
    for (int step = 0; step < 4; step++)
        for (size_t k = 0; k < x->n; k++)
            for (size_t i = first; i < end; i++)
                if (joins(x, i, in) && node_param(x->g, &x->g->nodes[i], 0) == x->param[k])
                    pair_step(x, &x->g->nodes[i], k, step);
    for (size_t i = first; i < end; i++)
        if (joins(x, i, in)) x->done[i] = true;
}

static stretto_status repeat_all(struct adapting *x)
{
    const struct graph *g = x->g;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const struct graph_node *of = &g->nodes[i];
        if (x->done[i]) continue;
        x->b.layer = of->layer;
        if (of->op == OP_LINEAR && joins(x, i, node_in(g, of, 0))) adapted(x, i);
        else x->as[of->out] = graph_repeat(&x->b, g, of, x->as);
    }
    x->b.layer = -1;
    graph_answer(&x->b, g->hidden == GRAPH_NONE ? g->hidden : x->as[g->hidden],
                 g->logits == GRAPH_NONE ? g->logits : x->as[g->logits]);
    return x->b.status;
}

stretto_status adapt(const struct graph *g, const struct adapt_pair *pairs, size_t n, struct graph *out,
                     struct error *err)
{
    *out = (struct graph){ .n_rope = g->n_rope, .layers = g->layers, .bidirectional = g->bidirectional };
    memcpy(out->rope, g->rope, sizeof out->rope);
    TRY(check(g, pairs, n, err));
    struct adapting x = { .b = { .g = out, .err = err, .layer = -1 }, .g = g, .pairs = pairs, .n = n };
    x.as = mem_alloc((g->n_values + 2 * n + 1) * sizeof *x.as);
    x.done = mem_zalloc(g->n_nodes + g->n_params + 1, sizeof *x.done);
    stretto_status s = x.as && x.done ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "out of memory");
    if (s == STRETTO_OK) {
        x.low = x.as + g->n_values;
        x.param = x.low + n;
        x.has = x.done + g->n_nodes;
        for (size_t k = 0; k < n; k++) x.has[x.param[k] = graph_param_find(g, pairs[k].weight)] = true;
        s = repeat_all(&x);
    }
    mem_free(x.as);
    mem_free(x.done);
    if (s != STRETTO_OK) graph_done(out);
    return s;
}
