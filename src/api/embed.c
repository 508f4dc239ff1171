/* Embeddings of a session: the options, the text that is cut where it must be, and a request that reads it
 * (engine/embedding.h). */
#include "api/handles.h"
#include "base/memory.h"
#include "engine/embedding.h"
#include <string.h>

struct embedding_call {
    stretto_session *s;
    struct engine *e;
    const int32_t *ids;
    size_t count;
    struct embedding x;
};

static stretto_status rule_of(struct embedding_call *c, const stretto_embed_options *o)
{
    static const int kinds[] = {
        [STRETTO_POOLING_MODEL] = -1, [STRETTO_POOLING_MEAN] = POOLING_MEAN, [STRETTO_POOLING_CLS] = POOLING_CLS,
        [STRETTO_POOLING_LAST] = POOLING_LAST, [STRETTO_POOLING_NONE] = POOLING_NONE };
    if (o->pooling >= sizeof kinds / sizeof *kinds)
        return fail(&c->s->err, STRETTO_E_ARG, "there is no pooling %u", o->pooling);
    return embedding_rule(engine_model(c->e), kinds[o->pooling], o->raw, &c->x.kind, &c->x.normalize, &c->s->err);
}

/* How many tokens the model closes a text with, as these ids show. */
static size_t closing_tokens(const struct embedding_call *c)
{
    const struct tokenizer *t = engine_model(c->e)->tokenizer;
    struct tokens border = { 0 };
    size_t n = 0;
    if (t && tokenizer_encode(t, "", 0, TOKENIZE_ADD, &border, NULL) == STRETTO_OK
        && border.n < c->count)
        for (n = border.n; n > 0; n--)
            if (memcmp(border.id + border.n - n, c->ids + c->count - n, n * sizeof *border.id) == 0
                && memcmp(border.id, c->ids, (border.n - n) * sizeof *border.id) == 0) break;
    tokens_done(&border);
    return n;
}

/* Keeps the beginning and the closing tokens; *cut is the caller's to free. */
static stretto_status cut(struct embedding_call *c, size_t most, int32_t **out)
{
    size_t end = closing_tokens(c);
    if (end >= most) end = 0;
    *out = mem_alloc(most * sizeof **out);
    if (!*out) return fail(&c->s->err, STRETTO_E_NOMEM, "out of memory");
    memcpy(*out, c->ids, (most - end) * sizeof **out);
    memcpy(*out + most - end, c->ids + c->count - end, end * sizeof **out);
    c->ids = *out;
    c->count = most;
    return STRETTO_OK;
}

static stretto_status take(void *ud, uint32_t at, const struct answer *a, struct error *err)
{
    (void)err;
    embedding_take(((stretto_session *)ud)->embedding, at, a);
    return STRETTO_OK;
}

/* A text is one step, or of a causal model several. */
static stretto_status read_text(struct embedding_call *c)
{
    struct request r = session_request(c->s);
    embedding_ask(&c->x, &r);
    r.answered = take;
    engine_set(c->e, c->s->seq, c->ids, (uint32_t)c->count, 0);
    c->s->embedding = &c->x;
    stretto_status s = request_run(c->e, &r, &c->s->err);
    c->s->embedding = NULL;
    return s;
}

static stretto_status compute(struct embedding_call *c)
{
    stretto_status s = embedding_open(&c->x, engine_model(c->e), engine_about(c->e), &c->s->err);
    engine_rewind(c->e, c->s->seq, 0);
    c->s->n_tokens = 0;
    c->s->answered = c->s->begun = false;
    if (s == STRETTO_OK) s = read_text(c);
    engine_rewind(c->e, c->s->seq, 0);
    if (s == STRETTO_OK) embedding_finish(&c->x);
    embedding_close(&c->x);
    return s;
}

static stretto_status embed(struct embedding_call *c, const stretto_embed_options *o, size_t capacity,
                            stretto_embedded *r, int32_t **owned)
{
    size_t most = embedding_longest(engine_model(c->e), engine_about(c->e)), given = c->count;
    struct embedding *x = &c->x;
    TRY(rule_of(c, o));
    if (c->count > most && o->truncate) TRY(cut(c, most, owned));
    if (c->count > most)
        return fail(&c->s->err, STRETTO_E_FULL,
                    "the text has %zu tokens and the context holds %zu; split it, or let it be cut "
                    "(--truncate)", given, most);
    x->count = c->count;
    x->width = engine_model(c->e)->config.width;
    r->vectors = x->kind == POOLING_NONE ? c->count : 1;
    r->tokens = c->count;
    r->scaled = x->normalize;
    r->pooling = x->kind == POOLING_NONE ? STRETTO_POOLING_NONE
               : x->kind == POOLING_CLS  ? STRETTO_POOLING_CLS
               : x->kind == POOLING_LAST ? STRETTO_POOLING_LAST : STRETTO_POOLING_MEAN;
    if (capacity / x->width < r->vectors)
        return fail(&c->s->err, STRETTO_E_FULL, "%zu vectors of %zu numbers do not fit %zu", r->vectors,
                    x->width, capacity);
    return compute(c);
}

stretto_status stretto_session_embedding(stretto_session *s, const int32_t *ids, size_t count,
                                         const stretto_embed_options *opt, float *out,
                                         size_t capacity, stretto_embedded *result)
{
    if (!s || !ids || !count || (!out && capacity)) return STRETTO_E_ARG;
    stretto_embed_options o = STRETTO_EMBED_OPTIONS_INIT;
    struct embedding_call c = { .s = s, .e = s->engine->engine, .ids = ids, .count = count, .x.out = out };
    const struct embedding_call begin = c;
    stretto_embedded r = { .size = sizeof r };
    int32_t *owned = NULL;
    TRY(session_enter(s));
    stretto_status status = options_take(&o, sizeof o, opt, &s->err);
    if (status == STRETTO_OK) status = embed(&c, &o, capacity, &r, &owned);
    if (session_moves(s, c.e, status)) {
        c = begin;
        c.e = s->engine->engine;
        mem_free(owned);
        owned = NULL;
        status = embed(&c, &o, capacity, &r, &owned);
    }
    session_leave(s);
    mem_free(owned);
    if (result && result->size >= sizeof(size_t)) {
        r.size = result->size;
        memcpy(result, &r, r.size < sizeof r ? r.size : sizeof r);
    }
    return status;
}

stretto_status stretto_session_embed(stretto_session *s, const int32_t *ids, size_t count,
                                     float *out)
{
    if (!s || !out) return STRETTO_E_ARG;
    return stretto_session_embedding(s, ids, count, NULL, out,
                                     engine_model(s->engine->engine)->config.width, NULL);
}
