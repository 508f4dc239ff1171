/* Tokenizer expressions were written for Oniguruma (Ruby syntax, Unicode). Rewritten for PCRE2: \s is
 * the property White_Space (PCRE2 also counts U+180E), \w and \b count marks as letters, \h is a
 * hexadecimal digit, \p{Han} is the script alone, \uHHHH, (?m) means "dot matches newline", x{1,3}+
 * repeats instead of being possessive, and classes may nest and intersect: [A&&B] becomes (?=[B])[A].
 * ^ and $ hold at every line. What is slow though it need not be is said otherwise. */
#include "text/pretok.h"
#include "base/memory.h"
#include <stdio.h>
#include <string.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

struct pattern { pcre2_code *code; bool jit; };
struct pattern_work {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

enum { MAX_NESTING = 32, MATCH_LIMIT = 50 * 1000 * 1000, HEAP_LIMIT_KIB = 256 * 1024 };

#define SPACES "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"

/* Oniguruma's \w, the superscripts and fractions of Latin-1 included. */
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"

struct rewrite { const char *p, *end; struct buffer out; unsigned depth; const char *refused; };

static bool at_str(const struct rewrite *r, const char *s)
{
    size_t n = strlen(s);
    return (size_t)(r->end - r->p) >= n && !memcmp(r->p, s, n);
}

/* Is this name of \p{} a script? PCRE2 then means script extensions, Oniguruma the script alone. */
static bool is_script(const char *name, size_t n)
{
    char probe[64];
    int code;
    PCRE2_SIZE where;
    if (n < 3 || n > 32) return false;
    snprintf(probe, sizeof probe, "\\p{sc:%.*s}", (int)n, name);
    pcre2_code *c = pcre2_compile((PCRE2_SPTR)probe, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &where,
                                  NULL);
    pcre2_code_free(c);
    return c != NULL;
}

/* An escape, the same inside and outside of a class except for \s, \S and \h. */
static stretto_status escape(struct rewrite *r, struct buffer *b, bool in_class)
{
    if (r->end - r->p < 2) { r->refused = "it ends with a backslash"; return STRETTO_E_FORMAT; }
    char c = r->p[1];
    if (c == 'u' && r->end - r->p >= 6) {
        TRY(buffer_str(b, "\\x{"));
        TRY(buffer_append(b, r->p + 2, 4));
        r->p += 6;
        return buffer_str(b, "}");
    }
    r->p += 2;
    switch (c) {
    case 's': return buffer_str(b, in_class ? SPACES : "[" SPACES "]");
    case 'S':
        if (!in_class) return buffer_str(b, "[^" SPACES "]");
        return buffer_str(b, "\\P{White_Space}");
    case 'w': return buffer_str(b, in_class ? WORD : "[" WORD "]");
    case 'W':
        if (!in_class) return buffer_str(b, "[^" WORD "]");
        r->refused = "\\W inside [] is not supported";
        return STRETTO_E_UNSUP;
    case 'b': case 'B':
        if (in_class) break;
        return buffer_str(b, c == 'b' ? "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))"
                                      : "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))");
    case 'h': return buffer_str(b, in_class ? "0-9A-Fa-f" : "[0-9A-Fa-f]");
    case 'H':
        if (!in_class) return buffer_str(b, "[^0-9A-Fa-f]");
        r->refused = "\\H inside [] is not supported";
        return STRETTO_E_UNSUP;
    default: break;
    }
    char two[2] = { '\\', c };
    TRY(buffer_append(b, two, 2));
    if ((c == 'p' || c == 'P' || c == 'x' || c == 'k' || c == 'g') && r->p < r->end &&
        (*r->p == '{' || *r->p == '<')) {
        char close = *r->p == '{' ? '}' : '>';
        const char *q = memchr(r->p, close, (size_t)(r->end - r->p));
        if (!q) { r->refused = "a brace is not closed"; return STRETTO_E_FORMAT; }
        if (close == '}' && (c == 'p' || c == 'P')) {
            const char *name = r->p + 1;
            TRY(buffer_append(b, r->p, *name == '^' ? 2 : 1));
            if (*name == '^') name++;
            if (is_script(name, (size_t)(q - name))) TRY(buffer_str(b, "sc:"));
            r->p = name;
        }
        TRY(buffer_append(b, r->p, (size_t)(q + 1 - r->p)));
        r->p = q + 1;
    }
    return STRETTO_OK;
}

/* One class, r->p at its '['. Plain ones come out as they are; with nested classes or && it becomes a
 * group of alternatives behind lookaheads, which still matches exactly one character. */
static stretto_status class(struct rewrite *r, struct buffer *b)
{
    if (++r->depth > MAX_NESTING) { r->refused = "it nests too deeply"; return STRETTO_E_FORMAT; }
    struct buffer plain = buffer_make(b->max), nested = buffer_make(b->max);
    struct buffer before = buffer_make(b->max);       /* (?=operand) of all operands but the last */
    stretto_status st = STRETTO_OK;
    bool intersects = false;
    r->p++;
    bool negated = r->p < r->end && *r->p == '^';
    if (negated) r->p++;
    const char *first = r->p;
    for (;;) {
        if (r->p >= r->end) { r->refused = "a [ is not closed"; st = STRETTO_E_FORMAT; goto done; }
        bool closes = *r->p == ']' && r->p > first;
        if (closes || at_str(r, "&&")) {
            struct buffer *to = &before;
            if (closes && !intersects && !nested.len) break;
            intersects = true;
            if (!closes && (st = buffer_str(to, "(?=")) != STRETTO_OK) goto done;
            /* (?:[plain]|nested|nested) */
            if ((st = buffer_str(to, "(?:")) != STRETTO_OK) goto done;
            if (plain.len && (st = buffer_printf(to, "[%s]", plain.data)) != STRETTO_OK) goto done;
            if (plain.len && nested.len && (st = buffer_str(to, "|")) != STRETTO_OK) goto done;
            if (nested.len && (st = buffer_append(to, nested.data, nested.len)) != STRETTO_OK) goto done;
            if ((st = buffer_str(to, ")")) != STRETTO_OK) goto done;
            if (closes) break;
            if ((st = buffer_str(to, ")")) != STRETTO_OK) goto done;
            buffer_clear(&plain);
            buffer_clear(&nested);
            r->p += 2;
            first = r->p;
            continue;
        }
        if (at_str(r, "[:")) {
            const char *q = r->p + 2;
            while (q + 1 < r->end && !(q[0] == ':' && q[1] == ']')) q++;
            if (q + 1 < r->end) {
                if ((st = buffer_append(&plain, r->p, (size_t)(q + 2 - r->p))) != STRETTO_OK) goto done;
                r->p = q + 2;
                continue;
            }
        }
        if (*r->p == '[') {
            if (nested.len && (st = buffer_str(&nested, "|")) != STRETTO_OK) goto done;
            if ((st = class(r, &nested)) != STRETTO_OK) goto done;
        } else if (*r->p == '\\') {
            if ((st = escape(r, &plain, true)) != STRETTO_OK) goto done;
        } else {
            if (!*r->p) { r->refused = "it holds a NUL"; st = STRETTO_E_FORMAT; goto done; }
            if (*r->p == '^' && !plain.len && (st = buffer_str(&plain, "\\")) != STRETTO_OK) goto done;
            if ((st = buffer_append(&plain, r->p, 1)) != STRETTO_OK) goto done;
            r->p++;
        }
    }
    r->p++;
    if (!intersects)
        st = buffer_printf(b, negated ? "[^%s]" : "[%s]", plain.len ? plain.data : "");
    else if (negated)
        st = buffer_printf(b, "(?:(?!%s)(?s:.))", before.data);
    else
        st = buffer_printf(b, "(?:%s)", before.data);
done:
    buffer_done(&plain);
    buffer_done(&nested);
    buffer_done(&before);
    r->depth--;
    return st;
}

/* "{n,m}+" at r->p, where + repeats: "{n,}" says the same when n is at most 1. */
static stretto_status interval(struct rewrite *r, bool *done)
{
    const char *q = r->p + 1;
    unsigned low = 0;
    bool digits = false;
    for (; q < r->end && *q >= '0' && *q <= '9'; q++, digits = true)
        low = low * 10 + (unsigned)(*q - '0') > 1000 ? 1000 : low * 10 + (unsigned)(*q - '0');
    if (q < r->end && *q == ',') for (q++; q < r->end && *q >= '0' && *q <= '9'; q++) digits = true;
    *done = digits && r->end - q >= 2 && q[0] == '}' && q[1] == '+';
    if (!*done) return STRETTO_OK;
    if (low > 1) { r->refused = "{n,m}+ with n > 1 is not supported"; return STRETTO_E_UNSUP; }
    r->p = q + 2;
    return buffer_printf(&r->out, "{%u,}", low);
}

static stretto_status rewrite(struct rewrite *r)
{
    while (r->p < r->end) {
        char c = *r->p;
        bool done = false;
        if (c == '\\') { TRY(escape(r, &r->out, false)); continue; }
        if (c == '[') { TRY(class(r, &r->out)); continue; }
        if (c == '{') { TRY(interval(r, &done)); if (done) continue; }
        if (c == '(' && at_str(r, "(?")) {
            const char *q = r->p + 2;
            while (q < r->end && (*q == 'i' || *q == 'm' || *q == 'x' || *q == '-')) q++;
            if (q > r->p + 2 && q < r->end && (*q == ':' || *q == ')')) {
                for (; r->p < q; r->p++) {
                    char o = *r->p == 'm' ? 's' : *r->p;
                    TRY(buffer_append(&r->out, &o, 1));
                }
                continue;
            }
        }
        TRY(buffer_append(&r->out, r->p++, 1));
    }
    return STRETTO_OK;
}

/* ---- time ------------------------------------------------------------------------------------------- */

/* Published expressions that a backtracking matcher takes quadratic time or memory for, and the same
 * with less to go back to. Letters in a row need no way back where nothing follows them; once a match
 * ended in blanks, no newline is ahead in them, for that alternative comes first. */
static const struct { const char *slow, *fast; } known[] = {
#define CASED "(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
#define JAIS "|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|" \
             "\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}"
#define JAIS_WORDS CASED "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
#define EXAONE "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"
    { JAIS_WORDS "\\s*[\\r\\n]+" JAIS, JAIS_WORDS "(?<![^\\S\\r\\n])\\s*[\\r\\n]+" JAIS },
    { CASED "[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+" EXAONE,
      CASED "[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*+(?: \\p{L}\\p{M}*+)*+)++" EXAONE },
#undef CASED
#undef JAIS
#undef JAIS_WORDS
#undef EXAONE
};

/* The length of the one character, escape or class at p, 0 when it is something else. */
static size_t one_character(const char *p, const char *end)
{
    if (p >= end || memchr("^$.|?*+(){}", *p, 11)) return 0;
    if (*p == '[') {
        const char *q = p + 1;
        if (q < end && *q == '^') q++;
        for (const char *first = q; q < end && (*q != ']' || q == first); q++) {
            if (*q == '[' || *q == '&') return 0;
            if (*q == '\\') q++;
        }
        return q < end ? (size_t)(q + 1 - p) : 0;
    }
    if (*p != '\\') return (unsigned char)*p < 0x80 ? 1 : 0;
    if (end - p < 2 || !memchr("sSdDwpPnrt", p[1], 10)) return 0;
    if (p[1] != 'p' && p[1] != 'P') return 2;
    const char *q = end - p > 2 && p[2] == '{' ? memchr(p, '}', (size_t)(end - p)) : NULL;
    return q ? (size_t)(q + 1 - p) : 0;
}

static bool has_alternatives(const char *p, const char *end)
{
    size_t depth = 0;
    for (bool inside = false; p < end; p++) {
        if (*p == '\\') { p++; continue; }
        if (inside) { inside = *p != ']'; continue; }
        if (*p == '[') inside = true;
        if (*p == '(') depth++;
        if (*p == ')' && depth) depth--;
        if (*p == '|' && !depth) return true;
    }
    return false;
}

/* "x+y": where a match begins in the middle of a run of x, one begins a character before it too, so it
 * is looked for at the beginnings of runs alone, and where the last match ended. */
static stretto_status begin_at_runs(struct rewrite *r)
{
    size_t n = one_character(r->p, r->end);
    const char *after = r->p + n;
    if (!n || after >= r->end || (*after != '+' && *after != '*') || has_alternatives(r->p, r->end))
        return STRETTO_OK;
    TRY(buffer_str(&r->out, "(?:\\G|(?<!"));
    struct rewrite one = { .p = r->p, .end = after, .out = r->out };
    stretto_status st = rewrite(&one);
    r->out = one.out;
    r->refused = one.refused;
    TRY(st);
    return buffer_str(&r->out, "))");
}

static void *pattern_alloc(size_t n, void *ud) { (void)ud; return mem_alloc(n); }
static void pattern_free(void *p, void *ud) { (void)ud; mem_free(p); }

stretto_status pattern_open(struct pattern **out, const char *expression, size_t n, struct error *err)
{
    *out = NULL;
    if (n > PRETOK_MAX_EXPRESSION)
        return fail(err, STRETTO_E_FORMAT, "a pre-tokenizer expression of %zu bytes; at most %d are "
                    "accepted", n, PRETOK_MAX_EXPRESSION);
    const char *p_fast = expression;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].slow) == n && !memcmp(known[i].slow, expression, n)) p_fast = known[i].fast;
    size_t n_fast = p_fast == expression ? n : strlen(p_fast);
    struct rewrite r = { .p = p_fast, .end = p_fast + n_fast,
                         .out = buffer_make((size_t)16 * PRETOK_MAX_EXPRESSION) };
    pcre2_general_context *memory = NULL;
    pcre2_compile_context *how = NULL;
    struct pattern *p = NULL;
    stretto_status st = begin_at_runs(&r);
    if (st == STRETTO_OK) st = rewrite(&r);
    if (st != STRETTO_OK) {
        st = st == STRETTO_E_NOMEM ? fail(err, st, "no memory for a pre-tokenizer expression")
           : fail(err, st, "the pre-tokenizer expression \"%.200s\" cannot be used: %s",
                  expression, r.refused ? r.refused : "it is too long");
        goto done;
    }
    st = STRETTO_E_NOMEM;
    p = mem_zalloc(1, sizeof *p);
    memory = pcre2_general_context_create(pattern_alloc, pattern_free, NULL);
    how = memory ? pcre2_compile_context_create(memory) : NULL;
    if (!p || !how) { fail(err, st, "no memory for a pre-tokenizer expression"); goto done; }
    pcre2_set_newline(how, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(how, 100);
    int code;
    PCRE2_SIZE where;
    const char *text = r.out.data ? r.out.data : "";
    p->code = pcre2_compile((PCRE2_SPTR)text, r.out.len, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE |
                            PCRE2_NEVER_BACKSLASH_C, &code, &where, how);
    if (!p->code) {
        char words[128] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)words, sizeof words);
        st = code == PCRE2_ERROR_HEAP_FAILED
           ? fail(err, STRETTO_E_NOMEM, "no memory for a pre-tokenizer expression")
           : fail(err, STRETTO_E_UNSUP, "the pre-tokenizer expression \"%.200s\" cannot be used: %s",
                  expression, words);
        goto done;
    }
    /* Where the system forbids it, matching is interpreted: slower, never different. */
    p->jit = pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0;
    *out = p;
    p = NULL;
    st = STRETTO_OK;
done:
    pattern_close(p);
    pcre2_compile_context_free(how);
    pcre2_general_context_free(memory);
    buffer_done(&r.out);
    return st;
}

void pattern_close(struct pattern *p)
{
    if (!p) return;
    pcre2_code_free(p->code);
    mem_free(p);
}

struct pattern_work *pattern_work_open(void)
{
    struct pattern_work *w = mem_zalloc(1, sizeof *w);
    if (!w) return NULL;
    pcre2_general_context *memory = pcre2_general_context_create(pattern_alloc, pattern_free, NULL);
    if (memory) {
        w->data = pcre2_match_data_create(1, memory);
        w->context = pcre2_match_context_create(memory);
        w->stack = pcre2_jit_stack_create((size_t)32 << 10, (size_t)4 << 20, memory);
    }
    pcre2_general_context_free(memory);
    if (!w->data || !w->context || !w->stack) {
        pattern_work_close(w);
        return NULL;
    }
    pcre2_set_match_limit(w->context, MATCH_LIMIT);
    pcre2_set_heap_limit(w->context, HEAP_LIMIT_KIB);
    pcre2_jit_stack_assign(w->context, NULL, w->stack);
    return w;
}

void pattern_work_close(struct pattern_work *w)
{
    if (!w) return;
    pcre2_jit_stack_free(w->stack);
    pcre2_match_context_free(w->context);
    pcre2_match_data_free(w->data);
    mem_free(w);
}

stretto_status pattern_find(const struct pattern *p, struct pattern_work *w, const char *text,
                            size_t n, size_t from, size_t *at, size_t *end, struct error *err)
{
    /* The text is known to be well-formed: both calls may skip their own check. */
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    if (p->jit)
        rc = pcre2_jit_match(p->code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK, w->data,
                             w->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(p->code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                         w->data, w->context);
    *at = *end = SIZE_MAX;
    if (rc == PCRE2_ERROR_NOMATCH) return STRETTO_OK;
    if (rc == PCRE2_ERROR_NOMEMORY)
        return fail(err, STRETTO_E_NOMEM, "no memory to match a pre-tokenizer expression");
    if (rc < 0)
        return fail(err, STRETTO_E_FULL, "a pre-tokenizer expression gave up near byte %zu of the "
                    "text (PCRE2 error %d): break the text into shorter words", from, rc);
    const PCRE2_SIZE *o = pcre2_get_ovector_pointer(w->data);
    /* \K can move the start before `from` or behind the end. */
    *at = o[0] < from ? from : o[0];
    *end = o[1] < *at ? *at : o[1];
    return STRETTO_OK;
}
