/* What running a program takes, measured and taken by one code path; and what the graph's own numbers become. */
#include "backend/integer/integer.h"
#include "backend/input.h"
#include "base/memory.h"
#include <math.h>
#include <string.h>

static uint8_t forms(const void *ud, int32_t param)
{
    (void)ud;
    (void)param;
    return FORM_CODES | FORM_CODES_GIVEN;
}

static void shape_pages(struct program *p)
{
    for (uint32_t i = 0; i < p->g->n_groups; i++) {
        const struct layer_group *g = &p->g->group[i];
        struct page_pool *x = &p->pool[i];
        x->head_bytes = kept_bytes(g->head_dim);
        x->page_bytes = (size_t)g->layers * g->kv_heads * x->head_bytes;
        x->bytes = x->page_bytes * p->limits.max_pages[i];
    }
}

static size_t all_pages(const struct program *p)
{
    size_t n = 0;
    for (uint32_t i = 0; i < GRAPH_GROUPS; i++) n += p->pool[i].bytes;
    return n;
}

/* ---- the graph's numbers ------------------------------------------------------------------------ */

static const double log2e = 1.4426950408889634074;

static struct vector vector_of(const struct program *p, int32_t param)
{
    return p->w->weight[param].vector;
}

static struct wide wide_number(double x)
{
    int e;
    double m = frexp(x, &e);
    return wide_of((uint64_t)ldexp(m, 53), e - 53);
}

static struct numbers numbers_of(const struct program *p, const struct graph_node *n)
{
    struct numbers c = { .by = { 0, 0 } };
    int32_t second = node_param(p->g, n, 1);
    double cap = n->op == OP_SOFTCAP ? (double)n->cap : n->op == OP_ATTENTION ? (double)n->attention.softcap : 0;
    if (second != GRAPH_NONE) c.bias = vector_of(p, second);
    if (n->op == OP_NORM) {
        uint32_t width = p->g->values[n->out].width;
        c.norm = (struct norm){ n->norm.kind, n->norm.head_dim ? n->norm.head_dim : width,
                                wide_number((double)n->norm.eps), vector_of(p, node_param(p->g, n, 0)), NULL };
    }
    if (n->op == OP_SCALE) c.by = scale_of((double)n->scale);
    if (n->op == OP_ATTENTION) c.by = scale_of((double)n->attention.scale * (cap > 0 ? 1 : log2e));
    if (cap > 0) {
        c.cap = scale_of(cap);
        c.of_cap = scale_of(2 * log2e / cap);
    }
    return c;
}

/* A pair's turn for each position, in 2^-64 of a circle. */
static void turns_of(const struct rope_table *r, const struct program_limits *l, uint64_t *turn)
{
    const float *factor = input_factors(r, l);
    for (uint32_t i = 0; i < r->n_rot / 2; i++) {
        double circles = pow(r->base, -2.0 * i / r->n_rot) * (double)factor[i] / 6.283185307179586476925;
        double part = circles - floor(circles);         /* no number, or 1, where a file's factors make it so */
        turn[i] = part >= 0 && part < 1 ? (uint64_t)ldexp(part, 64) : 0;
    }
}

static void fill(struct program *p)
{
    const struct graph *g = p->g;
    for (size_t i = 0; i < g->n_nodes; i++) {
        p->numbers[i] = numbers_of(p, &g->nodes[i]);
        if (g->nodes[i].op == OP_NORM && node_param(g, &g->nodes[i], 1) != GRAPH_NONE)
            p->numbers[i].norm.b = &p->numbers[i].bias;
    }
    for (size_t r = 0; r < g->n_rope; r++) {
        turns_of(&g->rope[r], &p->limits, p->turn[r]);
        p->magnitude[r] = scale_of((double)g->rope[r].magnitude);
    }
}

/* ---- what cannot be --------------------------------------------------------------------------------- */

static stretto_status check(const struct program *p, struct error *err)
{
    const struct graph *g = p->g;
    if (p->limits.cache != CACHE_F16 && p->limits.cache != CACHE_F32)
        return fail(err, STRETTO_E_UNSUP, "integer arithmetic keeps keys and values as int8 codes with a scale for "
                    "each token and head; there is no cache of %s for it", cache_type_name(p->limits.cache));
    for (size_t i = 0; i < g->n_values; i++)
        if (g->values[i].width > INTEGER_WIDTH)
            return fail(err, STRETTO_E_UNSUP, "rows of %u numbers are too wide for integer arithmetic",
                        g->values[i].width);
    for (size_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op == OP_ATTENTION && g->nodes[i].attention.head_dim > INTEGER_HEAD)
            return fail(err, STRETTO_E_UNSUP, "heads of %u numbers are too large for integer arithmetic, whose scores "
                        "are sums in 32 bits", g->nodes[i].attention.head_dim);
    for (size_t i = 0; i < g->n_rope; i++)
        if (!(fabsf(g->rope[i].magnitude) < 4))
            return fail(err, STRETTO_E_UNSUP, "rotary positions that are %g times as long do not fit integer "
                        "arithmetic", (double)g->rope[i].magnitude);
    for (size_t i = 0; i < g->n_rope; i++)
        if (g->rope[i].span)
            return fail(err, STRETTO_E_UNSUP, "queries that grow with their position (attention.temperature_scale) are "
                        "not computed in integers");
    for (size_t i = 0; i < p->low.n_phases && p->low.phases; i++) {
        const struct phase *ph = &p->low.phases[i];
        if (ph->kind == PHASE_HEAD && ph->n_parts && (ph->part[0].out != GRAPH_NONE || ph->capped != GRAPH_NONE))
            return fail(err, STRETTO_E_UNSUP, "logits that the graph itself reads are not computed in integers");
    }
    return STRETTO_OK;
}

/* ---- buffers ------------------------------------------------------------------------------------------ */

static uint32_t widest(const struct graph *g)
{
    uint32_t n = HEAD_ROWS * HEAD_COLS;
    for (size_t i = 0; i < g->n_values; i++)
        if (g->values[i].width > n && (int32_t)i != g->logits) n = g->values[i].width;
    return n;
}

static void take_scratch(struct program *p, struct arena *a, struct scratch *s)
{
    size_t width = widest(p->g), positions = (size_t)p->limits.max_seq_pages * PAGE_SLOTS;
    *s = (struct scratch){ .p = NULL };
    s->p = arena_take(a, width * sizeof *s->p);
    s->f = arena_take(a, width * sizeof *s->f);
    s->sum = arena_take(a, (size_t)HEAD_ROWS * HEAD_COLS * sizeof *s->sum);
    s->score = arena_take(a, positions * sizeof *s->score);
    s->slot = arena_take(a, positions * sizeof *s->slot);
    s->query = arena_take(a, INTEGER_HEAD * sizeof *s->query);
    s->acc = arena_take(a, INTEGER_HEAD * sizeof *s->acc);
}

static size_t stages_of(const struct lowered *low, struct stage *out)
{
    static const enum stage_kind first[] = { [PHASE_ROWS] = STAGE_ROWS, [PHASE_LINEAR] = STAGE_LINEAR,
                                             [PHASE_ATTENTION] = STAGE_ATTENTION, [PHASE_HEAD] = STAGE_HEAD };
    size_t n = 0;
    for (size_t i = 0; i < low->n_phases; i++) {
        const struct phase *ph = &low->phases[i];
        out[n++] = (struct stage){ first[ph->kind], ph };
        if (ph->kind == PHASE_LINEAR) out[n++] = (struct stage){ STAGE_REQUANTISE, ph };
        if (ph->kind == PHASE_ATTENTION) out[n++] = (struct stage){ STAGE_HEADS, ph };
    }
    return n;
}

/* The places of lower.h: int32 where it has float32, codes where it has them, and their scales where it has those
 * of groups, at least one for each row. */
static void place_values(struct program *p, struct arena *a)
{
    for (size_t v = 0; v < p->g->n_values; v++) {
        int32_t *e = arena_take(a, p->limits.max_rows * sizeof *e);
        struct scale *s = arena_take(a, p->limits.max_rows * sizeof *s);
        if (!a->base || !p->low.place[v].ld) continue;
        const struct value_place *x = &p->low.place[v];
        p->place[v] = (struct place){ (int32_t *)(void *)(a->base + x->f), e, x->ld,
                                      x->forms ? (int8_t *)(a->base + x->q) : NULL, x->ldq, s };
    }
}

static stretto_status buffers(struct program *p, struct arena *a, struct error *err)
{
    const struct graph *g = p->g;
    const struct program_limits *l = &p->limits;
    struct lower_rules rules = { l->max_rows, l->max_asks, true, forms, NULL, NULL, false, false };
    unsigned threads = p->threads;
    for (size_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op == OP_ATTENTION && g->nodes[i].attention.heads > p->most_heads)
            p->most_heads = g->nodes[i].attention.heads;
    p->place = arena_take(a, g->n_values * sizeof *p->place);
    p->numbers = arena_take(a, g->n_nodes * sizeof *p->numbers);
    p->head_e = arena_take(a, (size_t)l->max_rows * p->most_heads * sizeof *p->head_e);
    p->scratch = arena_take(a, (threads + 1) * sizeof *p->scratch);
    for (unsigned t = 0; t <= threads; t++) take_scratch(p, a, a->base ? &p->scratch[t] : &(struct scratch){ 0 });
    p->best = arena_take(a, (size_t)threads * l->max_asks * sizeof *p->best);
    p->top = arena_take(a, (size_t)threads * l->max_asks * sizeof *p->top);
    for (size_t r = 0; r < g->n_rope; r++) {
        p->turn[r] = arena_take(a, g->rope[r].n_rot / 2 * sizeof *p->turn[r]);
        p->angles[r] = arena_take(a, (size_t)l->max_rows * g->rope[r].n_rot * sizeof *p->angles[r]);
    }
    TRY(lower(g, &rules, &p->low, a, a, err));
    p->stages = arena_take(a, 2 * p->low.n_phases * sizeof *p->stages);
    p->tickets = arena_take(a, 2 * p->low.n_phases * sizeof *p->tickets);
    place_values(p, a);
    if (!a->base) return STRETTO_OK;
    p->n_stages = stages_of(&p->low, p->stages);
    fill(p);
    return check(p, err);
}

/* ---- programs ----------------------------------------------------------------------------------------- */

static stretto_status begin(struct program *p, struct device *on, const struct graph *g, const struct weights *w,
                            const struct program_limits *l, struct error *err)
{
    struct integer_device *d = (struct integer_device *)(void *)on;
    struct arena a = { 0 };
    if (w->device != d)
        return fail(err, STRETTO_E_ARG, "the weights are on another device than the program is to run on");
    *p = (struct program){ .g = g, .w = w, .device = d, .threads = l->threads ? l->threads : team_size(d->team),
                           .limits = *l };
    if (p->threads > TEAM_MAX)
        return fail(err, STRETTO_E_ARG, "%u threads asked for; the most is %d", p->threads, TEAM_MAX);
    shape_pages(p);
    TRY(check(p, err));
    TRY(buffers(p, &a, err));
    p->bytes = a.top;
    return STRETTO_OK;
}

stretto_status integer_plan(struct device *d, const struct graph *g, const struct weights *w,
                            const struct program_limits *l, struct program_bytes *out, struct error *err)
{
    struct program p;
    *out = (struct program_bytes){ 0 };
    TRY(begin(&p, d, g, w, l, err));
    *out = (struct program_bytes){ .buffers = p.bytes, .pages = all_pages(&p), .threads = p.threads };
    for (uint32_t i = 0; i < GRAPH_GROUPS; i++) out->page[i] = p.pool[i].page_bytes;
    return STRETTO_OK;
}

void integer_program_close(struct program *p)
{
    if (!p) return;
    mem_unmap(p->memory, p->bytes);
    for (uint32_t i = 0; i < GRAPH_GROUPS; i++) mem_unmap(p->pool[i].pages, p->pool[i].bytes);
    if (p->device) {
        atomic_fetch_sub(&p->device->taken, p->bytes + all_pages(p));
        device_drop(&p->device->device);
    }
    mem_free(p);
}

static bool map_all(struct program *p)
{
    p->memory = mem_map(p->bytes);
    for (uint32_t i = 0; i < GRAPH_GROUPS && p->memory; i++)
        if (p->pool[i].bytes && !(p->pool[i].pages = mem_map(p->pool[i].bytes))) return false;
    return p->memory != NULL;
}

stretto_status integer_compile(struct program **out, struct device *d, const struct graph *g, const struct weights *w,
                               const struct program_limits *l, struct error *err)
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
        if (!map_all(p))
            s = fail(err, STRETTO_E_NOMEM, "no memory for %.0f MB of step buffers and %.0f MB of cache; ask for a "
                     "smaller context with -c", (double)p->bytes / 1e6, (double)cache / 1e6);
        struct arena a = { .base = p->memory, .cap = p->bytes };
        if (s == STRETTO_OK) s = buffers(p, &a, err);
    }
    if (s != STRETTO_OK) integer_program_close(p);
    else *out = p;
    return s;
}
