/* Gradients of heads, for tests in numpy:
 *
 *     heads_gradients MODEL KIND DEPTH FEED WORK OUT [--threads N] [--rows N] [--level NAME] [--seen]
 *
 * WORK has "lines": for each text a line "n first id weight id weight ..."; "tokens": ids that can be guessed;
 * "hidden": the states of all rows whose next token counts, float32, text by text; "parameters": float32, in the
 * graph's order. The texts are one batch, in steps of --rows rows at most; --seen plants rows of the recursive kind
 * that see the row before the one they should. OUT gets the states as they are kept, then the gradients. On standard
 * output stand "loss TEXT TOKEN GUESS WEIGHT LOSS" for each guess, then "NAME n_in n_out" for each parameter. */
#include "backend/backend.h"
#include "base/memory.h"
#include "graph/differentiate.h"
#include "train/heads.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options { unsigned threads; uint32_t rows; const char *level; bool seen; };

struct subject {
    struct model *model;
    struct graph forward, back;
    struct lines lines;
    struct head_shape shape;
    struct head_rows rows;
    int32_t *token, *place;
    struct param_bytes slice;
    struct taught hidden;
    FILE *parameters;
    float *first[64];
    size_t n_first;
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "heads_gradients: %s\n", what);
    exit(1);
}

static void must(stretto_status s, const struct error *err)
{
    if (s != STRETTO_OK) die(err->text);
}

static FILE *file_of(const char *work, const char *name, const char *mode)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", work, name);
    FILE *f = fopen(path, mode);
    if (!f) die(path);
    return f;
}

static void read_lines(struct subject *x, const char *work)
{
    struct error err = { 0 };
    FILE *f = file_of(work, "lines", "r");
    unsigned n, first, record = 0;
    while (fscanf(f, "%u %u", &n, &first) == 2) {
        struct sample s = { .n = n, .first = first, .last = n - 1, .taught = record++ };
        int32_t *id;
        float *weight;
        must(lines_add(&x->lines, &s, &id, &weight, &err), &err);
        for (unsigned i = 0; i < n; i++)
            if (fscanf(f, "%d %f", &id[i], &weight[i]) != 2) die("a line is cut short");
    }
    fclose(f);
}

static void read_tokens(struct subject *x, const char *work)
{
    uint32_t vocab = x->model->config.vocab, n = 0;
    FILE *f = file_of(work, "tokens", "r");
    struct error err = { 0 };
    x->token = malloc(vocab * sizeof *x->token);
    x->place = malloc(vocab * sizeof *x->place);
    if (!x->token || !x->place) die("out of memory");
    memset(x->place, 0xff, vocab * sizeof *x->place);
    while (n < vocab && fscanf(f, "%d", &x->token[n]) == 1) x->place[x->token[n]] = (int32_t)n, n++;
    fclose(f);
    x->shape.guessed = n;
    must(head_slice(x->model, x->token, n, &x->slice, &err), &err);
}

static void keep_states(struct subject *x, const char *work, FILE *out)
{
    uint32_t width = x->model->config.width, n;
    const struct taught_shape shape = { .vocab = x->model->config.vocab, .width = width };
    const struct taught_key key = { .vocabulary = 1 };
    static char path[1024];
    struct error err = { 0 };
    FILE *f = file_of(work, "hidden", "rb");
    float *h = malloc(width * sizeof *h);
    unsigned char *rows;
    snprintf(path, sizeof path, "%s/states", work);
    must(taught_open(&x->hidden, path, &shape, &key, &x->lines, NULL, &err), &err);
    for (size_t i = 0; i < x->lines.n; i++) {
        must(taught_begin(&x->hidden, &rows, &n, &err), &err);
        for (uint32_t k = 0; k < n; k++) {
            if (!h || fread(h, sizeof *h, width, f) != width) die("a state is cut short");
            if (!hidden_row(&shape, h, rows + k * taught_row_bytes(&shape))) die("a state is no number");
        }
        must(taught_add(&x->hidden, &err), &err);
    }
    must(taught_finish(&x->hidden, &err), &err);
    for (size_t i = 0; i < x->lines.n; i++)
        for (uint32_t k = 0; k < x->lines.sample[i].n; k++) {
            uint64_t row = taught_rows_before(&x->hidden, i) + k;
            if (row >= (i + 1 < x->lines.n ? taught_rows_before(&x->hidden, i + 1) : x->hidden.rows)) break;
            hidden_read(&x->hidden, i, k, h);
            if (fwrite(h, sizeof *h, width, out) != width) die("the states cannot be written");
        }
    free(h);
    fclose(f);
}

static stretto_status find(void *ud, const char *name, uint32_t n_in, uint32_t n_out, struct param_bytes *out,
                           struct error *err)
{
    struct subject *x = ud;
    if (strcmp(name, "heads.slice") == 0) {
        *out = x->slice;
        return STRETTO_OK;
    }
    if (!heads_own(name)) return model_param(x->model, name, n_in, n_out, out, err);
    size_t n = (size_t)n_in * n_out;
    float *f = malloc(n * sizeof *f);
    if (!f || x->n_first == 64 || fread(f, sizeof *f, n, x->parameters) != n) die("parameters are cut short");
    x->first[x->n_first++] = f;
    *out = (struct param_bytes){ .type = DT_F32, .n_in = n_in, .n_out = n_out, .data = f,
                                 .row_bytes = n_in * sizeof *f, .memory = true };
    return STRETTO_OK;
}

static void write_gradients(const struct subject *x, const struct weights *w, FILE *out)
{
    struct error err = { 0 };
    for (uint32_t i = 0; i < x->back.n_params; i++) {
        const struct graph_param *p = &x->back.params[i];
        size_t n = (size_t)p->n_in * p->n_out;
        if (!heads_own(p->name)) continue;
        float *g = malloc(n * sizeof *g);
        if (!g || backends[0]->param_read(w, i, PARAM_GRADIENT, g, &err) != STRETTO_OK) die(err.text);
        if (fwrite(g, sizeof *g, n, out) != n) die("the gradients cannot be written");
        printf("%s %u %u\n", p->name, p->n_in, p->n_out);
        free(g);
    }
}

/* Rows that should see the one before them see the one before that. */
static void plant(struct packed *p)
{
    for (size_t r = 0; r < p->step.n_rows; r++)
        if (p->position[r] > 1) p->ranges[2 * p->range_at[r]]--, p->ranges[2 * p->range_at[r] + 1]--;
}

static void run(struct subject *x, struct device *d, struct weights *w, const struct options *o)
{
    struct error err = { 0 };
    const struct packing_how how = { .step_rows = o->rows, .batch_rows = 1 << 20, .in_order = true, .heads = &x->rows };
    const struct program_limits limits = { .max_rows = o->rows, .max_asks = o->rows, .threads = o->threads };
    struct packing packing;
    struct packed p;
    struct program *program;
    double weights;
    must(packing_make(&packing, &x->lines, &how, &err), &err);
    must(packed_make(&p, o->rows, NULL, &err), &err);
    must(packed_vectors(&p, x->rows.width, &err), &err);
    must(device_compile(d, &program, &x->back, w, &limits, &err), &err);
    uint32_t steps = packing_steps(&packing, 0, &weights);
    for (uint32_t i = 0; i < steps; i++) {
        packed_fill(&p, &packing, 0, i, weights);
        if (o->seen) plant(&p);
        must(device_run(d, program, &p.step, p.answers, &err), &err);
        for (size_t a = 0; a < p.step.n_asks; a++)
            printf("loss %u %u %u %.9g %.9g\n", p.ask_sample[a], p.ask_token[a], (unsigned)p.position[p.ask_row[a]],
                   (double)p.target[a].weight, (double)p.answer[a].loss);
    }
    d->backend->program_close(program);
    packed_done(&p);
    packing_done(&packing);
}

static struct options parse(int argc, char **argv)
{
    struct options o = { .threads = 1, .rows = 256 };
    for (int i = 7; i < argc; i++) {
        if (strcmp(argv[i], "--seen") == 0) o.seen = true;
        else if (i + 1 == argc) die("an option without its value");
        else if (strcmp(argv[i], "--threads") == 0) o.threads = (unsigned)atoi(argv[++i]);
        else if (strcmp(argv[i], "--rows") == 0) o.rows = (uint32_t)atoi(argv[++i]);
        else if (strcmp(argv[i], "--level") == 0) o.level = argv[++i];
        else die("no such option");
    }
    return o;
}

static void open_subject(struct subject *x, char **argv)
{
    const struct model_open_options open = { .graph_only = true };
    struct error err = { 0 };
    must(model_open(&x->model, argv[1], &open, &err), &err);
    x->shape = (struct head_shape){ .depth = (uint32_t)atoi(argv[3]), .feed = (uint32_t)atoi(argv[4]) };
    while (strcmp(argv[2], head_kind_names[x->shape.kind]) != 0) x->shape.kind++;
    read_lines(x, argv[5]);
    read_tokens(x, argv[5]);
    x->rows = (struct head_rows){ x->shape.kind, x->shape.depth, x->model->config.width, x->place, &x->hidden };
    x->parameters = file_of(argv[5], "parameters", "rb");
    must(heads_graph(&x->forward, x->model, &x->shape, &err), &err);
}

int main(int argc, char **argv)
{
    static struct subject x;
    static uint8_t trained[256];
    struct error err = { 0 };
    if (argc < 7) die("a model, a kind, its depth and channels, a folder and a file for the gradients");
    const struct options o = parse(argc, argv);
    open_subject(&x, argv);
    FILE *out = fopen(argv[6], "wb");
    if (!out) die("the gradients cannot be written");
    keep_states(&x, argv[5], out);
    for (size_t i = 0; i < x.forward.n_params; i++) trained[i] = heads_own(x.forward.params[i].name);
    const struct differentiate what = { trained, KEEP_VALUES };
    must(differentiate(&x.back, &x.forward, &what, &err), &err);
    struct device *d;
    struct weights *w;
    const struct device_options device = { .level = o.level };
    must(backend_open("cpu", &device, &d, &err), &err);
    const struct binding binding = { &x, find };
    const struct upload_options up = { .threads = o.threads, .reference = true, .trained = trained };
    must(device_upload(d, &w, &x.back, &binding, &up, &err), &err);
    run(&x, d, w, &o);
    write_gradients(&x, w, out);
    if (fclose(out) != 0) die("the gradients cannot be written");
    d->backend->weights_close(w);
    device_close(d);
    graph_done(&x.back);
    graph_done(&x.forward);
    taught_close(&x.hidden);
    lines_done(&x.lines);
    model_close(x.model);
    mem_free((void *)(uintptr_t)x.slice.data);
    for (size_t i = 0; i < x.n_first; i++) free(x.first[i]);
    free(x.token);
    free(x.place);
    fclose(x.parameters);
    return 0;
}
