/* Python's str.format and strftime. English month and day names whatever the locale. A conversion or
 * directive that is not here is refused by name. */
#include "template/template_int.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* [[fill]align][sign][0][width][grouping][.precision][type] */
struct spec {
    char fill[4];
    size_t fill_n;
    char align, sign, type, group;       /* 0 = not given */
    int64_t width, precision;            /* -1 = not given */
};

#define WIDTH_MAX 100000

static stretto_status fill(struct render *r, const struct spec *s, size_t n)
{
    for (; n > 0; n--) TRY(tmpl_write(r, s->fill, s->fill_n));
    return STRETTO_OK;
}

/* `text`, of which the first `head` bytes are sign and prefix, set into its width. */
static stretto_status pad(struct render *r, const struct spec *s, char align, const struct str *text,
                          size_t head)
{
    size_t chars = 0, width = s->width > 0 ? (size_t)s->width : 0, n = text->n;
    for (size_t i = 0; i < n; i++) chars += ((unsigned char)text->p[i] & 0xC0) != 0x80;
    size_t room = width > chars ? width - chars : 0;
    size_t left = align == '>' ? room : align == '^' ? room / 2 : 0;
    if (align == '=') {
        TRY(tmpl_write_part(r, text, text->p, head));
        TRY(fill(r, s, room));
        return tmpl_write_part(r, text, text->p + head, n - head);
    }
    TRY(fill(r, s, left));
    TRY(tmpl_write_str(r, text));
    return fill(r, s, room - left);
}

static stretto_status put_text(struct render *r, const struct spec *s, struct str *text)
{
    size_t n = text->n;
    if (s->precision >= 0 && (size_t)s->precision < tmpl_chars(text))
        n = tmpl_offset(text, (size_t)s->precision);
    const struct str part = { .p = text->p, .n = n, .marks = text->marks };
    return pad(r, s, s->align ? s->align : '<', &part, 0);
}

/* Sign and digits of a decimal integer, thousands separated when asked. */
static stretto_status put_int(struct render *r, const struct spec *s, int64_t i)
{
    char digits[24], text[48];
    size_t len = 0, head;
    uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    int n = snprintf(digits, sizeof digits, "%" PRIu64, u);
    if (i < 0) text[len++] = '-';
    else if (s->sign == '+' || s->sign == ' ') text[len++] = s->sign;
    head = len;
    for (int at = 0; at < n; at++) {
        text[len++] = digits[at];
        if (s->group && at + 1 < n && (n - at - 1) % 3 == 0) text[len++] = s->group;
    }
    const struct str number = { .p = text, .n = len };
    return pad(r, s, s->align ? s->align : '>', &number, head);
}

/* printf does the digits; a foreign decimal point is put right, thousands are set in after. */
static stretto_status put_float(struct render *r, const struct spec *s, double f)
{
    char conv[12], text[900], out[1200];
    char type = s->type == '%' ? 'f' : s->type ? s->type : 'g';
    int64_t precision = s->precision < 0 ? 6 : s->precision;
    if (precision > 300)
        return tmpl_fail(r, STRETTO_E_UNSUP, "a precision above 300 is not supported");
    snprintf(conv, sizeof conv, "%%.*%c", type);
    if (s->type == '%') f *= 100;
    if (!s->type && s->precision < 0) tmpl_float_text(fabs(f), text);
    else snprintf(text, sizeof text, conv, (int)precision, fabs(f));
    size_t n = 0, whole = 0, head;
    if (signbit(f) && !isnan(f)) out[n++] = '-';
    else if (s->sign == '+' || s->sign == ' ') out[n++] = s->sign;
    head = n;
    while (text[whole] >= '0' && text[whole] <= '9') whole++;
    for (size_t i = 0; i < whole; i++) {
        out[n++] = text[i];
        if (s->group && whole - i > 1 && (whole - i - 1) % 3 == 0) out[n++] = s->group;
    }
    for (size_t i = whole; text[i]; i++) {
        bool plain = text[i] > 0 && (text[i] == '+' || text[i] == '-' || (text[i] >= '0' && text[i] <= '9')
                                     || (text[i] | 0x20) >= 'a');
        if (plain) out[n++] = text[i];
        else if (i == whole) out[n++] = '.';
    }
    if (s->type == '%') out[n++] = '%';
    const struct str digits = { .p = out, .n = n };
    return pad(r, s, s->align ? s->align : '>', &digits, head);
}

static size_t read_number(const char *p, size_t n, size_t at, int64_t *out)
{
    for (*out = 0; at < n && p[at] >= '0' && p[at] <= '9'; at++)
        if (*out <= WIDTH_MAX) *out = *out * 10 + (p[at] - '0');
    return at;
}

/* ---- str.format ------------------------------------------------------------------------------ */

static stretto_status read_spec(struct render *r, const char *p, size_t n, struct spec *s)
{
    size_t at = 0, k;
    uint32_t cp;
    *s = (struct spec){ .fill = " ", .fill_n = 1, .width = -1, .precision = -1 };
    k = n ? tmpl_decode(p, n, &cp) : 0;
    if (k && k < n && p[k] && strchr("<>=^", p[k])) {
        memcpy(s->fill, p, k);
        s->fill_n = k;
        s->align = p[k];
        at = k + 1;
    } else if (n && p[0] && strchr("<>=^", p[0])) {
        s->align = p[at++];
    }
    if (at < n && p[at] && strchr("+- ", p[at])) s->sign = p[at++];
    if (at < n && p[at] == '0') {
        if (!s->align) { s->align = '='; s->fill[0] = '0'; s->fill_n = 1; }
        at++;
    }
    if (at < n && p[at] >= '0' && p[at] <= '9') at = read_number(p, n, at, &s->width);
    if (at < n && (p[at] == ',' || p[at] == '_')) s->group = p[at++];
    if (at < n && p[at] == '.') {
        if (at + 1 >= n || p[at + 1] < '0' || p[at + 1] > '9')
            return tmpl_fail(r, STRETTO_E_ARG, "format specifier missing precision");
        at = read_number(p, n, at + 1, &s->precision);
    }
    if (at < n) s->type = p[at++];
    if (at < n || (s->type && !strchr("sdeEfFgG%", s->type)))
        return tmpl_fail(r, STRETTO_E_UNSUP, "the format specifier '%.*s' is not supported", tmpl_shown(n), p);
    if (s->width > WIDTH_MAX || s->precision > WIDTH_MAX)
        return tmpl_fail(r, STRETTO_E_FULL, "a format width above %d is refused", WIDTH_MAX);
    return STRETTO_OK;
}

static stretto_status put_value(struct render *r, struct value v, const char *p, size_t n)
{
    struct spec s;
    int64_t i;
    double f;
    if (!n) return tmpl_text(r, v);
    TRY(read_spec(r, p, n, &s));
    bool real = s.type && strchr("eEfFgG%", s.type);
    if (v.kind == T_BIG) return tmpl_too_big(r);
    if (v.kind == T_STR) {
        if (s.type && s.type != 's')
            return tmpl_fail(r, STRETTO_E_ARG, "unknown format code '%c' for object of type 'str'",
                             s.type);
        if (s.align == '=' && s.fill[0] == '0') s.align = '<';
        else if (s.align == '=') return tmpl_fail(r, STRETTO_E_ARG,
                                                  "'=' alignment not allowed in string format");
        return put_text(r, &s, v.s);
    }
    if (s.type == 's' || !tmpl_to_float(v, &f) || (v.kind == T_BOOL && !s.type))
        return tmpl_fail(r, STRETTO_E_ARG, "unsupported format '%.*s' for '%s'",
                         tmpl_shown(n), p, tmpl_type(v));
    if (tmpl_to_int(v, &i) && !real) {
        if (s.precision >= 0)
            return tmpl_fail(r, STRETTO_E_ARG, "precision not allowed in integer format");
        return put_int(r, &s, i);
    }
    if (s.type && !real)
        return tmpl_fail(r, STRETTO_E_ARG, "unknown format code '%c' for object of type 'float'",
                         s.type);
    if (!s.type && s.precision >= 0)
        return tmpl_fail(r, STRETTO_E_UNSUP,
                         "a precision without a type is not supported for floats");
    return put_float(r, &s, f);
}

/* The argument that a field names, by number, by word, or as the next one. */
static stretto_status field(struct render *r, const char *p, size_t n, const struct call *c,
                            size_t *automatic, struct value *out)
{
    int64_t i;
    bool overflow;
    if (memchr(p, '.', n) || memchr(p, '[', n))
        return tmpl_fail(r, STRETTO_E_UNSUP, "an attribute or item in a field of a format string is not supported");
    if (n == 0) {
        if (*automatic == SIZE_MAX)
            return tmpl_fail(r, STRETTO_E_ARG,
                             "cannot switch from manual field numbers to automatic ones");
        i = (int64_t)(*automatic)++;
    } else if (tmpl_parse_int(p, n, &i, &overflow)) {
        if (*automatic && *automatic != SIZE_MAX)
            return tmpl_fail(r, STRETTO_E_ARG,
                             "cannot switch from automatic field numbers to manual ones");
        *automatic = SIZE_MAX;
    } else {
        for (size_t k = 0; k < c->n_kw; k++) {
            if (c->kw[k].name->n != n || memcmp(c->kw[k].name->p, p, n) != 0) continue;
            *out = c->kw[k].v;
            return STRETTO_OK;
        }
        return tmpl_fail(r, STRETTO_E_ARG, "format has no argument '%.*s'", tmpl_shown(n), p);
    }
    if (i < 0 || (size_t)i >= c->n_pos)
        return tmpl_fail(r, STRETTO_E_ARG, "replacement index %" PRId64 " out of range", i);
    *out = c->pos[i];
    return STRETTO_OK;
}

static stretto_status replacement(struct render *r, const char *p, size_t n, const struct call *c,
                                  size_t *automatic)
{
    const char *colon = memchr(p, ':', n);
    size_t name = colon ? (size_t)(colon - p) : n, spec = colon ? name + 1 : n;
    struct value v;
    if (memchr(p, '!', name))
        return tmpl_fail(r, STRETTO_E_UNSUP, "a conversion in a format string is not supported");
    if (memchr(p + spec, '{', n - spec))
        return tmpl_fail(r, STRETTO_E_UNSUP, "nested fields in a format string are not supported");
    TRY(field(r, p, name, c, automatic, &v));
    return put_value(r, v, p + spec, n - spec);
}

stretto_status tmpl_format(struct render *r, struct value fmt, const struct call *c,
                           struct value *out)
{
    const char *p = fmt.s->p;
    size_t n = fmt.s->n, mark = r->out.len, automatic = 0;
    for (size_t at = 0; at < n;) {
        char ch = p[at];
        if ((ch == '{' || ch == '}') && at + 1 < n && p[at + 1] == ch) {
            TRY(tmpl_write(r, &ch, 1));
            at += 2;
        } else if (ch == '{') {
            size_t end = at + 1, deep = 1;
            for (; end < n; end++) {
                deep += p[end] == '{';
                if (p[end] == '}' && --deep == 0) break;
            }
            if (end >= n) return tmpl_fail(r, STRETTO_E_ARG, "expected '}' before end of string");
            TRY(replacement(r, p + at + 1, end - at - 1, c, &automatic));
            at = end + 1;
        } else if (ch == '}') {
            return tmpl_fail(r, STRETTO_E_ARG, "single '}' encountered in format string");
        } else {
            size_t end = at;
            while (end < n && p[end] != '{' && p[end] != '}') end++;
            TRY(tmpl_write_part(r, fmt.s, p + at, end - at));
            at = end;
        }
        TRY(tmpl_work(r, 1));
    }
    return tmpl_cut(r, mark, out);
}

/* ---- strftime -------------------------------------------------------------------------------- */

static const char days[7][10] = { "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday" };
static const char months[12][10] = { "January", "February", "March", "April", "May", "June", "July", "August",
                                     "September", "October", "November", "December" };

static stretto_status date(struct render *r, const struct tm *t, const char *fmt);

static stretto_status date_number(struct render *r, int v, int width, char pad_with, char flag)
{
    struct spec s = { .width = width, .fill_n = 1, .align = '=', .precision = -1 };
    s.fill[0] = flag == '_' ? ' ' : flag == '0' ? '0' : pad_with;
    if (flag == '-') s.width = 0;
    return put_int(r, &s, v);
}

static stretto_status directive(struct render *r, const struct tm *t, char c, char flag)
{
    int y = t->tm_year + 1900, h12 = t->tm_hour % 12 ? t->tm_hour % 12 : 12;
    switch (c) {
    case 'a': return tmpl_write(r, days[t->tm_wday], 3);
    case 'A': return tmpl_write(r, days[t->tm_wday], strlen(days[t->tm_wday]));
    case 'b': return tmpl_write(r, months[t->tm_mon], 3);
    case 'B': return tmpl_write(r, months[t->tm_mon], strlen(months[t->tm_mon]));
    case 'c': return date(r, t, "%a %b %e %H:%M:%S %Y");
    case 'd': return date_number(r, t->tm_mday, 2, '0', flag);
    case 'D': case 'x': return date(r, t, "%m/%d/%y");
    case 'e': return date_number(r, t->tm_mday, 2, ' ', flag);
    case 'F': return date(r, t, "%Y-%m-%d");
    case 'H': return date_number(r, t->tm_hour, 2, '0', flag);
    case 'I': return date_number(r, h12, 2, '0', flag);
    case 'j': return date_number(r, t->tm_yday + 1, 3, '0', flag);
    case 'm': return date_number(r, t->tm_mon + 1, 2, '0', flag);
    case 'M': return date_number(r, t->tm_min, 2, '0', flag);
    case 'p': return tmpl_write(r, t->tm_hour < 12 ? "AM" : "PM", 2);
    case 'R': return date(r, t, "%H:%M");
    case 'S': return date_number(r, t->tm_sec, 2, '0', flag);
    case 'T': case 'X': return date(r, t, "%H:%M:%S");
    case 'y': return date_number(r, y % 100, 2, '0', flag);
    case 'Y': return date_number(r, y, 4, '0', flag);
    case 'z': case 'Z': return STRETTO_OK;           /* a time without zone has none to print */
    case '%': return tmpl_write(r, "%", 1);
    default: return tmpl_fail(r, STRETTO_E_UNSUP, "strftime_now: unsupported directive %%%c",
                              c > ' ' && c < 127 ? c : '?');
    }
}

static stretto_status date(struct render *r, const struct tm *t, const char *fmt)
{
    for (; *fmt; fmt++) {
        if (*fmt != '%') { TRY(tmpl_write(r, fmt, 1)); continue; }
        char flag = fmt[1] && strchr("-_0", fmt[1]) ? *++fmt : 0;
        if (!fmt[1]) return tmpl_fail(r, STRETTO_E_UNSUP, "strftime_now: the format ends with %%");
        TRY(directive(r, t, *++fmt, flag));
    }
    return STRETTO_OK;
}

stretto_status tmpl_strftime(struct render *r, struct str *fmt, struct value *out)
{
    struct tm t;
    struct value text;
    size_t mark = r->out.len;
    if (memchr(fmt->p, '\0', fmt->n))
        return tmpl_fail(r, STRETTO_E_ARG, "strftime_now: the format holds a NUL");
    if (!localtime_r(&r->now, &t))
        return tmpl_fail(r, STRETTO_E_ARG, "strftime_now: the time is out of range");
    TRY(tmpl_work(r, fmt->n));
    TRY(tmpl_write(r, fmt->p, fmt->n));
    TRY(tmpl_write(r, "", 1));
    TRY(tmpl_cut(r, mark, &text));                   /* with a NUL behind it */
    TRY(date(r, &t, text.s->p));
    return tmpl_cut(r, mark, out);
}
