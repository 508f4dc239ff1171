/* One turn: who has left is told, what the others can do becomes rows, one step, and everybody gets the
 * answers to his rows. Nothing here depends on how many there are: a session that writes alone is a
 * request among none. */
#include "base/clock.h"
#include "engine/engine_int.h"
#include <string.h>

enum { DELAY_DEFAULT = 2, READ_FIRST = 16, READ_LEAST = 8 };

struct slot {                        /* a request, and what it does in this turn */
    struct request r;
    uint32_t id;                     /* 0: the slot is free; ids rise, so they say who came first */
    size_t row, n_rows;              /* its rows of the step */
    uint32_t guesses, asked;         /* asked: answers that places have already */
    bool writes, hungry, waits;      /* hungry: no page for a single row; waits: none beside older ones */
    bool lost;                       /* its sequence was closed */
    uint32_t chunk;                  /* rows that it is to read */
    double rank;
    uint32_t older;                  /* of this turn's requests that go on, those that came before */
    struct event event;
};

void scheduler_plan(struct engine *e, struct arena *a)
{
    e->slots = arena_take(a, e->info.sequences * sizeof *e->slots);
    e->order = arena_take(a, e->info.sequences * sizeof *e->order);
    e->ranked = arena_take(a, e->info.sequences * sizeof *e->ranked);
    e->bids = arena_take(a, e->info.sequences * sizeof *e->bids);
    e->proposing = arena_take(a, e->info.sequences * sizeof *e->proposing);
    e->rows = arena_take(a, e->info.max_rows * sizeof *e->rows);
    e->answers = arena_take(a, e->info.max_rows * sizeof *e->answers);
}

void engine_schedule(struct engine *e, const struct schedule *s) { e->schedule = *s; }

uint32_t requests_count(const struct engine *e) { return e->n_slots; }

static uint32_t known(const struct engine *e, const struct slot *s)
{
    return e->seqs[s->r.seq].known;
}

/* Up to where the timeline is read before anybody writes: a written last token is the writer's row. */
static uint32_t read_end(const struct engine *e, const struct slot *s)
{
    uint32_t n = known(e, s);
    return s->r.writer && n && !engine_given(e, s->r.seq, n - 1) ? n - 1 : n;
}

static uint32_t unread(const struct engine *e, const struct slot *s)
{
    uint32_t end = read_end(e, s), at = engine_length(e, s->r.seq);
    return end > at ? end - at : 0;
}

/* ---- joining and leaving --------------------------------------------------------------------- */

stretto_status request_add(struct engine *e, const struct request *r, uint32_t *id, struct error *err)
{
    struct slot *free_slot = NULL;
    *id = 0;
    if (r->seq < 0 || (uint32_t)r->seq >= e->n_seqs || !e->seqs[r->seq].open)
        return fail(err, STRETTO_E_ARG, "a request on sequence %d, which is not open", r->seq);
    for (struct slot *s = e->slots; s < e->slots + e->info.sequences; s++) {
        if (s->id && s->r.seq == r->seq && !s->lost)
            return fail(err, STRETTO_E_ARG, "sequence %d has a request already", r->seq);
        if (!s->id && !free_slot) free_slot = s;
    }
    if (!free_slot)
        return fail(err, STRETTO_E_FULL, "%u requests, some on sequences that were closed: the next turn "
                    "ends those", e->n_slots);
    struct slot s = { .r = *r };
    if (!known(e, &s) || (!r->writer && !unread(e, &s)) || (r->writer && writer_done(r->writer)))
        return fail(err, STRETTO_E_ARG, "there is nothing to do for a request on sequence %d: its text "
                    "is empty, read or at its end", r->seq);
    uint32_t to = r->end ? r->end : known(e, &s), all = to > r->first ? to - r->first : 0;
    if (r->wants && (!r->places || r->room < (r->answered ? 1 : all)))
        return fail(err, STRETTO_E_ARG, "a request whose %u tokens want answers has places for %u", all,
                    r->places ? r->room : 0);
    /* Whoever writes sends the last token's row. */
    if (r->writer && engine_length(e, r->seq) == known(e, &s)) engine_forget(e, r->seq, known(e, &s) - 1);
    if (++e->last_id == 0) e->last_id = 1;
    s.id = *id = e->last_id;
    *free_slot = s;
    e->n_slots++;
    e->seqs[r->seq].managed = true;
    return STRETTO_OK;
}

static void leave(struct engine *e, struct slot *s)
{
    s->id = 0;
    e->n_slots--;
}

void request_cancel(struct engine *e, uint32_t id)
{
    for (struct slot *s = e->slots; id && s < e->slots + e->info.sequences; s++)
        if (s->id == id) leave(e, s);
}

void request_rank(struct engine *e, uint32_t id, double rank)
{
    for (struct slot *s = e->slots; id && s < e->slots + e->info.sequences; s++)
        if (s->id == id) s->rank = rank;
}

void requests_drop(struct engine *e)
{
    for (struct slot *s = e->slots; s < e->slots + e->info.sequences; s++)
        if (s->id) leave(e, s);
}

void requests_lose(struct engine *e, int32_t seq)
{
    for (struct slot *s = e->slots; s < e->slots + e->info.sequences; s++)
        s->lost |= s->id && s->r.seq == seq;
}

static void end(struct slot *s, stretto_status status, const char *words)
{
    if (s->event.done) return;
    s->event.done = true;
    if (status != STRETTO_OK) fail(&s->event.error, status, "%s", words);
}

static bool is_cancelled(const struct slot *s) { return s->r.cancel && s->r.cancel(s->r.ud); }

static bool is_late(const struct slot *s) { return s->r.deadline > 0 && clock_seconds() >= s->r.deadline; }

static void end_cancelled(struct slot *s)
{
    if (is_cancelled(s)) end(s, STRETTO_E_CANCEL, "the request was cancelled");
    else if (is_late(s))
        end(s, STRETTO_E_CANCEL, "the request's deadline has passed");
}

/* ---- who gets rows --------------------------------------------------------------------------- */

/* Requests of this turn, oldest first. */
struct turn {
    struct engine *e;
    struct slot **all;               /* [n] */
    size_t n, n_writers, n_rows;
    struct given_rows read;             /* rows of those who read */
    uint32_t written;                /* and of those who write */
    bool roles;                      /* some of the former are given rows */
    bool shared, guesses;            /* several write, some as it pays; and those may guess */
    double began;
    struct error *err;
};

/* Plain steps that reading may add beside `writers` others, so that their tokens are `delay` plain steps later at
 * most. */
static double may_add(const struct engine *e, uint32_t writers)
{
    double delay = e->schedule.delay > 0 ? e->schedule.delay : DELAY_DEFAULT;
    double plain = costs_ratio(&e->costs, writers), may = delay * plain;
    if (e->costs.base > 0 && e->schedule.seconds / e->costs.base - plain > may)
        may = e->schedule.seconds / e->costs.base - plain;
    return may;
}

/* Tokens that rows at [at, at + n) look back on, of all layers' average: a window's see no more than it. */
static double looks_back(const struct engine *e, uint32_t at, uint32_t n)
{
    double all = 0, layers = 0;
    for (uint32_t g = 0; g < e->cache.n_groups; g++) {
        const struct layer_group *x = e->cache.group[g].layers;
        double sees = at + 0.5 * n;
        if (x->kind == GROUP_WINDOW && sees > x->window) sees = x->window;
        all += sees * x->layers;
        layers += x->layers;
    }
    return layers > 0 ? all / layers * n : 0;
}

static struct given_rows with_chunk(const struct turn *t, const struct slot *s, uint32_t n)
{
    const struct engine *e = t->e;
    return (struct given_rows){ t->read.rows + n, t->read.back + looks_back(e, engine_length(e, s->r.seq), n) };
}

/* Of the next tokens of a request, those that may be rows of one step as far as its places go. */
static uint32_t answerable(const struct engine *e, const struct slot *s)
{
    uint32_t n = unread(e, s), at = engine_length(e, s->r.seq), first = s->r.first + s->asked;
    uint32_t room = s->r.answered ? s->r.room : s->r.room - s->asked, quiet = first > at ? first - at : 0;
    if (!s->r.wants || n <= quiet || n - quiet <= room) return n;
    return s->r.end && at + quiet + room >= s->r.end ? n : quiet + room;
}

static bool fits(const struct turn *t, const struct slot *s, uint32_t n, double may)
{
    return costs_reading(&t->e->costs, with_chunk(t, s, n)) <= may;
}

/* How much of n tokens is read now: alone, all that a step takes; beside others the most that adds `may` plain steps,
 * counted in fours where rows are dear, and twice as many rows as in the step before at most: what so many cost may be
 * known from long ago. Whoever is first reads READ_LEAST, or reading would hardly move. */
static uint32_t chunk_of(const struct turn *t, const struct slot *s, uint32_t n, double may)
{
    const struct engine *e = t->e;
    uint32_t room = e->info.max_rows - t->read.rows - (uint32_t)t->n_writers, best = 0;
    uint32_t most = 2 * e->read_beside > READ_FIRST ? 2 * e->read_beside : READ_FIRST;
    if (e->model->graph.bidirectional) return n <= room ? n : 0;                /* in one step */
    if (n > room) n = room;
    if (!t->n_writers) return n;
    most = most > t->read.rows ? most - t->read.rows : 0;
    if (!(e->costs.base > 0)) best = most;
    for (uint32_t k = READ_LEAST; k < n && k <= most && e->costs.base > 0; k += k < 2 * READ_FIRST ? 4 : READ_FIRST)
        if (fits(t, s, k, may)) best = k;
    if (n <= most && fits(t, s, n, may)) best = n;
    if (!t->read.rows && best < READ_LEAST) best = READ_LEAST;
    return best < n ? best : n;
}

/* The next tokens of a request become given rows, `room` at most. */
static void read_rows(struct turn *t, struct slot *s, uint32_t room)
{
    struct engine *e = t->e;
    uint32_t n = unread(e, s), at = engine_length(e, s->r.seq), end = at + n;
    uint32_t asks = 0, first = s->r.first + s->asked;   /* read again, nobody is answered twice */
    if (n > room) n = room;
    s->row = t->n_rows;
    for (uint32_t i = 0; i < n; i++, at++) {
        struct row *r = &e->rows[t->n_rows];
        bool wants = s->r.wants && at >= first && (!s->r.end || at < s->r.end);
        uint32_t place = s->r.answered ? asks : s->asked + asks;
        if (wants && place == s->r.room) break;
        *r = (struct row){ s->r.seq, e->seqs[s->r.seq].tokens[at],
                           i ? (int32_t)t->n_rows - 1 : ROW_COMMITTED,
                           engine_given(e, s->r.seq, at), wants ? s->r.wants : WANT_NOTHING };
        if (wants) e->answers[t->n_rows] = s->r.places[place];
        asks += wants;
        t->roles |= r->given;
        if (s->r.writer && at + 1 == end && end == known(e, s))
            writer_ask(s->r.writer, r, &e->answers[t->n_rows]);
        t->n_rows++;
    }
    s->n_rows = t->n_rows - s->row;
}

/* Whether writing to page p of a sequence takes one from the pool: a new one, or a copy of a shared one. */
static bool takes_page(const struct engine *e, const struct cache_seq *c, uint32_t p)
{
    for (uint32_t g = 0; g < e->cache.n_groups; g++) {
        int32_t page = e->cache.tables[cache_table(&e->cache, c, g) + (int32_t)p];
        if (p >= c->n_pages || page < 0 || e->cache.group[g].refs[page] > 1) return true;
    }
    return false;
}

/* Of n rows, those that a request has pages for; one is left for each of those who came before it. */
static uint32_t rows_with_pages(const struct engine *e, const struct slot *s, uint32_t n, uint32_t older)
{
    const struct cache_seq *c = &e->seqs[s->r.seq].cache;
    uint32_t left = cache_free(&e->cache), rows = 0;
    if (!older) return n;
    if (left < n / PAGE_SLOTS + 2 + older) left = engine_pages_left(e);
    left = left > older ? left - older : 0;
    for (uint32_t p = c->n_tokens / PAGE_SLOTS; rows < n; p++) {
        bool takes = takes_page(e, c, p);
        if (takes && !left) break;
        left -= takes;
        rows = (p + 1) * PAGE_SLOTS - c->n_tokens;
    }
    return rows < n ? rows : n;
}

static void rank(struct turn *t)
{
    uint32_t older = 0;
    for (size_t i = 0; i < t->n; i++) {
        struct slot *s = t->all[i];
        size_t at = i;
        s->older = older;
        older += !s->event.done;
        for (; at && t->e->ranked[at - 1]->rank > s->rank; at--) t->e->ranked[at] = t->e->ranked[at - 1];
        t->e->ranked[at] = s;
    }
}

/* Who reads how much, while t->n_writers write. */
static void plan_reading(struct turn *t)
{
    double may = may_add(t->e, (uint32_t)t->n_writers);
    rank(t);
    for (size_t i = 0; i < t->n; i++) {
        struct slot *s = t->e->ranked[i];
        if (s->event.done || s->writes || !unread(t->e, s)) continue;
        uint32_t n = chunk_of(t, s, answerable(t->e, s), may);
        s->chunk = rows_with_pages(t->e, s, n, s->older);
        s->waits = s->chunk < n && !s->chunk;
        t->read = with_chunk(t, s, s->chunk);
        if (t->e->schedule.whole && s->chunk) return;
    }
}

static void read_chunks(struct turn *t)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->e->ranked[i]->chunk) read_rows(t, t->e->ranked[i], t->e->ranked[i]->chunk);
}

/* Several texts answer for their guesses together (decode/account.h); one alone has its controller's account. */
static void may_guess(struct turn *t)
{
    size_t rest = 0;
    for (size_t i = 0; i < t->n; i++) {
        const struct slot *s = t->all[i];
        rest += !s->event.done && s->writes && writer_may_rest(s->r.writer);
    }
    t->shared = t->n_writers > 1 && rest;
    t->guesses = !t->shared || account_allows(&t->e->account);
}

/* Everybody who writes proposes; one budget is shared out; then the rows. */
static void plan_writing(struct turn *t)
{
    struct engine *e = t->e;
    uint32_t room = e->info.max_rows - t->read.rows - (uint32_t)t->n_writers;
    size_t n = 0, k = 0;
    may_guess(t);
    for (size_t i = 0; i < t->n; i++) {
        struct slot *s = t->all[i];
        if (s->event.done || !s->writes) continue;
        bool rests = !t->guesses && writer_may_rest(s->r.writer);
        e->proposing[k++] = (struct proposing){ s->r.writer, rests ? 1 : (size_t)room + 1, { 0 }, false };
    }
    writers_propose(e->proposing, k);
    k = 0;
    for (size_t i = 0; i < t->n; i++) {
        struct slot *s = t->all[i];
        if (s->event.done || !s->writes) continue;
        const struct error *err = &e->proposing[k++].error;
        if (err->status != STRETTO_OK) end(s, err->status, err->text);
        else e->bids[n++] = writer_bid(s->r.writer);
    }
    if (n) controllers_share(e->bids, n, room, costs_reading(&e->costs, t->read));
    n = 0;
    for (size_t i = 0; i < t->n; i++) {
        struct slot *s = t->all[i];
        if (s->event.done || !s->writes) continue;
        s->row = t->n_rows;
        const struct bid *b = &e->bids[n++];
        s->n_rows = writer_rows(s->r.writer, e->rows, e->answers, t->n_rows, b->rows, b->apart);
        s->guesses = (uint32_t)s->n_rows - 1;
        t->n_rows += s->n_rows;
        t->written += (uint32_t)s->n_rows;
    }
}

/* Before anything is planned: what others have read meanwhile, and what is left of pages that were given up, need not
 * be read again. Tokens that are still to be answered are. One page is left for each of those who came before, and
 * one to go on with. */
static void catch_up(struct turn *t)
{
    struct engine *e = t->e;
    uint32_t older = 0;
    for (size_t i = 0; i < t->n; i++) {
        struct slot *s = t->all[i];
        if (s->event.done) continue;
        struct sequence *q = &e->seqs[s->r.seq];
        uint32_t most = q->known - 1, first = s->r.first + s->asked, pages = UINT32_MAX;
        if (s->r.wants && first < most) most = first;
        if (most > q->shared) most = q->shared;
        if (unread(e, s) && prefix_has_next(&e->prefix, &q->at, most)) {
            uint32_t left = older ? engine_pages_left(e) : 0;
            if (older) pages = left > older + 1 ? left - older - 1 : 0;
            sequence_catch_up(e, q, most, pages);
        }
        older++;
    }
}

/* More writers than rows take turns; whoever reads gets one row at least, of one row every other. */
static void choose_writers(struct turn *t, uint32_t to_read)
{
    struct engine *e = t->e;
    size_t most = e->info.max_rows - (to_read != 0);
    uint64_t turn = e->info.max_rows > 1 ? e->turns : e->turns / 2;
    if (!most) most = e->turns % 2;
    for (size_t i = 0; i < t->n; i++) {
        struct slot *s = t->all[(i + turn) % t->n];
        if (s->event.done || !s->writes) continue;
        if (t->n_writers == most) s->writes = false;
        else t->n_writers++;
    }
}

/* Writers first, as one row of each is what its person waits for; then chunks of those who read. Who cannot
 * have a row in this turn has one in the next ones: writers by turns, readers in the order of joining. */
static void plan_rows(struct turn *t)
{
    struct engine *e = t->e;
    uint32_t to_read = 0;
    for (size_t i = 0; i < t->n; i++) {
        struct slot *s = t->all[i];
        s->row = s->n_rows = s->guesses = s->chunk = 0;
        s->writes = s->hungry = s->waits = false;
        if (s->event.done) continue;
        uint32_t n = unread(e, s);
        to_read += n;
        s->writes = !n;
    }
    if (!e->schedule.whole || !to_read) choose_writers(t, to_read);
    plan_reading(t);
    if (e->schedule.whole && to_read && !t->read.rows) choose_writers(t, to_read);
    if (t->n_writers) plan_writing(t);
    for (size_t i = 0; i < t->n; i++)             /* those whose turn it is not have nothing to read */
        if (!t->all[i]->event.done && !unread(e, t->all[i])) t->all[i]->writes = true;
    read_chunks(t);
}

/* ---- what came of it ------------------------------------------------------------------------- */

/* A row's status; t->err has the sentence of the first row's that was not OK. */
static stretto_status row_failed(const struct turn *t, stretto_status st, struct error *err)
{
    const char *words = st == STRETTO_E_NAN ? "the model's output is not a number; the file is damaged or "
                                              "its numbers overflow"
                                            : "a token of the text is not in the vocabulary";
    return fail(err, st, "%s", t->err->status == st ? t->err->text : words);
}

/* What was sent of the chunk is in the cache now, also where a later row had no page. Answers are handed out
 * in order and once, even if their tokens had to be read again. */
static void take_reading(struct turn *t, struct slot *s)
{
    struct engine *e = t->e;
    uint32_t at = engine_length(e, s->r.seq), n = engine_commit(e, s->r.seq, (uint32_t)s->n_rows);
    struct error err = { .status = STRETTO_OK };
    stretto_status st = STRETTO_OK, next = n < s->n_rows ? e->answers[s->row + n].status : STRETTO_OK;
    s->event.read += n;
    for (uint32_t i = 0; i < n && st == STRETTO_OK; i++) {
        const struct answer *a = &e->answers[s->row + i];
        uint8_t wants = e->rows[s->row + i].wants;
        if (!wants) continue;
        st = a->status;
        if (st != STRETTO_OK) row_failed(t, st, &err);
        else if (s->r.wants) {
            if (!s->r.answered) s->r.places[s->asked] = *a;
            else st = s->r.answered(s->r.ud, at + i, a, &err);
            s->asked++;
        } else if ((st = writer_first(s->r.writer, a, &err)) == STRETTO_OK) s->event.wrote++;
    }
    if (st == STRETTO_OK && next != STRETTO_OK && next != STRETTO_E_FULL) st = row_failed(t, next, &err);
    if (st != STRETTO_OK) end(s, st, err.text);
    else if (n == 0) s->hungry = true;
    if (!s->r.writer && !unread(e, s)) end(s, STRETTO_OK, "");
}

static void take_writing(struct turn *t, struct slot *s, double seconds, double price)
{
    struct engine *e = t->e;
    const struct answer *a = &e->answers[s->row];
    struct error err = { .status = STRETTO_OK };
    uint32_t before = known(e, s);
    if (a->status == STRETTO_E_FULL) {
        s->hungry = true;
        return;
    }
    stretto_status st = a->status;
    if (st != STRETTO_OK) row_failed(t, st, &err);
    else st = writer_take(s->r.writer, s->row, a, seconds, price * s->guesses, &err);
    if (st != STRETTO_OK) end(s, st, err.text);
    else s->event.wrote += known(e, s) - before;
}

static void learn(struct turn *t, double seconds)
{
    struct step_costs *c = &t->e->costs;
    t->e->read_beside = t->written ? t->read.rows : 0;
    if (t->read.rows && (t->roles || t->written)) costs_learn_reading(c, t->written, t->read, seconds);
    else costs_learn(c, t->written + t->read.rows, seconds);
}

/* Everybody's part of the step's time: certain rows of who writes share what a plain step takes, guesses pay
 * their price, and who reads shares the rest. */
static void charge(struct turn *t, double seconds, uint32_t guesses, double price)
{
    const struct step_costs *c = &t->e->costs;
    double plain = 0, reading = 0;
    size_t writers = 0;
    for (size_t i = 0; i < t->n; i++) writers += t->all[i]->n_rows && t->all[i]->writes;
    if (writers) plain = costs_ratio(c, t->written - guesses);
    if (t->read.rows) reading = costs_reading(c, t->read);
    if (t->read.rows && !(reading > 0)) reading = costs_ratio(c, t->read.rows);
    double all = plain + price * guesses + reading;
    for (size_t i = 0; i < t->n && all > 0; i++) {
        struct slot *s = t->all[i];
        if (!s->n_rows) continue;
        double part = s->writes ? plain / (double)writers + price * s->guesses
                                : reading * (double)s->n_rows / t->read.rows;
        s->event.seconds = seconds * part / all;
    }
}

/* What the tokens of this turn have taken, and what they had if nobody had guessed. foretold: seconds of its rows. */
static void account(struct turn *t, double foretold)
{
    const struct engine *e = t->e;
    uint32_t writers = 0, wrote = 0;
    if (!t->shared) return;
    for (size_t i = 0; i < t->n; i++) {
        const struct slot *s = t->all[i];
        if (!s->n_rows || !s->writes) continue;
        writers++;
        wrote += s->event.wrote;
    }
    if (!writers || wrote < writers) return;           /* some failed */
    double plain = costs_ratio(&e->costs, writers) * wrote / writers + costs_reading(&e->costs, t->read);
    account_add(&t->e->account, t->guesses, clock_seconds() - t->began, foretold, plain * e->costs.base);
}

static void take(struct turn *t, double seconds)
{
    struct engine *e = t->e;
    uint32_t guesses = 0;
    for (size_t i = 0; i < t->n; i++) guesses += t->all[i]->guesses;
    double plain = costs_ratio(&e->costs, t->written - guesses);
    double price = guesses ? (costs_ratio(&e->costs, t->written) - plain) / guesses : 0;
    double foretold = (costs_ratio(&e->costs, t->written) + costs_reading(&e->costs, t->read)) * e->costs.base;
    charge(t, seconds, guesses, price > 0 ? price : 0);
    learn(t, seconds);
    for (size_t i = 0; i < t->n; i++) {
        struct slot *s = t->all[i];
        if (s->event.done || !s->n_rows) continue;
        if (s->writes) take_writing(t, s, seconds, price);
        else take_reading(t, s);
        if (!s->event.done && s->r.writer && writer_done(s->r.writer)) end(s, STRETTO_OK, "");
    }
    if (seconds > 0) account(t, foretold);
}

/* ---- pages ----------------------------------------------------------------------------------- */

/* Of the sequences of requests in which nothing happens, the one that was used longest ago gives up its pages, to
 * read again when it is wanted. */
static bool forget_idle(struct engine *e)
{
    struct sequence *oldest = NULL;
    for (uint32_t i = 0; i < e->n_seqs; i++) {
        struct sequence *s = &e->seqs[i];
        bool busy = !s->managed || !s->cache.n_pages;
        for (uint32_t k = 0; k < e->info.sequences; k++)
            busy |= e->slots[k].id && e->slots[k].r.seq == (int32_t)i;
        if (!busy && (!oldest || s->used < oldest->used)) oldest = s;
    }
    if (!oldest) return false;
    engine_forget(e, (int32_t)(oldest - e->seqs), 0);
    e->yielded++;
    return true;
}

/* The oldest request that got no page at all is helped: by the idle, then by the youngest. Nobody fails
 * while another holds pages: whoever ends in this turn, or did not move in it, gives them up later. */
static void make_room(struct turn *t)
{
    struct engine *e = t->e;
    struct slot *hungry = NULL, *young = NULL;
    bool moved = false;
    size_t holders = 0;
    for (size_t i = 0; i < t->n; i++) {
        struct slot *s = t->all[i];
        bool holds = e->seqs[s->r.seq].cache.n_pages > 0;
        holders += holds;
        if (s->event.done) continue;
        moved |= s->event.read || s->event.wrote;
        if ((s->hungry || s->waits) && !hungry) hungry = s;
        if (holds) young = s;
    }
    if (!hungry && (moved || t->n_rows)) return;
    for (size_t i = 0; i < t->n && !hungry; i++)        /* nobody got a row */
        if (!t->all[i]->event.done) hungry = t->all[i];
    if (!hungry || forget_idle(e)) return;
    if (young && young->id > hungry->id) {
        engine_forget(e, young->r.seq, 0);
        e->yielded++;
        return;
    }
    if (hungry->waits || holders > (e->seqs[hungry->r.seq].cache.n_pages > 0)) return;
    hungry->event.done = true;
    fail(&hungry->event.error, STRETTO_E_FULL,
         "the cache holds %u tokens for all sequences and this text needs %u; open the engine with a "
         "larger pool, or close other sequences", cache_pages(&e->cache) * PAGE_SLOTS, known(e, hungry) + 1);
}

/* ---- the turn -------------------------------------------------------------------------------- */

/* Inside a step: whether nobody wants it any more, or the engine is to stop (engine_cancel). */
static bool turn_cancelled(void *ud)
{
    const struct engine *e = ud;
    if (e->cancel && e->cancel(e->cancel_ud)) return true;
    for (const struct slot *s = e->slots; s < e->slots + e->info.sequences; s++)
        if (s->id && s->n_rows && !is_cancelled(s) && !is_late(s)) return false;
    return true;
}

/* A step in which every request wants to end is broken off; one that somebody still wants is finished, and the
 * others leave before the next. */
static void step(struct turn *t)
{
    struct engine *e = t->e;
    bool asked = e->cancel != NULL, sent = false, none = true;
    for (size_t i = 0; i < t->n; i++)
        asked |= t->all[i]->n_rows && (t->all[i]->r.cancel || t->all[i]->r.deadline > 0);
    e->turn_cancel = asked ? turn_cancelled : NULL;
    double begin = clock_seconds();
    stretto_status s = engine_step(e, e->rows, t->n_rows, e->answers, t->err);
    double seconds = clock_seconds() - begin;
    e->turn_cancel = NULL;
    for (size_t i = 0; i < t->n_rows; i++) {
        sent |= e->status[i] == STRETTO_OK;
        none &= e->answers[i].status == s;
    }
    if (s == STRETTO_E_CANCEL && !(e->cancel && e->cancel(e->cancel_ud))) {
        for (size_t i = 0; i < t->n; i++) end_cancelled(t->all[i]);
    } else if (none && s != STRETTO_OK && s != STRETTO_E_FULL && s != STRETTO_E_NAN) {
        for (size_t i = 0; i < t->n; i++)
            if (t->all[i]->n_rows) end(t->all[i], s, t->err->text);
    } else take(t, sent ? seconds : 0);
}

static void run(struct turn *t)
{
    struct engine *e = t->e;
    for (size_t i = 0; i < t->n; i++) {
        struct slot *s = t->all[i];
        s->event = (struct event){ .id = s->id, .seq = s->r.seq, .ud = s->r.ud };
        s->n_rows = 0;
        if (s->lost) end(s, STRETTO_E_ARG, "the request's sequence was closed");
        else end_cancelled(s);
    }
    catch_up(t);
    plan_rows(t);
    if (t->n_rows) step(t);
    make_room(t);
    e->turns++;
}

static size_t by_age(struct engine *e)
{
    size_t n = 0;
    for (struct slot *s = e->slots; s < e->slots + e->info.sequences; s++) {
        if (!s->id) continue;
        size_t at = n++;
        for (; at && e->order[at - 1]->id > s->id; at--) e->order[at] = e->order[at - 1];
        e->order[at] = s;
    }
    return n;
}

stretto_status engine_turn(struct engine *e, struct event *events, size_t cap, size_t *n,
                           struct error *err)
{
    struct error words = { .status = STRETTO_OK };
    *n = 0;
    if (cap < e->n_slots)
        return fail(err, STRETTO_E_ARG, "%u requests and places for %zu events", e->n_slots, cap);
    if (atomic_flag_test_and_set(&e->busy))
        return fail(err, STRETTO_E_ARG, "the engine is in the middle of a step; one thread at a time "
                    "uses an engine and its sessions");
    struct turn t = { .e = e, .all = e->order, .n = by_age(e), .began = clock_seconds(), .err = &words };
    if (t.n) run(&t);
    for (size_t i = 0; i < t.n; i++) {
        struct slot *s = t.all[i];
        s->event.unread = s->lost ? 0 : unread(e, s);
        if (s->event.done || s->event.read || s->event.wrote) events[(*n)++] = s->event;
        if (s->event.done && s->id == s->event.id) leave(e, s);   /* not cancelled by a callback */
    }
    atomic_flag_clear(&e->busy);
    return STRETTO_OK;
}

stretto_status request_run(struct engine *e, const struct request *r, struct error *err)
{
    uint32_t id;
    struct event event = { .done = false };
    if (e->n_slots)
        return fail(err, STRETTO_E_ARG, "the engine has %u other request%s; their events would be lost",
                    e->n_slots, e->n_slots > 1 ? "s" : "");
    TRY(request_add(e, r, &id, err));
    while (!event.done) {
        size_t n;
        stretto_status s = engine_turn(e, &event, 1, &n, err);
        if (s != STRETTO_OK) request_cancel(e, id);
        TRY(s);
    }
    stretto_status s = event.error.status;
    return s == STRETTO_OK ? s : fail(err, s, "%s", event.error.text);
}
