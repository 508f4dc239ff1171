/* Rows that foretell the next step's tokens (strategy.h: ahead), with models that are made up and no clock: `auto`
 * sends them where a model, or its adapter of guesses, was taught to guess, and next to none where it was not, whatever
 * rows cost. SHOW in the environment prints what came of it. */
#include "unit/unit.h"
#include "base/random.h"
#include "decode/controller.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 4096, WRONG = 99 };
static const double STEP = 0.005;      /* seconds of a step of one row */

/* A row behind a wrong token is right all the same with chance q; the model's own behind right ones always. knows: how
 * sure it is says something. */
struct fake { double q; uint64_t seed; bool knows; };

static int32_t truth(uint32_t at) { return (int32_t)(random_mix(at) % 90); }

static void answer(const struct fake *f, uint32_t at, bool behind_right, struct answer *out)
{
    bool right = behind_right || random_unit(random_mix(f->seed + random_mix(at))) < f->q;
    out->best = right ? truth(at) : WRONG;
    out->status = STRETTO_OK;
    for (int i = 0; i < STEP_TOP; i++) out->top.id[i] = i < 2 ? i ? 98 : out->best : -1;
    out->top.logit[0] = 0;
    out->top.logit[1] = right || !f->knows ? -2.5F : 0;
}

/* The writer's part of a text; returns plain steps per token. fixed: rows ahead in each step, and all guesses are sent;
 * -1: as the controller says. */
static double write_text(struct controller *c, const char *word, const struct fake *f, uint32_t tokens, int fixed)
{
    static int32_t text[LONGEST + 64], apart[TREE_ROWS], apart_next[TREE_ROWS];
    static struct guess_node nodes[TREE_NODES];
    static unsigned char memory[1 << 20], indexed[1 << 20];
    struct strategy_setup setup = { .rows = c->most, .vocab = 100, .gated = true };
    struct guess_tree d = { .node = nodes };
    struct ngram_index index = { 0 };
    struct arena a = { .base = memory, .cap = sizeof memory }, b = { .base = indexed, .cap = sizeof indexed };
    unsigned s = 0;
    uint32_t n = 1;
    double took = 0;
    const struct strategy *x = strategy_find(word, strlen(word), &s);
    memset(memory, 0, sizeof memory);
    memset(indexed, 0, sizeof indexed);
    ngram_plan(&index, &b, LONGEST);
    void *state = x->plan(&a, &setup);
    text[0] = truth(0);
    controller_begin(c);
    while (n < tokens) {
        struct answer answers[TREE_ROWS + 1] = { { 0 } }, apart_answers[TREE_ROWS];
        float p_of_bucket[CONFIDENCE_BUCKETS];
        struct timeline t = { text, n, &index };
        struct proposal p = { .tree = &d, .strategy = s, .p_of_bucket = p_of_bucket, .automatic = true };
        struct error err = { 0 };
        int32_t path[TREE_ROWS];
        uint32_t n_path = 0;
        double promise;
        tree_clear(&d, tokens - n);
        p.floor = controller_chances(c, s, p_of_bucket);
        c->asked[s].now = false;
        if (!x->silent || !x->silent(state, &t)) {
            controller_asks(c, s, state, &t, &d);
            assert_int_equal(x->propose(state, &t, &p, &err), STRETTO_OK);
        }
        controller_weigh(c, &d);
        uint32_t ahead = controller_ahead(c, s, &d, c->most, 1, &promise);
        if (fixed >= 0) ahead = (uint32_t)fixed < d.deepest ? (uint32_t)fixed : d.deepest;
        struct bid bid = { .controller = c, .tree = &d, .room = TREE_ROWS, .promise = promise };
        if (ahead) bid.apart = x->ahead(state, &t, &p, ahead, apart);
        if (ahead) controller_weigh(c, &d);
        controllers_share(&bid, 1, c->most, 0);
        tree_select(&d, fixed >= 0 ? c->most - bid.apart : bid.rows);
        answer(f, n, true, &answers[0]);
        for (uint32_t i = 0; i < d.n_sent; i++) {
            struct guess_node *g = &d.node[d.order[i]];
            bool right = g->token == truth(n + g->depth - 1);
            for (int32_t at = g->parent; at >= 0; at = d.node[at].parent)
                right &= d.node[at].token == truth(n + d.node[at].depth - 1);
            answer(f, n + g->depth, right, &answers[g->row]);
            g->answer = answers[g->row].best;
        }
        for (uint32_t i = 0; i < bid.apart; i++) {
            answer(f, n + i + 1, false, &apart_answers[i]);
            apart_next[i] = apart_answers[i].best;
        }
        for (int32_t i = tree_find(&d, TREE_ROOT, truth(n)); i >= 0 && d.node[i].row;
             i = tree_find(&d, i, truth(n + n_path))) path[n_path++] = i;
        for (uint32_t i = 0; i <= n_path; i++, n++) {
            text[n] = truth(n);
            ngram_add(&index, text[n - 1]);
        }
        uint32_t rows = d.n_sent + 1 + bid.apart;
        took += costs_ratio(c->costs, rows);
        struct outcome o = { .tree = &d, .root_answer = answers[0].best, .path = path, .n_path = n_path,
                             .answers = answers, .apart = apart_answers, .apart_next = apart_next,
                             .n_apart = bid.apart, .now = { text, n, &index } };
        costs_learn(c->costs, rows, STEP * costs_ratio(c->costs, rows));
        x->observe(state, &o);
        controller_learn(c, &o, costs_ratio(c->costs, rows) - 1);
    }
    return took / (n - 1);
}

static struct step_costs costs;
static struct calibration knows;

/* As AVX2, and AMX, charge for rows. */
static const float prices[2][COSTS_POINTS] = { { 1, 1.07F, 1.43F, 2.5F, 4.4F, 8.8F },
                                               { 1, 1.2F, 1.5F, 1.7F, 2.2F, 3.3F } };
static const char *const words[] = { "jacobi", "gated" };

static struct controller make(const char *word, int price)
{
    struct controller c;
    costs_fix(&costs, prices[price]);
    calibration_init(&knows);
    controller_init(&c, (struct decode_choice){ strategy_bit(word), true }, &costs, &knows, 15);
    return c;
}

/* What was never taught costs a text next to nothing, the first one and all behind it. */
static void untaught_loses_next_to_nothing(void **ctx)
{
    (void)ctx;
    for (int k = 0; k < 4; k++) {
        struct controller c = make(words[k / 2], k % 2);
        double sum = 0;
        for (int text = 0; text < 30; text++) {
            uint32_t tokens = text % 3 == 2 ? 600 : 64;
            struct fake f = { .q = text % 2 ? 0 : 0.03, .seed = (uint64_t)text, .knows = text % 4 < 2 };
            double took = write_text(&c, words[k / 2], &f, tokens, -1), lost = (took - 1) * (tokens - 1);
            if (getenv("SHOW")) printf("%s, price %d, text %d: lost %.2f\n", words[k / 2], k % 2, text, lost);
            assert_true(lost < 1.5 + 0.005 * tokens);
            sum += lost / tokens / 30;
        }
        assert_true(sum < 0.01);
    }
}

static double fixed_best(const char *word, int price, double q, int *rows)
{
    double best = 0;
    for (int n = 0; n <= 14; n++) {
        struct controller c = make(word, price);
        double took = 0;
        for (uint64_t text = 2; text < 8; text++) {
            struct fake f = { .q = q, .seed = text * 7919, .knows = true };
            took += write_text(&c, word, &f, 300, n) / 6;
        }
        if (1 / took <= best) continue;
        best = 1 / took;
        *rows = n;
    }
    return best;
}

/* A taught one is used, nearly as well as with the best number of rows that every step could have. */
static void taught_is_used(void **ctx)
{
    (void)ctx;
    static const double q[3] = { 0.5, 0.75, 0.92 };
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < 3; i++) {
            struct controller c = make(words[k / 2], k % 2);
            double took = 0;
            int rows = 0;
            for (uint64_t text = 0; text < 8; text++) {
                struct fake f = { .q = q[i], .seed = text * 7919, .knows = true };
                double one = write_text(&c, words[k / 2], &f, 300, -1);
                assert_true(one < 1.02);
                if (text > 1) took += one / 6;
            }
            double best = fixed_best(words[k / 2], k % 2, q[i], &rows);
            if (getenv("SHOW"))
                printf("%s, price %d, right %.2f: %.3f x, and %.3f with %d rows ahead always\n", words[k / 2], k % 2,
                       q[i], 1 / took, best, rows);
            assert_true(1 / took >= 0.92 * best);
        }
}

/* A model that is right in one domain and not in another. */
static void it_changes_its_mind(void **ctx)
{
    (void)ctx;
    for (int k = 0; k < 4; k++) {
        struct controller c = make(words[k / 2], k % 2);
        struct fake good = { .q = 0.9, .seed = 5, .knows = true }, bad = { .q = 0, .seed = 5, .knows = true };
        for (int round = 0; round < 6; round++) {
            assert_true(write_text(&c, words[k / 2], &good, 600, -1) < (k == 2 ? 0.95 : 0.85));
            double lost = (write_text(&c, words[k / 2], &bad, 600, -1) - 1) * 599;
            if (getenv("SHOW")) printf("%s price %d: lost %.2f\n", words[k / 2], k % 2, lost);
            assert_true(lost < 6);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(untaught_loses_next_to_nothing), cmocka_unit_test(taught_is_used),
        cmocka_unit_test(it_changes_its_mind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
