/* How long a type takes to be read: every type that is asked for runs on this machine, and nothing else is timed. */
#include "unit/unit.h"
#include "compress/rates.h"
#include <math.h>

static void types_that_are_wanted_have_a_time(void **state)
{
    (void)state;
    struct error err = { 0 };
    bool wanted[DT_COUNT] = { false };
    double seconds[DT_COUNT];
    wanted[DT_Q2_K] = wanted[DT_IQ4_NL] = wanted[DT_Q8_0] = true;
    assert_int_equal(rates_measure(wanted, 1, seconds, &err), STRETTO_OK);
    for (int t = 0; t < DT_COUNT; t++) {
        if (wanted[t]) assert_true(seconds[t] > 0 && isfinite(seconds[t]));
        else assert_true(seconds[t] == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(types_that_are_wanted_have_a_time) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
