/* The filters behind |. Jinja's lazy ones (map, select, ...) work at once here and answer a
 * one-shot iterator, so `|length` or `[0]` on them is an error as it is there. */
#include "template/template_int.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define FILTER(name) \
    static stretto_status name(struct render *r, struct value v, const struct call *c, \
                               struct value *out)

static bool given(struct value x) { return x.kind != T_MISSING && x.kind != T_NONE; }

static stretto_status generator(struct render *r, struct list *l, struct value *out)
{
    *out = (struct value){ .kind = T_ITER };
    TRY(tmpl_take(r, 1, sizeof *out->iter, &out->iter));
    out->iter->l = l;
    return STRETTO_OK;
}

static stretto_status want_count(struct render *r, const char *who, struct value v, int64_t most,
                                 int64_t *out)
{
    TRY(tmpl_want_int(r, who, v, out));
    if (*out > most)
        return tmpl_fail(r, STRETTO_E_FULL, "%s: %lld is too many", who, (long long)*out);
    return STRETTO_OK;
}

/* ---- text ------------------------------------------------------------------------------------ */

/* A filter that is the string method of that name, on str(v). */
static stretto_status as_method(struct render *r, const char *name, struct value v,
                                const struct call *c, struct value *out)
{
    struct value s, m;
    const struct str word = { .p = name, .n = strlen(name), .chars = strlen(name) };
    TRY(tmpl_to_str(r, v, &s));
    TRY(tmpl_method(r, s, &word, &m));
    return tmpl_call(r, m, c, out);
}

FILTER(f_upper) { return as_method(r, "upper", v, c, out); }
FILTER(f_lower) { return as_method(r, "lower", v, c, out); }
FILTER(f_capitalize) { return as_method(r, "capitalize", v, c, out); }
FILTER(f_trim) { return as_method(r, "strip", v, c, out); }

FILTER(f_string)
{
    TRY(tmpl_bind(r, "string", c, "", NULL));
    return tmpl_to_str(r, v, out);
}

/* Letters behind white space or one of - ( { [ < are big, all others small. */
FILTER(f_title)
{
    struct value s;
    bool start = true;
    TRY(tmpl_bind(r, "title", c, "", NULL));
    TRY(tmpl_to_str(r, v, &s));
    size_t mark = r->out.len;
    for (size_t i = 0, end; i < s.s->n; i = end) {
        uint32_t cp;
        size_t k = tmpl_decode(s.s->p + i, s.s->n - i, &cp);
        bool gap = tmpl_space(cp) || (cp < 128 && strchr("-({[<", (int)cp) && cp);
        end = i + k;
        if (!start && !gap)                 /* the rest of the word at once: a sigma looks around */
            for (; end < s.s->n; end += k) {
                k = tmpl_decode(s.s->p + end, s.s->n - end, &cp);
                if (tmpl_space(cp) || (cp < 128 && strchr("-({[<", (int)cp) && cp)) break;
            }
        if (gap) TRY(tmpl_write_part(r, s.s, s.s->p + i, end - i));
        else TRY(tmpl_recase(r, s.s, s.s->p + i, end - i, start ? CASE_UPPER : CASE_LOWER));
        start = gap;
    }
    TRY(tmpl_cut(r, mark, out));
    out->safe = s.safe;
    return STRETTO_OK;
}

FILTER(f_replace)
{
    struct value a[3], s;
    TRY(tmpl_bind(r, "replace", c, "old new count?", a));
    TRY(tmpl_to_str(r, v, &s));
    TRY(tmpl_to_str(r, a[0], &a[0]));
    TRY(tmpl_to_str(r, a[1], &a[1]));
    s.safe = 0;
    return tmpl_str_replace(r, s, &(struct call){ .pos = a, .n_pos = given(a[2]) ? 3 : 2 }, out);
}

FILTER(f_escape)
{
    size_t mark = r->out.len;
    TRY(tmpl_bind(r, "escape", c, "", NULL));
    TRY(tmpl_escape(r, v));
    TRY(tmpl_cut(r, mark, out));
    out->safe = 1;
    return STRETTO_OK;
}

FILTER(f_forceescape) { v.safe = 0; return f_escape(r, v, c, out); }

FILTER(f_safe)
{
    TRY(tmpl_bind(r, "safe", c, "", NULL));
    TRY(tmpl_to_str(r, v, out));
    out->safe = 1;
    return STRETTO_OK;
}

static stretto_status lines_of(struct render *r, struct value v, struct list **out)
{
    struct value m, l;
    static const struct str word = { .p = "splitlines", .n = 10, .chars = 10 };
    v.safe = 0;
    TRY(tmpl_method(r, v, &word, &m));
    TRY(tmpl_call(r, m, &(struct call){ 0 }, &l));
    *out = l.l;
    return STRETTO_OK;
}

/* Jinja adds a newline first, so that the text "" has one line and a last newline is kept. */
FILTER(f_indent)
{
    struct value a[3], s, newline;
    struct list *lines;
    int64_t width = 4;
    TRY(tmpl_bind(r, "indent", c, "width? first? blank?", a));
    if (v.kind == T_UNDEFINED) return tmpl_use_undefined(r, v);
    if (v.kind != T_STR)
        return tmpl_fail(r, STRETTO_E_ARG, "indent wants a string, not %s", tmpl_type(v));
    bool words = a[0].kind == T_STR;
    if (!words && a[0].kind != T_MISSING) TRY(want_count(r, "indent", a[0], 10000, &width));
    bool first = a[1].kind != T_MISSING && tmpl_truth(a[1]), blank = a[2].kind != T_MISSING && tmpl_truth(a[2]);
    TRY(tmpl_view(r, "\n", 1, &newline));
    newline.safe = v.safe;
    TRY(tmpl_binary(r, K_ADD, v, newline, &s));
    TRY(lines_of(r, s, &lines));
    size_t mark = r->out.len;
    for (size_t i = 0; i < lines->n; i++) {
        struct str *line = lines->v[i].s;
        if (i) TRY(tmpl_write(r, "\n", 1));
        if (i ? blank || line->n : first) {
            if (words) TRY(tmpl_write_str(r, a[0].s));
            for (int64_t k = 0; !words && k < width; k++) TRY(tmpl_write(r, " ", 1));
        }
        TRY(tmpl_write_str(r, line));
    }
    TRY(tmpl_cut(r, mark, out));
    out->safe = v.safe;
    return STRETTO_OK;
}

/* json.dumps as transformers call it: no HTML escapes, other scripts as they are. */
FILTER(f_tojson)
{
    struct value a[4], pad;
    struct json_style s = { .item = ", ", .item_n = 2, .key = ": ", .key_n = 2 };
    int64_t width;
    TRY(tmpl_bind(r, "tojson", c, "ensure_ascii? indent? separators? sort_keys?", a));
    bool positional = c->n_pos > 0;
    if (positional && c->n_pos == 1 && a[0].kind == T_INT)
        return tmpl_fail(r, STRETTO_E_UNSUP, "tojson: name the argument (indent=%lld)",
                         (long long)a[0].i);
    s.ascii = a[0].kind != T_MISSING && tmpl_truth(a[0]);
    s.sort = a[3].kind != T_MISSING && tmpl_truth(a[3]);
    if (given(a[1])) {
        if (a[1].kind == T_STR) pad = a[1];
        else {
            TRY(want_count(r, "tojson: indent", a[1], 1000, &width));
            TRY(tmpl_view(r, " ", 1, &pad));
            TRY(tmpl_binary(r, K_MUL, pad, V_INT(width), &pad));
        }
        s.indent = pad.s->p;
        s.indent_n = pad.s->n;
        s.item_n = 1;
    }
    if (given(a[2])) {
        struct list *l;
        TRY(tmpl_to_list(r, a[2], &l));
        if (l->n != 2 || l->v[0].kind != T_STR || l->v[1].kind != T_STR)
            return tmpl_fail(r, STRETTO_E_ARG, "tojson: separators must be two strings");
        s.item = l->v[0].s->p;
        s.item_n = l->v[0].s->n;
        s.key = l->v[1].s->p;
        s.key_n = l->v[1].s->n;
    }
    size_t mark = r->out.len;
    TRY(tmpl_json(r, v, &s, 0));
    return tmpl_cut(r, mark, out);
}

/* ---- numbers --------------------------------------------------------------------------------- */

static stretto_status from_float(struct render *r, double f, struct value otherwise,
                                 struct value *out)
{
    if (!isfinite(f)) { *out = otherwise; return STRETTO_OK; }
    if (!(fabs(f) < 9.2e18))
        return tmpl_fail(r, STRETTO_E_UNSUP, "an integer above 64 bits is not supported");
    *out = V_INT((int64_t)f);
    return STRETTO_OK;
}

FILTER(f_int)
{
    struct value a[2];
    int64_t i;
    double f;
    bool overflow = false;
    TRY(tmpl_bind(r, "int", c, "default? base?", a));
    if (a[0].kind == T_MISSING) a[0] = V_INT(0);
    if (a[1].kind != T_MISSING && !(a[1].kind == T_INT && a[1].i == 10))
        return tmpl_fail(r, STRETTO_E_UNSUP, "int: a base other than 10 is not supported");
    if (v.kind == T_UNDEFINED) return tmpl_use_undefined(r, v);
    if (tmpl_to_int(v, &i)) { *out = V_INT(i); return STRETTO_OK; }
    if (v.kind == T_BIG) { *out = v; return STRETTO_OK; }
    if (v.kind == T_FLOAT) return from_float(r, v.f, a[0], out);
    if (v.kind != T_STR) { *out = a[0]; return STRETTO_OK; }
    if (tmpl_parse_int(v.s->p, v.s->n, &i, &overflow)) {
        *out = V_INT(i);
        return STRETTO_OK;
    }
    if (overflow) return tmpl_fail(r, STRETTO_E_UNSUP, "an integer above 64 bits is not supported");
    if (tmpl_parse_float(v.s->p, v.s->n, &f)) return from_float(r, f, a[0], out);
    *out = a[0];
    return STRETTO_OK;
}

FILTER(f_float)
{
    struct value a;
    double f;
    TRY(tmpl_bind(r, "float", c, "default?", &a));
    if (v.kind == T_UNDEFINED) return tmpl_use_undefined(r, v);
    if (v.kind == T_BIG) {
        *out = V_FLOAT(tmpl_big_float(v));
        return isfinite(out->f) ? STRETTO_OK
            : tmpl_fail(r, STRETTO_E_ARG, "the integer is too large for a float");
    }
    if (tmpl_to_float(v,
                      &f) || (v.kind == T_STR && tmpl_parse_float(v.s->p, v.s->n, &f))) *out = V_FLOAT(f);
    else *out = a.kind == T_MISSING ? V_FLOAT(0) : a;
    return STRETTO_OK;
}

/* ---- attributes of items --------------------------------------------------------------------- */

/* "a.b.0" looked up part by part; with a default, what is undefined on the way becomes that. */
static stretto_status dig(struct render *r, struct value v, struct value path,
                          struct value otherwise, struct value *out)
{
    *out = v;
    if (!given(path)) return STRETTO_OK;
    if (path.kind != T_STR) return tmpl_item(r, v, path, out);
    for (size_t at = 0; at <= path.s->n;) {
        const char *p = path.s->p + at, *dot = memchr(p, '.', path.s->n - at);
        size_t n = dot ? (size_t)(dot - p) : path.s->n - at;
        struct value key;
        int64_t i;
        bool overflow, digits = n > 0;
        for (size_t k = 0; k < n; k++) digits = digits && p[k] >= '0' && p[k] <= '9';
        if (digits && tmpl_parse_int(p, n, &i, &overflow)) key = V_INT(i);
        else TRY(tmpl_view(r, p, n, &key));
        TRY(tmpl_item(r, *out, key, out));
        if (given(otherwise) && out->kind == T_UNDEFINED) *out = otherwise;
        at += n + 1;
    }
    return STRETTO_OK;
}

#define NOTHING ((struct value){ .kind = T_MISSING })
static bool flag(struct value v) { return v.kind != T_MISSING && tmpl_truth(v); }

static stretto_status ignore_case(struct render *r, struct value *v)
{
    if (v->kind != T_STR) return STRETTO_OK;
    size_t mark = r->out.len;
    TRY(tmpl_recase(r, v->s, v->s->p, v->s->n, CASE_LOWER));
    return tmpl_cut(r, mark, v);
}

/* The value an item is sorted, grouped or compared by. */
static stretto_status key_of(struct render *r, struct value item, struct value path,
                             struct value otherwise, bool case_sensitive, struct value *out)
{
    TRY(dig(r, item, path, otherwise, out));
    return case_sensitive ? STRETTO_OK : ignore_case(r, out);
}

static stretto_status keys_of(struct render *r, const struct list *l, struct value path,
                              struct value otherwise, bool case_sensitive, struct list **out)
{
    TRY(tmpl_list(r, l->n, out));
    for (size_t i = 0; i < l->n; i++) {
        struct value k;
        TRY(key_of(r, l->v[i], path, otherwise, case_sensitive, &k));
        TRY(tmpl_push(r, *out, k));
    }
    return STRETTO_OK;
}

/* ---- sequences ------------------------------------------------------------------------------- */

FILTER(f_length)
{
    size_t n;
    TRY(tmpl_bind(r, "length", c, "", NULL));
    TRY(tmpl_len(r, v, &n));
    *out = V_INT((int64_t)n);
    return STRETTO_OK;
}

FILTER(f_list)
{
    TRY(tmpl_bind(r, "list", c, "", NULL));
    *out = (struct value){ .kind = T_LIST };
    return tmpl_to_list(r, v, &out->l);
}

FILTER(f_first)
{
    struct iter it;
    bool more;
    TRY(tmpl_bind(r, "first", c, "", NULL));
    TRY(tmpl_iter(r, v, &it));
    TRY(tmpl_next(r, &it, out, &more));
    return more ? STRETTO_OK : tmpl_undefined(r, NULL, NULL, "the first item of nothing was used",
                                              out);
}

static stretto_status want_sequence(struct render *r, const char *who, struct value v)
{
    if (v.kind != T_ITER) return STRETTO_OK;
    return tmpl_fail(r, STRETTO_E_ARG, "%s does not work on a generator; add |list", who);
}

FILTER(f_last)
{
    struct list *l;
    TRY(tmpl_bind(r, "last", c, "", NULL));
    TRY(want_sequence(r, "last", v));
    TRY(tmpl_to_list(r, v, &l));
    if (!l->n) return tmpl_undefined(r, NULL, NULL, "the last item of nothing was used", out);
    *out = l->v[l->n - 1];
    return STRETTO_OK;
}

FILTER(f_reverse)
{
    struct list *l;
    TRY(tmpl_bind(r, "reverse", c, "", NULL));
    TRY(tmpl_to_list(r, v, &l));
    for (size_t i = 0, j = l->n; i + 1 < j; i++) {
        struct value t = l->v[i];
        l->v[i] = l->v[--j];
        l->v[j] = t;
    }
    if (v.kind != T_STR) return generator(r, l, out);
    size_t mark = r->out.len;
    for (size_t i = 0; i < l->n; i++) TRY(tmpl_write_str(r, l->v[i].s));
    return tmpl_cut(r, mark, out);
}

FILTER(f_join)
{
    struct value a[2], sep;
    struct list *l;
    TRY(tmpl_bind(r, "join", c, "d? attribute?", a));
    if (a[0].kind == T_MISSING) TRY(tmpl_view(r, "", 0, &sep));
    else TRY(tmpl_to_str(r, a[0], &sep));
    TRY(tmpl_to_list(r, v, &l));
    size_t mark = r->out.len;
    for (size_t i = 0; i < l->n; i++) {
        struct value item;
        if (i) TRY(tmpl_write_str(r, sep.s));
        TRY(dig(r, l->v[i], a[1], NOTHING, &item));
        TRY(tmpl_text(r, item));
    }
    return tmpl_cut(r, mark, out);
}

FILTER(f_items)
{
    struct list *l;
    TRY(tmpl_bind(r, "items", c, "", NULL));
    if (v.kind != T_DICT && v.kind != T_UNDEFINED)
        return tmpl_fail(r, STRETTO_E_ARG, "items works on mappings only, not on %s", tmpl_type(v));
    TRY(tmpl_list(r, v.kind == T_DICT ? v.d->n : 0, &l));
    for (size_t i = 0; v.kind == T_DICT && i < v.d->n; i++) {
        struct value pair;
        TRY(tmpl_pair(r, v.d->e[i].k, v.d->e[i].v, &pair));
        TRY(tmpl_push(r, l, pair));
    }
    return generator(r, l, out);
}

FILTER(f_dictsort)
{
    struct value a[3], pairs;
    struct list *l;
    struct str key = { .p = "key", .n = 3, .chars = 3 }, *by = &key;
    TRY(tmpl_bind(r, "dictsort", c, "case_sensitive? by? reverse?", a));
    if (v.kind == T_UNDEFINED) return tmpl_use_undefined(r, v);
    if (v.kind != T_DICT)
        return tmpl_fail(r, STRETTO_E_ARG, "dictsort works on mappings only, not on %s",
                         tmpl_type(v));
    if (a[1].kind != T_MISSING) TRY(tmpl_want_str(r, "dictsort", a[1], &by));
    if (!tmpl_is(by, "key") && !tmpl_is(by, "value"))
        return tmpl_fail(r, STRETTO_E_ARG, "dictsort: by must be \"key\" or \"value\"");
    TRY(f_items(r, v, &(struct call){ 0 }, &pairs));
    TRY(keys_of(r, pairs.iter->l, V_INT(tmpl_is(by, "value")), NOTHING, flag(a[0]), &l));
    TRY(tmpl_sort(r, pairs.iter->l, l, flag(a[2])));
    *out = V_LIST(pairs.iter->l);
    return STRETTO_OK;
}

FILTER(f_sort)
{
    struct value a[3];
    struct list *l, *keys;
    TRY(tmpl_bind(r, "sort", c, "reverse? case_sensitive? attribute?", a));
    TRY(tmpl_to_list(r, v, &l));
    if (a[2].kind == T_STR && memchr(a[2].s->p, ',', a[2].s->n))
        return tmpl_fail(r, STRETTO_E_UNSUP, "sort by several attributes is not supported");
    TRY(keys_of(r, l, a[2], NOTHING, flag(a[1]), &keys));
    TRY(tmpl_sort(r, l, keys, flag(a[0])));
    *out = V_LIST(l);
    return STRETTO_OK;
}

FILTER(f_unique)
{
    struct value a[2];
    struct list *l, *kept;
    struct dict *seen;
    TRY(tmpl_bind(r, "unique", c, "case_sensitive? attribute?", a));
    TRY(tmpl_to_list(r, v, &l));
    TRY(tmpl_list(r, 0, &kept));
    TRY(tmpl_dict(r, &seen));
    for (size_t i = 0; i < l->n; i++) {
        struct value k, *at;
        TRY(key_of(r, l->v[i], a[1], NOTHING, flag(a[0]), &k));
        TRY(tmpl_find(r, seen, k, &at));
        if (at) continue;
        TRY(tmpl_put(r, seen, k, V_NONE));
        TRY(tmpl_push(r, kept, l->v[i]));
    }
    return generator(r, kept, out);
}

FILTER(f_groupby)
{
    struct value a[3], k, pair;
    struct list *l, *keys, *groups, *group = NULL;
    TRY(tmpl_bind(r, "groupby", c, "attribute default? case_sensitive?", a));
    TRY(tmpl_to_list(r, v, &l));
    TRY(keys_of(r, l, a[0], a[1], flag(a[2]), &keys));
    TRY(tmpl_sort(r, l, keys, false));
    TRY(tmpl_list(r, 0, &groups));
    for (size_t i = 0; i < l->n; i++) {
        bool same = false;
        if (i) TRY(tmpl_equal(r, keys->v[i - 1], keys->v[i], &same));
        if (!same) {
            TRY(tmpl_list(r, 0, &group));
            TRY(key_of(r, l->v[i], a[0], a[1], true, &k));
            TRY(tmpl_pair(r, k, V_LIST(group), &pair));
            pair.l->group = true;
            TRY(tmpl_push(r, groups, pair));
        }
        TRY(tmpl_push(r, group, l->v[i]));
    }
    *out = V_LIST(groups);
    return STRETTO_OK;
}

static stretto_status extreme(struct render *r, struct value v, const struct call *c, int want,
                              struct value *out)
{
    struct value a[2], best = NOTHING;
    struct list *l;
    TRY(tmpl_bind(r, want < 0 ? "min" : "max", c, "case_sensitive? attribute?", a));
    TRY(tmpl_to_list(r, v, &l));
    if (!l->n)
        return tmpl_undefined(r, NULL, NULL, "the smallest or largest of nothing was used", out);
    for (size_t i = 0; i < l->n; i++) {
        struct value k;
        int sign = want;
        TRY(key_of(r, l->v[i], a[1], NOTHING, flag(a[0]), &k));
        if (i) TRY(tmpl_compare(r, k, best, &sign));
        if (sign != want) continue;
        best = k;
        *out = l->v[i];
    }
    return STRETTO_OK;
}

FILTER(f_min) { return extreme(r, v, c, -1, out); }
FILTER(f_max) { return extreme(r, v, c, 1, out); }

FILTER(f_default)
{
    struct value a[2];
    TRY(tmpl_bind(r, "default", c, "default_value? boolean?", a));
    bool use = v.kind == T_UNDEFINED || (flag(a[1]) && !tmpl_truth(v));
    if (!use) *out = v;
    else if (a[0].kind == T_MISSING) return tmpl_view(r, "", 0, out);
    else *out = a[0];
    return STRETTO_OK;
}

/* ---- map and select -------------------------------------------------------------------------- */

static stretto_status find_fn(struct render *r, struct value name, bool test,
                              const struct function **out)
{
    struct str *word;
    TRY(tmpl_want_str(r, test ? "the name of a test" : "the name of a filter", name, &word));
    *out = test ? tmpl_test(word) : tmpl_filter(word);
    if (*out) return STRETTO_OK;
    return tmpl_fail(r, STRETTO_E_UNSUP, "the %s '%.*s' is not supported", test ? "test" : "filter",
                     tmpl_shown(word->n), word->p);
}

FILTER(f_map)
{
    struct list *l, *mapped;
    TRY(tmpl_list(r, 0, &mapped));
    if (!tmpl_truth(v)) return generator(r, mapped, out);
    TRY(tmpl_to_list(r, v, &l));
    struct value a[2] = { NOTHING, NOTHING };
    const struct function *fn = NULL;
    struct call rest = *c;
    if (!c->n_pos) {
        TRY(tmpl_bind(r, "map", c, "attribute default?", a));
    } else {
        TRY(find_fn(r, c->pos[0], false, &fn));
        rest.pos++;
        rest.n_pos--;
    }
    for (size_t i = 0; i < l->n; i++) {
        struct value item;
        TRY(tmpl_enter(r));
        if (fn) TRY(tmpl_builtin(r, fn, l->v[i], &rest, &item));
        else TRY(dig(r, l->v[i], a[0], a[1], &item));
        r->depth--;
        TRY(tmpl_push(r, mapped, item));
    }
    return generator(r, mapped, out);
}

static stretto_status selected(struct render *r, struct value v, const struct call *c,
                               bool by_attribute, bool want, struct value *out)
{
    struct list *l, *kept;
    const struct function *test = NULL;
    struct call rest = *c;
    struct value path = NOTHING;
    TRY(tmpl_list(r, 0, &kept));
    if (!tmpl_truth(v)) return generator(r, kept, out);
    TRY(tmpl_to_list(r, v, &l));
    if (by_attribute) {
        if (!rest.n_pos) return tmpl_fail(r, STRETTO_E_ARG, "the name of an attribute is missing");
        path = *rest.pos++;
        rest.n_pos--;
    }
    if (rest.n_pos) {
        TRY(find_fn(r, *rest.pos++, true, &test));
        rest.n_pos--;
    }
    for (size_t i = 0; i < l->n; i++) {
        struct value item;
        TRY(dig(r, l->v[i], path, NOTHING, &item));
        if (test) TRY(tmpl_builtin(r, test, item, &rest, &item));
        if (tmpl_truth(item) == want) TRY(tmpl_push(r, kept, l->v[i]));
    }
    return generator(r, kept, out);
}

FILTER(f_select) { return selected(r, v, c, false, true, out); }
FILTER(f_reject) { return selected(r, v, c, false, false, out); }
FILTER(f_selectattr) { return selected(r, v, c, true, true, out); }
FILTER(f_rejectattr) { return selected(r, v, c, true, false, out); }

const struct function *tmpl_filter(const struct str *name)
{
    static const struct function table[] = {
        { "capitalize", f_capitalize }, { "count", f_length }, { "d", f_default },
        { "default", f_default }, { "dictsort", f_dictsort }, { "e", f_escape },
        { "escape", f_escape }, { "first", f_first }, { "float", f_float },
        { "forceescape", f_forceescape }, { "groupby", f_groupby }, { "indent", f_indent }, { "int", f_int },
        { "items", f_items }, { "join", f_join }, { "last", f_last }, { "length", f_length },
        { "list", f_list }, { "lower", f_lower }, { "map", f_map }, { "max", f_max },
        { "min", f_min }, { "reject", f_reject }, { "rejectattr", f_rejectattr },
        { "replace", f_replace }, { "reverse", f_reverse }, { "safe", f_safe },
        { "select", f_select }, { "selectattr", f_selectattr }, { "sort", f_sort },
        { "string", f_string }, { "title", f_title }, { "tojson", f_tojson }, { "trim", f_trim },
        { "unique", f_unique }, { "upper", f_upper },
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (tmpl_is(name, table[i].name)) return &table[i];
    return NULL;
}
