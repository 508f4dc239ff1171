/* Upload: every linear weight becomes panels once, at load, made by the provider that claims it; vectors
 * become float32; tables for lookups stay in the file. The file's pages are given back as soon as they
 * are packed. */
#include "backend/cpu/halves.h"
#include "backend/cpu/masters.h"
#include "base/memory.h"
#include <string.h>

struct upload {
    struct weights *w;
    const struct param_bytes *src; /* [n]                                                       */
    const bool *panels;            /* [n] used by a linear                                      */
    const bool *back;              /* [n] a gradient passes through                             */
    float *column[TEAM_MAX];       /* per thread: 16 columns as float32, or as stored           */
    const struct upload_options *o;
    atomic_size_t ticket, failed;  /* failed: the parameter that could not be made, and 1 */
    atomic_uint_fast64_t done;
    uint64_t total, turn; /* `turn`: where `done` ends this turn of the threads               */
    size_t *first_panel; /* [n + 1]                                                   */
    atomic_uint *made;   /* [n] panels of it that are made                            */
};

/* So much is packed before others that wait for the threads get them: a step of theirs is hardly later. */
enum { TURN_BYTES = 1 << 26 };

static bool cancelled(const struct upload *u) { return u->o->cancel && *u->o->cancel; }

/* One panel: 16 output columns from the file's rows, by whoever provides the multiplication. */
static void pack_one(struct upload *u, size_t param, uint32_t panel, float *scratch)
{
    struct weight *w = &u->w->weight[param];
    const struct param_bytes *s = &u->src[param];
    uint32_t col = panel * PANEL_COLS,
             n = w->n_out - col < PANEL_COLS ? w->n_out - col : PANEL_COLS;
    /* Behind the place of the float32 columns, so both fit when the type is widened too. */
    struct linear_columns cols = param_columns(s, col, n, scratch + (size_t)PANEL_COLS * w->n_in);
    size_t elements = (size_t)PANEL_COLS * w->n_in;
    if (w->rounded) {
        columns_pack(&cols, DT_F32, w->n_in, scratch, w->part[PARAM_MASTER] + panel * elements);
        halves_round(w, panel * elements, elements);
    } else if (w->by->upload(w, &cols, scratch, linear_panel(w, panel)) != STRETTO_OK)
        atomic_store(&u->failed, param + 1);
    param_release(s, panel, w->n_panels);
    if (atomic_fetch_add(&u->made[param], 1) + 1 == w->n_panels) param_release_whole(s);
}

static void pack_thread(void *arg, unsigned rank)
{
    struct upload *u = arg;
    size_t n = u->w->n, panels = u->first_panel[n], param = 0;
    while (atomic_load(&u->done) < u->turn) {
        size_t i = atomic_fetch_add(&u->ticket, 1);
        if (i >= panels || cancelled(u) || atomic_load(&u->failed)) return;
        while (u->first_panel[param + 1] <= i) param++;
        pack_one(u, param, (uint32_t)(i - u->first_panel[param]), u->column[rank]);
        uint64_t done = atomic_fetch_add(&u->done, u->w->weight[param].panel_bytes);
        if (rank == 0 && u->o->progress) u->o->progress(u->o->ud, done, u->total);
    }
}

static bool trained(const struct upload *u, size_t param) { return u->o->trained && u->o->trained[param]; }

/* What is trained is float32; through what gradients pass, in panels as they are. */
static const struct linear_provider *provider_for(const struct upload *u, size_t param, struct weight *x)
{
    const struct linear_provider *const *by = u->w->device->providers;
    if (trained(u, param) && u->w->precision != PRECISION_F32) return halves_provider(u->w, &u->src[param], x);
    const struct linear_provider *only = trained(u, param) ? &provider_float32 : NULL;
    if (!only && u->back[param] && !u->w->reference) only = &provider_panels;
    if (only && only->claims(u->w->device, &u->src[param], only == &provider_float32, x)) return only;
    while (!(*by)->claims(u->w->device, &u->src[param], u->w->reference, x)) by++;
    return *by;
}

/* Rows of a table that is trained and no linear layer's. */
static void place_table(const struct param_bytes *s, struct weight *x, struct arena *a)
{
    float *rows = arena_take(a, (size_t)s->n_in * s->n_out * sizeof *rows);
    x->table = (struct param_bytes){ .type = DT_F32, .n_in = s->n_in, .n_out = s->n_out, .data = rows,
                                     .row_bytes = s->n_in * sizeof *rows, .memory = true };
    for (size_t i = 0; a->base && i < s->n_out; i++)
        dtype_table[s->type].decode((const char *)s->data + i * s->row_bytes, rows + i * s->n_in, s->n_in);
}

/* The master is what has been placed; beside it stand a gradient and what the optimizer remembers, zeros. */
static void place_parts(struct weights *w, struct weight *x, struct arena *a)
{
    x->elements = x->by ? (size_t)x->n_panels * PANEL_COLS * x->n_in : (size_t)x->n_in * x->n_out;
    if (x->rounded) x->part[PARAM_MASTER] = arena_take(a, x->elements * sizeof(float));
    else x->part[PARAM_MASTER] = (float *)(uintptr_t)(x->by ? x->panels : x->vector ? x->vector : x->table.data);
    x->part[PARAM_GRADIENT] = arena_take(a, x->elements * sizeof(float));
    optimizer_place(w, x, a);
}

/* Sizes and, when a->base is set, places. */
static stretto_status place_weights(struct upload *u, const struct graph *g, const bool *table,
                                    struct arena *a, struct error *err)
{
    struct weights *w = u->w;
    size_t runs = 0;
    if (u->o->trained) optimizer_begin(w, a);
    for (size_t i = 0; i < w->n; i++) {
        const struct param_bytes *s = &u->src[i];
        struct weight *x = &w->weight[i];
        TRY(param_check(s, g->params[i].name, err));
        *x = (struct weight){ .n_in = s->n_in, .n_out = s->n_out };
        u->first_panel[i + 1] = u->first_panel[i];
        if (table[i]) x->table = *s;
        if (u->panels[i]) {
            x->by = provider_for(u, i, x);
            x->n_panels = (s->n_out + PANEL_COLS - 1) / PANEL_COLS;
            x->panels = arena_take(a, x->n_panels * x->panel_bytes);
            u->first_panel[i + 1] += x->n_panels;
        } else if (!table[i]) {
            float *v = arena_take(a, s->n_in * sizeof(float));
            if (a->base) TRY(param_vector(s, v));
            x->vector = v;
        } else if (trained(u, i)) place_table(s, x, a);
        if (u->back[i]) TRY(back_place(w, i, g->params[i].name, a, err));
        if (trained(u, i)) place_parts(w, x, a);
        if (table[i] && weight_in_panels(x)) {
            x->lookups = arena_take(a, (size_t)x->n_in * x->n_out * sizeof(float));
            x->looked_up = arena_take(a, x->n_out);
        }
        runs += master_runs(x->elements);
    }
    for (size_t i = 0; i < g->n_nodes; i++) {
        int32_t more = node_param(g, &g->nodes[i], g->nodes[i].op == OP_EMBED ? 1 : 2);
        if (more != GRAPH_NONE && (g->nodes[i].op == OP_EMBED || g->nodes[i].op == OP_LOSS))
            w->weight[node_param(g, &g->nodes[i], 0)].behind = &w->weight[more];
    }
    w->squares = arena_take(a, runs * sizeof *w->squares);
    return STRETTO_OK;
}

/* Panels that did not fit their bytes take others, which nobody knew of before they were made. */
static void count_outside(struct weights *w)
{
    for (size_t i = 0; i < w->n; i++) {
        const struct weight *x = &w->weight[i];
        for (uint32_t k = 0; x->by && x->by->outside && k < x->n_panels; k++)
            w->outside += x->by->outside(x, linear_panel(x, k));
    }
    atomic_fetch_add(&w->device->taken, w->outside);
}

/* Measured, checked against what the device can give, then taken by the same path; packing hands the threads
 * over now and then, so that engines that run on the device keep stepping. */
static stretto_status upload_into(struct upload *u, const struct graph *g, bool *table,
                                  struct error *err)
{
    struct weights *w = u->w;
    struct arena a = { 0 };
    TRY(place_weights(u, g, table, &a, err));
    size_t column = 0;
    for (size_t i = 0; i < w->n; i++)
        if (u->panels[i] && w->weight[i].n_in > column) column = w->weight[i].n_in;
    w->bytes = a.top;
    if (u->o->measure) return STRETTO_OK;
    struct device *d = &w->device->device;
    /* A kernel that promises more memory than there is ends the program later, without a word. */
    TRY(params_fit(w->bytes, d->backend->memory(d), w->reference,
                   " (of the machine, or what its control group leaves): close other programs, raise the limit, or "
                   "take a smaller model or a file with fewer bits per weight", err));
    w->memory = mem_map(w->bytes);
    if (!w->memory)
        return fail(err, STRETTO_E_NOMEM,
                    "no memory for %.0f MB of weights; close other programs or take a "
                    "smaller model",
                    (double)w->bytes / 1e6);
    atomic_fetch_add(&w->device->taken, w->bytes);
    a = (struct arena){ .base = w->memory, .cap = w->bytes };
    TRY(place_weights(u, g, table, &a, err));
    u->total = a.top;
    unsigned threads = cpu_threads(w->device, u->o->threads);
    TRY(team_grow(w->device->team, threads, err));
    for (unsigned r = 0; r < threads; r++) {
        u->column[r] = mem_alloc(2 * PANEL_COLS * column * sizeof(float));
        if (!u->column[r]) return fail(err, STRETTO_E_NOMEM, "out of memory while packing weights");
    }
    for (size_t n = u->first_panel[w->n]; atomic_load(&u->ticket) < n && !cancelled(u) && !atomic_load(&u->failed);) {
        u->turn = atomic_load(&u->done) + TURN_BYTES;
        team_run(w->device->team, threads, pack_thread, u);
    }
    size_t failed = atomic_load(&u->failed);
    if (failed)
        return fail(err, STRETTO_E_DEVICE, "%s cannot be loaded: the linear provider %s failed",
                    g->params[failed - 1].name, w->weight[failed - 1].by->name);
    if (cancelled(u)) return fail(err, STRETTO_E_CANCEL, "loading was cancelled");
    TRY(back_fill(w, threads, err));
    count_outside(w);
    if (u->o->progress) u->o->progress(u->o->ud, u->total, u->total);
    return STRETTO_OK;
}

stretto_status cpu_upload(struct weights **out, struct device *on, const struct graph *g,
                          const struct binding *b, const struct upload_options *o,
                          struct error *err)
{
    size_t n = g->n_params;
    struct upload u = { .o = o };
    struct weights *w = mem_zalloc(1, sizeof *w);
    struct param_bytes *src = mem_zalloc(n, sizeof *src);
    bool *use = mem_zalloc(3 * n, sizeof *use);
    u.first_panel = mem_zalloc(n + 1, sizeof *u.first_panel);
    u.made = mem_zalloc(n, sizeof *u.made);
    if (w) w->weight = mem_zalloc(n, sizeof *w->weight);
    if (w) w->back = mem_zalloc(n, sizeof *w->back);
    stretto_status s = STRETTO_OK;
    if (!w || !src || !use || !u.first_panel || !u.made || !w->weight || !w->back)
        s = fail(err, STRETTO_E_NOMEM, "out of memory while loading");
    else {
        w->device = (struct cpu_device *)(void *)on;
        device_hold(on);
        w->kernels = &w->device->kernels;
        w->n = n;
        w->reference = o->reference;
        w->optimizer = o->optimizer;
        w->precision = o->precision;
        if (!w->optimizer.bits) w->optimizer.bits = 32;
        for (size_t i = 0; i < n && s == STRETTO_OK; i++)
            s = b->find(b->ud, g->params[i].name, g->params[i].n_in, g->params[i].n_out, &src[i],
                        err);
        u.w = w;
        u.src = src;
        u.panels = use;
        u.back = use + 2 * n;
        params_used(g, use, use + n);
        back_used(g, use + 2 * n);
        if (s == STRETTO_OK) s = upload_into(&u, g, use + n, err);
        for (unsigned r = 0; r < TEAM_MAX; r++) mem_free(u.column[r]);
    }
    mem_free(src);
    mem_free(use);
    mem_free(u.first_panel);
    mem_free(u.made);
    if (s != STRETTO_OK) cpu_weights_close(w);
    else *out = w;
    return s;
}

void cpu_weights_close(struct weights *w)
{
    if (!w) return;
    for (size_t i = 0; w->memory && i < w->n; i++) {
        const struct weight *x = &w->weight[i];
        for (uint32_t k = 0; x->by && x->by->close && x->panels && k < x->n_panels; k++)
            x->by->close(x, linear_panel(x, k));
    }
    if (w->memory) atomic_fetch_sub(&w->device->taken, w->bytes + w->outside);
    mem_unmap(w->memory, w->bytes);
    mem_free(w->weight);
    mem_free(w->back);
    if (w->device) device_drop(&w->device->device);
    mem_free(w);
}
