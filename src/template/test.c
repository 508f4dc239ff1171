/* The tests behind `is`. */
#include "template/template_int.h"
#include <string.h>

#define TEST(name) \
    static stretto_status name(struct render *r, struct value v, const struct call *c, \
                               struct value *out)
/* Most tests take no argument and cannot fail. */
#define PLAIN_TEST(name, word, expr) \
    TEST(name) \
    { \
        TRY(tmpl_bind(r, "the test " word, c, "", NULL)); \
        *out = V_BOOL(expr); \
        return STRETTO_OK; \
    }

PLAIN_TEST(is_defined, "defined", v.kind != T_UNDEFINED)
PLAIN_TEST(is_undefined, "undefined", v.kind == T_UNDEFINED)
PLAIN_TEST(is_none, "none", v.kind == T_NONE)
PLAIN_TEST(is_boolean, "boolean", v.kind == T_BOOL)
PLAIN_TEST(is_true, "true", v.kind == T_BOOL && v.b)
PLAIN_TEST(is_false, "false", v.kind == T_BOOL && !v.b)
PLAIN_TEST(is_integer, "integer", v.kind == T_INT || v.kind == T_BIG)
PLAIN_TEST(is_float, "float", v.kind == T_FLOAT)
PLAIN_TEST(is_number, "number", v.kind >= T_BOOL && v.kind <= T_FLOAT)
PLAIN_TEST(is_string, "string", v.kind == T_STR)
PLAIN_TEST(is_mapping, "mapping", v.kind == T_DICT)
PLAIN_TEST(is_sequence, "sequence", v.kind == T_STR || v.kind == T_LIST || v.kind == T_TUPLE
           || v.kind == T_DICT || v.kind == T_RANGE || v.kind == T_UNDEFINED)
PLAIN_TEST(is_iterable, "iterable",
           v.kind == T_STR || v.kind == T_LIST || v.kind == T_TUPLE || v.kind == T_DICT
           || v.kind == T_RANGE || v.kind == T_UNDEFINED || v.kind == T_VIEW || v.kind == T_ITER
           || v.kind == T_LOOP)
PLAIN_TEST(is_callable, "callable", v.kind == T_MACRO || v.kind == T_FUNCTION || v.kind == T_METHOD
           || v.kind == T_UNDEFINED || v.kind == T_LOOP)

static stretto_status remainder_is(struct render *r, struct value v, struct value by, int64_t want,
                                   struct value *out)
{
    struct value m;
    bool same;
    TRY(tmpl_binary(r, K_MOD, v, by, &m));
    TRY(tmpl_equal(r, m, V_INT(want), &same));
    *out = V_BOOL(same);
    return STRETTO_OK;
}

TEST(is_odd) { TRY(tmpl_bind(r, "the test odd", c, "", NULL)); return remainder_is(r, v, V_INT(2), 1, out); }
TEST(is_even) { TRY(tmpl_bind(r, "the test even", c, "", NULL)); return remainder_is(r, v, V_INT(2), 0, out); }

TEST(is_divisibleby)
{
    struct value by;
    TRY(tmpl_bind(r, "the test divisibleby", c, "num", &by));
    return remainder_is(r, v, by, 0, out);
}

TEST(is_in)
{
    struct value seq;
    bool yes;
    TRY(tmpl_bind(r, "the test in", c, "seq", &seq));
    TRY(tmpl_contains(r, seq, v, &yes));
    *out = V_BOOL(yes);
    return STRETTO_OK;
}

/* Identity: exact for what Python keeps one of, and for values that are one object here too. */
TEST(is_sameas)
{
    struct value o;
    TRY(tmpl_bind(r, "the test sameas", c, "other", &o));
    bool same = v.kind == o.kind;
    if (same && v.kind == T_BOOL) same = v.b == o.b;
    else if (same && v.kind >= T_INT && v.kind <= T_STR)
        return tmpl_fail(r, STRETTO_E_UNSUP,
                         "sameas between two %s values is not supported; use ==", tmpl_type(v));
    else if (same && v.kind != T_NONE) same = v.l == o.l;
    *out = V_BOOL(same);
    return STRETTO_OK;
}

TEST(is_equal)
{
    struct value o;
    bool same;
    TRY(tmpl_bind(r, "a comparing test", c, "other", &o));
    TRY(tmpl_equal(r, v, o, &same));
    *out = V_BOOL(same);
    return STRETTO_OK;
}

TEST(is_unequal)
{
    TRY(is_equal(r, v, c, out));
    out->b = !out->b;
    return STRETTO_OK;
}

static stretto_status ordered(struct render *r, struct value v, const struct call *c, int want,
                              bool or_equal, struct value *out)
{
    struct value o;
    int sign;
    TRY(tmpl_bind(r, "a comparing test", c, "other", &o));
    TRY(tmpl_compare(r, v, o, &sign));
    *out = V_BOOL(sign == want || (or_equal && sign == 0));
    return STRETTO_OK;
}

TEST(is_less) { return ordered(r, v, c, -1, false, out); }
TEST(is_at_most) { return ordered(r, v, c, -1, true, out); }
TEST(is_greater) { return ordered(r, v, c, 1, false, out); }
TEST(is_at_least) { return ordered(r, v, c, 1, true, out); }

const struct function *tmpl_test(const struct str *name)
{
    static const struct function table[] = {
        { "defined", is_defined }, { "undefined", is_undefined }, { "none", is_none },
        { "boolean", is_boolean }, { "true", is_true }, { "false", is_false },
        { "integer", is_integer }, { "float", is_float }, { "number", is_number },
        { "string", is_string }, { "mapping", is_mapping }, { "sequence", is_sequence },
        { "iterable", is_iterable }, { "callable", is_callable }, { "odd", is_odd },
        { "even", is_even }, { "divisibleby", is_divisibleby }, { "in", is_in }, { "sameas", is_sameas },
        { "eq", is_equal }, { "equalto", is_equal }, { "==", is_equal },
        { "ne", is_unequal }, { "!=", is_unequal }, { "lt", is_less }, { "lessthan", is_less },
        { "<", is_less }, { "le", is_at_most }, { "<=", is_at_most }, { "gt", is_greater },
        { "greaterthan", is_greater }, { ">", is_greater }, { "ge", is_at_least },
        { ">=", is_at_least },
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (tmpl_is(name, table[i].name)) return &table[i];
    return NULL;
}
