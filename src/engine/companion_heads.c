/* The layers W_k are small and float32 here; what costs is the projection to the vocabulary. It is
 * a graph of its own on the model's backend whose rows bring the new states as vectors, so heads that
 * share an output layer read its weights once. */
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "engine/companion.h"
#include "engine/engine_int.h"
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

/* The heads of a file, for all writers of an engine that want them: their states share its steps. */
struct head_file {
    struct head_file *next;            /* of the target's */
    struct engine *target;
    char *path;
    unsigned users;
    const struct model *model;
    struct file_map map;
    struct device *device;             /* the model's */
    unsigned threads;
    uint32_t n, width, vocab, n_outputs;
    struct head head[MAX_HEADS];
    struct projection projection[MAX_HEADS];
    uint32_t n_projections;
    uint32_t slots;                    /* writers at most */
    struct heads **who;                /* [slots] who has a place there */
    float *state, *logits;             /* [slots][n][width], [slots][n][vocab] */
    float *input;                      /* [slots * n][width] of a step */
    struct row_arrays {                /* of a step, [slots * n] */
        int32_t *token, *at, *parent, *zero;
        uint8_t *given, *wants;
        struct answer *answer, **answers;
    } rows;
    double seconds;                    /* that one writer's guesses take */
    void *memory;
    size_t bytes;
};

/* One writer's. */
struct heads {
    struct companion companion;
    struct head_file *file;
    uint32_t slot;
    bool asks;
    struct error failed;
    int32_t token[MAX_HEADS];          /* of the last hidden state */
    float p[MAX_HEADS];
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

/* One tensor of the file (companion.h says what it holds). What has another name, shape or type is refused:
 * heads of another model would only cost time. */
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
    uint32_t most = p->n * h->slots;
    struct program_limits limits = { .max_rows = most, .max_asks = most, .strict = true,
                                     .threads = h->threads };
    return device_compile(h->device, &p->program, &p->graph, p->weights, &limits, err);
}

/* The states of all who ask, through one output layer. */
static stretto_status project(struct head_file *h, const struct projection *p, struct error *err)
{
    struct row_arrays *r = &h->rows;
    size_t n = 0, width = h->width;
    for (uint32_t i = 0; i < h->slots; i++)
        for (uint32_t k = p->first; h->who[i] && h->who[i]->asks && k < p->first + p->n; k++, n++) {
            size_t at = (size_t)i * h->n + k;
            memcpy(h->input + n * width, h->state + at * width, width * sizeof *h->input);
            r->token[n] = -1 - (int32_t)n;
            r->at[n] = (int32_t)n;
            r->parent[n] = (int32_t)n - 1;
            r->given[n] = 0;
            r->wants[n] = WANT_LOGITS;
            r->answer[n] = (struct answer){ .logits = h->logits + at * h->vocab };
            r->answers[n] = &r->answer[n];
        }
    struct step_seq one = { .n_rows = (int32_t)n };
    struct step s = { .n_rows = n, .n_seqs = 1, .n_asks = n, .n_heads = n, .token = r->token,
                      .position = r->at, .seq = r->zero, .slot = r->at, .parent = r->parent,
                      .given = r->given, .vectors = h->input, .seqs = &one, .ask_row = r->at,
                      .ask_wants = r->wants };
    TRY(device_run(h->device, p->program, &s, r->answers, err));
    n = 0;
    for (uint32_t i = 0; i < h->slots; i++)
        for (uint32_t k = p->first; h->who[i] && h->who[i]->asks && k < p->first + p->n; k++, n++)
            if (r->answer[n].status != STRETTO_OK)
                fail(&h->who[i]->failed, r->answer[n].status, "what head %u says is no number", k);
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

/* The states of one writer's heads; they are projected by run. */
static void ask_states(struct heads *x, const float *hidden)
{
    struct head_file *h = x->file;
    for (uint32_t k = 0; k < h->n; k++)
        new_state(h, &h->head[k], hidden, h->state + ((size_t)x->slot * h->n + k) * h->width);
    error_clear(&x->failed);
    x->asks = true;
}

/* All who have asked, in the same steps. */
static stretto_status run(void *ud, struct error *err)
{
    struct head_file *h = ((struct heads *)ud)->file;
    uint32_t asking = 0;
    double begin = clock_seconds();
    for (uint32_t i = 0; i < h->slots; i++) asking += h->who[i] && h->who[i]->asks;
    if (!asking) return STRETTO_OK;
    for (uint32_t i = 0; i < h->n_projections; i++) TRY(project(h, &h->projection[i], err));
    for (uint32_t i = 0; i < h->slots; i++) {
        struct heads *x = h->who[i];
        if (!x || !x->asks) continue;
        x->asks = false;
        for (uint32_t k = 0; k < h->n; k++)
            x->token[k] = best_of(h->logits + ((size_t)i * h->n + k) * h->vocab, h->vocab, &x->p[k]);
        for (uint32_t k = 0; k < h->n && x->failed.status != STRETTO_OK; k++) x->token[k] = -1;
    }
    if (asking == 1) h->seconds += (clock_seconds() - begin - h->seconds) / 8;
    return STRETTO_OK;
}

stretto_status heads_guess(struct heads *x, const float *hidden, int32_t *token, float *p,
                           uint32_t *n, struct error *err)
{
    struct head_file *h = x->file;
    *n = h->n;
    if (!token || !p) return STRETTO_OK;
    ask_states(x, hidden);
    TRY(run(x, err));
    memcpy(token, x->token, h->n * sizeof *token);
    memcpy(p, x->p, h->n * sizeof *p);
    return x->failed.status == STRETTO_OK ? STRETTO_OK : fail(err, x->failed.status, "%s", x->failed.text);
}

/* All heads at once: only the first guess is worth a step. */
static stretto_status ask(void *ud, const struct timeline *t, uint32_t k, double spend, struct error *err)
{
    struct heads *x = ud;
    (void)spend;
    (void)err;
    if (k) return STRETTO_OK;
    for (uint32_t i = 0; i < MAX_HEADS; i++) x->token[i] = -1;
    if (x->companion.hidden && x->companion.hidden_at == t->n) ask_states(x, x->companion.hidden);
    return STRETTO_OK;
}

/* Where what they say is no number they have nothing to say; the text goes on. */
static stretto_status take(void *ud, uint32_t k, int32_t *token, float *p, struct error *err)
{
    struct heads *x = ud;
    (void)err;
    *token = k < x->file->n ? x->token[k] : -1;
    *p = k < x->file->n ? x->p[k] : 0;
    return STRETTO_OK;
}

/* All of their time is the first one's. */
static struct guess_price price(void *ud, const struct timeline *t, double spend)
{
    const struct heads *x = ud;
    (void)spend;
    return (struct guess_price){
        .first = x->file->seconds,
        .silent = !x->companion.hidden || x->companion.hidden_at != t->n };
}

/* ---- opening -------------------------------------------------------------------------------- */

static void take_all(struct head_file *h, struct arena *a)
{
    size_t n = (size_t)h->slots * h->n;
    h->who = arena_take(a, h->slots * sizeof(struct heads *));
    h->state = arena_take(a, n * h->width * sizeof *h->state);
    h->input = arena_take(a, n * h->width * sizeof *h->input);
    h->logits = arena_take(a, n * h->vocab * sizeof *h->logits);
    h->rows = (struct row_arrays){
        .token = arena_take(a, n * sizeof(int32_t)), .at = arena_take(a, n * sizeof(int32_t)),
        .parent = arena_take(a, n * sizeof(int32_t)), .zero = arena_take(a, n * sizeof(int32_t)),
        .given = arena_take(a, n), .wants = arena_take(a, n),
        .answer = arena_take(a, n * sizeof(struct answer)),
        .answers = arena_take(a, n * sizeof(struct answer *)) };
}

/* With its last user. */
static void file_close(struct head_file *h)
{
    struct head_file **at = &h->target->heads;
    if (--h->users) return;
    while (*at != h) at = &(*at)->next;
    *at = h->next;
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
    mem_unmap(h->memory, h->bytes);
    mem_free(h->path);
    mem_free(h);
}

/* Heads with output layers of their own are projected one by one; those that share the model's read its
 * weights once, together. */
static stretto_status file_open_into(struct head_file *h, struct error *err)
{
    struct arena a = { 0 };
    h->model = engine_model(h->target);
    h->device = h->model->device;
    h->width = h->model->config.width;
    h->vocab = h->model->config.vocab;
    h->slots = engine_about(h->target)->sequences;
    h->threads = engine_about(h->target)->threads;
    TRY(file_map_open(&h->map, h->path, err));
    TRY(safetensors_read(&h->map, h->path, visit, h, err));
    TRY(whole(h, h->path, err));
    take_all(h, &a);
    h->bytes = a.top;
    h->memory = mem_map(h->bytes);
    if (!h->memory) return fail(err, STRETTO_E_NOMEM, "no memory for the heads");
    a = (struct arena){ .base = h->memory, .cap = h->bytes };
    take_all(h, &a);
    uint32_t step = h->n_outputs ? 1 : h->n;
    for (uint32_t first = 0; first < h->n; first += step) {
        struct projection *p = &h->projection[h->n_projections++];
        p->first = first;
        p->n = step;
        TRY(project_open(h, p, err));
    }
    return STRETTO_OK;
}

static stretto_status file_open(struct head_file **out, struct engine *target, const char *path,
                                struct error *err)
{
    for (*out = target->heads; *out && strcmp((*out)->path, path) != 0;) *out = (*out)->next;
    if (*out) {
        (*out)->users++;
        return STRETTO_OK;
    }
    struct head_file *h = mem_zalloc(1, sizeof *h);
    if (!h) return fail(err, STRETTO_E_NOMEM, "out of memory");
    *h = (struct head_file){ .next = target->heads, .target = target, .users = 1 };
    target->heads = h;
    size_t n = strlen(path) + 1;
    h->path = mem_alloc(n);
    if (h->path) memcpy(h->path, path, n);
    stretto_status s = h->path ? file_open_into(h, err) : fail(err, STRETTO_E_NOMEM, "out of memory");
    if (s != STRETTO_OK) file_close(h);
    else *out = h;
    return s;
}

/* A place for one writer. The file's first tells what its heads cost. */
static stretto_status open_into(struct heads *x, struct engine *target, const char *path,
                                struct error *err)
{
    TRY(file_open(&x->file, target, path, err));
    struct head_file *h = x->file;
    while (x->slot < h->slots && h->who[x->slot]) x->slot++;
    if (x->slot == h->slots)
        return fail(err, STRETTO_E_FULL, "%u writers use these heads already", h->slots);
    h->who[x->slot] = x;
    float *any = h->logits + (size_t)x->slot * h->n * h->vocab;    /* a hidden state, until it is written */
    for (int i = 0; i < 2 && h->users == 1; i++) {   /* what it costs; the first time touches its pages */
        uint32_t n;
        int32_t token[MAX_HEADS];
        float p[MAX_HEADS];
        double begin = clock_seconds();
        memset(any, 0, h->width * sizeof *any);
        TRY(heads_guess(x, any, token, p, &n, err));
        h->seconds = clock_seconds() - begin;
    }
    return STRETTO_OK;
}

stretto_status heads_open(struct heads **out, struct engine *target, const char *path,
                          struct error *err)
{
    *out = NULL;
    struct heads *x = mem_zalloc(1, sizeof *x);
    if (!x) return fail(err, STRETTO_E_NOMEM, "out of memory");
    x->companion = (struct companion){ .ud = x, .price = price, .ask = ask, .run = run, .take = take,
                                       .wants_hidden = true };
    stretto_status s = open_into(x, target, path, err);
    if (s != STRETTO_OK) heads_close(x);
    else *out = x;
    return s;
}

void heads_close(struct heads *x)
{
    if (!x) return;
    if (x->file) {
        if (x->file->who && x->slot < x->file->slots && x->file->who[x->slot] == x)
            x->file->who[x->slot] = NULL;
        file_close(x->file);
    }
    mem_free(x);
}

bool heads_are_of(const struct heads *x, const char *path) { return x && strcmp(x->file->path, path) == 0; }

struct companion *heads_companion(struct heads *x) { return x ? &x->companion : NULL; }
