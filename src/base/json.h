/* A pull reader of JSON, for files of tens of megabytes: it walks the mapped text once, keeps no
 * tree and allocates only for strings that hold escapes. All JSON that others wrote comes in here
 * (trees through base/json_tree.h), and is read as Python's json reads it, because that is what
 * wrote most of it: RFC 8259, and besides NaN, Infinity and -Infinity, numbers of any size, and a
 * byte order mark in front (tests/program/test_json.py).
 *
 *     struct json j;
 *     json_open(&j, text, n, "tokenizer.json", err);
 *     while ((kind = json_next(&j)) > JT_END) ...
 *     json_done(&j);                 // kind is JT_END or JT_ERROR; json_status() tells which
 *
 * Strict: no comments, no trailing commas, valid UTF-8, one value and then nothing but white space.
 * Names that stand twice in an object are handed out twice: whom it matters must look (Python: the
 * last one counts). Refused though Python reads it: halves of surrogate pairs, which no UTF-8 text
 * can hold, nesting beyond JSON_MAX_DEPTH, and UTF-16. No recursion. (JT: a token; jansson owns
 * JSON_...) */
#ifndef BASE_JSON_H
#define BASE_JSON_H
#include "base/buffer.h"
#include "base/status.h"
#include <stdbool.h>

enum { JSON_MAX_DEPTH = 512 };

enum json_kind {
    JT_ERROR,                 /* stays; the words are in the error given to json_open */
    JT_END,                   /* stays; the text was one whole value                  */
    JT_OBJECT, JT_OBJECT_END, JT_ARRAY, JT_ARRAY_END,
    JT_KEY,                   /* the name of the member whose value comes next        */
    JT_STRING, JT_NUMBER, JT_TRUE, JT_FALSE, JT_NULL
};

struct json {
    /* Of the token that json_next returned: characters of a KEY or STRING without quotes and
     * escapes, or the spelling of a NUMBER. A view, valid until the next call; may hold NULs
     * ("\u0000"). */
    const char *p;
    size_t n;
    size_t depth;               /* containers open now, one that has just begun included */

    /* Inside. */
    enum json_kind kind;
    unsigned char expect;
    const unsigned char *start, *at, *end, *token;
    uint64_t in_object[JSON_MAX_DEPTH / 64];
    struct buffer scratch;
    const char *where;
    struct error *err;
    stretto_status status;
};

/* text stays the caller's and must outlive the reader. where: what to call the text in messages. */
void json_open(struct json *j, const char *text, size_t n, const char *where, struct error *err);
enum json_kind json_next(struct json *j);
void json_done(struct json *j);
/* OK, E_FORMAT or E_NOMEM. */
stretto_status json_status(const struct json *j);

/* True when there is no value at all: white space, or nothing. */
bool json_blank(const char *text, size_t n);

/* True when the token is a KEY or STRING spelled exactly so. */
bool json_is(const struct json *j, const char *text);
/* True when the NUMBER is spelled as an integer: Python's int, whatever its size. */
bool json_whole(const struct json *j);
/* The token as a number: exact for integers, correctly rounded for doubles, 1e999 is infinite; false
 * for other tokens and when it does not fit (1.5 as an integer; a double without memory for more
 * than 500 digits). */
bool json_i64(const struct json *j, int64_t *out);
bool json_f64(const struct json *j, double *out);

/* Passes over the value that has just begun (OBJECT and ARRAY: up to their end; a KEY: its value).
 * json_raw also gives the value's text, for a second reader. False when the text is damaged. */
bool json_skip(struct json *j);
bool json_raw(struct json *j, const char **p, size_t *n);

/* Records what is wrong at the present token ("line 3, column 7 (byte 41): ...") and makes the
 * reader stop: for callers who find a well-formed text with the wrong content. Returns E_FORMAT. */
__attribute__((format(printf, 2, 3)))
stretto_status json_fail(struct json *j, const char *fmt, ...);
#endif
