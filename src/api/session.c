/* The public functions on engines and sessions. */
#include "api/handles.h"
#include "base/clock.h"
#include "base/memory.h"
#include "stretto/experimental.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

static stretto_status engine_options_of(const stretto_engine_options *opt, const struct model *m,
                                        struct engine_options *out, struct error *err)
{
    stretto_engine_options o = STRETTO_ENGINE_OPTIONS_INIT;
    TRY(options_take(&o, sizeof o, opt, err));
    *out = (struct engine_options){.threads = o.threads,
                                   .context = o.context,
                                   .sequences = o.sessions,
                                   .max_rows = o.max_rows,
                                   .pool_tokens = o.pool_tokens,
                                   .strict = o.strict != 0 || m->reference,
                                   .cache = m->reference ? CACHE_F32 : CACHE_F16};
    if (o.cache && !cache_type_by_name(o.cache, &out->cache))
        return fail(err, STRETTO_E_ARG, "cache type '%s' is none of f16, bf16, f32, q8_0, q8_0+q4_0", o.cache);
    return STRETTO_OK;
}

_Static_assert((int)STRETTO_CACHE_GROUPS == (int)GRAPH_GROUPS, "every layer group has a place");

static void about(const struct model *m, const struct engine_info *i, stretto_engine_info *out)
{
    static const char *const kinds[] = { [GROUP_FULL] = "full", [GROUP_WINDOW] = "window" };
    stretto_engine_info x = {.size = out->size,
                             .context = i->context,
                             .trained_context = i->trained_context,
                             .sessions = i->sequences,
                             .max_rows = i->max_rows,
                             .threads = i->threads,
                             .context_cut = i->context_cut,
                             .weight_bytes = i->weights,
                             .buffer_bytes = i->buffers,
                             .cache_bytes = i->pages,
                             .pool_tokens = i->pool_tokens,
                             .n_groups = m->graph.n_groups};
    for (uint32_t k = 0; k < x.n_groups; k++) {
        const struct layer_group *g = &m->graph.group[k];
        x.groups[k] = (stretto_cache_group){ kinds[g->kind], g->layers, g->window,
                                             i->group[k].page / PAGE_SLOTS, i->group[k].pages };
    }
    memcpy(out, &x, out->size < sizeof x ? out->size : sizeof x);
}

stretto_status stretto_engine_estimate(const stretto_model *m, const stretto_engine_options *opt,
                                       stretto_engine_info *info, char *err, size_t err_size)
{
    if (!m || !info) return STRETTO_E_ARG;
    struct error e = { 0 };
    struct engine_options o;
    struct engine_info i;
    struct model *on;
    stretto_status s = engine_options_of(opt, m->model, &o, &e);
    if (s == STRETTO_OK) s = model_running(m, &on, &e);
    if (s == STRETTO_OK) s = engine_plan(on, &o, &i, &e);
    if (s == STRETTO_OK) about(m->model, &i, info);
    return report(s, &e, err, err_size);
}

stretto_status stretto_engine_open(stretto_engine **out, const stretto_model *m,
                                   const stretto_engine_options *opt, char *err, size_t err_size)
{
    if (!out || !m) return STRETTO_E_ARG;
    *out = NULL;
    struct error e = { 0 };
    struct engine_options o;
    stretto_engine *x = mem_zalloc(1, sizeof *x);
    stretto_status s =
        x ? engine_options_of(opt, m->model, &o, &e) : fail(&e, STRETTO_E_NOMEM, "out of memory");
    if (s == STRETTO_OK) {
        x->model = m;
        x->options = o;
        s = engine_place(x, &e);
    }
    if (s == STRETTO_OK) learned_init(&x->learned);
    if (s != STRETTO_OK) stretto_engine_close(x);
    else *out = x;
    return report(s, &e, err, err_size);
}

struct engine *stretto_engine_inside(stretto_engine *e) { return e->engine; }

void stretto_engine_close(stretto_engine *e)
{
    if (!e) return;
    engine_close(e->engine);
    engine_close(e->left);
    learned_close(&e->learned);
    mem_free(e);
}

stretto_status stretto_engine_about(const stretto_engine *e, stretto_engine_info *info)
{
    if (!e || !info) return STRETTO_E_ARG;
    about(engine_model(e->engine), engine_about(e->engine), info);
    return STRETTO_OK;
}

stretto_status engine_enter(stretto_engine *e, struct error *err)
{
    static _Thread_local char here;
    const void *nobody = NULL;
    if (!atomic_compare_exchange_strong(&e->thread, &nobody, &here) && nobody != &here)
        return fail(err, STRETTO_E_ARG, "another thread is using the engine; one thread at a time uses "
                    "an engine and its sessions");
    e->calls++;
    return STRETTO_OK;
}

void engine_leave(stretto_engine *e)
{
    if (--e->calls == 0) atomic_store(&e->thread, NULL);
}

/* The words of a session in the middle of a call are those of that call's thread: another one that comes
 * gets the status alone. */
stretto_status session_enter(stretto_session *s)
{
    struct error refused = { .status = STRETTO_OK };
    stretto_status status = engine_enter(s->engine, &refused);
    if (status != STRETTO_OK) {
        if (!atomic_load(&s->busy)) s->err = refused;
        return status;
    }
    error_clear(&s->err);
    if (atomic_load(&s->busy)) {
        engine_leave(s->engine);
        return fail(&s->err, STRETTO_E_ARG, "the session is in the middle of a call; its callbacks may not "
                    "call it");
    }
    atomic_store(&s->busy, true);
    return STRETTO_OK;
}

void session_leave(stretto_session *s)
{
    atomic_store(&s->busy, false);
    engine_leave(s->engine);
}

/* ---- sessions
 * --------------------------------------------------------------------------------------- */

enum { PIECE_MAX = 1 << 16 };

static void take_all(stretto_session *s, struct arena *a)
{
    const struct model *m = engine_model(s->engine->engine);
    s->logits = arena_take(a, m->config.vocab * sizeof *s->logits);
    sampler_plan(&s->sampler, a, m->config.vocab);
}

static stretto_status open_into(stretto_session *s, struct error *err)
{
    stretto_engine *e = s->engine;
    TRY(engine_seq_open(e->engine, &s->seq, err));
    struct arena a = { 0 };
    take_all(s, &a);
    s->arena = (struct arena){ .base = mem_map(a.top), .cap = a.top };
    if (!s->arena.base) return fail(err, STRETTO_E_NOMEM, "no memory for a session");
    take_all(s, &s->arena);
    s->out = buffer_make(PIECE_MAX);
    TRY(buffer_reserve(&s->out, 8192));
    TRY(text_stream_open(&s->text, engine_model(e->engine)->tokenizer));
    struct sampling greedy = { .top_p = 1, .repeat_penalty = 1, .repeat_last_n = 64 };
    TRY(sampler_set(&s->sampler, &greedy, err));
    struct writer_options plain = { .most = 1 };
    return writer_open(&s->writer, e->engine, s->seq, &s->sampler, &e->learned.calibration,
                       &plain, err);
}

stretto_status stretto_session_open(stretto_session **out, stretto_engine *engine, char *err,
                                    size_t err_size)
{
    if (!out || !engine) return STRETTO_E_ARG;
    *out = NULL;
    struct error e = { 0 };
    stretto_session *s = mem_zalloc(1, sizeof *s);
    if (!s) return report(fail(&e, STRETTO_E_NOMEM, "out of memory"), &e, err, err_size);
    s->engine = engine;
    s->seq = -1;
    stretto_status status = engine_enter(engine, &e);
    if (status == STRETTO_OK) {
        status = open_into(s, &e);
        if (status == STRETTO_OK) {
            s->next = engine->sessions;
            engine->sessions = s;
        }
        engine_leave(engine);
    }
    if (status != STRETTO_OK) stretto_session_close(s);
    else *out = s;
    return report(status, &e, err, err_size);
}

stretto_status stretto_session_open_model(stretto_session **out, const stretto_model *m,
                                          const stretto_engine_options *opt, char *err,
                                          size_t err_size)
{
    if (!out) return STRETTO_E_ARG;
    *out = NULL;
    stretto_engine *e;
    TRY(stretto_engine_open(&e, m, opt, err, err_size));
    stretto_status s = stretto_session_open(out, e, err, err_size);
    if (s != STRETTO_OK) stretto_engine_close(e);
    else (*out)->private_engine = true;
    return s;
}

void stretto_session_close(stretto_session *s)
{
    if (!s) return;
    struct error ignored = { .status = STRETTO_OK };
    const struct timespec soon = { 0, 1000000 };
    while (engine_enter(s->engine, &ignored) != STRETTO_OK) nanosleep(&soon, NULL);
    for (stretto_session **at = &s->engine->sessions; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            break;
        }
    writer_close(s->writer);
    drafter_close(s->drafter);
    heads_close(s->heads);
    mem_free((void *)(uintptr_t)s->how.heads);
    if (s->seq >= 0) engine_seq_close(s->engine->engine, s->seq);
    engine_leave(s->engine);
    mem_unmap(s->arena.base, s->arena.cap);
    mem_free(s->bias);
    buffer_done(&s->out);
    text_stream_close(&s->text);
    if (s->private_engine) stretto_engine_close(s->engine);
    mem_free(s);
}

static stretto_status set_sampling(stretto_session *s, const stretto_sampling *how)
{
    stretto_sampling h = STRETTO_SAMPLING_INIT;
    TRY(options_take(&h, sizeof h, how, &s->err));
    if (h.n_bias && (!h.bias_ids || !h.bias_values))
        return fail(&s->err, STRETTO_E_ARG, "logit biases need ids and values");
    struct logit_bias *bias = NULL;
    if (h.n_bias) {
        bias = mem_zalloc(h.n_bias, sizeof *bias);
        if (!bias) return fail(&s->err, STRETTO_E_NOMEM, "out of memory");
        for (size_t i = 0; i < h.n_bias; i++)
            bias[i] = (struct logit_bias){h.bias_ids[i], h.bias_values[i]};
    }
    struct sampling x = {.temperature = h.temperature,
                         .top_k = h.top_k,
                         .top_p = h.top_p,
                         .min_p = h.min_p,
                         .repeat_penalty = h.repeat_penalty,
                         .presence_penalty = h.presence_penalty,
                         .frequency_penalty = h.frequency_penalty,
                         .repeat_last_n = h.repeat_last_n,
                         .seed = h.seed,
                         .bias = bias,
                         .n_bias = h.n_bias};
    stretto_status status = sampler_set(&s->sampler, &x, &s->err);
    if (status != STRETTO_OK) {
        mem_free(bias);
        return status;
    }
    mem_free(s->bias);
    s->bias = bias;
    /* What was answered may have been the other kind, what was written ahead is no longer wanted. */
    s->answered = s->begun = false;
    return STRETTO_OK;
}

stretto_status stretto_session_sampling(stretto_session *s, const stretto_sampling *how)
{
    if (!s) return STRETTO_E_ARG;
    TRY(session_enter(s));
    stretto_status status = set_sampling(s, how);
    session_leave(s);
    return status;
}

stretto_status stretto_session_adapt(stretto_session *s, const float *weights, size_t count)
{
    if (!s) return STRETTO_E_ARG;
    TRY(session_enter(s));
    size_t has = engine_model(s->engine->engine)->n_adapters;
    stretto_status status = !weights || count == has ? engine_adapt(s->engine->engine, s->seq, weights, &s->err)
                          : fail(&s->err, STRETTO_E_ARG, "%zu weights for the model's %zu adapters", count, has);
    if (status == STRETTO_OK) s->answered = s->begun = false;
    session_leave(s);
    return status;
}

/* What an engine learns from its texts gets its memory when a session first wants it. */
static stretto_status learned_of(stretto_engine *e, struct error *err)
{
    return learned_place(&e->learned, engine_model(e->engine)->config.vocab, err);
}

/* Opens what the decoding strategies need, or takes what the session has of it in that engine: there is one
 * place for each session. `auto` takes part with what it is given. */
stretto_status session_companions(stretto_session *s, struct engine *e, const stretto_decoding *how,
                                  struct decode_choice *choice, struct drafter **drafter,
                                  struct heads **heads)
{
    unsigned draft, head;
    struct model *guesser;
    bool here = e == s->engine->engine;
    strategy_find("draft", 5, &draft);
    strategy_find("heads", 5, &head);
    if (choice->automatic && how->draft) choice->strategies |= 1u << draft;
    if (choice->automatic && how->heads) choice->strategies |= 1u << head;
    if (choice->automatic && model_gated(engine_model(e))) choice->strategies |= strategy_bit("gated");
    if (how->draft && (choice->strategies >> draft & 1)) {
        if (!how->draft->model->weights)
            return fail(&s->err, STRETTO_E_ARG,
                        "the draft model was opened for its vocabulary only");
        TRY(model_running(how->draft, &guesser, &s->err));
        if (here && drafter_is_of(s->drafter, guesser)) *drafter = s->drafter;
        else TRY(drafter_open(drafter, e, guesser, &s->sampler, &s->err));
    }
    if (!how->heads || !(choice->strategies >> head & 1)) return STRETTO_OK;
    if (here && heads_are_of(s->heads, how->heads)) *heads = s->heads;
    else TRY(heads_open(heads, e, how->heads, &s->err));
    return STRETTO_OK;
}

static stretto_status set_decoding(stretto_session *s, const stretto_decoding *how)
{
    stretto_decoding h = STRETTO_DECODING_INIT;
    TRY(options_take(&h, sizeof h, how, &s->err));
    struct writer_options o = { .most = h.max_guesses,
                                .setup = { .window = h.window, .ngram = h.ngram,
                                           .guesses = h.guesses } };
    TRY(decode_parse(h.words ? h.words : "auto", &o.choice, &s->err));
    stretto_engine *e = s->engine;
    struct writer *w = NULL;
    struct drafter *drafter = NULL;
    struct heads *heads = NULL;
    TRY(learned_of(e, &s->err));
    char *file = h.heads ? mem_strdup(h.heads) : NULL;
    if (h.heads && !file) return fail(&s->err, STRETTO_E_NOMEM, "out of memory");
    o.setup.store = &e->learned.store;
    o.setup.memory = &e->learned.recycled;
    stretto_status status = session_companions(s, e->engine, &h, &o.choice, &drafter, &heads);
    o.setup.drafter = drafter_companion(drafter);
    o.setup.heads = heads_companion(heads);
    if (status == STRETTO_OK)
        status = writer_open(&w, e->engine, s->seq, &s->sampler, &e->learned.calibration, &o,
                             &s->err);
    if (status != STRETTO_OK) {
        if (drafter != s->drafter) drafter_close(drafter);
        if (heads != s->heads) heads_close(heads);
        mem_free(file);
        return status;
    }
    writer_close(s->writer);
    if (drafter != s->drafter) drafter_close(s->drafter);
    if (heads != s->heads) heads_close(s->heads);
    else if (heads) o.setup.heads->hidden = NULL;      /* it was the other writer's */
    s->writer = w;
    s->drafter = drafter;
    s->heads = heads;
    s->decode = o.choice;
    mem_free((void *)(uintptr_t)s->how.heads);
    s->how = h;
    s->how.words = NULL;               /* the caller's; the choice says it */
    s->how.heads = file;
    s->begun = false;
    return STRETTO_OK;
}

stretto_status stretto_session_decoding(stretto_session *s, const stretto_decoding *how)
{
    if (!s) return STRETTO_E_ARG;
    TRY(session_enter(s));
    const struct engine *was = s->engine->engine;
    stretto_status status = set_decoding(s, how);
    if (session_moves(s, was, status)) status = set_decoding(s, how);
    session_leave(s);
    return status;
}

stretto_status stretto_session_decoded(const stretto_session *s, stretto_decoded *out)
{
    if (!s || !out) return STRETTO_E_ARG;
    const struct decode_counts *c = writer_counts(s->writer);
    stretto_decoded x = { .size = out->size, .steps = c->steps, .tokens = c->tokens,
                          .guesses = c->rows, .accepted = c->accepted,
                          .guess_seconds = c->guess_seconds };
    for (unsigned i = 0; strategies[i]; i++)
        if (s->decode.strategies >> i & 1)
            x.strategies[x.n_strategies++] = (stretto_decode_strategy){
                strategies[i]->name, c->proposed[i], c->sent[i], c->right[i] };
    const struct step_costs *costs = engine_costs(s->engine->engine);
    for (uint32_t n = 1; n < sizeof x.cost / sizeof *x.cost; n++)
        if (costs->seen[n]) x.cost[n] = (float)costs_ratio(costs, n);
    if (costs->seen[1]) x.step_seconds = costs->base;
    memcpy(out, &x, out->size < sizeof x ? out->size : sizeof x);
    return STRETTO_OK;
}

struct learned *stretto_engine_learned(stretto_engine *e)
{
    return learned_of(e, NULL) == STRETTO_OK ? &e->learned : NULL;
}


static uint64_t vocabulary_of(const stretto_engine *e)
{
    const struct model *m = engine_model(e->engine);
    return learned_vocabulary(m->tokenizer, m->config.vocab);
}

stretto_status stretto_engine_learned_load(stretto_engine *e, const char *path, char *err,
                                           size_t err_size)
{
    if (!e || !path) return STRETTO_E_ARG;
    struct error x = { 0 };
    stretto_status s = engine_enter(e, &x);
    if (s != STRETTO_OK) return report(s, &x, err, err_size);
    s = learned_of(e, &x);
    if (s == STRETTO_OK) s = learned_load(&e->learned, vocabulary_of(e), path, &x);
    engine_leave(e);
    return report(s, &x, err, err_size);
}

stretto_status stretto_engine_learned_save(stretto_engine *e, const char *path, char *err,
                                           size_t err_size)
{
    if (!e || !path) return STRETTO_E_ARG;
    struct error x = { 0 };
    stretto_status s = engine_enter(e, &x);
    if (s != STRETTO_OK) return report(s, &x, err, err_size);
    s = learned_of(e, &x);
    if (s == STRETTO_OK) s = learned_save(&e->learned, vocabulary_of(e), path, &x);
    engine_leave(e);
    return report(s, &x, err, err_size);
}

struct writer *stretto_session_inside(stretto_session *s) { return s->writer; }

static bool is_encoder(const stretto_session *s)
{
    return engine_model(s->engine->engine)->graph.logits == GRAPH_NONE;
}

stretto_status stretto_session_watch(stretto_session *s,
                                     int (*read)(void *user, size_t done, size_t total), void *user)
{
    if (!s) return STRETTO_E_ARG;
    s->read = read;
    s->read_user = user;
    return STRETTO_OK;
}

stretto_status stretto_session_cancel(stretto_session *s, const volatile int *flag)
{
    if (!s) return STRETTO_E_ARG;
    s->cancel = flag;
    return STRETTO_OK;
}

static bool cancelled(void *ud)
{
    const stretto_session *s = ud;
    return (s->cancel && *s->cancel) || (s->cancel_here && *s->cancel_here);
}

struct request session_request(stretto_session *s)
{
    return (struct request){ .seq = s->seq, .ud = s,
                             .cancel = s->cancel || s->cancel_here ? cancelled : NULL };
}

static stretto_status stopped(stretto_session *s, size_t at, size_t n)
{
    error_clear(&s->err);
    return fail(&s->err, STRETTO_E_CANCEL, "stopped after reading %zu of the prompt's %zu tokens", at, n);
}

/* A turn at a time, so that the watcher is called and may end it. The last token's answer is kept. */
static stretto_status prefill(stretto_session *s, uint32_t n)
{
    struct engine *e = s->engine->engine;
    struct answer place = { .logits = s->logits };
    struct request r = session_request(s);
    r.wants = sampler_is_greedy(&s->sampler) ? WANT_BEST : WANT_LOGITS;
    r.first = engine_known(e, s->seq) - 1;
    r.room = 1;
    r.places = &place;
    uint32_t id, at = 0;
    for (struct event x = { .done = false }; !x.done;) {
        size_t events;
        if (s->engine->engine != e)            /* the watcher used another session, which moved it */
            return fail(&s->err, STRETTO_E_DEVICE, "the device is lost");
        TRY(request_add(e, &r, &id, &s->err));
        stretto_status status = engine_turn(e, &x, 1, &events, &s->err);
        request_cancel(e, id);                 /* the watcher may use other sessions of the engine */
        TRY(status);
        if (!events) continue;
        at = at + x.read < n ? at + x.read : n;
        if (x.error.status == STRETTO_E_CANCEL) return stopped(s, at, n);
        if (x.error.status != STRETTO_OK) return fail(&s->err, x.error.status, "%s", x.error.text);
        bool enough = s->read && x.read && s->read(s->read_user, at, n);
        error_clear(&s->err);                  /* what it was refused is not this call's error */
        if (enough && !x.done) return stopped(s, at, n);
    }
    s->best = place.best;
    return STRETTO_OK;
}

static stretto_status sync_text(stretto_session *s, const int32_t *ids, size_t count, size_t *reused)
{
    uint32_t context = engine_about(s->engine->engine)->context;
    if (is_encoder(s))
        return fail(&s->err, STRETTO_E_UNSUP,
                    "this model is an encoder: it makes embeddings and writes no text");
    if (count == 0) return fail(&s->err, STRETTO_E_ARG, "the prompt has no tokens; give some text");
    if (count > context)
        return fail(&s->err, STRETTO_E_FULL,
                    "the prompt has %zu tokens and the context holds %u; shorten it or ask "
                    "for a larger context with -c",
                    count, context);
    struct engine *e = s->engine->engine;
    uint32_t n = (uint32_t)count, keep = engine_set(e, s->seq, ids, n, n - 1);
    s->answered = s->begun = false;
    stretto_status status = prefill(s, n - keep);
    e = s->engine->engine;
    if (status != STRETTO_OK) {
        engine_rewind(e, s->seq, engine_length(e, s->seq));
        s->n_tokens = engine_known(e, s->seq);
        return status;
    }
    s->n_tokens = n;
    s->answered = true;
    if (reused) *reused = keep;
    return STRETTO_OK;
}

stretto_status stretto_session_sync(stretto_session *s, const int32_t *ids, size_t count,
                                    size_t *reused)
{
    if (!s || (!ids && count)) return STRETTO_E_ARG;
    if (reused) *reused = 0;
    TRY(session_enter(s));
    const struct engine *was = s->engine->engine;
    stretto_status status = sync_text(s, ids, count, reused);
    if (session_moves(s, was, status)) status = sync_text(s, ids, count, reused);
    session_leave(s);
    return status;
}

/* The writer goes on behind what the caller knows. After a change of sampling the last token is asked
 * again. */
static stretto_status begin(stretto_session *s)
{
    struct engine *e = s->engine->engine;
    if (s->begun) return STRETTO_OK;
    if (s->n_tokens == 0)
        return fail(&s->err, STRETTO_E_ARG, "the session is empty; give it a prompt first");
    engine_rewind(e, s->seq, s->n_tokens);
    engine_forget(e, s->seq, s->n_tokens - 1);
    writer_begin(s->writer);
    s->begun = true;
    return STRETTO_OK;
}

/* Turns until there is a token that the caller does not know. */
static stretto_status write_some(stretto_session *s)
{
    struct engine *e = s->engine->engine;
    struct request r = session_request(s);
    r.writer = s->writer;
    uint32_t id;
    TRY(request_add(e, &r, &id, &s->err));
    struct event x = { .done = false };
    while (!x.done && !x.wrote) {
        size_t events;
        stretto_status status = engine_turn(e, &x, 1, &events, &s->err);
        if (status != STRETTO_OK) fail(&x.error, status, "%s", s->err.text);
        if (status != STRETTO_OK) break;
    }
    request_cancel(e, id);
    if (x.error.status == STRETTO_E_CANCEL) s->begun = false;   /* its guesses had no answer */
    return x.error.status == STRETTO_OK ? STRETTO_OK
                                        : fail(&s->err, x.error.status, "%s", x.error.text);
}

static stretto_status next_token(stretto_session *s, int32_t *id)
{
    struct engine *e = s->engine->engine;
    uint32_t context = engine_about(e)->context;
    if (s->n_tokens >= context)
        return fail(&s->err, STRETTO_E_FULL, "the context of %u tokens is full", context);
    if (s->answered) {                   /* the prompt's last row */
        if (sampler_is_greedy(&s->sampler)) *id = s->best;
        else TRY(sampler_pick(&s->sampler, s->logits, engine_tokens(e, s->seq), s->n_tokens, id, &s->err));
        engine_push(e, s->seq, *id);
        s->n_tokens++;
        s->answered = false;
        return begin(s);
    }
    TRY(begin(s));
    if (!writer_next(s->writer, id)) {
        TRY(write_some(s));
        writer_next(s->writer, id);
    }
    s->n_tokens++;
    return STRETTO_OK;
}

stretto_status session_next(stretto_session *s, int32_t *id)
{
    const struct engine *was = s->engine->engine;
    stretto_status status = next_token(s, id);
    return session_moves(s, was, status) ? next_token(s, id) : status;
}

stretto_status stretto_session_next(stretto_session *s, int32_t *id)
{
    if (!s || !id) return STRETTO_E_ARG;
    *id = -1;
    TRY(session_enter(s));
    stretto_status status = session_next(s, id);
    session_leave(s);
    return status;
}

size_t stretto_session_length(const stretto_session *s) { return s ? s->n_tokens : 0; }
const int32_t *stretto_session_tokens(const stretto_session *s)
{
    return s ? engine_tokens(s->engine->engine, s->seq) : NULL;
}
const char *stretto_session_error(const stretto_session *s)
{
    return s && s->err.status ? s->err.text : "";
}
