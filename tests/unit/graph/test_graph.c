/* The builder of graphs: what nodes name is found again, and what does not fit is refused by name. */
#include "graph/graph.h"
#include "unit/unit.h"

struct built { struct graph g; struct graph_builder b; struct error err; };

static void begin(struct built *x)
{
    *x = (struct built){ .g = { .layers = 2, .n_rope = 1 } };
    x->g.rope[0].n_rot = 8;
    x->b = (struct graph_builder){ .g = &x->g, .err = &x->err, .layer = -1 };
}

static void refused(struct built *x, int32_t made, const char *words)
{
    assert_int_equal(made, GRAPH_NONE);
    assert_int_not_equal(x->b.status, STRETTO_OK);
    assert_non_null(strstr(x->err.text, words));
    graph_done(&x->g);
}

static void nodes_name_what_they_read(void **state)
{
    (void)state;
    struct built x;
    begin(&x);
    int32_t h = graph_embed(&x.b, "t", 50, 32, EMBED_TOKEN);
    int32_t q = graph_linear(&x.b, h, "q", "qb", 32), k = graph_linear(&x.b, h, "k", NULL, 16);
    int32_t v = graph_linear(&x.b, h, "v", NULL, 16);
    int32_t a = graph_attention(&x.b, q, k, v, 4, 2, 8, 0, 1, 0, true);
    int32_t y = graph_ask(&x.b, graph_add(&x.b, a, h));
    graph_answer(&x.b, y, graph_linear(&x.b, y, "t", NULL, 50));
    assert_int_equal(x.b.status, STRETTO_OK);
    const struct graph *g = &x.g;
    const struct graph_node *attention = &g->nodes[g->values[a].made_by];
    const struct graph_node *with = &g->nodes[g->values[q].made_by];
    const struct graph_node *without = &g->nodes[g->values[k].made_by];
    assert_int_equal(attention->in.count, 3);
    assert_int_equal(node_in(g, attention, 0), q);
    assert_int_equal(node_in(g, attention, 1), k);
    assert_int_equal(node_in(g, attention, 2), v);
    assert_int_equal(node_in(g, attention, 3), GRAPH_NONE);
    assert_int_equal(node_param(g, attention, 0), GRAPH_NONE);
    assert_int_equal(node_param(g, with, 1), graph_param_find(g, "qb"));
    assert_int_equal(without->param.count, 1);
    assert_int_equal(node_param(g, without, 1), GRAPH_NONE);
    /* the tied table is one parameter */
    assert_int_equal(node_param(g, &g->nodes[g->values[g->logits].made_by], 0),
                     node_param(g, &g->nodes[0], 0));
    graph_done(&x.g);
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    struct built x;
    begin(&x);
    int32_t h = graph_input(&x.b, 16), y = graph_ask(&x.b, h);
    refused(&x, graph_ask(&x.b, y), "once");
    begin(&x);
    h = graph_input(&x.b, 16), y = graph_ask(&x.b, h);
    refused(&x, graph_attention(&x.b, h, y, h, 2, 2, 8, 0, 1, 0, true), "all rows");
    begin(&x);
    h = graph_input(&x.b, 16);
    refused(&x, graph_attention(&x.b, h, h, h, 2, 2, 8, 4, 1, 0, false), "window");
    begin(&x);
    h = graph_input(&x.b, 16);
    for (uint32_t i = 0; i < GRAPH_GROUPS; i++)
        assert_true(graph_attention(&x.b, h, h, h, 2, 2, 8, i, 1, 0, true) >= 0);
    refused(&x, graph_attention(&x.b, h, h, h, 2, 2, 8, GRAPH_GROUPS, 1, 0, true), "different ways");
    begin(&x);
    h = graph_input(&x.b, 16);
    refused(&x, graph_add(&x.b, h, graph_ask(&x.b, h)), "different shape");
    begin(&x);
    graph_answer(&x.b, graph_input(&x.b, 16), GRAPH_NONE);
    refused(&x, GRAPH_NONE, "rows that ask");
}

/* Layers that keep the same for as long are a group, in any order; sizes and windows tell them apart. */
static void layers_form_groups(void **state)
{
    (void)state;
    struct built x;
    begin(&x);
    static const struct { uint32_t kv_heads, head_dim, window, group, member; } layers[] = {
        { 2, 8, 30, 0, 0 }, { 2, 8, 0, 1, 0 }, { 2, 8, 30, 0, 1 }, { 4, 4, 0, 2, 0 },
        { 2, 8, 31, 3, 0 }, { 1, 16, 30, 4, 0 }, { 2, 8, 0, 1, 1 }, { 2, 8, 30, 0, 2 } };
    int32_t h = graph_input(&x.b, 16);
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        uint32_t kv = layers[i].kv_heads, hd = layers[i].head_dim;
        int32_t a = graph_attention(&x.b, h, h, h, kv, kv, hd, layers[i].window, 1, 0, true);
        assert_true(a >= 0);
        const struct graph_node *n = &x.g.nodes[x.g.values[a].made_by];
        const struct layer_group *g = &x.g.group[n->attention.group];
        assert_int_equal(n->attention.group, layers[i].group);
        assert_int_equal(n->attention.member, layers[i].member);
        assert_int_equal(g->kind, layers[i].window ? GROUP_WINDOW : GROUP_FULL);
        assert_int_equal(g->kv_heads, kv);
        assert_int_equal(g->head_dim, hd);
        assert_int_equal(g->window, layers[i].window);
    }
    assert_int_equal(x.g.n_groups, 5);
    assert_int_equal(x.g.group[0].layers, 3);
    assert_int_equal(x.g.group[1].layers, 2);
    graph_done(&x.g);
}

/* The first error stays; whatever is built on top of it is nothing. */
static void errors_stay(void **state)
{
    (void)state;
    struct built x;
    begin(&x);
    int32_t h = graph_input(&x.b, 16);
    int32_t bad = graph_norm(&x.b, h, NORM_RMS, 1e-5f, 5, "n", NULL);
    size_t nodes = x.g.n_nodes;
    assert_int_equal(graph_mul(&x.b, bad, h), GRAPH_NONE);
    assert_int_equal(graph_scale(&x.b, h, 2), GRAPH_NONE);
    assert_int_equal(x.g.n_nodes, nodes);
    refused(&x, bad, "a norm does not fit its heads");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_name_what_they_read),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(layers_form_groups),
        cmocka_unit_test(errors_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
