#include "compress/merge.h"
#include "base/hash.h"
#include "base/memory.h"
#include "compress/rewrite.h"
#include "tensor/encode.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

struct merging {
    const struct merge_options *o;
    struct model *m;
    struct adapter *adapter;                /* [n_adapters]                                             */
    struct rewrite *r;
    struct merge_report *report;
    struct error *err;
};

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory"); }

static stretto_status read_adapters(struct merging *x)
{
    x->adapter = mem_zalloc(x->o->n_adapters + 1, sizeof *x->adapter);
    if (!x->adapter) return no_memory(x->err);
    for (size_t i = 0; i < x->o->n_adapters; i++) {
        const char *path = x->o->adapters[i].path;
        TRY(adapter_read(&x->adapter[i], path, x->m->source, x->err));
        if (x->adapter[i].rows != ADAPTER_ALL)
            return fail(x->err, STRETTO_E_UNSUP, "%s acts on the rows '%s' alone, and a weight acts on all: leave it "
                        "beside the model, with --lora", path, adapter_rows_word(x->adapter[i].rows));
    }
    return STRETTO_OK;
}

/* ---- one tensor -------------------------------------------------------------------------------- */

/* The pair's weight is the tensor, or rows of it from *first on. */
static bool lies_in(const struct merging *x, const struct adapter_pair *p, const struct source_tensor *t,
                    uint64_t *first)
{
    const struct source_tensor *own = source_tensor_find(x->m->source, p->weight);
    *first = 0;
    if (!own || !source_within(own, t)) return false;
    *first = (uint64_t)((const char *)own->data - (const char *)t->data) / dtype_bytes(t->type, (size_t)t->dims[0]);
    return true;
}

static bool is_changed(const struct merging *x, const struct source_tensor *t)
{
    uint64_t first;
    for (size_t i = 0; i < x->o->n_adapters; i++)
        for (size_t k = 0; k < x->adapter[i].n; k++)
            if (lies_in(x, &x->adapter[i].pair[k], t, &first)) return true;
    return false;
}

static void add(const struct adapter_pair *p, float scale, float *w)
{
    for (uint32_t r = 0; r < p->n_out; r++) {
        float *row = w + (size_t)r * p->n_in;
        for (uint32_t k = 0; k < p->rank; k++) {
            float by = p->scale * scale * p->b[(size_t)r * p->rank + k];
            const float *a = p->a + (size_t)k * p->n_in;
            for (uint32_t i = 0; i < p->n_in; i++) row[i] += by * a[i];
        }
    }
}

static stretto_status add_all(const struct merging *x, const struct source_tensor *t, float *w)
{
    size_t n = 1;
    uint64_t first;
    for (uint32_t d = 0; d < t->n_dims; d++) n *= (size_t)t->dims[d];
    for (size_t i = 0; i < x->o->n_adapters; i++)
        for (size_t k = 0; k < x->adapter[i].n; k++) {
            const struct adapter_pair *p = &x->adapter[i].pair[k];
            if (lies_in(x, p, t, &first)) add(p, x->o->adapters[i].scale, w + (size_t)first * p->n_in);
        }
    for (size_t i = 0; i < n; i++)
        if (!isfinite(w[i])) return fail(x->err, STRETTO_E_NAN, "%s with its adapter holds what is no number", t->name);
    return STRETTO_OK;
}

static stretto_status write_changed(struct merging *x, const struct rewrite_tensor *t, bool changed)
{
    size_t n = 1;
    for (uint32_t d = 0; d < t->n_dims; d++) n *= (size_t)t->dims[d];
    size_t bytes = dtype_bytes(t->type, n);
    float *w = mem_alloc(n * sizeof *w);
    void *coded = mem_alloc(bytes);
    stretto_status s = w && coded ? rewrite_read(x->r, t->name, w, x->err) : no_memory(x->err);
    if (s == STRETTO_OK && changed) s = add_all(x, t->from, w);
    if (s == STRETTO_OK) {
        if (dtype_table[t->type].block > 1) encode_search(t->type, w, NULL, coded, n);
        else dtype_table[t->type].encode(w, coded, n);
        x->report->coded |= dtype_table[t->type].block > 1;
        s = rewrite_write(x->r, t->name, coded, bytes, x->err);
    }
    mem_free(w);
    mem_free(coded);
    return s;
}

/* ---- the pass ---------------------------------------------------------------------------------- */

static stretto_status choose_types(struct merging *x)
{
    for (size_t i = 0; i < rewrite_count(x->r); i++) {
        struct rewrite_tensor *t = rewrite_at(x->r, i);
        if (x->o->type != DT_COUNT && t->n_dims > 1) t->type = x->o->type;
        if (is_changed(x, t->from) && !dtype_table[t->type].encode)
            return fail(x->err, STRETTO_E_UNSUP, "%s is stored as %s, which is not written here: take --type f16",
                        t->name, dtype_table[t->type].name);
    }
    return STRETTO_OK;
}

static stretto_status write_tensors(struct merging *x)
{
    size_t n = rewrite_count(x->r);
    for (size_t i = 0; i < n; i++) {
        const struct rewrite_tensor *t = rewrite_at(x->r, i);
        bool changed = is_changed(x, t->from);
        progress_tell(&x->o->progress, "weights merged", i, n);
        if (x->o->cancel && *x->o->cancel) return fail(x->err, STRETTO_E_CANCEL, "interrupted");
        if (t->done) continue;
        if (changed || t->type != t->from->type) TRY(write_changed(x, t, changed));
        else TRY(rewrite_copy(x->r, t->name, x->err));
        x->report->changed += changed;
        x->report->tensors++;
    }
    progress_tell(&x->o->progress, "weights merged", n, n);
    return STRETTO_OK;
}

/* What is merged, for who asks a file; and an interrupted pass is gone on with by the same alone. */
static void describe(const struct merging *x, char *out, size_t size)
{
    size_t at = (size_t)snprintf(out, size, "merge %d", (int)x->o->type);
    for (size_t i = 0; i < x->o->n_adapters && at < size; i++) {
        uint64_t h = 0;
        for (size_t k = 0; k < x->adapter[i].n; k++) {
            const struct adapter_pair *p = &x->adapter[i].pair[k];
            h = hash_bytes(hash_text(h, p->weight), p->a, (size_t)p->rank * p->n_in * sizeof *p->a);
            h = hash_bytes(h, p->b, (size_t)p->rank * p->n_out * sizeof *p->b);
        }
        at += (size_t)snprintf(out + at, size - at, " %016llx*%.9g", (unsigned long long)h,
                               (double)x->o->adapters[i].scale);
    }
}

static stretto_status write_all(struct merging *x, const char *out)
{
    char recipe[1024];
    describe(x, recipe, sizeof recipe);
    const struct rewrite_options how = { .recipe = recipe, .force = x->o->force, .log = x->o->log };
    TRY(rewrite_open(&x->r, x->m, out, &how, x->err));
    TRY(choose_types(x));
    rewrite_put_string(x->r, "stretto.merge.recipe", recipe);
    TRY(rewrite_begin(x->r, x->err));
    x->report->bytes = rewrite_file_bytes(x->r);
    TRY(write_tensors(x));
    return rewrite_finish(x->r, x->err);
}

stretto_status merge_write(const char *path, const char *out, const struct merge_options *o,
                           struct merge_report *report, struct error *err)
{
    const struct model_open_options how = { .graph_only = true, .cancel = o->cancel };
    struct merging x = { .o = o, .report = report, .err = err };
    *report = (struct merge_report){ 0 };
    if (!o->n_adapters) return fail(err, STRETTO_E_ARG, "there is no adapter to merge");
    stretto_status s = model_open(&x.m, path, &how, err);
    if (s == STRETTO_OK) s = read_adapters(&x);
    if (s == STRETTO_OK) s = write_all(&x, out);
    rewrite_close(x.r, false);
    for (size_t i = 0; x.adapter && i < o->n_adapters; i++) adapter_done(&x.adapter[i]);
    mem_free(x.adapter);
    model_close(x.m);
    return s;
}
