/* A model that was opened with "auto" runs on a card while that works. When it is lost in the middle of a call, or
 * has no memory for an engine, the model is opened a second time, on the cpu: a spare. The engine and all its
 * sessions get places there, their texts are known from the timelines and read again when somebody goes on,
 * each token in its role; then the call is tried once more. What stood on the card stays until it is closed,
 * because callers hold pointers into it. With any other device nothing of this happens. */
#include "api/handles.h"
#include "base/memory.h"
#include <stdio.h>
#include <string.h>

/* ---- the model ---- */

static void tell(const stretto_model *m, const char *why)
{
    char line[700];
    if (!m->moved) return;
    snprintf(line, sizeof line, "%s; the cpu goes on", why);
    m->moved(m->moved_user, line);
}

/* Under the lock. */
static stretto_status open_spare(stretto_model *m, const char *why, struct error *err)
{
    if (m->spare) return STRETTO_OK;
    struct error e = { .status = STRETTO_OK };
    struct model_open_options o = { .threads = m->threads, .reference = m->model->reference,
                                    .adapters = m->model->adapters, .n_adapters = m->model->n_adapters };
    stretto_status s = shared_device_take(NULL, m->level, &m->spare_device, &e);
    o.device = m->spare_device;
    if (s == STRETTO_OK) s = model_open(&m->spare, source_path(m->model->source), &o, &e);
    if (s == STRETTO_OK) {
        tell(m, why);
        return s;
    }
    shared_device_give(m->spare_device);
    m->spare_device = NULL;
    return fail(err, STRETTO_E_DEVICE, "%s; and the cpu cannot go on: %s", why, e.text);
}

static stretto_status spare(const stretto_model *m, const char *why, struct model **out,
                            struct error *err)
{
    stretto_model *x = (stretto_model *)(uintptr_t)m;    /* its own lock guards what changes */
    pthread_mutex_lock(&x->lock);
    stretto_status s = open_spare(x, why, err);
    *out = x->spare ? x->spare : x->model;
    pthread_mutex_unlock(&x->lock);
    return s;
}

stretto_status model_running(const stretto_model *m, struct model **out, struct error *err)
{
    struct error gone = { .status = STRETTO_OK };
    *out = m->model;
    if (!m->automatic) return STRETTO_OK;
    /* A card may be a part of what the model runs on, which has not seen yet that it is gone. */
    stretto_status s = device_check(m->model->device, &gone);
    for (size_t i = 0; i < m->n_taken && s == STRETTO_OK; i++) s = device_check(m->taken[i], &gone);
    if (s == STRETTO_OK) return s;
    return spare(m, gone.text, out, err);
}

/* ---- its engines ---- */

stretto_status engine_place(stretto_engine *e, struct error *err)
{
    struct error why = { .status = STRETTO_OK };
    struct model *m;
    TRY(model_running(e->model, &m, err));
    stretto_status s = engine_open(&e->engine, m, &e->options, &why);
    bool again = e->model->automatic && m == e->model->model
              && (s == STRETTO_E_NOMEM || s == STRETTO_E_DEVICE || s == STRETTO_E_UNSUP);
    if (s == STRETTO_OK || !again) return s == STRETTO_OK ? s : fail(err, s, "%s", why.text);
    TRY(spare(e->model, why.text, &m, err));
    return engine_open(&e->engine, m, &e->options, err);
}

/* A session's part in the other engine, before anything of the old one is given up. */
struct place { int32_t seq; struct writer *writer; struct drafter *drafter; struct heads *heads; };

/* The timeline; nothing of it is in the cache. What was written ahead of the caller is taken back by who goes on. */
static void copy_text(const stretto_session *s, struct engine *to, int32_t seq)
{
    const struct engine *from = s->engine->engine;
    uint32_t n = engine_known(from, s->seq);
    if (!n) return;
    engine_set(to, seq, engine_tokens(from, s->seq), n, 0);
    for (uint32_t i = 0; i < n; i++)
        if (!i || engine_given(from, s->seq, i) != engine_given(from, s->seq, i - 1))
            engine_role(to, seq, i, engine_given(from, s->seq, i));
}

static stretto_status place_take(stretto_session *s, struct engine *to, struct place *p,
                                 struct error *err)
{
    struct learned *l = &s->engine->learned;
    struct writer_options o = { .choice = s->decode, .most = s->how.max_guesses };
    TRY(engine_seq_open(to, &p->seq, err));
    TRY(engine_adapt(to, p->seq, engine_adapters(s->engine->engine, s->seq), err));
    copy_text(s, to, p->seq);
    /* What guesses is worth having, and no reason to stop. */
    if (session_companions(s, to, &s->how, &o.choice, &p->drafter, &p->heads) != STRETTO_OK)
        o.choice.strategies = 0;
    o.setup = (struct strategy_setup){ .window = s->how.window, .ngram = s->how.ngram,
                                       .guesses = s->how.guesses };
    if (o.choice.strategies) {
        o.setup.store = &l->store;
        o.setup.memory = &l->recycled;
        o.setup.drafter = drafter_companion(p->drafter);
        o.setup.heads = heads_companion(p->heads);
    } else o.most = 1;
    TRY(writer_open(&p->writer, to, p->seq, &s->sampler, &l->calibration, &o, err));
    writer_follow(p->writer, s->writer);
    return STRETTO_OK;
}

static void place_drop(struct place *p)
{
    writer_close(p->writer);
    drafter_close(p->drafter);
    heads_close(p->heads);
}

static void swap(stretto_session *s, struct place *p)
{
    struct place old = { s->seq, s->writer, s->drafter, s->heads };
    s->seq = p->seq;
    s->writer = p->writer;
    s->drafter = p->drafter;
    s->heads = p->heads;
    s->begun = false;
    *p = old;
}

static stretto_status engine_move(stretto_engine *e, struct model *to, struct error *err)
{
    size_t n = 0, i = 0;
    struct engine *there = NULL;
    const struct engine_info *a = engine_about(e->engine);
    struct engine_options o = e->options;
    for (stretto_session *s = e->sessions; s; s = s->next) n++;
    struct place *place = mem_zalloc(n ? n : 1, sizeof *place);
    o.context = a->context;            /* the texts must have room */
    o.pool_tokens = a->pool_tokens;
    stretto_status status = place ? engine_open(&there, to, &o, err)
                                  : fail(err, STRETTO_E_NOMEM, "out of memory");
    for (stretto_session *s = e->sessions; s && status == STRETTO_OK; s = s->next)
        status = place_take(s, there, &place[i++], err);
    i = 0;
    for (stretto_session *s = e->sessions; s && status == STRETTO_OK; s = s->next) swap(s, &place[i++]);
    for (i = 0; place && i < n; i++) place_drop(&place[i]);
    mem_free(place);
    if (status != STRETTO_OK) {
        engine_close(there);
        return status;
    }
    e->left = e->engine;
    e->engine = there;
    return STRETTO_OK;
}

bool session_moves(stretto_session *s, const struct engine *was, stretto_status status)
{
    stretto_engine *e = s->engine;
    struct error err = { .status = STRETTO_OK };
    struct model *to;
    if (status != STRETTO_E_DEVICE || !e->model->automatic) return false;
    if (e->engine != was) return true;           /* a session that was called from a callback did it */
    stretto_status moved = model_running(e->model, &to, &err);
    if (moved == STRETTO_OK && to == engine_model(was)) return false;
    if (moved == STRETTO_OK) moved = engine_move(e, to, &err);
    error_clear(&s->err);
    if (moved != STRETTO_OK) fail(&s->err, STRETTO_E_DEVICE, "%s", err.text);
    return moved == STRETTO_OK;
}
