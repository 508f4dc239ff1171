/* The account of guessing on machines that are not what was believed of them: where guesses lose, a text takes next to
 * nothing longer than without; where they win, nearly all of it is won. */
#include "base/random.h"
#include "decode/account.h"
#include "unit/unit.h"

enum { STEPS = 20000 };

static uint64_t state;
static double unit(void) { return random_unit(random_mix(state++)); }

/* Seconds a token, of those without guesses: a step with guesses takes `longer` times as long and gives `tokens`, where
 * it is foretold that it takes `told` times as long; everything takes `slow` times what is foretold. */
static double played(double longer, double tokens, double told, double slow)
{
    struct guess_account a = { .with = 0 };
    double time = 0, got = 0;
    for (int i = 0; i < STEPS; i++) {
        bool allowed = account_allows(&a);
        double noise = slow * (unit() < 0.03 ? 8 : 0.85 + 0.3 * unit()), s = allowed ? longer : 1;
        account_add(&a, allowed, s * noise, allowed ? told : 1, allowed ? tokens : 1);
        time += s;
        got += allowed ? tokens : 1;
    }
    return time / got;
}

static void what_loses_ends(void **unused)
{
    (void)unused;
    for (int k = 0; k < 3; k++) {
        double slow = (const double[]){ 0.7, 1, 1.5 }[k];
        assert_true(played(1.05, 1, 1, slow) < 1.04);            /* time spent on guesses of which none is sent */
        assert_true(played(1.4, 1.1, 1.02, slow) < 1.03);
        assert_true(played(2.5, 1.3, 1.1, slow) < 1.04);
    }
}

static void what_wins_goes_on(void **unused)
{
    (void)unused;
    for (int k = 0; k < 3; k++) {
        double slow = (const double[]){ 0.7, 1, 1.5 }[k];
        assert_true(played(1.2, 1.8, 1.2, slow) < 1.2 / 1.8 * 1.04);
        assert_true(played(1.1, 1.25, 1.05, slow) < 1.1 / 1.25 * 1.04);
        assert_true(played(1, 1.05, 1, slow) < 0.985);
    }
}

/* The machine changes: what lost wins, and the other way round. */
static void nothing_is_for_ever(void **unused)
{
    (void)unused;
    struct guess_account a = { .with = 0 };
    uint32_t guessed[4] = { 0 };
    for (int i = 0; i < 4 * STEPS / 5; i++) {
        int now = i / (STEPS / 5);
        bool allowed = account_allows(&a);
        account_add(&a, allowed, allowed ? (now % 2 ? 1.3 : 1.1) : 1, allowed ? 1.1 : 1, allowed ? 1.2 : 1);
        guessed[now] += allowed;
    }
    assert_true(guessed[0] > 3000 && guessed[2] > 2500);
    assert_true(guessed[1] < 600 && guessed[3] < 600);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(what_loses_ends), cmocka_unit_test(what_wins_goes_on),
                                        cmocka_unit_test(nothing_is_for_ever) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
