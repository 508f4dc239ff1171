/* Values into text: str(), repr(), JSON as json.dumps writes it, HTML escapes. Everything is
 * appended to r->out; a caller who wants a value notes r->out.len before and cuts the tail off
 * after. */
#include "template/template_int.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* marks: of the bytes; NULL: all are of r->from. */
static stretto_status put(struct render *r, const void *p, const unsigned char *marks, size_t n)
{
    stretto_status s = buffer_append(&r->out, p, n);
    if (s == STRETTO_OK && r->track) s = buffer_reserve(&r->marks, n);
    if (s == STRETTO_OK && r->track) {
        if (marks) memcpy(r->marks.data + r->marks.len, marks, n);
        else if (n) memset(r->marks.data + r->marks.len, r->from, n);
        r->marks.len += n;
    }
    if (s == STRETTO_E_FULL)
        return tmpl_fail(r, s, "the template prints more than %zu MiB", TEMPLATE_OUTPUT_MAX >> 20);
    return s ? tmpl_fail(r, s, "out of memory") : s;
}

stretto_status tmpl_write(struct render *r, const void *p, size_t n) { return put(r, p, NULL, n); }

stretto_status tmpl_write_part(struct render *r, const struct str *s, const char *p, size_t n)
{
    unsigned char from = r->from;
    r->from = 0;
    TRY(put(r, p, s->marks ? s->marks + (p - s->p) : NULL, n));
    r->from = from;
    return STRETTO_OK;
}

stretto_status tmpl_write_str(struct render *r, const struct str *s)
{
    return tmpl_write_part(r, s, s->p, s->n);
}

stretto_status tmpl_cut(struct render *r, size_t mark, struct value *out)
{
    size_t n = r->out.len - mark;
    unsigned char from = r->from;
    r->from = 0;                                     /* the bytes know where they came from */
    TRY(tmpl_copy(r, r->out.data ? r->out.data + mark : "", n, out));
    r->from = from;
    if (r->track && n && memchr(r->marks.data + mark, 1, n)) {
        unsigned char *marks;
        TRY(tmpl_take(r, n, 1, &marks));
        memcpy(marks, r->marks.data + mark, n);
        out->s->marks = marks;
    }
    r->out.len = mark;
    r->marks.len = r->track ? mark : 0;
    return STRETTO_OK;
}

static stretto_status word(struct render *r, const char *s) { return tmpl_write(r, s, strlen(s)); }

static stretto_status integer(struct render *r, int64_t i)
{
    char text[24];
    return tmpl_write(r, text, (size_t)snprintf(text, sizeof text, "%" PRId64, i));
}

/* As Python quotes: with ' unless only that appears inside. */
static stretto_status quoted(struct render *r, const struct str *s)
{
    char quote = memchr(s->p, '\'', s->n) && !memchr(s->p, '"', s->n) ? '"' : '\'';
    unsigned char from = r->from;
    TRY(tmpl_write(r, &quote, 1));
    for (size_t i = 0; i < s->n;) {
        uint32_t cp;
        char esc[12];
        size_t at = i;
        r->from = tmpl_mark(s, s->p + i);
        i += tmpl_decode(s->p + i, s->n - i, &cp);
        if (cp == (unsigned char)quote || cp == '\\') snprintf(esc, sizeof esc, "\\%c", (int)cp);
        else if (cp == '\n') strcpy(esc, "\\n");
        else if (cp == '\r') strcpy(esc, "\\r");
        else if (cp == '\t') strcpy(esc, "\\t");
        else if (tmpl_printable(cp)) { TRY(tmpl_write(r, s->p + at, i - at)); continue; }
        else snprintf(esc, sizeof esc,
                      cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
        TRY(word(r, esc));
    }
    r->from = from;
    return tmpl_write(r, &quote, 1);
}

static stretto_status repr(struct render *r, struct value v, unsigned depth);

static stretto_status items(struct render *r, const struct value *v, size_t n, unsigned depth)
{
    for (size_t i = 0; i < n; i++) {
        if (i) TRY(word(r, ", "));
        TRY(repr(r, v[i], depth));
    }
    return STRETTO_OK;
}

static stretto_status members(struct render *r, const struct dict *d, unsigned depth)
{
    for (size_t i = 0; i < d->n; i++) {
        if (i) TRY(word(r, ", "));
        TRY(repr(r, d->e[i].k, depth));
        TRY(word(r, ": "));
        TRY(repr(r, d->e[i].v, depth));
    }
    return STRETTO_OK;
}

static stretto_status unprintable(struct render *r, struct value v)
{
    bool lazy = v.kind == T_ITER || v.kind == T_VIEW || v.kind == T_RANGE;
    return tmpl_fail(r, STRETTO_E_UNSUP, "printing a %s is not supported%s", tmpl_type(v), lazy ? "; add |list"
                     : v.kind == T_METHOD || v.kind == T_FUNCTION || v.kind == T_MACRO ? "; call it with ()" : "");
}

static stretto_status repr(struct render *r, struct value v, unsigned depth)
{
    char text[40];
    TRY(tmpl_work(r, 1));
    if (depth > TEMPLATE_VALUE_DEPTH)
        return tmpl_fail(r, STRETTO_E_FULL, "values are nested too deeply to be printed");
    switch ((enum kind)v.kind) {
    case T_MISSING: case T_UNDEFINED: return word(r, "Undefined");
    case T_NONE: return word(r, "None");
    case T_BOOL: return word(r, v.b ? "True" : "False");
    case T_INT: return integer(r, v.i);
    case T_BIG: return tmpl_write(r, v.s->p, v.s->n);
    case T_FLOAT: tmpl_float_text(v.f, text); return word(r, text);
    case T_STR:
        if (v.safe) TRY(word(r, "Markup("));
        TRY(quoted(r, v.s));
        return v.safe ? word(r, ")") : STRETTO_OK;
    case T_LIST:
        TRY(word(r, "["));
        TRY(items(r, v.l->v, v.l->n, depth + 1));
        return word(r, "]");
    case T_TUPLE:
        TRY(word(r, "("));
        TRY(items(r, v.l->v, v.l->n, depth + 1));
        return word(r, v.l->n == 1 ? ",)" : ")");
    case T_DICT:
        TRY(word(r, "{"));
        TRY(members(r, v.d, depth + 1));
        return word(r, "}");
    default: return unprintable(r, v);
    }
}

stretto_status tmpl_repr(struct render *r, struct value v) { return repr(r, v, 0); }

stretto_status tmpl_text(struct render *r, struct value v)
{
    if (v.kind == T_STR) {
        TRY(tmpl_work(r, v.s->n / 64));
        return tmpl_write_str(r, v.s);
    }
    if (v.kind == T_UNDEFINED) return STRETTO_OK;
    return tmpl_repr(r, v);
}

stretto_status tmpl_to_str(struct render *r, struct value v, struct value *out)
{
    if (v.kind == T_STR) { *out = v; return STRETTO_OK; }
    size_t mark = r->out.len;
    TRY(tmpl_text(r, v));
    return tmpl_cut(r, mark, out);
}

stretto_status tmpl_escape(struct render *r, struct value v)
{
    struct value s;
    TRY(tmpl_to_str(r, v, &s));
    TRY(tmpl_work(r, s.s->n / 16));
    if (v.safe) return tmpl_write_str(r, s.s);
    unsigned char from = r->from;
    for (size_t i = 0; i < s.s->n; i++) {
        char c = s.s->p[i];
        r->from = tmpl_mark(s.s, s.s->p + i);
        const char *to = c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '"' ? "&#34;"
            : c == '\'' ? "&#39;" : NULL;
        TRY(to ? word(r, to) : tmpl_write(r, &c, 1));
    }
    r->from = from;
    return STRETTO_OK;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static stretto_status json_text(struct render *r, const struct str *s, bool ascii)
{
    unsigned char from = r->from;
    TRY(word(r, "\""));
    for (size_t i = 0; i < s->n;) {
        uint32_t cp;
        char esc[16];
        size_t at = i;
        r->from = tmpl_mark(s, s->p + i);
        i += tmpl_decode(s->p + i, s->n - i, &cp);
        const char *known = cp == '"' ? "\\\"" : cp == '\\' ? "\\\\" : cp == '\n' ? "\\n" : cp == '\r' ? "\\r"
            : cp == '\t' ? "\\t" : cp == '\b' ? "\\b" : cp == '\f' ? "\\f" : NULL;
        if (known) { TRY(word(r, known)); continue; }
        if (cp >= 0x20 && (!ascii || cp < 0x7F)) { TRY(tmpl_write(r, s->p + at, i - at)); continue; }
        if (cp < 0x10000) snprintf(esc, sizeof esc, "\\u%04x", (unsigned)cp);
        else snprintf(esc, sizeof esc, "\\u%04x\\u%04x",
                      (unsigned)(0xD800 + ((cp - 0x10000) >> 10)),
                      (unsigned)(0xDC00 + (cp & 0x3FF)));
        TRY(word(r, esc));
    }
    r->from = from;
    return word(r, "\"");
}

static stretto_status json_atom(struct render *r, struct value v, bool ascii)
{
    char text[40];
    switch ((enum kind)v.kind) {
    case T_NONE: return word(r, "null");
    case T_BOOL: return word(r, v.b ? "true" : "false");
    case T_INT: return integer(r, v.i);
    case T_BIG: return tmpl_write(r, v.s->p, v.s->n);
    case T_FLOAT:
        tmpl_float_text(v.f, text);
        return word(r, !strcmp(text, "nan") ? "NaN" : !strcmp(text, "inf") ? "Infinity"
                    : !strcmp(text, "-inf") ? "-Infinity" : text);
    case T_STR: return json_text(r, v.s, ascii);
    default: return tmpl_fail(r, STRETTO_E_ARG, "Object of type %s is not JSON serializable",
                              tmpl_type(v));
    }
}

static stretto_status json_key(struct render *r, struct value k, bool ascii)
{
    if (k.kind == T_STR) return json_text(r, k.s, ascii);
    if (k.kind > T_FLOAT || k.kind < T_NONE)
        return tmpl_fail(r, STRETTO_E_ARG,
                         "JSON keys must be str, int, float, bool or None, not %s", tmpl_type(k));
    TRY(word(r, "\""));
    TRY(json_atom(r, k, ascii));
    return word(r, "\"");
}

static stretto_status json_line(struct render *r, const struct json_style *s, unsigned depth)
{
    if (!s->indent) return STRETTO_OK;
    TRY(word(r, "\n"));
    for (unsigned i = 0; i < depth; i++) TRY(tmpl_write(r, s->indent, s->indent_n));
    return STRETTO_OK;
}

static stretto_status sorted_dict(struct render *r, const struct dict *d, struct dict **out)
{
    struct list *k, *at;
    TRY(tmpl_list(r, d->n, &k));
    TRY(tmpl_list(r, d->n, &at));
    for (size_t i = 0; i < d->n; i++) {
        k->v[k->n++] = d->e[i].k;
        at->v[at->n++] = V_INT((int64_t)i);
    }
    TRY(tmpl_sort(r, at, k, false));
    TRY(tmpl_dict(r, out));
    if (d->n) TRY(tmpl_take(r, d->n, sizeof(struct entry), &(*out)->e));
    for (size_t i = 0; i < d->n; i++) (*out)->e[i] = d->e[at->v[i].i];
    (*out)->n = (*out)->cap = d->n;
    return STRETTO_OK;
}

stretto_status tmpl_json(struct render *r, struct value v, const struct json_style *s,
                         unsigned depth)
{
    bool is_dict = v.kind == T_DICT;
    TRY(tmpl_work(r, 1));
    if (depth > TEMPLATE_VALUE_DEPTH)
        return tmpl_fail(r, STRETTO_E_FULL, "values are nested too deeply for tojson");
    if (!is_dict && v.kind != T_LIST && v.kind != T_TUPLE) return json_atom(r, v, s->ascii);
    size_t n = is_dict ? v.d->n : v.l->n;
    if (!n) return word(r, is_dict ? "{}" : "[]");
    struct dict *d = is_dict ? v.d : NULL;
    if (is_dict && s->sort) TRY(sorted_dict(r, v.d, &d));
    TRY(word(r, is_dict ? "{" : "["));
    for (size_t i = 0; i < n; i++) {
        if (i) TRY(tmpl_write(r, s->item, s->item_n));
        TRY(json_line(r, s, depth + 1));
        if (is_dict) {
            TRY(json_key(r, d->e[i].k, s->ascii));
            TRY(tmpl_write(r, s->key, s->key_n));
        }
        TRY(tmpl_json(r, is_dict ? d->e[i].v : v.l->v[i], s, depth + 1));
    }
    TRY(json_line(r, s, depth));
    return word(r, is_dict ? "}" : "]");
}
