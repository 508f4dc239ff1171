/* A job in its place: a sequence of the engine, a request on it, and what becomes of its tokens. */
#include "base/clock.h"
#include "base/memory.h"
#include "serve/service_int.h"
#include <string.h>

enum { ROOM_LEAST = RING_BYTES / 2 };          /* a step's events fit in so much */
static const double PAUSE_MOST = 30;           /* seconds that a reader may leave its events */

void slot_plan(struct slot *x, struct arena *a, uint32_t vocab)
{
    sampler_plan(&x->sampler, a, vocab);
    x->pending = arena_take(a, PENDING_MOST * sizeof *x->pending);
    x->scored = arena_take(a, SCORED_MOST * sizeof *x->scored);
}

stretto_status slot_open(struct slot *x, struct service *s, struct error *err)
{
    static const struct sampling greedy = { .top_p = 1, .repeat_penalty = 1, .repeat_last_n = 64 };
    struct writer_options o = { .choice = s->o.choice,
                                      .setup = { .store = &s->learned.store, .memory = &s->learned.recycled,
                                                 .prediction = &x->prediction } };
    x->service = s;
    TRY(text_stream_open(&x->text, engine_model(s->engine)->tokenizer));
    x->out = buffer_make(RING_RECORD);
    TRY(buffer_reserve(&x->out, 8192));
    TRY(sampler_set(&x->sampler, &greedy, err));
    if (s->o.draft) TRY(drafter_open(&x->drafter, s->engine, s->o.draft, &x->sampler, err));
    if (s->o.heads) TRY(heads_open(&x->heads, s->engine, s->o.heads, err));
    o.setup.drafter = drafter_companion(x->drafter);
    o.setup.heads = heads_companion(x->heads);
    return writer_open(&x->writer, s->engine, x->seq, &x->sampler, &s->learned.calibration, &o, err);
}

void slot_close(struct slot *x)
{
    writer_close(x->writer);
    drafter_close(x->drafter);
    heads_close(x->heads);
    text_stream_close(&x->text);
    buffer_done(&x->out);
}

/* ---- its time -------------------------------------------------------------------------------------- */

/* The seconds since they were last counted are of waiting for a place or for another's pages, of reading, or of
 * writing; those that a client does not read in are no waiting. Before any of this changes. */
static void count_time(struct slot *x)
{
    double now = clock_seconds();
    struct job_usage *u = &x->usage;
    bool works = slot_runs(x) || (x->coming && x->fetched) || x->paused > 0;
    *(!works ? &u->queued : x->wrote ? &u->writing : &u->reading) += now - x->since;
    x->since = now;
}

/* ---- beginning ------------------------------------------------------------------------------------- */

static bool wants_to_end(void *ud)
{
    const struct slot *x = ud;
    return atomic_load(&x->job->cancel) || atomic_load(&x->service->closing);
}

static bool ends_answer(const void *tokenizer, int32_t token) { return tokenizer_is_eog(tokenizer, token); }

/* Tokens of a prompt that may be taken over. */
static uint32_t takes_over(const struct slot *x)
{
    const struct job_options *o = &x->job->o;
    return o->no_cache || x->scores || o->kind == JOB_EMBED ? 0 : o->n_ids - 1;
}

/* The timeline is the job's; what can be taken over for it is. */
static stretto_status set_text(struct slot *x, struct error *err)
{
    struct engine *e = x->service->engine;
    const struct job_options *o = &x->job->o;
    const struct sharing how = { o->salt, o->cache_exact, x->job->client->hash, o->adapters };
    uint32_t most = takes_over(x);
    TRY(engine_share(e, x->seq, &how, err));
    x->read = x->usage.cached = engine_set(e, x->seq, o->ids, o->n_ids, most);
    x->usage.missed = *engine_missed(e, x->seq);
    x->usage.cached_written = 0;
    for (uint32_t i = 0; i < x->read; i++) x->usage.cached_written += !engine_given(e, x->seq, i);
    return STRETTO_OK;
}

static uint32_t top_of(const struct job *j) { return j->o.logprobs > 0 ? (uint32_t)j->o.logprobs : 0; }

static struct job_token token_of(const struct token_logprobs *from)
{
    struct job_token t = { .id = from->id, .logprob = from->logprob, .n_top = from->n_top };
    memcpy(t.top, from->top, from->n_top * sizeof *t.top);
    return t;
}

/* What the model said behind token `at` of the prompt scores the next one. */
static stretto_status take_score(struct slot *x, uint32_t at, const struct answer *a)
{
    struct token_logprobs of;
    const struct job *j = x->job;
    logits_score(a->logits, engine_model(x->service->engine)->config.vocab, j->o.ids[at + 1], top_of(j), &of);
    x->scored[x->next_score++ - x->first_scored] = token_of(&of);
    return STRETTO_OK;
}

static stretto_status answered(void *ud, uint32_t at, const struct answer *a, struct error *err)
{
    struct slot *x = ud;
    (void)err;
    if (x->scores) return take_score(x, at, a);
    embedding_take(&x->job->embedding, at, a);
    return STRETTO_OK;
}

/* Where the logits of a prompt's rows go. */
static uint32_t score_places(struct slot *x)
{
    struct service *s = x->service;
    uint32_t vocab = engine_model(s->engine)->config.vocab;
    if (s->scorer && s->scorer != x) return (uint32_t)writer_places(x->writer, x->places, SCORED_MOST);
    s->scorer = x;
    for (size_t i = 0; i < SCORED_MOST; i++) x->places[i] = (struct answer){ .logits = s->logits + i * vocab };
    return SCORED_MOST;
}

void slot_join(struct slot *x)
{
    struct job *j = x->job;
    struct error err = { .status = STRETTO_OK };
    struct request r = { .seq = x->seq, .cancel = wants_to_end, .deadline = j->o.deadline, .ud = x };
    count_time(x);
    if (x->scores) {
        r.wants = WANT_LOGITS;
        r.first = x->next_score - 1;
        r.end = j->o.n_ids - 1;
        r.places = x->places;
        r.room = score_places(x);
        r.answered = answered;
    } else if (j->o.kind == JOB_EMBED) {
        embedding_ask(&j->embedding, &r);
        r.answered = answered;
    } else if (j->o.max_tokens && j->o.kind == JOB_WRITE)
        r.writer = x->writer;
    if (request_add(x->service->engine, &r, &x->request, &err) != STRETTO_OK) {
        slot_end(x, JOB_FAILED, &err);
        return;
    }
    j->client->running++;
    x->joined = ++x->service->joins;
    x->joined_at = x->usage.written;
}

/* It is no longer among the engine's requests. */
static void left(struct slot *x)
{
    count_time(x);
    x->request = 0;
    if (x->service->scorer == x) x->service->scorer = NULL;
    x->job->client->running--;
}

void slot_park(struct slot *x)
{
    if (!x->request) return;
    request_cancel(x->service->engine, x->request);
    left(x);
}

static void begin_writing(struct slot *x)
{
    struct job *j = x->job;
    struct service *s = x->service;
    const struct tokenizer *t = engine_model(s->engine)->tokenizer;
    x->cut = j->o.max_tokens < 0 || j->o.max_tokens > (int64_t)(s->longest - j->o.n_ids);
    x->limit = x->cut ? s->longest : j->o.n_ids + (uint32_t)j->o.max_tokens;
    x->prediction = (struct prediction){ j->o.prediction, j->o.n_prediction, j->o.n_ids };
    writer_move(x->writer, x->seq);
    writer_choose(x->writer, j->o.choice ? *j->o.choice : s->o.choice);
    writer_limit(x->writer, x->limit, t && !j->o.ignore_end ? ends_answer : NULL, t);
    writer_score(x->writer, j->o.logprobs);
    writer_score_drawn(x->writer, j->o.drawn);
    writer_begin(x->writer);
}

static void start(struct slot *x)
{
    job_tell_read(x->job, JOB_STARTED, x->read, &x->usage);
    x->service->state.cached_tokens += x->usage.cached;
}

static stretto_status open_memory(struct slot *x, struct error *err)
{
    const struct service *s = x->service;
    struct job *j = x->job;
    struct embedding *e = &j->embedding;
    const struct model *m = engine_model(s->engine);
    j->ring.data = mem_alloc(RING_BYTES);
    if (j->ring.data && j->o.kind == JOB_EMBED)
        e->out = j->vectors = mem_alloc(embedding_numbers(e, m) * sizeof *j->vectors);
    if (!j->ring.data || (j->o.kind == JOB_EMBED && !e->out))
        return fail(err, STRETTO_E_NOMEM, "no memory for another request");
    return j->o.kind == JOB_EMBED ? embedding_open(e, m, &s->info, err) : STRETTO_OK;
}

void slot_take(struct slot *x, struct job *j)
{
    struct error err = { .status = STRETTO_OK };
    double now = clock_seconds();
    x->job = j;
    j->client->placed++;
    x->coming = false;
    x->n_pending = x->read = 0;
    x->sent = x->made = 0;
    x->scores = (j->o.prompt_logprobs || j->o.kind == JOB_SCORE) && j->o.n_ids > 1;
    x->first_scored = x->next_score = 1;
    x->paused = 0;
    x->wrote = false;
    x->began = x->since = now;
    x->usage = (struct job_usage){ .prompt = j->o.n_ids, .queued = now - j->submitted };
    stretto_status st = open_memory(x, &err);
    if (st == STRETTO_OK) st = engine_seq_open(x->service->engine, &x->seq, &err);
    if (st == STRETTO_OK) st = sampler_set(&x->sampler, &j->how, &err);
    if (st == STRETTO_OK) st = set_text(x, &err);
    if (st != STRETTO_OK) {
        slot_end(x, JOB_FAILED, &err);
        return;
    }
    text_stream_begin(&x->text, j->stops);
    begin_writing(x);
    x->fetched = 0;
    x->coming = x->service->disk && x->read < takes_over(x);
    if (x->coming) return;
    start(x);
    slot_join(x);
}

void slot_fetch(struct slot *x, double end)
{
    uint32_t most = takes_over(x);
    bool more;
    count_time(x);
    do more = x->fetched++ < most / PAGE_SLOTS && engine_restore(x->service->engine, x->seq, most);
    while (more && clock_seconds() < end);
    if (more) return;
    count_time(x);
    x->coming = false;
    set_text(x, NULL);                         /* as it was set before */
    begin_writing(x);
    start(x);
}

/* ---- its tokens ------------------------------------------------------------------------------------ */

/* Hands out the text of this step and the first n of the tokens that wait. */
static bool send(struct slot *x, uint32_t n)
{
    struct job_token tokens[PENDING_MOST];
    uint64_t to = x->sent + x->out.len;
    for (uint32_t i = 0; i < n; i++) {
        const struct pending *p = &x->pending[i];
        uint64_t from = p->from > x->sent ? p->from : x->sent, end = p->to < to ? p->to : to;
        tokens[i] = p->token;
        tokens[i].text = (uint32_t)((from < to ? from : to) - x->sent);
        tokens[i].n_text = end > from ? (uint32_t)(end - from) : 0;
    }
    bool sent = (!n && !x->out.len) || job_tell_text(x->job, x->out.data, x->out.len, tokens, n);
    x->sent = to;
    x->n_pending -= n;
    memmove(x->pending, x->pending + n, x->n_pending * sizeof *x->pending);
    buffer_clear(&x->out);
    return sent;
}

/* Those whose text is out; stopped: those of which some is. */
static uint32_t complete(const struct slot *x, bool stopped)
{
    uint32_t n = 0;
    uint64_t out = x->sent + x->out.len;
    while (n < x->n_pending && (stopped ? x->pending[n].from < out : x->pending[n].to <= out)) n++;
    return n;
}

static stretto_status take_token(struct slot *x, int32_t id, bool *stopped)
{
    if (x->n_pending == PENDING_MOST && !send(x, PENDING_MOST / 2)) return STRETTO_E_FULL;
    TRY(text_stream_push(&x->text, id, &x->out, stopped));
    struct pending *p = &x->pending[x->n_pending++];
    *p = (struct pending){ .token.id = id, .from = x->made };
    if (x->job->o.logprobs >= 0) p->token = token_of(writer_scores(x->writer));
    p->to = x->made = x->sent + x->out.len + text_stream_held(&x->text);
    return STRETTO_OK;
}

/* Whatever the writer is sure of goes out; true: the text ends with it, as *why says. */
static bool write_out(struct slot *x, enum job_finish *why)
{
    struct job *j = x->job;
    const struct tokenizer *t = engine_model(x->service->engine)->tokenizer;
    bool stopped = false, fits = true;
    int32_t id;
    *why = JOB_FAILED;
    while (!stopped && fits && writer_next(x->writer, &id)) {
        x->usage.written++;
        if (t && !j->o.ignore_end && tokenizer_is_eog(t, id)) {
            *why = JOB_END;
            return true;
        }
        fits = take_token(x, id, &stopped) == STRETTO_OK;
    }
    fits = fits && send(x, complete(x, stopped));
    if (stopped) *why = JOB_STOP;
    return stopped || !fits;
}

/* The scores of this step go out. */
static bool scores_out(struct slot *x)
{
    uint32_t n = x->next_score - x->first_scored;
    bool fits = !n || job_tell_scores(x->job, x->first_scored, x->scored, n);
    x->first_scored = x->next_score;
    return fits;
}

/* Everything is read or written; a text whose prompt was scored goes on to write. */
static void read_whole(struct slot *x)
{
    struct job *j = x->job;
    if (j->o.kind == JOB_WRITE && x->scores && j->o.max_tokens) {
        x->scores = false;
        slot_join(x);
        return;
    }
    if (j->o.kind == JOB_EMBED) {
        embedding_finish(&j->embedding);
        j->done.vector = j->embedding.out;
        j->done.n_vector = j->embedding.width * (j->embedding.kind == POOLING_NONE ? j->embedding.count : 1);
    }
    slot_end(x, j->o.kind == JOB_WRITE && j->o.max_tokens && x->cut ? JOB_CONTEXT : JOB_LENGTH, NULL);
}

void slot_event(struct slot *x, const struct event *v)
{
    static const struct error full = { STRETTO_E_FULL, "the text of one step does not fit its event" };
    struct service *s = x->service;
    struct job *j = x->job;
    enum job_finish why;
    if (slot_runs(x)) count_time(x);
    if (v->read && x->read < j->o.n_ids) {
        x->read = j->o.n_ids > v->unread ? j->o.n_ids - v->unread : 0;
        job_tell_read(j, JOB_PROGRESS, x->read, &x->usage);
    }
    s->state.prompt_tokens += v->read;
    s->state.written_tokens += v->wrote;
    x->wrote |= v->wrote > 0;
    if (v->done) left(x);
    fair_charge(s, x, v->seconds, v->read, v->wrote);
    if (!scores_out(x)) slot_end(x, JOB_FAILED, &full);
    else if (v->wrote && write_out(x, &why)) {
        slot_end(x, why, why == JOB_FAILED ? &full : NULL);
    } else if (v->done && v->error.status == STRETTO_E_CANCEL) {
        slot_end(x, wants_to_end(x) ? JOB_CANCELLED : JOB_DEADLINE, NULL);
    } else if (v->done && v->error.status != STRETTO_OK) {
        slot_end(x, JOB_FAILED, &v->error);
    } else if (v->done)
        read_whole(x);
}

/* ---- pausing and ending ---------------------------------------------------------------------------- */

void slot_watch(struct slot *x, double now)
{
    struct job *j = x->job;
    if (wants_to_end(x)) {
        slot_end(x, JOB_CANCELLED, NULL);
        return;
    }
    if (ring_room(&j->ring) < ROOM_LEAST) {
        atomic_store(&j->full, true);
        if (ring_room(&j->ring) < ROOM_LEAST) {
            slot_park(x);
            if (!(x->paused > 0)) {
                count_time(x);
                x->paused = now;
            }
            if (now - x->paused >= PAUSE_MOST) slot_end(x, JOB_CANCELLED, NULL);
            else if (j->o.deadline > 0 && now >= j->o.deadline) slot_end(x, JOB_DEADLINE, NULL);
            return;
        }
    }
    if (x->paused > 0) count_time(x);
    x->paused = 0;
}

/* A finished answer teaches the others, with a little of what it follows. */
static void remember(struct slot *x)
{
    enum { LEAD = 8 };
    unsigned suffix;
    struct service *s = x->service;
    uint32_t n = engine_known(s->engine, x->seq), from = x->job->o.n_ids;
    strategy_find("suffix", 6, &suffix);
    if (!(s->o.choice.strategies >> suffix & 1) || n < from + LEAD) return;
    uint32_t lead = from < LEAD ? from : LEAD;
    suffix_store_add(&s->learned.store, engine_tokens(s->engine, x->seq) + from - lead, n - from + lead);
}

static void end_writing(struct slot *x, enum job_finish why)
{
    bool stopped = false;
    const struct decode_counts *c = writer_counts(x->writer);
    struct service_state *all = &x->service->state;
    if (why != JOB_STOP && x->job->o.kind == JOB_WRITE &&
        text_stream_end(&x->text, &x->out, &stopped) == STRETTO_OK)
        send(x, stopped ? complete(x, true) : x->n_pending);
    writer_limit(x->writer, 0, NULL, NULL);
    writer_trim(x->writer);
    if (why <= JOB_CONTEXT) {
        remember(x);
        fair_learn(x->service, x->usage.written);
    }
    x->usage.steps = (uint32_t)c->steps;
    x->usage.guesses = (uint32_t)c->rows;
    x->usage.accepted = (uint32_t)c->accepted;
    all->guesses += c->rows;
    all->accepted += c->accepted;
    for (int i = 2; i <= COSTS_MOST; i++) all->drafts += c->by_rows[i];
    uint32_t n = engine_known(x->service->engine, x->seq);
    if (n > all->longest) all->longest = n;
}

void slot_end(struct slot *x, enum job_finish why, const struct error *failed)
{
    struct service *s = x->service;
    struct job *j = x->job;
    slot_park(x);
    count_time(x);
    j->client->placed--;
    if (x->seq >= 0) {
        end_writing(x, why);
        keep_text(s, x);
        engine_seq_close(s->engine, x->seq);
    }
    embedding_close(&j->embedding);            /* what it made stays */
    x->seq = -1;
    x->coming = false;
    x->prediction.n = 0;
    x->job = NULL;
    s->ended = true;
    s->state.cancelled += why == JOB_CANCELLED;
    j->done.stop = why == JOB_STOP ? x->text.stop.hit : NULL;
    service_show(s);                           /* who hears of the end and looks sees it */
    job_finish(j, why, &x->usage, failed);
}
