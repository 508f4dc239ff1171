/* Template text into tokens, with Jinja's rules for white space under trim_blocks and
 * lstrip_blocks: a block's closing tag eats one newline, a tag that stands first on its line
 * eats the blanks before it, `-` eats all white space on its side and `+` keeps it. Source: the
 * lexer section of the Jinja 3.1 documentation; tests/data/template_vectors.jsonl holds its
 * answers. */
#include "template/template_int.h"
#include <string.h>

struct lexer {
    struct render *r;
    const char *p;                       /* newlines are \n, one at the very end is dropped */
    size_t n, at;
    struct token *tok;
    size_t n_tok, cap_tok;
    bool line_start;                     /* the text before `at` ended with a newline */
    char open[TEMPLATE_NEST_MAX];        /* brackets not closed yet */
    size_t n_open;
};

static stretto_status emit(struct lexer *x, int kind, const char *p, size_t n)
{
    if (x->n_tok == x->cap_tok) {
        struct token *to;
        size_t cap = x->cap_tok ? 2 * x->cap_tok : 256;
        TRY(tmpl_take(x->r, cap, sizeof *to, &to));
        if (x->n_tok) memcpy(to, x->tok, x->n_tok * sizeof *to);
        x->tok = to;
        x->cap_tok = cap;
    }
    x->tok[x->n_tok++] = (struct token){ .kind = (uint8_t)kind, .line = x->r->line, .p = p, .n = n };
    return STRETTO_OK;
}

static void count_lines(struct lexer *x, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) x->r->line += p[i] == '\n';
}

static void advance(struct lexer *x, size_t n)
{
    count_lines(x, x->p + x->at, n);
    x->at += n;
    if (n) x->line_start = x->p[x->at - 1] == '\n';
}

static bool ahead(const struct lexer *x, size_t at, const char *word)
{
    size_t n = strlen(word);
    return x->n - at >= n && memcmp(x->p + at, word, n) == 0;
}

static size_t skip_space(const struct lexer *x, size_t at)
{
    while (at < x->n) {
        uint32_t cp;
        size_t k = tmpl_decode(x->p + at, x->n - at, &cp);
        if (!tmpl_space(cp)) break;
        at += k;
    }
    return at;
}

/* The text before a tag whose opening is followed by `sign`. */
static stretto_status emit_text(struct lexer *x, const char *p, size_t n, char sign, bool variable)
{
    size_t keep = n;
    if (sign == '-') {
        const char *q = p;
        tmpl_strip(&q, &keep, NULL, false, true);
    } else if (sign != '+' && !variable) {
        size_t line = n, rest;
        while (line > 0 && p[line - 1] != '\n') line--;
        const char *q = p + line;
        rest = n - line;
        tmpl_strip(&q, &rest, NULL, true, true);
        if (!rest && (line > 0 || x->line_start)) keep = line;
    }
    return keep ? emit(x, K_DATA, p, keep) : STRETTO_OK;
}

/* Behind a closing tag that starts at `at` with an optional sign: past it and what it eats, or
 * 0. */
static size_t closing(const struct lexer *x, size_t at, const char *tag, bool plus, bool trim)
{
    if (ahead(x, at, tag)) {
        at += 2;
        return trim && at < x->n && x->p[at] == '\n' ? at + 1 : at;
    }
    if (at < x->n && x->p[at] == '-' && ahead(x, at + 1, tag)) return skip_space(x, at + 3);
    if (plus && at < x->n && x->p[at] == '+' && ahead(x, at + 1, tag)) return at + 3;
    return 0;
}

static stretto_status comment(struct lexer *x)
{
    for (size_t at = x->at; at < x->n; at++) {
        size_t end = closing(x, at, "#}", true, true);
        if (end) { advance(x, end - x->at); return STRETTO_OK; }
    }
    return tmpl_fail(x->r, STRETTO_E_FORMAT, "missing end of comment tag");
}

/* {% raw %} at x->at (behind the opening and its sign): past it, or 0 when it is another tag. */
static size_t raw_open(const struct lexer *x)
{
    size_t at = skip_space(x, x->at);
    if (!ahead(x, at, "raw")) return 0;
    return closing(x, skip_space(x, at + 3), "%}", false, false);
}

static stretto_status raw(struct lexer *x)
{
    for (size_t at = x->at; at < x->n; at++) {
        if (!ahead(x, at, "{%")) continue;
        size_t in = at + 2;
        char sign = in < x->n ? x->p[in] : 0;
        if (sign == '-' || sign == '+') in++;
        else sign = 0;
        in = skip_space(x, in);
        if (!ahead(x, in, "endraw")) continue;
        size_t end = closing(x, skip_space(x, in + 6), "%}", true, true);
        if (!end) continue;
        TRY(emit_text(x, x->p + x->at, at - x->at, sign, false));
        advance(x, end - x->at);
        return STRETTO_OK;
    }
    return tmpl_fail(x->r, STRETTO_E_FORMAT, "missing end of raw directive");
}

/* ---- inside a tag ---------------------------------------------------------------------------- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_digit(const struct lexer *x,
                     size_t at) { return at < x->n && x->p[at] >= '0' && x->p[at] <= '9'; }

/* Digits with single underscores between them. */
static size_t digits(const struct lexer *x, size_t at)
{
    while (is_digit(x, at)) {
        at++;
        if (at < x->n && x->p[at] == '_' && is_digit(x, at + 1)) at++;
    }
    return at;
}

static stretto_status number_token(struct lexer *x)
{
    size_t at = x->at, end = digits(x, at);
    bool is_float = false, after_dot = at > 0 && x->p[at - 1] == '.';
    if (!after_dot) {
        size_t to = end;
        if (to < x->n && x->p[to] == '.') {
            size_t frac = digits(x, to + 1);
            if (frac > to + 1) { to = frac; is_float = true; }
        }
        if (to < x->n && (x->p[to] | 0x20) == 'e') {
            size_t e = to + 1;
            if (e < x->n && (x->p[e] == '+' || x->p[e] == '-')) e++;
            size_t last = digits(x, e);
            if (last > e) { to = last; is_float = true; }
        }
        if (is_float) end = to;
    }
    if (!is_float && x->p[at] == '0') {
        if (at + 1 < x->n && x->p[at + 1] && strchr("xXoObB", x->p[at + 1]))
            return tmpl_fail(x->r, STRETTO_E_UNSUP, "only decimal numbers are supported");
        end = at + 1;                             /* 007 is three zeros' worth of tokens in Jinja */
        while (end < x->n && x->p[end] == '0') end++;
    }
    TRY(emit(x, is_float ? K_FLOAT : K_INT, x->p + at, end - at));
    struct value *v = &x->tok[x->n_tok - 1].v;
    bool overflow = false;
    if (is_float) {
        double f;
        if (!tmpl_parse_float(x->p + at, end - at, &f))
            return tmpl_fail(x->r, STRETTO_E_FORMAT, "malformed number");
        *v = V_FLOAT(f);
    } else {
        int64_t i;
        if (!tmpl_parse_int(x->p + at, end - at, &i, &overflow))
            return tmpl_fail(x->r, overflow ? STRETTO_E_UNSUP : STRETTO_E_FORMAT, "%s",
                             overflow ? "integers above 64 bits are not supported" : "malformed number");
        *v = V_INT(i);
    }
    advance(x, end - at);
    return STRETTO_OK;
}

/* One escape at p[*i] (behind the backslash), as Python's string literals. */
static stretto_status unescape(struct lexer *x, const char *p, size_t n, size_t *i, char *to,
                               size_t *len)
{
    static const char plain[] = "\\\\''\"\"a\ab\bf\fn\nr\rt\tv\v";
    char c = p[*i];
    uint32_t cp = 0;
    size_t want = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0, k = 0;
    if (c == '\n') { (*i)++; return STRETTO_OK; }
    for (size_t j = 0; j + 1 < sizeof plain - 1; j += 2)
        if (plain[j] == c) { to[(*len)++] = plain[j + 1]; (*i)++; return STRETTO_OK; }
    if (c == 'N') return tmpl_fail(x->r, STRETTO_E_UNSUP, "\\N{...} in a string is not supported");
    if (c >= '0' && c <= '7') {
        for (; k < 3 && *i < n && p[*i] >= '0' && p[*i] <= '7'; k++) cp = cp * 8 + (uint32_t)(p[(*i)++] - '0');
    } else if (want) {
        (*i)++;
        for (; k < want && *i < n && hex_digit(p[*i]) >= 0; k++) cp = cp << 4 | (uint32_t)hex_digit(p[(*i)++]);
        if (k < want)
            return tmpl_fail(x->r, STRETTO_E_FORMAT, "truncated \\%c escape in a string", c);
        if (cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000))
            return tmpl_fail(x->r, STRETTO_E_FORMAT, "\\%c%x is not a character", c, (unsigned)cp);
    } else {
        to[(*len)++] = '\\';                         /* an unknown escape stays as it is */
        return STRETTO_OK;
    }
    *len += tmpl_encode(cp, to + *len);
    return STRETTO_OK;
}

static stretto_status string_token(struct lexer *x)
{
    char quote = x->p[x->at];
    size_t start = x->at + 1, end = start, len = 0;
    while (end < x->n && x->p[end] != quote) end += x->p[end] == '\\' && end + 1 < x->n ? 2 : 1;
    if (end >= x->n) return tmpl_fail(x->r, STRETTO_E_FORMAT, "a string has no closing %c", quote);
    char *to;
    const char *p = x->p + start;
    size_t n = end - start;
    TRY(tmpl_take(x->r, n + 4, 1, &to));             /* an escape is never shorter than its bytes */
    for (size_t i = 0; i < n;) {
        if (p[i] == '\\' && i + 1 < n) { i++; TRY(unescape(x, p, n, &i, to, &len)); }
        else to[len++] = p[i++];
    }
    TRY(emit(x, K_STRING, to, len));
    TRY(tmpl_view(x->r, to, len, &x->tok[x->n_tok - 1].v));
    tmpl_chars(x->tok[x->n_tok - 1].v.s);           /* constants are shared by threads: count now */
    advance(x, end + 1 - x->at);
    return STRETTO_OK;
}

static stretto_status name_token(struct lexer *x, size_t first)
{
    size_t end = x->at + first;
    while (end < x->n) {
        uint32_t cp;
        size_t k = tmpl_decode(x->p + end, x->n - end, &cp);
        if (!tmpl_word(cp)) break;
        end += k;
    }
    if (!tmpl_identifier(x->p + x->at, end - x->at))
        return tmpl_fail(x->r, STRETTO_E_FORMAT, "invalid character in identifier '%.*s'",
                         (int)(end - x->at < 60 ? end - x->at : 60), x->p + x->at);
    TRY(emit(x, K_NAME, x->p + x->at, end - x->at));
    advance(x, end - x->at);
    return STRETTO_OK;
}

static stretto_status operator_token(struct lexer *x)
{
    static const struct { char text[3]; uint8_t kind; } ops[] = {
        { "//", K_FLOORDIV }, { "**", K_POW }, { "==", K_EQ }, { "!=", K_NE }, { ">=", K_GE },
        { "<=", K_LE }, { "+", K_ADD }, { "-", K_SUB }, { "*", K_MUL }, { "/", K_DIV }, { "%", K_MOD },
        { "~", K_TILDE }, { "[", K_LBRACKET }, { "]", K_RBRACKET }, { "(", K_LPAREN }, { ")", K_RPAREN },
        { "{", K_LBRACE }, { "}", K_RBRACE }, { ">", K_GT }, { "<", K_LT }, { "=", K_ASSIGN },
        { ".", K_DOT }, { ":", K_COLON }, { "|", K_PIPE }, { ",", K_COMMA }, { ";", K_SEMICOLON },
    };
    char c = x->p[x->at];
    if (c == '(' || c == '[' || c == '{') {
        if (x->n_open == sizeof x->open)
            return tmpl_fail(x->r, STRETTO_E_FULL, "brackets are nested more than %u deep",
                             TEMPLATE_NEST_MAX);
        x->open[x->n_open++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
        if (!x->n_open) return tmpl_fail(x->r, STRETTO_E_FORMAT, "unexpected '%c'", c);
        char want = x->open[--x->n_open];
        if (want != c)
            return tmpl_fail(x->r, STRETTO_E_FORMAT, "unexpected '%c', expected '%c'", c, want);
    }
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (ahead(x, x->at, ops[i].text)) {
            size_t n = strlen(ops[i].text);
            TRY(emit(x, ops[i].kind, x->p + x->at, n));
            advance(x, n);
            return STRETTO_OK;
        }
    return tmpl_fail(x->r, STRETTO_E_FORMAT, "unexpected character '%c'",
                     c >= ' ' && c < 127 ? c : '?');
}

static stretto_status tag(struct lexer *x, bool variable)
{
    x->n_open = 0;
    while (x->at < x->n) {
        size_t end = x->n_open ? 0 : variable ? closing(x, x->at, "}}", false, false)
                                              : closing(x, x->at, "%}", true, true);
        if (end) {
            TRY(emit(x, variable ? K_VAR_END : K_BLOCK_END, x->p + x->at, 2));
            advance(x, end - x->at);
            return STRETTO_OK;
        }
        uint32_t cp;
        size_t k = tmpl_decode(x->p + x->at, x->n - x->at, &cp);
        if (tmpl_space(cp)) advance(x, k);
        else if (cp >= '0' && cp <= '9') TRY(number_token(x));
        else if (tmpl_word(cp)) TRY(name_token(x, k));
        else if (cp == '\'' || cp == '"') TRY(string_token(x));
        else TRY(operator_token(x));
    }
    return STRETTO_OK;                       /* the parser misses the end and says what it wanted */
}

/* ---- the whole ------------------------------------------------------------------------------- */

static stretto_status normalize(struct lexer *x, const char *text, size_t n)
{
    char *to;
    TRY(tmpl_take(x->r, n, 1, &to));
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\r' && i + 1 < n && text[i + 1] == '\n') continue;
        to[x->n++] = text[i] == '\r' ? '\n' : text[i];
    }
    if (x->n && to[x->n - 1] == '\n') x->n--;
    x->p = to;
    return STRETTO_OK;
}

static stretto_status opening(struct lexer *x, size_t at)
{
    char what = x->p[at + 1];
    size_t text = x->at, in = at + 2;
    char sign = in < x->n && (x->p[in] == '-' || x->p[in] == '+') ? x->p[in] : 0;
    TRY(emit_text(x, x->p + text, at - text, sign, what == '{'));
    advance(x, in + (sign != 0) - text);
    if (what == '#') return comment(x);
    size_t end = what == '%' ? raw_open(x) : 0;
    if (end) {
        advance(x, end - x->at);
        return raw(x);
    }
    TRY(emit(x, what == '{' ? K_VAR_BEGIN : K_BLOCK_BEGIN, x->p + at, 2));
    return tag(x, what == '{');
}

stretto_status tmpl_lex(struct render *r, const char *text, size_t n, struct token **out,
                        size_t *n_out)
{
    struct lexer x = { .r = r, .line_start = true };
    r->line = 1;
    TRY(normalize(&x, text, n));
    while (x.at < x.n) {
        const char *brace = x.p + x.at;
        for (;;) {
            brace = memchr(brace, '{', (size_t)(x.p + x.n - brace));
            if (!brace || brace + 1 == x.p + x.n) { brace = NULL; break; }
            if (brace[1] == '{' || brace[1] == '%' || brace[1] == '#') break;
            brace++;
        }
        if (brace) TRY(opening(&x, (size_t)(brace - x.p)));
        else {
            TRY(emit(&x, K_DATA, x.p + x.at, x.n - x.at));
            advance(&x, x.n - x.at);
        }
    }
    TRY(emit(&x, K_EOF, x.p + x.n, 0));
    *out = x.tok;
    *n_out = x.n_tok;
    return STRETTO_OK;
}
