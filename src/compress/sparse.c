/* See sparse.h. */
#include "compress/sparse.h"
#include "base/hash.h"
#include "base/memory.h"
#include "compress/codebook.h"
#include "compress/rewrite.h"
#include <stdio.h>
#include <string.h>

struct sparse {
    const struct model *m;
    const struct sparse_options *o;
    struct rewrite *r;
    struct calibration *c;
    const struct input_stats *of;   /* whose factor `prune` holds                                  */
    struct prune *prune;
    struct prune_report *report;
};

/* Linear layers of the model's layers. */
static const struct graph_param *weight_of(const struct graph *g, const struct graph_node *n)
{
    if (n->op != OP_LINEAR || n->layer < 0) return NULL;
    return &g->params[node_param(g, n, 0)];
}

static stretto_status list(struct sparse *s, struct error *err)
{
    const struct graph *g = &s->m->graph;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const struct graph_param *p = weight_of(g, &g->nodes[i]);
        if (!p) continue;
        struct rewrite_tensor *t = rewrite_find(s->r, p->name);
        if (!t || t->n_dims != 2 || t->dims[1] != p->n_out)
            return fail(err, STRETTO_E_UNSUP, "%s is part of another tensor: %s models stored like this are not pruned",
                        p->name, s->m->family->name);
        if (dtype_table[t->type].block > 1 || s->o->share) t->type = DT_F16;
    }
    return STRETTO_OK;
}

static stretto_status open_prune(struct sparse *s, const struct graph_param *p, struct error *err)
{
    const struct input_stats *of = s->c ? calibration_stats(s->c, p->name) : NULL;
    if (s->prune && of && s->of == of) return STRETTO_OK;
    prune_close(s->prune);
    s->of = of;
    return prune_open(&s->prune, s->o->calibrate.workers, of, p->n_in, &s->o->prune, err);
}

static stretto_status write_weight(struct sparse *s, const struct graph_param *p, const float *weight,
                                   struct error *err)
{
    const struct rewrite_tensor *t = rewrite_find(s->r, p->name);
    size_t n = (size_t)p->n_in * p->n_out, bytes = dtype_bytes(t->type, n);
    if (t->type == DT_F32) return rewrite_write(s->r, p->name, weight, bytes, err);
    void *as = mem_alloc(bytes);
    if (!as) return fail(err, STRETTO_E_NOMEM, "no memory for %s", p->name);
    dtype_table[t->type].encode(weight, as, n);
    stretto_status st = rewrite_write(s->r, p->name, as, bytes, err);
    mem_free(as);
    return st;
}

static stretto_status share_one(struct sparse *s, const struct graph_param *p, float *weight, struct error *err)
{
    const struct input_stats *of = s->c ? calibration_stats(s->c, p->name) : NULL;
    return codebook_share(weight, p->n_out, p->n_in, of ? of->sum2 : NULL, s->o->share, err);
}

static stretto_status prune_one(struct sparse *s, const struct graph_param *p, struct error *err)
{
    if (rewrite_find(s->r, p->name)->done) return STRETTO_OK;      /* by the pass that was interrupted */
    float *weight = mem_alloc((size_t)p->n_in * p->n_out * sizeof *weight);
    if (!weight) return fail(err, STRETTO_E_NOMEM, "no memory for %s", p->name);
    struct error why = { 0 };
    stretto_status st = rewrite_read(s->r, p->name, weight, &why);
    if (st == STRETTO_OK) st = open_prune(s, p, &why);
    if (st == STRETTO_OK) st = prune_rows(s->prune, weight, p->n_out, s->report, &why);
    if (st == STRETTO_OK && s->o->share) st = share_one(s, p, weight, &why);
    if (st == STRETTO_OK) st = write_weight(s, p, weight, &why);
    mem_free(weight);
    return st == STRETTO_OK ? st : fail(err, st, "%s: %s", p->name, why.text);
}

static stretto_status prune_layer(struct sparse *s, uint32_t layer, struct error *err)
{
    const struct graph *g = &s->m->graph;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const struct graph_param *p = weight_of(g, &g->nodes[i]);
        if (p && g->nodes[i].layer == (int32_t)layer) TRY(prune_one(s, p, err));
    }
    return STRETTO_OK;
}

static stretto_status write_all(struct sparse *s, struct error *err)
{
    bool needs = s->o->prune.score != PRUNE_MAGNITUDE || s->o->share;
    struct calibrate_options how = s->o->calibrate;
    struct binding b = rewrite_binding(s->r);
    uint32_t layers = s->m->config.layers;
    how.gram = s->o->prune.score == PRUNE_SPARSEGPT;
    TRY(list(s, err));
    TRY(rewrite_begin(s->r, err));
    if (needs) TRY(calibration_open(&s->c, s->m, &b, &how, err));
    for (uint32_t l = 0; l < layers; l++) {
        progress_tell(&s->o->calibrate.progress, "layers pruned", l, layers);
        if (needs) TRY(calibration_see(s->c, err));
        s->of = NULL;
        prune_close(s->prune);
        s->prune = NULL;
        TRY(prune_layer(s, l, err));
        if (needs && l + 1 < layers) TRY(calibration_go(s->c, false, err));
    }
    progress_tell(&s->o->calibrate.progress, "layers pruned", layers, layers);
    for (size_t i = 0; i < rewrite_count(s->r); i++)
        if (!rewrite_at(s->r, i)->done) TRY(rewrite_copy(s->r, rewrite_at(s->r, i)->name, err));
    return rewrite_finish(s->r, err);
}

stretto_status sparse_write(const struct model *m, const char *path, const struct sparse_options *o,
                            struct prune_report *report, struct error *err)
{
    struct sparse s = { .m = m, .o = o, .report = report };
    char recipe[240];
    const struct calibration_text *t = &o->calibrate.text;
    uint64_t text = t->n ? hash_bytes(t->n, t->id + t->at[0], (t->at[t->n] - t->at[0]) * sizeof *t->id) : 0;
    snprintf(recipe, sizeof recipe, "sparse %d %.17g %u:%u %ux%u %.17g %u %016llx", (int)o->prune.score,
             o->prune.sparsity, o->prune.keep, o->prune.of, o->prune.tile_rows, o->prune.tile_columns, o->prune.damp,
             o->share, (unsigned long long)text);
    struct rewrite_options how = { .recipe = recipe, .force = o->force, .log = o->calibrate.log };
    stretto_status st = rewrite_open(&s.r, m, path, &how, err);
    if (st == STRETTO_OK) st = write_all(&s, err);
    prune_close(s.prune);
    calibration_close(s.c);
    rewrite_close(s.r, st == STRETTO_E_CANCEL);
    return st;
}
