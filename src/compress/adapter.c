/* See lowrank.h: a walk through the squeezed model, and the file. */
#include "compress/lowrank.h"
#include "base/memory.h"
#include "format/adapter.h"
#include <string.h>

/* A linear layer whose weight differs; its factors at the largest rank it may get. */
struct pair {
    const struct graph_param *p;
    float *a, *b;
    double *gain, whole;
    uint32_t rank, most;
};

struct adapter_work {
    const struct model *from, *to;
    const struct lowrank_options *o;
    struct pair *pair;
    size_t n;
};

static stretto_status read_weight(const struct model *m, const struct graph_param *g, float *out, struct error *err)
{
    struct param_bytes p;
    TRY(model_param((void *)(uintptr_t)m, g->name, g->n_in, g->n_out, &p, err));
    for (size_t r = 0; r < p.n_out; r++)
        dtype_table[p.type].decode((const unsigned char *)p.data + r * p.row_bytes, out + r * p.n_in, p.n_in);
    return STRETTO_OK;
}

static stretto_status add_pair(struct adapter_work *x, const struct graph_param *g, const struct input_stats *s,
                               struct error *err)
{
    size_t n = (size_t)g->n_in * g->n_out;
    float *e = mem_alloc(n * sizeof *e), *other = mem_alloc(n * sizeof *other);
    struct pair *p = &x->pair[x->n];
    uint32_t side = g->n_in < g->n_out ? g->n_in : g->n_out, most = x->o->rank ? x->o->rank : side / 4;
    *p = (struct pair){ .p = g, .most = most < side ? most : side };
    p->rank = p->most;
    stretto_status st = e && other ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "no memory for %s", g->name);
    if (st == STRETTO_OK) st = read_weight(x->from, g, e, err);
    if (st == STRETTO_OK) st = read_weight(x->to, g, other, err);
    bool same = st == STRETTO_OK && memcmp(e, other, n * sizeof *e) == 0;
    if (st == STRETTO_OK && !same) {
        for (size_t i = 0; i < n; i++) e[i] -= other[i];
        x->n++;
        p->a = mem_alloc((size_t)p->most * g->n_in * sizeof *p->a);
        p->b = mem_alloc((size_t)p->most * g->n_out * sizeof *p->b);
        p->gain = mem_alloc((p->most + 1) * sizeof *p->gain);
        if (!p->a || !p->b || !p->gain) st = fail(err, STRETTO_E_NOMEM, "no memory for %s", g->name);
        else st = lowrank_split(x->o->calibrate.workers, s, e, g->n_out, p->most, p->a, p->b, p->gain, &p->whole, err);
    }
    mem_free(e);
    mem_free(other);
    return st;
}

static enum dtype type_of(size_t row) { return row % dtype_table[DT_Q8_0].block ? DT_F16 : DT_Q8_0; }

static uint64_t pair_bytes(const struct pair *p, uint32_t rank)
{
    return rank == 0 ? 0 : rank * dtype_bytes(type_of(p->p->n_in), p->p->n_in)
                               + p->p->n_out * dtype_bytes(type_of(rank), rank);
}

/* Ranks from nothing on, four at a time, each time where a byte gains most of what its layer lost. */
static void share_out(struct adapter_work *x)
{
    uint64_t used = 0;
    for (size_t i = 0; i < x->n; i++) x->pair[i].rank = 0;
    for (;;) {
        struct pair *best = NULL;
        double most = 0;
        uint64_t cost = 0;
        for (size_t i = 0; i < x->n; i++) {
            struct pair *p = &x->pair[i];
            double gain = 0;
            if (p->rank + 4 > p->most || !(p->whole > 0)) continue;
            for (uint32_t k = 0; k < 4; k++) gain += p->gain[p->rank + k] / p->whole;
            uint64_t more = pair_bytes(p, p->rank + 4) - pair_bytes(p, p->rank);
            gain *= (double)p->p->n_in * (double)p->p->n_out / (double)(more ? more : 1);
            if (used + more > x->o->bytes || gain <= most) continue;
            most = gain;
            best = p;
            cost = more;
        }
        if (!best) return;
        best->rank += 4;
        used += cost;
    }
}

/* The pairs as they are kept, the rank that each got of the largest. */
static stretto_status take_pairs(struct adapter_work *x, struct adapter *out, struct lowrank_report *report,
                                 struct error *err)
{
    for (size_t i = 0; i < x->n; i++) {
        const struct pair *p = &x->pair[i];
        report->lost += p->whole;
        report->kept += p->whole;
        for (uint32_t k = 0; k < p->rank; k++) report->kept -= p->gain[k];
        if (!p->rank) continue;
        report->layers++;
        report->bytes += pair_bytes(p, p->rank);
        struct adapter_pair *to = adapter_add(out, p->p->name, p->rank, p->p->n_in, p->p->n_out, 1, err);
        if (!to) return STRETTO_E_NOMEM;
        memcpy(to->a, p->a, (size_t)p->rank * p->p->n_in * sizeof *p->a);
        for (size_t r = 0; r < p->p->n_out; r++)
            memcpy(to->b + r * p->rank, p->b + r * p->most, p->rank * sizeof *p->b);
    }
    return STRETTO_OK;
}

static stretto_status write_file(struct adapter_work *x, const char *path, struct lowrank_report *report,
                                 struct error *err)
{
    struct adapter out = { 0 };
    if (x->n == 0) return fail(err, STRETTO_E_ARG, "%s and %s have the same weights: nothing was lost",
                               source_path(x->from->source), source_path(x->to->source));
    stretto_status s = take_pairs(x, &out, report, err);
    if (s == STRETTO_OK) s = adapter_write_gguf(&out, path, x->to->source, DT_Q8_0, NULL, 0, x->o->force, err);
    adapter_done(&out);
    return s;
}

static stretto_status walk(struct adapter_work *x, struct calibration *c, struct error *err)
{
    const struct graph *g = &x->to->graph;
    for (uint32_t l = 0; l < x->to->config.layers; l++) {
        progress_tell(&x->o->calibrate.progress, "layers", l, x->to->config.layers);
        TRY(calibration_go(c, true, err));
        for (size_t i = 0; i < g->n_nodes; i++) {
            const struct graph_node *n = &g->nodes[i];
            if (n->op != OP_LINEAR || n->layer != (int32_t)l) continue;
            const struct graph_param *p = &g->params[node_param(g, n, 0)];
            const struct input_stats *s = calibration_stats(c, p->name);
            if (s) TRY(add_pair(x, p, s, err));
        }
    }
    progress_tell(&x->o->calibrate.progress, "layers", x->to->config.layers, x->to->config.layers);
    return STRETTO_OK;
}

stretto_status lowrank_write(const struct model *original, const struct model *squeezed, const char *path,
                             const struct lowrank_options *o, struct lowrank_report *report, struct error *err)
{
    struct adapter_work x = { .from = original, .to = squeezed, .o = o };
    struct lowrank_report none;
    struct calibration *c = NULL;
    struct binding b = { (void *)(uintptr_t)squeezed, model_param };
    struct calibrate_options how = o->calibrate;
    how.gram = true;
    if (!report) report = &none;
    *report = (struct lowrank_report){ 0 };
    x.pair = mem_zalloc(squeezed->graph.n_nodes, sizeof *x.pair);
    stretto_status st = x.pair ? calibration_open(&c, squeezed, &b, &how, err)
                               : fail(err, STRETTO_E_NOMEM, "out of memory");
    if (st == STRETTO_OK) st = walk(&x, c, err);
    if (st == STRETTO_OK && !o->rank) share_out(&x);
    if (st == STRETTO_OK) st = write_file(&x, path, report, err);
    calibration_close(c);
    for (size_t i = 0; i < x.n; i++) {
        mem_free(x.pair[i].a);
        mem_free(x.pair[i].b);
        mem_free(x.pair[i].gain);
    }
    mem_free(x.pair);
    return st;
}
