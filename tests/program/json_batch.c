/* json_batch: reads "MODE LENGTH\n" and LENGTH bytes of JSON, again and again, and answers each with a
 * line: what base/json.h (mode s) or base/json_tree.h (mode t) made of it, in a spelling that the test
 * makes from Python's answer too. Tests only. */
#include "base/json.h"
#include "base/json_tree.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put_text(char kind, const char *p, size_t n)
{
    putchar(kind);
    for (size_t i = 0; i < n; i++) printf("%02x", (unsigned char)p[i]);
    putchar(' ');
}

static void put_double(double f)
{
    uint64_t bits;
    memcpy(&bits, &f, sizeof bits);
    if (f != f) printf("fnan ");
    else printf("f%016llx ", (unsigned long long)bits);
}

static void put_number(const struct json *j)
{
    double f = 0;
    if (json_whole(j)) {
        size_t zero = j->n == 2 && memcmp(j->p, "-0", 2) == 0;         /* Python's int has one zero */
        printf("i%.*s ", (int)(j->n - zero), j->p + zero);
    } else if (json_f64(j, &f)) {
        put_double(f);
    }
}

/* json_whole and json_i64 agree with each other before anything is said. */
static int walk(const char *text, size_t n)
{
    struct json j;
    struct error err = { 0 };
    enum json_kind kind;
    int64_t i;
    json_open(&j, text, n, "text", &err);
    while ((kind = json_next(&j)) > JT_END) {
        if (json_i64(&j, &i) && !json_whole(&j)) return 1;
        if (kind == JT_KEY || kind == JT_STRING) put_text(kind == JT_KEY ? 'k' : 's', j.p, j.n);
        else if (kind == JT_NUMBER) put_number(&j);
        else printf("%c ", "?.{}[]ks0tfn"[kind]);
    }
    if (kind == JT_ERROR) printf("error %s", err.text);
    putchar('\n');
    json_done(&j);
    return 0;
}

static void put_tree(json_t *v)
{
    const char *key;
    size_t i;
    json_t *item;
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        printf("{ ");
        for (void *at = json_object_iter(v); at; at = json_object_iter_next(v, at)) {
            key = json_object_iter_key(at);
            put_text('k', key, json_object_iter_key_len(at));
            put_tree(json_object_iter_value(at));
        }
        printf("} ");
        break;
    case JSON_ARRAY:
        printf("[ ");
        json_array_foreach(v, i, item) put_tree(item);
        printf("] ");
        break;
    case JSON_STRING: put_text('s', json_string_value(v), json_string_length(v)); break;
    case JSON_INTEGER: printf("i%lld ", (long long)json_integer_value(v)); break;
    case JSON_REAL: put_double(json_real_value(v)); break;
    case JSON_TRUE: printf("t "); break;
    case JSON_FALSE: printf("f "); break;
    case JSON_NULL: printf("n "); break;
    }
}

static void grow(const char *text, size_t n)
{
    json_t *v;
    struct error err = { 0 };
    if (json_tree(&v, text, n, JSON_TWICE_LAST, "text", &err) == STRETTO_OK) put_tree(v);
    else printf("error %s", err.text);
    putchar('\n');
    json_decref(v);
}

int main(void)
{
    char mode;
    size_t n;
    while (scanf(" %c %zu", &mode, &n) == 2 && getchar() == '\n') {
        char *p = malloc(n + 1);
        if (!p || fread(p, 1, n, stdin) != n) return 1;
        if (mode == 't') grow(p, n);
        else if (walk(p, n)) return 1;
        free(p);
    }
    return 0;
}
