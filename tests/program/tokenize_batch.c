/* tokenize_batch FOLDER-OR-FILE: reads "FLAGS LENGTH\n" and LENGTH bytes, again and again, and answers
 * each with one line: the ids, a tab, and in hexadecimal what they decode to. One process for thousands
 * of texts; tests only. With --quiet behind the file nothing is answered, for whoever counts what the
 * work costs: then there may be several, and standard input is a file, which each reads anew. With
 * --about the first answer is bos, eos and the ends of an answer. With --names alone:
 * the pre-tokenizers that GGUF names, with their expressions. */
#include "format/source.h"
#include "text/pretok.h"
#include "text/tokenizer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int names(void)
{
    const struct pretok_name *name;
    for (size_t i = 0; (name = pretok_name_at(i)); i++) {
        printf("%s", name->name);
        for (size_t k = 0; k < sizeof name->expression / sizeof *name->expression; k++)
            for (const char *p = name->expression[k]; p && *p; p++)
                printf(p == name->expression[k] ? "\t%02x" : "%02x", (unsigned char)*p);
        putchar('\n');
    }
    return 0;
}

/* bos, eos, and all ends of an answer */
static void about(const struct tokenizer *t)
{
    printf("%d %d", tokenizer_bos(t), tokenizer_eos(t));
    for (int32_t i = 0; (size_t)i < tokenizer_size(t); i++)
        if (tokenizer_is_eog(t, i)) printf(" %d", i);
    putchar('\n');
}

struct work {
    struct tokenizer *t;
    const char *text;
    size_t n;
    unsigned flags;
    int at;
    struct tokens ids;
    struct buffer back;
    struct error err;
};

/* Their bodies differ, so that no compiler makes one function of them. */
#define PLACE(place) \
    __attribute__((noinline)) static bool place_##place(struct work *w) \
    { \
        w->at = place; \
        return tokenizer_encode(w->t, w->text, w->n, w->flags, &w->ids, &w->err) == STRETTO_OK && \
               tokenizer_decode(w->t, w->ids.id, w->ids.n, true, &w->back) == STRETTO_OK; \
    }
#define EIGHT(X, n) X(n##0) X(n##1) X(n##2) X(n##3) X(n##4) X(n##5) X(n##6) X(n##7)
#define PLACES(X) \
    EIGHT(X, 0) EIGHT(X, 1) EIGHT(X, 2) EIGHT(X, 3) EIGHT(X, 4) EIGHT(X, 5) EIGHT(X, 6) EIGHT(X, 7)
PLACES(PLACE)
#define NAME(n) place_##n,
static bool (*const places[64])(struct work *) = { PLACES(NAME) };

/* The texts of standard input; an exit code. */
static int answer(struct tokenizer *t, bool quiet)
{
    struct work w = { .t = t, .back = buffer_make((size_t)1 << 30) };
    int code = 0;
    for (size_t at = 0; !code && scanf("%u %zu", &w.flags, &w.n) == 2 && getchar() == '\n'; at++) {
        char *p = malloc(w.n + 1);
        if (!p || fread(p, 1, w.n, stdin) != w.n) code = 1;
        w.text = p;
        w.ids.n = 0;
        buffer_clear(&w.back);
        if (!code && !places[at % 64](&w)) {
            printf("error: %s\n", w.err.text);
            code = 1;
        }
        free(p);
        if (quiet) continue;
        for (size_t i = 0; !code && i < w.ids.n; i++) printf(i ? " %d" : "%d", w.ids.id[i]);
        putchar('\t');
        for (size_t i = 0; !code && i < w.back.len; i++) printf("%02x", (unsigned char)w.back.data[i]);
        putchar('\n');
    }
    tokens_done(&w.ids);
    buffer_done(&w.back);
    return code;
}

static int one(const char *path, bool tell, bool quiet)
{
    struct error err = { 0 };
    struct source *src = NULL;
    struct tokenizer *t = NULL;
    int code = 1;
    if (source_open(&src, path, &err) == STRETTO_OK && tokenizer_open(&t, src, &err) == STRETTO_OK) {
        printf("ok\n");
        if (tell) about(t);
        fflush(stdout);
        code = answer(t, quiet);
    } else printf("error: %s\n", err.text);
    tokenizer_close(t);
    source_close(src);
    return code;
}

int main(int argc, char **argv)
{
    const char *last = argc > 2 ? argv[argc - 1] : "";
    bool quiet = strcmp(last, "--quiet") == 0, tell = strcmp(last, "--about") == 0;
    int n = argc - 1 - (quiet || tell), code = 0;
    if (n < 1 || (n > 1 && !quiet)) return 2;
    if (strcmp(argv[1], "--names") == 0) return names();
    for (int i = 1; i <= n && !code; i++) {
        if (i > 1) rewind(stdin);
        code = one(argv[i], tell, quiet);
    }
    return code;
}
