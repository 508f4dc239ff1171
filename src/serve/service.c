/* The service's thread: what was submitted gets a place, everybody who has one takes part in turns of the
 * engine, and what came of them goes into the jobs' rings. It sleeps where there is nothing to do. */
#include "base/clock.h"
#include "base/memory.h"
#include "engine/probe.h"
#include "serve/service_int.h"
#include <errno.h>
#include <signal.h>
#include <string.h>

enum { RUN_DEFAULT = 16, QUEUE_DEFAULT = 256, QUEUE_CONTEXTS = 64, DISK_DEFAULT_MB = 4096,
       DISK_STEPS = 8 };
static const double QUEUE_SECONDS = 600, QUANTUM = 2, DISK_SECONDS = 20, LATENCY_DELAY = 0.9, LATENCY_SECONDS = 0.03,
                    THROUGHPUT_SECONDS = 0.25, FETCH_BESIDE = 0.003, FETCH_ALONE = 0.05;

/* ---- opening and closing --------------------------------------------------------------------------- */

static void plan(struct service *s, struct arena *a)
{
    s->slots = arena_take(a, s->n_slots * sizeof *s->slots);
    s->events = arena_take(a, s->n_slots * sizeof *s->events);
    s->given = arena_take(a, s->info.context);
    s->running = arena_take(a, s->n_slots * sizeof *s->running);
    s->logits = arena_take(a, SCORED_MOST * (size_t)s->look.slots * sizeof *s->logits);
    s->kept = s->o.keeps ? arena_take(a, s->most * sizeof *s->kept) : NULL;
    s->clients = arena_take(a, CLIENTS_MOST * sizeof *s->clients);
    s->look_slots = arena_take(a, s->n_slots * sizeof *s->look_slots);
    struct slot none;
    for (uint32_t i = 0; i < s->n_slots; i++)
        slot_plan(a->base ? &s->slots[i] : &none, a, s->look.slots);
}

static stretto_status open_slots(struct service *s, struct error *err)
{
    struct arena a = { 0 };
    s->look.slots = engine_model(s->engine)->config.vocab;         /* for plan alone */
    plan(s, &a);
    s->arena = (struct arena){ .base = mem_map(a.top), .cap = a.top };
    if (!s->arena.base) {
        s->slots = NULL;
        return fail(err, STRETTO_E_NOMEM, "no memory for %u jobs at once", s->most);
    }
    plan(s, &s->arena);
    s->look.slots = s->most;
    memset(s->given, 1, s->info.context);
    for (uint32_t i = 0; i < s->n_slots; i++) s->slots[i].seq = -1;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        stretto_status st = slot_open(&s->slots[i], s, err);
        if (st != STRETTO_OK) return fail(err, st, "no memory for %u jobs at once", s->most);
    }
    return STRETTO_OK;
}

static stretto_status check_model(const struct model *m, struct error *err)
{
    if (m->graph.logits == GRAPH_NONE && !m->weights)
        return fail(err, STRETTO_E_ARG, "the model was opened without its weights");
    return STRETTO_OK;
}

/* Sequences for jobs that run and for as many that were parked; context and pool are those of who runs. */
static stretto_status open_engine(struct service *s, const struct model *m, struct error *err)
{
    struct engine_info i;
    struct engine_options o = s->o.engine;
    o.prefix_bytes = s->o.prefix_bytes;
    if (!o.sequences) o.sequences = RUN_DEFAULT;
    s->most = o.sequences;
    TRY(engine_plan(m, &o, &i, err));
    uint32_t more = 2 * o.sequences * PAGE_SLOTS;
    if (!o.pool_tokens) o.pool_tokens = i.pool_tokens > i.context + more && i.context_cut ? i.pool_tokens - more
                                                                                          : i.pool_tokens;
    o.context = i.context;
    o.sequences = s->n_slots = 2 * s->most;
    TRY(engine_open(&s->engine, m, &o, err));
    /* "Twice a plain step at most", which takes one itself, or a step that no reader notices. */
    const struct schedule schedule = { .delay = LATENCY_DELAY, .seconds = s->o.goal == GOAL_THROUGHPUT
                                                                  ? THROUGHPUT_SECONDS : LATENCY_SECONDS };
    engine_schedule(s->engine, &schedule);
    s->info = *engine_about(s->engine);
    s->info.sequences = s->most;
    s->longest = s->info.context < s->info.pool_tokens ? s->info.context : s->info.pool_tokens;
    s->info.context_cut = i.context_cut;
    return STRETTO_OK;
}

/* An encoder's texts share nothing, and some backends do not give pages away: that is no reason not to serve. */
static stretto_status open_disk(struct service *s, struct error *err)
{
    struct error why = { .status = STRETTO_OK };
    const struct engine_disk d = { .folder = s->o.disk, .log = s->o.log, .apart = true,
                                   .bytes = s->o.disk_bytes ? s->o.disk_bytes : (uint64_t)DISK_DEFAULT_MB << 20 };
    if (!s->o.disk) return STRETTO_OK;
    stretto_status st = engine_disk_open(s->engine, &d, &why);
    if (st == STRETTO_E_UNSUP) log_say(&s->o.log, LOG_WARN, "%s", why.text);
    else if (st != STRETTO_OK) return fail(err, st, "%s", why.text);
    s->disk = st == STRETTO_OK;
    return STRETTO_OK;
}

/* What steps cost is known before the first job: prompts are read beside others by it. */
static void learn_costs(struct service *s)
{
    static const uint32_t rows[] = { 1, 4, 8, 16 };
    enum { N = sizeof rows / sizeof *rows, TIMES = 3, SURE = 8 /* of a median */, DEPTH = 256 };
    double seconds[N];
    int32_t seq;
    const struct graph *g = &engine_model(s->engine)->graph;
    uint32_t depth = s->longest > 2 * DEPTH ? DEPTH : 0;
    if (g->bidirectional || g->logits == GRAPH_NONE || s->info.max_rows < rows[N - 1]) return;
    if (engine_seq_open(s->engine, &seq, NULL) != STRETTO_OK) return;
    if (engine_probe(s->engine, seq, depth, rows, seconds, N, TIMES, NULL) == STRETTO_OK)
        for (int i = 0; i < SURE * N; i++) costs_learn(engine_costs(s->engine), rows[i % N], seconds[i % N]);
    engine_seq_close(s->engine, seq);
}

static void *serve(void *ud);

static stretto_status start(struct service *s, struct error *err)
{
    sigset_t all, before;                      /* signals are for the program's own threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&s->thread, NULL, serve, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) return fail(err, STRETTO_E_NOMEM, "no thread for serving: %s", strerror(failed));
    s->runs = true;
    return STRETTO_OK;
}

/* `auto` asks those that are there. */
static void choose_companions(struct service_options *o, const struct model *m)
{
    if (!o->choice.automatic) return;
    if (o->draft) o->choice.strategies |= strategy_bit("draft");
    if (o->heads) o->choice.strategies |= strategy_bit("heads");
    if (model_gated(m)) o->choice.strategies |= strategy_bit("gated");
}

stretto_status service_open(struct service **out, const struct model *m, const struct service_options *o,
                            struct error *err)
{
    *out = NULL;
    TRY(check_model(m, err));
    struct service *s = mem_zalloc(1, sizeof *s);
    if (!s) return fail(err, STRETTO_E_NOMEM, "out of memory");
    s->o = *o;
    if (!s->o.queue) s->o.queue = QUEUE_DEFAULT;
    if (!(s->o.queue_seconds > 0)) s->o.queue_seconds = QUEUE_SECONDS;
    if (!(s->o.quantum > 0)) s->o.quantum = QUANTUM;
    choose_companions(&s->o, m);
    s->answer = 128;
    s->references = 1;
    s->inbox_end = &s->inbox;
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, &clock);
    pthread_condattr_destroy(&clock);
    learned_init(&s->learned);
    stretto_status st = open_engine(s, m, err);
    if (st == STRETTO_OK) st = open_disk(s, err);
    if (st == STRETTO_OK) {
        if (!s->o.queue_tokens) s->o.queue_tokens = (uint64_t)QUEUE_CONTEXTS * s->info.context;
        st = learned_place(&s->learned, m->config.vocab, err);
    }
    if (st == STRETTO_OK) st = open_slots(s, err);
    if (st == STRETTO_OK) learn_costs(s);
    if (st == STRETTO_OK) st = start(s, err);
    if (st != STRETTO_OK) service_close(s);
    else *out = s;
    return st;
}

void service_leave(struct service *s)
{
    pthread_mutex_lock(&s->lock);
    bool last = --s->references == 0;
    pthread_mutex_unlock(&s->lock);
    if (!last) return;
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->work);
    mem_unmap(s->arena.base, s->arena.cap);
    mem_free(s);
}

void service_close(struct service *s)
{
    if (!s) return;
    pthread_mutex_lock(&s->lock);
    atomic_store(&s->closing, true);
    pthread_mutex_unlock(&s->lock);
    service_poke(s);
    if (s->runs) pthread_join(s->thread, NULL);
    for (uint32_t i = 0; s->slots && i < s->n_slots; i++) slot_close(&s->slots[i]);
    keep_close(s);
    engine_close(s->engine);
    learned_close(&s->learned);
    service_leave(s);
}

const struct engine_info *service_about(const struct service *s) { return &s->info; }

void service_drain(struct service *s)
{
    pthread_mutex_lock(&s->lock);
    s->draining = true;
    pthread_mutex_unlock(&s->lock);
}

void service_poke(struct service *s)
{
    pthread_mutex_lock(&s->lock);
    s->poked = true;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
}

/* ---- submitting ------------------------------------------------------------------------------------ */

static stretto_status check_tokens(const struct model *m, const int32_t *ids, uint32_t n, struct error *err)
{
    uint32_t vocab = m->config.vocab;
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= vocab)
            return fail(err, STRETTO_E_ARG, "token %d is not in the vocabulary; its ids are 0 to %u", ids[i],
                        vocab - 1);
    return STRETTO_OK;
}

static stretto_status check_length(const struct service *s, const struct job_options *o, struct job_busy *busy,
                                   struct error *err)
{
    const struct model *m = engine_model(s->engine);
    bool writes = o->kind == JOB_WRITE && o->max_tokens;
    uint32_t most = o->kind == JOB_EMBED ? embedding_longest(m, &s->info) : s->longest;
    if (most > s->longest) most = s->longest;
    if (o->n_ids + writes <= most) return STRETTO_OK;
    busy->context = most;
    return fail(err, STRETTO_E_FULL, "the text has %u tokens and the context holds %u%s; shorten it", o->n_ids, most,
                writes ? ", the answer among them" : "");
}

/* Whether the model can do it, and what it takes that belongs to the job. */
static stretto_status prepare(const struct service *s, struct job *j, struct job_busy *busy, struct error *err)
{
    const struct model *m = engine_model(s->engine);
    struct sampler sampler = { .vocab = m->config.vocab };
    struct embedding *x = &j->embedding;
    if (j->o.adapters && j->o.n_adapters != m->n_adapters)
        return fail(err, STRETTO_E_ARG, "%u adapters are weighed; the model has %zu", j->o.n_adapters, m->n_adapters);
    TRY(engine_weights_check(s->engine, j->o.adapters, err));
    if (j->o.kind == JOB_KEEP) {
        if (s->o.keeps && j->o.place >= 0 && (uint32_t)j->o.place < s->most) return STRETTO_OK;
        return fail(err, STRETTO_E_ARG, "there is no slot %d; they are 0 to %u", j->o.place, s->most - 1);
    }
    TRY(check_tokens(m, j->o.ids, j->o.n_ids, err));
    TRY(check_tokens(m, j->o.prediction, j->o.n_prediction, err));
    TRY(check_length(s, &j->o, busy, err));
    TRY(sampler_set(&sampler, &j->how, err));
    if (j->o.kind != JOB_EMBED) {
        return m->graph.logits != GRAPH_NONE ? STRETTO_OK
            : fail(err, STRETTO_E_UNSUP, "this model is an encoder: it makes embeddings and writes no text");
    }
    int asked = j->o.each ? (int)POOLING_NONE : j->o.pooling == POOLING_NONE ? -1 : (int)j->o.pooling;
    TRY(embedding_rule(m, asked, j->o.raw, &x->kind, &x->normalize, err));
    x->count = j->o.n_ids;
    return STRETTO_OK;
}

/* Under lock. */
static stretto_status enqueue(struct service *s, struct job *j, struct job_busy *busy, struct error *err)
{
    if (s->draining || atomic_load(&s->closing))
        return fail(err, STRETTO_E_DEVICE, "draining: the server is about to stop");
    const struct service_state *x = &s->look;
    busy->retry_after = x->wait > 1 ? x->wait : 1;
    if (s->n_waiting >= s->o.queue || s->waiting_tokens + j->o.n_ids > s->o.queue_tokens ||
        x->wait > s->o.queue_seconds)
        return fail(err, STRETTO_E_FULL, "%u requests are waiting already; try again later", s->n_waiting);
    busy->late = j->o.deadline > 0 && clock_seconds() > j->o.deadline;
    if (j->o.deadline > 0 && clock_seconds() + x->wait > j->o.deadline)
        return fail(err, STRETTO_E_FULL, "the deadline cannot be met: %u requests are waiting", s->n_waiting);
    busy->retry_after = 0;
    j->number = ++s->last_number;
    s->n_waiting++;
    s->waiting_tokens += j->o.n_ids;
    s->references++;
    *s->inbox_end = j;
    s->inbox_end = &j->next;
    s->poked = true;
    pthread_cond_signal(&s->work);
    return STRETTO_OK;
}

stretto_status service_submit(struct service *s, const struct job_options *o, struct job **out, struct job_busy *busy,
                              struct error *err)
{
    struct job_busy ignored;
    struct job *j;
    *out = NULL;
    if (!busy) busy = &ignored;
    *busy = (struct job_busy){ .context = 0 };
    TRY(job_make(&j, o, err));
    j->service = s;
    stretto_status st = prepare(s, j, busy, err);
    if (st == STRETTO_OK) {
        pthread_mutex_lock(&s->lock);
        st = enqueue(s, j, busy, err);
        pthread_mutex_unlock(&s->lock);
    }
    if (st != STRETTO_OK) job_free(j);
    else *out = j;
    return st;
}

/* ---- the thread ------------------------------------------------------------------------------------ */

/* What was submitted since, under lock; the first of it. */
static struct job *take_inbox(struct service *s)
{
    struct job *first = s->inbox, **end = &s->waiting;
    while (*end) end = &(*end)->next;
    *end = first;
    s->inbox = NULL;
    s->inbox_end = &s->inbox;
    return first;
}

/* A job that is over leaves the queue with its tokens. */
struct job *service_unqueue(struct service *s, struct job **at)
{
    struct job *j = *at;
    *at = j->next;
    j->next = NULL;
    pthread_mutex_lock(&s->lock);
    s->n_waiting--;
    s->waiting_tokens -= j->o.n_ids;
    pthread_mutex_unlock(&s->lock);
    s->state.jobs++;
    j->client->waiting--;
    return j;
}

static void end_waiting(struct service *s, struct job **at, enum job_finish why)
{
    struct job *j = service_unqueue(s, at);
    struct job_usage usage = { .prompt = j->o.n_ids, .queued = clock_seconds() - j->submitted };
    s->state.cancelled += why == JOB_CANCELLED;
    job_finish(j, why, &usage, NULL);
}

static void drop_dead(struct service *s, double now)
{
    bool closing = atomic_load(&s->closing);
    for (struct job **at = &s->waiting; *at;) {
        struct job *j = *at;
        if (closing || atomic_load(&j->cancel)) end_waiting(s, at, JOB_CANCELLED);
        else if (j->o.deadline > 0 && now + fair_reading(&s->state, j->o.n_ids - j->offers) >= j->o.deadline)
            end_waiting(s, at, JOB_DEADLINE);
        else at = &j->next;
    }
}

/* When something must be looked at though nobody says so; 0: never. */
static double next_time(const struct service *s)
{
    double when = 0;
    for (uint32_t i = 0; i < s->n_slots; i++)
        if (s->slots[i].job && !slot_runs(&s->slots[i])) when = clock_seconds() + 1;
    for (const struct job *j = s->waiting; j; j = j->next)
        if (j->o.deadline > 0 && (!(when > 0) || j->o.deadline < when)) when = j->o.deadline;
    return when;
}

/* Whether it is the last time. */
static bool wait_for_work(struct service *s)
{
    double when = next_time(s);
    bool idle = !requests_count(s->engine) && !s->ended;
    struct timespec t = { (time_t)when, (long)((when - (double)(time_t)when) * 1e9) };
    pthread_mutex_lock(&s->lock);
    while (idle && !s->poked)
        if (!(when > 0)) pthread_cond_wait(&s->work, &s->lock);
        else if (pthread_cond_timedwait(&s->work, &s->lock, &t) == ETIMEDOUT)
            break;
    s->poked = false;
    struct job *come = take_inbox(s);
    bool closing = atomic_load(&s->closing);   /* nothing is submitted behind it */
    pthread_mutex_unlock(&s->lock);
    for (; come; come = come->next) fair_arrive(s, come);
    return closing;
}

static void turn(struct service *s)
{
    struct error err = { .status = STRETTO_OK };
    size_t n = 0;
    if (!requests_count(s->engine)) return;
    s->state.steps++;
    s->state.busy += requests_count(s->engine);
    stretto_status st = engine_turn(s->engine, s->events, s->n_slots, &n, &err);
    for (size_t i = 0; i < n; i++) slot_event(s->events[i].ud, &s->events[i]);
    for (uint32_t i = 0; st != STRETTO_OK && i < s->n_slots; i++)
        if (s->slots[i].job) slot_end(&s->slots[i], JOB_FAILED, &err);
}

void service_show(struct service *s)
{
    struct service_state *x = &s->state;
    x->at = clock_seconds();
    struct engine_pages pages;
    engine_look(s->engine, &pages);
    x->slots = s->most;
    x->pages = pages.all;
    x->pages_used = pages.all - pages.free;
    x->pages_kept = pages.kept;
    x->yielded = pages.yielded;
    x->evicted = pages.counts.evicted;
    x->running = x->parked = 0;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        x->running += slot_runs(&s->slots[i]);
        x->parked += s->slots[i].job && !slot_runs(&s->slots[i]);
    }
    x->wait = fair_wait(s);
    pthread_mutex_lock(&s->lock);
    x->draining = s->draining;
    x->waiting = s->n_waiting;
    x->waiting_tokens = s->waiting_tokens;
    s->look = *x;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        const struct slot *from = &s->slots[i];
        struct service_slot *to = &s->look_slots[i];
        *to = (struct service_slot){ .busy = from->job != NULL, .parked = from->job && !slot_runs(from) };
        if (!from->job) continue;
        to->job = from->job->number;
        to->prompt = from->usage.prompt;
        to->read = from->read;
        to->written = from->usage.written;
        strncpy(to->client, from->job->o.client, sizeof to->client - 1);
    }
    pthread_mutex_unlock(&s->lock);
}

/* Pages of beginnings come from disk between steps, as many as others do not notice; one text's after the other's. */
static void fetch_pages(struct service *s, double now)
{
    double end = now + (requests_count(s->engine) ? FETCH_BESIDE : FETCH_ALONE);
    struct slot *first = NULL;
    for (struct slot *x = s->slots; x < s->slots + s->n_slots; x++)
        if (x->coming && (!first || x->began < first->began)) first = x;
    if (first) slot_fetch(first, end);
    s->ended |= first != NULL;         /* there is more to do */
}

static bool is_wanted(struct service *s)
{
    pthread_mutex_lock(&s->lock);
    bool wanted = s->poked;
    pthread_mutex_unlock(&s->lock);
    return wanted;
}

/* Pages go to files one at a time: beside steps, now and then, those that two texts took over; all of them while there
 * is nothing to do. */
static void keep_pages(struct service *s)
{
    if (!requests_count(s->engine) && !s->ended)
        while (!is_wanted(s) && engine_disk_save(s->engine, 0, 1)) continue;
    else if (s->state.steps % DISK_STEPS == 0)
        engine_disk_save(s->engine, 2, 1);
}

static void keep_rest(struct service *s)
{
    double end = clock_seconds() + DISK_SECONDS;
    while (clock_seconds() < end && engine_disk_save(s->engine, 0, 1)) continue;
    engine_disk_sync(s->engine);
}

static void *serve(void *ud)
{
    struct service *s = ud;
    for (bool last = false; !last;) {
        service_show(s);
        last = wait_for_work(s);
        double now = clock_seconds();
        s->told = s->ended = false;
        drop_dead(s, now);
        keep_serve(s);
        for (uint32_t i = 0; i < s->n_slots; i++)
            if (s->slots[i].job) slot_watch(&s->slots[i], now);
        fair_admit(s);
        fetch_pages(s, now);
        fair_rank(s);
        turn(s);
        if (s->told && s->o.wake) s->o.wake(s->o.ud);
        keep_pages(s);
    }
    keep_rest(s);
    return NULL;
}

void service_look(struct service *s, struct service_state *out, struct service_slot *slots, uint32_t cap)
{
    pthread_mutex_lock(&s->lock);
    *out = s->look;
    if (slots) memcpy(slots, s->look_slots, (cap < s->n_slots ? cap : s->n_slots) * sizeof *slots);
    pthread_mutex_unlock(&s->lock);
}
