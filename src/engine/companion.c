#include "engine/companion.h"
#include "base/memory.h"
#include "engine/engine_int.h"
#include <math.h>
#include <string.h>

/* A draft model for all writers of an engine that want it: their guesses share its steps. */
struct draft_engine {
    struct draft_engine *next;         /* of the target's */
    struct engine *target, *engine;
    const struct model *model;
    unsigned users;
    uint32_t vocab, draft_vocab;       /* ids of the target, ids of the draft model         */
    int32_t *to_draft;                 /* [vocab] -1: no such token; NULL: the ids are equal */
    int32_t *from_draft;               /* [draft_vocab] the way back, likewise               */
    struct event *events;              /* [sequences] */
};

struct drafter {
    struct companion companion;
    struct draft_engine *shared;
    struct engine *engine;             /* shared->engine */
    int32_t seq;
    const struct sampler *follows;     /* the writer's                                      */
    struct sampler own;                /* its penalties and noise over the target's ids     */
    float *logits, *seen;              /* [draft_vocab]; [vocab] what the sampler edits      */
    struct answer last;                /* of its newest token: `top`, or logits where the sampler draws */
    int32_t *text, *mapped;            /* [context] of the target's and of the draft's ids   */
    uint32_t context, own_context;     /* of the target, of the draft model                  */
    uint32_t text_n, length;           /* of text without guesses; of mapped                 */
    uint32_t first;                    /* the draft model's timeline is mapped[first ..]     */
    uint32_t id;                       /* of its request; 0: it has asked nothing            */
    struct error failed;
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

/* Two vocabularies are joined by the spelling of tokens; equal ones need no table. A draft model that lacks
 * most of the target's tokens would guess next to nothing, and is refused with both numbers. */
static stretto_status join(struct draft_engine *d, const struct model *target, const struct model *draft,
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

/* A token of the target as the draft model spells it; -1: it does not have it. */
static int32_t spelled(const struct draft_engine *d, int32_t token)
{
    int32_t id = d->to_draft ? d->to_draft[token] : token;
    return id >= 0 && (uint32_t)id < d->draft_vocab ? id : -1;
}

/* Tokens of the target as the draft model spells them; those it does not have are left out. */
static uint32_t translate(struct drafter *d, const int32_t *tokens, uint32_t n)
{
    uint32_t k = 0;
    for (uint32_t i = 0; i < n; i++) {
        int32_t id = spelled(d->shared, tokens[i]);
        if (id >= 0) d->mapped[k++] = id;
    }
    return k;
}

enum { LEAST_READ = 4, ROOM = TREE_ROWS + 1 };

/* Seconds of reading n tokens beyond the one row that a guess needs in any case. */
static double reading(const struct drafter *d, uint32_t n)
{
    const struct step_costs *c = engine_costs(d->engine);
    return n > 1 ? costs_of(c, n) - costs_of(c, 1) : 0;
}

/* The draft model's timeline as it shall be: mapped[from..length), of which it has `same` tokens. */
struct reach { uint32_t from, same; };

static struct reach reach(struct drafter *d, const struct timeline *t, double spend)
{
    struct reach r = { d->first, 0 };
    uint32_t have = engine_length(d->engine, d->seq), n = d->length = translate(d, t->tokens, t->n);
    const int32_t *tokens = engine_tokens(d->engine, d->seq);
    while (r.same < have && r.from + r.same + 1 < n &&
           tokens[r.same] == d->mapped[r.from + r.same])
        r.same++;
    r.same = engine_reach(d->engine, d->seq, r.same);
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
    double one = costs_of(engine_costs(d->engine), 1);
    return (struct guess_price){ reading(d, d->length - r.from - r.same), one, one, 0,
                                 d->length == 0 || !can_guess(d, t) };
}

/* What the draft model's timeline has and its cache does not is to be read; its last token answers. Few
 * tokens are read as if they had been written, which tells what such steps cost. */
static stretto_status request(struct drafter *d, struct error *err)
{
    uint32_t n = engine_known(d->engine, d->seq), have = engine_length(d->engine, d->seq);
    engine_role(d->engine, d->seq, have, n - have > COSTS_MOST);
    d->last.logits = d->logits;
    error_clear(&d->failed);
    struct request r = { .seq = d->seq, .first = n - 1, .room = 1, .places = &d->last, .ud = d,
                         .wants = sampler_is_greedy(d->follows) ? WANT_TOP : WANT_LOGITS };
    return request_add(d->engine, &r, &d->id, err);
}

/* The text as it is now, as far as reading it is worth its time. */
static stretto_status follow(struct drafter *d, const struct timeline *t, double spend,
                             struct error *err)
{
    struct reach r = reach(d, t, spend);
    d->first = r.from;
    engine_set(d->engine, d->seq, d->mapped + r.from, d->length - r.from, r.same);
    return request(d, err);
}

static stretto_status ask(void *ud, const struct timeline *t, uint32_t k, double spend,
                          struct error *err)
{
    struct drafter *d = ud;
    d->id = 0;
    if (k == 0) {
        if (!can_guess(d, t)) return STRETTO_OK;
        memcpy(d->text, t->tokens, t->n * sizeof *d->text);
        d->text_n = t->n;
        d->length = translate(d, t->tokens, t->n);
        return d->length ? follow(d, t, spend, err) : STRETTO_OK;
    }
    int32_t last = spelled(d->shared, d->text[d->text_n + k - 1]);
    if (last < 0 || engine_known(d->engine, d->seq) >= d->own_context) return STRETTO_OK;
    engine_push(d->engine, d->seq, last);
    return request(d, err);
}

/* All that have asked, in the same steps. */
static stretto_status run(void *ud, struct error *err)
{
    struct draft_engine *s = ((struct drafter *)ud)->shared;
    while (requests_count(s->engine)) {
        size_t n;
        TRY(engine_turn(s->engine, s->events, engine_about(s->engine)->sequences, &n, err));
        for (size_t i = 0; i < n; i++) {
            struct drafter *d = s->events[i].ud;
            if (s->events[i].done) d->failed = s->events[i].error;
        }
    }
    return STRETTO_OK;
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
        if (d->shared->from_draft) id = d->shared->from_draft[id];
        if ((uint32_t)id >= d->shared->vocab) id = -1;
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
    for (uint32_t i = 0; i < d->shared->vocab; i++) {
        int32_t id = d->shared->to_draft ? d->shared->to_draft[i] : i < d->shared->draft_vocab ? (int32_t)i : -1;
        d->seen[i] = id >= 0 ? d->logits[id] : -INFINITY;
    }
    d->own.how = d->follows->how;
    TRY(sampler_pick(&d->own, d->seen, d->text, n, token, err));
    int32_t id = spelled(d->shared, *token);
    *p = id >= 0 && (uint32_t)id < d->shared->draft_vocab
             ? logit_probability(d->logits, d->shared->draft_vocab, d->logits[id])
             : 0;
    return STRETTO_OK;
}

static stretto_status take(void *ud, uint32_t k, int32_t *token, float *p, struct error *err)
{
    struct drafter *d = ud;
    *token = -1;
    *p = 0;
    if (!d->id) return STRETTO_OK;
    if (d->failed.status == STRETTO_E_FULL || d->failed.status == STRETTO_E_NAN) return STRETTO_OK;
    if (d->failed.status != STRETTO_OK) return fail(err, d->failed.status, "%s", d->failed.text);
    TRY(draw(d, d->text_n + k, token, p, err));
    d->text[d->text_n + k] = *token;
    return STRETTO_OK;
}

/* ---- opening -------------------------------------------------------------------------------- */

static void shared_close(struct draft_engine *s)
{
    struct draft_engine **at = &s->target->drafts;
    if (--s->users) return;
    while (*at != s) at = &(*at)->next;
    *at = s->next;
    engine_close(s->engine);
    mem_free(s->to_draft);
    mem_free(s->from_draft);
    mem_free(s->events);
    mem_free(s);
}

static stretto_status shared_open_into(struct draft_engine *s, struct error *err)
{
    const struct engine_info *i = engine_about(s->target);
    const struct model *target = engine_model(s->target), *draft = s->model;
    struct engine_options o = { .threads = i->threads, .sequences = i->sequences,
                                .context = i->context + ROOM }; /* guesses stand behind the last token */
    if (draft->graph.logits == GRAPH_NONE)
        return fail(err, STRETTO_E_ARG, "the draft model is an encoder; it writes no text");
    if (draft->config.context < o.context) o.context = draft->config.context;
    o.cache = draft->reference ? CACHE_F32 : CACHE_F16;
    s->vocab = target->config.vocab;
    s->draft_vocab = draft->config.vocab;
    TRY(join(s, target, draft, err));
    s->events = mem_zalloc(i->sequences, sizeof *s->events);
    if (!s->events) return fail(err, STRETTO_E_NOMEM, "out of memory");
    return engine_open(&s->engine, draft, &o, err);
}

static stretto_status shared_open(struct draft_engine **out, struct engine *target,
                                  const struct model *draft, struct error *err)
{
    for (*out = target->drafts; *out && (*out)->model != draft;) *out = (*out)->next;
    if (*out) {
        (*out)->users++;
        return STRETTO_OK;
    }
    struct draft_engine *s = mem_zalloc(1, sizeof *s);
    if (!s) return fail(err, STRETTO_E_NOMEM, "out of memory");
    *s = (struct draft_engine){ .next = target->drafts, .target = target, .model = draft, .users = 1 };
    target->drafts = s;
    stretto_status st = shared_open_into(s, err);
    if (st != STRETTO_OK) shared_close(s);
    else *out = s;
    return st;
}

static void take_all(struct drafter *d, struct arena *a)
{
    sampler_plan(&d->own, a, d->shared->vocab);
    d->logits = arena_take(a, d->shared->draft_vocab * sizeof *d->logits);
    d->seen = arena_take(a, d->shared->vocab * sizeof *d->seen);
    d->text = arena_take(a, ((size_t)d->context + ROOM) * sizeof *d->text);
    d->mapped = arena_take(a, ((size_t)d->context + ROOM) * sizeof *d->mapped);
}

/* The draft model's first steps tell a guess's price; the first two only wake things. */
static stretto_status probe(struct drafter *d, struct error *err)
{
    enum { PROBES = 3 };
    struct step_costs *costs = engine_costs(d->engine);
    for (int32_t n = 0; n < PROBES && (uint32_t)n + 1 < d->own_context && costs->seen[1] < 2; n++) {
        if (n < 2) costs_init(costs, engine_model(d->engine)->device);
        engine_push(d->engine, d->seq, n);
        TRY(request(d, err));
        TRY(run(d, err));
        if (d->failed.status != STRETTO_OK) return fail(err, d->failed.status, "%s", d->failed.text);
    }
    return STRETTO_OK;
}

static stretto_status open_into(struct drafter *d, struct engine *target, const struct model *draft,
                                struct error *err)
{
    TRY(shared_open(&d->shared, target, draft, err));
    d->engine = d->shared->engine;
    TRY(engine_seq_open(d->engine, &d->seq, err));
    d->context = engine_about(target)->context;
    d->own_context = engine_about(d->engine)->context;
    struct arena a = { 0 };
    take_all(d, &a);
    d->bytes = a.top;
    d->memory = mem_map(d->bytes);
    if (!d->memory) return fail(err, STRETTO_E_NOMEM, "no memory for the draft model");
    a = (struct arena){ .base = d->memory, .cap = d->bytes };
    take_all(d, &a);
    return probe(d, err);
}

stretto_status drafter_open(struct drafter **out, struct engine *target, const struct model *draft,
                            const struct sampler *sampler, struct error *err)
{
    *out = NULL;
    struct drafter *d = mem_zalloc(1, sizeof *d);
    if (!d) return fail(err, STRETTO_E_NOMEM, "out of memory");
    d->companion = (struct companion){ .ud = d, .price = price, .ask = ask, .run = run, .take = take };
    d->follows = sampler;
    d->seq = -1;
    stretto_status s = open_into(d, target, draft, err);
    if (s != STRETTO_OK) drafter_close(d);
    else *out = d;
    return s;
}

void drafter_close(struct drafter *d)
{
    if (!d) return;
    if (d->seq >= 0) engine_seq_close(d->engine, d->seq);
    if (d->shared) shared_close(d->shared);
    mem_unmap(d->memory, d->bytes);
    mem_free(d);
}

bool drafter_is_of(const struct drafter *d, const struct model *draft) { return d && d->shared->model == draft; }

struct companion *drafter_companion(struct drafter *d) { return d ? &d->companion : NULL; }
