#include "engine/companion.h"
#include "base/clock.h"
#include "base/memory.h"
#include "decode/controller.h"
#include <math.h>
#include <string.h>

struct drafter {
    struct companion companion;
    struct engine *engine;
    const struct sampler *follows;     /* the writer's                                      */
    struct sampler own;                /* its penalties and noise over the target's ids     */
    uint32_t vocab, draft_vocab;       /* ids of the target, ids of the draft model         */
    int32_t *to_draft;                 /* [vocab] -1: no such token; NULL: the ids are equal */
    int32_t *from_draft;               /* [draft_vocab] the way back, likewise               */
    float *logits, *seen;              /* [draft_vocab]; [vocab] what the sampler edits      */
    struct answer last;                /* of its newest token: `top`, or logits where the sampler draws */
    int32_t *text, *mapped;            /* [context] of the target's and of the draft's ids   */
    uint32_t context, own_context;     /* of the target, of the draft model                  */
    uint32_t length;                   /* of mapped                                          */
    uint32_t first;                    /* the draft model's timeline is mapped[first ..]     */
    struct step_costs costs;           /* of the draft model's steps                         */
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
    d->from_draft = mem_alloc(d->draft_vocab * sizeof *d->from_draft);
    if (!d->to_draft || !d->from_draft) return fail(err, STRETTO_E_NOMEM, "out of memory");
    for (size_t i = 0; i < d->draft_vocab; i++) d->from_draft[i] = -1;
    for (size_t i = 0; i < d->vocab; i++) {
        size_t length;
        const char *p = i < n ? tokenizer_spelling(a, (int32_t)i, &length) : NULL;
        int32_t id = p ? tokenizer_find(b, p, length) : -1;
        d->to_draft[i] = id < 0 || (uint32_t)id >= d->draft_vocab ? -1 : id;
        if (d->to_draft[i] >= 0) d->from_draft[id] = (int32_t)i;
        shared += d->to_draft[i] >= 0;
    }
    if (2 * shared >= n) return STRETTO_OK;
    return fail(err, STRETTO_E_ARG,
                "the draft model's vocabulary (%s) has %zu of the model's %zu tokens (%s); a draft "
                "model needs the same vocabulary, or most of it: take a smaller model of the same "
                "family",
                tokenizer_kind(b), shared, n, tokenizer_kind(a));
}

/* ---- following the timeline -----------------------------------------------------------------
 *
 * Reading costs the draft model rows, and the end of a text says most of what comes next: on code
 * (Qwen 0.5B for 1.5B, 64 tokens) the last 8 tokens of the prompt make 79 % of the guesses right,
 * 32 make 84 %, 64 make 88 % and all make 94 %. So it reads what it has missed where that is within
 * what the controller lets it spend, and else begins again with as much of the end as is. Waiting
 * for the first 8 tokens of the answer (44 % of the guesses for the first 4 are right behind 4 tokens
 * of the prompt, 73 % behind 8 to 16 more) and then reading 8 was worth less than asking at once. */

/* Tokens of the target as the draft model spells them; those it does not have are left out. */
static uint32_t translate(struct drafter *d, const int32_t *tokens, uint32_t n)
{
    uint32_t k = 0;
    for (uint32_t i = 0; i < n; i++) {
        int32_t id = d->to_draft ? d->to_draft[tokens[i]] : tokens[i];
        if (id >= 0 && (uint32_t)id < d->draft_vocab) d->mapped[k++] = id;
    }
    return k;
}

enum { LEAST_READ = 4, ROOM = DRAFT_ROWS + 1 };

/* Seconds of reading n tokens beyond the one row that a guess needs in any case. */
static double reading(const struct drafter *d, uint32_t n)
{
    return n > 1 ? costs_of(&d->costs, n) - costs_of(&d->costs, 1) : 0;
}

/* The draft model's timeline as it shall be: mapped[from..length), of which it has `same` tokens. */
struct reach { uint32_t from, same; };

static struct reach reach(struct drafter *d, const struct timeline *t, double spend)
{
    struct reach r = { d->first, 0 };
    uint32_t have = engine_length(d->engine, 0), n = d->length = translate(d, t->tokens, t->n);
    const int32_t *tokens = engine_tokens(d->engine, 0);
    while (r.same < have && r.from + r.same + 1 < n &&
           tokens[r.same] == d->mapped[r.from + r.same])
        r.same++;
    uint32_t missed = n - (r.same ? r.from + r.same : 0), most = d->own_context - ROOM;
    if (r.same && n - r.from <= most && (missed <= LEAST_READ || reading(d, missed) <= spend))
        return r;
    uint32_t read = n < most ? n : most;
    while (read > LEAST_READ && reading(d, read) > spend) read -= (read + 7) / 8;
    return r.same && n - r.from <= most && missed <= read ? r : (struct reach){ n - read, 0 };
}

static bool can_guess(const struct drafter *d, const struct timeline *t)
{
    return t->n <= d->context && d->own_context > ROOM + LEAST_READ;
}

static struct guess_price price(void *ud, const struct timeline *t, double spend)
{
    struct drafter *d = ud;
    struct reach r = reach(d, t, spend);
    double one = costs_of(&d->costs, 1);
    return (struct guess_price){ reading(d, d->length - r.from - r.same), one, one, 0,
                                 d->length == 0 || !can_guess(d, t) };
}

/* Tokens at the end of the draft model's timeline, with the answer behind them. */
static stretto_status feed(struct drafter *d, const int32_t *tokens, uint32_t n, struct error *err)
{
    uint8_t wants = sampler_is_greedy(d->follows) ? WANT_TOP : WANT_LOGITS;
    struct row rows[COSTS_MOST];
    struct answer answers[COSTS_MOST];
    d->last.logits = d->logits;
    if (n > COSTS_MOST) return engine_feed(d->engine, 0, tokens, n, wants, &d->last, err);
    for (uint32_t i = 0; i < n; i++)
        rows[i] = (struct row){ 0, tokens[i], i ? (int32_t)i - 1 : ROW_COMMITTED, 0,
                                i + 1 < n ? WANT_NOTHING : wants };
    answers[n - 1] = d->last;
    double begin = clock_seconds();
    TRY(engine_step(d->engine, rows, n, answers, err));
    d->last = answers[n - 1];
    engine_commit(d->engine, 0, n);
    costs_learn(&d->costs, n, clock_seconds() - begin);
    return STRETTO_OK;
}

static stretto_status follow(struct drafter *d, const struct timeline *t, double spend,
                             struct error *err)
{
    struct reach r = reach(d, t, spend);
    d->first = r.from;
    engine_rewind(d->engine, 0, r.same);
    return feed(d, d->mapped + r.from + r.same, d->length - r.from - r.same, err);
}

float logit_probability(const float *logits, uint32_t n, float logit)
{
    float best = logit, sum = 0;
    for (uint32_t i = 0; i < n; i++) best = logits[i] > best ? logits[i] : best;
    for (uint32_t i = 0; i < n; i++)
        if (logits[i] > best - 16) sum += expf(logits[i] - best);
    return expf(logit - best) / sum;
}

/* The likeliest token that the target has. The rest of the vocabulary is left out of its
 * probability, which is then a little high; what its class is worth is learned. */
static void take_best(const struct drafter *d, int32_t *token, float *p)
{
    float sum = 0, logit = 0;
    *token = -1;
    for (int i = 0; i < STEP_TOP && d->last.top.id[i] >= 0; i++) {
        int32_t id = d->last.top.id[i];
        if (d->from_draft) id = d->from_draft[id];
        if ((uint32_t)id >= d->vocab) id = -1;
        if (*token < 0 && id >= 0) {
            *token = id;
            logit = d->last.top.logit[i];
        }
        sum += expf(d->last.top.logit[i] - d->last.top.logit[0]);
    }
    *p = *token >= 0 ? expf(logit - d->last.top.logit[0]) / sum : 0;
}

/* The token that the writer's sampler would draw from the draft model's answer behind text[0..n), in
 * the target's ids, and its probability. */
static stretto_status draw(struct drafter *d, uint32_t n, int32_t *token, float *p,
                           struct error *err)
{
    if (sampler_is_greedy(d->follows)) {
        take_best(d, token, p);
        return STRETTO_OK;
    }
    for (uint32_t i = 0; i < d->vocab; i++) {
        int32_t id = d->to_draft ? d->to_draft[i] : i < d->draft_vocab ? (int32_t)i : -1;
        d->seen[i] = id >= 0 ? d->logits[id] : -INFINITY;
    }
    d->own.how = d->follows->how;
    TRY(sampler_pick(&d->own, d->seen, d->text, n, token, err));
    int32_t id = d->to_draft ? d->to_draft[*token] : *token;
    *p = id >= 0 && (uint32_t)id < d->draft_vocab
             ? logit_probability(d->logits, d->draft_vocab, d->logits[id])
             : 0;
    return STRETTO_OK;
}

static stretto_status guess(void *ud, const struct timeline *t, uint32_t k, double spend,
                            int32_t *token, float *p, struct error *err)
{
    struct drafter *d = ud;
    *token = -1;
    *p = 0;
    if (k == 0) {
        if (!can_guess(d, t)) return STRETTO_OK;
        memcpy(d->text, t->tokens, t->n * sizeof *d->text);
        d->length = translate(d, t->tokens, t->n);
        if (d->length == 0) return STRETTO_OK;
        TRY(follow(d, t, spend, err));
    } else {
        int32_t last = d->to_draft ? d->to_draft[d->text[t->n + k - 1]] : d->text[t->n + k - 1];
        if (last < 0) return STRETTO_OK;
        TRY(feed(d, &last, 1, err));
    }
    TRY(draw(d, t->n + k, token, p, err));
    d->text[t->n + k] = *token;
    return STRETTO_OK;
}

/* ---- opening -------------------------------------------------------------------------------- */

static void take_all(struct drafter *d, struct arena *a)
{
    sampler_plan(&d->own, a, d->vocab);
    d->logits = arena_take(a, d->draft_vocab * sizeof *d->logits);
    d->seen = arena_take(a, d->vocab * sizeof *d->seen);
    d->text = arena_take(a, ((size_t)d->context + ROOM) * sizeof *d->text);
    d->mapped = arena_take(a, ((size_t)d->context + ROOM) * sizeof *d->mapped);
}

enum { PROBES = 3 };          /* steps that tell a guess's price; the first two only wake things */

static stretto_status open_into(struct drafter *d, struct engine *target, const struct model *draft,
                                struct error *err)
{
    const struct engine_info *i = engine_about(target);
    struct engine_options o = { .threads = i->threads, .context = i->context };
    if (draft->graph.logits == GRAPH_NONE)
        return fail(err, STRETTO_E_ARG, "the draft model is an encoder; it writes no text");
    o.context += ROOM;                 /* guesses stand behind the last token */
    if (draft->config.context < o.context) o.context = draft->config.context;
    o.cache = draft->reference ? CACHE_F32 : CACHE_F16;
    d->vocab = engine_model(target)->config.vocab;
    d->draft_vocab = draft->config.vocab;
    d->context = i->context;
    d->own_context = o.context;
    TRY(join(d, engine_model(target), draft, err));
    struct arena a = { 0 };
    take_all(d, &a);
    d->bytes = a.top;
    d->memory = mem_map(d->bytes);
    if (!d->memory) return fail(err, STRETTO_E_NOMEM, "no memory for the draft model");
    a = (struct arena){ .base = d->memory, .cap = d->bytes };
    take_all(d, &a);
    TRY(engine_open(&d->engine, draft, &o, err));
    int32_t seq;                       /* 0 */
    TRY(engine_seq_open(d->engine, &seq, err));
    for (int32_t n = 0; n < PROBES && (uint32_t)n + 1 < d->own_context; n++) {
        if (n < 2) costs_init(&d->costs, draft->device);
        TRY(feed(d, &n, 1, err));
    }
    return STRETTO_OK;
}

stretto_status drafter_open(struct drafter **out, struct engine *target, const struct model *draft,
                            const struct sampler *sampler, struct error *err)
{
    *out = NULL;
    struct drafter *d = mem_zalloc(1, sizeof *d);
    if (!d) return fail(err, STRETTO_E_NOMEM, "out of memory");
    d->companion = (struct companion){ .ud = d, .price = price, .guess = guess };
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
    mem_free(d->from_draft);
    mem_free(d);
}

struct companion *drafter_companion(struct drafter *d) { return d ? &d->companion : NULL; }
