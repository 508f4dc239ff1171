#include "base/json.h"
#include "base/memory.h"
#include "base/utf8.h"
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What may come next. */
enum { VALUE, VALUE_OR_END, KEY, KEY_OR_END, COMMA_OR_END, NOTHING };

/* Python's own limit for integers in text: their conversion takes quadratic time there. */
enum { MAX_INTEGER_DIGITS = 4300 };

static const char byte_order_mark[] = "\xef\xbb\xbf";

void json_open(struct json *j, const char *text, size_t n, const char *where, struct error *err)
{
    const unsigned char *p = (const unsigned char *)(n ? text : "");
    *j = (struct json){ .kind = JT_NULL, .expect = VALUE, .start = p, .at = p, .end = p + n,
                        .token = p, .where = where, .err = err, .p = "",
                        .scratch = buffer_make(n) };    /* what is decoded is never longer */
    if (n >= 3 && memcmp(p, byte_order_mark, 3) == 0) j->at += 3;
}

void json_done(struct json *j) { buffer_done(&j->scratch); }
stretto_status json_status(const struct json *j) { return j->status; }

static enum json_kind stop(struct json *j, stretto_status status)
{
    j->status = status;
    j->p = "";
    j->n = 0;
    return j->kind = JT_ERROR;
}

/* Lines are counted only now: errors are rare and texts are long. */
stretto_status json_fail(struct json *j, const char *fmt, ...)
{
    if (j->status != STRETTO_OK) return j->status;
    char words[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    const unsigned char *line = j->start;
    size_t number = 1;
    for (const unsigned char *p = j->start; p < j->token; p++)
        if (*p == '\n') {
            number++;
            line = p + 1;
        }
    stop(j, STRETTO_E_FORMAT);
    return fail(j->err, STRETTO_E_FORMAT, "%s: line %zu, column %zu (byte %zu): %s", j->where,
                number, (size_t)(j->token - line) + 1, (size_t)(j->token - j->start), words);
}

static enum json_kind bad(struct json *j, const unsigned char *at, const char *words)
{
    j->token = at;
    json_fail(j, "%s", words);
    return JT_ERROR;
}

static enum json_kind no_memory(struct json *j)
{
    fail(j->err, STRETTO_E_NOMEM, "not enough memory to read %s", j->where);
    return stop(j, STRETTO_E_NOMEM);
}

static void skip_space(struct json *j)
{
    while (j->at < j->end && (*j->at == ' ' || *j->at == '\n' || *j->at == '\r' || *j->at == '\t'))
        j->at++;
}

/* ---- strings -------------------------------------------------------------------------------- */

static bool hex4(const unsigned char *p, const unsigned char *end, uint32_t *out)
{
    if (end - p < 4) return false;
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        unsigned char c = p[i], lower = c | 0x20;
        if (c >= '0' && c <= '9') v = v << 4 | (uint32_t)(c - '0');
        else if (lower >= 'a' && lower <= 'f') v = v << 4 | (uint32_t)(lower - 'a' + 10);
        else return false;
    }
    *out = v;
    return true;
}

/* At the backslash. Decodes one escape into the scratch text. */
static bool escape(struct json *j)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const unsigned char *at = j->at;
    if (j->end - at < 2) return bad(j, at, "the text ends in a string") != JT_ERROR;
    char out[4];
    size_t n = 1;
    const char *simple = at[1] ? strchr(from, at[1]) : NULL;
    j->at += 2;
    if (simple) {
        out[0] = to[simple - from];
    } else if (at[1] == 'u') {
        uint32_t c, low;
        if (!hex4(j->at, j->end, &c))
            return bad(j, at, "\\u needs four hexadecimal digits") != JT_ERROR;
        j->at += 4;
        if (c >= 0xd800 && c < 0xe000) {
            if (c >= 0xdc00 || j->end - j->at < 6 || j->at[0] != '\\' || j->at[1] != 'u'
                || !hex4(j->at + 2, j->end, &low) || low < 0xdc00 || low > 0xdfff)
                return bad(j, at, "half of a surrogate pair without the other, which no UTF-8 text "
                           "can hold") != JT_ERROR;
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            j->at += 6;
        }
        n = utf8_encode((int32_t)c, out);
    } else {
        return bad(j, at, "unknown escape in a string") != JT_ERROR;
    }
    if (buffer_append(&j->scratch, out, n) == STRETTO_OK) return true;
    return no_memory(j) != JT_ERROR;
}

/* At the opening quote. Strings without escapes are views of the text itself. */
static bool string(struct json *j)
{
    const unsigned char *from = ++j->at;
    bool decoded = false;
    buffer_clear(&j->scratch);
    for (;;) {
        while (j->at < j->end && *j->at >= 0x20 && *j->at < 0x80 && *j->at != '"' && *j->at != '\\')
            j->at++;
        if (j->at == j->end) return bad(j, j->token, "a string that does not end") != JT_ERROR;
        unsigned char c = *j->at;
        if (c >= 0x80) {
            int32_t cp;
            size_t n = utf8_decode((const char *)j->at, (size_t)(j->end - j->at), &cp);
            if (cp == UTF8_BAD) return bad(j, j->at, "not valid UTF-8") != JT_ERROR;
            j->at += n;
            continue;
        }
        if (c < 0x20)
            return bad(j, j->at, "a control character in a string must be escaped") != JT_ERROR;
        if (c == '\\' || decoded) {
            size_t n = (size_t)(j->at - from);
            if (n && buffer_append(&j->scratch, from, n) != STRETTO_OK)
                return no_memory(j) != JT_ERROR;
            decoded = true;
        }
        if (c == '"') break;
        if (!escape(j)) return false;
        from = j->at;
    }
    j->p = decoded ? j->scratch.data ? j->scratch.data : "" : (const char *)from;
    j->n = decoded ? j->scratch.len : (size_t)(j->at - from);
    j->at++;
    return true;
}

/* ---- numbers -------------------------------------------------------------------------------- */

static bool digits(struct json *j)
{
    const unsigned char *from = j->at;
    while (j->at < j->end && *j->at >= '0' && *j->at <= '9') j->at++;
    return j->at > from;
}

/* Python's words for what has no digits. */
static bool number_word(struct json *j)
{
    static const char *const words[] = { "NaN", "Infinity", "-Infinity" };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(j->end - j->at) < n || memcmp(j->at, words[i], n) != 0) continue;
        j->p = (const char *)j->at;
        j->n = n;
        j->at += n;
        return true;
    }
    return false;
}

static enum json_kind number(struct json *j)
{
    const unsigned char *from = j->at;
    if (number_word(j)) return JT_NUMBER;
    if (*j->at == '-') j->at++;
    if (j->at < j->end && *j->at == '0') {
        j->at++;
        if (j->at < j->end && *j->at >= '0' && *j->at <= '9')
            return bad(j, from, "a number must not begin with zeros");
    } else if (!digits(j)) {
        return bad(j, from, "a number without digits");
    }
    bool longer = j->at - from > MAX_INTEGER_DIGITS + (*from == '-');
    if (j->at < j->end && *j->at == '.') {
        j->at++;
        longer = false;
        if (!digits(j)) return bad(j, from, "a number without digits after the point");
    }
    if (j->at < j->end && (*j->at == 'e' || *j->at == 'E')) {
        j->at++;
        longer = false;
        if (j->at < j->end && (*j->at == '+' || *j->at == '-')) j->at++;
        if (!digits(j)) return bad(j, from, "a number without digits in its exponent");
    }
    if (longer) return bad(j, from, "an integer of more than 4300 digits");
    j->p = (const char *)from;
    j->n = (size_t)(j->at - from);
    return JT_NUMBER;
}

/* ---- structure ------------------------------------------------------------------------------ */

static bool inside_object(const struct json *j)
{
    size_t i = j->depth - 1;
    return j->in_object[i / 64] >> i % 64 & 1;
}

static enum json_kind enter(struct json *j, bool object)
{
    if (j->depth == JSON_MAX_DEPTH) return bad(j, j->at, "nested too deeply");
    size_t i = j->depth++;
    uint64_t bit = (uint64_t)1 << i % 64;
    if (object) j->in_object[i / 64] |= bit; else j->in_object[i / 64] &= ~bit;
    j->at++;
    j->expect = object ? KEY_OR_END : VALUE_OR_END;
    return object ? JT_OBJECT : JT_ARRAY;
}

static void after_value(struct json *j) { j->expect = j->depth ? COMMA_OR_END : NOTHING; }

static enum json_kind leave(struct json *j)
{
    bool object = inside_object(j);
    j->depth--;
    j->at++;
    after_value(j);
    return object ? JT_OBJECT_END : JT_ARRAY_END;
}

static enum json_kind word(struct json *j, const char *text, enum json_kind kind)
{
    size_t n = strlen(text);
    if ((size_t)(j->end - j->at) < n || memcmp(j->at, text, n) != 0)
        return bad(j, j->at, "expected a value");
    j->at += n;
    return kind;
}

static enum json_kind value(struct json *j)
{
    enum json_kind kind;
    switch (*j->at) {
    case '{': return enter(j, true);
    case '[': return enter(j, false);
    case '"': kind = string(j) ? JT_STRING : JT_ERROR; break;
    case 't': kind = word(j, "true", JT_TRUE); break;
    case 'f': kind = word(j, "false", JT_FALSE); break;
    case 'n': kind = word(j, "null", JT_NULL); break;
    default:
        if (*j->at != '-' && *j->at != 'N' && *j->at != 'I' && (*j->at < '0' || *j->at > '9'))
            return bad(j, j->at, "expected a value");
        kind = number(j);
    }
    after_value(j);
    return kind;
}

static enum json_kind key(struct json *j)
{
    if (*j->at != '"') return bad(j, j->at, "expected a name in quotes");
    if (!string(j)) return JT_ERROR;
    skip_space(j);
    if (j->at == j->end || *j->at != ':') return bad(j, j->at, "expected ':' after a name");
    j->at++;
    j->expect = VALUE;
    return JT_KEY;
}

/* A text that begins like UTF-16 or UTF-32: with their marks, or with every other byte empty. */
static bool wide(const struct json *j)
{
    const unsigned char *p = j->start;
    return j->end - p >= 2 && ((p[0] == 0xff && p[1] == 0xfe) || (p[0] == 0xfe && p[1] == 0xff)
                               || !p[0] != !p[1]);
}

static enum json_kind advance(struct json *j)
{
    if (j->at == j->start && wide(j))
        return bad(j, j->at, "this is UTF-16 or no text at all; JSON is read as UTF-8");
    skip_space(j);
    j->token = j->at;
    if (j->at == j->end)
        return j->expect == NOTHING ? JT_END : bad(j, j->at, "the text ends too early");
    if (j->expect == NOTHING) return bad(j, j->at, "something stands after the end of the value");
    if (j->expect == COMMA_OR_END) {
        bool object = inside_object(j);
        if (*j->at == (object ? '}' : ']')) return leave(j);
        if (*j->at != ',')
            return bad(j, j->at, object ? "expected ',' or '}'" : "expected ',' or ']'");
        j->at++;
        skip_space(j);
        j->token = j->at;
        if (j->at == j->end) return bad(j, j->at, "the text ends too early");
        j->expect = object ? KEY : VALUE;
    }
    if (j->expect == KEY_OR_END) {
        if (*j->at == '}') return leave(j);
        j->expect = KEY;
    }
    if (j->expect == VALUE_OR_END && *j->at == ']') return leave(j);
    return j->expect == KEY ? key(j) : value(j);
}

enum json_kind json_next(struct json *j)
{
    if (j->kind == JT_ERROR || j->kind == JT_END) return j->kind;
    j->p = "";
    j->n = 0;
    return j->kind = advance(j);
}

bool json_blank(const char *text, size_t n)
{
    struct json j;
    json_open(&j, text, n, "", NULL);
    skip_space(&j);
    return j.at == j.end;
}

/* ---- reading tokens ------------------------------------------------------------------------- */

bool json_is(const struct json *j, const char *text)
{
    return (j->kind == JT_KEY || j->kind == JT_STRING) && j->n == strlen(text)
           && memcmp(j->p, text, j->n) == 0;
}

bool json_whole(const struct json *j)
{
    if (j->kind != JT_NUMBER) return false;
    for (size_t i = j->p[0] == '-'; i < j->n; i++)
        if (j->p[i] < '0' || j->p[i] > '9') return false;
    return true;
}

bool json_i64(const struct json *j, int64_t *out)
{
    if (!json_whole(j)) return false;
    bool negative = j->p[0] == '-';
    uint64_t v = 0, limit = (uint64_t)INT64_MAX + negative;
    for (size_t i = negative; i < j->n; i++) {
        uint64_t d = (uint64_t)(j->p[i] - '0');
        if (v > (limit - d) / 10) return false;
        v = v * 10 + d;
    }
    *out = negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

/* strtod of the "C" locale, because a program may have set one with a decimal comma; asking for
 * that locale allocates nothing. It knows NaN and Infinity too. */
bool json_f64(const struct json *j, double *out)
{
    char few[512];
    if (j->kind != JT_NUMBER) return false;
    char *text = j->n < sizeof few ? few : mem_alloc(j->n + 1);
    locale_t c = text ? newlocale(LC_ALL_MASK, "C", (locale_t)0) : (locale_t)0;
    if (c) {
        memcpy(text, j->p, j->n);
        text[j->n] = '\0';
        *out = strtod_l(text, NULL, c);
        freelocale(c);
    }
    if (text != few) mem_free(text);
    return c != (locale_t)0;
}

bool json_skip(struct json *j)
{
    if (j->kind == JT_KEY) json_next(j);
    if (j->kind == JT_OBJECT || j->kind == JT_ARRAY) {
        size_t outside = j->depth - 1;
        while (json_next(j) != JT_ERROR && j->depth > outside) { }
    }
    return j->kind != JT_ERROR;
}

bool json_raw(struct json *j, const char **p, size_t *n)
{
    if (j->kind == JT_KEY) json_next(j);
    const unsigned char *from = j->token;
    if (!json_skip(j)) return false;
    *p = (const char *)from;
    *n = (size_t)(j->at - from);
    return true;
}
