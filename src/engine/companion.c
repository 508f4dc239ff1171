#include "engine/companion.h"
#include "base/memory.h"
#include <math.h>
#include <string.h>

struct drafter {
    struct companion companion;
    struct engine *engine;
    const struct sampler *follows;     /* the writer's                                      */
    struct sampler own;                /* its penalties and noise over the target's ids     */
    uint32_t vocab, draft_vocab;       /* ids of the target, ids of the draft model         */
    int32_t *to_draft;                 /* [vocab] -1: no such token; NULL: the ids are equal */
    float *logits, *seen;              /* [draft_vocab]; [vocab] what the sampler edits      */
    int32_t *text, *mapped;            /* [context] of the target's and of the draft's ids   */
    uint32_t context;
    void *memory;
    size_t bytes;
};

/* ---- vocabularies --------------------------------------------------------------------------- */

static bool same_spelling(const struct tokenizer *a, const struct tokenizer *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t x, y;
        const char *p = tokenizer_spelling(a, (int32_t)i, &x);
        const char *q = tokenizer_spelling(b, (int32_t)i, &y);
        if (x != y || !p || !q || memcmp(p, q, x) != 0) return false;
    }
    return true;
}

static stretto_status join(struct drafter *d, const struct model *target, const struct model *draft,
                           struct error *err)
{
    const struct tokenizer *a = target->tokenizer, *b = draft->tokenizer;
    if (!a || !b) {
        if (d->vocab == d->draft_vocab) return STRETTO_OK;
        return fail(err, STRETTO_E_ARG,
                    "the draft model has %u tokens and the model %u, and their spellings are not "
                    "known; take one with the same vocabulary",
                    d->draft_vocab, d->vocab);
    }
    size_t n = tokenizer_size(a), shared = 0;
    if (n == tokenizer_size(b) && d->draft_vocab <= d->vocab && same_spelling(a, b, n))
        return STRETTO_OK;
    d->to_draft = mem_alloc(d->vocab * sizeof *d->to_draft);
    if (!d->to_draft) return fail(err, STRETTO_E_NOMEM, "out of memory");
    for (size_t i = 0; i < d->vocab; i++) {
        size_t length;
        const char *p = i < n ? tokenizer_spelling(a, (int32_t)i, &length) : NULL;
        int32_t id = p ? tokenizer_find(b, p, length) : -1;
        d->to_draft[i] = id < 0 || (uint32_t)id >= d->draft_vocab ? -1 : id;
        shared += d->to_draft[i] >= 0;
    }
    if (2 * shared >= n) return STRETTO_OK;
    return fail(err, STRETTO_E_ARG,
                "the draft model's vocabulary (%s) has %zu of the model's %zu tokens (%s); a draft "
                "model needs the same vocabulary, or most of it: take a smaller model of the same "
                "family",
                tokenizer_kind(b), shared, n, tokenizer_kind(a));
}

/* ---- following the timeline ----------------------------------------------------------------- */

/* Tokens of the target as the draft model spells them; those it does not have are left out. */
static uint32_t translate(struct drafter *d, const int32_t *tokens, uint32_t n)
{
    uint32_t k = 0;
    for (uint32_t i = 0; i < n; i++) {
        int32_t id = d->to_draft ? d->to_draft[tokens[i]] : tokens[i];
        if (id >= 0) d->mapped[k++] = id;
    }
    return k;
}

/* The draft model's timeline becomes mapped[0..n), with the answer behind it. */
static stretto_status follow(struct drafter *d, uint32_t n, struct error *err)
{
    const int32_t *have = engine_tokens(d->engine, 0);
    uint32_t length = engine_length(d->engine, 0), same = 0;
    while (same < length && same + 1 < n && have[same] == d->mapped[same]) same++;
    engine_rewind(d->engine, 0, same);
    struct answers a = { .logits = d->logits };
    return engine_feed(d->engine, 0, d->mapped + same, n - same, ASK_LOGITS, &a, err);
}

stretto_status drafter_read(struct drafter *d, const int32_t *tokens, uint32_t n, struct error *err)
{
    uint32_t k = translate(d, tokens, n);
    return k && k < d->context ? follow(d, k, err) : STRETTO_OK;
}

/* 1 / sum of exp(logit - best): the probability of the token with that logit. What is 16 below the
 * best does not show. */
static float probability(const float *logits, uint32_t n, float logit)
{
    float best = logit, sum = 0;
    for (uint32_t i = 0; i < n; i++) best = logits[i] > best ? logits[i] : best;
    for (uint32_t i = 0; i < n; i++)
        if (logits[i] > best - 16) sum += expf(logits[i] - best);
    return expf(logit - best) / sum;
}

/* The token that the writer's sampler would draw from the draft model's logits, in the target's
 * ids, and its probability. */
static stretto_status draw(struct drafter *d, uint32_t n, int32_t *token, float *p,
                           struct error *err)
{
    float *x = d->logits;
    if (d->to_draft || d->draft_vocab < d->vocab || !sampler_is_greedy(d->follows)) {
        x = d->seen;
        for (uint32_t i = 0; i < d->vocab; i++) {
            int32_t id = d->to_draft ? d->to_draft[i] : i < d->draft_vocab ? (int32_t)i : -1;
            x[i] = id >= 0 ? d->logits[id] : -INFINITY;
        }
    }
    if (sampler_is_greedy(d->follows)) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < d->vocab; i++) best = x[i] > x[best] ? i : best;
        *token = (int32_t)best;
    } else {
        d->own.how = d->follows->how;
        TRY(sampler_pick(&d->own, x, d->text, n, token, err));
    }
    int32_t id = d->to_draft ? d->to_draft[*token] : *token;
    *p = id >= 0 && (uint32_t)id < d->draft_vocab
             ? probability(d->logits, d->draft_vocab, d->logits[id])
             : 0;
    return STRETTO_OK;
}

static stretto_status guess(void *ud, const struct timeline *t, uint32_t depth, float floor,
                            int32_t *token, float *p, uint32_t *n, struct error *err)
{
    struct drafter *d = ud;
    uint32_t length = translate(d, t->tokens, t->n);
    float path = 1;
    *n = 0;
    if (length == 0 || t->n + depth > d->context || length + depth >= d->context)
        return STRETTO_OK;
    memcpy(d->text, t->tokens, t->n * sizeof *d->text);
    TRY(follow(d, length, err));
    for (uint32_t k = 0; k < depth; k++) {
        if (k) {
            struct row row = { 0, d->mapped[length + k - 1], ROW_COMMITTED, 0, ASK_LOGITS };
            struct answers a = { .logits = d->logits };
            TRY(engine_step(d->engine, &row, 1, &a, err));
            engine_commit(d->engine, 0, 1);
        }
        TRY(draw(d, t->n + k, &token[k], &p[k], err));
        path *= p[k];
        if (path < floor) break;
        d->text[t->n + k] = token[k];
        d->mapped[length + k] = d->to_draft ? d->to_draft[token[k]] : token[k];
        ++*n;
        if (d->mapped[length + k] < 0) break;
    }
    return STRETTO_OK;
}

/* ---- opening -------------------------------------------------------------------------------- */

static void take_all(struct drafter *d, struct arena *a)
{
    sampler_plan(&d->own, a, d->vocab);
    d->logits = arena_take(a, d->draft_vocab * sizeof *d->logits);
    d->seen = arena_take(a, d->vocab * sizeof *d->seen);
    d->text = arena_take(a, d->context * sizeof *d->text);
    d->mapped = arena_take(a, d->context * sizeof *d->mapped);
}

static stretto_status open_into(struct drafter *d, struct engine *target, const struct model *draft,
                                struct error *err)
{
    const struct engine_info *i = engine_about(target);
    struct engine_options o = { .threads = i->threads, .context = i->context };
    if (draft->graph.logits == GRAPH_NONE)
        return fail(err, STRETTO_E_ARG, "the draft model is an encoder; it writes no text");
    if (draft->config.context < o.context) o.context = draft->config.context;
    o.cache = draft->reference ? CACHE_F32 : CACHE_F16;
    d->vocab = engine_model(target)->config.vocab;
    d->draft_vocab = draft->config.vocab;
    d->context = o.context;
    TRY(join(d, engine_model(target), draft, err));
    struct arena a = { 0 };
    take_all(d, &a);
    d->bytes = a.top;
    d->memory = mem_map(d->bytes);
    if (!d->memory) return fail(err, STRETTO_E_NOMEM, "no memory for the draft model");
    a = (struct arena){ .base = d->memory, .cap = d->bytes };
    take_all(d, &a);
    return engine_open(&d->engine, draft, &o, err);
}

stretto_status drafter_open(struct drafter **out, struct engine *target, const struct model *draft,
                            const struct sampler *sampler, struct error *err)
{
    *out = NULL;
    struct drafter *d = mem_zalloc(1, sizeof *d);
    if (!d) return fail(err, STRETTO_E_NOMEM, "out of memory");
    d->companion = (struct companion){ .ud = d, .guess = guess };
    d->follows = sampler;
    stretto_status s = open_into(d, target, draft, err);
    if (s != STRETTO_OK) drafter_close(d);
    else *out = d;
    return s;
}

void drafter_close(struct drafter *d)
{
    if (!d) return;
    engine_close(d->engine);
    mem_unmap(d->memory, d->bytes);
    mem_free(d->to_draft);
    mem_free(d);
}

struct companion *drafter_companion(struct drafter *d) { return d ? &d->companion : NULL; }
