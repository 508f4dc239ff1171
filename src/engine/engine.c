#include "engine/engine.h"
#include "base/cgroup.h"
#include "base/memory.h"
#include <string.h>

struct sequence { struct cache_seq cache; int32_t *tokens; uint32_t last_row, last_rows; };

struct engine {
    const struct model *model;
    struct team *team;
    struct program *program;
    struct cache cache;
    struct sequence *seqs;
    struct engine_info info;
    void *memory;
    size_t bytes;
    /* the arrays of a step, [max_rows] */
    int32_t *token, *position, *seq, *slot, *parent;
    uint8_t *given, *asks;
    struct step_seq *step_seqs;      /* [sequences] */
    struct row *feed;                /* [max_rows] */
    bool (*cancel)(void *ud);        /* see engine_cancel */
    void *cancel_ud;
};

enum { DEFAULT_ROWS = 512 };

static uint32_t pages_for(uint64_t tokens)
{
    return (uint32_t)((tokens + PAGE_SLOTS - 1) / PAGE_SLOTS);
}

/* Step slack: guess rows may stand behind the context's last token. */
static struct program_limits limits_of(const struct engine_info *i, const struct engine_options *o)
{
    uint32_t seq_pages = pages_for(i->context) + 1;
    uint64_t pool = o->pool_tokens ? pages_for(o->pool_tokens) + i->sequences
                                   : (uint64_t)seq_pages * i->sequences;
    return (struct program_limits){ .max_rows = i->max_rows, .max_asks = i->max_rows,
                                    .max_pages = (uint32_t)pool, .max_seq_pages = seq_pages,
                                    .cache = o->cache, .strict = o->strict };
}

static stretto_status plan(const struct model *m, const struct engine_options *o, struct team *team,
                           struct engine_info *i, struct program_limits *l, struct error *err)
{
    *i = (struct engine_info){.trained_context = m->config.context,
                              .context = o->context,
                              .sequences = o->sequences ? o->sequences : 1,
                              .max_rows = o->max_rows ? o->max_rows : DEFAULT_ROWS,
                              .threads = team_size(team),
                              .weights = m->backend->weights_bytes(m->weights)};
    if (i->sequences > 4096)
        return fail(err, STRETTO_E_ARG, "%u sequences at once; the most is 4096", i->sequences);
    bool learned = m->family->position == POSITION_LEARNED;
    if (learned && i->context > m->config.context)
        return fail(err, STRETTO_E_ARG,
                    "a context of %u asked for; this model has learned positions for %u only",
                    i->context, m->config.context);
    bool chosen = i->context != 0;
    if (!chosen) i->context = m->config.context;
    if (i->max_rows > i->context * i->sequences) i->max_rows = i->context * i->sequences;
    if (m->graph.bidirectional) i->max_rows = i->context; /* a text is seen whole, in one step */
    struct program_bytes b;
    *l = limits_of(i, o);
    TRY(m->backend->plan(&m->graph, m->weights, team, l, &b, err));
    uint64_t have = memory_available(""), spare = have - have / 8;
    if (have && b.buffers + b.pages > spare) {
        uint64_t tokens =
            spare > b.buffers ? (spare - b.buffers) / b.page * PAGE_SLOTS / i->sequences : 0;
        if (chosen || tokens < 512)
            return fail(err, STRETTO_E_NOMEM,
                        "a context of %u tokens for %u sequence%s needs %.1f GB; %.1f GB are free, of "
                        "which an eighth is left alone: ask for a smaller one with -c, or for -ctk "
                        "q8_0 -ctv q4_0",
                        i->context, i->sequences, i->sequences > 1 ? "s" : "",
                        (double)(b.buffers + b.pages) / 1e9, (double)have / 1e9);
        i->context = (uint32_t)tokens / PAGE_SLOTS * PAGE_SLOTS;
        i->context_cut = true;
        *l = limits_of(i, o);
        TRY(m->backend->plan(&m->graph, m->weights, team, l, &b, err));
    }
    i->buffers = b.buffers;
    i->page = b.page;
    i->pages = b.pages;
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
    struct team *team;
    struct program_limits l;
    *out = (struct engine_info){ 0 };
    TRY(usable(m, err));
    TRY(team_open(&team, o->threads, err));
    stretto_status s = plan(m, o, team, out, &l, err);
    team_close(team);
    return s;
}

/* Everything the engine owns itself, in one block; base == NULL measures. */
static void take_all(struct engine *e, struct arena *a, const struct program_limits *l)
{
    uint32_t n = e->info.max_rows, seqs = e->info.sequences;
    struct sequence *s = arena_take(a, seqs * sizeof *s);
    cache_plan(&e->cache, a, l->max_pages, l->max_seq_pages);
    for (uint32_t i = 0; i < seqs; i++) {
        struct cache_seq c;
        cache_seq_plan(&c, a, l->max_seq_pages);
        int32_t *tokens = arena_take(a, (size_t)l->max_seq_pages * PAGE_SLOTS * sizeof *tokens);
        if (a->base) s[i] = (struct sequence){ c, tokens, 0, 0 };
    }
    e->seqs = s;
    e->token = arena_take(a, n * sizeof *e->token);
    e->position = arena_take(a, n * sizeof *e->position);
    e->seq = arena_take(a, n * sizeof *e->seq);
    e->slot = arena_take(a, n * sizeof *e->slot);
    e->parent = arena_take(a, n * sizeof *e->parent);
    e->given = arena_take(a, n);
    e->asks = arena_take(a, n);
    e->step_seqs = arena_take(a, seqs * sizeof *e->step_seqs);
    e->feed = arena_take(a, n * sizeof *e->feed);
}

static stretto_status open_into(struct engine *e, const struct engine_options *o, struct error *err)
{
    struct program_limits l;
    TRY(usable(e->model, err));
    TRY(team_open(&e->team, o->threads, err));
    TRY(plan(e->model, o, e->team, &e->info, &l, err));
    struct arena a = { 0 };
    take_all(e, &a, &l);
    e->bytes = a.top;
    e->memory = mem_map(e->bytes);
    if (!e->memory) return fail(err, STRETTO_E_NOMEM, "no memory for the engine's tables");
    a = (struct arena){ .base = e->memory, .cap = e->bytes };
    take_all(e, &a, &l);
    TRY(e->model->backend->compile(&e->program, &e->model->graph, e->model->weights, e->team, &l,
                                   err));
    cache_init(&e->cache, e->model->backend, e->program);
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
    if (e->program) e->model->backend->program_close(e->program);
    team_close(e->team);
    mem_unmap(e->memory, e->bytes);
    mem_free(e);
}

const struct engine_info *engine_about(const struct engine *e) { return &e->info; }
const struct model *engine_model(const struct engine *e) { return e->model; }
uint32_t engine_length(const struct engine *e, int32_t seq) { return e->seqs[seq].cache.n_tokens; }
const int32_t *engine_tokens(const struct engine *e, int32_t seq) { return e->seqs[seq].tokens; }

/* Rows [first, first + n) of one sequence: positions, slots, pages. */
static stretto_status place_rows(struct engine *e, const struct row *rows, size_t first, size_t n,
                                 struct step_seq *out, struct error *err)
{
    struct sequence *s = &e->seqs[rows[first].seq];
    uint32_t committed = s->cache.n_tokens;
    *out = (struct step_seq){
        .committed = (int32_t)committed, .first_row = (int32_t)first, .n_rows = (int32_t)n};
    /* What an earlier step guessed and nobody accepted is forgotten. */
    cache_rewind(&e->cache, &s->cache, committed);
    uint32_t end = committed;
    for (size_t i = 0; i < n; i++) {
        size_t r = first + i;
        int32_t parent = rows[r].parent;
        if (parent >= (int32_t)r || (parent >= 0 && parent < (int32_t)first) ||
            parent < ROW_COMMITTED)
            return fail(err, STRETTO_E_ARG,
                        "row %zu has parent %d, which is no earlier row of its sequence", r,
                        parent);
        if (rows[r].token < 0 || (uint32_t)rows[r].token >= e->model->config.vocab)
            return fail(err, STRETTO_E_ARG, "token %d; the vocabulary has ids 0 to %u",
                        rows[r].token, e->model->config.vocab - 1);
        if (parent != (i ? (int32_t)r - 1 : ROW_COMMITTED)) out->tree = true;
        e->token[r] = rows[r].token;
        e->position[r] = parent < 0 ? (int32_t)committed : e->position[parent] + 1;
        e->slot[r] = (int32_t)(committed + i);
        e->seq[r] = (int32_t)(out - e->step_seqs);
        e->parent[r] = parent;
        e->given[r] = rows[r].given;
        e->asks[r] = rows[r].asks;
        if ((uint32_t)e->position[r] >= end) end = (uint32_t)e->position[r] + 1;
    }
    if (end > e->info.context)
        return fail(err, STRETTO_E_FULL,
                    "%u tokens do not fit a context of %u; shorten the text or ask for a larger "
                    "context with -c",
                    end, e->info.context);
    TRY(cache_reserve(&e->cache, &s->cache, committed + (uint32_t)n, err));
    out->pages = s->cache.pages;
    s->last_row = (uint32_t)first;
    s->last_rows = (uint32_t)n;
    return STRETTO_OK;
}

stretto_status engine_step(struct engine *e, const struct row *rows, size_t n,
                           const struct answers *a, struct error *err)
{
    if (n == 0 || n > e->info.max_rows)
        return fail(err, STRETTO_E_ARG, "%zu rows in a step; this engine takes 1 to %u", n,
                    e->info.max_rows);
    size_t n_seqs = 0;
    for (size_t i = 0; i < n;) {
        size_t end = i + 1;
        if (rows[i].seq < 0 || (uint32_t)rows[i].seq >= e->info.sequences ||
            n_seqs == e->info.sequences)
            return fail(err, STRETTO_E_ARG, "sequence %d; this engine has %u", rows[i].seq,
                        e->info.sequences);
        while (end < n && rows[end].seq == rows[i].seq) end++;
        TRY(place_rows(e, rows, i, end - i, &e->step_seqs[n_seqs++], err));
        i = end;
    }
    struct step s = {.n_rows = n,
                     .n_seqs = n_seqs,
                     .token = e->token,
                     .position = e->position,
                     .seq = e->seq,
                     .slot = e->slot,
                     .parent = e->parent,
                     .given = e->given,
                     .asks = e->asks,
                     .seqs = e->step_seqs,
                     .cancel = e->cancel,
                     .cancel_ud = e->cancel_ud};
    if (a) {
        s.best = a->best;
        s.top = a->top;
        s.logits = a->logits;
        s.hidden = a->hidden;
    }
    return e->model->backend->run(e->program, &s, err);
}

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

void engine_commit(struct engine *e, int32_t seq, uint32_t n)
{
    struct sequence *s = &e->seqs[seq];
    if (n > s->last_rows) n = s->last_rows;
    memcpy(s->tokens + s->cache.n_tokens, e->token + s->last_row, n * sizeof *s->tokens);
    s->cache.n_tokens += n;
    s->last_rows = 0;
}

void engine_accept(struct engine *e, int32_t seq, const int32_t *row, uint32_t n)
{
    struct sequence *s = &e->seqs[seq];
    for (uint32_t i = 0; i < n; i++) {
        s->tokens[s->cache.n_tokens] = e->token[row[i]];
        cache_accept(&e->cache, &s->cache, &e->slot[row[i]], 1);
    }
    s->last_rows = 0;
}

stretto_status engine_feed(struct engine *e, int32_t seq, const int32_t *tokens, size_t n,
                           uint8_t ask, const struct answers *last, struct error *err)
{
    uint32_t have = engine_length(e, seq);
    if (n == 0) return fail(err, STRETTO_E_ARG, "there are no tokens to feed");
    if (n > e->info.context || have > e->info.context - n)
        return fail(err, STRETTO_E_FULL,
                    "%zu tokens do not fit a context of %u; shorten the text or ask for a larger "
                    "context with -c",
                    have + n, e->info.context);
    for (size_t at = 0; at < n;) {
        size_t k = n - at < e->info.max_rows ? n - at : e->info.max_rows;
        for (size_t i = 0; i < k; i++)
            e->feed[i] =
                (struct row){seq, tokens[at + i], i ? (int32_t)i - 1 : ROW_COMMITTED, 1, 0};
        if (at + k == n) e->feed[k - 1].asks = ask;
        TRY(engine_step(e, e->feed, k, at + k == n ? last : NULL, err));
        engine_commit(e, seq, (uint32_t)k);
        at += k;
    }
    return STRETTO_OK;
}

uint32_t engine_rewind(struct engine *e, int32_t seq, uint32_t n)
{
    return cache_rewind(&e->cache, &e->seqs[seq].cache, n);
}

stretto_status engine_fork(struct engine *e, int32_t from, int32_t to, uint32_t n,
                           struct error *err)
{
    struct sequence *f = &e->seqs[from], *t = &e->seqs[to];
    cache_rewind(&e->cache, &t->cache, 0);
    TRY(cache_fork(&e->cache, &f->cache, &t->cache, n, err));
    memcpy(t->tokens, f->tokens, n * sizeof *t->tokens);
    return STRETTO_OK;
}

static uint32_t common(const struct sequence *s, const int32_t *tokens, size_t n)
{
    uint32_t k = 0;
    while (k < n && k < s->cache.n_tokens && s->tokens[k] == tokens[k]) k++;
    return k;
}

uint32_t engine_reuse(struct engine *e, int32_t seq, const int32_t *tokens, size_t n)
{
    size_t most = n ? n - 1 : 0;
    int32_t from = seq;
    uint32_t best = common(&e->seqs[seq], tokens, most);
    for (uint32_t i = 0; i < e->info.sequences; i++) {
        uint32_t k = common(&e->seqs[i], tokens, most);
        /* Another sequence's pages are worth it from a page on: below that the copy costs as much.
         */
        if (k > best + PAGE_SLOTS) {
            best = k;
            from = (int32_t)i;
        }
    }
    if (from != seq && engine_fork(e, from, seq, best, NULL) != STRETTO_OK) {
        best = common(&e->seqs[seq], tokens, most);
    }
    return engine_rewind(e, seq, best);
}

stretto_status engine_profile(struct engine *e, bool on, struct error *err)
{
    const struct backend *b = e->model->backend;
    if (b->profile) return b->profile(e->program, on, err);
    return fail(err, STRETTO_E_UNSUP, "the backend %s does not say where its time goes", b->name);
}

size_t engine_profile_read(const struct engine *e, struct op_time *out, size_t cap)
{
    const struct backend *b = e->model->backend;
    return b->profile_read ? b->profile_read(e->program, out, cap) : 0;
}
