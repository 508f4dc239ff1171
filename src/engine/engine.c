/* Opening an engine: how large its context and its pool of pages are, and the memory for it all. */
#include "engine/engine_int.h"
#include "base/memory.h"
#include <string.h>

enum { DEFAULT_ROWS = 512 };

static uint32_t pages_for(uint64_t tokens)
{
    return (uint32_t)((tokens + PAGE_SLOTS - 1) / PAGE_SLOTS);
}

/* Pages of a layer group. Where tokens keep theirs for ever, those that all sequences share; else what
 * sequences hold, as much again for texts that begin alike, and a step's rows. */
static uint32_t pool_of(const struct layer_group *g, const struct engine_info *i, uint32_t seq_pages)
{
    uint64_t most = (uint64_t)seq_pages * i->sequences, pool = pages_for(i->pool_tokens) + i->sequences;
    uint64_t held = 2 * (uint64_t)i->sequences * cache_held(g, seq_pages) + pages_for(i->max_rows) +
                    i->sequences;
    if (pool > most) pool = most;
    return (uint32_t)(g->kind == GROUP_FULL || pool < held ? pool : held);
}

/* Step slack: guess rows may stand behind the context's last token. */
static struct program_limits limits_of(const struct graph *g, const struct engine_info *i,
                                       const struct engine_options *o)
{
    struct program_limits l = { .max_rows = i->max_rows, .max_asks = i->max_rows,
                                .max_seq_pages = pages_for(i->context) + 1, .context = i->context, .cache = o->cache,
                                .strict = o->strict, .threads = o->threads };
    for (uint32_t k = 0; k < g->n_groups; k++)
        l.max_pages[k] = pool_of(&g->group[k], i, l.max_seq_pages) + i->prefix_pages;
    return l;
}

/* Tokens for which so many bytes have room: beside the pools of windows, or, where few tokens fit and the
 * pools are no larger than they need, as if all pages were kept. */
static uint64_t tokens_in(const struct graph *g, const struct program_limits *l,
                          const struct program_bytes *b, uint64_t bytes)
{
    uint64_t grows = 0, fixed = b->buffers, all = 0;
    for (uint32_t k = 0; k < g->n_groups; k++) {
        all += b->page[k];
        if (g->group[k].kind == GROUP_FULL) grows += b->page[k];
        else fixed += b->page[k] * l->max_pages[k];
    }
    uint64_t beside = grows && bytes > fixed ? (bytes - fixed) / grows : 0;
    uint64_t kept = bytes > b->buffers ? (bytes - b->buffers) / all : 0;
    return (beside > kept ? beside : kept) * PAGE_SLOTS;
}

/* Pages for texts that begin alike: as many as were asked for, or as fit beside all else. */
static stretto_status add_prefix_pages(const struct model *m, const struct engine_options *o, struct engine_info *i,
                                       struct program_limits *l, struct program_bytes *b, uint64_t spare,
                                       struct error *err)
{
    uint64_t page = 0, bytes = o->prefix_bytes, taken = b->buffers + b->pages;
    for (uint32_t k = 0; k < m->graph.n_groups; k++) page += b->page[k];
    if (spare && bytes > (spare > taken ? spare - taken : 0)) bytes = spare > taken ? spare - taken : 0;
    if (!page || bytes < page || m->graph.bidirectional) return STRETTO_OK;
    i->prefix_pages = (uint32_t)(bytes / page < INT32_MAX / 4 ? bytes / page : INT32_MAX / 4);
    *l = limits_of(&m->graph, i, o);
    return device_plan(m->device, &m->graph, m->weights, l, b, err);
}

/* Context and pool. A context that was asked for is given or refused; the model's own is cut to what fits.
 * Many sequences make the pool scarcer and not the context smaller: one of them may have all of it. */
static stretto_status plan(const struct model *m, const struct engine_options *o,
                           struct engine_info *i, struct program_limits *l, struct error *err)
{
    *i = (struct engine_info){.trained_context = m->config.context,
                              .context = o->context,
                              .sequences = o->sequences ? o->sequences : 1,
                              .max_rows = o->max_rows ? o->max_rows : DEFAULT_ROWS,
                              .weights = m->device->backend->weights_bytes(m->weights)};
    if (i->sequences > 4096)
        return fail(err, STRETTO_E_ARG, "%u sequences at once; the most is 4096", i->sequences);
    bool learned = m->family->position == POSITION_LEARNED;
    if (learned && i->context > m->config.context)
        return fail(err, STRETTO_E_ARG,
                    "a context of %u asked for; this model has learned positions for %u only",
                    i->context, m->config.context);
    bool chosen = i->context != 0;
    if (!chosen) i->context = m->config.context;
    uint64_t all = (uint64_t)i->context * i->sequences;
    if (i->max_rows > all) i->max_rows = (uint32_t)all;
    if (m->graph.bidirectional) i->max_rows = i->context; /* a text is seen whole, in one step */
    struct program_bytes b;
    i->pool_tokens = o->pool_tokens ? o->pool_tokens : all < UINT32_MAX / 2 ? (uint32_t)all : UINT32_MAX / 2;
    *l = limits_of(&m->graph, i, o);
    TRY(device_plan(m->device, &m->graph, m->weights, l, &b, err));
    uint64_t have = b.room ? b.room : m->device->backend->memory(m->device), spare = have - have / 8;
    if (have && b.buffers + b.pages > spare) {
        uint64_t tokens = tokens_in(&m->graph, l, &b, spare);
        int digits = have < 10000000000U ? 2 : 1;
        uint64_t slack = (uint64_t)PAGE_SLOTS * (i->sequences + 1);
        tokens = tokens > slack ? tokens - slack : 0;
        if (o->pool_tokens || tokens < (chosen ? i->context : 512))
            return fail(err, STRETTO_E_NOMEM,
                        "a context of %u tokens for %u sequence%s needs %.*f GB; %.*f GB are free, of "
                        "which an eighth is left alone: ask for a smaller one with -c, or for -ctk "
                        "q8_0 -ctv q4_0%s",
                        i->context, i->sequences, i->sequences > 1 ? "s" : "",
                        digits, (double)(b.buffers + b.pages) / 1e9, digits, (double)have / 1e9,
                        m->shares.n ? ", or for another split of the layers with -ngl" : "");
        /* Sequences share what there is; one of them may have all of it. */
        i->pool_tokens = (uint32_t)(tokens / PAGE_SLOTS * PAGE_SLOTS);
        if (i->context > i->pool_tokens) {
            i->context = i->pool_tokens;
            i->context_cut = true;
        }
        *l = limits_of(&m->graph, i, o);
        TRY(device_plan(m->device, &m->graph, m->weights, l, &b, err));
    }
    TRY(add_prefix_pages(m, o, i, l, &b, spare, err));
    i->threads = b.threads;
    i->buffers = b.buffers;
    i->pages = b.pages;
    for (uint32_t k = 0; k < m->graph.n_groups; k++) {
        i->group[k].page = b.page[k];
        i->group[k].pages = b.page[k] * l->max_pages[k];
    }
    return STRETTO_OK;
}

static stretto_status usable(const struct model *m, struct error *err)
{
    return m->weights ? STRETTO_OK
                      : fail(err, STRETTO_E_ARG, "the model was opened for its vocabulary only");
}

stretto_status engine_plan(const struct model *m, const struct engine_options *o,
                           struct engine_info *out, struct error *err)
{
    struct program_limits l;
    *out = (struct engine_info){ 0 };
    TRY(usable(m, err));
    return plan(m, o, out, &l, err);
}

/* Everything the engine owns itself, in one block; base == NULL measures. */
static void take_all(struct engine *e, struct arena *a, const struct program_limits *l)
{
    uint32_t n = e->info.max_rows, seqs = e->n_seqs;
    struct sequence *s = arena_take(a, seqs * sizeof *s);
    cache_plan(&e->cache, a, &e->model->graph, l, seqs);
    prefix_plan(&e->prefix, a, &e->cache);
    for (uint32_t i = 0; i < seqs; i++) {
        size_t room = (size_t)l->max_seq_pages * PAGE_SLOTS;
        int32_t *tokens = arena_take(a, room * sizeof *tokens);
        uint8_t *given = arena_take(a, room);
        if (!a->base) continue;
        s[i] = (struct sequence){ .cache = { .number = i }, .tokens = tokens, .given = given };
        s[i].at = (struct prefix_seq){ .cache = &s[i].cache, .tokens = tokens, .given = given };
    }
    e->seqs = s;
    e->sent = arena_take(a, n * sizeof *e->sent);
    e->status = arena_take(a, n * sizeof *e->status);
    e->token = arena_take(a, n * sizeof *e->token);
    e->position = arena_take(a, n * sizeof *e->position);
    e->seq = arena_take(a, n * sizeof *e->seq);
    e->slot = arena_take(a, n * sizeof *e->slot);
    e->parent = arena_take(a, n * sizeof *e->parent);
    e->path = arena_take(a, n * sizeof *e->path);
    e->given = arena_take(a, n);
    e->ask_row = arena_take(a, n * sizeof *e->ask_row);
    e->ask_wants = arena_take(a, n);
    e->step_seqs = arena_take(a, seqs * sizeof *e->step_seqs);
    e->page_at = arena_take(a, (size_t)seqs * e->cache.n_groups * sizeof *e->page_at);
    e->ask_answer = arena_take(a, n * sizeof *e->ask_answer);
    e->apart = arena_take(a, n);
    e->owner = arena_take(a, seqs * sizeof *e->owner);
    adapted_plan(e, a);
    scheduler_plan(e, a);
}

/* What looking at one token more costs a row, of what it costs else: by arithmetic, and numbers that are
 * codes in linear layers are floating point in attention. */
static double look_share(const struct graph *g)
{
    enum { CONTEXT = 1024, SLOWER = 2 };
    double none = 0, more = 0;
    for (size_t i = 0; i < g->n_nodes; i++) {
        none += graph_node_cost(g, i, 1, 0, 0).flops;
        more += graph_node_cost(g, i, 1, 0, CONTEXT).flops;
    }
    return none > 0 ? SLOWER * (more - none) / CONTEXT / none : 0;
}

static stretto_status open_into(struct engine *e, const struct engine_options *o, struct error *err)
{
    struct program_limits l;
    TRY(usable(e->model, err));
    e->device = e->model->device;
    TRY(plan(e->model, o, &e->info, &l, err));
    e->n_seqs = e->info.sequences;
    e->cache_type = o->cache;
    struct arena a = { 0 };
    take_all(e, &a, &l);
    e->bytes = a.top;
    e->memory = mem_map(e->bytes);
    if (!e->memory) return fail(err, STRETTO_E_NOMEM, "no memory for the engine's tables");
    a = (struct arena){ .base = e->memory, .cap = e->bytes };
    take_all(e, &a, &l);
    TRY(device_compile(e->device, &e->program, &e->model->graph, e->model->weights, &l, err));
    cache_init(&e->cache, e->device->backend, e->program);
    prefix_init(&e->prefix, &e->cache, &e->model->graph, o->strict);
    for (uint32_t g = 0; g < e->cache.n_groups; g++) e->prefix.page_bytes[g] = e->info.group[g].page;
    for (uint32_t i = 0; i < e->n_seqs; i++) prefix_seat(&e->prefix, &e->seqs[i].at);
    costs_init(&e->costs, e->device);
    costs_look(&e->costs, look_share(&e->model->graph));
#ifndef NDEBUG
    TRY(engine_compare(e, err));
#endif
    return STRETTO_OK;
}

stretto_status engine_open(struct engine **out, const struct model *m,
                           const struct engine_options *o, struct error *err)
{
    *out = NULL;
    struct engine *e = mem_zalloc(1, sizeof *e);
    if (!e) return fail(err, STRETTO_E_NOMEM, "out of memory");
    e->model = m;
    stretto_status s = open_into(e, o, err);
    if (s != STRETTO_OK) engine_close(e);
    else *out = e;
    return s;
}

void engine_close(struct engine *e)
{
    if (!e) return;
    disk_close(e->disk);
    mem_free(e->compared);
    if (e->program) e->device->backend->program_close(e->program);
    mem_unmap(e->memory, e->bytes);
    mem_free(e);
}

const struct engine_info *engine_about(const struct engine *e) { return &e->info; }
const struct model *engine_model(const struct engine *e) { return e->model; }
struct step_costs *engine_costs(struct engine *e) { return &e->costs; }

void engine_cancel(struct engine *e, bool (*asked)(void *ud), void *ud)
{
    e->cancel = asked;
    e->cancel_ud = ud;
}

bool engine_flag_set(void *ud)
{
    const volatile int *flag = ud;
    return flag && *flag;
}

stretto_status engine_profile(struct engine *e, bool on, struct error *err)
{
    const struct backend *b = e->device->backend;
    if (b->profile) return b->profile(e->program, on, err);
    return fail(err, STRETTO_E_UNSUP, "the backend %s does not say where its time goes", b->name);
}

size_t engine_profile_read(const struct engine *e, struct op_time *out, size_t cap)
{
    const struct backend *b = e->device->backend;
    return b->profile_read ? b->profile_read(e->program, out, cap) : 0;
}
