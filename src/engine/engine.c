#include "engine/engine_int.h"
#include "base/memory.h"
#include <string.h>

enum { DEFAULT_ROWS = 512 };

static uint32_t pages_for(uint64_t tokens)
{
    return (uint32_t)((tokens + PAGE_SLOTS - 1) / PAGE_SLOTS);
}

/* Pages of a layer group. Where tokens keep theirs for ever, those that all sequences share; else what
 * sequences hold, open and closed ones alike, and a step's rows. */
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
                                .max_seq_pages = pages_for(i->context) + 1, .cache = o->cache,
                                .strict = o->strict, .threads = o->threads };
    for (uint32_t k = 0; k < g->n_groups; k++)
        l.max_pages[k] = pool_of(&g->group[k], i, l.max_seq_pages);
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
    uint64_t have = m->device->backend->memory(m->device), spare = have - have / 8;
    if (have && b.buffers + b.pages > spare) {
        uint64_t tokens = tokens_in(&m->graph, l, &b, spare);
        uint64_t slack = (uint64_t)PAGE_SLOTS * (i->sequences + 1);
        tokens = tokens > slack ? tokens - slack : 0;
        if (o->pool_tokens || tokens < (chosen ? i->context : 512))
            return fail(err, STRETTO_E_NOMEM,
                        "a context of %u tokens for %u sequence%s needs %.1f GB; %.1f GB are free, of "
                        "which an eighth is left alone: ask for a smaller one with -c, or for -ctk "
                        "q8_0 -ctv q4_0",
                        i->context, i->sequences, i->sequences > 1 ? "s" : "",
                        (double)(b.buffers + b.pages) / 1e9, (double)have / 1e9);
        /* Sequences share what there is; one of them may have all of it. */
        i->pool_tokens = (uint32_t)(tokens / PAGE_SLOTS * PAGE_SLOTS);
        if (i->context > i->pool_tokens) {
            i->context = i->pool_tokens;
            i->context_cut = true;
        }
        *l = limits_of(&m->graph, i, o);
        TRY(device_plan(m->device, &m->graph, m->weights, l, &b, err));
    }
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
    for (uint32_t i = 0; i < seqs; i++) {
        size_t room = (size_t)l->max_seq_pages * PAGE_SLOTS;
        int32_t *tokens = arena_take(a, room * sizeof *tokens);
        uint8_t *given = arena_take(a, room);
        if (a->base)
            s[i] = (struct sequence){ .cache = { .number = i }, .tokens = tokens, .given = given };
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
    e->feed = arena_take(a, n * sizeof *e->feed);
    e->feed_answers = arena_take(a, n * sizeof *e->feed_answers);
    scheduler_plan(e, a);
}

static stretto_status open_into(struct engine *e, const struct engine_options *o, struct error *err)
{
    struct program_limits l;
    TRY(usable(e->model, err));
    e->device = e->model->device;
    TRY(plan(e->model, o, &e->info, &l, err));
    e->n_seqs = 2 * e->info.sequences;
    struct arena a = { 0 };
    take_all(e, &a, &l);
    e->bytes = a.top;
    e->memory = mem_map(e->bytes);
    if (!e->memory) return fail(err, STRETTO_E_NOMEM, "no memory for the engine's tables");
    a = (struct arena){ .base = e->memory, .cap = e->bytes };
    take_all(e, &a, &l);
    TRY(device_compile(e->device, &e->program, &e->model->graph, e->model->weights, &l, err));
    cache_init(&e->cache, e->device->backend, e->program);
    costs_init(&e->costs, e->device);
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
    if (e->program) e->device->backend->program_close(e->program);
    mem_unmap(e->memory, e->bytes);
    mem_free(e);
}

const struct engine_info *engine_about(const struct engine *e) { return &e->info; }
const struct model *engine_model(const struct engine *e) { return e->model; }
struct step_costs *engine_costs(struct engine *e) { return &e->costs; }

/* ---- sequences ------------------------------------------------------------------------------- */

static void touch(struct engine *e, struct sequence *s) { s->used = ++e->clock; }

/* The closed sequence that was used longest ago; with_pages: of those that hold pages. */
static struct sequence *oldest_closed(struct engine *e, bool with_pages)
{
    struct sequence *oldest = NULL;
    for (uint32_t i = 0; i < e->n_seqs; i++) {
        struct sequence *s = &e->seqs[i];
        if (!s->open && (!with_pages || s->cache.n_pages) && (!oldest || s->used < oldest->used))
            oldest = s;
    }
    return oldest;
}

stretto_status engine_seq_open(struct engine *e, int32_t *seq, struct error *err)
{
    *seq = -1;
    if (e->n_open == e->info.sequences)
        return fail(err, STRETTO_E_FULL, "the engine holds %u session%s already; open it for more",
                    e->n_open, e->n_open > 1 ? "s" : "");
    struct sequence *s = oldest_closed(e, false);
    *seq = (int32_t)(s - e->seqs);
    s->open = true;
    e->n_open++;
    s->managed = false;
    engine_rewind(e, *seq, 0);
    touch(e, s);
    return STRETTO_OK;
}

stretto_status engine_seq_open_all(struct engine *e, struct error *err)
{
    int32_t seq;
    while (e->n_open < e->info.sequences) TRY(engine_seq_open(e, &seq, err));
    return STRETTO_OK;
}

void engine_seq_close(struct engine *e, int32_t seq)
{
    struct sequence *s = &e->seqs[seq];
    if (!s->open) return;
    s->open = false;
    e->n_open--;
    requests_lose(e, seq);
    engine_rewind(e, seq, s->cache.n_tokens);
    touch(e, s);
}

/* Slots up to n, closed sequences giving up pages from their ends where the pool has none left; the
 * first slot that could not be had. */
static uint32_t reserve(struct engine *e, struct sequence *s, uint32_t n)
{
    for (;;) {
        uint32_t reach = cache_reserve(&e->cache, &s->cache, n);
        struct sequence *from = reach < n ? oldest_closed(e, true) : NULL;
        if (!from) return reach;
        engine_rewind(e, (int32_t)(from - e->seqs), (from->cache.n_pages - 1) * PAGE_SLOTS);
    }
}

uint32_t engine_pages_left(const struct engine *e)
{
    uint32_t least = UINT32_MAX;
    for (uint32_t g = 0; g < e->cache.n_groups; g++) {
        const struct cache_group *x = &e->cache.group[g];
        uint32_t n = x->n_free;
        for (const struct sequence *s = e->seqs; s < e->seqs + e->n_seqs; s++) {
            const int32_t *page = e->cache.tables + cache_table(&e->cache, &s->cache, g);
            for (uint32_t p = s->cache.first[g]; !s->open && p < s->cache.n_pages; p++)
                n += x->refs[page[p]] == 1;
        }
        if (n < least) least = n;
    }
    return least;
}

uint32_t engine_length(const struct engine *e, int32_t seq) { return e->seqs[seq].cache.n_tokens; }
uint32_t engine_known(const struct engine *e, int32_t seq) { return e->seqs[seq].known; }
int32_t *engine_tokens(const struct engine *e, int32_t seq) { return e->seqs[seq].tokens; }

bool engine_given(const struct engine *e, int32_t seq, uint32_t at)
{
    return e->seqs[seq].given[at] != 0;
}

void answers_place(struct answer *answers, const struct row *rows, size_t n, float *out, size_t width)
{
    for (size_t i = 0, k = 0; i < n; i++) {
        bool wants = (rows[i].wants & (WANT_LOGITS | WANT_HIDDEN)) != 0;
        answers[i].logits = answers[i].hidden = wants ? out + width * k++ : NULL;
    }
}

/* ---- a step ---------------------------------------------------------------------------------- */

static stretto_status too_long(const struct engine *e, size_t tokens, struct error *err)
{
    return fail(err, STRETTO_E_FULL,
                "%zu tokens do not fit a context of %u; shorten the text or ask for a larger "
                "context with -c",
                tokens, e->info.context);
}

static bool is_open(const struct engine *e, int32_t seq)
{
    return seq >= 0 && (uint32_t)seq < e->n_seqs && e->seqs[seq].open;
}

/* What a call gets wrong as a whole: then nothing is sent. */
static stretto_status check_call(const struct engine *e, const struct row *rows, size_t n,
                                 const struct answer *answers, struct error *err)
{
    if (n == 0 || n > e->info.max_rows)
        return fail(err, STRETTO_E_ARG, "%zu rows in a step; this engine takes 1 to %u", n,
                    e->info.max_rows);
    for (uint32_t s = 0; s < e->n_seqs; s++) e->seqs[s].here = false;
    for (size_t i = 0, first = 0; i < n; i++) {
        const struct row *r = &rows[i];
        if (i && rows[i - 1].seq != r->seq) first = i;
        bool known = is_open(e, r->seq);
        if (known && first == i && e->seqs[r->seq].here)
            return fail(err, STRETTO_E_ARG,
                        "row %zu: the rows of sequence %d stand apart; rows of one sequence are "
                        "neighbours", i, r->seq);
        if (known) e->seqs[r->seq].here = true;
        if (r->parent != ROW_COMMITTED && (r->parent < (int32_t)first || r->parent >= (int32_t)i))
            return fail(err, STRETTO_E_ARG,
                        "row %zu has parent %d, which is no earlier row of its sequence", i,
                        r->parent);
        if ((r->wants && !answers) || ((r->wants & WANT_LOGITS) && !answers[i].logits) ||
            ((r->wants & WANT_HIDDEN) && !answers[i].hidden))
            return fail(err, STRETTO_E_ARG, "row %zu has no place for what it wants", i);
    }
    return STRETTO_OK;
}

/* Whether a row can be sent as far as it alone is concerned; `committed`: tokens before the first. */
static stretto_status check_row(const struct engine *e, const struct row *r, size_t i,
                                uint32_t committed, struct error *err)
{
    if (r->parent >= 0 && e->status[r->parent] != STRETTO_OK) return e->status[r->parent];
    if (!is_open(e, r->seq))
        return fail(err, STRETTO_E_ARG, "row %zu: sequence %d is not open", i, r->seq);
    if (r->token < 0 || (uint32_t)r->token >= e->model->config.vocab)
        return fail(err, STRETTO_E_ARG, "row %zu: token %d; the vocabulary has ids 0 to %u", i,
                    r->token, e->model->config.vocab - 1);
    uint32_t position = r->parent < 0 ? committed : (uint32_t)e->sent[r->parent] + 1;
    e->sent[i] = (int32_t)position;    /* until it has a place in the step */
    return position < e->info.context ? STRETTO_OK : too_long(e, (size_t)position + 1, err);
}

/* Rows [first, first + n), all of one sequence: which of them can be sent. Returns how many. */
static uint32_t check_rows(struct engine *e, const struct row *rows, size_t first, size_t n,
                           struct error *err)
{
    int32_t seq = rows[first].seq;
    bool known = is_open(e, seq);
    uint32_t committed = known ? e->seqs[seq].cache.n_tokens : 0, ok = 0;
    stretto_status bad = STRETTO_OK, rest = STRETTO_OK;
    for (size_t i = first; i < first + n; i++) {
        e->status[i] = check_row(e, &rows[i], i, committed, err);
        ok += e->status[i] == STRETTO_OK;
        if (bad == STRETTO_OK) bad = e->status[i];
    }
    if (!known) return 0;
    touch(e, &e->seqs[seq]);
    uint32_t reach = reserve(e, &e->seqs[seq], committed + ok) - committed;
    if (reach < ok)
        rest = fail(err, STRETTO_E_FULL,
                   "the cache is full: %u more tokens of a sequence of %u do not fit, %u pages of %d "
                   "tokens are free",
                   ok, committed, cache_free(&e->cache), PAGE_SLOTS);
    if (bad == STRETTO_OK) bad = rest;
    if (e->model->graph.bidirectional && bad != STRETTO_OK) {
        reach = 0;                     /* rows see each other: without one it is another text */
        rest = bad;
    }
    for (size_t i = first, k = 0; i < first + n; i++)
        if (e->status[i] == STRETTO_OK && k++ >= reach) e->status[i] = rest;
    return ok < reach ? ok : reach;
}

/* The rows of a sequence that can be sent get their places in the step. */
static void place_rows(struct engine *e, const struct row *rows, size_t first, size_t n,
                       struct step *st)
{
    struct sequence *s = &e->seqs[rows[first].seq];
    uint32_t committed = s->cache.n_tokens;
    struct step_seq *q = &e->step_seqs[st->n_seqs];
    *q = (struct step_seq){ .committed = (int32_t)committed, .first_row = (int32_t)st->n_rows };
    for (size_t i = first; i < first + n; i++) {
        if (e->status[i] != STRETTO_OK) {
            e->sent[i] = -1;
            continue;
        }
        int32_t at = (int32_t)st->n_rows++;
        int32_t parent = rows[i].parent < 0 ? STEP_COMMITTED : e->sent[rows[i].parent];
        if (parent != (q->n_rows ? at - 1 : STEP_COMMITTED)) q->tree = 1;
        e->token[at] = rows[i].token;
        e->position[at] = parent < 0 ? (int32_t)committed : e->position[parent] + 1;
        e->slot[at] = (int32_t)committed + q->n_rows++;
        e->seq[at] = (int32_t)st->n_seqs;
        e->parent[at] = parent;
        e->given[at] = rows[i].given;
        e->sent[i] = at;
    }
    e->page_at[st->n_seqs++] = cache_table(&e->cache, &s->cache, 0);
    s->last_row = (uint32_t)first;
    s->last_rows = (uint32_t)n;
}

/* The asks of the rows that are sent, those of the head before those of the hidden state alone. */
static void place_asks(struct engine *e, const struct row *rows, size_t n, struct answer *answers,
                       struct step *st)
{
    for (int hidden = 0; hidden < 2; hidden++)
        for (size_t i = 0; i < n; i++) {
            uint8_t wants = rows[i].wants;
            int head = (wants & WANT_OF_HEAD) != 0;
            if (!wants || e->status[i] != STRETTO_OK || head == hidden) continue;
            e->ask_row[st->n_asks] = e->sent[i];
            e->ask_wants[st->n_asks] = wants;
            e->ask_answer[st->n_asks++] = &answers[i];
            st->n_heads += !hidden;
        }
}

static stretto_status all_have(struct answer *answers, size_t n, stretto_status s)
{
    for (size_t i = 0; answers && i < n; i++) answers[i].status = s;
    return s;
}

/* Every row's status, and the first that is not OK. err has the sentence of the first that was not sent. */
static stretto_status outcome_of(const struct engine *e, const struct row *rows, size_t n,
                                 struct answer *answers, struct error *err)
{
    stretto_status first = STRETTO_OK;
    for (size_t i = 0; i < n; i++) {
        stretto_status s = e->status[i];
        if (s != STRETTO_OK || !rows[i].wants) { if (answers) answers[i].status = s; }
        else s = answers[i].status;
        if (first == STRETTO_OK) first = s;
    }
    if (first == STRETTO_E_NAN) {
        error_clear(err);
        fail(err, first, "the model's output is not a number; the file is damaged or its numbers "
                         "overflow");
    }
    return first;
}

static stretto_status send(struct engine *e, struct step *st, struct error *err)
{
    /* The tables of a group stand where those of the first do, all together. */
    int32_t group = cache_table(&e->cache, &e->seqs[0].cache, 1);
    for (size_t i = st->n_seqs; i < st->n_seqs * e->cache.n_groups; i++)
        e->page_at[i] = e->page_at[i - st->n_seqs] + group;
    st->token = e->token;
    st->position = e->position;
    st->seq = e->seq;
    st->slot = e->slot;
    st->parent = e->parent;
    st->given = e->given;
    st->seqs = e->step_seqs;
    st->ask_row = e->ask_row;
    st->ask_wants = e->ask_wants;
    st->page = e->cache.tables;
    st->page_at = e->page_at;
    st->cancel = e->turn_cancel ? e->turn_cancel : e->cancel;
    st->cancel_ud = e->turn_cancel ? e : e->cancel_ud;
    return device_run(e->device, e->program, st, e->ask_answer, err);
}

stretto_status engine_step(struct engine *e, const struct row *rows, size_t n,
                           struct answer *answers, struct error *err)
{
    stretto_status s = check_call(e, rows, n, answers, err);
    if (s != STRETTO_OK) return all_have(answers, n, s);
    /* What an earlier step guessed and nobody accepted is forgotten, and its pages are free. */
    for (uint32_t i = 0; i < e->n_seqs; i++)
        cache_rewind(&e->cache, &e->seqs[i].cache, e->seqs[i].cache.n_tokens);
    struct step st = { .n_rows = 0 };
    struct error first = { .status = STRETTO_OK };      /* of a row; nobody else's */
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && rows[end].seq == rows[i].seq;) end++;
        if (check_rows(e, rows, i, end - i, &first)) place_rows(e, rows, i, end - i, &st);
        else for (size_t k = i; k < end; k++) e->sent[k] = -1;
    }
    place_asks(e, rows, n, answers, &st);
    s = st.n_rows ? send(e, &st, err) : STRETTO_OK;
    if (s != STRETTO_OK) return all_have(answers, n, s);
    s = outcome_of(e, rows, n, answers, &first);
    return s == STRETTO_OK ? s : fail(err, s, "%s", first.text);
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

/* A row's token is now number n of the timeline, where it may have been known already. */
static void add_cached(struct engine *e, struct sequence *s, uint32_t n, int32_t at)
{
    s->given[n] = e->given[at];
    if (n < s->known && s->tokens[n] == e->token[at]) return;
    if (n < s->known && n < s->unchanged) s->unchanged = n;
    s->tokens[n] = e->token[at];
    s->known = n + 1;
}

uint32_t engine_commit(struct engine *e, int32_t seq, uint32_t n)
{
    struct sequence *s = &e->seqs[seq];
    const int32_t *sent = e->sent + s->last_row;
    uint32_t i = 0;
    for (; i < n && i < s->last_rows && sent[i] >= 0; i++) {
        add_cached(e, s, s->cache.n_tokens + i, sent[i]);
    }
    cache_commit(&e->cache, &s->cache, i);
    s->last_rows = 0;
    return i;
}

void engine_accept(struct engine *e, int32_t seq, const int32_t *row, uint32_t n)
{
    struct sequence *s = &e->seqs[seq];
    int32_t *slot = e->path;
    for (uint32_t i = 0; i < n; i++) {
        int32_t at = e->sent[row[i]];
        add_cached(e, s, s->cache.n_tokens + i, at);
        slot[i] = e->slot[at];
    }
    cache_accept(&e->cache, &s->cache, slot, n);
    s->last_rows = 0;
}

stretto_status engine_feed(struct engine *e, int32_t seq, const int32_t *tokens, size_t n,
                           uint8_t wants, struct answer *last, struct error *err)
{
    uint32_t have = engine_length(e, seq);
    if (n == 0) return fail(err, STRETTO_E_ARG, "there are no tokens to feed");
    if (n > e->info.context || have > e->info.context - n) return too_long(e, have + n, err);
    for (size_t at = 0; at < n;) {
        size_t k = n - at < e->info.max_rows ? n - at : e->info.max_rows;
        bool end = at + k == n && wants;
        for (size_t i = 0; i < k; i++)
            e->feed[i] =
                (struct row){seq, tokens[at + i], i ? (int32_t)i - 1 : ROW_COMMITTED, 1, 0};
        if (end) {
            e->feed[k - 1].wants = wants;
            e->feed_answers[k - 1] = *last;
        }
        stretto_status s = engine_step(e, e->feed, k, end ? e->feed_answers : NULL, err);
        if (end) *last = e->feed_answers[k - 1];
        TRY(s);
        engine_commit(e, seq, (uint32_t)k);
        at += k;
    }
    return STRETTO_OK;
}

uint32_t engine_reach(const struct engine *e, int32_t seq, uint32_t n)
{
    return cache_reach(&e->cache, &e->seqs[seq].cache, n);
}

uint32_t engine_rewind(struct engine *e, int32_t seq, uint32_t n)
{
    struct sequence *s = &e->seqs[seq];
    if (n < s->known && n < s->unchanged) s->unchanged = n;
    if (n < s->known) s->known = n;
    return cache_rewind(&e->cache, &s->cache, n);
}

void engine_forget(struct engine *e, int32_t seq, uint32_t n)
{
    cache_rewind(&e->cache, &e->seqs[seq].cache, n);
}

uint32_t engine_unchanged(struct engine *e, int32_t seq)
{
    struct sequence *s = &e->seqs[seq];
    uint32_t n = s->unchanged < s->known ? s->unchanged : s->known;
    s->unchanged = UINT32_MAX;
    return n;
}

void engine_role(struct engine *e, int32_t seq, uint32_t at, bool given)
{
    struct sequence *s = &e->seqs[seq];
    if (at < s->known) memset(s->given + at, given, s->known - at);
}

void engine_push(struct engine *e, int32_t seq, int32_t token)
{
    struct sequence *s = &e->seqs[seq];
    s->tokens[s->known] = token;
    s->given[s->known++] = 0;
}

stretto_status engine_fork(struct engine *e, int32_t from, int32_t to, uint32_t n,
                           struct error *err)
{
    struct sequence *f = &e->seqs[from], *t = &e->seqs[to];
    engine_rewind(e, to, 0);
    if (n > f->cache.n_tokens)
        return fail(err, STRETTO_E_ARG, "a fork of %u tokens of a sequence that has %u in its cache", n,
                    f->cache.n_tokens);
    TRY(cache_fork(&e->cache, &f->cache, &t->cache, engine_reach(e, from, n), err));
    memcpy(t->tokens, f->tokens, n * sizeof *t->tokens);
    memcpy(t->given, f->given, n);
    t->known = n;
    touch(e, f);
    touch(e, t);
    return STRETTO_OK;
}

static uint32_t common(const int32_t *a, const int32_t *b, uint32_t n)
{
    uint32_t k = 0;
    while (k < n && a[k] == b[k]) k++;
    return k;
}

/* How much of tokens[0..n) the sequence has in its cache and can go back to. */
static uint32_t cached(const struct engine *e, const struct sequence *s, const int32_t *tokens, uint32_t n)
{
    uint32_t have = s->cache.n_tokens;
    return cache_reach(&e->cache, &s->cache, common(s->tokens, tokens, n < have ? n : have));
}

uint32_t engine_set(struct engine *e, int32_t seq, const int32_t *tokens, uint32_t n, uint32_t most)
{
    struct sequence *s = &e->seqs[seq];
    uint32_t same = common(s->tokens, tokens, n < s->known ? n : s->known);
    if (most > n - 1) most = n - 1;
    if (e->model->graph.bidirectional) most = 0;       /* what was computed saw another text */
    uint32_t best = cached(e, s, tokens, most);
    int32_t from = seq;
    for (uint32_t i = 0; i < e->n_seqs; i++) {
        uint32_t k = cached(e, &e->seqs[i], tokens, most);
        /* Another sequence's pages are worth it from a page on: below that the copy costs as much. */
        if (k > best + PAGE_SLOTS) {
            best = k;
            from = (int32_t)i;
        }
    }
    if (same < s->unchanged) s->unchanged = same;
    if (same > most) same = most;
    uint32_t unchanged = s->unchanged, old = same > best ? same : best;
    memmove(s->tokens, tokens, n * sizeof *s->tokens);      /* first of all: tokens may be its own */
    if (from != seq && engine_fork(e, from, seq, best, NULL) != STRETTO_OK) {
        best = 0;
        old = same;
    }
    s->unchanged = unchanged;
    cache_rewind(&e->cache, &s->cache, best);
    memset(s->given + old, 1, n - old);
    s->known = n;
    touch(e, s);
    return best;
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
