/* Results side by side: figures against Welch's test done by hand, and files that are none. */
#include "eval/compare.h"
#include "unit/unit.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static struct compare_file read_text(const char *text)
{
    struct compare_file f;
    struct error err = {0};
    stretto_status s = compare_read(&f, text, strlen(text), &err);
    assert_string_equal(err.text, "");
    assert_int_equal(s, STRETTO_OK);
    return f;
}

static struct compare_change change(const char *a, const char *b)
{
    char text[2][400];
    const char *samples[2] = {a, b};
    struct compare_file f[2];
    for (int i = 0; i < 2; i++) {
        snprintf(text[i], sizeof text[i],
                 "[{\"model_filename\": \"/somewhere/m.gguf\", \"n_prompt\": 0, \"n_gen\": 128, "
                 "\"type_k\": \"f16\", \"n_threads\": 2, \"samples_ts\": %s}]",
                 samples[i]);
        f[i] = read_text(text[i]);
    }
    assert_int_equal(f[0].n, 1);
    assert_string_equal(f[0].rows[0].name, "tg128, m.gguf, f16, 2 threads");
    const struct compare_row *other = compare_find(&f[1], f[0].rows[0].name);
    assert_non_null(other);
    struct compare_change c = compare_rows(&f[0].rows[0], other);
    compare_done(&f[0]);
    compare_done(&f[1]);
    return c;
}

static void close_to(double x, double y) { assert_true(fabs(x - y) < 1e-4 * fabs(y)); }

static void verdicts_follow_the_interval(void **state)
{
    (void)state;
    struct compare_change c = change("[100, 101, 99, 100, 100]", "[90, 91, 89, 90, 90]");
    close_to(c.ratio, 0.899989);
    assert_true(c.known && c.slower && !c.faster && c.low < c.ratio && c.ratio < c.high);
    /* By hand: variances of the logarithms 5.0006e-5 and 6.1739e-5, 7.91 degrees of freedom, for
     * which the row of 7 stands: t = 2.365, half width 0.0111806. */
    close_to(log(c.high) - log(c.low), 2 * 0.0111806);
    c = change("[90, 91, 89, 90, 90]", "[100, 101, 99, 100, 100]");
    assert_true(c.faster && !c.slower);
    c = change("[100, 80, 120, 90, 110]", "[90, 110, 75, 100, 85]");
    assert_true(c.known && !c.slower && !c.faster && c.low < 1 && c.high > 1);
    c = change("[100, 100, 100]", "[100, 100, 100]");
    assert_true(c.known && !c.slower && !c.faster && c.ratio == 1);
    c = change("[100, 100, 100]", "[99, 99, 99]");
    assert_true(c.slower);
}

static void one_sample_knows_no_noise(void **state)
{
    (void)state;
    struct compare_change c = change("[100]", "[50, 51]");
    assert_true(!c.known && !c.slower && !c.faster);
    c = change("[100, 101]", "[50]");
    assert_true(!c.known && !c.slower);
}

static void rows_of_a_history_are_read_too(void **state)
{
    (void)state;
    struct compare_file f = read_text(
        "{\"commit\": \"x\", \"rows\": [{\"n_prompt\": 512, \"n_depth\": 64, \"n_parallel\": 4, "
        "\"samples_ts\": [10, 1000]}]}");
    assert_string_equal(f.rows[0].name, "pp512 @ d64 x 4, , , 0 threads");
    close_to(f.rows[0].speed, 100);
    compare_done(&f);
}

static void devices_are_not_compared_with_each_other(void **state)
{
    (void)state;
    struct compare_file f = read_text("[{\"n_gen\": 8, \"device\": \"cpu\", \"samples_ts\": [1]}, "
                                      "{\"n_gen\": 8, \"device\": \"cuda:0+cpu\", \"samples_ts\": [1]}]");
    assert_string_equal(f.rows[0].name, "tg8, , , 0 threads");
    assert_string_equal(f.rows[1].name, "tg8, , , 0 threads, cuda:0+cpu");
    compare_done(&f);
}

static void refused(const char *text, const char *because)
{
    struct compare_file f;
    struct error err = {0};
    assert_int_not_equal(compare_read(&f, text, strlen(text), &err), STRETTO_OK);
    assert_null(f.rows);
    if (!strstr(err.text, because)) assert_string_equal(err.text, because);
}

static void bad_files_are_refused_with_words(void **state)
{
    (void)state;
    refused("", "line");
    refused("[1, 2", "line 1");
    refused("3", "list of 1 to");
    refused("[]", "list of 1 to");
    refused("{\"rows\": 7}", "list of 1 to");
    refused("[7]", "row 1");
    refused("[{\"samples_ts\": []}]", "row 1");
    refused("[{\"samples_ts\": [1, 0]}]", "sample 2 of row 1");
    refused("[{\"samples_ts\": [-1]}]", "sample 1");
    refused("[{\"samples_ts\": [\"fast\"]}]", "sample 1");
    refused("[{\"samples_ts\": [1]}, {\"samples_ts\": [1]}]", "same test");
    static char many[COMPARE_ROWS * 4 + 16];
    size_t n = 0;
    many[n++] = '[';
    for (int i = 0; i <= COMPARE_ROWS; i++) n += (size_t)sprintf(many + n, "%s7", i ? "," : "");
    many[n] = ']';
    refused(many, "list of 1 to");
    struct compare_file f;
    struct error err = {0};
    assert_int_not_equal(compare_read(&f, "[", (size_t)COMPARE_BYTES + 1, &err), STRETTO_OK);
    assert_non_null(strstr(err.text, "at most"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdicts_follow_the_interval),
        cmocka_unit_test(one_sample_knows_no_noise),
        cmocka_unit_test(rows_of_a_history_are_read_too),
        cmocka_unit_test(devices_are_not_compared_with_each_other),
        cmocka_unit_test(bad_files_are_refused_with_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
