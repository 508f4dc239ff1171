/* What is right about written answers: numbers and statements, by hand. */
#include "eval/answers.h"
#include "eval/choices.h"
#include "unit/unit.h"
#include <math.h>
#include <string.h>

static void numbers(void **state)
{
    (void)state;
    static const struct { const char *text, *until; int found; double number; } cases[] = {
        { "The answer is 72.", NULL, 1, 72 },       { "It costs $1,234.50 in all", NULL, 1, 1234.5 },
        { "#### -5", NULL, 1, -5 },                 { "from 3-4", NULL, 1, 4 },
        { "1, 2, 3", NULL, 1, 3 },                  { "no number", NULL, 0, 0 },
        { "", NULL, 0, 0 },                         { "is 8\nQuestion: of 9", "\nQuestion:", 1, 8 },
        { "1.2.3", NULL, 1, 3 },                    { "10%", NULL, 1, 10 },
        { "x2", NULL, 1, 2 },                       { "is 5. Then", NULL, 1, 5 },
        { "12,34", NULL, 1, 1234 },                 { "a - 7", NULL, 1, 7 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double got = 0;
        assert_int_equal(answer_number(cases[i].text, cases[i].until, &got), cases[i].found);
        assert_true(fabs(got - cases[i].number) < 1e-9);
    }
    double got;
    char digits[400];
    memset(digits, '9', sizeof digits - 1);
    digits[sizeof digits - 1] = '\0';
    assert_int_equal(answer_number(digits, NULL, &got), 1);
}

static void statements(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        { " SELECT  a\nFROM b ; and more", "SELECT a FROM b" },
        { "Here:\n```sql\nSELECT 1\n```\nIt counts.", "SELECT 1" },
        { "```\nSELECT 2;\n```", "SELECT 2" },
        { "", "" },
        { "```", "" },
    };
    char out[64];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        answer_sql(cases[i][0], out, sizeof out);
        assert_string_equal(out, cases[i][1]);
    }
    answer_sql("SELECT abc", out, 5);
    assert_string_equal(out, "SELE");
    assert_true(sql_same("SELECT count(*) FROM singer", "select COUNT( * )  from Singer;"));
    assert_true(sql_same("SELECT a ,  b FROM t WHERE c  =  'Fra'", "SELECT a, b FROM t WHERE c=\"Fra\""));
    assert_true(sql_same("", " ; "));
    assert_false(sql_same("SELECT a FROM t WHERE c = 'x'", "SELECT a FROM t WHERE c = 'X'"));
    assert_false(sql_same("SELECT ab", "SELECT a b"));
    assert_false(sql_same("SELECT a", "SELECT a FROM t"));
}

static void tests(void **state)
{
    (void)state;
    double low, high;
    share_interval(0, 10, &low, &high);
    assert_true(low < 1e-12 && fabs(high - 0.277532799) < 1e-8);
    share_interval(5, 10, &low, &high);
    assert_true(fabs(low - 0.236593091) < 1e-8 && fabs(high - 0.763406909) < 1e-8);
    assert_true(fabs(mcnemar(0, 0) - 1) < 1e-12 && fabs(mcnemar(7, 7) - 1) < 1e-12);
    assert_true(fabs(mcnemar(1, 9) - 22.0 / 1024) < 1e-12 && fabs(mcnemar(9, 1) - 22.0 / 1024) < 1e-12);
}

int main(void)
{
    const struct CMUnitTest all[] = { cmocka_unit_test(numbers), cmocka_unit_test(statements),
                                      cmocka_unit_test(tests) };
    return cmocka_run_group_tests(all, NULL, NULL);
}
