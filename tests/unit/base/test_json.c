/* The JSON reader against jansson, an independent parser: same texts accepted, same values read. */
#include "unit/unit.h"
#include "base/json.h"
#include "base/json_tree.h"
#include "base/memory.h"
#include <locale.h>
#include <math.h>

/* Builds a jansson tree from our tokens, to be compared with the tree jansson builds itself. */
static json_t *build(struct json *j, enum json_kind kind)
{
    int64_t i;
    double f;
    json_t *t;
    switch (kind) {
    case JT_STRING: return json_stringn(j->p, j->n);
    case JT_NUMBER:
        if (!memchr(j->p, '.', j->n) && !memchr(j->p, 'e', j->n) && !memchr(j->p, 'E', j->n))
            return json_i64(j, &i) ? json_integer(i) : NULL;
        return json_f64(j, &f) ? json_real(f) : NULL;
    case JT_TRUE: return json_true();
    case JT_FALSE: return json_false();
    case JT_NULL: return json_null();
    case JT_ARRAY:
        t = json_array();
        while ((kind = json_next(j)) != JT_ARRAY_END && kind != JT_ERROR)
            json_array_append_new(t, build(j, kind));
        return t;
    case JT_OBJECT:
        t = json_object();
        while ((kind = json_next(j)) == JT_KEY) {
            char key[256];
            assert_true(j->n < sizeof key);
            memcpy(key, j->p, j->n);
            key[j->n] = '\0';
            json_object_set_new(t, key, build(j, json_next(j)));
        }
        return t;
    default: return NULL;
    }
}

static void compare(const char *text, size_t n)
{
    struct json j;
    struct error err = { 0 };
    json_open(&j, text, n, "text", &err);
    json_t *ours = build(&j, json_next(&j)), *theirs;
    bool accepted = json_next(&j) == JT_END;
    json_error_t e;
    theirs = json_loadb(text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (accepted != (theirs != NULL) || (accepted && !json_equal(ours, theirs)))
        fprintf(stderr, "differs on %.*s\n", (int)n, text);
    assert_int_equal(accepted, theirs != NULL);
    assert_true(accepted == (err.text[0] == '\0'));
    if (accepted) assert_true(json_equal(ours, theirs));
    json_decref(ours);
    json_decref(theirs);
    json_done(&j);
}

static const char *const texts[] = {
    "", " ", "null", "true", "false", "nul", "nullx", "truefalse", "0", "-0", "-", "+1", "01",
    "-01", "1.", ".5", "1.5", "1e5", "1E+5", "1e-5", "1e", "1e+", "0x10", "1_000",
    "9223372036854775807", "-9223372036854775808", "0.1",
    "1.7976931348623157e308", "5e-324", "2.2250738585072011e-308",
    "123456789012345678901234567890.0", "0.30000000000000004", "1e23", "-0.0", "\"\"", "\"a\"",
    "\"a", "a\"", "'a'", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\a\"", "\"\\", "\"\\\"",
    "\"\\u0041\"", "\"\\u00e9\\u20ac\\uD83D\\uDE00\"", "\"\\u0000x\"", "\"\\u12\"", "\"\\u12g4\"",
    "\"\\uD800\"", "\"\\uDC00\"", "\"\\uD800\\u0041\"", "\"\\uD800\\uD800\"", "\"\\uD83Dx\"",
    "\"\\uD83D\\uDE0\"", "\"\x01\"", "\"\x7f\"", "\"\n\"", "\"\t\"", "\"\xc3\xa9\"",
    "\"\xe2\x82\xac\"", "\"\xf0\x9f\x98\x80\"", "\"\xf4\x8f\xbf\xbf\"", "\"\xf4\x90\x80\x80\"",
    "\"\xc0\x80\"", "\"\xc1\xbf\"", "\"\xe0\x9f\xbf\"", "\"\xe0\xa0\x80\"", "\"\xed\x9f\xbf\"",
    "\"\xed\xa0\x80\"", "\"\xef\xbf\xbf\"", "\"\xf0\x8f\xbf\xbf\"", "\"\xf5\x80\x80\x80\"",
    "\"\xff\"", "\"\x80\"", "\"\xc3\"", "\"\xe2\x82\"", "\"\xe2\x82\xac",
    "\"mixed \\u00e9 \xc3\xa9 \\n end\"", "[]", "[", "]", "[1", "[1]", "[1,]",
    "[,1]", "[1,2,3]", "[1 2]", "[1],", "[1]]", "[[[[]]],[]]", "[null,true,false,\"x\",1,1.5,{}]",
    "{}", "{", "}", "{\"a\":1}", "{\"a\":1,}", "{,\"a\":1}", "{\"a\"}", "{\"a\":}", "{\"a\" 1}",
    "{\"a\":1 \"b\":2}", "{\"a\":1,\"b\":[{\"c\":null}]}", "{a:1}", "{1:2}", "{\"a\":1]", "[1}",
    "{\"\":0}", "{\"a\\u0062\":1}", "{\"a\":1,\"a\":2}", " \t\r\n{ \"a\" : [ 1 , 2 ] } \n", "[1]\v",
    "/* c */ 1", "1 // c", "[1]\n[2]", "{} {}", "\"a\" \"b\"",
};

static void the_same_texts_mean_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) compare(texts[i], strlen(texts[i]));
    compare("[1]\0", 4);
    compare("\"a\0b\"", 5);
}

/* Damaged texts: each prefix, and each byte replaced by bytes that mean something. */
static void damaged_texts_are_refused_alike(void **state)
{
    (void)state;
    static const char text[] =
        "{\"a\\u00e9\":[1,-2.5e3,\"\xc3\xa9\\n\",true,null],\"b\":{\"c\":false}}";
    static const char with[] = "\"\\{}[]:,0-e.\x80 tn";
    char copy[sizeof text];
    for (size_t n = 0; n < sizeof text; n++) compare(text, n);
    for (size_t i = 0; i + 1 < sizeof text; i++)
        for (size_t k = 0; k + 1 < sizeof with; k++) {
            memcpy(copy, text, sizeof text);
            copy[i] = with[k];
            compare(copy, sizeof text - 1);
        }
}

static void errors_name_their_place(void **state)
{
    (void)state;
    static const struct { const char *text, *words;
    } rows[] = {
        { "{\n  \"a\": 1,\n  b: 2\n}",
          "f.json: line 3, column 3 (byte 14): expected a name in quotes" },
        { "[1,\n\"\xff\"]", "line 2, column 2 (byte 5): not valid UTF-8" },
        { "\"abc\\q\"", "column 5 (byte 4): unknown escape" },
        { "[", "byte 1): the text ends too early" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct json j;
        struct error err = { 0 };
        json_open(&j, rows[i].text, strlen(rows[i].text), "f.json", &err);
        while (json_next(&j) > JT_END) { }
        assert_int_equal(json_next(&j), JT_ERROR);
        assert_int_equal(json_status(&j), STRETTO_E_FORMAT);
        assert_non_null(strstr(err.text, rows[i].words));
        json_done(&j);
    }
}

static void depth_is_limited(void **state)
{
    (void)state;
    char text[4 * JSON_MAX_DEPTH];
    for (size_t depth = JSON_MAX_DEPTH; depth <= JSON_MAX_DEPTH + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        struct json j;
        struct error err = { 0 };
        json_open(&j, text, 2 * depth, "deep", &err);
        json_next(&j);
        assert_true(json_skip(&j) == (depth <= JSON_MAX_DEPTH));
        json_done(&j);
    }
}

static void numbers_convert_exactly_or_not_at_all(void **state)
{
    (void)state;
    static const struct { const char *text; bool whole, real; } rows[] = {
        { "9223372036854775807", true, true }, { "9223372036854775808", false, true },
        { "-9223372036854775808", true, true }, { "-9223372036854775809", false, true },
        { "1.0", false, true }, { "1e2", false, true }, { "1e999", false, true },
        { "NaN", false, true }, { "-Infinity", false, true },
        { "-1e999", false, true }, { "99999999999999999999", false, true }, { "-0", true, true },
    };
    setlocale(LC_ALL, "de_DE.UTF-8"); /* where there is one, its comma must not matter */
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct json j;
        int64_t n;
        double f;
        json_open(&j, rows[i].text, strlen(rows[i].text), "n", NULL);
        assert_int_equal(json_next(&j), JT_NUMBER);
        assert_int_equal(json_i64(&j, &n), rows[i].whole);
        assert_int_equal(json_f64(&j, &f), rows[i].real);
        json_done(&j);
    }
    setlocale(LC_ALL, "C");
}

/* Numbers that jansson cannot hold, and our own formats, where a name stands once. */
static void a_tree_holds_what_it_can(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":1, \"a\":[18446744073709551616, 1e400, NaN, -Infinity]}";
    json_t *v, *list;
    struct error err = { 0 };
    assert_int_equal(json_tree(&v, text, strlen(text), JSON_TWICE_LAST, "t", &err), STRETTO_OK);
    list = json_object_get(v, "a");
    assert_true(json_real_value(json_array_get(list, 0)) == 18446744073709551616.0);
    assert_string_equal(json_string_value(json_array_get(list, 1)), "1e400");
    assert_string_equal(json_string_value(json_array_get(list, 2)), "NaN");
    assert_string_equal(json_string_value(json_array_get(list, 3)), "-Infinity");
    json_decref(v);
    assert_int_equal(json_tree(&v, text, strlen(text), JSON_TWICE_REFUSED, "t", &err),
                     STRETTO_E_FORMAT);
    assert_null(v);
    assert_non_null(strstr(err.text, "column 9 (byte 8): the name \"a\" stands twice"));
}

static void values_can_be_passed_over_and_kept(void **state)
{
    (void)state;
    const char *text = "{\"skip\": {\"a\":[1,{\"b\":2}]}, \"keep\" : [1, [2]] , \"last\":\"x\"}",
               *p;
    size_t n = 0;
    struct json j;
    json_open(&j, text, strlen(text), "t", NULL);
    assert_int_equal(json_next(&j), JT_OBJECT);
    assert_int_equal(json_next(&j), JT_KEY);
    assert_true(json_is(&j, "skip") && !json_is(&j, "ski") && json_skip(&j));
    assert_int_equal(json_next(&j), JT_KEY);
    assert_true(json_is(&j, "keep") && json_raw(&j, &p, &n));
    assert_int_equal(n, 8);
    assert_memory_equal(p, "[1, [2]]", 8);
    assert_int_equal(json_next(&j), JT_KEY);
    assert_int_equal(json_next(&j), JT_STRING);
    assert_true(json_is(&j, "x"));
    json_fail(&j, "x is not %s", "wanted");
    assert_int_equal(json_next(&j), JT_ERROR);
    json_done(&j);
}

static void no_memory_is_a_status(void **state)
{
    (void)state;
    struct json j;
    struct error err = { 0 };
    json_open(&j, "\"a\\n\"", 5, "t", &err);
    mem_fail_at(1);
    assert_int_equal(json_next(&j), JT_ERROR);
    mem_fail_at(0);
    assert_int_equal(json_status(&j), STRETTO_E_NOMEM);
    assert_non_null(strstr(err.text, "memory"));
    json_done(&j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_texts_mean_the_same),
        cmocka_unit_test(damaged_texts_are_refused_alike),
        cmocka_unit_test(errors_name_their_place),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(numbers_convert_exactly_or_not_at_all),
        cmocka_unit_test(a_tree_holds_what_it_can),
        cmocka_unit_test(values_can_be_passed_over_and_kept),
        cmocka_unit_test(no_memory_is_a_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
