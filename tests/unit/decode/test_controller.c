/* The controller: its choice against brute force, costs that are learned through noise, sources that
 * are believed as far as they were right, words of --decode. */
#include "unit/decode/machine.h"
#include "unit/unit.h"
#include "base/random.h"
#include "decode/controller.h"
#include <math.h>
#include <string.h>

static uint64_t state;
static double unit(void) { return random_unit(random_mix(state++)); }

static struct guess_tree random_tree(void)
{
    static struct guess_node nodes[TREE_NODES];
    struct guess_tree d = { .node = nodes };
    tree_clear(&d, 40);
    for (int i = 0; i < 60; i++)
        tree_add(&d, d.n ? (int32_t)(unit() * (d.n + 1)) - 1 : -1, (int32_t)(unit() * 6), 0, 0,
                  (float)unit());
    tree_weigh(&d);
    return d;
}

static struct controller make(struct step_costs *costs, struct calibration *cal, bool automatic)
{
    struct controller c;
    costs_init(costs, machine());
    calibration_init(cal);
    controller_init(&c, (struct decode_choice){ 0xf, automatic }, costs, cal, 15);
    return c;
}

static void sends_the_optimum(void **ctx)
{
    (void)ctx;
    static struct step_costs costs;
    static struct calibration cal;
    struct controller c = make(&costs, &cal, true);
    for (int round = 0; round < 300; round++) {
        for (uint32_t n = 2; n <= COSTS_MOST; n++)
            costs.prior[n] = costs.prior[n - 1] + (float)(0.3 * unit());
        struct guess_tree d = random_tree();
        float gain[15];
        double reading = round % 2 ? 0 : 20 * unit();
        uint32_t k, n = tree_gains(&d, gain, 15), sent = controller_rows(&c, &d, 48, reading);
        double best = 0, mine = 0, sum = 1;
        for (k = 0; k <= n; k++) {
            double rate = sum / costs_ratio(&costs, 1 + k);
            bool late = reading > 0 && costs_ratio(&costs, 1 + k) + reading > (1 + reading) / 0.95;
            if (k && rate > best && !late) best = rate;
            if (k == sent) mine = rate;
            if (k && k == sent) assert_false(late);
            if (k < n) sum += (double)gain[k];
        }
        if (sent) assert_true(mine >= best * (1 - 1e-9) && mine > 1);
        else assert_true(best <= 1.0301);
        assert_true(controller_rows(&c, &d, 2, reading) <= 2);
    }
}

static void others_pay_too(void **ctx)
{
    (void)ctx;
    static struct step_costs costs;
    static struct calibration cal;
    static struct guess_node nodes[TREE_NODES];
    struct controller c = make(&costs, &cal, true);
    struct guess_tree d = { .node = nodes };
    tree_clear(&d, 4);
    tree_add(&d, TREE_ROOT, 1, 0, 0, 0.5F);
    tree_weigh(&d);
    for (uint32_t n = 2; n <= COSTS_MOST; n++) costs.prior[n] = 1 + 0.3F * (float)(n - 1);
    assert_int_equal(controller_rows(&c, &d, 48, 0), 1);     /* 1.5 for 1.3                      */
    assert_int_equal(controller_rows(&c, &d, 48, 4), 0);     /* 5.3 is 6 % more than 5               */
    assert_int_equal(controller_rows(&c, &d, 48, 5), 1);     /* 6.3 is 5 % more than 6               */
    for (uint32_t n = 2; n <= COSTS_MOST; n++) costs.prior[n] = 1 + 0.45F * (float)(n - 1);
    assert_int_equal(controller_rows(&c, &d, 48, 0), 1);     /* 1.5 for 1.45: 3.4 % more           */
    for (uint32_t n = 2; n <= COSTS_MOST; n++) costs.prior[n] = (float)n;
    assert_int_equal(controller_rows(&c, &d, 48, 0), 0);
    assert_int_equal(controller_rows(&c, &d, 48, 100), 0);
}

/* One text has good guesses. Another one without any loses a twentieth by them at most; one that gains by its own
 * lets the step be longer. */
static void nobody_loses(void **ctx)
{
    (void)ctx;
    static struct step_costs costs;
    static struct calibration cal;
    static struct guess_node nodes[2][TREE_NODES];
    struct controller c[2] = { make(&costs, &cal, true), make(&costs, &cal, true) };
    struct guess_tree d[2] = { { .node = nodes[0] }, { .node = nodes[1] } };
    for (uint32_t n = 2; n <= COSTS_MOST; n++) costs.prior[n] = 1 + 0.04F * (float)(n - 1);
    for (int i = 0; i < 2; i++) tree_clear(&d[i], 8);
    for (int32_t k = 0; k < 4; k++) tree_add(&d[0], k - 1, k, 0, 0, 0.9F);
    for (int with = 0; with < 2; with++) {
        struct bid bids[2];
        if (with) tree_add(&d[1], TREE_ROOT, 1, 0, 0, 0.5F);
        for (int i = 0; i < 2; i++) {
            tree_weigh(&d[i]);
            bids[i] = (struct bid){ .controller = &c[i], .tree = &d[i], .room = 48 };
        }
        controllers_share(bids, 2, 40, 0);
        assert_int_equal(bids[0].rows, with ? 4 : 1);
        assert_int_equal(bids[1].rows, with);
        controllers_share(bids, 1, 40, 0);
        assert_int_equal(bids[0].rows, 4);
    }
}

/* True costs with noise, a stolen core now and then, and a text that grows. */
static void costs_are_learned(void **ctx)
{
    (void)ctx;
    static const double truth[] = { 0, 1, 1.1, 1.2, 1.25, 1.6, 1.9, 2.1, 2.3, 2.5 };
    struct step_costs c;
    costs_init(&c, machine());
    assert_true(costs_of(&c, 1) == 0 && costs_ratio(&c, 2) > 1);
    for (int i = 0; i < 4000; i++) {
        uint32_t n = unit() < 0.5 ? 1 : 1 + (uint32_t)(unit() * 9);
        double base = 0.008 * (1 + i * 2e-5), noise = 1 + 0.06 * (unit() - 0.5);
        costs_learn(&c, n, truth[n] * base * noise * (unit() < 0.05 ? 10 : 1));
    }
    for (uint32_t n = 1; n <= 9; n++) {
        assert_true(fabs(costs_ratio(&c, n) / truth[n] - 1) < 0.08);
        assert_true(fabs(costs_of(&c, n) / (truth[n] * 0.008 * 1.08) - 1) < 0.1);
    }
    /* One bad first sample of a number of rows does not forbid it for ever. */
    costs_learn(&c, 20, 5);
    assert_true(costs_ratio(&c, 20) < 30);
    costs_learn(&c, 0, 1);
    costs_learn(&c, 100000, 1);
    costs_learn(&c, 1, -1);
    assert_true(isfinite(costs_of(&c, 60)) && costs_of(&c, 60) > costs_of(&c, 49));
}

/* Only steps of one size: nothing runs away. */
static void one_size_is_stable(void **ctx)
{
    (void)ctx;
    struct step_costs c;
    costs_init(&c, machine());
    for (int i = 0; i < 3000; i++) costs_learn(&c, 16, 0.1 * (0.5 + unit()));
    assert_true(fabs(costs_of(&c, 16) / 0.1 - 1) < 0.2);
    assert_true(costs_of(&c, 1) > 0.005 && costs_of(&c, 1) < 0.2);
}

/* One tree after the other with one node of source 1, bucket 2, that is right with chance q. */
static void teach(struct controller *c, double q, int steps)
{
    static struct guess_node nodes[TREE_NODES];
    struct guess_tree d = { .node = nodes };
    for (int i = 0; i < steps; i++) {
        int32_t tokens[2] = { 1, unit() < q ? 7 : 8 };
        tree_clear(&d, 4);
        tree_add(&d, TREE_ROOT, 7, 1, 2, 0.5F);
        tree_add(&d, 0, 9, 1, 3, 0.5F);
        struct outcome o = { .tree = &d, .root_answer = tokens[1],
                             .now = { .tokens = tokens, .n = 2 } };
        controller_learn(c, &o, costs_ratio(c->costs, d.n_sent + 1) - 1);
    }
}

static void sources_are_calibrated(void **ctx)
{
    (void)ctx;
    static struct step_costs costs;
    static struct calibration cal;
    struct controller c = make(&costs, &cal, true);
    float p[CONFIDENCE_BUCKETS];
    controller_chances(&c, 1, p);
    assert_true(p[2] == strategies[1]->prior[2]);
    float deeper = p[3];
    teach(&c, 0.9, 400);
    controller_chances(&c, 1, p);
    assert_true(fabsf(p[2] - 0.9F) < 0.12F);
    assert_true(p[3] == deeper);              /* its parent's answer never told: nothing is known */
    teach(&c, 0.05, 60);                      /* and it changes its mind soon */
    controller_chances(&c, 1, p);
    assert_true(p[2] < 0.4F);
    controller_begin(&c);                     /* the next request begins with what all taught */
    controller_chances(&c, 1, p);
    assert_true(p[2] > 0.5F && p[2] < 0.95F);
    assert_int_equal(c.counts.steps, 0);
}

/* All sources judge together: agreement is evidence for, silence of a source that was asked against;
 * and a source that turns out to be wrong loses its say within some tens of tests. */
static void sources_judge_together(void **ctx)
{
    (void)ctx;
    static struct step_costs costs;
    static struct calibration cal;
    static struct guess_node nodes[TREE_NODES];
    struct controller c = make(&costs, &cal, true);
    struct guess_tree d = { .node = nodes };
    tree_clear(&d, 4);
    int32_t one = tree_add(&d, TREE_ROOT, 1, 1, 5, 0.5F);
    int32_t both = tree_add(&d, TREE_ROOT, 2, 1, 5, 0.5F);
    tree_add(&d, TREE_ROOT, 2, 2, 5, 0.5F);
    controller_asks(&c, 1, NULL, NULL, NULL);
    controller_weigh(&c, &d);
    float unasked = d.node[one].p;
    controller_asks(&c, 2, NULL, NULL, NULL);
    controller_weigh(&c, &d);
    assert_true(d.node[both].p > unasked && d.node[one].p < unasked);
    for (int i = 0; i < 60; i++) {
        int32_t tokens[2] = { 0, 9 };
        struct outcome o = { .tree = &d, .root_answer = 9,
                             .now = { .tokens = tokens, .n = 2 } };
        controller_asks(&c, 1, NULL, NULL, NULL);
        controller_asks(&c, 2, NULL, NULL, NULL);
        controller_learn(&c, &o, costs_ratio(c.costs, d.n_sent + 1) - 1);
    }
    controller_asks(&c, 1, NULL, NULL, NULL);
    controller_asks(&c, 2, NULL, NULL, NULL);
    controller_weigh(&c, &d);
    assert_true(d.node[both].p < 0.15F && d.node[one].p < 0.15F);
    controller_begin(&c);                     /* the engine learned more slowly */
    controller_asks(&c, 1, NULL, NULL, NULL);
    controller_asks(&c, 2, NULL, NULL, NULL);
    controller_weigh(&c, &d);
    assert_true(d.node[both].p > 0.05F && d.node[both].p < 0.5F);
}

/* Guesses that are sent and always wrong are soon not sent any more, whatever they promised. */
static void losing_ends(void **ctx)
{
    (void)ctx;
    static struct step_costs costs;
    static struct calibration cal;
    static struct guess_node nodes[TREE_NODES];
    struct controller c = make(&costs, &cal, true);
    struct guess_tree d = { .node = nodes };
    uint32_t sent = 0, late = 0;
    for (int i = 0; i < 200; i++) {
        float p[CONFIDENCE_BUCKETS];
        int32_t tokens[2] = { 1, 8 };
        controller_chances(&c, 1, p);
        tree_clear(&d, 4);
        tree_add(&d, TREE_ROOT, 7, 1, 11, p[11]);
        tree_weigh(&d);
        uint32_t k = controller_rows(&c, &d, 15, 0);
        tree_select(&d, k);
        sent += k;
        late += i > 100 ? k : 0;
        struct outcome o = { .tree = &d, .root_answer = 8,
                             .now = { .tokens = tokens, .n = 2 } };
        controller_learn(&c, &o, costs_ratio(c.costs, d.n_sent + 1) - 1);
    }
    assert_true(sent > 0 && sent < 30);
    assert_int_equal(late, 0);
}

static void words(void **ctx)
{
    (void)ctx;
    struct decode_choice c;
    struct error err = { 0 };
    assert_int_equal(decode_parse("plain", &c, &err), STRETTO_OK);
    assert_true(c.strategies == 0 && !c.automatic);
    assert_int_equal(decode_parse("auto", &c, &err), STRETTO_OK);
    assert_true(c.strategies != 0 && c.automatic);
    assert_int_equal(decode_parse("jacobi+lookup", &c, &err), STRETTO_OK);
    assert_true(c.strategies == 3 && !c.automatic);
    for (unsigned s = 0; strategies[s]; s++) {
        assert_int_equal(decode_parse(strategies[s]->name, &c, &err), STRETTO_OK);
        assert_int_equal(c.strategies, 1u << s);
        assert_true(*strategies[s]->what && *strategies[s]->paper);
    }
    static const char *const wrong[] = { "", "+", "lookup+", "+plain", "auto plain", "lookupx", "Auto" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        err = (struct error){ 0 };
        assert_int_equal(decode_parse(wrong[i], &c, &err), STRETTO_E_ARG);
        assert_non_null(strstr(err.text, "lookup"));
    }
}

/* Another machine's prices: what was given at its points, lines between, and nothing learned but the
 * seconds of one row. */
static void costs_are_fixed(void **unused)
{
    (void)unused;
    struct step_costs c;
    costs_fix(&c, (const float[]){ 1, 1.2F, 1.5F, 1.7F, 2.2F, 3.4F });
    for (int i = 0; i < 100; i++)
        for (uint32_t n = 1; n <= 32; n++) costs_learn(&c, n, 5e-3 * n);
    assert_true(fabs(costs_ratio(&c, 2) - 1.2) < 1e-6 && fabs(costs_ratio(&c, 8) - 1.7) < 1e-6);
    assert_true(fabs(costs_ratio(&c, 6) - 1.6) < 1e-6 && fabs(costs_ratio(&c, 24) - 2.8) < 1e-6);
    assert_true(fabs(costs_ratio(&c, 40) - 4.0) < 1e-5);
    assert_true(fabs(costs_of(&c, 1) - 5e-3) < 1e-4);
}

/* A prompt is read in pieces of all sizes, ever deeper; the machine is not what was believed of it, has noise and is
 * now and then away. What the next piece costs is foretold within two thirds, and mostly within a fifth. */
static void reading_is_foretold(void **unused)
{
    (void)unused;
    enum { DEPTH = 8000 };
    static const double row = 0.3e-3, pair = 0.3e-6, plain = 4e-3;
    for (int k = 0; k < 3; k++) {
        struct step_costs c;
        uint32_t far = 0, all = 0;
        costs_init(&c, machine());
        costs_look(&c, (const double[]){ 0.3, 1, 4 }[k] * pair / row);
        for (int i = 0; i < 20; i++) costs_learn(&c, 1, plain);
        for (uint32_t at = 0; at < DEPTH;) {
            struct given_rows r = { 8 << random_mix(at) % 4, 0 };
            r.back = r.rows * (at + r.rows / 2.0);
            double small = r.rows < 16 ? 1.2 : 1, truth = small * (row * r.rows + pair * r.back);
            double told = costs_reading(&c, r) * c.base / truth;
            double noise = (unit() < 0.05 ? 5 : 1) * (0.95 + 0.1 * unit());
            if (at > 1000) {
                all++;
                far += fabs(told - 1) > 0.2;
                assert_true(told > 0.6 && told < 1.7);
            }
            costs_learn_reading(&c, 1, r, plain + truth * noise);
            at += r.rows;
        }
        assert_true(far < all / 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sends_the_optimum), cmocka_unit_test(others_pay_too), cmocka_unit_test(nobody_loses),
        cmocka_unit_test(costs_are_learned), cmocka_unit_test(one_size_is_stable),
        cmocka_unit_test(sources_are_calibrated), cmocka_unit_test(sources_judge_together),
        cmocka_unit_test(losing_ends), cmocka_unit_test(reading_is_foretold),
        cmocka_unit_test(words), cmocka_unit_test(costs_are_fixed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
