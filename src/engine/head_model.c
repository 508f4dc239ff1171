/* Medusa's layers W_k are small and float32 here; what costs is the projection to the vocabulary. It is a graph of its
 * own on the device whose rows bring the new states as vectors, so heads that share an output layer read its weights
 * once. The recursive head is one graph whose rows bring state and embedding side by side; its matrices become Q8_0, so
 * that they are read in a quarter of the time (with --reference they are float32). */
#include "engine/head_model.h"
#include "base/clock.h"
#include "base/memory.h"
#include "decode/learned.h"
#include "engine/companion.h"
#include "engine/head_file.h"
#include "graph/step.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A graph on the device: the recursive head, or Medusa's [first, first + n) through one output layer. */
struct stage {
    struct graph graph;
    struct weights *weights;
    struct program *program;
    uint32_t first, n;
};

enum { MATRICES = 4 };                 /* of the recursive head, as they are served */
static const char *const matrix_names[MATRICES] = { "recursive.input.weight", "recursive.gate.weight",
                                                    "recursive.up.weight", "recursive.down.weight" };

struct head_model {
    struct head_setup setup;
    const char *path;
    struct file_map map;
    struct head_file file;
    uint32_t width, n, guessed;        /* n: states of a place; guessed: tokens that can be */
    struct param_bytes matrix[MATRICES], slice, table; /* slice: rows of the output layer; table: of embeddings */
    void *owned[MATRICES + 1];
    struct stage stage[MAX_HEADS];
    uint32_t n_stages;
    struct head_place *place;          /* [places]                                        */
    float *state, *logits;             /* [places][n][width], [places][n][guessed]        */
    float *input;                      /* [places * n][width], of the recursive one twice as wide */
    struct row_arrays {                /* of a step, [places * n]                         */
        int32_t *token, *at, *parent, *zero;
        uint8_t *given, *wants;
        struct answer *answer, **answers;
    } rows;
    void *memory;
    size_t bytes;
};

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "no memory for the heads"); }

bool head_model_recursive(const struct head_model *m) { return m->file.feed > 0; }
uint32_t head_model_depth(const struct head_model *m) { return m->file.feed ? MAX_HEADS : m->file.n; }
const struct head_place *head_model_place(const struct head_model *m, uint32_t place) { return &m->place[place]; }

/* ---- whose they are ------------------------------------------------------------------------- */

void head_about(const struct model *m, struct head_about out[HEAD_ABOUT])
{
    static const char *const keys[HEAD_ABOUT] = { "architecture", "layers", "width", "vocabulary" };
    const struct config *c = &m->config;
    for (int i = 0; i < HEAD_ABOUT; i++) out[i].key = keys[i];
    snprintf(out[0].value, sizeof out[0].value, "%s", m->family->name);
    snprintf(out[1].value, sizeof out[1].value, "%u", c->layers);
    snprintf(out[2].value, sizeof out[2].value, "%u", c->width);
    snprintf(out[3].value, sizeof out[3].value, "%u tokens, %016llx", c->vocab,
             (unsigned long long)learned_vocabulary(m->tokenizer, c->vocab));
}

/* A text of the metadata, NULL where there is none. */
static char *about(const struct head_model *m, const char *key)
{
    struct error ignored = { 0 };
    char *value = NULL;
    return safetensors_about(&m->map, m->path, key, &value, &ignored) == STRETTO_OK ? value : NULL;
}

static stretto_status same_model(const struct head_model *m, struct error *err)
{
    struct head_about own[HEAD_ABOUT];
    char *format = about(m, "format");
    bool ours = format && strcmp(format, HEAD_FORMAT) == 0;
    mem_free(format);
    if (!ours) return STRETTO_OK;
    head_about(m->setup.model, own);
    for (int i = 0; i < HEAD_ABOUT; i++) {
        char *its = about(m, own[i].key);
        bool same = its && strcmp(its, own[i].value) == 0;
        if (!same)
            fail(err, STRETTO_E_FORMAT, "the heads of %s are of another model: its %s is %.60s, and this one's %s",
                 m->path, own[i].key, its ? its : "not told", own[i].value);
        mem_free(its);
        if (!same) return STRETTO_E_FORMAT;
    }
    return STRETTO_OK;
}

/* ---- weights -------------------------------------------------------------------------------- */

static const char *output_name(const struct config *c) { return c->tied ? "token_embd.weight" : "output.weight"; }

/* Rows of several tensors of the file side by side, as one matrix. */
static stretto_status take_matrix(struct head_model *m, int k, const int *part, int n, struct error *err)
{
    const struct param_bytes *first = &m->file.part[part[0]];
    uint32_t n_in = first->n_in * (uint32_t)n;
    bool codes = !m->setup.model->reference && n_in % dtype_table[DT_Q8_0].block == 0;
    enum dtype type = codes ? DT_Q8_0 : DT_F32;
    size_t row_bytes = dtype_bytes(type, n_in);
    float *row = mem_alloc(n_in * sizeof *row);
    m->owned[k] = mem_alloc(first->n_out * row_bytes);
    for (uint32_t o = 0; row && m->owned[k] && o < first->n_out; o++) {
        char *to = (char *)m->owned[k] + o * row_bytes;
        for (int i = 0; i < n; i++) {
            const struct param_bytes *p = &m->file.part[part[i]];
            dtype_table[p->type].decode((const char *)p->data + o * p->row_bytes, row + (size_t)i * p->n_in, p->n_in);
        }
        if (codes) dtype_table[DT_Q8_0].encode(row, to, n_in);
        else memcpy(to, row, row_bytes);
    }
    mem_free(row);
    if (!row || !m->owned[k]) return no_memory(err);
    m->matrix[k] = (struct param_bytes){ .type = type, .n_in = n_in, .n_out = first->n_out, .data = m->owned[k],
                                         .row_bytes = row_bytes, .memory = true };
    return STRETTO_OK;
}

static stretto_status take_matrices(struct head_model *m, struct error *err)
{
    TRY(take_matrix(m, 0, (const int[]){ PART_STATE, PART_TOKEN }, 2, err));
    for (int k = 1; k < MATRICES; k++) TRY(take_matrix(m, k, (const int[]){ PART_TOKEN + k }, 1, err));
    return STRETTO_OK;
}

stretto_status head_slice(const struct model *model, const int32_t *token, uint32_t n, struct param_bytes *out,
                          struct error *err)
{
    const struct config *c = &model->config;
    struct param_bytes all;
    TRY(model_param((void *)(uintptr_t)model, output_name(c), c->width, c->vocab, &all, err));
    if (all.transposed)
        return fail(err, STRETTO_E_UNSUP, "the output layer is stored by inputs, so no rows of it can be read alone");
    size_t bytes = dtype_bytes(all.type, c->width);
    char *rows = mem_alloc(n * bytes);
    if (!rows) return no_memory(err);
    for (uint32_t i = 0; i < n; i++)
        memcpy(rows + i * bytes, (const char *)all.data + (size_t)token[i] * all.row_bytes, bytes);
    *out = (struct param_bytes){ .type = all.type, .n_in = c->width, .n_out = n, .data = rows, .row_bytes = bytes,
                                 .add = all.add, .memory = true };
    return STRETTO_OK;
}

struct found { const struct head_model *m; uint32_t first; };

static stretto_status find_param(void *ud, const char *name, uint32_t n_in, uint32_t n_out,
                                 struct param_bytes *out, struct error *err)
{
    const struct found *f = ud;
    const struct head_model *m = f->m;
    for (int k = 0; k < MATRICES; k++)
        if (strcmp(name, matrix_names[k]) == 0) {
            *out = m->matrix[k];
            return STRETTO_OK;
        }
    if (m->file.n_outputs) *out = m->file.head[f->first].output;
    else if (m->slice.data) *out = m->slice;
    else return model_param((void *)(uintptr_t)m->setup.model, name, n_in, n_out, out, err);
    return STRETTO_OK;
}

/* ---- graphs --------------------------------------------------------------------------------- */

int32_t head_block(struct graph_builder *b, int32_t u, uint32_t feed)
{
    uint32_t width = u == GRAPH_NONE ? 0 : b->g->values[u].width;
    int32_t x = graph_norm(b, u, NORM_RMS, HEAD_EPS, 0, NULL, NULL);
    int32_t gate = graph_act(b, graph_linear(b, x, matrix_names[1], NULL, feed), ACT_SILU);
    int32_t both = graph_mul(b, gate, graph_linear(b, x, matrix_names[2], NULL, feed));
    return graph_add(b, u, graph_linear(b, both, matrix_names[3], NULL, width));
}

/* The state behind a row's state and embedding. */
static int32_t recursive_state(const struct head_model *m, struct graph_builder *b)
{
    int32_t x = graph_norm(b, graph_input(b, 2 * m->width), NORM_RMS, HEAD_EPS, m->width, NULL, NULL);
    return head_block(b, graph_linear(b, x, matrix_names[0], NULL, m->width), m->file.feed);
}

static stretto_status stage_open(struct head_model *m, struct stage *s, struct error *err)
{
    const struct config *c = &m->setup.model->config;
    struct graph_builder b = { .g = &s->graph, .err = err, .layer = -1 };
    bool recursive = head_model_recursive(m);
    int32_t x = graph_ask(&b, recursive ? recursive_state(m, &b) : graph_input(&b, m->width));
    int32_t logits = graph_linear(&b, x, output_name(c), NULL, m->guessed);
    if (c->logit_softcap > 0) logits = graph_softcap(&b, logits, c->logit_softcap);
    graph_answer(&b, recursive ? x : GRAPH_NONE, logits);
    TRY(b.status);
    struct found found = { m, s->first };
    struct binding binding = { &found, find_param };
    struct upload_options up = { .threads = m->setup.threads, .reference = m->setup.model->reference };
    TRY(device_upload(m->setup.device, &s->weights, &s->graph, &binding, &up, err));
    uint32_t most = s->n * m->setup.places;
    struct program_limits limits = { .max_rows = most, .max_asks = most, .strict = true,
                                     .threads = m->setup.threads };
    return device_compile(m->setup.device, &s->program, &s->graph, s->weights, &limits, err);
}

/* ---- a run ---------------------------------------------------------------------------------- */

static void new_state(const struct head_file *f, const struct head *x, const float *hidden, float *out)
{
    size_t width = f->width;
    for (size_t o = 0; o < width; o++) out[o] = x->bias ? x->bias[o] : 0;
    for (size_t i = 0; i < width; i++)
        for (size_t o = 0; o < width; o++) out[o] += hidden[i] * x->w[i * width + o];
    for (size_t o = 0; o < width; o++) out[o] = hidden[o] + out[o] / (1 + expf(-out[o]));
}

/* The state beside the embedding of the token that stands behind it. */
static void put_pair(const struct head_model *m, const float *state, int32_t token, float *out)
{
    memcpy(out, state, m->width * sizeof *out);
    dtype_table[m->table.type].decode((const char *)m->table.data + (size_t)token * m->table.row_bytes, out + m->width,
                                      m->width);
}

/* The row of state k of place i is number r of the step. */
static void put_row(struct head_model *m, uint32_t i, uint32_t k, size_t r)
{
    struct row_arrays *x = &m->rows;
    size_t at = (size_t)i * m->n + k, width = m->width;
    float *state = m->state + at * width;
    const struct head_place *p = &m->place[i];
    if (head_model_recursive(m)) put_pair(m, state, p->token[p->n], m->input + 2 * r * width);
    else memcpy(m->input + r * width, state, width * sizeof *m->input);
    x->token[r] = -1 - (int32_t)r;
    x->at[r] = (int32_t)r;
    x->parent[r] = (int32_t)r - 1;
    x->given[r] = 0;
    x->wants[r] = head_model_recursive(m) ? WANT_LOGITS | WANT_HIDDEN : WANT_LOGITS;
    x->answer[r] = (struct answer){ .logits = m->logits + at * m->guessed, .hidden = state };
    x->answers[r] = &x->answer[r];
}

/* The states of all who ask, through one stage. */
static stretto_status run_stage(struct head_model *m, const struct stage *g, struct error *err)
{
    struct row_arrays *x = &m->rows;
    size_t n = 0;
    for (uint32_t i = 0; i < m->setup.places; i++)
        for (uint32_t k = g->first; m->place[i].asks && k < g->first + g->n; k++) put_row(m, i, k, n++);
    struct step_seq one = { .n_rows = (int32_t)n };
    struct step s = { .n_rows = n, .n_seqs = 1, .n_asks = n, .n_heads = n, .token = x->token, .position = x->at,
                      .seq = x->zero, .slot = x->at, .parent = x->parent, .given = x->given, .vectors = m->input,
                      .seqs = &one, .ask_row = x->at, .ask_wants = x->wants };
    TRY(device_run(m->setup.device, g->program, &s, x->answers, err));
    n = 0;
    for (uint32_t i = 0; i < m->setup.places; i++)
        for (uint32_t k = g->first; m->place[i].asks && k < g->first + g->n; k++, n++)
            if (x->answer[n].status != STRETTO_OK)
                fail(&m->place[i].failed, x->answer[n].status, "what head %u says is no number",
                     head_model_recursive(m) ? m->place[i].n : k);
    return STRETTO_OK;
}

static int32_t best_of(const struct head_model *m, const float *logits, float *p)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < m->guessed; i++) best = logits[i] > logits[best] ? i : best;
    *p = logit_probability(logits, m->guessed, logits[best]);
    return m->file.token ? m->file.token[best] : (int32_t)best;
}

void head_model_begin(struct head_model *m, uint32_t place, const float *hidden, int32_t token)
{
    struct head_place *p = &m->place[place];
    float *state = m->state + (size_t)place * m->n * m->width;
    *p = (struct head_place){ .asks = true, .token = { token } };
    if (head_model_recursive(m)) memcpy(state, hidden, m->width * sizeof *state);
    for (uint32_t k = 0; k < m->file.n; k++)
        new_state(&m->file, &m->file.head[k], hidden, state + (size_t)k * m->width);
}

void head_model_forget(struct head_model *m, uint32_t place) { m->place[place] = (struct head_place){ .n = 0 }; }

/* The token that its next guess reads stands where that guess will. */
void head_model_next(struct head_model *m, uint32_t place)
{
    struct head_place *p = &m->place[place];
    p->asks = head_model_recursive(m) && p->n && p->n < MAX_HEADS && p->failed.status == STRETTO_OK;
    if (p->asks) p->token[p->n] = p->token[p->n - 1];
}

static void take_guesses(struct head_model *m, uint32_t place)
{
    struct head_place *p = &m->place[place];
    for (uint32_t k = 0; k < m->n; k++) {
        uint32_t at = head_model_recursive(m) ? p->n : k;
        p->token[at] = best_of(m, m->logits + ((size_t)place * m->n + k) * m->guessed, &p->p[at]);
        if (p->failed.status != STRETTO_OK) p->token[at] = -1;
    }
    p->n += m->n;
    p->asks = false;
}

stretto_status head_model_run(struct head_model *m, struct error *err)
{
    bool any = false;
    for (uint32_t i = 0; i < m->setup.places; i++) any |= m->place[i].asks;
    if (!any) return STRETTO_OK;
    for (uint32_t i = 0; i < m->n_stages; i++) TRY(run_stage(m, &m->stage[i], err));
    for (uint32_t i = 0; i < m->setup.places; i++)
        if (m->place[i].asks) take_guesses(m, i);
    return STRETTO_OK;
}

/* ---- opening -------------------------------------------------------------------------------- */

static void take_all(struct head_model *m, struct arena *a)
{
    size_t n = (size_t)m->setup.places * m->n, wide = head_model_recursive(m) ? 2 : 1;
    m->place = arena_take(a, m->setup.places * sizeof *m->place);
    m->state = arena_take(a, n * m->width * sizeof *m->state);
    m->input = arena_take(a, n * wide * m->width * sizeof *m->input);
    m->logits = arena_take(a, n * m->guessed * sizeof *m->logits);
    m->rows = (struct row_arrays){
        .token = arena_take(a, n * sizeof(int32_t)), .at = arena_take(a, n * sizeof(int32_t)),
        .parent = arena_take(a, n * sizeof(int32_t)), .zero = arena_take(a, n * sizeof(int32_t)),
        .given = arena_take(a, n), .wants = arena_take(a, n),
        .answer = arena_take(a, n * sizeof(struct answer)),
        .answers = arena_take(a, n * sizeof(struct answer *)) };
}

static stretto_status take_memory(struct head_model *m, struct error *err)
{
    struct arena a = { 0 };
    take_all(m, &a);
    m->bytes = a.top;
    m->memory = mem_map(m->bytes);
    if (!m->memory) return no_memory(err);
    a = (struct arena){ .base = m->memory, .cap = m->bytes };
    take_all(m, &a);
    return STRETTO_OK;
}

/* Heads with output layers of their own are projected one by one; those that share the model's, together. */
static stretto_status open_into(struct head_model *m, struct error *err)
{
    const struct model *of = m->setup.model;
    const struct config *c = &of->config;
    m->width = m->file.width = c->width;
    m->file.vocab = c->vocab;
    TRY(file_map_open(&m->map, m->path, err));
    TRY(head_file_read(&m->file, &m->map, m->path, err));
    TRY(same_model(m, err));
    bool recursive = head_model_recursive(m);
    m->n = recursive ? 1 : m->file.n;
    m->guessed = m->file.token ? m->file.n_tokens : c->vocab;
    if (m->file.token) {
        TRY(head_slice(of, m->file.token, m->file.n_tokens, &m->slice, err));
        m->owned[MATRICES] = (void *)(uintptr_t)m->slice.data;
    }
    if (recursive) {
        TRY(take_matrices(m, err));
        TRY(model_param((void *)(uintptr_t)of, "token_embd.weight", c->width, 0, &m->table, err));
        if (m->table.transposed)
            return fail(err, STRETTO_E_UNSUP, "a table of embeddings by columns cannot be looked up");
    }
    TRY(take_memory(m, err));
    uint32_t step = m->file.n_outputs ? 1 : m->n;
    for (uint32_t first = 0; first < m->n; first += step) {
        struct stage *s = &m->stage[m->n_stages++];
        s->first = first;
        s->n = step;
        TRY(stage_open(m, s, err));
    }
    return STRETTO_OK;
}

stretto_status head_model_open(struct head_model **out, const char *path, const struct head_setup *s,
                               struct error *err)
{
    struct head_model *m = mem_zalloc(1, sizeof *m);
    *out = NULL;
    if (!m) return no_memory(err);
    m->setup = *s;
    m->path = path;
    stretto_status st = open_into(m, err);
    if (st == STRETTO_OK) *out = m;
    else head_model_close(m);
    return st;
}

void head_model_close(struct head_model *m)
{
    if (!m) return;
    const struct backend *b = m->setup.device->backend;
    for (uint32_t i = 0; i < m->n_stages; i++) {
        struct stage *s = &m->stage[i];
        if (s->program) b->program_close(s->program);
        if (s->weights) b->weights_close(s->weights);
        graph_done(&s->graph);
    }
    for (int k = 0; k <= MATRICES; k++) mem_free(m->owned[k]);
    head_file_done(&m->file);
    file_map_close(&m->map);
    mem_unmap(m->memory, m->bytes);
    mem_free(m);
}
