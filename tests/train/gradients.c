/* Gradients of a model, for tests in numpy:
 *
 *     gradients MODEL JOB OUT [--threads N] [--level NAME] [--layers] [--reference] [--train PREFIX] [--lora RANK]
 *
 * JOB is a text of steps: "rows N", N lines "token position ranges first end ...", "asks M", M lines "row token weight
 * n_top id p id p ... tail"; after each M lines the step is run. OUT gets the gradients of all parameters that are
 * trained (those whose names begin with PREFIX; with --lora the adapters of all layers), float32, one after the other.
 * --every K: the adapters act on rows whose position divided by K leaves 1; a row weighs 1 + (position modulo 4) / 8.
 * On standard output stand the losses, then "bytes", then a line "name n_in n_out" for each parameter.
 * --layers: KEEP_LAYERS. --bf16: what is trained is computed in bf16.
 * --times: each step is run twice more, and where its time went stands on standard error. */
#include "backend/backend.h"
#include "base/memory.h"
#include "graph/adapt.h"
#include "graph/differentiate.h"
#include "graph/step.h"
#include "model/model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_ROWS = 4096, MAX_TOP = 64, MAX_PAIRS = 512 };

struct job {
    int32_t token[MAX_ROWS], position[MAX_ROWS], range_at[MAX_ROWS + 1], ranges[2 * STEP_RANGES * MAX_ROWS];
    int32_t ask_row[MAX_ROWS], top[MAX_ROWS][MAX_TOP];
    float prob[MAX_ROWS][MAX_TOP];
    uint8_t given[MAX_ROWS], wants[MAX_ROWS];
    struct step_target target[MAX_ROWS];
    struct answer answer[MAX_ROWS], *answers[MAX_ROWS];
    struct step step;
};

struct options {
    unsigned threads;
    const char *level, *train;
    bool layers, reference, times, bf16;
    uint32_t rank, every;
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "gradients: %s\n", what);
    exit(1);
}

static int number(FILE *f)
{
    int n;
    if (fscanf(f, "%d", &n) != 1) die("the job is cut short");
    return n;
}

static float real(FILE *f)
{
    float x;
    if (fscanf(f, "%f", &x) != 1) die("the job is cut short");
    return x;
}

static void read_rows(FILE *f, struct job *j)
{
    int n = number(f), at = 0;
    if (n < 1 || n > MAX_ROWS) die("too many rows");
    for (int r = 0; r < n; r++) {
        j->token[r] = number(f);
        j->position[r] = number(f);
        j->given[r] = 1;
        j->range_at[r] = at;
        for (int k = number(f); k > 0; k--, at++) {
            if (at == STEP_RANGES * MAX_ROWS) die("too many ranges");
            j->ranges[2 * at] = number(f);
            j->ranges[2 * at + 1] = number(f);
        }
    }
    j->range_at[n] = at;
    j->step = (struct step){ .n_rows = (size_t)n, .token = j->token, .position = j->position, .given = j->given,
                             .range_at = j->range_at, .ranges = j->ranges, .ask_row = j->ask_row,
                             .ask_wants = j->wants, .targets = j->target };
}

static void read_asks(FILE *f, struct job *j)
{
    int n = number(f);
    if (n < 0 || n > MAX_ROWS) die("too many asks");
    for (int i = 0; i < n; i++) {
        struct step_target *t = &j->target[i];
        j->ask_row[i] = number(f);
        *t = (struct step_target){ .token = number(f), .top = j->top[i], .prob = j->prob[i] };
        t->weight = real(f);
        int n_top = number(f);
        if (n_top < 0) t->like = (uint32_t)-n_top;      /* what ask -n_top - 1 answers */
        t->n_top = n_top < 0 ? 0 : (uint32_t)n_top;
        if (t->n_top > MAX_TOP) die("too many words of a teacher");
        for (uint32_t k = 0; k < t->n_top; k++) {
            j->top[i][k] = number(f);
            j->prob[i][k] = real(f);
        }
        t->tail = real(f);
        j->wants[i] = WANT_LOSS;
        j->answers[i] = &j->answer[i];
    }
    j->step.n_asks = (size_t)n;
}

static struct options parse(int argc, char **argv)
{
    struct options o = { .threads = 1, .train = "" };
    for (int i = 4; i < argc; i++) {
        if (strcmp(argv[i], "--layers") == 0) o.layers = true;
        else if (strcmp(argv[i], "--reference") == 0) o.reference = true;
        else if (strcmp(argv[i], "--times") == 0) o.times = true;
        else if (strcmp(argv[i], "--bf16") == 0) o.bf16 = true;
        else if (i + 1 == argc) die("an option without its value");
        else if (strcmp(argv[i], "--threads") == 0) o.threads = (unsigned)atoi(argv[++i]);
        else if (strcmp(argv[i], "--level") == 0) o.level = argv[++i];
        else if (strcmp(argv[i], "--train") == 0) o.train = argv[++i];
        else if (strcmp(argv[i], "--lora") == 0) o.rank = (uint32_t)atoi(argv[++i]);
        else if (strcmp(argv[i], "--every") == 0) o.every = (uint32_t)atoi(argv[++i]);
        else die("no such option");
    }
    return o;
}

static void choose_rows(struct job *j, uint32_t every)
{
    static int32_t at[2], row[MAX_ROWS];
    static float weight[MAX_ROWS];
    at[1] = 0;
    for (size_t r = 0; r < j->step.n_rows; r++) {
        if ((uint32_t)j->position[r] % every != 1) continue;
        row[at[1]] = (int32_t)r;
        weight[at[1]++] = 1 + 0.125f * (float)(j->position[r] % 4);
    }
    j->step.set_at = at;
    j->step.set_row = row;
    j->step.set_weight = weight;
}

/* ---- adapters of all linear layers, with numbers from a seed ---- */

struct subject { struct model *model; struct graph adapted; float *noise[2 * MAX_PAIRS]; size_t n_noise; };

static size_t pairs_of(const struct graph *g, uint32_t rank, struct adapt_pair *pairs)
{
    size_t n = 0;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const struct graph_node *x = &g->nodes[i];
        if (x->op != OP_LINEAR || x->out == g->logits || n == MAX_PAIRS) continue;
        if (x->layer < 0) continue;
        pairs[n] = (struct adapt_pair){ .rank = rank, .scale = 2 };
        memcpy(pairs[n++].weight, g->params[node_param(g, x, 0)].name, GRAPH_NAME);
    }
    return n;
}

static stretto_status find(void *ud, const char *name, uint32_t n_in, uint32_t n_out, struct param_bytes *out,
                           struct error *err)
{
    struct subject *x = ud;
    if (!adapt_owns(name)) return model_param(x->model, name, n_in, n_out, out, err);
    size_t n = (size_t)n_in * n_out;
    float *f = malloc(n * sizeof *f);
    uint64_t state = 88172645463325252u;
    for (const char *c = name; *c; c++) state = state * 31 + (unsigned char)*c;
    for (size_t i = 0; f && i < n; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        f[i] = (float)((double)(state >> 11) / (double)(1ull << 53) - 0.5) / (n_in > 64 ? 24 : 12);
    }
    if (!f || x->n_noise == 2 * MAX_PAIRS) die("out of memory");
    x->noise[x->n_noise++] = f;
    *out = (struct param_bytes){ .type = DT_F32, .n_in = n_in, .n_out = n_out, .data = f,
                                 .row_bytes = n_in * sizeof *f, .memory = true };
    return STRETTO_OK;
}

static void write_gradients(const struct graph *g, const struct weights *w, const uint8_t *trained, FILE *out)
{
    struct error err = { 0 };
    for (uint32_t i = 0; i < g->n_params; i++) {
        size_t n = (size_t)g->params[i].n_in * g->params[i].n_out;
        float *x = malloc(n * sizeof *x);
        if (trained[i]) {
            if (!x || backends[0]->param_read(w, i, PARAM_GRADIENT, x, &err) != STRETTO_OK) die(err.text);
            if (fwrite(x, sizeof *x, n, out) != n) die("the gradients cannot be written");
            printf("%s %u %u\n", g->params[i].name, g->params[i].n_in, g->params[i].n_out);
        }
        free(x);
    }
}

static void print_times(struct program *p, const struct job *j)
{
    static struct op_time times[512];
    struct error err = { 0 };
    if (backends[0]->profile(p, true, &err) != STRETTO_OK) die(err.text);
    clock_t cpu = clock();
    for (int i = 0; i < 2; i++)
        if (backends[0]->run(p, &j->step, j->answers, &err) != STRETTO_OK) die(err.text);
    double spent = (double)(clock() - cpu) / CLOCKS_PER_SEC;
    size_t n = backends[0]->profile_read(p, times, 512);
    double all = 0;
    for (size_t i = 0; i < n; i++) all += times[i].seconds;
    for (size_t i = 0; i < n; i++)
        fprintf(stderr, "%5.1f %%  %8.3f s  %7.1f G multiply-adds a second  %s\n", 100 * times[i].seconds / all,
                times[i].seconds / 2, times[i].macs / times[i].seconds / 1e9, times[i].name);
    fprintf(stderr, "%.3f s a step, %.1f rows a second, %.1f rows a second of a core\n", all / 2,
            2 * (double)j->step.n_rows / all, 2 * (double)j->step.n_rows / spent);
}

int main(int argc, char **argv)
{
    static struct job j;
    static struct adapt_pair pairs[MAX_PAIRS];
    struct error err = { 0 };
    if (argc < 4) die("a model, a job and a file for the gradients");
    struct options o = parse(argc, argv);
    struct subject x = { 0 };
    struct model_open_options open = { .graph_only = true };
    if (model_open(&x.model, argv[1], &open, &err) != STRETTO_OK) die(err.text);
    const struct graph *forward = &x.model->graph;
    if (o.rank) {
        size_t n = pairs_of(forward, o.rank, pairs);
        for (size_t i = 0; i < n; i++) pairs[i].chosen = o.every > 0;
        if (adapt(forward, pairs, n, &x.adapted, &err) != STRETTO_OK) die(err.text);
        forward = &x.adapted;
    }
    uint8_t *trained = calloc(forward->n_params, 1);
    for (size_t i = 0; trained && i < forward->n_params; i++)
        trained[i] = o.rank ? adapt_owns(forward->params[i].name)
                            : strncmp(forward->params[i].name, o.train, strlen(o.train)) == 0;
    struct graph g;
    struct differentiate what = { trained, o.layers ? KEEP_LAYERS : KEEP_VALUES };
    if (differentiate(&g, forward, &what, &err) != STRETTO_OK) die(err.text);
    struct device *d;
    struct device_options device = { .level = o.level };
    if (backend_open("cpu", &device, &d, &err) != STRETTO_OK) die(err.text);
    struct binding binding = { &x, find };
    struct upload_options up = { .threads = o.threads, .reference = o.reference, .trained = trained,
                                 .precision = o.bf16 ? PRECISION_BF16 : PRECISION_F32 };
    struct weights *w;
    struct program *p;
    if (device_upload(d, &w, &g, &binding, &up, &err) != STRETTO_OK) die(err.text);
    FILE *job = fopen(argv[2], "r"), *out = fopen(argv[3], "wb");
    if (!job || !out) die("a file cannot be opened");
    char word[16];
    struct program_limits limits = { .max_rows = MAX_ROWS, .max_asks = MAX_ROWS, .threads = o.threads,
                                     .likes = true };
    struct program_bytes bytes;
    while (fscanf(job, "%15s", word) == 1) {
        if (strcmp(word, "most") == 0) limits.max_rows = limits.max_asks = (uint32_t)number(job);
        else if (strcmp(word, "rows") == 0) read_rows(job, &j);
        else if (strcmp(word, "asks") == 0) {
            read_asks(job, &j);
            if (o.every) choose_rows(&j, o.every);
            if (device_compile(d, &p, &g, w, &limits, &err) != STRETTO_OK
                || device_plan(d, &g, w, &limits, &bytes, &err) != STRETTO_OK
                || device_run(d, p, &j.step, j.answers, &err) != STRETTO_OK) die(err.text);
            for (size_t i = 0; i < j.step.n_asks; i++) printf("%.9g\n", (double)j.answer[i].loss);
            if (o.times) print_times(p, &j);
            d->backend->program_close(p);
        } else die("a word that is no step's");
    }
    printf("bytes %llu %llu\n", (unsigned long long)d->backend->weights_bytes(w), (unsigned long long)bytes.buffers);
    write_gradients(&g, w, trained, out);
    fclose(job);
    if (fclose(out) != 0) die("the gradients cannot be written");
    d->backend->weights_close(w);
    device_close(d);
    graph_done(&g);
    graph_done(&x.adapted);
    free(trained);
    for (size_t i = 0; i < x.n_noise; i++) free(x.noise[i]);
    model_close(x.model);
    return 0;
}
