/* The cpu backend's row of functions, and its pages. */
#include "backend/cpu/cpu.h"
#include "base/memory.h"
#include <stdio.h>
#include <string.h>

static const char *const cache_names[CACHE_TYPES] = { "f32", "f16", "bf16", "q8_0", "q8_0+q4_0" };

bool cache_type_by_name(const char *name, enum cache_type *out)
{
    for (int i = 0; i < CACHE_TYPES; i++)
        if (strcmp(cache_names[i], name) == 0) {
            *out = (enum cache_type)i;
            return true;
        }
    return false;
}

const char *cache_type_name(enum cache_type t) { return cache_names[t]; }

static void shape_pages(struct program *p)
{
    static const enum kv_type types[CACHE_TYPES] = { KV_F32, KV_F16, KV_BF16, KV_Q8, KV_Q8_Q4 };
    p->kv = types[p->limits.cache];
    p->k_bytes = kv_k_bytes(p->kv, p->g->kv_head_dim);
    p->v_bytes = kv_v_bytes(p->kv, p->g->kv_head_dim);
    p->head_bytes = p->k_bytes + p->v_bytes;
    p->page_bytes = (size_t)p->g->layers * p->g->kv_heads * p->head_bytes;
}

static stretto_status measure(struct program *p, struct error *err)
{
    struct arena a = { 0 };
    shape_pages(p);
    TRY(cpu_lower(p, &a, err));
    p->bytes = a.top;
    return STRETTO_OK;
}

static stretto_status cpu_plan(const struct graph *g, const struct weights *w,
                               const struct team *team, const struct program_limits *l,
                               struct program_bytes *out, struct error *err)
{
    struct program p = { .g = g, .w = w, .team = (struct team *)(uintptr_t)team, .limits = *l };
    *out = (struct program_bytes){ 0 };
    TRY(measure(&p, err));
    *out = (struct program_bytes){ p.bytes, p.page_bytes, (uint64_t)p.page_bytes * l->max_pages };
    return STRETTO_OK;
}

static void cpu_program_close(struct program *p)
{
    if (!p) return;
    mem_unmap(p->profile, p->profile_bytes);
    mem_unmap(p->memory, p->bytes);
    mem_unmap(p->pages, p->page_bytes * p->limits.max_pages);
    mem_free(p);
}

static stretto_status cpu_compile(struct program **out, const struct graph *g,
                                  const struct weights *w, struct team *team,
                                  const struct program_limits *l, struct error *err)
{
    *out = NULL;
    struct program *p = mem_zalloc(1, sizeof *p);
    if (!p) return fail(err, STRETTO_E_NOMEM, "out of memory");
    *p = (struct program){ .g = g, .w = w, .team = team, .limits = *l };
    stretto_status s = measure(p, err);
    if (s == STRETTO_OK) {
        p->memory = mem_map(p->bytes);
        size_t cache = p->page_bytes * l->max_pages;      /* 0: a graph without attention */
        p->pages = cache ? mem_map(cache) : NULL;
        struct arena a = { .base = p->memory, .cap = p->bytes };
        if (!p->memory || (cache && !p->pages))
            s = fail(err, STRETTO_E_NOMEM,
                     "no memory for %.0f MB of step buffers and %.0f MB of cache; ask for "
                     "a smaller context with -c",
                     (double)p->bytes / 1e6, (double)cache / 1e6);
        else
            s = cpu_lower(p, &a, err);
    }
    if (s != STRETTO_OK) cpu_program_close(p);
    else *out = p;
    return s;
}

static void cpu_page_copy(struct program *p, int32_t from, int32_t to)
{
    memcpy(p->pages + (size_t)to * p->page_bytes, p->pages + (size_t)from * p->page_bytes,
           p->page_bytes);
}

static void cpu_slot_move(struct program *p, const int32_t *pages, int32_t from, int32_t to)
{
    int32_t a = pages[from / ATTN_BLOCK], b = pages[to / ATTN_BLOCK];
    for (int32_t l = 0; l < (int32_t)p->g->layers; l++)
        for (uint32_t h = 0; h < p->g->kv_heads; h++)
            slot_copy(p, page_k(p, a, l, h), page_v(p, a, l, h), from % ATTN_BLOCK,
                      page_k(p, b, l, h), page_v(p, b, l, h), to % ATTN_BLOCK);
}

static const void *cpu_weights_view(const struct weights *w) { return w->memory; }

static uint64_t cpu_weights_bytes(const struct weights *w) { return w->bytes; }

static void cpu_describe(const struct weights *w, char *text, size_t size)
{
    size_t at = strlen(text);
    if (at >= size) return;
    int n = snprintf(text + at, size - at, "level: %s%s\n", w->kernels.level,
                     w->reference ? ", float32 weights" : "");
    bool seen[DT_COUNT] = { false };
    for (size_t i = 0; i < w->n; i++)
        if (w->weight[i].panels) seen[w->weight[i].type] = true;
    for (int t = 0; t < DT_COUNT && n > 0; t++) {
        if (!seen[t]) continue;
        at += (size_t)n;
        if (at >= size) return;
        n = snprintf(text + at, size - at, "linear %s: %s%s%s\n", dtype_table[t].name,
                     w->kernels.linear_level[t] ? w->kernels.linear_level[t] : "ref",
                     w->kernels.linear_given[t] ? ", prompt rows " : "",
                     w->kernels.linear_given[t] ? w->kernels.linear_given_level[t] : "");
    }
}

const struct backend backend_cpu = {
    .name = "cpu",
    .batch_invariant = true,
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
    .slot_move = cpu_slot_move,
    .profile = cpu_profile,
    .profile_read = cpu_profile_read,
    .peak = cpu_peak,
};
