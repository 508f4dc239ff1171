/* An optimizer by itself, for tests in numpy: gradients are read, what comes of them is written.
 *
 *     optimizer_check GRADIENTS OUT STEPS KIND BITS AVERAGE DECAY BETA2 THREADS [PRECISION]
 *
 * GRADIENTS has, for each step, each parameter's as float32 rows. OUT gets masters before, masters after, averages
 * where there are, then what is remembered. Standard output says what stands there: "param NAME N_IN N_OUT" and
 * "state NAME ARRAY TYPE BYTES". Without operands only the parameters are told. */
#include "backend/backend.h"
#include "graph/binding.h"
#include "graph/differentiate.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 48, INNER = 96, VOCAB = 70, MOST = 80 * 96, PARAMS = 16 };

static float *values[PARAMS];
static struct graph forward;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "optimizer_check: %s\n", what);
    exit(1);
}

static void build(struct graph *g)
{
    struct error err = { 0 };
    struct graph_builder b = { .g = g, .err = &err, .layer = -1 };
    *g = (struct graph){ .layers = 1 };
    int32_t h = graph_embed(&b, "embed", VOCAB, WIDTH, EMBED_TOKEN);
    b.layer = 0;
    h = graph_norm(&b, h, NORM_RMS, 1e-5f, 0, "norm", NULL);
    h = graph_linear(&b, h, "up", "bias", INNER);
    h = graph_linear(&b, h, "down", NULL, WIDTH);
    b.layer = -1;
    h = graph_ask(&b, h);
    graph_answer(&b, h, graph_linear(&b, h, "head", NULL, VOCAB));
    if (b.status != STRETTO_OK) die(err.text);
}

static stretto_status find(void *ud, const char *name, uint32_t n_in, uint32_t n_out, struct param_bytes *out,
                           struct error *err)
{
    (void)ud, (void)err;
    int32_t at = graph_param_find(&forward, name);
    size_t n = (size_t)n_in * (n_out ? n_out : 1);
    if (!values[at] && !(values[at] = malloc(n * sizeof(float)))) die("out of memory");
    for (size_t i = 0; i < n; i++) values[at][i] = (float)sin((double)(i * 7 + (size_t)at * 3 + 1)) / 3;
    *out = (struct param_bytes){ .type = DT_F32, .n_in = n_in, .n_out = n_out ? n_out : 1, .data = values[at],
                                 .row_bytes = n_in * sizeof(float), .memory = true };
    return STRETTO_OK;
}

static size_t size_of(const struct graph *g, uint32_t i)
{
    return (size_t)g->params[i].n_in * (g->params[i].n_out ? g->params[i].n_out : 1);
}

static void write_part(const struct graph *g, const struct weights *w, enum param_part part, FILE *out)
{
    static float x[MOST];
    struct error err = { 0 };
    for (uint32_t i = 0; i < g->n_params; i++) {
        size_t n = size_of(g, i);
        if (backends[0]->param_read(w, i, part, x, &err) != STRETTO_OK) die(err.text);
        if (fwrite(x, sizeof *x, n, out) != n) die("the disk is full");
    }
}

static void write_states(const struct graph *g, const struct weights *w, FILE *out)
{
    static char x[4 * MOST];
    struct error err = { 0 };
    struct param_state list[PARAM_STATES];
    for (uint32_t i = 0; i < g->n_params; i++)
        for (size_t k = 0, n = backends[0]->state_list(w, i, list); k < n; k++) {
            if (backends[0]->state_read(w, i, k, x, &err) != STRETTO_OK) die(err.text);
            if (fwrite(x, 1, (size_t)list[k].bytes, out) != list[k].bytes) die("the disk is full");
            printf("state %s %s %s %llu\n", g->params[i].name, list[k].name, list[k].type,
                   (unsigned long long)list[k].bytes);
        }
}

static void read_gradients(const struct graph *g, struct weights *w, FILE *in)
{
    static float x[MOST];
    struct error err = { 0 };
    backends[0]->param_clear(w);
    for (uint32_t i = 0; i < g->n_params; i++) {
        size_t n = size_of(g, i);
        if (fread(x, sizeof *x, n, in) != n) die("there are too few gradients");
        if (backends[0]->param_write(w, i, PARAM_GRADIENT, x, &err) != STRETTO_OK) die(err.text);
    }
}

static struct weights *upload(struct device *d, const struct graph *g, const uint8_t *trained, char **argv, int argc)
{
    struct weights *w;
    struct error err = { 0 };
    struct binding b = { NULL, find };
    struct upload_options up = { .threads = (unsigned)atoi(argv[9]), .trained = trained };
    up.optimizer = (struct optimizer_kind){ strcmp(argv[4], "adafactor") == 0 ? OPTIMIZER_ADAFACTOR : OPTIMIZER_ADAMW,
                                            (unsigned)atoi(argv[5]), atof(argv[6]) > 0 };
    if (argc > 10) up.precision = strcmp(argv[10], "f16") == 0 ? PRECISION_F16 : PRECISION_BF16;
    if (device_upload(d, &w, g, &b, &up, &err) != STRETTO_OK) die(err.text);
    return w;
}

int main(int argc, char **argv)
{
    struct error err = { 0 };
    uint8_t trained[PARAMS];
    struct device *d;
    struct device_options on = { .level = NULL };
    struct graph g;
    memset(trained, 1, sizeof trained);
    build(&forward);
    struct differentiate what = { trained, KEEP_VALUES };
    if (differentiate(&g, &forward, &what, &err) != STRETTO_OK) die(err.text);
    for (uint32_t i = 0; i < g.n_params; i++)
        printf("param %s %u %u\n", g.params[i].name, g.params[i].n_in, g.params[i].n_out ? g.params[i].n_out : 1);
    if (argc == 1) {
        graph_done(&g);
        return 0;
    }
    if (argc < 10) die("operands are missing");
    if (backend_open("cpu", &on, &d, &err) != STRETTO_OK) die(err.text);
    struct weights *w = upload(d, &g, trained, argv, argc);
    FILE *in = fopen(argv[1], "rb"), *out = fopen(argv[2], "wb");
    if (!in || !out) die("a file cannot be opened");
    write_part(&g, w, PARAM_MASTER, out);
    for (int t = 1, steps = atoi(argv[3]); t <= steps; t++) {
        read_gradients(&g, w, in);
        backends[0]->param_update(w, &(struct param_step){
            .number = (uint64_t)t, .scale = 0.5f, .lr = 1e-2f, .beta1 = 0.9f, .beta2 = (float)atof(argv[8]),
            .eps = 1e-8f, .decay = (float)atof(argv[7]), .average = (float)atof(argv[6]) });
    }
    write_part(&g, w, PARAM_MASTER, out);
    if (atof(argv[6]) > 0) write_part(&g, w, PARAM_AVERAGE, out);
    write_states(&g, w, out);
    fclose(in);
    if (fclose(out) != 0) die("the disk is full");
    backends[0]->weights_close(w);
    device_close(d);
    graph_done(&g);
    graph_done(&forward);
    for (int i = 0; i < PARAMS; i++) free(values[i]);
    return 0;
}
