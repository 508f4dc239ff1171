#include "backend/cpu/profile.h"
#include "base/clock.h"
#include "base/memory.h"
#include <stdio.h>
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

/* ---- what a phase needs ---------------------------------------------------------------------- */

static double rows_of(const struct program *p, enum rows_kind kind)
{
    return (double)(kind == ROWS_ASKING ? p->step->n_asks : p->step->n_rows);
}

static double file_bytes(const struct weight *w)
{
    return (double)dtype_bytes(w->type, w->n_in) * w->n_out;
}

static void needs_linear(const struct program *p, const struct phase *ph, struct phase_time *t)
{
    for (uint32_t i = 0; i < ph->n_parts; i++) {
        const struct weight *w = &p->w->weight[ph->part[i].param];
        t->bytes += file_bytes(w);
        t->macs += (double)w->n_in * w->n_out * rows_of(p, ph->rows);
    }
}

/* Keys and values of every sequence once, and each row times what it sees. */
static void needs_attention(const struct program *p, const struct phase *ph, struct phase_time *t)
{
    const struct graph_node *n = ph->node;
    const struct step *s = p->step;
    double sees = 0, positions = 0;
    for (size_t i = 0; i < s->n_seqs; i++) {
        double first = 0, last = 0;
        for (int32_t r = 0; r < s->seqs[i].n_rows; r++) {
            double end = s->position[s->seqs[i].first_row + r] + 1, from = 0;
            if (!n->attention.causal) end = s->seqs[i].committed + s->seqs[i].n_rows;
            if (n->attention.window && end > n->attention.window) from = end - n->attention.window;
            sees += end - from;
            if (r == 0 || from < first) first = from;
            if (end > last) last = end;
        }
        positions += last - first;
    }
    double width = (double)n->attention.heads * n->attention.head_dim;
    t->macs += 2 * sees * width;
    t->bytes += positions * (double)p->pool[n->attention.group].head_bytes / ATTN_BLOCK *
                n->attention.kv_heads;
}

/* Activations go through a row pass once, whichever of its operations read them. */
static void needs_rows(const struct program *p, const struct phase *ph, struct phase_time *t)
{
    int32_t seen[32];
    size_t n = 0;
    double rows = rows_of(p, ph->rows);
    for (uint32_t i = 0; i < ph->count; i++) {
        const struct row_instr *r = &p->low.rows[ph->first + i];
        int32_t value[3] = {r->in, r->in2, r->out};
        for (size_t k = 0; k < 3; k++) {
            bool old = value[k] == GRAPH_NONE;
            for (size_t j = 0; j < n && !old; j++) old = seen[j] == value[k];
            if (old || n == sizeof seen / sizeof *seen) continue;
            seen[n++] = value[k];
            t->bytes += rows * 4 * p->g->values[value[k]].width;
        }
        if (r->op == ROW_EMBED && r->node->embed != EMBED_VECTOR)
            t->bytes += rows * (double)p->w->weight[node_param(p->g, r->node, 0)].table.row_bytes;
    }
}

static void needs(const struct program *p, const struct phase *ph, struct phase_time *t)
{
    if (ph->kind != PHASE_ATTENTION && rows_of(p, ph->rows) == 0) return;
    switch (ph->kind) {
    case PHASE_ROWS:
        needs_rows(p, ph, t);
        return;
    case PHASE_LINEAR:
    case PHASE_HEAD:
        needs_linear(p, ph, t);
        return;
    case PHASE_ATTENTION:
        needs_attention(p, ph, t);
        return;
    }
}

/* What a phase took is the mean of its threads' work and waiting, and what one thread did alone; the rest of
 * the step's time is planning and answers. */
void profile_end_now(struct program *p)
{
    struct profile *f = p->profile;
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
        needs(p, &p->low.phases[i], t);
        sum += (work + wait) / threads + f->alone[i];
    }
    f->rest += clock_seconds() - f->begin - sum;
    f->steps++;
    f->given = p->step->given[0];
}

/* ---- names ----------------------------------------------------------------------------------- */

static void join(char *name, size_t size, const char *word, size_t n, char between)
{
    size_t at = strlen(name);
    if (at + n + 2 > size) return;
    if (at) name[at++] = between;
    memcpy(name + at, word, n);
    name[at + n] = '\0';
}

/* "blk.3.attn_q.weight" -> attn_q */
static void join_param(char *name, size_t size, const char *param)
{
    unsigned layer;
    int skip = 0;
    if (sscanf(param, "blk.%u.%n", &layer, &skip) == 1) param += skip;
    const char *end = strstr(param, ".weight");
    join(name, size, param, end ? (size_t)(end - param) : strlen(param), '/');
}

static void join_rows(const struct program *p, const struct phase *ph, char *name, size_t size)
{
    static const char *const words[] = {
        [ROW_EMBED] = "embed",     [ROW_NORM] = "norm",      [ROW_ROPE] = "rope",
        [ROW_ACT] = "act",         [ROW_ACT_MUL] = "glu",    [ROW_MUL] = "mul",
        [ROW_ADD] = "add",         [ROW_BIAS] = "bias",      [ROW_SCALE] = "scale",
        [ROW_SOFTCAP] = "softcap", [ROW_QUANT] = "quantize", [ROW_STORE] = "store",
        [ROW_ASK] = "ask",         [ROW_ANGLES] = "angles",
    };
    uint32_t said = 0;
    for (uint32_t i = 0; i < ph->count; i++) {
        enum row_op op = p->low.rows[ph->first + i].op;
        if (!(said & 1u << op)) join(name, size, words[op], strlen(words[op]), '+');
        said |= 1u << op;
    }
}

static void name_phase(const struct program *p, const struct phase *ph, char *name, size_t size)
{
    name[0] = '\0';
    switch (ph->kind) {
    case PHASE_ROWS:
        join_rows(p, ph, name, size);
        return;
    case PHASE_ATTENTION:
        join(name, size, "attention", 9, '+');
        return;
    case PHASE_HEAD:
        join(name, size, "head", 4, '+');
        return;
    case PHASE_LINEAR:
        for (uint32_t i = 0; i < ph->n_parts; i++)
            join_param(name, size, p->g->params[ph->part[i].param].name);
        return;
    }
}

static enum arithmetic arithmetic_of(const struct program *p, const struct phase *ph)
{
    bool given = p->profile->given && !p->limits.strict;
    if (ph->kind == PHASE_ATTENTION && given && attention_given(p, ph->node->attention.head_dim))
        return ARITHMETIC_BF16;
    if (!ph->n_parts) return ARITHMETIC_F32;
    uint8_t forms = p->w->weight[ph->part[0].param].forms;
    if (given && (forms & FORM_BF16)) return ARITHMETIC_BF16;
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
        name_phase(p, &p->low.phases[i], name, sizeof name);
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
