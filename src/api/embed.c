/* Embeddings: rows that ask for hidden states, and what is made of them. Reimers, Gurevych 2019
 * (arXiv 1908.10084) compare the ways; the model's file says which it was trained with. */
#include "api/handles.h"
#include "base/memory.h"
#include "format/pooling.h"
#include <math.h>
#include <string.h>

struct embedding {
    stretto_session *s;
    struct engine *e;
    const int32_t *ids;
    size_t count, width;
    enum pooling kind;
    bool normalize;
    struct answer *places;           /* [rows] what the rows of a step answer */
    float *hidden;                   /* [rows][width] */
    double *sum;                     /* [width] */
    float *out;
};

static stretto_status rule_of(struct embedding *x, const stretto_embed_options *o)
{
    static const enum pooling kinds[] = {
        [STRETTO_POOLING_MEAN] = POOLING_MEAN, [STRETTO_POOLING_CLS] = POOLING_CLS,
        [STRETTO_POOLING_LAST] = POOLING_LAST, [STRETTO_POOLING_NONE] = POOLING_NONE };
    struct pooling_rule rule;
    source_pooling(engine_model(x->e)->source, &rule);
    if (o->pooling >= sizeof kinds / sizeof *kinds)
        return fail(&x->s->err, STRETTO_E_ARG, "there is no pooling %u", o->pooling);
    if (!o->pooling && rule.refusal[0])
        return fail(&x->s->err, STRETTO_E_UNSUP,
                    "%s, which is not supported; name a pooling (--pooling mean) to get vectors without it",
                    rule.refusal);
    x->kind = o->pooling ? kinds[o->pooling] : rule.kind;
    x->normalize = rule.normalize && !o->raw && x->kind != POOLING_NONE;
    return STRETTO_OK;
}

/* How many tokens the model closes a text with, as these ids show. */
static size_t closing_tokens(const struct embedding *x)
{
    const struct tokenizer *t = engine_model(x->e)->tokenizer;
    struct tokens border = { 0 };
    size_t n = 0;
    if (t && tokenizer_encode(t, "", 0, TOKENIZE_ADD, &border, NULL) == STRETTO_OK
        && border.n < x->count)
        for (n = border.n; n > 0; n--)
            if (memcmp(border.id + border.n - n, x->ids + x->count - n, n * sizeof *border.id) == 0
                && memcmp(border.id, x->ids, (border.n - n) * sizeof *border.id) == 0) break;
    tokens_done(&border);
    return n;
}

/* Keeps the beginning and the closing tokens; *cut is the caller's to free. */
static stretto_status cut(struct embedding *x, size_t most, int32_t **out)
{
    size_t end = closing_tokens(x);
    if (end >= most) end = 0;
    *out = mem_alloc(most * sizeof **out);
    if (!*out) return fail(&x->s->err, STRETTO_E_NOMEM, "out of memory");
    memcpy(*out, x->ids, (most - end) * sizeof **out);
    memcpy(*out + most - end, x->ids + x->count - end, end * sizeof **out);
    x->ids = *out;
    x->count = most;
    return STRETTO_OK;
}

/* One token's state, into sums or into the result. */
static stretto_status take(void *ud, uint32_t at, const struct answer *a, struct error *err)
{
    struct embedding *x = ((stretto_session *)ud)->embedding;
    (void)err;
    if (x->kind == POOLING_NONE)
        memcpy(x->out + at * x->width, a->hidden, x->width * sizeof *x->out);
    else
        for (size_t d = 0; d < x->width; d++) x->sum[d] += (double)a->hidden[d];
    return STRETTO_OK;
}

/* A text is one step, or of a causal model several. */
static stretto_status read_text(struct embedding *x, size_t rows)
{
    struct request r = session_request(x->s);
    uint32_t n = (uint32_t)x->count;
    r.wants = WANT_HIDDEN;
    r.first = x->kind == POOLING_LAST ? n - 1 : 0;
    r.end = x->kind == POOLING_CLS ? 1 : n;
    r.room = (uint32_t)rows;
    r.places = x->places;
    r.answered = take;
    for (size_t i = 0; i < rows; i++) x->places[i].hidden = x->hidden + i * x->width;
    engine_set(x->e, x->s->seq, x->ids, n, 0);
    x->s->embedding = x;
    stretto_status s = request_run(x->e, &r, &x->s->err);
    x->s->embedding = NULL;
    return s;
}

static void finish(struct embedding *x)
{
    double norm = 0, n = x->kind == POOLING_MEAN ? (double)x->count : 1;
    if (x->kind == POOLING_NONE) return;
    for (size_t d = 0; d < x->width; d++) {
        x->out[d] = (float)(x->sum[d] / n);
        norm += (double)x->out[d] * (double)x->out[d];
    }
    for (size_t d = 0; x->normalize && d < x->width && norm > 0; d++)
        x->out[d] = (float)((double)x->out[d] / sqrt(norm));
}

static stretto_status compute(struct embedding *x)
{
    size_t rows = engine_about(x->e)->max_rows, n = x->count < rows ? x->count : rows;
    x->places = mem_zalloc(n, sizeof *x->places);
    x->hidden = mem_alloc(n * x->width * sizeof *x->hidden);
    x->sum = mem_zalloc(x->width, sizeof *x->sum);
    stretto_status s = x->places && x->hidden && x->sum
                           ? STRETTO_OK : fail(&x->s->err, STRETTO_E_NOMEM, "out of memory");
    engine_rewind(x->e, x->s->seq, 0);
    x->s->n_tokens = 0;
    x->s->answered = x->s->begun = false;
    if (s == STRETTO_OK) s = read_text(x, n);
    engine_rewind(x->e, x->s->seq, 0);
    if (s == STRETTO_OK) finish(x);
    mem_free(x->places);
    mem_free(x->hidden);
    mem_free(x->sum);
    return s;
}

static size_t longest(const struct embedding *x)
{
    const struct engine_info *i = engine_about(x->e);
    return engine_model(x->e)->graph.bidirectional && i->max_rows < i->context ? i->max_rows : i->context;
}

static stretto_status embed(struct embedding *x, const stretto_embed_options *o, size_t capacity,
                            stretto_embedded *r, int32_t **owned)
{
    size_t most = longest(x), given = x->count;
    TRY(rule_of(x, o));
    if (x->count > most && o->truncate) TRY(cut(x, most, owned));
    if (x->count > most)
        return fail(&x->s->err, STRETTO_E_FULL,
                    "the text has %zu tokens and the context holds %zu; split it, or let it be cut "
                    "(--truncate)", given, most);
    r->vectors = x->kind == POOLING_NONE ? x->count : 1;
    r->tokens = x->count;
    r->scaled = x->normalize;
    r->pooling = x->kind == POOLING_NONE ? STRETTO_POOLING_NONE
               : x->kind == POOLING_CLS  ? STRETTO_POOLING_CLS
               : x->kind == POOLING_LAST ? STRETTO_POOLING_LAST : STRETTO_POOLING_MEAN;
    if (capacity / x->width < r->vectors)
        return fail(&x->s->err, STRETTO_E_FULL, "%zu vectors of %zu numbers do not fit %zu", r->vectors,
                    x->width, capacity);
    return compute(x);
}

stretto_status stretto_session_embedding(stretto_session *s, const int32_t *ids, size_t count,
                                         const stretto_embed_options *opt, float *out,
                                         size_t capacity, stretto_embedded *result)
{
    if (!s || !ids || !count || (!out && capacity)) return STRETTO_E_ARG;
    stretto_embed_options o = STRETTO_EMBED_OPTIONS_INIT;
    struct embedding x = { .s = s, .e = s->engine->engine, .ids = ids, .count = count, .out = out };
    x.width = engine_model(x.e)->config.width;
    const struct embedding begin = x;
    stretto_embedded r = { .size = sizeof r };
    int32_t *owned = NULL;
    TRY(session_enter(s));
    stretto_status status = options_take(&o, sizeof o, opt, &s->err);
    if (status == STRETTO_OK) status = embed(&x, &o, capacity, &r, &owned);
    if (session_moves(s, x.e, status)) {
        x = begin;
        x.e = s->engine->engine;
        mem_free(owned);
        owned = NULL;
        status = embed(&x, &o, capacity, &r, &owned);
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
