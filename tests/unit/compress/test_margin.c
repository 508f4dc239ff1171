/* The margin of a choice beside the proofs that windows drawn at random would have had. */
#include "unit/unit.h"
#include "base/random.h"
#include "compress/margin.h"
#include <math.h>
#include <string.h>

enum { TEXTS = 3, WINDOWS = 40, TOKENS = 24, TRIALS = 1200 };

static double normal(uint64_t seed, uint64_t trial, uint64_t what, uint64_t at)
{
    double u = random_unit(random_at(seed, trial, what, 2 * at));
    double v = random_unit(random_at(seed, trial, what, 2 * at + 1));
    return sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v);
}

/* Two texts of windows, one of conversations, shorter and further apart: tokens of a window share its luck. */
static const struct { double mean, spread; size_t windows, tokens, least; } kinds[TEXTS] = {
    { 0.06, 0.3, 10, TOKENS, TOKENS }, { 0.03, 0.4, 8, TOKENS, TOKENS }, { 0.08, 0.6, 22, 12, 2 } };

static struct eval_row rows[2][TEXTS][WINDOWS * TOKENS];

/* half 0: what chooses, 1: the proof. own: every token a window of its own, which is wrong. */
static struct eval_rows draw(uint64_t trial, uint64_t half, uint64_t t, bool own)
{
    struct eval_rows r = { .row = rows[half][t] };
    for (uint64_t w = 0; w < kinds[t].windows; w++) {
        uint64_t at = 64 * (2 * t + half) + w, n = kinds[t].least;
        double luck = exp(kinds[t].spread * normal(1, trial, 1, at) - kinds[t].spread * kinds[t].spread / 2);
        n += (uint64_t)((double)(kinds[t].tokens - n + 1) * random_unit(random_at(1, trial, 2, at)));
        for (uint64_t i = 0; i < n; i++) {
            double v = -log(1 - random_unit(random_at(1, trial, 3, 64 * at + i)));
            r.row[r.n] = (struct eval_row){ .kl = (float)(kinds[t].mean * luck * v),
                                            .window = (uint32_t)(own ? r.n : w) };
            r.n++;
        }
    }
    r.windows = own ? r.n : kinds[t].windows;
    return r;
}

static struct eval_kl of_rows(const struct eval_rows *r)
{
    struct eval_kl k;
    assert_int_equal(eval_kl(r, &k, NULL), STRETTO_OK);
    return k;
}

/* Of all trials the share whose proof is within the estimate and `part` of its margin. */
static double held(double part, bool own, double *margin)
{
    size_t within = 0;
    *margin = 0;
    for (uint64_t trial = 0; trial < TRIALS; trial++) {
        struct margin_text text[TEXTS];
        struct eval_rows all = { .n = 0 };
        double proof = 0, tokens = 0;
        for (uint64_t t = 0; t < TEXTS; t++) {
            struct eval_rows choice = draw(trial, 0, t, own), later = draw(trial, 1, t, own);
            text[t] = (struct margin_text){ of_rows(&choice), later.n };
            proof += of_rows(&later).kl.value * (double)later.n;
            tokens += (double)later.n;
            assert_int_equal(eval_rows_add(&all, &choice, NULL), STRETTO_OK);
        }
        struct eval_kl together = of_rows(&all);
        struct margin m = margin_of(text, TEXTS, &together);
        eval_rows_done(&all);
        within += proof / tokens <= m.kl + part * m.margin;
        *margin += m.margin / m.kl / TRIALS;
    }
    return (double)within / TRIALS;
}

static void nineteen_proofs_of_twenty(void **state)
{
    (void)state;
    double margin, share = held(1, false, &margin);
    printf("within: %.3f, margin %.3f of the estimate\n", share, margin);
    assert_true(share > 0.93 && share < 0.97);
    /* What would be noticed: no margin, one that forgets the proof's own chance, one over tokens alone. */
    share = held(0, false, &margin);
    assert_true(share > 0.4 && share < 0.6);
    assert_true(held(0.707, false, &margin) < 0.92);
    assert_true(held(1, true, &margin) < 0.9);
}

static struct eval_kl mean(double kl, double error, size_t windows, size_t tokens)
{
    return (struct eval_kl){ .kl = { kl, error }, .windows = windows, .tokens = tokens };
}

/* Of the estimate's logarithm, in units of its error. */
static double quantile(struct margin m, double error) { return log1p(m.margin / m.kl) * m.kl / error; }

static void few_windows_take_more(void **state)
{
    (void)state;
    struct eval_kl all = mean(0.05, 0.005, 11, 1100);
    struct margin_text t = { all, 1100 };
    struct margin m = margin_of(&t, 1, &all);
    assert_true(fabs(m.kl - 0.05) < 1e-12);
    assert_true(fabs(quantile(m, 0.005 * sqrt(2)) - 1.812) < 0.002);         /* Student's table: 10 */
    t.kl.windows = all.windows = 3;
    assert_true(fabs(quantile(margin_of(&t, 1, &all), 0.005 * sqrt(2)) - 2.92) < 0.05);
    t.later = 11;                                                             /* a proof of few tokens */
    assert_true(fabs(quantile(margin_of(&t, 1, &all), 0.005 * sqrt(101)) - 2.92) < 0.05);
    /* Texts count as they do in the proof; one window has the spread of all. */
    struct margin_text two[2] = { { mean(0.04, 0.001, 10, 1000), 1000 }, { mean(0.08, 1e-9, 1, 300), 3000 } };
    all = mean(0.041, 0.002, 11, 1300);
    m = margin_of(two, 2, &all);
    assert_true(fabs(m.kl - 0.07) < 1e-12);
    double error = sqrt(2 * pow(0.25 * 0.001, 2) + 1.1 * pow(0.75 * 0.002, 2) * 11);
    assert_true(fabs(quantile(m, error) - 1.812) < 0.005);                    /* nearly all of it has 10 */
    /* One window in all. */
    t = (struct margin_text){ mean(0.05, 0.005, 1, 100), 100 };
    assert_true(margin_of(&t, 1, &t.kl).margin > 5 * 0.005);
    t = (struct margin_text){ mean(0, 0, 4, 100), 100 };
    assert_true(margin_of(&t, 1, &t.kl).margin == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(nineteen_proofs_of_twenty),
                                        cmocka_unit_test(few_windows_take_more) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
