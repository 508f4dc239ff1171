/* Adapters in graphs (graph/adapt.h): where their nodes stand and who reads them. What they compute is held to merged
 * weights by tests/unit/train/test_adapter.c. */
#include "graph/adapt.h"
#include "unit/unit.h"

enum { WIDTH = 32, VOCAB = 50 };

struct built { struct graph g; struct graph_builder b; struct error err; };

/* Two linear layers of one input, one behind the other's sum, a tied head. */
static void model(struct built *x)
{
    *x = (struct built){ .g = { .layers = 1, .n_rope = 1 } };
    x->g.rope[0] = (struct rope_table){ .n_rot = 8, .base = 10 };
    x->b = (struct graph_builder){ .g = &x->g, .err = &x->err, .layer = -1 };
    int32_t h = graph_embed(&x->b, "token_embd.weight", VOCAB, WIDTH, EMBED_TOKEN);
    x->b.layer = 0;
    int32_t q = graph_linear(&x->b, h, "q.weight", "q.bias", WIDTH);
    int32_t k = graph_linear(&x->b, h, "k.weight", NULL, WIDTH);
    int32_t o = graph_attention(&x->b, graph_rope(&x->b, q, ROPE_PAIRS, 4, 8, 0), k, k, 4, 4, 8, 0, 1, 0, true);
    h = graph_add(&x->b, h, o);
    x->b.layer = -1;
    h = graph_ask(&x->b, h);
    graph_answer(&x->b, h, graph_linear(&x->b, h, "token_embd.weight", NULL, VOCAB));
    assert_int_equal(x->b.status, STRETTO_OK);
}

static const struct graph_node *maker(const struct graph *g, int32_t v) { return &g->nodes[g->values[v].made_by]; }
static const char *name(const struct graph *g, const struct graph_node *n)
{
    return g->params[node_param(g, n, 0)].name;
}

/* v is y + scale * B A x: checks all of it and gives y's node. */
static const struct graph_node *adapted(const struct graph *g, int32_t v, const char *weight, bool scaled)
{
    char a[GRAPH_NAME], b[GRAPH_NAME];
    snprintf(a, sizeof a, "%s.lora_a", weight);
    snprintf(b, sizeof b, "%s.lora_b", weight);
    const struct graph_node *sum = maker(g, v);
    assert_int_equal(sum->op, OP_ADD);
    const struct graph_node *y = maker(g, node_in(g, sum, 0)), *up = maker(g, node_in(g, sum, 1));
    const struct graph_node *down = maker(g, node_in(g, up, 0));
    if (scaled) {
        assert_int_equal(down->op, OP_SCALE);
        assert_float_equal(down->scale, 2, 0);
        down = maker(g, node_in(g, down, 0));
    }
    assert_string_equal(name(g, up), b);
    assert_string_equal(name(g, down), a);
    assert_string_equal(name(g, y), weight);
    assert_int_equal(node_in(g, down, 0), node_in(g, y, 0));
    assert_int_equal(down->layer, y->layer);
    return y;
}

static void they_stand_behind_their_layers(void **state)
{
    (void)state;
    struct built x;
    struct graph out;
    model(&x);
    const struct adapt_pair pairs[] = { { "q.weight", 4, 0, 2, false }, { "token_embd.weight", 2, 0, 1, false } };
    assert_int_equal(adapt(&x.g, pairs, 2, &out, &x.err), STRETTO_OK);
    assert_int_equal(out.n_nodes, x.g.n_nodes + 4 + 3);
    assert_memory_equal(out.rope, x.g.rope, sizeof out.rope);
    adapted(&out, out.logits, "token_embd.weight", false);
    for (size_t i = 0; i < out.n_nodes; i++) {
        if (out.nodes[i].op != OP_ATTENTION) continue;
        const struct graph_node *rope = maker(&out, node_in(&out, &out.nodes[i], 0));
        const struct graph_node *q = adapted(&out, node_in(&out, rope, 0), "q.weight", true);
        assert_string_equal(out.params[node_param(&out, q, 1)].name, "q.bias");
        assert_int_equal(maker(&out, node_in(&out, &out.nodes[i], 1))->op, OP_LINEAR);
    }
    const struct graph_param *a = &out.params[graph_param_find(&out, "q.weight.lora_a")];
    const struct graph_param *b = &out.params[graph_param_find(&out, "q.weight.lora_b")];
    assert_int_equal(a->n_in, WIDTH);
    assert_int_equal(a->n_out, 4);
    assert_int_equal(b->n_in, 4);
    assert_int_equal(b->n_out, WIDTH);
    assert_true(adapt_owns(a->name) && !adapt_owns("q.weight"));
    graph_done(&out);
    graph_done(&x.g);
}

static void several_of_one_layer_follow_each_other(void **state)
{
    (void)state;
    struct built x;
    struct graph out;
    model(&x);
    const struct adapt_pair pairs[] = { { "k.weight", 4, 0, 2, false }, { "k.weight", 8, 1, 2, false } };
    assert_int_equal(adapt(&x.g, pairs, 2, &out, &x.err), STRETTO_OK);
    assert_int_equal(out.n_nodes, x.g.n_nodes + 8);
    assert_int_equal(out.params[graph_param_find(&out, "k.weight.lora_a.1")].n_out, 8);
    graph_done(&out);
    graph_done(&x.g);
}

static void what_does_not_fit_is_named(void **state)
{
    (void)state;
    struct built x;
    struct graph out;
    model(&x);
    const struct adapt_pair none[] = { { "v.weight", 4, 0, 2, false } }, zero[] = { { "q.weight", 0, 0, 2, false } };
    const struct adapt_pair twice[] = { { "q.weight", 4, 0, 2, false }, { "q.weight", 4, 0, 2, false } };
    const struct { const struct adapt_pair *p; size_t n; const char *words; } rows[] = {
        { none, 1, "no linear layer v.weight" }, { zero, 1, "rank 0" }, { twice, 2, "two pairs for q.weight" },
    };
    for (size_t i = 0; i < 3; i++) {
        struct error err = { 0 };
        assert_int_equal(adapt(&x.g, rows[i].p, rows[i].n, &out, &err), STRETTO_E_ARG);
        assert_non_null(strstr(err.text, rows[i].words));
    }
    graph_done(&x.g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_stand_behind_their_layers),
        cmocka_unit_test(several_of_one_layer_follow_each_other),
        cmocka_unit_test(what_does_not_fit_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
