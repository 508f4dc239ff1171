/* Prints the metadata of a model as the rest of the program sees it: one "key value" for each number,
 * flag or word and "key [value value ...]" for each array of numbers. For test_closure.py, which
 * compares what a config.json becomes with transformers' own configuration classes. */
#include "format/source.h"
#include <stdio.h>

static void print_array(const struct source *s, const char *key)
{
    size_t n = 0;
    double v = 0;
    source_array(s, key, NULL, &n);
    printf("%s [", key);
    for (size_t i = 0; i < n && source_array_f64(s, key, i, &v); i++)
        printf(i ? " %.9g" : "%.9g", v);
    printf("]\n");
}

static void print(const struct source *s, const char *key, enum source_kind kind)
{
    double v;
    bool flag;
    struct source_str text;
    if (kind == SOURCE_ARRAY) print_array(s, key);
    else if (source_f64(s, key, &v)) printf("%s %.9g\n", key, v);
    else if (source_bool(s, key, &flag)) printf("%s %d\n", key, flag);
    else if (source_string(s, key, &text)) printf("%s %.*s\n", key, (int)text.n, text.p);
}

int main(int argc, char **argv)
{
    struct error err = { 0 };
    struct source *s;
    if (argc != 2) return 2;
    if (source_open(&s, argv[1], &err) != STRETTO_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    for (size_t i = 0; i < source_key_count(s); i++) {
        enum source_kind kind;
        const char *key = source_key_at(s, i, &kind);
        print(s, key, kind);
    }
    source_close(s);
    return 0;
}
