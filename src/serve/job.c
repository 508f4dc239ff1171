/* A job: a copy of what was asked for, and its events on their way to who asked. */
#include "base/arena.h"
#include "base/clock.h"
#include "base/memory.h"
#include "serve/service_int.h"
#include <string.h>

/* ---- what was asked for ---------------------------------------------------------------------------- */

static const void *copy(struct arena *a, const void *from, size_t bytes)
{
    void *to = arena_take(a, bytes);
    if (a->base && bytes) memcpy(to, from, bytes);
    return to;
}

/* Places everything; base == NULL measures. */
static void place(struct job *j, const struct job_options *o, struct arena *a)
{
    j->o = *o;
    j->how = o->how;
    j->o.ids = copy(a, o->ids, o->n_ids * sizeof *o->ids);
    j->o.prediction = copy(a, o->prediction, o->n_prediction * sizeof *o->prediction);
    j->o.client = copy(a, o->client ? o->client : "", o->client ? strlen(o->client) + 1 : 1);
    j->o.adapters = o->adapters ? copy(a, o->adapters, o->n_adapters * sizeof *o->adapters) : NULL;
    j->o.path = o->path ? copy(a, o->path, strlen(o->path) + 1) : NULL;
    j->o.choice = o->choice ? copy(a, o->choice, sizeof *o->choice) : NULL;
    j->how.bias = copy(a, o->how.bias, o->how.n_bias * sizeof *o->how.bias);
    const char **stops = arena_take(a, (o->n_stops + 1) * sizeof *stops);
    for (uint32_t i = 0; i < o->n_stops; i++) {
        const char *stop = copy(a, o->stops[i], strlen(o->stops[i]) + 1);
        if (a->base) stops[i] = stop;
    }
    if (a->base) stops[o->n_stops] = NULL;
    j->stops = stops;
    j->o.stops = stops;
}

static stretto_status check(const struct job_options *o, struct error *err)
{
    size_t bytes = 0;
    if (o->kind == JOB_KEEP)
        return o->path || o->keep == KEEP_ERASE ? STRETTO_OK
                                                : fail(err, STRETTO_E_ARG, "there is no file to keep it in");
    if (!o->ids || !o->n_ids) return fail(err, STRETTO_E_ARG, "there are no tokens to read; give some text");
    if (o->max_tokens < -1)
        return fail(err, STRETTO_E_ARG, "%lld tokens cannot be written; give a number from 0, or -1 for no limit",
                    (long long)o->max_tokens);
    if (o->n_stops > JOB_STOPS)
        return fail(err, STRETTO_E_ARG, "%u stop strings; give %d at most", o->n_stops, JOB_STOPS);
    for (uint32_t i = 0; i < o->n_stops; i++) {
        if (!o->stops[i][0]) return fail(err, STRETTO_E_ARG, "a stop string is empty");
        bytes += strlen(o->stops[i]);
    }
    if (bytes > JOB_STOP_BYTES)
        return fail(err, STRETTO_E_ARG, "the stop strings have %zu bytes; give %d at most", bytes, JOB_STOP_BYTES);
    if (o->logprobs > JOB_LOGPROBS)
        return fail(err, STRETTO_E_ARG, "the log probabilities of %d tokens; give a number up to %d", o->logprobs,
                    JOB_LOGPROBS);
    return STRETTO_OK;
}

stretto_status job_make(struct job **out, const struct job_options *o, struct error *err)
{
    struct arena a = { 0 };
    struct job size;
    *out = NULL;
    TRY(check(o, err));
    arena_take(&a, sizeof size);
    place(&size, o, &a);
    a = (struct arena){ .base = mem_alloc(a.top + 64), .cap = a.top + 64 };
    if (!a.base) return fail(err, STRETTO_E_NOMEM, "no memory for another request");
    struct job *j = arena_take(&a, sizeof *j);
    memset(j, 0, sizeof *j);
    place(j, o, &a);
    j->submitted = clock_seconds();
    *out = j;
    return STRETTO_OK;
}

void job_free(struct job *j)
{
    embedding_close(&j->embedding);
    mem_free(j->vectors);
    mem_free(j->ring.data);
    mem_free(j->done.words);
    mem_free(j);
}

void *job_ud(const struct job *j) { return j->o.ud; }

/* ---- events ---------------------------------------------------------------------------------------- */

struct read_record { uint32_t read, cached, total; double queued, reading; };
/* Behind it ids [n], tokens [n] or none, text [n_text]. */
struct text_record { uint32_t n, n_text, first; bool tokens; };

static void *body(struct record *r) { return r + 1; }

bool job_tell_read(struct job *j, enum job_event_kind kind, uint32_t read, const struct job_usage *so_far)
{
    struct record *r = ring_take(&j->ring, sizeof(struct read_record), kind);
    if (!r) return false;
    *(struct read_record *)body(r) = (struct read_record){ read, so_far->cached, so_far->prompt, so_far->queued,
                                                           so_far->reading };
    ring_put(&j->ring, r);
    j->service->told = true;
    return true;
}

static bool tell(struct job *j, enum job_event_kind kind, struct text_record x, const char *text,
                 const struct job_token *tokens)
{
    size_t details = x.tokens ? x.n * sizeof *tokens : 0;
    struct record *r = ring_take(&j->ring, sizeof x + x.n * sizeof(int32_t) + details + x.n_text, kind);
    if (!r) return false;
    *(struct text_record *)body(r) = x;
    int32_t *ids = (int32_t *)((struct text_record *)body(r) + 1);
    for (uint32_t i = 0; i < x.n; i++) ids[i] = tokens[i].id;
    char *to = (char *)(ids + x.n);
    if (details) memcpy(to, tokens, details);
    if (x.n_text) memcpy(to + details, text, x.n_text);
    ring_put(&j->ring, r);
    j->service->told = true;
    return true;
}

bool job_tell_text(struct job *j, const char *text, size_t n_text, const struct job_token *tokens, uint32_t n)
{
    return tell(j, JOB_TEXT, (struct text_record){ n, (uint32_t)n_text, 0, j->o.logprobs >= 0 }, text, tokens);
}

bool job_tell_scores(struct job *j, uint32_t first, const struct job_token *tokens, uint32_t n)
{
    return tell(j, JOB_SCORED, (struct text_record){ n, 0, first, true }, NULL, tokens);
}

static void look_at(const struct record *r, struct job_event *e)
{
    const void *at = r + 1;
    *e = (struct job_event){ .kind = (enum job_event_kind)r->kind };
    if (r->kind != JOB_TEXT && r->kind != JOB_SCORED) {
        const struct read_record *x = at;
        e->read = x->read;
        e->cached = x->cached;
        e->total = x->total;
        e->queued = x->queued;
        e->reading = x->reading;
        return;
    }
    const struct text_record *x = at;
    e->ids = (const int32_t *)(x + 1);
    e->n_ids = x->n;
    e->first = x->first;
    e->tokens = x->tokens ? (const struct job_token *)(e->ids + x->n) : NULL;
    e->text = (const char *)(e->ids + x->n) + (x->tokens ? x->n * sizeof *e->tokens : 0);
    e->n_text = x->n_text;
}

bool job_read(struct job *j, struct job_event *e)
{
    if (j->held) ring_drop(&j->ring, j->held);
    j->held = NULL;
    if (atomic_load(&j->full) && ring_room(&j->ring) > RING_BYTES / 2 && atomic_exchange(&j->full, false))
        service_poke(j->service);
    bool finished = atomic_load_explicit(&j->finished, memory_order_acquire);
    j->held = ring_look(&j->ring);
    if (j->held) {
        look_at(j->held, e);
        return true;
    }
    if (!finished || j->told) return false;
    *e = (struct job_event){ .kind = JOB_DONE, .finish = j->done.finish, .stop = j->done.stop, .usage = j->done.usage,
                             .vector = j->done.vector, .n_vector = j->done.n_vector };
    if (j->done.words) e->error = *j->done.words;
    e->error.status = j->done.status;
    return j->told = true;
}

/* ---- its end --------------------------------------------------------------------------------------- */

void job_finish(struct job *j, enum job_finish why, const struct job_usage *usage, const struct error *failed)
{
    struct service *s = j->service;
    j->done.finish = why;
    if (usage) j->done.usage = *usage;
    if (failed && (j->done.words = mem_alloc(sizeof *failed))) *j->done.words = *failed;
    if (failed) j->done.status = failed->status;
    s->told = true;
    pthread_mutex_lock(&s->lock);
    atomic_store_explicit(&j->finished, true, memory_order_release);
    bool gone = j->closed;
    pthread_mutex_unlock(&s->lock);
    if (!gone) return;
    job_free(j);
    service_leave(s);
}

void job_cancel(struct job *j)
{
    if (!atomic_exchange(&j->cancel, true)) service_poke(j->service);
}

void job_close(struct job *j)
{
    if (!j) return;
    struct service *s = j->service;
    job_cancel(j);
    pthread_mutex_lock(&s->lock);
    j->closed = true;
    bool finished = atomic_load(&j->finished);
    pthread_mutex_unlock(&s->lock);
    if (!finished) return;
    job_free(j);
    service_leave(s);
}
