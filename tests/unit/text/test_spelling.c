/* What a chain of replacements gives does not depend on how the text arrives. */
#include "text/spelling.h"
#include "unit/unit.h"
#include <string.h>

static void add(struct spelling_steps *s, const char *from, const char *to)
{
    struct error err = { 0 };
    assert_int_equal(spelling_add(s, from, strlen(from), to, strlen(to), &err), STRETTO_OK);
}

static void pieces_give_what_the_whole_gives(void **state)
{
    (void)state;
    static const char text[] = "aab aaab\n \n\taba\tab aa";
    struct spelling_steps s = { .n = 0 };
    add(&s, "aab", "b");
    add(&s, "b a", "");
    add(&s, "\n \n", "ba");
    for (size_t step = 1; step < sizeof text; step++) {
        struct spelling_chain c = { .n = { 0 } };
        struct buffer b = buffer_make(1000);
        for (size_t at = 0; at < sizeof text - 1; at += step) {
            size_t n = sizeof text - 1 - at < step ? sizeof text - 1 - at : step;
            assert_int_equal(spelling_push(&s, &c, text + at, n, &b), STRETTO_OK);
        }
        assert_int_equal(spelling_end(&s, &c, &b), STRETTO_OK);
        /* as Python's str.replace has it, one after the other */
        assert_string_equal(b.data, "bba\taba\taa");
        buffer_done(&b);
    }
    spelling_done(&s);
}

static void too_much_is_refused(void **state)
{
    (void)state;
    struct spelling_steps s = { .n = 0 };
    struct error err = { 0 };
    char text[SPELLING_FROM + 1];
    memset(text, 'x', sizeof text);
    assert_int_equal(spelling_add(&s, text, sizeof text, "", 0, &err), STRETTO_E_UNSUP);
    for (int i = 0; i < SPELLING_STEPS; i++) add(&s, "x", "y");
    assert_int_equal(spelling_add(&s, "x", 1, "", 0, &err), STRETTO_E_FORMAT);
    spelling_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(pieces_give_what_the_whole_gives),
                                        cmocka_unit_test(too_much_is_refused) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
