/* Malformed bytes become U+FFFD, one for each; everything else stays. */
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
    check("plain \xc3\xa9 \xe4\xbd\xa0 \xf0\x9f\x98\x80", 16, "plain \xc3\xa9 \xe4\xbd\xa0 " BAD BAD BAD);
    check("plain \xc3\xa9 \xe4\xbd\xa0 \xf0\x9f\x98\x80", 17, "plain \xc3\xa9 \xe4\xbd\xa0 \xf0\x9f\x98\x80");
    check("caf\xe9 au", 7, "caf" BAD " au");
    check("\xc0\xaf|\xed\xa0\x80|\xff", 8, BAD BAD "|" BAD BAD BAD "|" BAD);   /* overlong, surrogate */
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(repairs) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
