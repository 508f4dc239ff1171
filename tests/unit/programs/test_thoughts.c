/* Thoughts are found the same however the text comes in pieces. */
#include "unit/unit.h"
#include "serve/thoughts.h"
#include "serve/thoughts.c"
#include "base/random.h"
#include <string.h>

static void take(const char *text, bool inside, uint64_t seed, const char *thought, const char *said)
{
    struct thoughts t;
    struct buffer a = buffer_make(1000), b = buffer_make(1000);
    size_t n = strlen(text);
    thoughts_begin(&t, "<think>", "</think>", inside);
    for (size_t at = 0, k = 0; at < n; at += k) {
        k = seed ? 1 + (size_t)(random_at(seed, 0, at, 0) % 5) : n;
        if (k > n - at) k = n - at;
        assert_int_equal(thoughts_take(&t, text + at, k, &a, &b), STRETTO_OK);
    }
    assert_int_equal(thoughts_end(&t, &a, &b), STRETTO_OK);
    assert_string_equal(a.data ? a.data : "", thought);
    assert_string_equal(b.data ? b.data : "", said);
    buffer_done(&a);
    buffer_done(&b);
}

static void texts_come_apart(void **state)
{
    static const struct { const char *text; bool inside; const char *thought, *said; } rows[] = {
        { "", false, "", "" },
        { "Hello", false, "", "Hello" },
        { " \n Hello <think>x</think>", false, "", " \n Hello <think>x</think>" },
        { "<think>\nHm, 1 < 2.\n\n</think>\n\nYes.\n", false, "Hm, 1 < 2.", "Yes.\n" },
        { "\n<think></think>Yes", false, "", "Yes" },
        { "<think>no end \n", false, "no end", "" },
        { "<thinking", false, "", "<thinking" },
        { "<thin", false, "", "<thin" },
        { "\n\n a </thin\n</think>b</think>", true, "a </thin", "b</think>" },
        { "a<</think> </think>", true, "a<", "</think>" },
        { "\xc3\xa4 \xe2\x80\x94 </think>\xc3\xb6", true, "\xc3\xa4 \xe2\x80\x94", "\xc3\xb6" },
        { "a\n</thi", true, "a\n</thi", "" },
        { "  \n", true, "", "" },
        { "a                                                                                      b</think> c", true,
          "a                                                                                      b", "c" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (uint64_t seed = 0; seed < 50; seed++)
            take(rows[i].text, rows[i].inside, seed, rows[i].thought, rows[i].said);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(texts_come_apart) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
