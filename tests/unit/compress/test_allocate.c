/* Allocation beside the exact answer: dynamic programming over whole costs. */
#include "unit/unit.h"
#include "base/random.h"
#include "compress/allocate.h"
#include <math.h>

enum { PARTS = 40, CHOICES = 7, MOST = 4000 };

static struct choice choices[PARTS][CHOICES];
static struct part parts[PARTS];

/* Types of 2 to 8 bits, each bit a quarter of the error and some luck; parts of different sizes and weights. */
static void make(uint64_t seed)
{
    for (uint64_t i = 0; i < PARTS; i++) {
        double size = 1 + floor(10 * random_unit(random_at(seed, 1, i, 0)));
        double weight = exp(6 * random_unit(random_at(seed, 2, i, 0)) - 9);
        for (uint64_t k = 0; k < CHOICES; k++) {
            double luck = exp(random_unit(random_at(seed, 3, i, k)) - 0.5);
            choices[i][k] = (struct choice){ size * (double)(k + 2), weight * luck * pow(0.25, (double)k) };
        }
        parts[i] = (struct part){ choices[i], CHOICES };
    }
}

static void sums(const size_t *pick, double *cost, double *damage)
{
    *cost = *damage = 0;
    for (size_t i = 0; i < PARTS; i++) {
        *cost += choices[i][pick[i]].cost;
        *damage += choices[i][pick[i]].damage;
    }
}

/* least[b]: the least damage at a cost of at most b. */
static void exact(double least[MOST + 1])
{
    for (size_t b = 0; b <= MOST; b++) least[b] = 0;
    for (size_t i = 0; i < PARTS; i++)
        for (size_t b = MOST + 1; b-- > 0;) {
            double best = INFINITY;
            for (size_t k = 0; k < CHOICES; k++) {
                size_t c = (size_t)choices[i][k].cost;
                if (c <= b && least[b - c] + choices[i][k].damage < best) best = least[b - c] + choices[i][k].damage;
            }
            least[b] = best;
        }
}

static void near_the_exact_answer(void **state)
{
    (void)state;
    static double least[MOST + 1];
    for (uint64_t seed = 0; seed < 20; seed++) {
        make(seed);
        exact(least);
        for (size_t budget = 700; budget <= 1600; budget += 100) {
            size_t pick[PARTS];
            double cost, damage;
            stretto_status s = allocate_budget(parts, PARTS, (double)budget, pick, NULL);
            sums(pick, &cost, &damage);
            if (isinf(least[budget])) {
                assert_int_equal(s, STRETTO_E_FULL);
                continue;
            }
            assert_int_equal(s, STRETTO_OK);
            assert_true(cost <= (double)budget);
            assert_true(damage >= least[budget] * (1 - 1e-12));
            assert_true(damage <= least[budget] * 1.05 + 1e-12);
            /* And the other way round: no more cost for this damage than was had. */
            double again, met;
            assert_int_equal(allocate_bound(parts, PARTS, damage, pick, NULL), STRETTO_OK);
            sums(pick, &again, &met);
            assert_true(met <= damage * (1 + 1e-12));
            assert_true(again <= cost * 1.02);
        }
    }
}

static void what_cannot_be_met_is_the_nearest(void **state)
{
    (void)state;
    size_t pick[PARTS];
    double cost, damage;
    struct error err = { 0 };
    make(7);
    assert_int_equal(allocate_budget(parts, PARTS, 10, pick, &err), STRETTO_E_FULL);
    for (size_t i = 0; i < PARTS; i++) assert_int_equal(pick[i], 0);
    assert_int_equal(allocate_bound(parts, PARTS, 1e-12, pick, NULL), STRETTO_E_FULL);
    sums(pick, &cost, &damage);
    for (size_t i = 0; i < PARTS; i++)
        for (size_t k = 0; k < CHOICES; k++) assert_true(choices[i][pick[i]].damage <= choices[i][k].damage);
    struct part none = { choices[0], 0 };
    assert_int_equal(allocate_budget(&none, 1, 10, pick, NULL), STRETTO_E_ARG);
}

/* A choice that costs more and spoils more is never taken, and equal costs take the better. */
static void poor_choices_are_left(void **state)
{
    (void)state;
    const struct choice a[] = { { 3, 5 }, { 3, 1 }, { 4, 2 }, { 9, 0.5 } };
    const struct part p = { a, 4 };
    size_t pick;
    assert_int_equal(allocate_budget(&p, 1, 8, &pick, NULL), STRETTO_OK);
    assert_int_equal(pick, 1);
    assert_int_equal(allocate_budget(&p, 1, 9, &pick, NULL), STRETTO_OK);
    assert_int_equal(pick, 3);
    assert_int_equal(allocate_bound(&p, 1, 2, &pick, NULL), STRETTO_OK);
    assert_int_equal(pick, 1);
}

/* What is right for no price is taken all the same where the next step does not fit. */
static void what_is_left_is_used(void **state)
{
    (void)state;
    const struct choice a[] = { { 1, 10 }, { 3, 9 }, { 11, 0 } };
    const struct part p = { a, 3 };
    size_t pick;
    for (size_t budget = 1; budget < 12; budget++) {
        assert_int_equal(allocate_budget(&p, 1, (double)budget, &pick, NULL), STRETTO_OK);
        assert_int_equal(pick, budget < 3 ? 0 : budget < 11 ? 1 : 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(near_the_exact_answer),
                                        cmocka_unit_test(what_cannot_be_met_is_the_nearest),
                                        cmocka_unit_test(poor_choices_are_left),
                                        cmocka_unit_test(what_is_left_is_used) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
