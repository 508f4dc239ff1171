#include "engine/writer.h"
#include "base/clock.h"
#include "base/memory.h"
#include <string.h>

enum { ROWS_DEFAULT = 15, SCORES = 64 };       /* more than a step can make certain */
_Static_assert(SCORES > TREE_ROWS + 1, "tokens that nobody has taken keep their scores");

struct writer {
    struct engine *engine;
    int32_t seq;
    struct sampler *sampler;
    struct controller controller;
    struct strategy_setup setup;
    void *state[STRATEGIES_MOST];
    struct guess_tree tree;
    int32_t apart[TREE_ROWS], apart_next[TREE_ROWS]; /* rows apart of the step, and what follows each */
    uint32_t first_apart;              /* its row */
    uint32_t n_apart, apart_most;      /* n_apart: proposed, then sent; apart_most: room for guesses in this step */
    double promise;                    /* tokens that rows ahead promise */
    struct ngram_index index;
    uint32_t planned;                  /* strategies that have a place */
    uint32_t handed, limit, context;
    bool (*ends)(const void *ud, int32_t token);
    const void *ends_ud;
    void (*watch)(void *ud, const struct outcome *o, double seconds);
    void *watch_ud;
    void (*heard)(void *ud, const struct answer *a);
    void *heard_ud;
    struct guess_chain chain;          /* of the companion that is asked              */
    struct proposal proposal;          /* of the strategy that proposes                 */
    float p_of_bucket[CONFIDENCE_BUCKETS];
    unsigned strategy;                   /* whose turn it is among those with companions */
    double asked_seconds;
    float *logits, *hidden;            /* [most + 1] rows' answers; hidden: or NULL */
    float *hidden_last;
    float *raw;                        /* [vocab] logits before sampling changes them */
    struct token_logprobs *scores;     /* [SCORES] of the token at a position, modulo SCORES */
    int32_t n_top;                     /* beside each; -1: no scores */
    bool drawn;                        /* scores are the sampler's */
    void *memory;
    size_t bytes;
};

static bool wants_hidden(const struct writer *w)
{
    return w->setup.heads && w->setup.heads->wants_hidden;
}

static void take_all(struct writer *w, struct arena *a)
{
    const struct model *m = engine_model(w->engine);
    size_t rows = w->controller.most + 1;
    w->logits = arena_take(a, rows * m->config.vocab * sizeof *w->logits);
    w->raw = arena_take(a, m->config.vocab * sizeof *w->raw);
    w->scores = arena_take(a, SCORES * sizeof *w->scores);
    if (wants_hidden(w)) {
        w->hidden = arena_take(a, rows * m->config.width * sizeof *w->hidden);
        w->hidden_last = arena_take(a, m->config.width * sizeof *w->hidden_last);
    }
    tree_plan(&w->tree, a);
    if (!w->controller.choice.strategies) return;
    ngram_plan(&w->index, a, w->context);
    for (unsigned s = 0; strategies[s]; s++)
        if ((w->controller.choice.strategies >> s & 1) && strategies[s]->plan)
            w->state[s] = strategies[s]->plan(a, &w->setup);
}

static stretto_status open_into(struct writer *w, struct error *err)
{
    struct arena a = { 0 };
    take_all(w, &a);
    w->bytes = a.top;
    w->memory = mem_map(w->bytes);
    if (!w->memory) return fail(err, STRETTO_E_NOMEM, "no memory for writing a sequence");
    a = (struct arena){ .base = w->memory, .cap = w->bytes };
    take_all(w, &a);
    for (unsigned s = 0; strategies[s]; s++)
        if ((w->controller.choice.strategies >> s & 1) && strategies[s]->open)
            TRY(strategies[s]->open(w->state[s], &w->setup, err));
    return STRETTO_OK;
}

stretto_status writer_open(struct writer **out, struct engine *e, int32_t seq,
                           struct sampler *sampler, struct calibration *calibration,
                           const struct writer_options *o,
                           struct error *err)
{
    *out = NULL;
    uint32_t most = o->most ? o->most : ROWS_DEFAULT, rows = engine_about(e)->max_rows - 1;
    if (o->most > TREE_ROWS)
        return fail(err, STRETTO_E_ARG, "%u guesses in a step; at most %d can be sent", o->most,
                    TREE_ROWS);
    if (!o->most && o->setup.window > most + 1) most = o->setup.window - 1;
    if (most > rows) most = rows;
    if (most > TREE_ROWS) most = TREE_ROWS;
    struct decode_choice choice = o->choice;
    bool gated = model_gated(engine_model(e)) != NULL;
    if (gated && choice.automatic) choice.strategies |= strategy_bit("gated");
    struct writer *w = mem_zalloc(1, sizeof *w);
    if (!w) return fail(err, STRETTO_E_NOMEM, "out of memory");
    w->engine = e;
    w->seq = seq;
    w->sampler = sampler;
    w->context = engine_about(e)->context;
    w->setup = o->setup;
    w->setup.vocab = engine_model(e)->config.vocab;
    w->setup.rows = most;
    w->setup.gated = gated;
    controller_init(&w->controller, choice, engine_costs(e), calibration, most);
    w->n_top = -1;
    w->planned = choice.strategies;
    stretto_status s = open_into(w, err);
    if (s != STRETTO_OK) writer_close(w);
    else *out = w;
    return s;
}

void writer_close(struct writer *w)
{
    if (!w) return;
    mem_unmap(w->memory, w->bytes);
    mem_free(w);
}

const struct engine *writer_engine(const struct writer *w) { return w->engine; }

void writer_move(struct writer *w, int32_t seq)
{
    ngram_cut(&w->index, 0);
    w->seq = seq;
}

void writer_choose(struct writer *w, struct decode_choice choice)
{
    ngram_cut(&w->index, 0);
    choice.strategies &= w->planned;
    w->controller.choice = choice;
}

bool writer_may_rest(const struct writer *w)
{
    return w->controller.choice.automatic && w->controller.choice.strategies;
}

static uint32_t known(const struct writer *w) { return engine_known(w->engine, w->seq); }
static int32_t *tokens(const struct writer *w) { return engine_tokens(w->engine, w->seq); }

static struct timeline timeline(const struct writer *w)
{
    return (struct timeline){ tokens(w), known(w), &w->index };
}

/* The first `same` tokens are as everybody here knows them; what follows is new. */
static void learn_text(struct writer *w, uint32_t same, bool reset)
{
    if (!w->controller.choice.strategies) return;
    ngram_cut(&w->index, same);
    for (unsigned s = 0; reset && strategies[s]; s++)
        if ((w->controller.choice.strategies >> s & 1) && strategies[s]->reset)
            strategies[s]->reset(w->state[s], same);
    while (w->index.end < known(w)) ngram_add(&w->index, tokens(w)[w->index.end]);
}

/* Somebody else may have changed the timeline. */
static void follow(struct writer *w, bool begin)
{
    uint32_t same = engine_unchanged(w->engine, w->seq), end = w->index.end;
    learn_text(w, same < end ? same : end, begin || same < end);
}

void writer_begin(struct writer *w)
{
    w->handed = known(w);
    follow(w, true);
    controller_begin(&w->controller);
}

void writer_limit(struct writer *w, uint32_t limit, bool (*ends)(const void *ud, int32_t token),
                  const void *ud)
{
    w->limit = limit;
    w->ends = ends;
    w->ends_ud = ud;
}

static uint32_t limit_of(const struct writer *w)
{
    return w->limit && w->limit < w->context ? w->limit : w->context;
}

/* Recycling reads the likeliest tokens of every row; a sampler that is not greedy reads all logits. */
static uint8_t wants_of(const struct writer *w)
{
    uint8_t wants = WANT_BEST;
    if (w->controller.choice.strategies || w->heard) wants |= WANT_TOP;
    if (!sampler_is_greedy(w->sampler) || w->n_top >= 0) wants |= WANT_LOGITS;
    if (wants_hidden(w)) wants |= WANT_HIDDEN;
    return wants;
}

static void begin_proposal(struct writer *w, unsigned s)
{
    const struct controller *c = &w->controller;
    w->proposal = (struct proposal){ .tree = &w->tree, .strategy = s, .p_of_bucket = w->p_of_bucket,
                                     .floor = controller_chances(c, s, w->p_of_bucket),
                                     .spend = c->asked[s].spend,
                                     .stop = c->choice.automatic ? c->asked[s].stop : NULL,
                                     .automatic = c->choice.automatic && strategies[s]->automatic };
}

/* Whether strategy s is to propose now; then w->proposal is its. */
static bool may_propose(struct writer *w, unsigned s)
{
    struct controller *c = &w->controller;
    struct timeline t = timeline(w);
    if (!(c->choice.strategies >> s & 1)) return false;
    c->asked[s].now = false;
    if (strategies[s]->silent && strategies[s]->silent(w->state[s], &t)) return false;
    if (!controller_asks(c, s, w->state[s], &t, &w->tree)) return false;
    begin_proposal(w, s);
    return true;
}

/* Fills the tree: every strategy without a companion that is worth asking proposes. */
static stretto_status propose(struct writer *w, uint32_t deepest, struct error *err)
{
    tree_clear(&w->tree, deepest);
    w->chain.open = false;
    w->strategy = 0;
    if (!deepest || !w->controller.choice.strategies) w->strategy = STRATEGIES_MOST;
    struct timeline t = timeline(w);
    for (unsigned s = w->strategy; s < STRATEGIES_MOST && strategies[s]; s++) {
        if (strategies[s]->chain || !may_propose(w, s)) continue;
        double begin = clock_seconds();
        TRY(strategies[s]->propose(w->state[s], &t, &w->proposal, err));
        controller_asked(&w->controller, s, clock_seconds() - begin);
    }
    return STRETTO_OK;
}

/* The next round of a writer: *waits when it has asked a companion, which has to run now. */
static stretto_status ask_companion(struct writer *w, bool *waits, struct error *err)
{
    struct timeline t = timeline(w);
    *waits = false;
    for (; w->strategy < STRATEGIES_MOST && strategies[w->strategy]; w->strategy++) {
        const struct strategy *s = strategies[w->strategy];
        if (!s->chain) continue;
        bool goes_on = w->chain.open;
        if (!goes_on && may_propose(w, w->strategy)) {
            s->chain(w->state[w->strategy], &w->chain);
            chain_begin(&w->chain, &w->proposal);
            w->asked_seconds = 0;
            goes_on = true;
        }
        if (!goes_on) continue;
        TRY(chain_ask(&w->chain, &t, &w->proposal, err));
        *waits = w->chain.open;
        if (*waits) return STRETTO_OK;
        controller_asked(&w->controller, w->strategy, w->asked_seconds);
    }
    return STRETTO_OK;
}

static stretto_status take_companion(struct writer *w, double seconds, struct error *err)
{
    w->asked_seconds += seconds;
    TRY(chain_take(&w->chain, &w->proposal, err));
    if (w->chain.open) return STRETTO_OK;
    controller_asked(&w->controller, w->strategy++, w->asked_seconds);
    return STRETTO_OK;
}

/* Companions of one program answer all that ask in the same step; the time is everybody's in equal
 * parts. */
static bool one_round(struct proposing *p, size_t n)
{
    size_t waiting = 0;
    double begin = clock_seconds();
    for (size_t i = 0; i < n; i++) {
        bool waits = false;
        if (p[i].error.status == STRETTO_OK) ask_companion(p[i].writer, &waits, &p[i].error);
        p[i].waits = waits && p[i].error.status == STRETTO_OK;
        waiting += p[i].waits;
    }
    if (!waiting) return false;
    for (size_t i = 0; i < n; i++) {
        struct companion *c = p[i].writer->chain.companion;
        if (p[i].waits) c->run(c->ud, &p[i].error);
    }
    double each = (clock_seconds() - begin) / (double)waiting;
    for (size_t i = 0; i < n; i++)
        if (p[i].waits && p[i].error.status == STRETTO_OK)
            take_companion(p[i].writer, each, &p[i].error);
    return true;
}

/* Rows for the next step's guesses, where everybody has proposed and been weighed. */
static void send_ahead(struct writer *w, unsigned s, uint32_t writers)
{
    struct controller *c = &w->controller;
    struct timeline t = timeline(w);
    uint32_t most = c->most < w->apart_most ? c->most : w->apart_most, rows = UINT32_MAX;
    double promise = 0;
    if (c->choice.automatic) rows = controller_ahead(c, s, &w->tree, most, writers, &promise);
    if (!rows) return;
    begin_proposal(w, s);
    uint32_t n = strategies[s]->ahead(w->state[s], &t, &w->proposal, rows, w->apart);
    if (strategies[s]->apart) w->n_apart = n < (most + 1) / 2 || c->choice.automatic ? n : (most + 1) / 2;
    w->promise += promise;
    if (c->choice.automatic) controller_weigh(c, &w->tree);
}

static void look_ahead(struct writer *w, uint32_t writers)
{
    if (!w->tree.deepest || !w->apart_most) return;
    for (unsigned s = 0; strategies[s]; s++) {
        if (!(w->controller.choice.strategies >> s & 1) || !strategies[s]->ahead) continue;
        if (!strategies[s]->apart || engine_gated(w->engine, w->seq)) send_ahead(w, s, writers);
    }
}

static void fill_row(struct writer *w, struct row *rows, struct answer *answers, size_t base, size_t i,
                     int32_t token, int32_t parent)
{
    const struct config *c = &engine_model(w->engine)->config;
    rows[base + i] = (struct row){ w->seq, token, parent, 0, wants_of(w) };
    answers[base + i] = (struct answer){ .logits = w->logits + i * c->vocab,
                                         .hidden = w->hidden ? w->hidden + i * c->width : NULL };
}

static stretto_status begin_step(struct writer *w, size_t room, struct error *err)
{
    uint32_t limit = limit_of(w), n = known(w);
    if (n == 0) return fail(err, STRETTO_E_ARG, "the sequence is empty; give it a prompt first");
    if (n >= limit || room == 0)
        return fail(err, STRETTO_E_FULL, "the text has reached its limit of %u tokens", limit);
    follow(w, false);
    w->n_apart = 0;
    w->promise = 0;
    w->apart_most = room > TREE_ROWS ? TREE_ROWS : (uint32_t)room - 1;
    return propose(w, room > 1 ? limit - n - 1 : 0, err);
}

void writers_propose(struct proposing *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        error_clear(&p[i].error);
        begin_step(p[i].writer, p[i].room, &p[i].error);
    }
    while (one_round(p, n)) continue;
    for (size_t i = 0; i < n; i++) {
        controller_weigh(&p[i].writer->controller, &p[i].writer->tree);
        if (p[i].error.status == STRETTO_OK) look_ahead(p[i].writer, (uint32_t)n);
    }
}

struct bid writer_bid(struct writer *w)
{
    return (struct bid){ .controller = &w->controller, .tree = &w->tree, .room = TREE_ROWS, .apart = w->n_apart,
                         .promise = w->promise };
}

size_t writer_rows(struct writer *w, struct row *rows, struct answer *answers, size_t base,
                   uint32_t guesses, uint32_t apart)
{
    struct guess_tree *d = &w->tree;
    tree_select(d, guesses);
    fill_row(w, rows, answers, base, 0, tokens(w)[known(w) - 1], ROW_COMMITTED);
    for (uint32_t i = 0; i < d->n_sent; i++) {
        const struct guess_node *n = &d->node[d->order[i]];
        int32_t parent = n->parent < 0 ? 0 : d->node[n->parent].row;
        fill_row(w, rows, answers, base, i + 1, n->token, (int32_t)base + parent);
    }
    w->first_apart = d->n_sent + 1;
    if (apart < w->n_apart) w->n_apart = apart;
    for (uint32_t i = 0; i < w->n_apart; i++) {
        uint32_t at = w->first_apart + i;
        fill_row(w, rows, answers, base, at, w->apart[i], (int32_t)(base + (i ? at - 1 : 0)));
        rows[base + at].given = ROW_APART;
        rows[base + at].wants &= (uint8_t)~WANT_HIDDEN;
    }
    return w->first_apart + w->n_apart;
}

/* The token after the row that stands at position n - 1 of the tokens. */
static stretto_status pick(struct writer *w, const struct answer *a, uint32_t n, int32_t *token,
                           struct error *err)
{
    if (sampler_is_greedy(w->sampler)) {
        *token = a->best;
        return STRETTO_OK;
    }
    return sampler_pick(w->sampler, a->logits, tokens(w), n, token, err);
}

/* The same for a token that is certain: it is scored where scores are wanted. */
static stretto_status pick_certain(struct writer *w, const struct answer *a, uint32_t n, int32_t *token,
                                   struct error *err)
{
    uint32_t vocab = engine_model(w->engine)->config.vocab;
    if (w->n_top < 0) return pick(w, a, n, token, err);
    memcpy(w->raw, a->logits, vocab * sizeof *w->raw);
    TRY(pick(w, a, n, token, err));
    if (w->drawn) sampler_score(w->sampler, *token, (uint32_t)w->n_top, &w->scores[n % SCORES]);
    else logits_score(w->raw, vocab, *token, (uint32_t)w->n_top, &w->scores[n % SCORES]);
    return STRETTO_OK;
}

void writer_ask(struct writer *w, struct row *row, struct answer *a)
{
    row->wants = sampler_is_greedy(w->sampler) ? WANT_BEST : WANT_LOGITS;
    if (w->n_top >= 0) row->wants |= WANT_LOGITS;
    if (w->heard) row->wants |= WANT_TOP;
    *a = (struct answer){ .logits = w->logits };
}

stretto_status writer_first(struct writer *w, const struct answer *a, struct error *err)
{
    int32_t token;
    TRY(pick_certain(w, a, known(w), &token, err));
    if (w->heard) w->heard(w->heard_ud, a);
    engine_push(w->engine, w->seq, token);
    follow(w, false);
    return STRETTO_OK;
}

/* What the model says after a guess that is not accepted. Who waits for exactly that gets the
 * sampler's choice, behind the guess's own ancestors; the others the best token, which is there. */
static stretto_status answer_rejected(struct writer *w, struct guess_node *node, uint32_t n,
                                      const struct answer *a, struct error *err)
{
    node->answer = a[node->row].best;
    if (!node->wanted || sampler_is_greedy(w->sampler)) return STRETTO_OK;
    int32_t at = (int32_t)(node - w->tree.node);
    for (uint32_t i = node->depth; i-- > 0; at = w->tree.node[at].parent)
        tokens(w)[n + i] = w->tree.node[at].token;
    return pick(w, &a[node->row], n + node->depth, &node->answer, err);
}

/* What follows each row apart, the rows before it being the text; what is no number ends the guesses and not the
 * text. */
static void answer_apart(struct writer *w, uint32_t n, const struct answer *a)
{
    for (uint32_t i = 0; i < w->n_apart; i++) {
        const struct answer *own = &a[w->first_apart + i];
        struct error ignored = { .status = STRETTO_OK };
        tokens(w)[n + i] = w->apart[i];
        stretto_status s = own->status;
        if (s == STRETTO_OK) s = pick(w, own, n + i + 1, &w->apart_next[i], &ignored);
        if (s != STRETTO_OK) w->n_apart = i;
    }
}

static bool is_end(const struct writer *w, int32_t token)
{
    return w->ends && w->ends(w->ends_ud, token);
}

/* Walks down from the root while the sampler's choice was sent. The new tokens stand behind n, and
 * count only when everything has gone well. */
static stretto_status verify(struct writer *w, const struct answer *a, int32_t *path,
                             uint32_t *n_path, int32_t *root_answer, struct error *err)
{
    uint32_t n = known(w), limit = limit_of(w);
    int32_t at = TREE_ROOT, token, *text = tokens(w);
    *n_path = 0;
    TRY(pick_certain(w, a, n, &token, err));
    *root_answer = token;
    for (text[n++] = token; n < limit && !is_end(w, token); text[n++] = token) {
        int32_t next = tree_find(&w->tree, at, token);
        if (next < 0 || !w->tree.node[next].row) break;
        at = next;
        TRY(pick_certain(w, &a[w->tree.node[at].row], n, &token, err));
        w->tree.node[at].answer = token;
        path[(*n_path)++] = at;
    }
    return STRETTO_OK;
}

/* `a`: of the last accepted row, which stands at position n - 2. */
static void keep_hidden(struct writer *w, const struct answer *a)
{
    if (!wants_hidden(w)) return;
    memcpy(w->hidden_last, a->hidden, engine_model(w->engine)->config.width * sizeof *a->hidden);
    w->setup.heads->hidden = w->hidden_last;
    w->setup.heads->hidden_at = known(w);
}

/* A guess without an answer (no room for it, or what the model said is no number) counts as not sent. */
static void drop_unanswered(struct guess_tree *d, const struct answer *a)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->n_sent; i++) {
        struct guess_node *node = &d->node[d->order[i]];
        if (a[node->row].status == STRETTO_OK) d->order[n++] = d->order[i];
        else node->row = 0;
    }
    d->n_sent = n;
}

/* The sampler's own choices along the tree decide what was right; rejected rows are answered too for who wants
 * them. The timeline changes only once nothing can fail any more. */
stretto_status writer_take(struct writer *w, size_t base, const struct answer *a, double seconds,
                           double price, struct error *err)
{
    struct guess_tree *d = &w->tree;
    int32_t path[TREE_ROWS], row[TREE_ROWS + 1], truth[TREE_ROWS + 1], root_answer = -1;
    uint32_t n_path = 0, n = known(w);
    drop_unanswered(d, a);
    TRY(verify(w, a, path, &n_path, &root_answer, err));
    memcpy(truth, tokens(w) + n, (n_path + 1) * sizeof *truth);
    for (uint32_t i = 0; i < d->n_sent; i++) {
        struct guess_node *node = &d->node[d->order[i]];
        if (node->answer < 0) TRY(answer_rejected(w, node, n, a, err));
    }
    answer_apart(w, n, a);
    for (uint32_t i = 0; w->heard && i <= n_path; i++)
        w->heard(w->heard_ud, &a[i ? d->node[path[i - 1]].row : 0]);
    row[0] = (int32_t)base;
    for (uint32_t i = 0; i < n_path; i++) row[i + 1] = (int32_t)base + d->node[path[i]].row;
    engine_accept(w->engine, w->seq, row, n_path + 1);
    engine_push(w->engine, w->seq, truth[n_path]);
    follow(w, false);
    keep_hidden(w, &a[n_path ? d->node[path[n_path - 1]].row : 0]);
    struct outcome o = { .tree = d, .root_answer = root_answer, .path = path, .n_path = n_path,
                         .now = timeline(w), .answers = a, .apart_next = w->apart_next,
                         .apart = a + w->first_apart, .n_apart = w->n_apart };
    for (unsigned s = 0; strategies[s]; s++)
        if ((w->controller.choice.strategies >> s & 1) && strategies[s]->observe)
            strategies[s]->observe(w->state[s], &o);
    controller_learn(&w->controller, &o, price);
    if (w->watch) w->watch(w->watch_ud, &o, seconds);
    return STRETTO_OK;
}

bool writer_done(const struct writer *w)
{
    uint32_t n = known(w);
    return n >= limit_of(w) || (n > w->handed && is_end(w, tokens(w)[n - 1]));
}

bool writer_next(struct writer *w, int32_t *token)
{
    if (w->handed >= known(w)) return false;
    *token = tokens(w)[w->handed++];
    return true;
}

void writer_score(struct writer *w, int32_t n_top) { w->n_top = n_top; }

void writer_score_drawn(struct writer *w, bool drawn) { w->drawn = drawn; }

const struct token_logprobs *writer_scores(const struct writer *w)
{
    return &w->scores[(w->handed - 1) % SCORES];
}

size_t writer_places(struct writer *w, struct answer *places, size_t room)
{
    uint32_t vocab = engine_model(w->engine)->config.vocab;
    size_t n = w->controller.most + 1 < room ? w->controller.most + 1 : room;
    for (size_t i = 0; i < n; i++) places[i] = (struct answer){ .logits = w->logits + i * vocab };
    return n;
}

void writer_trim(struct writer *w)
{
    if (w->handed >= known(w)) return;
    engine_rewind(w->engine, w->seq, w->handed);
    engine_forget(w->engine, w->seq, w->handed - 1);
    follow(w, false);
}

void writer_heard(struct writer *w, void (*heard)(void *ud, const struct answer *a), void *ud)
{
    w->heard = heard;
    w->heard_ud = ud;
}

void writer_follow(struct writer *w, const struct writer *other)
{
    writer_limit(w, other->limit, other->ends, other->ends_ud);
    writer_watch(w, other->watch, other->watch_ud);
    writer_heard(w, other->heard, other->heard_ud);
}

const struct decode_counts *writer_counts(const struct writer *w) { return &w->controller.counts; }

void writer_watch(struct writer *w, void (*watch)(void *ud, const struct outcome *o, double seconds),
                  void *ud)
{
    w->watch = watch;
    w->watch_ud = ud;
}
