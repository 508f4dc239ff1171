/* The cpu backend's row of functions, and its pages. */
#include "backend/cpu/linear/linear.h"
#include "base/cgroup.h"
#include "base/memory.h"
#include "kernels/see.h"
#include <stdio.h>
#include <string.h>

/* ---- the device ----------------------------------------------------------------------------- */

static struct cpu_device *cpu_of(struct device *d) { return (struct cpu_device *)(void *)d; }

static stretto_status cpu_open(struct device **out, const struct device_options *o,
                               struct error *err)
{
    uint32_t ceiling = UINT32_MAX;
    if (o->level && !cpu_ceiling(o->level, &ceiling))
        return fail(err, STRETTO_E_ARG, "STRETTO_CPU=%s is no level of this CPU architecture; "
                    "'stretto info' lists them", o->level);
    struct cpu_device *d = mem_zalloc(1, sizeof *d);
    if (!d) return fail(err, STRETTO_E_NOMEM, "out of memory");
    stretto_status s = team_open(&d->team, err);
    if (s != STRETTO_OK) {
        mem_free(d);
        return s;
    }
    d->device.backend = &backend_cpu;
    atomic_store(&d->device.holders, 1);
    d->bits = cpu_detect() & ceiling;
    d->memory = o->memory;
    d->providers = linear_providers;
    d->wide_bf16 = o->wide_bf16;
    kernels_init(&d->kernels, d->bits);
    *out = &d->device;
    return STRETTO_OK;
}

static void cpu_close(struct device *d)
{
    team_close(cpu_of(d)->team);
    mem_free(d);
}

static uint64_t cpu_memory(const struct device *on)
{
    const struct cpu_device *d = (const struct cpu_device *)(const void *)on;
    uint64_t have = memory_available(""), taken = atomic_load(&d->taken);
    if (!d->memory) return have;
    uint64_t left = d->memory > taken ? d->memory - taken : 1;
    return have && have < left ? have : left;
}

/* Measured on machines of each kind, rounded up; only where the learning begins. */
static void cpu_costs(const struct device *on, const uint32_t *rows, float *ratio, size_t n)
{
    enum { POINTS = 7 };
    static const uint32_t at[POINTS] = { 1, 2, 4, 8, 16, 32, 49 };
    static const struct { uint32_t need; float ratio[POINTS]; } levels[] = {
        { 0,              { 1, 1.10F, 1.42F, 2.40F, 4.6F, 9.0F, 13.5F } },
        { CPU_AVXVNNI,    { 1, 1.12F, 1.30F, 1.80F, 3.0F, 5.5F, 8.0F } },
        { CPU_AVX512VNNI, { 1, 1.10F, 1.30F, 1.60F, 2.1F, 3.4F, 4.8F } },
        { CPU_AMX,        { 1, 1.05F, 1.10F, 1.20F, 1.5F, 2.2F, 3.2F } },
    };
    const struct cpu_device *d = (const struct cpu_device *)(const void *)on;
    const float *of = levels[0].ratio;
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if ((d->bits & levels[i].need) == levels[i].need) of = levels[i].ratio;
    for (size_t i = 0, p = 0; i < n; i++) {
        while (p + 2 < POINTS && at[p + 1] < rows[i]) p++;
        float along = (float)((double)rows[i] - at[p]) / (float)(at[p + 1] - at[p]);
        ratio[i] = rows[i] == at[p + 1] ? of[p + 1] : of[p] + (of[p + 1] - of[p]) * along;
    }
}

unsigned cpu_threads(const struct cpu_device *d, unsigned asked)
{
    return asked ? asked : team_size(d->team);
}

/* ---- programs ------------------------------------------------------------------------------- */

static void shape_pages(struct program *p)
{
    static const enum kv_type types[CACHE_TYPES] = { KV_F32, KV_F16, KV_BF16, KV_Q8, KV_Q8_Q4 };
    p->kv = types[p->limits.cache];
    for (uint32_t i = 0; i < p->g->n_groups; i++) {
        const struct layer_group *g = &p->g->group[i];
        struct page_pool *x = &p->pool[i];
        x->k_bytes = kv_k_bytes(p->kv, g->head_dim);
        x->v_bytes = kv_v_bytes(p->kv, g->head_dim);
        x->head_bytes = x->k_bytes + x->v_bytes;
        x->page_bytes = (size_t)g->layers * g->kv_heads * x->head_bytes;
        x->bytes = x->page_bytes * p->limits.max_pages[i];
        if (g->head_dim > p->head_dim) p->head_dim = g->head_dim;
        if (g->kv_heads > p->kv_heads) p->kv_heads = g->kv_heads;
    }
}

static size_t all_pages(const struct program *p)
{
    size_t n = 0;
    for (uint32_t i = 0; i < GRAPH_GROUPS; i++) n += p->pool[i].bytes;
    return n;
}

static stretto_status measure(struct program *p, struct error *err)
{
    struct arena a = { 0 };
    shape_pages(p);
    TRY(cpu_buffers(p, &a, err));
    p->bytes = a.top;
    return STRETTO_OK;
}

/* Attention among the rows of a step has heads of so many dims. */
static stretto_status check_heads(const struct graph *g, struct error *err)
{
    for (size_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op == OP_SEE && g->nodes[i].see.head_dim > SEE_DIMS)
            return fail(err, STRETTO_E_UNSUP, "training takes heads of at most %d dims; this model has %u", SEE_DIMS,
                        g->nodes[i].see.head_dim);
    return STRETTO_OK;
}

/* What a graph's sinks add to has a gradient in the weights. */
static stretto_status check_sinks(const struct graph *g, const struct weights *w, struct error *err)
{
    for (size_t i = 0; i < g->n_nodes; i++)
        for (uint32_t k = 0; g->nodes[i].out == GRAPH_NONE && k < g->nodes[i].param.count; k++) {
            int32_t param = node_param(g, &g->nodes[i], k);
            if (k && g->nodes[i].op == OP_GRAD_EMBED) continue;
            if (param != GRAPH_NONE && !w->weight[param].elements)
                return fail(err, STRETTO_E_ARG, "the graph has a gradient of %s; in these weights %s is not trained",
                            g->params[param].name, g->params[param].name);
        }
    return STRETTO_OK;
}

/* A program's panels and kernels are those of its weights. */
static stretto_status begin(struct program *p, struct device *on, const struct graph *g,
                            const struct weights *w, const struct program_limits *l,
                            struct error *err)
{
    struct cpu_device *d = cpu_of(on);
    if (w->device != d)
        return fail(err, STRETTO_E_ARG, "the weights are on another device than the program is to run on");
    *p = (struct program){ .g = g, .w = w, .device = d, .threads = cpu_threads(d, l->threads),
                           .limits = *l };
    if (p->threads > TEAM_MAX)
        return fail(err, STRETTO_E_ARG, "%u threads asked for; the most is %d", p->threads, TEAM_MAX);
    TRY(check_heads(g, err));
    TRY(check_sinks(g, w, err));
    return measure(p, err);
}

static stretto_status cpu_plan(struct device *d, const struct graph *g, const struct weights *w,
                               const struct program_limits *l, struct program_bytes *out,
                               struct error *err)
{
    struct program p;
    *out = (struct program_bytes){ 0 };
    TRY(begin(&p, d, g, w, l, err));
    *out = (struct program_bytes){ .buffers = p.bytes, .values = p.values_bytes, .pages = all_pages(&p),
                                   .threads = p.threads };
    for (uint32_t i = 0; i < GRAPH_GROUPS; i++) out->page[i] = p.pool[i].page_bytes;
    return STRETTO_OK;
}

static void cpu_program_close(struct program *p)
{
    if (!p) return;
    mem_unmap(p->profile, p->profile_bytes);
    mem_unmap(p->memory, p->bytes);
    for (uint32_t i = 0; i < GRAPH_GROUPS; i++) mem_unmap(p->pool[i].pages, p->pool[i].bytes);
    if (p->device) {
        atomic_fetch_sub(&p->device->taken, p->bytes + all_pages(p));
        device_drop(&p->device->device);
    }
    mem_free(p);
}

static bool map_pages(struct program *p)
{
    for (uint32_t i = 0; i < GRAPH_GROUPS; i++)
        if (p->pool[i].bytes && !(p->pool[i].pages = mem_map(p->pool[i].bytes))) return false;
    return true;
}

static stretto_status cpu_compile(struct program **out, struct device *d, const struct graph *g,
                                  const struct weights *w, const struct program_limits *l,
                                  struct error *err)
{
    struct program *p = mem_zalloc(1, sizeof *p), planned;
    if (!p) return fail(err, STRETTO_E_NOMEM, "out of memory");
    stretto_status s = begin(&planned, d, g, w, l, err);
    if (s == STRETTO_OK) s = team_grow(planned.device->team, planned.threads, err);
    if (s == STRETTO_OK) {
        *p = planned;
        device_hold(d);
        size_t cache = all_pages(p);
        atomic_fetch_add(&p->device->taken, p->bytes + cache);
        p->memory = mem_map(p->bytes);
        struct arena a = { .base = p->memory, .cap = p->bytes };
        if (!p->memory || !map_pages(p))
            s = fail(err, STRETTO_E_NOMEM,
                     "no memory for %.0f MB of step buffers and %.0f MB of cache; ask for "
                     "a smaller context with -c",
                     (double)p->bytes / 1e6, (double)cache / 1e6);
        else
            s = cpu_buffers(p, &a, err);
    }
    if (s != STRETTO_OK) cpu_program_close(p);
    else *out = p;
    return s;
}

static void cpu_tap(struct program *p, struct program_tap tap) { p->tap = tap; }

static void cpu_page_copy(struct program *p, uint32_t group, int32_t from, int32_t to)
{
    const struct page_pool *x = &p->pool[group];
    memcpy(x->pages + (size_t)to * x->page_bytes, x->pages + (size_t)from * x->page_bytes,
           x->page_bytes);
}

static stretto_status cpu_page_read(struct program *p, uint32_t group, int32_t page, void *out, struct error *err)
{
    const struct page_pool *x = &p->pool[group];
    (void)err;
    memcpy(out, x->pages + (size_t)page * x->page_bytes, x->page_bytes);
    return STRETTO_OK;
}

static stretto_status cpu_page_write(struct program *p, uint32_t group, int32_t page, const void *in,
                                     struct error *err)
{
    const struct page_pool *x = &p->pool[group];
    (void)err;
    memcpy(x->pages + (size_t)page * x->page_bytes, in, x->page_bytes);
    return STRETTO_OK;
}

/* All slots of a layer and head before the next: what they share of a page is in the cache then. */
static void cpu_slots_move(struct program *p, uint32_t group, const int32_t *pages,
                           const int32_t *from, const int32_t *to, size_t n)
{
    const struct layer_group *g = &p->g->group[group];
    size_t v = p->pool[group].k_bytes;
    for (uint32_t l = 0; l < g->layers; l++)
        for (uint32_t h = 0; h < g->kv_heads; h++)
            for (size_t i = 0; i < n; i++) {
                char *a = page_head(p, group, pages[from[i] / ATTN_BLOCK], l, h);
                char *b = page_head(p, group, pages[to[i] / ATTN_BLOCK], l, h);
                slot_copy(p, g->head_dim, a, a + v, from[i] % ATTN_BLOCK, b, b + v, to[i] % ATTN_BLOCK);
            }
}

static const void *cpu_weights_view(const struct weights *w) { return w->memory; }

static uint64_t cpu_weights_bytes(const struct weights *w) { return w->bytes + w->outside; }

/* ", in 12 bits" after the kernel of bf16, of how many where that is not all. */
static void describe_brain12(const struct weights *w, char *text, size_t size)
{
    size_t twelve = 0, all = 0;
    for (size_t i = 0; i < w->n; i++) {
        if (!w->weight[i].by || w->weight[i].type != DT_BF16) continue;
        all++;
        twelve += w->weight[i].by == &provider_brain12;
    }
    text[0] = '\0';
    if (twelve && twelve == all) snprintf(text, size, ", in 12 bits");
    else if (twelve) snprintf(text, size, ", %zu of %zu in 12 bits", twelve, all);
}

static void cpu_describe(const struct weights *w, char *text, size_t size)
{
    size_t at = strlen(text);
    char twelve[64];
    if (at >= size) return;
    describe_brain12(w, twelve, sizeof twelve);
    int n = snprintf(text + at, size - at, "level: %s%s\n", w->kernels->level,
                     w->reference ? ", float32 weights" : "");
    bool seen[DT_COUNT] = { false };
    for (size_t i = 0; i < w->n; i++)
        if (w->weight[i].by) seen[w->weight[i].type] = true;
    for (int t = 0; t < DT_COUNT && n > 0; t++) {
        if (!seen[t]) continue;
        at += (size_t)n;
        if (at >= size) return;
        n = snprintf(text + at, size - at, "linear %s: %s%s%s%s\n", dtype_table[t].name,
                     w->kernels->linear_level[t] ? w->kernels->linear_level[t] : "ref",
                     w->kernels->linear_given[t] ? ", prompt rows " : "",
                     w->kernels->linear_given[t] ? w->kernels->linear_given_level[t] : "", t == DT_BF16 ? twelve : "");
    }
}

const struct backend backend_cpu = {
    .name = "cpu",
    .batch_invariant = true,
    .about = cpu_about,
    .open = cpu_open,
    .close = cpu_close,
    .memory = cpu_memory,
    .costs = cpu_costs,
    .upload = cpu_upload,
    .weights_close = cpu_weights_close,
    .weights_bytes = cpu_weights_bytes,
    .weights_view = cpu_weights_view,
    .describe = cpu_describe,
    .plan = cpu_plan,
    .compile = cpu_compile,
    .program_close = cpu_program_close,
    .run = cpu_run,
    .page_copy = cpu_page_copy,
    .page_read = cpu_page_read,
    .page_write = cpu_page_write,
    .slots_move = cpu_slots_move,
    .tap = cpu_tap,
    .param_read = cpu_param_read,
    .param_write = cpu_param_write,
    .param_clear = cpu_param_clear,
    .param_norms = cpu_param_norms,
    .param_update = cpu_param_update,
    .param_swap = cpu_param_swap,
    .state_list = cpu_state_list,
    .state_read = cpu_state_read,
    .state_write = cpu_state_write,
    .state_clear = cpu_state_clear,
    .profile = cpu_profile,
    .profile_read = cpu_profile_read,
    .roof_bytes = cpu_roof_bytes,
    .roof_macs = cpu_roof_macs,
};
