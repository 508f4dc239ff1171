/* The layers W_k are small and float32 here; what costs is the projection to the vocabulary. It is
 * a graph of its own on the model's backend whose rows bring the new states as vectors, so heads that
 * share an output layer read its weights once. */
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "engine/companion.h"
#include "format/safetensors.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_HEADS = 16 };

struct head { float *w, *bias; struct param_bytes output; }; /* w: [width in][width out] */

/* Heads [first, first + n) through one output layer. */
struct projection {
    struct graph graph;
    struct weights *weights;
    struct program *program;
    uint32_t first, n;
};

struct head_file {
    struct companion companion;
    const struct model *model;
    struct file_map map;
    struct device *device;             /* the model's */
    unsigned threads;
    uint32_t n, width, vocab, n_outputs;
    struct head head[MAX_HEADS];
    struct projection projection[MAX_HEADS];
    uint32_t n_projections;
    float *state, *logits;             /* [n][width], [n][vocab] */
    int32_t token[MAX_HEADS];          /* of the last states */
    float p[MAX_HEADS];
    double seconds;                    /* that they take */
};

/* ---- the file ------------------------------------------------------------------------------- */

static bool type_of(const struct st_tensor *t, enum dtype *type)
{
    static const struct { const char *name; enum dtype type; } types[] = {
        { "F32", DT_F32 }, { "F16", DT_F16 }, { "BF16", DT_BF16 } };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(t->dtype, types[i].name) == 0) {
            *type = types[i].type;
            return true;
        }
    return false;
}

static stretto_status shape_is(const struct head_file *h, const struct st_tensor *t, size_t dims,
                               uint64_t a, uint64_t b, struct error *err)
{
    if (t->n_dims == dims && t->shape[0] == a && (dims == 1 || t->shape[1] == b))
        return STRETTO_OK;
    return fail(err, STRETTO_E_FORMAT,
                "%s is %llu x %llu, and this model has a width of %u and %u tokens: the heads are "
                "of another model",
                t->name, (unsigned long long)t->shape[0],
                (unsigned long long)(t->n_dims > 1 ? t->shape[1] : 1), h->width, h->vocab);
}

static stretto_status take_weight(struct head_file *h, struct head *x, const struct st_tensor *t,
                                  enum dtype type, struct error *err)
{
    size_t width = h->width;
    float *row = mem_alloc(width * sizeof *row);
    x->w = mem_alloc(width * width * sizeof *x->w);
    if (!row || !x->w) {
        mem_free(row);
        return fail(err, STRETTO_E_NOMEM, "no memory for the heads");
    }
    for (size_t o = 0; o < width; o++) {
        dtype_table[type].decode(t->data + o * dtype_bytes(type, width), row, width);
        for (size_t i = 0; i < width; i++) x->w[i * width + o] = row[i];
    }
    mem_free(row);
    return STRETTO_OK;
}

static stretto_status visit(void *ctx, const struct st_tensor *t, struct error *err)
{
    struct head_file *h = ctx;
    unsigned k;
    int end = 0;
    enum dtype type;
    size_t width = h->width;
    const char *what = sscanf(t->name, "heads.%2u.%n", &k, &end) == 1 && end ? t->name + end : "";
    bool weight = strcmp(what, "weight") == 0, bias = strcmp(what, "bias") == 0;
    if (!weight && !bias && strcmp(what, "output.weight") != 0)
        return fail(err, STRETTO_E_FORMAT,
                    "the file holds a tensor %s; a file of heads holds heads.K.weight, "
                    "heads.K.bias and heads.K.output.weight",
                    t->name);
    if (k >= MAX_HEADS)
        return fail(err, STRETTO_E_FORMAT, "%s: at most %d heads are read", t->name, MAX_HEADS);
    if (!type_of(t, &type))
        return fail(err, STRETTO_E_UNSUP, "%s is stored as %s; heads are F32, F16 or BF16", t->name,
                    t->dtype);
    struct head *x = &h->head[k];
    if ((weight && x->w) || (bias && x->bias) || (!weight && !bias && x->output.data))
        return fail(err, STRETTO_E_FORMAT, "%s stands in the file twice", t->name);
    if (k >= h->n) h->n = k + 1;
    if (weight) {
        TRY(shape_is(h, t, 2, width, width, err));
        return take_weight(h, x, t, type, err);
    }
    if (bias) {
        TRY(shape_is(h, t, 1, width, 0, err));
        x->bias = mem_alloc(width * sizeof *x->bias);
        if (!x->bias) return fail(err, STRETTO_E_NOMEM, "no memory for the heads");
        dtype_table[type].decode(t->data, x->bias, width);
        return STRETTO_OK;
    }
    TRY(shape_is(h, t, 2, h->vocab, width, err));
    x->output = (struct param_bytes){ .type = type, .n_in = h->width, .n_out = h->vocab,
                                      .data = t->data, .row_bytes = dtype_bytes(type, width) };
    h->n_outputs++;
    return STRETTO_OK;
}

static stretto_status whole(const struct head_file *h, const char *path, struct error *err)
{
    if (!h->n) return fail(err, STRETTO_E_FORMAT, "%s holds no heads", path);
    for (uint32_t k = 0; k < h->n; k++)
        if (!h->head[k].w)
            return fail(err, STRETTO_E_FORMAT, "%s has %u heads and no heads.%u.weight", path,
                        h->n, k);
    if (h->n_outputs && h->n_outputs != h->n)
        return fail(err, STRETTO_E_FORMAT, "%s has output layers for %u of its %u heads", path,
                    h->n_outputs, h->n);
    return STRETTO_OK;
}

/* ---- the projection ------------------------------------------------------------------------- */

struct found { const struct head_file *h; uint32_t first; };

static stretto_status find_param(void *ud, const char *name, uint32_t n_in, uint32_t n_out,
                                 struct param_bytes *out, struct error *err)
{
    const struct found *f = ud;
    const struct head_file *h = f->h;
    if (h->n_outputs) {
        *out = h->head[f->first].output;
        return STRETTO_OK;
    }
    return model_param((void *)(uintptr_t)h->model, name, n_in, n_out, out, err);
}

static stretto_status project_open(struct head_file *h, struct projection *p, struct error *err)
{
    const struct config *c = &h->model->config;
    struct graph_builder b = { .g = &p->graph, .err = err, .layer = -1 };
    int32_t x = graph_ask(&b, graph_input(&b, h->width));
    x = graph_linear(&b, x, c->tied ? "token_embd.weight" : "output.weight", NULL, h->vocab);
    if (c->logit_softcap > 0) x = graph_softcap(&b, x, c->logit_softcap);
    graph_answer(&b, GRAPH_NONE, x);
    TRY(b.status);
    struct found found = { h, p->first };
    struct binding binding = { &found, find_param };
    struct upload_options up = { .threads = h->threads, .reference = h->model->reference };
    TRY(device_upload(h->device, &p->weights, &p->graph, &binding, &up, err));
    struct program_limits limits = { .max_rows = p->n, .max_asks = p->n, .strict = true,
                                     .threads = h->threads };
    return device_compile(h->device, &p->program, &p->graph, p->weights, &limits, err);
}

static stretto_status project(const struct head_file *h, const struct projection *p,
                              struct error *err)
{
    int32_t input[MAX_HEADS], at[MAX_HEADS], zero[MAX_HEADS] = { 0 }, parent[MAX_HEADS];
    uint8_t given[MAX_HEADS] = { 0 }, wants[MAX_HEADS];
    struct answer answer[MAX_HEADS], *answers[MAX_HEADS];
    for (uint32_t i = 0; i < p->n; i++) {
        input[i] = -1 - (int32_t)i;
        at[i] = (int32_t)i;
        parent[i] = (int32_t)i - 1;
        wants[i] = WANT_LOGITS;
        answer[i] = (struct answer){ .logits = h->logits + (size_t)(p->first + i) * h->vocab };
        answers[i] = &answer[i];
    }
    struct step_seq one = { .n_rows = (int32_t)p->n };
    struct step s = { .n_rows = p->n, .n_seqs = 1, .n_asks = p->n, .n_heads = p->n, .token = input,
                      .position = at, .seq = zero, .slot = at, .parent = parent, .given = given,
                      .vectors = h->state + (size_t)p->first * h->width, .seqs = &one, .ask_row = at,
                      .ask_wants = wants };
    TRY(device_run(h->device, p->program, &s, answers, err));
    for (uint32_t i = 0; i < p->n; i++)
        if (answer[i].status != STRETTO_OK)
            return fail(err, answer[i].status, "what head %u says is no number", p->first + i);
    return STRETTO_OK;
}

/* ---- guessing ------------------------------------------------------------------------------- */

static void new_state(const struct head_file *h, const struct head *x, const float *hidden,
                      float *out)
{
    size_t width = h->width;
    for (size_t o = 0; o < width; o++) out[o] = x->bias ? x->bias[o] : 0;
    for (size_t i = 0; i < width; i++)
        for (size_t o = 0; o < width; o++) out[o] += hidden[i] * x->w[i * width + o];
    for (size_t o = 0; o < width; o++) out[o] = hidden[o] + out[o] / (1 + expf(-out[o]));
}

static int32_t best_of(const float *logits, uint32_t n, float *p)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++) best = logits[i] > logits[best] ? i : best;
    *p = logit_probability(logits, n, logits[best]);
    return (int32_t)best;
}

stretto_status heads_guess(struct head_file *h, const float *hidden, int32_t *token, float *p,
                           uint32_t *n, struct error *err)
{
    *n = h->n;
    if (!token || !p) return STRETTO_OK;
    for (uint32_t k = 0; k < h->n; k++)
        new_state(h, &h->head[k], hidden, h->state + (size_t)k * h->width);
    for (uint32_t i = 0; i < h->n_projections; i++) TRY(project(h, &h->projection[i], err));
    for (uint32_t k = 0; k < h->n; k++)
        token[k] = best_of(h->logits + (size_t)k * h->vocab, h->vocab, &p[k]);
    return STRETTO_OK;
}

static stretto_status guess(void *ud, const struct timeline *t, uint32_t k, double spend,
                            int32_t *token, float *p, struct error *err)
{
    struct head_file *h = ud;
    *token = -1;
    *p = 0;
    (void)spend;
    if (!h->companion.hidden || h->companion.hidden_at != t->n || k >= h->n) return STRETTO_OK;
    if (k == 0) {
        uint32_t n;
        double begin = clock_seconds();
        struct error ignored = { 0 };
        stretto_status s = heads_guess(h, h->companion.hidden, h->token, h->p, &n, &ignored);
        if (s == STRETTO_E_NAN)        /* they have nothing to say; the text goes on */
            for (n = 0; n < h->n; n++) h->token[n] = -1;
        else if (s != STRETTO_OK) return fail(err, s, "%s", ignored.text);
        h->seconds += (clock_seconds() - begin - h->seconds) / 8;
    }
    *token = h->token[k];
    *p = h->p[k];
    return STRETTO_OK;
}

/* All heads at once, so all of their time is the first one's. */
static struct guess_price price(void *ud, const struct timeline *t, double spend)
{
    const struct head_file *h = ud;
    (void)spend;
    return (struct guess_price){
        .first = h->seconds, .silent = !h->companion.hidden || h->companion.hidden_at != t->n };
}

static stretto_status open_into(struct head_file *h, struct engine *target, const char *path,
                                struct error *err)
{
    h->width = h->model->config.width;
    h->vocab = h->model->config.vocab;
    TRY(file_map_open(&h->map, path, err));
    TRY(safetensors_read(&h->map, path, visit, h, err));
    TRY(whole(h, path, err));
    h->state = mem_zalloc((size_t)h->n * h->width, sizeof *h->state);
    h->logits = mem_zalloc((size_t)h->n * h->vocab, sizeof *h->logits);
    if (!h->state || !h->logits) return fail(err, STRETTO_E_NOMEM, "no memory for the heads");
    h->threads = engine_about(target)->threads;
    uint32_t step = h->n_outputs ? 1 : h->n;
    for (uint32_t first = 0; first < h->n; first += step) {
        struct projection *p = &h->projection[h->n_projections++];
        p->first = first;
        p->n = step;
        TRY(project_open(h, p, err));
    }
    uint32_t n;
    for (int i = 0; i < 2; i++) {          /* the first time touches their pages */
        double begin = clock_seconds();
        memset(h->logits, 0, h->width * sizeof *h->logits);     /* a hidden state, until it is written */
        TRY(heads_guess(h, h->logits, h->token, h->p, &n, err));
        h->seconds = clock_seconds() - begin;
    }
    return STRETTO_OK;
}

stretto_status heads_open(struct head_file **out, struct engine *target, const char *path,
                          struct error *err)
{
    *out = NULL;
    struct head_file *h = mem_zalloc(1, sizeof *h);
    if (!h) return fail(err, STRETTO_E_NOMEM, "out of memory");
    h->model = engine_model(target);
    h->device = h->model->device;
    h->companion = (struct companion){ .ud = h, .price = price, .guess = guess,
                                       .wants_hidden = true };
    stretto_status s = open_into(h, target, path, err);
    if (s != STRETTO_OK) heads_close(h);
    else *out = h;
    return s;
}

void heads_close(struct head_file *h)
{
    if (!h) return;
    for (uint32_t i = 0; i < h->n_projections; i++) {
        struct projection *p = &h->projection[i];
        if (p->program) h->device->backend->program_close(p->program);
        if (p->weights) h->device->backend->weights_close(p->weights);
        graph_done(&p->graph);
    }
    for (uint32_t k = 0; k < MAX_HEADS; k++) {
        mem_free(h->head[k].w);
        mem_free(h->head[k].bias);
    }
    file_map_close(&h->map);
    mem_free(h->state);
    mem_free(h->logits);
    mem_free(h);
}

struct companion *heads_companion(struct head_file *h) { return h ? &h->companion : NULL; }
