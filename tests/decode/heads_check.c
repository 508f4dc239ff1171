/* heads_check MODEL HEADS [PLACES]: hidden states come as float32 on standard input, each with the token behind it as
 * int32; for each all guesses and their probabilities go to standard output, "token p token p ...". With PLACES so many
 * guess in the same steps, without heads_open. A file that is refused ends it with 1 and the reason there. */
#include "engine/companion.h"
#include "engine/head_model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(const struct error *err)
{
    printf("%s\n", err->text);
    return 1;
}

static void print(const int32_t *token, const float *p, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) printf("%d %.6f ", token[i], (double)p[i]);
    printf("\n");
}

static bool next(float *hidden, size_t width, int32_t *token)
{
    return fread(hidden, sizeof *hidden, width, stdin) == width && fread(token, sizeof *token, 1, stdin) == 1;
}

/* As many as there are places, and then the next ones. */
static int together(const struct model *m, const char *path, uint32_t places)
{
    struct error err = { 0 };
    struct head_model *h;
    const struct head_setup setup = { .model = m, .device = m->device, .threads = 2, .places = places };
    float *hidden = malloc(m->config.width * sizeof *hidden);
    int32_t token;
    uint32_t n = places;
    if (head_model_open(&h, path, &setup, &err) != STRETTO_OK) return failed(&err);
    while (hidden && n == places) {
        for (n = 0; n < places && next(hidden, m->config.width, &token); n++) head_model_begin(h, n, hidden, token);
        uint32_t rounds = head_model_recursive(h) ? head_model_depth(h) : 1;
        for (uint32_t r = 0; r < rounds; r++) {
            if (head_model_run(h, &err) != STRETTO_OK) return failed(&err);
            for (uint32_t i = 0; i < n; i++) head_model_next(h, i);
        }
        for (uint32_t i = 0; i < n; i++)
            print(head_model_place(h, i)->token, head_model_place(h, i)->p, head_model_depth(h));
    }
    free(hidden);
    head_model_close(h);
    return 0;
}

int main(int argc, char **argv)
{
    struct error err = { 0 };
    struct model *m;
    struct model_open_options mo = { 0 };
    struct engine *e;
    struct engine_options eo = { .threads = 2, .context = 64 };
    struct heads *h;
    if (argc < 3) return 2;
    if (model_open(&m, argv[1], &mo, &err) != STRETTO_OK) return failed(&err);
    if (argc == 4) {
        int code = together(m, argv[2], (uint32_t)atoi(argv[3]));
        model_close(m);
        return code;
    }
    if (engine_open(&e, m, &eo, &err) != STRETTO_OK) return failed(&err);
    if (heads_open(&h, e, argv[2], &err) != STRETTO_OK) {
        engine_close(e);
        model_close(m);
        return failed(&err);
    }
    size_t width = m->config.width;
    float *hidden = malloc(width * sizeof *hidden);
    int32_t last, token[MAX_HEADS];
    while (hidden && next(hidden, width, &last)) {
        float p[MAX_HEADS];
        uint32_t n;
        if (heads_guess(h, hidden, last, token, p, &n, &err) != STRETTO_OK) return failed(&err);
        print(token, p, n);
    }
    free(hidden);
    heads_close(h);
    engine_close(e);
    model_close(m);
    return 0;
}
