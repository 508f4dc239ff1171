/* Numbers as Python has them: its operators, its spelling of floats, its rounding. Integers are 64
 * bits wide; what needs more is refused, never wrapped. Larger ones that come in as variables
 * (T_BIG) can be printed, compared and turned into floats. */
#include "template/template_int.h"
#include "base/json.h"
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

stretto_status tmpl_too_big(struct render *r)
{
    return tmpl_fail(r, STRETTO_E_UNSUP, "an integer above 64 bits is not supported");
}

/* ---- text ------------------------------------------------------------------------------------ */

/* The shortest digits that read back as the same double, spelled as repr() does. The digits are
 * taken from %e and placed here, so the locale's decimal point does not matter. */
void tmpl_float_text(double f, char text[40])
{
    char e[48], digits[24];
    if (isnan(f)) { strcpy(text, "nan"); return; }
    if (isinf(f)) { strcpy(text, f < 0 ? "-inf" : "inf"); return; }
    for (int prec = 0; prec < 17; prec++) {
        snprintf(e, sizeof e, "%.*e", prec, f);
        if (strtod(e, NULL) == f) break;
    }
    const char *exp_at = strchr(e, 'e');
    int n = 0, exp = atoi(exp_at + 1);
    for (const char *p = e; p < exp_at; p++)
        if (*p >= '0' && *p <= '9' && n < 20) digits[n++] = *p;
    while (n > 1 && digits[n - 1] == '0') n--;
    char *to = text;
    if (signbit(f)) *to++ = '-';
    if (exp < -4 || exp >= 16) {
        *to++ = digits[0];
        if (n > 1) { *to++ = '.'; memcpy(to, digits + 1, (size_t)n - 1); to += n - 1; }
        snprintf(to, 12, "e%c%02d", exp < 0 ? '-' : '+', abs(exp) % 1000);
        return;
    }
    if (exp < 0) {
        *to++ = '0';
        *to++ = '.';
        for (int i = -1; i > exp; i--) *to++ = '0';
        memcpy(to, digits, (size_t)n);
        to[n] = '\0';
        return;
    }
    for (int i = 0; i <= exp; i++) *to++ = i < n ? digits[i] : '0';
    *to++ = '.';
    for (int i = exp + 1; i < n; i++) *to++ = digits[i];
    if (n <= exp + 1) *to++ = '0';
    *to = '\0';
}

/* Digits with single underscores between them; the underscores are dropped. */
static bool clean_number(const char *p, size_t n, char *to, size_t cap)
{
    size_t len = 0;
    if (n >= cap) return false;
    for (size_t i = 0; i < n; i++) {
        bool around = i > 0 && i + 1 < n && p[i - 1] != '_' && p[i + 1] != '_'
            && ((p[i - 1] >= '0' && p[i - 1] <= '9') || (p[i - 1] | 0x20) >= 'a');
        if (p[i] == '_' && !around) return false;
        if (p[i] != '_') to[len++] = p[i];
    }
    to[len] = '\0';
    return len > 0;
}

bool tmpl_parse_float(const char *p, size_t n, double *out)
{
    char text[320], *end;
    static const char *const words[] = { "inf", "infinity", "nan" };
    tmpl_strip(&p, &n, NULL, true, true);
    if (!clean_number(p, n, text, sizeof text - 8)) return false;
    size_t i = text[0] == '+' || text[0] == '-';
    for (size_t w = 0; w < 3; w++) {
        size_t k = 0;
        while (text[i + k] && words[w][k] && (text[i + k] | 0x20) == words[w][k]) k++;
        if (text[i + k] || words[w][k]) continue;
        *out = w == 2 ? (double)NAN : text[0] == '-' ? -(double)INFINITY : (double)INFINITY;
        return true;
    }
    const char *point = localeconv()->decimal_point;
    size_t point_n = strlen(point), digits = 0;
    for (size_t k = i; text[k]; k++) {
        if (text[k] >= '0' && text[k] <= '9') digits++;
        else if (text[k] == '.' && point_n <= 8) {
            memmove(text + k + point_n, text + k + 1, strlen(text + k + 1) + 1);
            memcpy(text + k, point, point_n);
            k += point_n - 1;
        } else if ((text[k] | 0x20) != 'e' && text[k] != '+' && text[k] != '-') return false;
    }
    if (!digits) return false;
    *out = strtod(text, &end);
    return *end == '\0';
}

bool tmpl_parse_int(const char *p, size_t n, int64_t *out, bool *overflow)
{
    char text[128];
    *overflow = false;
    tmpl_strip(&p, &n, NULL, true, true);
    bool minus = n && *p == '-';
    if (n && (*p == '-' || *p == '+')) { p++; n--; }
    if (!clean_number(p, n, text, sizeof text)) return false;
    uint64_t v = 0, most = minus ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;
    for (const char *c = text; *c; c++) {
        if (*c < '0' || *c > '9') { *overflow = false; return false; }
        uint64_t d = (uint64_t)(*c - '0');
        if (v > (most - d) / 10) *overflow = true;
        v = v * 10 + d;
    }
    if (*overflow) return false;
    *out = minus ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

/* ---- operators ------------------------------------------------------------------------------- */

static stretto_status zero(struct render *r) { return tmpl_fail(r, STRETTO_E_ARG, "division by zero"); }

static stretto_status int_binary(struct render *r, int op, int64_t a, int64_t b, struct value *out)
{
    int64_t v = 0;
    bool over = false;
    switch (op) {
    case K_ADD: over = __builtin_add_overflow(a, b, &v); break;
    case K_SUB: over = __builtin_sub_overflow(a, b, &v); break;
    case K_MUL: over = __builtin_mul_overflow(a, b, &v); break;
    case K_DIV:
        if (!b) return zero(r);
        *out = V_FLOAT((double)((long double)a / (long double)b));
        return STRETTO_OK;
    case K_FLOORDIV: case K_MOD:
        if (!b) return zero(r);
        if (b == -1) {                               /* INT64_MIN / -1 traps */
            over = op == K_FLOORDIV && __builtin_sub_overflow((int64_t)0, a, &v);
            break;
        }
        v = op == K_MOD ? a % b : a / b;
        if (a % b && (a % b < 0) != (b < 0)) v += op == K_MOD ? b : -1;
        break;
    default: break;
    }
    if (over) return tmpl_too_big(r);
    *out = V_INT(v);
    return STRETTO_OK;
}

static double float_mod(double a, double b)
{
    double m = fmod(a, b);
    if (m != 0) return (m < 0) != (b < 0) ? m + b : m;
    return copysign(0.0, b);
}

static stretto_status float_binary(struct render *r, int op, double a, double b, struct value *out)
{
    double v = 0;
    switch (op) {
    case K_ADD: v = a + b; break;
    case K_SUB: v = a - b; break;
    case K_MUL: v = a * b; break;
    case K_DIV:
        if (b == 0) return zero(r);
        v = a / b;
        break;
    case K_MOD:
        if (b == 0) return zero(r);
        v = float_mod(a, b);
        break;
    case K_FLOORDIV: {
        if (b == 0) return zero(r);
        double q = (a - float_mod(a, b)) / b;
        v = floor(q);
        if (q - v > 0.5) v += 1;
        if (q == 0) v = copysign(0.0, a / b);
        break;
    }
    default: break;
    }
    *out = V_FLOAT(v);
    return STRETTO_OK;
}

static stretto_status joined(struct render *r, const char *p, const unsigned char *marks, size_t n,
                             struct value *out)
{
    const struct str s = { .p = p, .n = n, .marks = marks };
    return tmpl_part(r, &s, p, n, out);
}

/* Makes a string longer in place when it is the one that + made last: a template that builds its
 * text piece by piece costs linear, not quadratic, memory. */
static stretto_status join_strings(struct render *r, struct str *a, struct str *b,
                                   struct value *out)
{
    size_t n = a->n + b->n;
    if (n > TEMPLATE_OUTPUT_MAX)
        return tmpl_fail(r, STRETTO_E_FULL, "a string is longer than %zu MiB",
                         TEMPLATE_OUTPUT_MAX >> 20);
    TRY(tmpl_work(r, b->n / 64));
    if (r->grow.p && a->p == r->grow.p && a->n == r->grow.n && b->n <= r->grow.cap - r->grow.n) {
        if (b->n) memcpy(r->grow.p + a->n, b->p, b->n);
        if (b->n && b->marks) memcpy(r->grow.marks + a->n, b->marks, b->n);
        r->grow.n = n;
        return joined(r, r->grow.p, r->grow.marks, n, out);
    }
    TRY(tmpl_work(r, a->n / 64));
    size_t cap = n < 1024 ? n : 2 * n;
    char *to;
    unsigned char *marks = NULL;
    TRY(tmpl_take(r, cap, 1, &to));
    if (r->track && (cap > n || a->marks || b->marks)) TRY(tmpl_take(r, cap, 1, &marks));
    if (a->n) memcpy(to, a->p, a->n);
    if (b->n) memcpy(to + a->n, b->p, b->n);
    if (a->n && a->marks) memcpy(marks, a->marks, a->n);
    if (b->n && b->marks) memcpy(marks + a->n, b->marks, b->n);
    if (cap > n) {
        r->grow.p = to;
        r->grow.marks = marks;
        r->grow.n = n;
        r->grow.cap = cap;
    }
    return joined(r, to, marks, n, out);
}

static stretto_status add_strings(struct render *r, struct value a, struct value b,
                                  struct value *out)
{
    if (a.safe != b.safe) {
        size_t mark = r->out.len;
        struct value *plain = a.safe ? &b : &a;
        TRY(tmpl_escape(r, *plain));
        TRY(tmpl_cut(r, mark, plain));
    }
    TRY(join_strings(r, a.s, b.s, out));
    out->safe = a.safe | b.safe;
    return STRETTO_OK;
}

static stretto_status repeat(struct render *r, struct value v, int64_t times, struct value *out)
{
    size_t k = times > 0 ? (size_t)times : 0;
    if (v.kind != T_STR) {
        struct list *l;
        size_t total;
        if (__builtin_mul_overflow(k, v.l->n, &total)) total = SIZE_MAX;
        if (total > TEMPLATE_OUTPUT_MAX / sizeof(struct value))
            return tmpl_fail(r, STRETTO_E_FULL, "a repeated list is too long");
        TRY(tmpl_list(r, total, &l));
        TRY(tmpl_work(r, total));
        for (size_t i = 0; i < total; i++) l->v[l->n++] = v.l->v[i % v.l->n];
        *out = (struct value){ .kind = v.kind, .l = l };
        return STRETTO_OK;
    }
    size_t total;
    if (__builtin_mul_overflow(k, v.s->n, &total) || total > TEMPLATE_OUTPUT_MAX)
        return tmpl_fail(r, STRETTO_E_FULL, "a string is longer than %zu MiB",
                         TEMPLATE_OUTPUT_MAX >> 20);
    char *to;
    TRY(tmpl_take(r, total, 1, &to));
    TRY(tmpl_work(r, total / 16));
    for (size_t at = 0; at < total; at += v.s->n) memcpy(to + at, v.s->p, v.s->n);
    unsigned char *marks = NULL;
    if (v.s->marks) TRY(tmpl_take(r, total, 1, &marks));
    for (size_t at = 0; marks && at < total; at += v.s->n) memcpy(marks + at, v.s->marks, v.s->n);
    TRY(joined(r, to, marks, total, out));
    out->safe = v.safe;
    return STRETTO_OK;
}

static stretto_status join_lists(struct render *r, struct value a, struct value b,
                                 struct value *out)
{
    struct list *l;
    TRY(tmpl_list(r, a.l->n + b.l->n, &l));
    TRY(tmpl_work(r, a.l->n + b.l->n));
    for (size_t i = 0; i < a.l->n; i++) l->v[l->n++] = a.l->v[i];
    for (size_t i = 0; i < b.l->n; i++) l->v[l->n++] = b.l->v[i];
    *out = (struct value){ .kind = a.kind, .l = l };
    return STRETTO_OK;
}

static bool sequence(struct value v) { return v.kind == T_STR || v.kind == T_LIST || v.kind == T_TUPLE; }

static const char *spelling(int op)
{
    switch (op) {
    case K_ADD: return "+";
    case K_SUB: return "-";
    case K_MUL: return "*";
    case K_DIV: return "/";
    case K_FLOORDIV: return "//";
    default: return "%";
    }
}

double tmpl_big_float(struct value v)
{
    struct json j = { .kind = JT_NUMBER, .p = v.s->p, .n = v.s->n };
    double f = 0;
    return json_f64(&j, &f) ? f : (double)NAN;
}

/* Sign, length and digits order integers that have no leading zeros. */
static int digits_order(const char *a, size_t n, const char *b, size_t m)
{
    bool minus = *a == '-';
    if (minus != (*b == '-')) return minus ? -1 : 1;
    int c = n != m ? (n < m ? -1 : 1) : memcmp(a, b, n);
    c = (c > 0) - (c < 0);
    return minus ? -c : c;
}

int tmpl_big_order(struct value a, struct value b)
{
    char text[400];
    if (a.kind != T_BIG) {
        int c = tmpl_big_order(b, a);
        return c == 2 ? c : -c;
    }
    const struct str *s = a.s;
    if (b.kind == T_BIG) return digits_order(s->p, s->n, b.s->p, b.s->n);
    if (b.kind == T_FLOAT && isnan(b.f)) return 2;
    if (b.kind != T_FLOAT || fabs(b.f) < 0x1p63) return *s->p == '-' ? -1 : 1;
    if (isinf(b.f)) return b.f < 0 ? 1 : -1;
    int n = snprintf(text, sizeof text, "%.0f", b.f);
    return digits_order(s->p, s->n, text, (size_t)n);
}

stretto_status tmpl_binary(struct render *r, int op, struct value a, struct value b,
                           struct value *out)
{
    int64_t i, j;
    double x, y;
    bool ai = tmpl_to_int(a, &i), bi = tmpl_to_int(b, &j);
    if (ai && bi) return int_binary(r, op, i, j, out);
    if (tmpl_to_float(a, &x) && tmpl_to_float(b, &y)) return float_binary(r, op, x, y, out);
    if (op == K_MOD && a.kind == T_STR)
        return tmpl_fail(r, STRETTO_E_UNSUP, "%% behind a string is not supported; use ~ or .format()");
    if (a.kind == T_UNDEFINED) return tmpl_use_undefined(r, a);
    if (b.kind == T_UNDEFINED) return tmpl_use_undefined(r, b);
    if (op == K_ADD && a.kind == b.kind && sequence(a))
        return a.kind == T_STR ? add_strings(r, a, b, out) : join_lists(r, a, b, out);
    if (op == K_MUL && sequence(a) && bi) return repeat(r, a, j, out);
    if (op == K_MUL && sequence(b) && ai) return repeat(r, b, i, out);
    if (a.kind == T_BIG || b.kind == T_BIG) return tmpl_too_big(r);
    return tmpl_fail(r, STRETTO_E_ARG, "unsupported operand types for %s: '%s' and '%s'%s",
                     spelling(op), tmpl_type(a), tmpl_type(b),
                     op == K_ADD && (a.kind == T_STR || b.kind == T_STR) ? " (~ joins anything as text)" : "");
}
