/* Cutting graphs (graph/partition.h): what a part has, and where there is no cut, in words. That parts answer what
 * the whole answers: tests/unit/backend/test_split.c and `invariance --split`. */
#include "graph/partition.h"
#include "base/memory.h"
#include "unit/unit.h"

enum { WIDTH = 32, HEAD = 8, LAYERS = 4, VOCAB = 50 };

struct built { struct graph g; struct graph_builder b; struct error err; int32_t h, old; };

static void begin(struct built *x, uint32_t layers)
{
    *x = (struct built){ .g = { .layers = layers, .n_rope = 2 } };
    x->g.rope[0] = (struct rope_table){ .n_rot = HEAD, .base = 10 };
    x->g.rope[1] = (struct rope_table){ .n_rot = 4, .base = 20 };
    x->b = (struct graph_builder){ .g = &x->g, .err = &x->err, .layer = -1 };
    x->h = graph_embed(&x->b, "tokens", VOCAB, WIDTH, EMBED_TOKEN);
}

/* Layer `layer` with a window or none; weights of its own. */
static void block(struct built *x, int32_t layer, uint32_t window)
{
    char q[16], o[16];
    x->b.layer = layer;
    x->old = x->h;
    snprintf(q, sizeof q, "q%d", layer);
    snprintf(o, sizeof o, "o%d", layer);
    int32_t y = graph_rope(&x->b, graph_linear(&x->b, x->h, q, NULL, WIDTH), ROPE_PAIRS, WIDTH / HEAD, HEAD,
                           (uint32_t)layer % 2);
    y = graph_attention(&x->b, y, y, y, WIDTH / HEAD, WIDTH / HEAD, HEAD, window, 1, 0, true);
    x->h = graph_add(&x->b, x->h, graph_linear(&x->b, y, o, "bias", WIDTH));
}

static void end(struct built *x)
{
    x->b.layer = -1;
    int32_t y = graph_norm(&x->b, graph_ask(&x->b, x->h), NORM_RMS, 1e-5F, 0, "norm", NULL);
    graph_answer(&x->b, y, graph_linear(&x->b, y, "tokens", NULL, VOCAB));
    assert_int_equal(x->b.status, STRETTO_OK);
}

/* Windows in layers 0, 2 and 3, none in layer 1. */
static void model(struct built *x)
{
    begin(x, LAYERS);
    for (int32_t i = 0; i < LAYERS; i++) block(x, i, i == 1 ? 0 : 9);
    end(x);
}

static void cut(struct graph_part *p, const struct graph *g, uint32_t first, uint32_t last)
{
    struct error err = { 0 };
    if (graph_cut(p, g, first, last, &err) != STRETTO_OK) print_error("%s\n", err.text);
    assert_int_equal(p->first, first);
    assert_int_equal(p->layers, last - first);
    assert_int_equal(p->graph.layers, last - first);
    assert_int_equal(p->graph.n_rope, g->n_rope);
    assert_memory_equal(p->graph.rope, g->rope, sizeof g->rope);
}

static bool has(const struct graph_part *p, const char *name)
{
    return graph_param_find(&p->graph, name) != GRAPH_NONE;
}

static const struct graph_node *maker(const struct graph *g, int32_t v) { return &g->nodes[g->values[v].made_by]; }

static void the_first_part(void **state)
{
    (void)state;
    struct built x;
    struct graph_part p;
    model(&x);
    cut(&p, &x.g, 0, 1);
    const struct graph *g = &p.graph;
    assert_int_equal(g->nodes[0].op, OP_EMBED);
    assert_int_equal(g->nodes[0].embed, EMBED_TOKEN);
    assert_int_equal(g->nodes[0].layer, -1);
    assert_int_equal(g->nodes[1].layer, 0);
    assert_int_equal(g->logits, GRAPH_NONE);
    assert_int_equal(maker(g, g->hidden)->op, OP_ASK);
    assert_int_equal(maker(g, node_in(g, maker(g, g->hidden), 0))->op, OP_ADD);
    assert_int_equal(g->values[g->hidden].width, WIDTH);
    assert_int_equal(g->values[g->hidden].rows, ROWS_ASKING);
    assert_true(has(&p, "tokens") && has(&p, "q0") && has(&p, "bias") && !has(&p, "q1") && !has(&p, "norm"));
    assert_int_equal(g->n_groups, 1);
    assert_int_equal(g->group[0].window, 9);
    assert_int_equal(g->group[0].layers, 1);
    assert_int_equal(p.group[0], 0);
    assert_int_equal(p.group[1], GRAPH_NONE);
    for (int i = 2; i < GRAPH_GROUPS; i++) assert_int_equal(p.group[i], GRAPH_NONE);
    graph_part_done(&p);
    graph_done(&x.g);
}

static void a_part_in_between(void **state)
{
    (void)state;
    struct built x;
    struct graph_part p;
    model(&x);
    cut(&p, &x.g, 1, 3);
    const struct graph *g = &p.graph;
    assert_int_equal(g->nodes[0].op, OP_EMBED);
    assert_int_equal(g->nodes[0].embed, EMBED_VECTOR);
    assert_int_equal(g->nodes[1].layer, 0);
    assert_int_equal(g->nodes[g->n_nodes - 2].layer, 1);
    assert_int_equal(g->nodes[g->n_nodes - 1].op, OP_ASK);
    /* layer 1 has no window, so its group is the part's first */
    assert_int_equal(g->n_groups, 2);
    assert_int_equal(p.group[0], 1);
    assert_int_equal(p.group[1], 0);
    uint32_t attentions = 0;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const struct graph_node *n = &g->nodes[i];
        if (n->op != OP_ATTENTION) continue;
        assert_int_equal(n->attention.group, attentions);
        assert_int_equal(n->attention.member, 0);
        assert_int_equal(n->attention.window, attentions++ ? 9 : 0);
    }
    assert_int_equal(attentions, 2);
    assert_true(!has(&p, "tokens") && has(&p, "q1") && has(&p, "o2") && !has(&p, "q3"));
    graph_part_done(&p);
    graph_done(&x.g);
}

static void the_last_part(void **state)
{
    (void)state;
    struct built x;
    struct graph_part p;
    model(&x);
    cut(&p, &x.g, 2, LAYERS);
    const struct graph *g = &p.graph;
    assert_int_equal(g->values[g->logits].width, VOCAB);
    assert_int_equal(maker(g, g->hidden)->op, OP_NORM);
    assert_true(has(&p, "tokens") && has(&p, "norm") && !has(&p, "q1"));
    assert_int_equal(g->group[0].layers, 2);
    assert_int_equal(p.group[0], 0);
    graph_part_done(&p);
    /* and the part of a part is that part of the whole */
    struct graph_part again, direct;
    cut(&p, &x.g, 1, LAYERS);
    cut(&again, &p.graph, 1, 3);
    cut(&direct, &x.g, 2, LAYERS);
    assert_int_equal(again.graph.n_nodes, direct.graph.n_nodes);
    assert_memory_equal(again.graph.nodes, direct.graph.nodes, direct.graph.n_nodes * sizeof *direct.graph.nodes);
    assert_int_equal(again.graph.n_params, direct.graph.n_params);
    graph_part_done(&p);
    graph_part_done(&again);
    graph_part_done(&direct);
    graph_done(&x.g);
}

static void the_whole(void **state)
{
    (void)state;
    struct built x;
    struct graph_part p;
    model(&x);
    cut(&p, &x.g, 0, LAYERS);
    assert_int_equal(p.graph.n_nodes, x.g.n_nodes);
    assert_memory_equal(p.graph.nodes, x.g.nodes, x.g.n_nodes * sizeof *x.g.nodes);
    assert_memory_equal(p.graph.links, x.g.links, x.g.n_links * sizeof *x.g.links);
    assert_int_equal(p.graph.hidden, x.g.hidden);
    assert_int_equal(p.graph.logits, x.g.logits);
    assert_int_equal(p.group[0], 0);
    assert_int_equal(p.group[1], 1);
    graph_part_done(&p);
    graph_done(&x.g);
}

/* No layers at all: heads that guess. */
static void without_layers(void **state)
{
    (void)state;
    struct graph g = { .layers = 0 };
    struct error err = { 0 };
    struct graph_builder b = { .g = &g, .err = &err, .layer = -1 };
    struct graph_part p;
    graph_answer(&b, GRAPH_NONE, graph_linear(&b, graph_ask(&b, graph_input(&b, WIDTH)), "w", NULL, VOCAB));
    cut(&p, &g, 0, 0);
    assert_int_equal(p.graph.n_nodes, g.n_nodes);
    assert_int_equal(p.graph.hidden, GRAPH_NONE);
    assert_int_equal(p.graph.values[p.graph.logits].width, VOCAB);
    graph_part_done(&p);
    graph_done(&g);
}

static void refused(struct built *x, uint32_t at, const char *words)
{
    struct graph_part p;
    struct error err[2] = { 0 };
    end(x);
    assert_int_equal(graph_cut(&p, &x->g, 0, at, &err[0]), STRETTO_E_UNSUP);
    assert_int_equal(p.graph.n_nodes, 0);
    assert_int_equal(graph_cut(&p, &x->g, at, x->g.layers, &err[1]), STRETTO_E_UNSUP);
    for (int i = 0; i < 2; i++) {
        assert_non_null(strstr(err[i].text, "before layer"));
        assert_non_null(strstr(err[i].text, words));
    }
    graph_done(&x->g);
}

static void where_there_is_no_cut(void **state)
{
    (void)state;
    struct built x;
    begin(&x, 2);                      /* a later layer reads an older one's value too */
    block(&x, 0, 0);
    int32_t old = x.old;
    block(&x, 1, 0);
    x.h = graph_add(&x.b, x.h, old);
    refused(&x, 1, "several values");

    begin(&x, 2);                      /* rows have no tokens there */
    block(&x, 0, 0);
    block(&x, 1, 0);
    x.h = graph_add(&x.b, x.h, graph_embed(&x.b, "more", VOCAB, WIDTH, EMBED_TOKEN));
    refused(&x, 1, "not one vector of every row");

    begin(&x, 2);                      /* what crosses is of the rows that ask */
    block(&x, 0, 0);
    x.h = graph_ask(&x.b, x.h);
    x.b.layer = 1;
    graph_answer(&x.b, graph_linear(&x.b, x.h, "last", NULL, WIDTH), GRAPH_NONE);
    struct graph_part p;
    struct error err = { 0 };
    assert_int_equal(graph_cut(&p, &x.g, 0, 1, &err), STRETTO_E_UNSUP);
    assert_non_null(strstr(err.text, "not one vector of every row"));
    graph_done(&x.g);

    begin(&x, 3);                      /* layers in no order */
    block(&x, 1, 0);
    block(&x, 0, 0);
    block(&x, 2, 0);
    refused(&x, 1, "in no order");
}

/* An answer that is made before the cut keeps the graph whole. */
static void an_early_answer(void **state)
{
    (void)state;
    struct built x;
    struct graph_part p;
    struct error err = { 0 };
    begin(&x, 2);
    block(&x, 0, 0);
    x.b.layer = -1;                    /* of no layer: it goes to whichever side there is a cut on */
    int32_t early = graph_ask(&x.b, x.h);
    block(&x, 1, 0);
    graph_answer(&x.b, early, graph_linear(&x.b, graph_ask(&x.b, x.h), "tokens", NULL, VOCAB));
    assert_int_equal(graph_cut(&p, &x.g, 0, 1, &err), STRETTO_OK);
    graph_part_done(&p);
    assert_int_equal(graph_cut(&p, &x.g, 1, 2, &err), STRETTO_OK);
    assert_int_equal(maker(&p.graph, p.graph.hidden)->op, OP_ASK);
    graph_part_done(&p);
    graph_done(&x.g);

    begin(&x, 2);                      /* of the layer itself: then there is none */
    x.b.layer = 0;
    early = graph_ask(&x.b, graph_linear(&x.b, x.h, "w", NULL, WIDTH));
    block(&x, 0, 0);
    block(&x, 1, 0);
    graph_answer(&x.b, early, graph_linear(&x.b, graph_ask(&x.b, x.h), "tokens", NULL, VOCAB));
    assert_int_equal(graph_cut(&p, &x.g, 0, 1, &err), STRETTO_E_UNSUP);
    graph_done(&x.g);
}

static void allocations(void **state)
{
    (void)state;
    struct built x;
    struct graph_part p;
    model(&x);
    for (uint64_t n = 1, reached = 1; reached; n++) {
        struct error err = { 0 };
        uint64_t before = mem_count();
        mem_fail_at(n);
        stretto_status s = graph_cut(&p, &x.g, 1, 3, &err);
        reached = mem_count() - before >= n;
        mem_fail_at(0);
        assert_int_equal(s, reached ? STRETTO_E_NOMEM : STRETTO_OK);
        if (s != STRETTO_OK) assert_null(p.graph.nodes);
    }
    graph_part_done(&p);
    graph_done(&x.g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_part), cmocka_unit_test(a_part_in_between), cmocka_unit_test(the_last_part),
        cmocka_unit_test(the_whole), cmocka_unit_test(without_layers), cmocka_unit_test(where_there_is_no_cut),
        cmocka_unit_test(an_early_answer), cmocka_unit_test(allocations) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
