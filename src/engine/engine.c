#include "engine/engine.h"
#include "base/memory.h"
#include <string.h>

/* last_row, last_rows: its rows of the last call of engine_step. */
struct sequence {
    struct cache_seq cache;
    int32_t *tokens;
    uint32_t last_row, last_rows;
    bool here;                       /* has rows in the call that is being looked at */
};

struct engine {
    const struct model *model;
    struct device *device;           /* the model's */
    struct program *program;
    struct cache cache;
    struct sequence *seqs;
    struct engine_info info;
    void *memory;
    size_t bytes;
    /* the last call of engine_step, [max_rows] by its rows */
    int32_t *sent;                   /* the row's place in the step; -1: it was not sent */
    stretto_status *status;
    /* the arrays of the step (graph/step.h), [max_rows] by place */
    int32_t *token, *position, *seq, *slot, *parent, *ask_row;
    uint8_t *given, *ask_wants;
    struct step_seq *step_seqs;      /* [sequences] */
    int32_t *page_at;                /* [sequences] */
    struct answer **ask_answer;      /* [max_rows] by ask */
    int32_t *path;                   /* [max_rows] slots of a path that is accepted */
    struct row *feed;                /* [max_rows] */
    struct answer *feed_answers;     /* [max_rows] */
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
                                    .cache = o->cache, .strict = o->strict,
                                    .threads = o->threads };
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
    if (i->max_rows > i->context * i->sequences) i->max_rows = i->context * i->sequences;
    if (m->graph.bidirectional) i->max_rows = i->context; /* a text is seen whole, in one step */
    struct program_bytes b;
    *l = limits_of(i, o);
    TRY(device_plan(m->device, &m->graph, m->weights, l, &b, err));
    uint64_t have = m->device->backend->memory(m->device), spare = have - have / 8;
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
        TRY(device_plan(m->device, &m->graph, m->weights, l, &b, err));
    }
    i->threads = b.threads;
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
    struct program_limits l;
    *out = (struct engine_info){ 0 };
    TRY(usable(m, err));
    return plan(m, o, out, &l, err);
}

/* Everything the engine owns itself, in one block; base == NULL measures. */
static void take_all(struct engine *e, struct arena *a, const struct program_limits *l)
{
    uint32_t n = e->info.max_rows, seqs = e->info.sequences;
    struct sequence *s = arena_take(a, seqs * sizeof *s);
    cache_plan(&e->cache, a, l->max_pages, l->max_seq_pages, seqs);
    for (uint32_t i = 0; i < seqs; i++) {
        struct cache_seq c;
        cache_seq_plan(&e->cache, &c, i);
        int32_t *tokens = arena_take(a, (size_t)l->max_seq_pages * PAGE_SLOTS * sizeof *tokens);
        if (a->base) s[i] = (struct sequence){ .cache = c, .tokens = tokens };
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
    e->page_at = arena_take(a, seqs * sizeof *e->page_at);
    e->ask_answer = arena_take(a, n * sizeof *e->ask_answer);
    e->feed = arena_take(a, n * sizeof *e->feed);
    e->feed_answers = arena_take(a, n * sizeof *e->feed_answers);
}

static stretto_status open_into(struct engine *e, const struct engine_options *o, struct error *err)
{
    struct program_limits l;
    TRY(usable(e->model, err));
    e->device = e->model->device;
    TRY(plan(e->model, o, &e->info, &l, err));
    struct arena a = { 0 };
    take_all(e, &a, &l);
    e->bytes = a.top;
    e->memory = mem_map(e->bytes);
    if (!e->memory) return fail(err, STRETTO_E_NOMEM, "no memory for the engine's tables");
    a = (struct arena){ .base = e->memory, .cap = e->bytes };
    take_all(e, &a, &l);
    TRY(device_compile(e->device, &e->program, &e->model->graph, e->model->weights, &l, err));
    cache_init(&e->cache, e->device->backend, e->program);
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
uint32_t engine_length(const struct engine *e, int32_t seq) { return e->seqs[seq].cache.n_tokens; }
const int32_t *engine_tokens(const struct engine *e, int32_t seq) { return e->seqs[seq].tokens; }

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

/* What a call gets wrong as a whole: then nothing is sent. */
static stretto_status check_call(const struct engine *e, const struct row *rows, size_t n,
                                 const struct answer *answers, struct error *err)
{
    if (n == 0 || n > e->info.max_rows)
        return fail(err, STRETTO_E_ARG, "%zu rows in a step; this engine takes 1 to %u", n,
                    e->info.max_rows);
    for (uint32_t s = 0; s < e->info.sequences; s++) e->seqs[s].here = false;
    for (size_t i = 0, first = 0; i < n; i++) {
        const struct row *r = &rows[i];
        if (i && rows[i - 1].seq != r->seq) first = i;
        bool known = r->seq >= 0 && (uint32_t)r->seq < e->info.sequences;
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
    if (r->seq < 0 || (uint32_t)r->seq >= e->info.sequences)
        return fail(err, STRETTO_E_ARG, "row %zu: sequence %d; this engine has %u", i, r->seq,
                    e->info.sequences);
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
    bool known = seq >= 0 && (uint32_t)seq < e->info.sequences;
    uint32_t committed = known ? e->seqs[seq].cache.n_tokens : 0, ok = 0;
    stretto_status bad = STRETTO_OK, rest = STRETTO_OK;
    for (size_t i = first; i < first + n; i++) {
        e->status[i] = check_row(e, &rows[i], i, committed, err);
        ok += e->status[i] == STRETTO_OK;
        if (bad == STRETTO_OK) bad = e->status[i];
    }
    if (!known) return 0;
    /* What an earlier step guessed and nobody accepted is forgotten. */
    cache_rewind(&e->cache, &e->seqs[seq].cache, committed);
    uint32_t reach = cache_reserve(&e->cache, &e->seqs[seq].cache, committed + ok) - committed;
    if (reach < ok)
        rest = fail(err, STRETTO_E_FULL,
                   "the cache is full: %u more tokens of a sequence of %u do not fit, %u pages of %d "
                   "tokens are free",
                   ok, committed, e->cache.n_free, PAGE_SLOTS);
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
    e->page_at[st->n_seqs++] = cache_seq_table(&e->cache, &s->cache);
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
    st->cancel = e->cancel;
    st->cancel_ud = e->cancel_ud;
    return device_run(e->device, e->program, st, e->ask_answer, err);
}

stretto_status engine_step(struct engine *e, const struct row *rows, size_t n,
                           struct answer *answers, struct error *err)
{
    stretto_status s = check_call(e, rows, n, answers, err);
    if (s != STRETTO_OK) return all_have(answers, n, s);
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

void engine_commit(struct engine *e, int32_t seq, uint32_t n)
{
    struct sequence *s = &e->seqs[seq];
    const int32_t *sent = e->sent + s->last_row;
    for (uint32_t i = 0; i < n && i < s->last_rows && sent[i] >= 0; i++)
        s->tokens[s->cache.n_tokens++] = e->token[sent[i]];
    s->last_rows = 0;
}

void engine_accept(struct engine *e, int32_t seq, const int32_t *row, uint32_t n)
{
    struct sequence *s = &e->seqs[seq];
    int32_t *slot = e->path;
    for (uint32_t i = 0; i < n; i++) {
        int32_t at = e->sent[row[i]];
        s->tokens[s->cache.n_tokens + i] = e->token[at];
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
    const struct backend *b = e->device->backend;
    if (b->profile) return b->profile(e->program, on, err);
    return fail(err, STRETTO_E_UNSUP, "the backend %s does not say where its time goes", b->name);
}

size_t engine_profile_read(const struct engine *e, struct op_time *out, size_t cap)
{
    const struct backend *b = e->device->backend;
    return b->profile_read ? b->profile_read(e->program, out, cap) : 0;
}
