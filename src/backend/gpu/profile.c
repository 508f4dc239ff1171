#include "backend/gpu/profile.h"
#include "backend/phases.h"
#include "base/clock.h"
#include "base/memory.h"
#include <string.h>

struct phase_time { double seconds, bytes, macs; uint64_t count; };

struct gpu_profile {
    double begin, rest;                /* rest: packing the step, copies, answers                   */
    uint64_t steps;
    bool given;                        /* the last step's first row                                 */
    size_t n_marks;
    struct phase_time phase[];         /* [n_phases]                                                */
};

void gpu_profile_begin_now(struct program *p)
{
    p->profile->begin = clock_seconds();
    p->profile->n_marks = 0;
}

stretto_status gpu_profile_mark_now(struct program *p, size_t phase, struct error *err)
{
    if (phase >= GPU_MARKS) return STRETTO_OK;
    p->profile->n_marks = phase + 1;
    return p->device->driver->mark(p->device->card, (uint32_t)phase, err);
}

static double param_bytes(const void *ud, int32_t param)
{
    const struct weight *w = &((const struct program *)ud)->w->weight[param];
    return (double)dtype_bytes(w->type, w->n_in) * w->n_out;
}

static double row_bytes(const void *ud, int32_t param)
{
    return (double)((const struct program *)ud)->w->weight[param].table.row_bytes;
}

static double kv_bytes(const void *ud, uint32_t group)
{
    const struct program *p = ud;
    return (double)gpu_head_bytes(p->limits.cache, p->g->group[group].head_dim) / PAGE_SLOTS;
}

void gpu_profile_end_now(struct program *p)
{
    struct gpu_profile *f = p->profile;
    const struct phase_reader needs = { p->g, &p->low, p->step, p, param_bytes, row_bytes, kv_bytes };
    double all = clock_seconds() - f->begin;
    for (uint32_t i = 0; i + 1 < f->n_marks; i++) {
        struct phase_time *t = &f->phase[i];
        double spent = p->device->driver->between(p->device->card, i, i + 1);
        t->seconds += spent;
        t->count++;
        all -= spent;
        phase_needs(&needs, &p->low.phases[i], &t->bytes, &t->macs);
    }
    f->rest += all > 0 ? all : 0;
    f->steps++;
    f->given = p->step->given[0];
}

stretto_status gpu_profile(struct program *p, bool on, struct error *err)
{
    mem_free(p->profile);
    p->profile = NULL;
    if (!on) return STRETTO_OK;
    if (!p->device->driver->mark)
        return fail(err, STRETTO_E_UNSUP, "the driver %s has no clock of the card", p->device->driver->name);
    p->profile = mem_zalloc(1, sizeof *p->profile + p->low.n_phases * sizeof p->profile->phase[0]);
    return p->profile ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "no memory for the times of the operations");
}

static enum arithmetic arithmetic_of(const struct program *p, const struct phase *ph)
{
    if (!ph->n_parts) return ARITHMETIC_F32;
    uint8_t forms = p->w->weight[ph->part[0].param].forms;
    if (p->profile->given && !p->limits.strict && (forms & FORM_BF16)) return ARITHMETIC_BF16;
    return forms & FORM_CODES ? ARITHMETIC_INT8 : ARITHMETIC_F32;
}

size_t gpu_profile_read(const struct program *p, struct op_time *out, size_t cap)
{
    const struct gpu_profile *f = p->profile;
    size_t n = 0;
    if (!f || cap == 0) return 0;
    for (size_t i = 0; i < p->low.n_phases; i++) {
        const struct phase_time *t = &f->phase[i];
        struct op_time one = { .arithmetic = arithmetic_of(p, &p->low.phases[i]) };
        if (!t->count) continue;
        phase_name(p->g, &p->low, &p->low.phases[i], one.name, sizeof one.name);
        size_t at = 0;
        while (at < n && strcmp(out[at].name, one.name) != 0) at++;
        if (at == n && n + 1 >= cap) continue;
        if (at == n) out[n++] = one;
        out[at].count += t->count;
        out[at].seconds += t->seconds;
        out[at].bytes += t->bytes;
        out[at].macs += t->macs;
    }
    out[n] = (struct op_time){ .name = "plan, answers", .count = f->steps, .seconds = f->rest };
    return n + 1;
}
