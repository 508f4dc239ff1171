/* Malformed bytes become U+FFFD; everything else stays. How many: as bytes.decode("utf-8", "replace") of
 * Python 3, from which what is wanted here was printed. */
#include "unit/unit.h"
#include "text/unicode.h"

static void check(const char *p, size_t n, const char *want)
{
    struct buffer b = buffer_make(1 << 20);
    assert_int_equal(utf8_repair(&b, p, n), STRETTO_OK);
    assert_int_equal(b.len, strlen(want));
    if (b.len) assert_memory_equal(b.data, want, b.len);
    buffer_done(&b);
}

#define BAD "\xef\xbf\xbd"

static void repairs(void **state)
{
    (void)state;
    check("", 0, "");
    check("plain \xc3\xa9 \xe4\xbd\xa0 \xf0\x9f\x98\x80", 16, "plain \xc3\xa9 \xe4\xbd\xa0 " BAD);
    check("plain \xc3\xa9 \xe4\xbd\xa0 \xf0\x9f\x98\x80", 17, "plain \xc3\xa9 \xe4\xbd\xa0 \xf0\x9f\x98\x80");
    check("caf\xe9 au", 7, "caf" BAD " au");
    check("\xc0\xaf|\xed\xa0\x80|\xff", 8, BAD BAD "|" BAD BAD BAD "|" BAD);   /* overlong, surrogate */
    check("\xe2\x82", 2, BAD);
    check("\xe2\x82\x41", 3, BAD "A");
    check("\xf0\x9f\x98\xf0\x9f\x98", 6, BAD BAD);
    check("\xf4\x90\x80\x80", 4, BAD BAD BAD BAD);
    check("\xe0\x80\x80", 3, BAD BAD BAD);
    check("\xc3", 1, BAD);
    check("\xf1\x80\x80\x41\x80", 5, BAD "A" BAD);
    check("\xf0\x9f\xc3\xa9", 4, BAD "\xc3\xa9");
    check("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", 9, BAD BAD BAD BAD "A");
    check("\xc3\xc3\xa9", 3, BAD "\xc3\xa9");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(repairs) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
