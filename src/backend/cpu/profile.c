#include "backend/cpu/profile.h"
#include "backend/phases.h"
#include "base/clock.h"
#include "base/memory.h"
#include <string.h>

struct phase_time {
    double work, wait, alone, bytes, macs;
    uint64_t count;
};

struct profile {
    struct lane { /* one per thread, on cache lines of its own                                  */
        _Alignas(64) double last, alone_seen;
        double *work, *wait; /* [n_phases] of the running step                                  */
    } lane[TEAM_MAX];
    double begin, alone_last, alone_total;
    double *alone;            /* [n_phases] of the running step                                  */
    struct phase_time *phase; /* [n_phases] since the profile was asked for                      */
    double rest;              /* gathering answers, planning the step                            */
    uint64_t steps;
    bool given; /* the last step's first row                                      */
};

void profile_begin_now(struct program *p)
{
    struct profile *f = p->profile;
    f->begin = clock_seconds();
    f->alone_total = 0;
    memset(f->alone, 0, p->low.n_phases * sizeof *f->alone);
    for (unsigned t = 0; t < p->threads; t++) {
        f->lane[t].last = f->begin;
        f->lane[t].alone_seen = 0;
        memset(f->lane[t].work, 0, p->low.n_phases * sizeof(double));
        memset(f->lane[t].wait, 0, p->low.n_phases * sizeof(double));
    }
}

void profile_mark_now(struct program *p, unsigned rank, uint32_t phase, enum profile_kind kind)
{
    struct profile *f = p->profile;
    struct lane *l = &f->lane[rank];
    double now = clock_seconds(), spent = now - l->last;
    l->last = now;
    if (kind == PROFILE_WORK) l->work[phase] += spent;
    else {
        l->wait[phase] += spent - (f->alone_total - l->alone_seen);
        l->alone_seen = f->alone_total;
    }
}

void profile_alone_begin_now(struct program *p) { p->profile->alone_last = clock_seconds(); }

void profile_alone_now(struct program *p, uint32_t phase)
{
    struct profile *f = p->profile;
    double now = clock_seconds();
    f->alone[phase] += now - f->alone_last;
    f->alone_total += now - f->alone_last;
    f->alone_last = now;
}

/* ---- the step ends --------------------------------------------------------------------------- */

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
    return (double)((const struct program *)ud)->pool[group].head_bytes / ATTN_BLOCK;
}

/* What a phase took is the mean of its threads' work and waiting, and what one thread did alone; the rest of
 * the step's time is planning and answers. */
void profile_end_now(struct program *p)
{
    struct profile *f = p->profile;
    const struct phase_reader needs = { p->g, &p->low, p->step, p, param_bytes, row_bytes, kv_bytes };
    unsigned threads = p->threads;
    double sum = 0;
    for (uint32_t i = 0; i < p->n_run; i++) {
        struct phase_time *t = &f->phase[i];
        double work = 0, wait = 0;
        for (unsigned r = 0; r < threads; r++) {
            work += f->lane[r].work[i];
            wait += f->lane[r].wait[i];
        }
        t->work += work / threads;
        t->wait += wait / threads;
        t->alone += f->alone[i];
        t->count++;
        phase_needs(&needs, &p->low.phases[i], &t->bytes, &t->macs);
        sum += (work + wait) / threads + f->alone[i];
    }
    f->rest += clock_seconds() - f->begin - sum;
    f->steps++;
    f->given = p->step->given[0];
}

static enum arithmetic arithmetic_of(const struct program *p, const struct phase *ph)
{
    bool given = p->profile->given && !p->limits.strict;
    if (ph->kind == PHASE_ATTENTION && given && attention_given(p, ph->node->attention.head_dim))
        return ARITHMETIC_BF16;
    if (!ph->n_parts || ph->kind == PHASE_LOSS_GRAD) return ARITHMETIC_F32;
    uint8_t forms = p->w->weight[ph->part[0].param].forms;
    if (forms & (given ? FORM_BF16 : FORM_BF16_WRITTEN)) return ARITHMETIC_BF16;
    return forms & FORM_CODES ? ARITHMETIC_INT8 : ARITHMETIC_F32;
}

/* ---- the backend's functions ------------------------------------------------------------------
 */

static void *take_profile(struct program *p, struct arena *a)
{
    size_t n = p->low.n_phases, threads = p->threads;
    struct profile *f = arena_take(a, sizeof *f);
    struct phase_time *phase = arena_take(a, n * sizeof *phase);
    double *alone = arena_take(a, n * sizeof *alone);
    for (size_t t = 0; t < threads; t++) {
        double *work = arena_take(a, n * sizeof *work), *wait = arena_take(a, n * sizeof *wait);
        if (a->base) f->lane[t] = (struct lane){.work = work, .wait = wait};
    }
    if (!a->base) return NULL;
    f->phase = phase;
    f->alone = alone;
    return f;
}

stretto_status cpu_profile(struct program *p, bool on, struct error *err)
{
    mem_unmap(p->profile, p->profile_bytes);
    p->profile = NULL;
    if (!on) return STRETTO_OK;
    struct arena a = {0};
    take_profile(p, &a);
    p->profile_bytes = a.top;
    a = (struct arena){.base = mem_map(a.top), .cap = a.top};
    if (!a.base) return fail(err, STRETTO_E_NOMEM, "no memory for the times of the operations");
    p->profile = take_profile(p, &a);
    return STRETTO_OK;
}

size_t cpu_profile_read(const struct program *p, struct op_time *out, size_t cap)
{
    const struct profile *f = p->profile;
    size_t n = 0;
    if (!f || cap == 0) return 0;
    for (size_t i = 0; i < p->low.n_phases; i++) {
        const struct phase_time *t = &f->phase[i];
        char name[sizeof out->name];
        if (!t->count) continue;
        phase_name(p->g, &p->low, &p->low.phases[i], name, sizeof name);
        size_t at = 0;
        while (at < n && strcmp(out[at].name, name) != 0) at++;
        if (at == n) {
            if (n + 1 >= cap) continue;
            out[n] = (struct op_time){.arithmetic = arithmetic_of(p, &p->low.phases[i])};
            memcpy(out[n++].name, name, sizeof name);
        }
        out[at].count += t->count;
        out[at].seconds += t->work + t->wait + t->alone;
        out[at].wait += t->wait;
        out[at].bytes += t->bytes;
        out[at].macs += t->macs;
    }
    out[n] = (struct op_time){.name = "plan, answers", .count = f->steps, .seconds = f->rest};
    return n + 1;
}
