/* The tree of guesses against brute force: merging, chances of paths, the choice of nodes, their order. */
#include "unit/unit.h"
#include "base/random.h"
#include "decode/tree.h"
#include <math.h>

static uint64_t state;
static uint32_t below(uint32_t n) { return (uint32_t)(random_mix(state++) % n); }

static struct guess_tree make(void)
{
    static struct guess_node nodes[TREE_NODES];
    struct guess_tree d = { .node = nodes };
    tree_clear(&d, 20);
    return d;
}

/* A random tree; a child is likelier among the last nodes, so that it gets deep. */
static void grow(struct guess_tree *d, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        int32_t parent = d->n ? (int32_t)below(d->n + 1) - 1 : TREE_ROOT;
        if (d->n > 4 && below(2)) parent = (int32_t)(d->n - 1 - below(4));
        float p = (float)(1 + below(1000)) / 1001;
        if (below(8) == 0) p = 0.5F;                     /* ties */
        int32_t at = tree_add(d, parent, (int32_t)below(5), below(8), below(16), p);
        if (at >= 0 && below(20) == 0) d->node[at].wanted = true;
    }
}

static void equal_tokens_are_one_node(void **ctx)
{
    (void)ctx;
    struct guess_tree d = make();
    int32_t a = tree_add(&d, TREE_ROOT, 7, 1, 3, 0.25F);
    int32_t b = tree_add(&d, TREE_ROOT, 7, 4, 9, 0.5F);
    assert_int_equal(a, b);
    assert_int_equal(d.n, 1);
    assert_true(d.node[a].p == 0.5F);
    assert_int_equal(d.node[a].strategies, 1 << 1 | 1 << 4);
    assert_int_equal(d.node[a].bucket_of[1], 3);
    assert_int_equal(d.node[a].bucket_of[4], 9);
    assert_int_not_equal(tree_add(&d, a, 7, 1, 3, 0.25F), a);
    assert_int_equal(tree_find(&d, TREE_ROOT, 7), a);
    assert_int_equal(tree_find(&d, TREE_ROOT, 8), TREE_FULL);
}

static void nothing_beyond_the_limits(void **ctx)
{
    (void)ctx;
    struct guess_tree d = make();
    int32_t at = TREE_ROOT;
    tree_clear(&d, 3);
    for (int i = 0; i < 3; i++) assert_true((at = tree_add(&d, at, i, 0, 0, 1)) >= 0);
    assert_int_equal(tree_add(&d, at, 9, 0, 0, 1), TREE_FULL);
    for (int i = 0; d.n < TREE_NODES; i++) tree_add(&d, TREE_ROOT, 100 + i, 0, 0, 1);
    assert_int_equal(tree_add(&d, TREE_ROOT, 99, 0, 0, 1), TREE_FULL);
    assert_true(tree_add(&d, TREE_ROOT, 100, 0, 0, 1) >= 0);      /* joins */
}

/* The sum over chosen nodes of their paths, which is what a step is expected to add. */
static double worth(const struct guess_tree *d)
{
    double sum = 0;
    for (uint32_t i = 0; i < d->n_sent; i++) sum += (double)d->node[d->order[i]].path;
    return sum;
}

/* The best subtree of k nodes by trying all subsets of a small tree. */
static double best_subset(const struct guess_tree *d, uint32_t k)
{
    double best = 0;
    for (uint32_t set = 0; set < 1u << d->n; set++) {
        double sum = 0;
        uint32_t n = 0;
        bool closed = true;
        for (uint32_t i = 0; i < d->n; i++) {
            if (!(set >> i & 1)) continue;
            n++;
            sum += (double)d->node[i].path;
            closed &= d->node[i].parent < 0 || (set >> d->node[i].parent & 1);
        }
        if (closed && n <= k && sum > best) best = sum;
    }
    return best;
}

static void choice_is_optimal(void **ctx)
{
    (void)ctx;
    for (int round = 0; round < 60; round++) {
        struct guess_tree d = make();
        grow(&d, 11);
        for (uint32_t i = 0; i < d.n; i++) d.node[i].wanted = false;
        tree_weigh(&d);
        for (uint32_t k = 0; k <= d.n; k++) {
            tree_select(&d, k);
            assert_true(fabs(worth(&d) - best_subset(&d, k)) < 1e-5);
        }
    }
}

static void rows_are_in_order(void **ctx)
{
    (void)ctx;
    for (int round = 0; round < 400; round++) {
        struct guess_tree d = make();
        grow(&d, 1 + below(200));
        tree_weigh(&d);
        uint32_t k = below(TREE_ROWS + 3), n = tree_select(&d, k);
        assert_int_equal(n, k < d.n ? k < TREE_ROWS ? k : TREE_ROWS : d.n);
        uint32_t sent = 0;
        for (uint32_t i = 0; i < n; i++) {
            const struct guess_node *x = &d.node[d.order[i]];
            assert_int_equal(x->row, i + 1);
            if (x->parent >= 0) {
                assert_in_range(d.node[x->parent].row, 1, i);
            }
        }
        for (uint32_t i = 0; i < d.n; i++) sent += d.node[i].row > 0;
        assert_int_equal(sent, n);
        /* The likeliest sent child stands right behind its parent. */
        for (uint32_t i = 0; i < d.n; i++) {
            const struct guess_node *x = &d.node[i];
            float best = -1;
            int32_t row = 0;
            for (int32_t c = x->child; x->row && c >= 0; c = d.node[c].sibling)
                if (d.node[c].row && d.node[c].path > best) best = d.node[c].path;
            for (int32_t c = x->child; x->row && c >= 0; c = d.node[c].sibling)
                if (d.node[c].row == x->row + 1) row = c + 1;
            if (best >= 0) assert_true(row && d.node[row - 1].path == best);
        }
    }
}

static void wanted_nodes_come_first(void **ctx)
{
    (void)ctx;
    struct guess_tree d = make();
    int32_t at = TREE_ROOT;
    for (int i = 0; i < 6; i++) {
        at = tree_add(&d, at, i, 0, 0, 0.01F);
        d.node[at].wanted = true;
        tree_add(&d, TREE_ROOT, 50 + i, 1, 0, 0.15F);
    }
    tree_weigh(&d);
    assert_int_equal(tree_select(&d, 6), 6);
    for (uint32_t i = 0; i < 6; i++) assert_true(d.node[d.order[i]].wanted);
}

static void gains_are_sorted_paths(void **ctx)
{
    (void)ctx;
    for (int round = 0; round < 100; round++) {
        struct guess_tree d = make();
        grow(&d, 100);
        tree_weigh(&d);
        float gain[TREE_ROWS];
        uint32_t n = tree_gains(&d, gain, TREE_ROWS);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t larger = 0, equal = 0;
            for (uint32_t j = 0; j < d.n; j++) {
                larger += d.node[j].path > gain[i];
                equal += d.node[j].path == gain[i];
            }
            assert_true(equal && larger <= i && i < larger + equal);
        }
    }
}

static void siblings_share_one_chance(void **ctx)
{
    (void)ctx;
    struct guess_tree d = make();
    int32_t a = tree_add(&d, TREE_ROOT, 1, 0, 0, 0.9F), b = tree_add(&d, TREE_ROOT, 2, 0, 0, 0.9F);
    int32_t c = tree_add(&d, a, 1, 0, 0, 0.4F);
    tree_weigh(&d);
    assert_true(fabsf(d.node[a].path - 0.5F) < 1e-6F && fabsf(d.node[b].path - 0.5F) < 1e-6F);
    assert_true(fabsf(d.node[c].path - 0.2F) < 1e-6F);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_tokens_are_one_node), cmocka_unit_test(nothing_beyond_the_limits),
        cmocka_unit_test(choice_is_optimal),         cmocka_unit_test(rows_are_in_order),
        cmocka_unit_test(wanted_nodes_come_first),   cmocka_unit_test(gains_are_sorted_paths),
        cmocka_unit_test(siblings_share_one_chance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
