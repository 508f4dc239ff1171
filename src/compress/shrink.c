/* See shrink_int.h. */
#include "compress/shrink_int.h"
#include "base/memory.h"
#include <stdio.h>
#include <string.h>

static stretto_status overlay_find(void *ud, const char *name, uint32_t n_in, uint32_t n_out, struct param_bytes *out,
                                   struct error *err)
{
    struct overlay *o = ud;
    for (size_t i = 0; i < o->n; i++) {
        if (strcmp(o->own[i].name, name) != 0) continue;
        if (o->own[i].n_in != n_in || (n_out && o->own[i].n_out != n_out))
            return fail(err, STRETTO_E_ARG, "%s has another shape than the model's", name);
        *out = (struct param_bytes){ .type = DT_F32, .n_in = n_in, .n_out = o->own[i].n_out, .data = o->own[i].data,
                                     .row_bytes = n_in * sizeof(float), .memory = true };
        return STRETTO_OK;
    }
    return o->base->find(o->base->ud, name, n_in, n_out, out, err);
}

struct binding overlay_binding(struct overlay *o) { return (struct binding){ o, overlay_find }; }

const char *layer_param(char name[GRAPH_NAME], uint32_t layer, const char *what)
{
    snprintf(name, GRAPH_NAME, "blk.%u.%s", layer, what);
    return name;
}

/* What stands in the way, by name. */
static stretto_status check(const struct shrink *s, struct error *err)
{
    const struct model *m = s->m;
    if (m->graph.logits == GRAPH_NONE)
        return fail(err, STRETTO_E_UNSUP, "%s models are encoders: their shape is not changed here", m->family->name);
    for (uint32_t l = 0; l < m->config.layers; l++) {
        static const char *const whole[] = { "attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight",
                                             "ffn_up.weight", "ffn_down.weight" };
        char name[GRAPH_NAME];
        for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
            const struct source_tensor *t = source_tensor_find(m->source, layer_param(name, l, whole[i]));
            if (t && !t->stride && !t->transposed) continue;
            return fail(err, STRETTO_E_UNSUP, "%s is part of another tensor or lies in columns: the shape of %s models "
                        "stored like this is not changed here", name, m->family->name);
        }
    }
    return STRETTO_OK;
}

enum { HELD_EVERY = 5 };

/* Every fifth window goes to the end: nothing is solved on it. */
static stretto_status part_texts(struct shrink *s, struct error *err)
{
    const struct calibration_text *t = &s->o->text;
    size_t n = t->n, k = 0;
    if (n < 2)
        return fail(err, STRETTO_E_ARG, "one window of text is too little to change a shape by: give a longer text");
    s->id = mem_alloc((t->at[n] - t->at[0]) * sizeof *s->id);
    s->at = mem_alloc((n + 1) * sizeof *s->at);
    if (!s->id || !s->at) return fail(err, STRETTO_E_NOMEM, "out of memory");
    s->at[0] = 0;
    for (int held = 0; held < 2; held++) {
        for (size_t i = 0; i < n; i++) {
            uint32_t length = t->at[i + 1] - t->at[i];
            bool aside = n < HELD_EVERY ? i + 1 == n : i % HELD_EVERY == HELD_EVERY - 1;
            if (aside != (held == 1)) continue;
            if (length > s->window) s->window = length;
            memcpy(s->id + s->at[k], t->id + t->at[i], length * sizeof *s->id);
            s->at[k + 1] = s->at[k] + length;
            k++;
        }
        if (!held) s->fit_texts = k;
    }
    s->tokens = s->at[n];
    s->fit = s->at[s->fit_texts];
    s->text = (struct calibration_text){ s->id, s->at, n };
    return STRETTO_OK;
}

stretto_status shrink_begin(struct shrink *s, const struct model *m, const struct shrink_options *o,
                            struct error *err)
{
    *s = (struct shrink){ .m = m, .o = o, .b = { (void *)(uintptr_t)m, model_param } };
    TRY(check(s, err));
    TRY(part_texts(s, err));
    return backend_open(NULL, &(struct device_options){ 0 }, &s->device, err);
}

void shrink_end(struct shrink *s)
{
    device_close(s->device);
    mem_free(s->id);
    mem_free(s->at);
}

stretto_status shrink_read(const struct shrink *s, const char *name, float **out, uint32_t *n_in, uint32_t *n_out,
                           struct error *err)
{
    struct param_bytes p;
    int32_t at = graph_param_find(&s->m->graph, name);
    *out = NULL;
    if (at == GRAPH_NONE) return fail(err, STRETTO_E_ARG, "the model has no %s", name);
    const struct graph_param *g = &s->m->graph.params[at];
    TRY(s->b.find(s->b.ud, name, g->n_in, g->n_out, &p, err));
    *out = mem_alloc((size_t)p.n_in * p.n_out * sizeof **out);
    if (!*out) return fail(err, STRETTO_E_NOMEM, "no memory for %s", name);
    for (size_t r = 0; r < p.n_out; r++)
        dtype_table[p.type].decode((const unsigned char *)p.data + r * p.row_bytes, *out + r * p.n_in, p.n_in);
    *n_in = p.n_in;
    *n_out = p.n_out;
    return STRETTO_OK;
}

stretto_status shrink_pass(const struct shrink *s, const struct binding *b, uint32_t layer, enum piece_place from,
                           enum piece_place to, const float *in, float *out, struct error *err)
{
    const struct calibration_text *t = &s->text;
    struct piece *p;
    TRY(piece_open(&p, s->device, &s->m->graph, layer, from, to, b, s->window, err));
    stretto_status st = STRETTO_OK;
    for (size_t i = 0; i < t->n && st == STRETTO_OK; i++) {
        size_t at = t->at[i] - t->at[0];
        if (s->o->cancel && *s->o->cancel) st = fail(err, STRETTO_E_CANCEL, "interrupted");
        else st = piece_run(p, t->id + t->at[i], in ? in + at * s->m->config.width : NULL, t->at[i + 1] - t->at[i], 0,
                            out + at * piece_width(p), err);
    }
    piece_close(p);
    return st;
}

/* ---- what is solved on ------------------------------------------------------------------------ */

static stretto_status one_open(struct evidence *e, struct workers *w, const float *rows, size_t tokens, uint32_t n,
                               const float *ask, const float *gone, uint32_t outputs, struct error *err)
{
    struct input_stats *in = &e->in;
    *in = (struct input_stats){ .n = n, .rows = tokens, .sum2 = mem_zalloc(n, sizeof *in->sum2),
                                .gram = mem_zalloc((size_t)n * n, sizeof *in->gram) };
    e->cross = mem_zalloc((size_t)n * outputs, sizeof *e->cross);
    if (!in->sum2 || !in->gram || !e->cross)
        return fail(err, STRETTO_E_NOMEM, "no memory for the moments of %u inputs", n);
    workers_outer(w, rows, n, rows, n, n, n, tokens, 1, in->gram, n, 1);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++) in->gram[i * n + j] = in->gram[j * n + i];
    for (size_t i = 0; i < n; i++) in->sum2[i] = (double)in->gram[i * n + i];
    if (ask) workers_outer(w, rows, n, ask, outputs, n, outputs, tokens, 1, e->cross, outputs, 0);
    else if (gone) workers_linear(w, in->gram, n, gone, n, outputs, e->cross);
    return STRETTO_OK;
}

stretto_status evidence_open(struct two *out, const struct shrink *s, const float *rows, uint32_t n, const float *ask,
                             const float *gone, uint32_t outputs, struct error *err)
{
    struct workers *w = s->o->workers;
    *out = (struct two){ 0 };
    stretto_status st = one_open(&out->fit, w, rows, s->fit, n, ask, gone, outputs, err);
    if (st == STRETTO_OK)
        st = one_open(&out->held, w, rows + s->fit * n, s->tokens - s->fit, n, ask ? ask + s->fit * outputs : NULL,
                      gone, outputs, err);
    if (st != STRETTO_OK) evidence_done(out);
    return st;
}

void evidence_done(struct two *e)
{
    struct evidence *of[] = { &e->fit, &e->held };
    for (int i = 0; i < 2; i++) {
        mem_free(of[i]->in.sum2);
        mem_free(of[i]->in.gram);
        mem_free(of[i]->cross);
        *of[i] = (struct evidence){ 0 };
    }
}

void kept_of(const uint32_t *order, uint32_t n, uint32_t go, uint32_t size, uint32_t *keep)
{
    size_t k = 0;
    for (uint32_t i = 0; i < n; i++) {
        bool goes = false;
        for (uint32_t j = 0; j < go && !goes; j++) goes = order[j] == i;
        for (uint32_t j = 0; !goes && j < size; j++) keep[k++] = i * size + j;
    }
}

/* ---- sizes ---------------------------------------------------------------------------------- */

static uint64_t elements(const struct model *m, const char *name)
{
    const struct source_tensor *t = source_tensor_find(m->source, name);
    return t ? t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3] : 0;
}

static uint64_t sum_of(const struct shrink *s, uint32_t layer, const char *const *what, size_t n)
{
    char name[GRAPH_NAME];
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += elements(s->m, layer_param(name, layer, what[i]));
    return sum;
}

uint64_t feed_parameters(const struct shrink *s, uint32_t layer)
{
    static const char *const what[] = { "ffn_gate.weight", "ffn_up.weight", "ffn_down.weight", "ffn_gate.bias",
                                        "ffn_up.bias" };
    return sum_of(s, layer, what, 5) / s->m->config.layer[layer].feed;
}

uint64_t group_parameters(const struct shrink *s, uint32_t layer)
{
    static const char *const what[] = { "attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight",
                                        "attn_q.bias", "attn_k.bias", "attn_v.bias" };
    return sum_of(s, layer, what, 7) / s->m->config.layer[layer].kv_heads;
}

uint64_t layer_parameters(const struct shrink *s, uint32_t layer)
{
    char of[GRAPH_NAME];
    size_t n = strlen(layer_param(of, layer, ""));
    uint64_t sum = 0;
    for (size_t i = 0; i < source_tensor_count(s->m->source); i++) {
        const struct source_tensor *t = source_tensor_at(s->m->source, i);
        if (strncmp(t->name, of, n) == 0) sum += elements(s->m, t->name);
    }
    return sum;
}

uint64_t all_parameters(const struct model *m)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < source_tensor_count(m->source); i++)
        sum += elements(m, source_tensor_at(m->source, i)->name);
    return sum;
}

const char *shrink_arch(const struct model *m)
{
    const char *name = m->family->name;
    return !strcmp(name, "llama") || !strcmp(name, "deci") ? "deci" : NULL;
}

void shrink_plan_done(struct shrink_plan *p)
{
    mem_free(p->layer);
    mem_free(p->order);
    mem_free(p->group_order);
    *p = (struct shrink_plan){ 0 };
}
