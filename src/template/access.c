/* Attributes, items and slices of values, as Python and Jinja look them up. */
#include "template/eval_int.h"
#include <string.h>

static stretto_status absent(struct render *r, struct value v, const struct str *name,
                             struct value *out)
{
    return tmpl_undefined(r, tmpl_type(v), name, NULL, out);
}

static bool dunder(const struct str *s) { return s->n > 1 && s->p[0] == '_' && s->p[1] == '_'; }

/* Attributes that are not items: methods and the fields of loops, macros and namespaces. */
static stretto_status own_attr(struct render *r, struct value v, const struct str *name,
                               struct value *out)
{
    *out = (struct value){ .kind = T_MISSING };
    if (dunder(name) && v.kind != T_NAMESPACE)
        return tmpl_undefined(r, NULL, name, "is an internal attribute and may not be used", out);
    switch ((enum kind)v.kind) {
    case T_LOOP: return tmpl_loop_attr(r, v, name, out);
    case T_NAMESPACE: {
        struct value *at = tmpl_find_str(v.d, name->p, name->n);
        if (at) *out = *at;
        return STRETTO_OK;
    }
    default: return tmpl_method(r, v, name, out);
    }
}

/* a.b: an attribute first, then an item of that name. */
stretto_status tmpl_attr(struct render *r, struct value v, const struct str *name,
                         struct value *out)
{
    if (v.kind == T_UNDEFINED) return tmpl_use_undefined(r, v);
    TRY(tmpl_work(r, v.kind == T_DICT ? v.d->n / 8 : 1));
    if (v.kind == T_DICT && dunder(name)) {
        struct value *at = tmpl_find_str(v.d, name->p, name->n);
        if (at) { *out = *at; return STRETTO_OK; }
    }
    struct value of = v;
    TRY(own_attr(r, of, name, out));
    if (out->kind != T_MISSING) return STRETTO_OK;
    struct value *at = of.kind == T_DICT ? tmpl_find_str(of.d, name->p, name->n) : NULL;
    if (at) { *out = *at; return STRETTO_OK; }
    return absent(r, of, name, out);
}

static bool index_in(int64_t i, size_t n, size_t *out)
{
    if (i < 0) i += (int64_t)n;
    *out = (size_t)i;
    return i >= 0 && (uint64_t)i < n;
}

static stretto_status char_at(struct render *r, struct value v, int64_t i, struct value *out)
{
    size_t at, n = tmpl_chars(v.s);
    if (!index_in(i, n, &at)) return STRETTO_OK;
    if (n != v.s->n) TRY(tmpl_work(r, at / 16));
    size_t from = tmpl_offset(v.s, at);
    uint32_t cp;
    TRY(tmpl_part(r, v.s, v.s->p + from, tmpl_decode(v.s->p + from, v.s->n - from, &cp), out));
    out->safe = v.safe;
    return STRETTO_OK;
}

static stretto_status item_at(struct render *r, struct value v, struct value key, struct value *out)
{
    int64_t i;
    size_t at;
    *out = (struct value){ .kind = T_MISSING };
    if (v.kind == T_DICT) {
        struct value *found = NULL;
        if (key.kind == T_LIST || key.kind == T_DICT) return STRETTO_OK;
        TRY(tmpl_find(r, v.d, key, &found));
        if (found) *out = *found;
        return STRETTO_OK;
    }
    if (!tmpl_to_int(key, &i)) return STRETTO_OK;
    switch ((enum kind)v.kind) {
    case T_STR: return char_at(r, v, i, out);
    case T_LIST: case T_TUPLE:
        if (index_in(i, v.l->n, &at)) *out = v.l->v[at];
        return STRETTO_OK;
    case T_RANGE:
        if (index_in(i, v.range->n,
                     &at)) *out = V_INT(v.range->start + (int64_t)at * v.range->step);
        return STRETTO_OK;
    default: return STRETTO_OK;
    }
}

/* a[b]: an item first, then an attribute of that name. */
stretto_status tmpl_item(struct render *r, struct value v, struct value key, struct value *out)
{
    struct value text, of = v;
    if (of.kind == T_UNDEFINED) return tmpl_use_undefined(r, of);
    TRY(item_at(r, of, key, out));
    if (out->kind != T_MISSING) return STRETTO_OK;
    if (key.kind == T_STR) {
        TRY(own_attr(r, of, key.s, out));
        if (out->kind != T_MISSING) return STRETTO_OK;
        return absent(r, of, key.s, out);
    }
    size_t mark = r->out.len;
    TRY(tmpl_repr(r, key));
    TRY(tmpl_cut(r, mark, &text));
    return absent(r, of, text.s, out);
}

/* Python's bounds: which items a slice visits, as a start and a count. */
struct bounds { int64_t start, stop, step; size_t count; };

static stretto_status slice_bounds(struct render *r, const struct value part[3], size_t len,
                                   struct bounds *out)
{
    int64_t v[3] = { 0, 0, 1 }, n = (int64_t)len;
    for (int i = 0; i < 3; i++)
        if (part[i].kind != T_NONE && !tmpl_to_int(part[i], &v[i])) {
            if (part[i].kind == T_UNDEFINED) return tmpl_use_undefined(r, part[i]);
            return tmpl_fail(r, STRETTO_E_ARG, "slice indices must be integers or None");
        }
    if (v[2] == 0) return tmpl_fail(r, STRETTO_E_ARG, "slice step cannot be zero");
    if (v[2] == INT64_MIN) v[2]++;
    bool back = v[2] < 0;
    int64_t low = back ? -1 : 0, high = back ? n - 1 : n;
    for (int i = 0; i < 2; i++) {
        if (part[i].kind == T_NONE) { v[i] = (i == 0) != back ? low : high; continue; }
        if (v[i] < 0) v[i] = v[i] < -n ? low : v[i] + n;
        if (v[i] < low) v[i] = low;
        if (v[i] > high) v[i] = high;
    }
    *out = (struct bounds){ .start = v[0], .stop = v[1], .step = v[2] };
    if (back) out->count = v[0] > v[1] ? (size_t)((v[0] - v[1] - 1) / -v[2]) + 1 : 0;
    else out->count = v[1] > v[0] ? (size_t)((v[1] - v[0] - 1) / v[2]) + 1 : 0;
    return STRETTO_OK;
}

static stretto_status slice_text(struct render *r, struct value v, const struct bounds *b,
                                 struct value *out)
{
    int64_t start = b->start, step = b->step;
    size_t count = b->count;
    struct str *s = v.s;
    TRY(tmpl_work(r, s->n / 16));
    if (step == 1) {
        size_t from = tmpl_offset(s, (size_t)start), to = tmpl_offset(s, (size_t)start + count);
        TRY(tmpl_part(r, s, s->p + from, to - from, out));
        out->safe = v.safe;
        return STRETTO_OK;
    }
    /* Byte offsets of all characters make any step linear. */
    size_t chars = tmpl_chars(s), mark = r->out.len;
    uint32_t *offset;
    TRY(tmpl_take(r, chars + 1, sizeof *offset, &offset));
    for (size_t i = 0, k = 0; i < s->n; i++)
        if (((unsigned char)s->p[i] & 0xC0) != 0x80) offset[k++] = (uint32_t)i;
    offset[chars] = (uint32_t)s->n;
    for (size_t i = 0; i < count; i++) {
        size_t at = (size_t)(start + (int64_t)i * step);
        TRY(tmpl_write_part(r, s, s->p + offset[at], offset[at + 1] - offset[at]));
    }
    TRY(tmpl_cut(r, mark, out));
    out->safe = v.safe;
    return STRETTO_OK;
}

stretto_status tmpl_slice(struct render *r, struct value v, const struct value part[3], struct value *out)
{
    if (v.kind == T_UNDEFINED) return tmpl_use_undefined(r, v);
    if (v.kind == T_RANGE) return tmpl_fail(r, STRETTO_E_UNSUP, "slicing a range is not supported; add |list");
    if (v.kind != T_STR && v.kind != T_LIST && v.kind != T_TUPLE)
        return tmpl_fail(r, STRETTO_E_ARG, "'%s' object cannot be sliced%s", tmpl_type(v),
                         v.kind == T_ITER || v.kind == T_VIEW ? "; add |list" : "");
    size_t len;
    struct bounds b = { 0 };
    TRY(tmpl_len(r, v, &len));
    TRY(slice_bounds(r, part, len, &b));
    if (v.kind == T_STR) return slice_text(r, v, &b, out);
    struct list *l;
    TRY(tmpl_list(r, b.count, &l));
    TRY(tmpl_work(r, b.count));
    for (size_t i = 0; i < b.count; i++) l->v[l->n++] = v.l->v[b.start + (int64_t)i * b.step];
    *out = (struct value){ .kind = v.kind, .l = l };
    return STRETTO_OK;
}
