/* heads_check MODEL HEADS: hidden states come as float32 on standard input; for each the best token
 * of every head and its probability go to standard output, "token p token p ...". A file that is
 * refused ends it with 1 and the reason there. */
#include "engine/companion.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(const struct error *err)
{
    printf("%s\n", err->text);
    return 1;
}

int main(int argc, char **argv)
{
    struct error err = { 0 };
    struct model *m;
    struct model_open_options mo = { 0 };
    struct engine *e;
    struct engine_options eo = { .threads = 2, .context = 64 };
    struct heads *h;
    if (argc != 3) return 2;
    if (model_open(&m, argv[1], &mo, &err) != STRETTO_OK) return failed(&err);
    if (engine_open(&e, m, &eo, &err) != STRETTO_OK) return failed(&err);
    if (heads_open(&h, e, argv[2], &err) != STRETTO_OK) {
        engine_close(e);
        model_close(m);
        return failed(&err);
    }
    size_t width = m->config.width;
    float *hidden = malloc(width * sizeof *hidden);
    while (hidden && fread(hidden, sizeof *hidden, width, stdin) == width) {
        int32_t token[16];
        float p[16];
        uint32_t n;
        if (heads_guess(h, hidden, token, p, &n, &err) != STRETTO_OK) return failed(&err);
        for (uint32_t i = 0; i < n; i++) printf("%d %.6f ", token[i], (double)p[i]);
        printf("\n");
    }
    free(hidden);
    heads_close(h);
    engine_close(e);
    model_close(m);
    return 0;
}
