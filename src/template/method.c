/* Methods of Python's built-in types. Those that would change a list or dict are refused as Jinja's
 * immutable sandbox refuses them; those that exist but are not here are refused by name. */
#include "template/template_int.h"
#include <string.h>

#define METHOD(name) \
    static stretto_status name(struct render *r, struct value v, const struct call *c, \
                               struct value *out)

/* An argument that may be left out or None. */
static bool given(struct value v) { return v.kind != T_MISSING && v.kind != T_NONE; }

static stretto_status keep_safe(stretto_status s, struct value v, struct value *out)
{
    if (!s) out->safe = v.safe;
    return s;
}

/* ---- str: case, strip ------------------------------------------------------------------------ */

static stretto_status recased(struct render *r, struct value v, enum letter_case to,
                              struct value *out)
{
    size_t mark = r->out.len;
    TRY(tmpl_recase(r, v.s, v.s->p, v.s->n, to));
    return keep_safe(tmpl_cut(r, mark, out), v, out);
}

METHOD(str_upper) { TRY(tmpl_bind(r, "upper", c, "", NULL)); return recased(r, v, CASE_UPPER, out); }
METHOD(str_lower) { TRY(tmpl_bind(r, "lower", c, "", NULL)); return recased(r, v, CASE_LOWER, out); }

/* The first letter of the text, or of each word, in title case and the others in lower case. */
static stretto_status letters(struct render *r, struct value v, bool words, struct value *out)
{
    size_t mark = r->out.len;
    bool inside = false;
    TRY(tmpl_work(r, v.s->n / 4));
    for (size_t i = 0, k; i < v.s->n; i += k) {
        uint32_t cp;
        k = tmpl_decode(v.s->p + i, v.s->n - i, &cp);
        if (inside && cp == 0x3A3)
            return tmpl_fail(r, STRETTO_E_UNSUP, "a capital sigma in this method is not supported");
        TRY(tmpl_recase(r, v.s, v.s->p + i, k, inside ? CASE_LOWER : CASE_TITLE));
        inside = !words || tmpl_lower(cp) || tmpl_upper(cp) || tmpl_title(cp);
    }
    return keep_safe(tmpl_cut(r, mark, out), v, out);
}

METHOD(str_title) { TRY(tmpl_bind(r, "title", c, "", NULL)); return letters(r, v, true, out); }
METHOD(str_capitalize)
{
    TRY(tmpl_bind(r, "capitalize", c, "", NULL));
    return letters(r, v, false, out);
}

static stretto_status stripped(struct render *r, struct value v, const struct call *c, bool left,
                               bool right, struct value *out)
{
    struct value set;
    struct str *chars = NULL;
    TRY(tmpl_bind(r, "strip", c, "chars?", &set));
    if (given(set)) TRY(tmpl_want_str(r, "strip", set, &chars));
    const char *p = v.s->p;
    size_t n = v.s->n;
    TRY(tmpl_work(r, chars ? chars->n / 16 * (n / 16) : n / 64));
    tmpl_strip(&p, &n, chars, left, right);
    return keep_safe(tmpl_part(r, v.s, p, n, out), v, out);
}

stretto_status tmpl_str_strip(struct render *r, struct value v, const struct call *c,
                              struct value *out)
{
    return stripped(r, v, c, true, true, out);
}

METHOD(str_lstrip) { return stripped(r, v, c, true, false, out); }
METHOD(str_rstrip) { return stripped(r, v, c, false, true, out); }

/* ---- str: search ----------------------------------------------------------------------------- */

/* Python's optional start and end, as byte offsets; false when start lies behind the end. */
static stretto_status bounds(struct render *r, struct str *s, struct value from, struct value to,
                             size_t *a, size_t *b, bool *valid)
{
    int64_t n = (int64_t)tmpl_chars(s), v[2] = { 0, n };
    if (given(from)) TRY(tmpl_want_int(r, "start", from, &v[0]));
    if (given(to)) TRY(tmpl_want_int(r, "end", to, &v[1]));
    for (int i = 0; i < 2; i++) {
        if (v[i] < 0) v[i] = v[i] < -n ? 0 : v[i] + n;
        if (i == 1 && v[i] > n) v[i] = n;
    }
    *valid = v[0] <= v[1] && v[0] <= n;
    *a = *valid ? tmpl_offset(s, (size_t)v[0]) : 0;
    *b = *valid ? tmpl_offset(s, (size_t)v[1]) : 0;
    return STRETTO_OK;
}

static const char *search(const char *p, size_t n, const struct str *word, bool last)
{
    if (!last) return word->n ? memmem(p, n, word->p, word->n) : p;
    for (size_t i = word->n > n ? 0 : n - word->n + 1; i-- > 0;)
        if (memcmp(p + i, word->p, word->n) == 0) return p + i;
    return NULL;
}

/* Looking from the right compares at every place. */
static stretto_status search_work(struct render *r, size_t n, size_t word, bool last)
{
    return tmpl_work(r, last ? n / 16 * (word / 64 + 1) : n / 16);
}

static size_t count_chars(const char *p, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) k += ((unsigned char)p[i] & 0xC0) != 0x80;
    return k;
}

static stretto_status found_at(struct render *r, struct value v, const struct call *c, bool last,
                               bool must, struct value *out)
{
    struct value a[3];
    struct str *word;
    size_t from, to;
    bool valid;
    TRY(tmpl_bind(r, "find", c, "sub start? end?", a));
    TRY(tmpl_want_str(r, "find", a[0], &word));
    TRY(bounds(r, v.s, a[1], a[2], &from, &to, &valid));
    TRY(search_work(r, v.s->n, word->n, last));
    const char *at = valid ? search(v.s->p + from, to - from, word, last) : NULL;
    if (!at && must) return tmpl_fail(r, STRETTO_E_ARG, "substring not found");
    *out = V_INT(at ? (int64_t)count_chars(v.s->p, (size_t)(at - v.s->p)) : -1);
    return STRETTO_OK;
}

METHOD(str_find) { return found_at(r, v, c, false, false, out); }
METHOD(str_rfind) { return found_at(r, v, c, true, false, out); }
METHOD(str_index) { return found_at(r, v, c, false, true, out); }
METHOD(str_rindex) { return found_at(r, v, c, true, true, out); }

METHOD(str_count)
{
    struct value a[3];
    struct str *word;
    size_t from, to;
    bool valid;
    int64_t n = 0;
    TRY(tmpl_bind(r, "count", c, "sub start? end?", a));
    TRY(tmpl_want_str(r, "count", a[0], &word));
    TRY(bounds(r, v.s, a[1], a[2], &from, &to, &valid));
    TRY(tmpl_work(r, v.s->n / 16));
    if (valid && !word->n) n = (int64_t)count_chars(v.s->p + from, to - from) + 1;
    while (valid && word->n) {
        const char *at = memmem(v.s->p + from, to - from, word->p, word->n);
        if (!at) break;
        from = (size_t)(at - v.s->p) + word->n;
        n++;
    }
    *out = V_INT(n);
    return STRETTO_OK;
}

static bool matches(const char *p, size_t n, const struct str *word, bool end)
{
    return word->n <= n && memcmp(end ? p + n - word->n : p, word->p, word->n) == 0;
}

static stretto_status affix(struct render *r, struct value v, const struct call *c, bool end,
                            struct value *out)
{
    struct value a[3];
    size_t from, to;
    bool valid, yes = false;
    TRY(tmpl_bind(r, end ? "endswith" : "startswith", c, "prefix start? end?", a));
    TRY(bounds(r, v.s, a[1], a[2], &from, &to, &valid));
    size_t n = a[0].kind == T_TUPLE ? a[0].l->n : 1;
    TRY(tmpl_work(r, n));
    for (size_t i = 0; i < n; i++) {
        struct str *word;
        TRY(tmpl_want_str(r, end ? "endswith" : "startswith",
                          a[0].kind == T_TUPLE ? a[0].l->v[i] : a[0], &word));
        yes = yes || (valid && matches(v.s->p + from, to - from, word, end));
    }
    *out = V_BOOL(yes);
    return STRETTO_OK;
}

METHOD(str_startswith) { return affix(r, v, c, false, out); }
METHOD(str_endswith) { return affix(r, v, c, true, out); }

static stretto_status remove_affix(struct render *r, struct value v, const struct call *c, bool end,
                                   struct value *out)
{
    struct value a;
    struct str *word;
    TRY(tmpl_bind(r, end ? "removesuffix" : "removeprefix", c, "affix", &a));
    TRY(tmpl_want_str(r, "affix", a, &word));
    size_t cut = matches(v.s->p, v.s->n, word, end) ? word->n : 0;
    return tmpl_part(r, v.s, v.s->p + (end ? 0 : cut), v.s->n - cut, out);
}

METHOD(str_removeprefix) { return remove_affix(r, v, c, false, out); }
METHOD(str_removesuffix) { return remove_affix(r, v, c, true, out); }

stretto_status tmpl_str_replace(struct render *r, struct value v, const struct call *c,
                                struct value *out)
{
    struct value a[3];
    struct str *old, *with;
    int64_t left = -1;
    TRY(tmpl_bind(r, "replace", c, "old new count?", a));
    TRY(tmpl_want_str(r, "replace", a[0], &old));
    TRY(tmpl_want_str(r, "replace", a[1], &with));
    if (given(a[2])) TRY(tmpl_want_int(r, "replace", a[2], &left));
    size_t mark = r->out.len, at = 0, n = v.s->n;
    const char *p = v.s->p;
    TRY(tmpl_work(r, n / 16));
    for (; left != 0; left -= left > 0) {
        if (!old->n) {                               /* between all characters, and at both ends */
            uint32_t cp;
            TRY(tmpl_write_str(r, with));
            if (at >= n) break;
            size_t k = tmpl_decode(p + at, n - at, &cp);
            TRY(tmpl_write_part(r, v.s, p + at, k));
            at += k;
            continue;
        }
        const char *hit = memmem(p + at, n - at, old->p, old->n);
        if (!hit) break;
        TRY(tmpl_write_part(r, v.s, p + at, (size_t)(hit - p) - at));
        TRY(tmpl_write_str(r, with));
        at = (size_t)(hit - p) + old->n;
    }
    if (at < n) TRY(tmpl_write_part(r, v.s, p + at, n - at));
    return tmpl_cut(r, mark, out);
}

/* ---- str: split and join --------------------------------------------------------------------- */

static stretto_status push_part(struct render *r, struct list *l, const struct str *s, const char *p,
                                size_t n)
{
    struct value part;
    TRY(tmpl_work(r, 1));
    TRY(tmpl_part(r, s, p, n, &part));
    return tmpl_push(r, l, part);
}

static bool space_at(const char *p, size_t n, size_t at, size_t *len)
{
    uint32_t cp;
    *len = tmpl_decode(p + at, n - at, &cp);
    return tmpl_space(cp);
}

/* By white space from the left: runs count as one, none at the ends. */
static stretto_status split_space(struct render *r, const struct str *s, int64_t most, struct list *l)
{
    const char *p = s->p;
    size_t n = s->n;
    size_t at = 0, k;
    for (;;) {
        while (at < n && space_at(p, n, at, &k)) at += k;
        if (at >= n) return STRETTO_OK;
        size_t start = at;
        if (most-- == 0) {
            const char *rest = p + at;
            size_t len = n - at;
            tmpl_strip(&rest, &len, NULL, false, true);
            return push_part(r, l, s, rest, len);
        }
        while (at < n && !space_at(p, n, at, &k)) at += k;
        TRY(push_part(r, l, s, p + start, at - start));
    }
}

static void reverse(struct list *l)
{
    for (size_t i = 0, j = l->n; i + 1 < j; i++) {
        struct value t = l->v[i];
        l->v[i] = l->v[--j];
        l->v[j] = t;
    }
}

static stretto_status split_word(struct render *r, const struct str *s, const struct str *word,
                                 int64_t most, bool right, struct list *l)
{
    const char *p = s->p;
    size_t n = s->n;
    for (;;) {
        const char *at = most != 0 ? search(p, n, word, right) : NULL;
        if (most > 0) most--;
        if (!at) break;
        size_t head = (size_t)(at - p);
        if (right) {
            TRY(push_part(r, l, s, at + word->n, n - head - word->n));
            n = head;
        } else {
            TRY(push_part(r, l, s, p, head));
            p = at + word->n;
            n -= head + word->n;
        }
    }
    TRY(push_part(r, l, s, p, n));
    if (right) reverse(l);
    return STRETTO_OK;
}

static stretto_status split(struct render *r, struct value v, const struct call *c, bool right,
                            struct value *out)
{
    struct value a[2];
    struct str *word;
    struct list *l;
    int64_t most = -1;
    TRY(tmpl_bind(r, "split", c, "sep? maxsplit?", a));
    if (given(a[1])) TRY(tmpl_want_int(r, "split", a[1], &most));
    if (most < 0) most = -1;
    TRY(tmpl_list(r, 0, &l));
    TRY(tmpl_work(r, v.s->n / 16));
    *out = V_LIST(l);
    if (!given(a[0]))
        return right ? tmpl_fail(r, STRETTO_E_UNSUP, "rsplit by white space is not supported; name what to split by")
                     : split_space(r, v.s, most, l);
    TRY(tmpl_want_str(r, "split", a[0], &word));
    if (!word->n) return tmpl_fail(r, STRETTO_E_ARG, "empty separator");
    TRY(search_work(r, v.s->n, word->n, right));
    return split_word(r, v.s, word, most, right, l);
}

METHOD(str_split) { return split(r, v, c, false, out); }
METHOD(str_rsplit) { return split(r, v, c, true, out); }

METHOD(str_splitlines)
{
    struct value a;
    struct list *l;
    TRY(tmpl_bind(r, "splitlines", c, "keepends?", &a));
    bool keep = a.kind != T_MISSING && tmpl_truth(a);
    TRY(tmpl_list(r, 0, &l));
    TRY(tmpl_work(r, v.s->n / 8));
    for (size_t at = 0, start = 0; start < v.s->n;) {
        uint32_t cp = 0;
        size_t k = 0, end;
        while (at < v.s->n) {
            k = tmpl_decode(v.s->p + at, v.s->n - at, &cp);
            if (tmpl_line_break(cp)) break;
            at += k;
        }
        end = at;
        if (at < v.s->n) at += cp == '\r' && at + 1 < v.s->n && v.s->p[at + 1] == '\n' ? 2 : k;
        TRY(push_part(r, l, v.s, v.s->p + start, (keep ? at : end) - start));
        start = at;
    }
    *out = V_LIST(l);
    return STRETTO_OK;
}

static stretto_status partition(struct render *r, struct value v, const struct call *c, bool right,
                                struct value *out)
{
    struct value a, part[3];
    struct str *word;
    struct list *l;
    TRY(tmpl_bind(r, "partition", c, "sep", &a));
    TRY(tmpl_want_str(r, "partition", a, &word));
    if (!word->n) return tmpl_fail(r, STRETTO_E_ARG, "empty separator");
    TRY(search_work(r, v.s->n, word->n, right));
    const char *at = search(v.s->p, v.s->n, word, right), *end = v.s->p + v.s->n;
    const char *cut[4] = { v.s->p, at ? at : right ? v.s->p : end, at ? at + word->n : right ? v.s->p : end, end };
    TRY(tmpl_list(r, 3, &l));
    for (int i = 0; i < 3; i++) {
        TRY(tmpl_part(r, v.s, cut[i], (size_t)(cut[i + 1] - cut[i]), &part[i]));
        TRY(tmpl_push(r, l, part[i]));
    }
    *out = (struct value){ .kind = T_TUPLE, .l = l };
    return STRETTO_OK;
}

METHOD(str_partition) { return partition(r, v, c, false, out); }
METHOD(str_rpartition) { return partition(r, v, c, true, out); }

METHOD(str_join)
{
    struct value a;
    struct list *l;
    TRY(tmpl_bind(r, "join", c, "iterable", &a));
    TRY(tmpl_to_list(r, a, &l));
    size_t mark = r->out.len;
    for (size_t i = 0; i < l->n; i++) {
        if (l->v[i].kind != T_STR)
            return tmpl_fail(r, STRETTO_E_ARG, "join: item %zu is not a string but %s", i,
                             tmpl_type(l->v[i]));
        if (i) TRY(tmpl_write_str(r, v.s));
        TRY(tmpl_write_str(r, l->v[i].s));
    }
    return tmpl_cut(r, mark, out);
}

METHOD(str_format) { return tmpl_format(r, v, c, out); }

/* ---- str: questions -------------------------------------------------------------------------- */

static stretto_status all(struct render *r, struct value v, const struct call *c,
                          bool (*is)(uint32_t), struct value *out)
{
    bool yes = v.s->n > 0;
    TRY(tmpl_bind(r, "a question to a string", c, "", NULL));
    TRY(tmpl_work(r, v.s->n / 8));
    for (size_t i = 0; i < v.s->n && yes;) {
        uint32_t cp;
        i += tmpl_decode(v.s->p + i, v.s->n - i, &cp);
        yes = is(cp);
    }
    *out = V_BOOL(yes);
    return STRETTO_OK;
}

METHOD(str_isdigit) { return all(r, v, c, tmpl_digit, out); }
METHOD(str_isspace) { return all(r, v, c, tmpl_space, out); }

/* ---- dict and list --------------------------------------------------------------------------- */

METHOD(dict_get)
{
    struct value a[2], *at;
    TRY(tmpl_bind(r, "get", c, "key default?", a));
    TRY(tmpl_find(r, v.d, a[0], &at));
    *out = at ? *at : a[1].kind == T_MISSING ? V_NONE : a[1];
    return STRETTO_OK;
}

static stretto_status view(struct render *r, struct value v, const struct call *c, char what,
                           struct value *out)
{
    TRY(tmpl_bind(r, "a view of a dict", c, "", NULL));
    *out = (struct value){ .kind = T_VIEW };
    TRY(tmpl_take(r, 1, sizeof *out->view, &out->view));
    *out->view = (struct view){ .d = v.d, .what = what };
    return STRETTO_OK;
}

METHOD(dict_items) { return view(r, v, c, 'i', out); }
METHOD(dict_keys) { return view(r, v, c, 'k', out); }
METHOD(dict_values) { return view(r, v, c, 'v', out); }

/* Nothing changes a dict or list, so a copy is the thing itself. */
METHOD(copy)
{
    TRY(tmpl_bind(r, "copy", c, "", NULL));
    *out = v;
    return STRETTO_OK;
}

/* ---- the tables ------------------------------------------------------------------------------ */

static const struct function str_methods[] = {
    { "upper", str_upper }, { "lower", str_lower }, { "title", str_title },
    { "capitalize", str_capitalize }, { "strip", tmpl_str_strip }, { "lstrip", str_lstrip },
    { "rstrip", str_rstrip }, { "find", str_find }, { "rfind", str_rfind }, { "index", str_index },
    { "rindex", str_rindex }, { "count", str_count }, { "startswith", str_startswith },
    { "endswith", str_endswith }, { "removeprefix", str_removeprefix },
    { "removesuffix", str_removesuffix }, { "replace", tmpl_str_replace }, { "split", str_split },
    { "rsplit", str_rsplit }, { "splitlines", str_splitlines }, { "partition", str_partition },
    { "rpartition", str_rpartition }, { "join", str_join }, { "format", str_format },
    { "isdigit", str_isdigit }, { "isspace", str_isspace }, { NULL, NULL },
};
static const struct function dict_methods[] = {
    { "get", dict_get }, { "items", dict_items }, { "keys", dict_keys }, { "values", dict_values },
    { "copy", copy }, { NULL, NULL },
};
static const struct function list_methods[] = { { "copy", copy }, { NULL, NULL } };

/* Words with spaces around them. `changing`: refused by the sandbox. `missing`: exist in Python or Jinja. */
#define INT_MISSING " as_integer_ratio bit_count bit_length conjugate denominator from_bytes imag" \
    " numerator real to_bytes "
static const struct type_row {
    uint8_t kind;
    const struct function *methods;
    const char *changing, *missing;
} types[] = {
    { T_STR, str_methods, "", " casefold center encode expandtabs format_map isalnum isalpha isascii isdecimal"
      " isidentifier islower isnumeric isprintable istitle isupper ljust maketrans rjust swapcase translate zfill " },
    { T_DICT, dict_methods, " clear pop popitem setdefault update ", " fromkeys " },
    { T_LIST, list_methods, " append clear pop reverse insert sort extend remove ", " count index " },
    { T_TUPLE, NULL, "", " count index " }, { T_INT, NULL, "", INT_MISSING }, { T_BOOL, NULL, "", INT_MISSING },
    { T_BIG, NULL, "", INT_MISSING },
    { T_FLOAT, NULL, "", " as_integer_ratio conjugate fromhex hex imag is_integer real " },
    { T_RANGE, NULL, "", " count index start stop step " },
    { T_VIEW, NULL, "", " isdisjoint mapping " },
    { T_ITER, NULL, "", " close send throw gi_code gi_frame gi_running gi_yieldfrom gi_suspended " },
    { T_MACRO, NULL, "", " name arguments caller catch_kwargs catch_varargs explicit_caller " },
};

/* Methods that escape their arguments when the string is marked safe. */
static const char escaping[] = " replace join format split rsplit splitlines partition rpartition removeprefix"
    " removesuffix ";

static bool listed(const char *words, const struct str *name)
{
    for (const char *p = words; name->n && (p = memmem(p, strlen(p), name->p,
                                                       name->n)) != NULL; p++)
        if (p[-1] == ' ' && p[name->n] == ' ') return true;
    return false;
}

stretto_status tmpl_method(struct render *r, struct value v, const struct str *name,
                           struct value *out)
{
    *out = (struct value){ .kind = T_MISSING };
    if (v.kind == T_TUPLE && v.l->group && (tmpl_is(name, "grouper") || tmpl_is(name, "list"))) {
        *out = v.l->v[tmpl_is(name, "list")];
        return STRETTO_OK;
    }
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const struct type_row *t = &types[i];
        if (t->kind != v.kind) continue;
        for (const struct function *f = t->methods; f && f->name; f++) {
            if (!tmpl_is(name, f->name)) continue;
            if (v.kind == T_STR && v.safe && listed(escaping, name))
                return tmpl_fail(r, STRETTO_E_UNSUP, "%s of a string marked safe is not supported",
                                 f->name);
            *out = (struct value){ .kind = T_METHOD };
            TRY(tmpl_take(r, 1, sizeof *out->method, &out->method));
            *out->method = (struct method){ .self = v, .fn = f };
            return STRETTO_OK;
        }
        if (listed(t->changing, name))
            return tmpl_undefined(r, NULL, name,
                                  "would change a list or dict, which templates may not", out);
        if (listed(t->missing, name))
            return tmpl_fail(r, STRETTO_E_UNSUP, "the attribute %s.%.*s is not supported",
                             tmpl_type(v), tmpl_shown(name->n), name->p);
    }
    return STRETTO_OK;
}
