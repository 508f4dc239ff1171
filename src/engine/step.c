/* From rows to a step and back: which rows can be sent, where they stand in it, how each fared, and which of
 * them become part of their timelines. */
#include "engine/engine_int.h"
#include <string.h>

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
    for (uint32_t s = 0; s < e->n_seqs; s++) e->seqs[s].here = false;
    for (size_t i = 0, first = 0; i < n; i++) {
        const struct row *r = &rows[i];
        if (i && rows[i - 1].seq != r->seq) first = i;
        bool known = sequence_is_open(e, r->seq);
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
static stretto_status check_row(const struct engine *e, const struct row *rows, size_t i,
                                uint32_t committed, struct error *err)
{
    const struct row *r = &rows[i];
    if (r->parent >= 0 && e->status[r->parent] != STRETTO_OK) return e->status[r->parent];
    if (r->parent >= 0 && rows[r->parent].given == ROW_APART && r->given != ROW_APART)
        return fail(err, STRETTO_E_ARG, "row %zu hangs on a guess that never becomes part of the text", i);
    if (!sequence_is_open(e, r->seq))
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
    bool known = sequence_is_open(e, seq);
    uint32_t committed = known ? e->seqs[seq].cache.n_tokens : 0, ok = 0;
    stretto_status bad = STRETTO_OK, rest = STRETTO_OK;
    for (size_t i = first; i < first + n; i++) {
        e->status[i] = check_row(e, rows, i, committed, err);
        ok += e->status[i] == STRETTO_OK;
        if (bad == STRETTO_OK) bad = e->status[i];
    }
    if (!known) return 0;
    uint32_t reach = sequence_reserve(e, &e->seqs[seq], committed + ok) - committed;
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
        e->given[at] = rows[i].given == 1;
        e->apart[at] = rows[i].given == ROW_APART;
        e->sent[i] = at;
    }
    e->owner[st->n_seqs] = s;
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

/* The step's arrays are the engine's own, filled in place: nothing is copied on the way to the backend. */
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
    adapted_rows(e, st);
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
    for (; i < n && i < s->last_rows && sent[i] >= 0 && !e->apart[sent[i]]; i++)
        add_cached(e, s, s->cache.n_tokens + i, sent[i]);
    for (uint32_t left = i, k; left; left -= k) {      /* page by page: windows give back behind each */
        uint32_t room = PAGE_SLOTS - s->cache.n_tokens % PAGE_SLOTS;
        k = left < room ? left : room;
        cache_commit(&e->cache, &s->cache, k);
        prefix_grow(&e->prefix, &s->at);
    }
    s->last_rows = 0;
    return i;
}

void engine_accept(struct engine *e, int32_t seq, const int32_t *row, uint32_t n)
{
    struct sequence *s = &e->seqs[seq];
    int32_t *slot = e->path;
    for (uint32_t i = 0; i < n; i++)
        if (e->apart[e->sent[row[i]]]) n = i;
    for (uint32_t i = 0; i < n; i++) {
        int32_t at = e->sent[row[i]];
        add_cached(e, s, s->cache.n_tokens + i, at);
        slot[i] = e->slot[at];
    }
    cache_accept(&e->cache, &s->cache, slot, n);
    prefix_grow(&e->prefix, &s->at);
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
            e->rows[i] =
                (struct row){seq, tokens[at + i], i ? (int32_t)i - 1 : ROW_COMMITTED, 1, 0};
        if (end) {
            e->rows[k - 1].wants = wants;
            e->answers[k - 1] = *last;
        }
        stretto_status s = engine_step(e, e->rows, k, end ? e->answers : NULL, err);
        if (end) *last = e->answers[k - 1];
        TRY(s);
        engine_commit(e, seq, (uint32_t)k);
        at += k;
    }
    return STRETTO_OK;
}
