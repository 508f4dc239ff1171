/* tokenize_batch FOLDER-OR-FILE: reads "FLAGS LENGTH\n" and LENGTH bytes, again and again, and answers
 * each with one line: the ids, a tab, and in hexadecimal what they decode to. One process for thousands
 * of texts; tests only. */
#include "format/source.h"
#include "text/tokenizer.h"
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    struct error err = { 0 };
    struct source *src = NULL;
    struct tokenizer *t = NULL;
    if (argc != 2) return 2;
    if (source_open(&src, argv[1], &err) != STRETTO_OK ||
        tokenizer_open(&t, src, &err) != STRETTO_OK) {
        printf("error: %s\n", err.text);
        source_close(src);
        return 1;
    }
    printf("ok\n");
    fflush(stdout);
    struct tokens ids = { 0 };
    struct buffer text = buffer_make((size_t)1 << 30);
    unsigned flags;
    size_t n;
    int code = 0;
    while (!code && scanf("%u %zu", &flags, &n) == 2 && getchar() == '\n') {
        char *p = malloc(n + 1);
        if (!p || fread(p, 1, n, stdin) != n) code = 1;
        ids.n = 0;
        buffer_clear(&text);
        if (!code && (tokenizer_encode(t, p, n, flags, &ids, &err) != STRETTO_OK ||
                      tokenizer_decode(t, ids.id, ids.n, true, &text) != STRETTO_OK)) {
            printf("error: %s\n", err.text);
            code = 1;
        }
        for (size_t i = 0; !code && i < ids.n; i++) printf(i ? " %d" : "%d", ids.id[i]);
        putchar('\t');
        for (size_t i = 0; !code && i < text.len; i++) printf("%02x", (unsigned char)text.data[i]);
        putchar('\n');
        free(p);
    }
    tokens_done(&ids);
    buffer_done(&text);
    tokenizer_close(t);
    source_close(src);
    return code;
}
