/* A device made of others: opening it, its weights, and what it says of itself. Its row of functions is its
 * own, so that it can say what its members say together (batch_invariant, profile, the name). */
#include "backend/params.h"
#include "backend/split/split_int.h"
#include "base/memory.h"
#include <stdio.h>
#include <string.h>

stretto_status split_heed(struct split_device *d, struct device *member, stretto_status s)
{
    const char *why = s == STRETTO_E_DEVICE ? atomic_load(&member->gone) : NULL;
    if (why) device_lose(&d->device, why);
    return s;
}

/* ---- the device ----------------------------------------------------------------------------- */

static void split_close(struct device *on)
{
    struct split_device *d = split_of(on);
    for (size_t i = 0; i < d->n; i++) device_drop(d->member[i]);
    mem_free(d);
}

/* A device that is several members has its memory once. */
static bool counted(const struct split_device *d, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (d->member[k] == d->member[i]) return true;
    return false;
}

/* What programs need in which member is known when they are planned: see program_bytes.room. */
static uint64_t split_memory(const struct device *on)
{
    const struct split_device *d = (const struct split_device *)(const void *)on;
    uint64_t all = 0;
    for (size_t i = 0; i < d->n; i++) {
        uint64_t have = counted(d, i) ? 0 : d->member[i]->backend->memory(d->member[i]);
        if (!have && !counted(d, i)) return 0;
        all += have;
    }
    return all;
}

/* A step takes the members' times together, and most of it is the slowest's, whose rows, as a rule, also cost
 * the most: those of the cpu beside a card. So the largest of the members' ratios is nearest. */
static void split_costs(const struct device *on, const uint32_t *rows, float *ratio, size_t n)
{
    enum { AT_ONCE = 64 };
    const struct split_device *d = (const struct split_device *)(const void *)on;
    float of[AT_ONCE];
    for (size_t at = 0, k; at < n; at += k) {
        k = n - at < AT_ONCE ? n - at : AT_ONCE;
        for (size_t i = 0; i < d->n; i++) {
            d->member[i]->backend->costs(d->member[i], rows + at, of, k);
            for (size_t r = 0; r < k; r++)
                if (!i || of[r] > ratio[at + r]) ratio[at + r] = of[r];
        }
    }
}

/* ---- weights --------------------------------------------------------------------------------- */

/* Who has which layers of a graph: its parts, cut out. */
static stretto_status cut_all(struct weights *w, const struct graph *g, struct error *err)
{
    const struct split_device *d = w->device;
    uint32_t first = 0;
    for (size_t i = 0; i < d->n; i++) {
        bool last = i + 1 == d->n;
        uint32_t left = g->layers - first, n = last || d->layers[i] > left ? left : d->layers[i];
        if (!n && !(last && !g->layers)) continue;
        struct split_part *p = &w->part[w->n];
        TRY(graph_cut(&p->cut, g, first, first + n, err));
        p->device = d->member[i];
        w->n++;
        first += n;
        if (first == g->layers) break;
    }
    return STRETTO_OK;
}

/* The whole's progress: what a part says, put behind the parts before it. */
struct progress { const struct upload_options *o; uint64_t before, part, total; };

static void split_progress(void *ud, uint64_t done, uint64_t total)
{
    const struct progress *p = ud;
    uint64_t here = total ? (uint64_t)((double)p->part * ((double)done / (double)total)) : p->part;
    p->o->progress(p->o->ud, p->before + (here < p->part ? here : p->part), p->total);
}

/* Bytes of the tensors that a part uploads. */
static stretto_status part_bytes(const struct graph *g, const struct binding *b, uint64_t *bytes,
                                 struct error *err)
{
    bool *linear = mem_zalloc(2 * g->n_params + 1, sizeof *linear), *table = linear + g->n_params;
    stretto_status s = linear ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "out of memory while loading");
    *bytes = 0;
    if (linear) params_used(g, linear, table);
    for (size_t i = 0; i < g->n_params && s == STRETTO_OK; i++) {
        const struct graph_param *p = &g->params[i];
        struct param_bytes x;
        if (table[i] && !linear[i]) continue;
        s = b->find(b->ud, p->name, p->n_in, p->n_out, &x, err);
        if (s == STRETTO_OK) *bytes += (uint64_t)x.row_bytes * (x.transposed ? x.n_in : x.n_out);
    }
    mem_free(linear);
    return s;
}

static stretto_status upload_parts(struct weights *w, const struct binding *b,
                                   const struct upload_options *o, struct error *err)
{
    struct progress p = { .o = o };
    struct upload_options each = *o;
    uint64_t bytes[SPLIT_MEMBERS];
    if (o->progress) each.progress = split_progress;
    each.ud = &p;
    for (size_t i = 0; i < w->n; i++) {
        TRY(part_bytes(&w->part[i].cut.graph, b, &bytes[i], err));
        p.total += bytes[i];
    }
    for (size_t i = 0; i < w->n; i++) {
        struct split_part *x = &w->part[i];
        p.part = bytes[i];
        TRY(split_heed(w->device, x->device,
                       device_upload(x->device, &x->weights, &x->cut.graph, b, &each, err)));
        p.before += bytes[i];
    }
    return STRETTO_OK;
}

static void split_weights_close(struct weights *w)
{
    if (!w) return;
    struct device *d = &w->device->device;
    for (size_t i = 0; i < SPLIT_MEMBERS; i++) {
        struct split_part *p = &w->part[i];
        if (p->weights) p->device->backend->weights_close(p->weights);
        graph_part_done(&p->cut);
    }
    mem_free(w);
    device_drop(d);
}

static stretto_status split_upload(struct weights **out, struct device *on, const struct graph *g,
                                   const struct binding *b, const struct upload_options *o,
                                   struct error *err)
{
    struct weights *w = mem_zalloc(1, sizeof *w);
    if (!w) return fail(err, STRETTO_E_NOMEM, "out of memory while loading");
    w->device = split_of(on);
    w->g = g;
    device_hold(on);
    stretto_status s = cut_all(w, g, err);
    if (s == STRETTO_OK) s = upload_parts(w, b, o, err);
    if (s != STRETTO_OK) split_weights_close(w);
    else *out = w;
    return s;
}

static uint64_t split_weights_bytes(const struct weights *w)
{
    uint64_t all = 0;
    for (size_t i = 0; i < w->n; i++)
        all += w->part[i].device->backend->weights_bytes(w->part[i].weights);
    return all;
}

/* Each member's own words, behind a line that says what it has. */
static void split_describe(const struct weights *w, char *text, size_t size)
{
    for (size_t i = 0; i < w->n; i++) {
        const struct split_part *p = &w->part[i];
        const struct backend *b = p->device->backend;
        size_t at = strlen(text);
        if (at + 1 >= size) return;
        snprintf(text + at, size - at, "%u of %u layers on %s: %.1f MB of weights\n", p->cut.layers,
                 w->g->layers, split_word(p->device), (double)b->weights_bytes(p->weights) / 1e6);
        b->describe(p->weights, text, size);
    }
}

/* All cards' together, each once; those of members without a card are the machine's. */
static double split_joules(struct device *on)
{
    const struct split_device *d = split_of(on);
    double sum = 0;
    for (size_t i = 0; i < d->n; i++) {
        size_t before = 0;
        while (d->member[before] != d->member[i]) before++;
        if (before < i || !d->member[i]->backend->joules) continue;
        double joules = d->member[i]->backend->joules(d->member[i]);
        if (joules < 0) return -1;
        sum += joules;
    }
    return sum;
}

/* ---- opening ---------------------------------------------------------------------------------- */

static const struct backend row = {
    .name = "split",
    .batch_invariant = true,
    .close = split_close,
    .memory = split_memory,
    .costs = split_costs,
    .upload = split_upload,
    .weights_close = split_weights_close,
    .weights_bytes = split_weights_bytes,
    .describe = split_describe,
    .plan = split_program_plan,
    .compile = split_compile,
    .program_close = split_program_close,
    .run = split_run,
    .page_copy = split_page_copy,
    .page_read = split_page_read,
    .page_write = split_page_write,
    .slots_move = split_slots_move,
    .profile = split_profile,
    .profile_read = split_profile_read,
};

static void say_what_it_is(struct split_device *d)
{
    d->row = row;
    d->row.name = d->name;
    for (size_t i = 0; i < d->n; i++) {
        const struct backend *b = d->member[i]->backend;
        size_t at = strlen(d->name);
        snprintf(d->name + at, sizeof d->name - at, "%s%s", i ? "+" : "", split_word(d->member[i]));
        d->row.batch_invariant &= b->batch_invariant;
        if (b->joules) d->row.joules = split_joules;
        if (!b->profile || !b->profile_read) d->row.profile = NULL, d->row.profile_read = NULL;
    }
}

stretto_status split_open(struct device **out, struct device *const *members, const uint32_t *layers,
                          size_t n, struct error *err)
{
    *out = NULL;
    if (!n || n > SPLIT_MEMBERS)
        return fail(err, STRETTO_E_ARG, "a model over %zu devices; it can be over 1 to %d", n, SPLIT_MEMBERS);
    for (size_t i = 0; i < n; i++) TRY(device_check(members[i], err));
    struct split_device *d = mem_zalloc(1, sizeof *d);
    if (!d) return fail(err, STRETTO_E_NOMEM, "out of memory");
    for (; d->n < n; d->n++) {
        d->member[d->n] = members[d->n];
        d->layers[d->n] = layers[d->n];
        device_hold(members[d->n]);
    }
    say_what_it_is(d);
    snprintf(d->device.word, sizeof d->device.word, "%.*s", (int)sizeof d->device.word - 1, d->name);
    d->device.backend = &d->row;
    atomic_store(&d->device.holders, 1);
    *out = &d->device;
    return STRETTO_OK;
}
