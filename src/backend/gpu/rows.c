/* Launches row passes: kernels/rows.cl. */
#include "backend/gpu/gpu.h"
#include "base/memory.h"
#include <stdio.h>

struct gpu_rows {
    const struct gpu_driver *driver;
    struct gpu_code *code;
    struct gpu_kernel *rows;
};

stretto_status gpu_rows_open(struct gpu_device *d, enum cache_type t, struct gpu_rows **out,
                             struct error *err)
{
    static const char *const files[] = { "cache.cl", "rows.cl", NULL };
    char options[128];
    snprintf(options, sizeof options, "-DROW_LANES=%u -DEXACT_DIVIDE=%d -DCACHE=%d", d->row_lanes,
             d->about.exact_divide, (int)t);
    *out = NULL;
    struct gpu_rows *r = mem_alloc(sizeof *r);
    if (!r) return fail(err, STRETTO_E_NOMEM, "out of memory for the kernels of row passes");
    *r = (struct gpu_rows){ .driver = d->driver };
    stretto_status s = gpu_build(d, files, options, &r->code, err);
    if (s == STRETTO_OK) s = d->driver->kernel(r->code, "rows", &r->rows, err);
    if (s == STRETTO_OK) *out = r;
    else gpu_rows_close(r);
    return s;
}

void gpu_rows_close(struct gpu_rows *r)
{
    if (!r) return;
    r->driver->code_close(r->code);
    mem_free(r);
}

stretto_status gpu_rows_run(struct gpu_device *d, struct gpu_rows *r, const struct gpu_places *m,
                            struct gpu_memory *pool, uint32_t first, uint32_t count, bool asking,
                            uint32_t most_rows, struct error *err)
{
    const uint32_t groups[3] = { most_rows, 1, 1 };
    const struct gpu_arg args[] = {
        { m->activations, 0 }, { m->vectors, 0 }, { m->step, 0 }, { m->instructions, 0 },
        { pool ? pool : m->activations, 0 }, /* nobody stores without one */
        { NULL, (int32_t)first }, { NULL, (int32_t)count }, { NULL, asking },
    };
    if (!most_rows || !count) return STRETTO_OK;
    return d->driver->launch(d->card, r->rows, groups, d->row_lanes, args, sizeof args / sizeof *args,
                             err);
}
