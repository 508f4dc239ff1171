/* The integer backend's row of functions, and its pages. */
#include "backend/integer/integer.h"
#include "base/cgroup.h"
#include "base/memory.h"
#include <stdio.h>
#include <string.h>

static struct integer_device *integer_of(struct device *d) { return (struct integer_device *)(void *)d; }

static void integer_about(struct device_about *out)
{
    snprintf(out->name, sizeof out->name, "integer arithmetic on the CPU");
    snprintf(out->driver, sizeof out->driver, "int8 codes, int32 sums, no floating point between embedding and logits");
    out->units = team_cpus(NULL);
}

static stretto_status integer_open(struct device **out, const struct device_options *o, struct error *err)
{
    uint32_t ceiling = UINT32_MAX;
    if (o->level && !cpu_ceiling(o->level, &ceiling))
        return fail(err, STRETTO_E_ARG, "STRETTO_CPU=%s is no level of this CPU architecture; 'stretto info' lists "
                    "them", o->level);
    struct integer_device *d = mem_zalloc(1, sizeof *d);
    if (!d) return fail(err, STRETTO_E_NOMEM, "out of memory");
    stretto_status s = team_open(&d->team, err);
    if (s != STRETTO_OK) {
        mem_free(d);
        return s;
    }
    d->device.backend = &backend_integer;
    atomic_store(&d->device.holders, 1);
    d->memory = o->memory;
    kernels_init(&d->kernels, cpu_detect() & ceiling);
    *out = &d->device;
    return STRETTO_OK;
}

static void integer_close(struct device *d)
{
    team_close(integer_of(d)->team);
    mem_free(d);
}

static uint64_t integer_memory(const struct device *on)
{
    const struct integer_device *d = (const struct integer_device *)(const void *)on;
    uint64_t have = memory_available(""), taken = atomic_load(&d->taken);
    if (!d->memory) return have;
    uint64_t left = d->memory > taken ? d->memory - taken : 1;
    return have && have < left ? have : left;
}

/* Rows cost what one costs: the sums of one row already fill the machine. Only where the learning begins. */
static void integer_costs(const struct device *on, const uint32_t *rows, float *ratio, size_t n)
{
    (void)on;
    for (size_t i = 0; i < n; i++) ratio[i] = 1 + 0.8F * (float)(rows[i] - 1);
}

static uint64_t integer_weights_bytes(const struct weights *w) { return w->bytes; }
static const void *integer_weights_view(const struct weights *w) { return w->memory; }

static void integer_describe(const struct weights *w, char *text, size_t size)
{
    size_t at = strlen(text);
    (void)w;
    if (at < size)
        snprintf(text + at, size - at, "arithmetic: integers; int8 weights with a scale for each output, int8 inputs "
                 "with a scale for each row, int8 keys and values with a scale for each token and head\n");
}

static void integer_page_copy(struct program *p, uint32_t group, int32_t from, int32_t to)
{
    const struct page_pool *x = &p->pool[group];
    memcpy(x->pages + (size_t)to * x->page_bytes, x->pages + (size_t)from * x->page_bytes, x->page_bytes);
}

static stretto_status integer_page_read(struct program *p, uint32_t group, int32_t page, void *out, struct error *err)
{
    const struct page_pool *x = &p->pool[group];
    (void)err;
    memcpy(out, x->pages + (size_t)page * x->page_bytes, x->page_bytes);
    return STRETTO_OK;
}

static stretto_status integer_page_write(struct program *p, uint32_t group, int32_t page, const void *in,
                                     struct error *err)
{
    const struct page_pool *x = &p->pool[group];
    (void)err;
    memcpy(x->pages + (size_t)page * x->page_bytes, in, x->page_bytes);
    return STRETTO_OK;
}

static void integer_slots_move(struct program *p, uint32_t group, const int32_t *pages, const int32_t *from,
                               const int32_t *to, size_t n)
{
    const struct layer_group *g = &p->g->group[group];
    size_t hd = g->head_dim;
    for (uint32_t l = 0; l < g->layers; l++)
        for (uint32_t h = 0; h < g->kv_heads; h++)
            for (size_t i = 0; i < n; i++) {
                struct kept a = kept_of(p, group, pages[from[i] / PAGE_SLOTS], l, h);
                struct kept b = kept_of(p, group, pages[to[i] / PAGE_SLOTS], l, h);
                size_t f = (size_t)(from[i] % PAGE_SLOTS), t = (size_t)(to[i] % PAGE_SLOTS);
                b.k[t] = a.k[f];
                b.v[t] = a.v[f];
                memmove(b.k_code + t * hd, a.k_code + f * hd, hd);
                memmove(b.v_code + t * hd, a.v_code + f * hd, hd);
            }
}

const struct backend backend_integer = {
    .name = "integer",
    .batch_invariant = true,
    .about = integer_about,
    .open = integer_open,
    .close = integer_close,
    .memory = integer_memory,
    .costs = integer_costs,
    .upload = integer_upload,
    .weights_close = integer_weights_close,
    .weights_bytes = integer_weights_bytes,
    .weights_view = integer_weights_view,
    .describe = integer_describe,
    .plan = integer_plan,
    .compile = integer_compile,
    .program_close = integer_program_close,
    .run = integer_run,
    .page_copy = integer_page_copy,
    .page_read = integer_page_read,
    .page_write = integer_page_write,
    .slots_move = integer_slots_move,
};
