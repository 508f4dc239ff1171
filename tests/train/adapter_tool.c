/* Adapters in and out, for test_adapter.py:
 *
 *   adapter_tool BASE ADAPTER            for each pair: weight rank n_in n_out scale, and A and B in hexadecimal
 *   adapter_tool BASE ADAPTER OUT.gguf   the same adapter as a file, or OUT/ as PEFT's folder */
#include "format/adapter.h"
#include <stdio.h>
#include <string.h>

static void print(const float *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &v[i], sizeof bits);
        printf("%08x", bits);
    }
    putchar('\n');
}

static stretto_status work(const struct source *base, char **argv, int argc, struct error *err)
{
    struct adapter a;
    const struct adapter_note note = { "stretto.teach.base_content", "0123456789abcdef" };
    TRY(adapter_read(&a, argv[2], base, err));
    for (size_t i = 0; i < a.n && argc == 3; i++) {
        const struct adapter_pair *p = &a.pair[i];
        printf("%s %u %u %u %.9g\n", p->weight, p->rank, p->n_in, p->n_out, (double)p->scale);
        print(p->a, (size_t)p->rank * p->n_in);
        print(p->b, (size_t)p->rank * p->n_out);
    }
    stretto_status s = STRETTO_OK;
    const char *out = argc > 3 ? argv[3] : "";
    if (strstr(out, ".gguf")) s = adapter_write_gguf(&a, out, base, DT_F32, &note, 1, false, err);
    else if (*out) s = adapter_write_peft(&a, out, base, "a/base", err);
    adapter_done(&a);
    return s;
}

int main(int argc, char **argv)
{
    struct error err = { 0 };
    struct source *base = NULL;
    if (argc < 3) return 2;
    stretto_status s = source_open(&base, argv[1], &err);
    if (s == STRETTO_OK) s = work(base, argv, argc, &err);
    if (s != STRETTO_OK) fprintf(stderr, "%s\n", err.text);
    source_close(base);
    return s == STRETTO_OK ? 0 : 1;
}
