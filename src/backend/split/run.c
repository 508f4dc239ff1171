/* Programs of the split device: one program for each part. A step of the whole is a step of each part in
 * turn: the same rows, with what crosses in place of their tokens; only the last part is asked what the
 * whole was asked. Nothing is allocated in a step. */
#include "backend/split/split_int.h"
#include "base/arena.h"
#include "base/memory.h"
#include <stdio.h>
#include <string.h>

/* ---- sizes ------------------------------------------------------------------------------------ */

/* All rows of a part before the last ask, and it has the pages of its own layer groups. */
static struct program_limits limits_of(const struct weights *w, size_t i, const struct program_limits *l)
{
    struct program_limits own = *l;
    own.beside = NULL;
    const struct graph_part *cut = &w->part[i].cut;
    if (i + 1 < w->n) own.max_asks = l->max_rows;
    memset(own.max_pages, 0, sizeof own.max_pages);
    for (uint32_t g = 0; g < GRAPH_GROUPS; g++)
        if (cut->group[g] != GRAPH_NONE) own.max_pages[cut->group[g]] = l->max_pages[g];
    return own;
}

/* The program's own memory; base == NULL measures. */
static void take_all(struct program *p, struct arena *a)
{
    size_t n = p->limits.max_rows, parts = p->w->n;
    p->most = 0;
    for (size_t i = 0; i + 1 < parts; i++) {
        const struct graph *g = &p->w->part[i].cut.graph;
        if (g->values[g->hidden].width > p->most) p->most = g->values[g->hidden].width;
    }
    for (size_t i = 0; i < parts; i++) {
        struct split_program *x = &p->part[i];
        const struct graph_part *cut = &p->w->part[i].cut;
        x->n_groups = cut->graph.n_groups;
        for (uint32_t g = 0; g < GRAPH_GROUPS; g++)
            if (cut->group[g] != GRAPH_NONE) x->of[cut->group[g]] = g;
        x->page_at = arena_take(a, n * x->n_groups * sizeof *x->page_at);
    }
    if (parts < 2) return;
    for (size_t i = 0; i < 2 && i + 1 < parts; i++)
        p->vectors[i] = arena_take(a, n * p->most * sizeof *p->vectors[i]);
    p->token = arena_take(a, n * sizeof *p->token);
    p->row = arena_take(a, n * sizeof *p->row);
    p->wants = arena_take(a, n);
    p->answer = arena_take(a, n * sizeof *p->answer);
    p->answers = arena_take(a, n * sizeof *p->answers);
    p->nan = arena_take(a, n * sizeof *p->nan);
    for (size_t i = 0; a->base && i < n; i++) {
        p->token[i] = -1 - (int32_t)i;
        p->row[i] = (int32_t)i;
        p->wants[i] = WANT_HIDDEN;
        p->answers[i] = &p->answer[i];
    }
}

static stretto_status begin(struct program *p, struct device *on, const struct weights *w,
                            const struct program_limits *l, struct error *err)
{
    struct arena a = { 0 };
    if (w->device != split_of(on))
        return fail(err, STRETTO_E_ARG, "the weights are on another device than the program is to run on");
    *p = (struct program){ .device = w->device, .w = w, .limits = *l };
    take_all(p, &a);
    p->bytes = a.top;
    return STRETTO_OK;
}

/* What the parts on one device need, and what it has. */
struct demand { uint64_t buffers, pages, have; };

static struct demand demand_on(const struct weights *w, const struct program_bytes *of, struct device *d)
{
    struct demand x = { .have = d->backend->memory(d) };
    for (size_t i = 0; i < w->n; i++) {
        if (w->part[i].device != d) continue;
        x.buffers += of[i].buffers;
        x.pages += of[i].pages;
        if (of[i].room && (!x.have || of[i].room < x.have)) x.have = of[i].room;
    }
    return x;
}

/* A program's pages grow on all members alike, so it is as large as the member allows that is full first. That
 * one says what all of them have together for such a program; 0: no member knows. */
static uint64_t room_for(const struct weights *w, const struct program_bytes *of,
                         const struct program_bytes *all)
{
    double times = -1;
    for (size_t i = 0; i < w->n; i++) {
        struct demand x = demand_on(w, of, w->part[i].device);
        if (!x.have || (!x.pages && x.buffers <= x.have)) continue;
        double fits = x.buffers < x.have ? (double)(x.have - x.buffers) / (double)x.pages : 0;
        if (times < 0 || fits < times) times = fits;
    }
    if (times < 0) return 0;
    double room = (double)all->buffers + times * (double)all->pages;
    return room < 1e18 ? (uint64_t)room : (uint64_t)1e18;
}

stretto_status split_program_plan(struct device *on, const struct graph *g, const struct weights *w,
                                  const struct program_limits *l, struct program_bytes *out,
                                  struct error *err)
{
    struct program p = { 0 };
    struct program_bytes of[SPLIT_MEMBERS];
    (void)g;
    *out = (struct program_bytes){ 0 };
    TRY(begin(&p, on, w, l, err));
    out->buffers = p.bytes;
    for (size_t i = 0; i < w->n; i++) {
        const struct split_part *x = &w->part[i];
        struct program_limits own = limits_of(w, i, l);
        TRY(split_heed(w->device, x->device,
                       device_plan(x->device, &x->cut.graph, x->weights, &own, &of[i], err)));
        out->buffers += of[i].buffers;
        out->pages += of[i].pages;
        if (of[i].threads > out->threads) out->threads = of[i].threads;
        for (uint32_t k = 0; k < GRAPH_GROUPS; k++)
            if (x->cut.group[k] != GRAPH_NONE) out->page[k] += of[i].page[x->cut.group[k]];
    }
    out->room = room_for(w, of, out);
    return STRETTO_OK;
}

/* ---- opening and closing ------------------------------------------------------------------------ */

static stretto_status compile_into(struct program *p, struct device *on, const struct weights *w,
                                   const struct program_limits *l, struct error *err)
{
    TRY(begin(p, on, w, l, err));
    device_hold(on);
    p->memory = mem_map(p->bytes);
    if (!p->memory) return fail(err, STRETTO_E_NOMEM, "no memory for what crosses between devices");
    struct arena a = { .base = p->memory, .cap = p->bytes };
    take_all(p, &a);
    for (size_t i = 0; i < w->n; i++) {
        const struct split_part *x = &w->part[i];
        struct program_limits own = limits_of(w, i, l);
        struct program_bytes bytes;
        TRY(split_heed(w->device, x->device,
                       device_plan(x->device, &x->cut.graph, x->weights, &own, &bytes, err)));
        memcpy(p->part[i].page, bytes.page, sizeof bytes.page);
        TRY(split_heed(w->device, x->device,
                       device_compile(x->device, &p->part[i].program, &x->cut.graph, x->weights, &own, err)));
    }
    return STRETTO_OK;
}

stretto_status split_compile(struct program **out, struct device *on, const struct graph *g,
                             const struct weights *w, const struct program_limits *l,
                             struct error *err)
{
    (void)g;
    struct program *p = mem_zalloc(1, sizeof *p);
    if (!p) return fail(err, STRETTO_E_NOMEM, "out of memory");
    stretto_status s = compile_into(p, on, w, l, err);
    if (s != STRETTO_OK) split_program_close(p);
    else *out = p;
    return s;
}

void split_program_close(struct program *p)
{
    if (!p) return;
    for (size_t i = 0; p->w && i < p->w->n; i++)
        if (p->part[i].program)
            p->w->part[i].device->backend->program_close(p->part[i].program);
    struct device *d = p->device ? &p->device->device : NULL;
    mem_unmap(p->memory, p->bytes);
    mem_free(p);
    if (d) device_drop(d);
}

/* ---- a step ----------------------------------------------------------------------------------- */

static uint32_t width_of(const struct program *p, size_t i)
{
    const struct graph *g = &p->w->part[i].cut.graph;
    return g->values[g->hidden].width;
}

/* The step as part i sees it. */
static struct step step_of(struct program *p, const struct step *s, size_t i)
{
    struct split_program *x = &p->part[i];
    struct step own = *s;
    if (i) {
        own.token = p->token;
        own.vectors = p->vectors[(i - 1) % 2];
    }
    if (i + 1 < p->w->n) {
        own.n_asks = s->n_rows;
        own.n_heads = 0;
        own.ask_row = p->row;
        own.ask_wants = p->wants;
    }
    for (uint32_t g = 0; g < x->n_groups; g++)
        memcpy(x->page_at + g * s->n_seqs, s->page_at + x->of[g] * s->n_seqs, s->n_seqs * sizeof *s->page_at);
    own.page_at = x->page_at;
    return own;
}

static void place_answers(struct program *p, const struct step *s, size_t i)
{
    for (size_t r = 0; r < s->n_rows; r++)
        p->answer[r] = (struct answer){ .hidden = p->vectors[i % 2] + r * width_of(p, i) };
}

/* A row whose vector is no number goes on as it is: what becomes of it disturbs nobody else. */
static void remember_nan(struct program *p, const struct step *s, size_t i)
{
    for (size_t r = 0; r < s->n_rows; r++)
        p->nan[r] = (i && p->nan[r]) || p->answer[r].status == STRETTO_E_NAN;
}

static stretto_status run_part(struct program *p, const struct step *s, size_t i,
                               struct answer *const *answers, struct error *err)
{
    struct device *d = p->w->part[i].device;
    return split_heed(p->device, d, device_run(d, p->part[i].program, s, answers, err));
}

static stretto_status check(const struct program *p, const struct step *s, struct error *err)
{
    if (s->n_rows == 0 || s->n_rows > p->limits.max_rows)
        return fail(err, STRETTO_E_ARG, "a step of %zu rows; this program takes 1 to %u", s->n_rows,
                    p->limits.max_rows);
    if (s->n_seqs > s->n_rows)
        return fail(err, STRETTO_E_ARG, "%zu sequences have %zu rows", s->n_seqs, s->n_rows);
    if (s->n_asks > p->limits.max_asks)
        return fail(err, STRETTO_E_ARG, "%zu rows ask at once; this program takes %u", s->n_asks,
                    p->limits.max_asks);
    return STRETTO_OK;
}

stretto_status split_run(struct program *p, const struct step *s, struct answer *const *answers,
                         struct error *err)
{
    size_t last = p->w->n - 1;
    TRY(check(p, s, err));
    for (size_t i = 0; i <= last; i++) {
        struct step own = step_of(p, s, i);
        if (i < last) place_answers(p, s, i);
        TRY(run_part(p, &own, i, i < last ? p->answers : answers, err));
        if (i < last) remember_nan(p, s, i);
    }
    for (size_t i = 0; last && i < s->n_asks; i++)
        if (p->nan[s->ask_row[i]]) answers[i]->status = STRETTO_E_NAN;
    return STRETTO_OK;
}

/* ---- pages ------------------------------------------------------------------------------------ */

void split_page_copy(struct program *p, uint32_t group, int32_t from, int32_t to)
{
    for (size_t i = 0; i < p->w->n; i++) {
        const struct split_part *x = &p->w->part[i];
        if (x->cut.group[group] != GRAPH_NONE)
            x->device->backend->page_copy(p->part[i].program, (uint32_t)x->cut.group[group], from, to);
    }
}

/* A page's bytes are those of the parts, one after the other. */
stretto_status split_page_read(struct program *p, uint32_t group, int32_t page, void *out, struct error *err)
{
    unsigned char *at = out;
    for (size_t i = 0; i < p->w->n; i++) {
        const struct split_part *x = &p->w->part[i];
        const struct backend *b = x->device->backend;
        if (x->cut.group[group] == GRAPH_NONE) continue;
        if (!b->page_read) return fail(err, STRETTO_E_UNSUP, "the backend %s does not give pages away", b->name);
        TRY(b->page_read(p->part[i].program, (uint32_t)x->cut.group[group], page, at, err));
        at += p->part[i].page[x->cut.group[group]];
    }
    return STRETTO_OK;
}

stretto_status split_page_write(struct program *p, uint32_t group, int32_t page, const void *in, struct error *err)
{
    const unsigned char *at = in;
    for (size_t i = 0; i < p->w->n; i++) {
        const struct split_part *x = &p->w->part[i];
        const struct backend *b = x->device->backend;
        if (x->cut.group[group] == GRAPH_NONE) continue;
        if (!b->page_write) return fail(err, STRETTO_E_UNSUP, "the backend %s takes no pages", b->name);
        TRY(b->page_write(p->part[i].program, (uint32_t)x->cut.group[group], page, at, err));
        at += p->part[i].page[x->cut.group[group]];
    }
    return STRETTO_OK;
}

void split_slots_move(struct program *p, uint32_t group, const int32_t *pages, const int32_t *from,
                      const int32_t *to, size_t n)
{
    for (size_t i = 0; i < p->w->n; i++) {
        const struct split_part *x = &p->w->part[i];
        if (x->cut.group[group] != GRAPH_NONE)
            x->device->backend->slots_move(p->part[i].program, (uint32_t)x->cut.group[group], pages, from, to,
                                           n);
    }
}

/* ---- where the time goes ------------------------------------------------------------------------ */

stretto_status split_profile(struct program *p, bool on, struct error *err)
{
    for (size_t i = 0; i < p->w->n; i++) {
        const struct backend *b = p->w->part[i].device->backend;
        stretto_status s = b->profile(p->part[i].program, on, err);
        if (s == STRETTO_OK) continue;
        while (on && i-- > 0) p->w->part[i].device->backend->profile(p->part[i].program, false, NULL);
        return s;
    }
    return STRETTO_OK;
}

/* "2 cpu: attention" is the second part's. */
static void name_part(struct op_time *t, size_t part, const char *of)
{
    char name[sizeof t->name];
    memcpy(name, t->name, sizeof name);
    int n = snprintf(t->name, sizeof t->name, "%zu %.20s: ", part + 1, of);
    if (n > 0 && (size_t)n < sizeof t->name)
        snprintf(t->name + n, sizeof t->name - (size_t)n, "%.*s", (int)(sizeof t->name - (size_t)n - 1), name);
}

size_t split_profile_read(const struct program *p, struct op_time *out, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < p->w->n; i++) {
        const struct backend *b = p->w->part[i].device->backend;
        size_t k = b->profile_read(p->part[i].program, out + n, cap - n);
        for (size_t end = n + k; n < end; n++)
            if (p->w->n > 1) name_part(&out[n], i, split_word(p->w->part[i].device));
    }
    return n;
}
