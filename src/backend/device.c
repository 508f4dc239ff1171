/* What all devices have in common: who holds them, and whether they work. */
#include "backend/backend.h"
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

void device_hold(struct device *d) { atomic_fetch_add(&d->holders, 1); }

void device_drop(struct device *d)
{
    if (atomic_fetch_sub(&d->holders, 1) == 1) d->backend->close(d);
}

void device_lose(struct device *d, const char *why)
{
    const char *good = NULL;
    atomic_compare_exchange_strong(&d->gone, &good, why);
}

void device_close(struct device *d)
{
    if (!d) return;
    device_lose(d, "it was closed; open it and the model again");
    device_drop(d);
}

stretto_status device_check(struct device *d, struct error *err)
{
    const char *why = atomic_load_explicit(&d->gone, memory_order_acquire);
    return why ? fail(err, STRETTO_E_DEVICE, "the device %s is gone: %s",
                      d->word[0] ? d->word : d->backend->name, why)
               : STRETTO_OK;
}

stretto_status device_upload(struct device *d, struct weights **out, const struct graph *g,
                             const struct binding *b, const struct upload_options *o,
                             struct error *err)
{
    *out = NULL;
    TRY(device_check(d, err));
    if ((g->loss || o->trained || o->measure) && !d->backend->param_read)
        return fail(err, STRETTO_E_UNSUP, "the backend %s cannot train; the cpu can", d->backend->name);
    return d->backend->upload(out, d, g, b, o, err);
}

stretto_status device_plan(struct device *d, const struct graph *g, const struct weights *w,
                           const struct program_limits *l, struct program_bytes *out,
                           struct error *err)
{
    TRY(device_check(d, err));
    return d->backend->plan(d, g, w, l, out, err);
}

stretto_status device_compile(struct device *d, struct program **out, const struct graph *g,
                              const struct weights *w, const struct program_limits *l,
                              struct error *err)
{
    *out = NULL;
    TRY(device_check(d, err));
    return d->backend->compile(out, d, g, w, l, err);
}

stretto_status device_run(struct device *d, struct program *p, const struct step *s,
                          struct answer *const *answers, struct error *err)
{
    TRY(device_check(d, err));
    return d->backend->run(p, s, answers, err);
}
