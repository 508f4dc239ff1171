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
        if (!p->rank) return fail(err, STRETTO_E_ARG, "the adapter of %s has rank 0", p->weight);
        if (!adapt_name(name, p, 'a'))
            return fail(err, STRETTO_E_UNSUP, "the name of tensor %s is too long for an adapter", p->weight);
        for (size_t k = 0; k < i; k++)
            if (pairs[k].adapter == p->adapter && strcmp(pairs[k].weight, p->weight) == 0)
                return fail(err, STRETTO_E_ARG, "an adapter has two pairs for %s", p->weight);
    }
    return STRETTO_OK;
}

/* y and what the pair adds to it; scaled where it is narrowest. */
static int32_t add_pair(struct graph_builder *b, const struct adapt_pair *p, int32_t x, int32_t y, uint32_t n_out)
{
    char a[GRAPH_NAME], to[GRAPH_NAME];
    adapt_name(a, p, 'a');
    adapt_name(to, p, 'b');
    int32_t low = graph_linear(b, x, a, NULL, p->rank);
    if (p->scale != 1) low = graph_scale(b, low, p->scale);
    return graph_add(b, y, graph_linear(b, low, to, NULL, n_out));
}

static stretto_status repeat_all(struct graph_builder *b, const struct graph *g, const struct adapt_pair *pairs,
                                 size_t n, int32_t *as)
{
    for (size_t i = 0; i < g->n_nodes; i++) {
        const struct graph_node *of = &g->nodes[i];
        b->layer = of->layer;
        int32_t y = graph_repeat(b, g, of, as);
        for (size_t k = 0; k < n && of->op == OP_LINEAR; k++)
            if (strcmp(g->params[node_param(g, of, 0)].name, pairs[k].weight) == 0)
                y = add_pair(b, &pairs[k], as[node_in(g, of, 0)], y, g->values[of->out].width);
        as[of->out] = y;
    }
    b->layer = -1;
    graph_answer(b, g->hidden == GRAPH_NONE ? g->hidden : as[g->hidden],
                 g->logits == GRAPH_NONE ? g->logits : as[g->logits]);
    return b->status;
}

stretto_status adapt(const struct graph *g, const struct adapt_pair *pairs, size_t n, struct graph *out,
                     struct error *err)
{
    *out = (struct graph){ .n_rope = g->n_rope, .layers = g->layers, .bidirectional = g->bidirectional };
    memcpy(out->rope, g->rope, sizeof out->rope);
    TRY(check(g, pairs, n, err));
    struct graph_builder b = { .g = out, .err = err, .layer = -1 };
    int32_t *as = mem_alloc((g->n_values + 1) * sizeof *as);
    stretto_status s = as ? repeat_all(&b, g, pairs, n, as) : fail(err, STRETTO_E_NOMEM, "out of memory");
    mem_free(as);
    if (s != STRETTO_OK) graph_done(out);
    return s;
}
