/* Adapters of some sequences, or of some of their rows: which rows of a step are in which set (graph.h), and what the
 * tree of pages is told, so that nobody's pages are taken for another's. An adapter's set has its number. */
#include "base/random.h"
#include "engine/engine_int.h"
#include <math.h>
#include <string.h>

static uint32_t count_of(const struct engine *e) { return e->model->graph.n_sets ? (uint32_t)e->model->n_adapters : 0; }

void adapted_plan(struct engine *e, struct arena *a)
{
    uint32_t n = count_of(e), rows = e->info.max_rows;
    if (!n) return;
    e->set_at = arena_take(a, (n + 1) * sizeof *e->set_at);
    e->set_row = arena_take(a, (size_t)n * rows * sizeof *e->set_row);
    e->set_weight = arena_take(a, (size_t)n * rows * sizeof *e->set_weight);
    for (uint32_t i = 0; i < e->n_seqs; i++) {
        float *weights = arena_take(a, n * sizeof *weights);
        if (a->base) e->seqs[i].adapters = weights;
    }
}

const float *engine_adapters(const struct engine *e, int32_t seq) { return e->seqs[seq].adapters; }

bool engine_gated(const struct engine *e, int32_t seq)
{
    for (uint32_t i = 0; i < count_of(e); i++)
        if (e->model->adapters[i].pairs.rows == ADAPTER_GUESSES && e->seqs[seq].adapters[i] != 0) return true;
    return false;
}

void engine_weights(const struct engine *e, const float *weights, float out[GRAPH_SETS])
{
    for (uint32_t i = 0; i < count_of(e); i++) {
        const struct model_adapter *a = &e->model->adapters[i];
        if (!model_adapter_in_set(a)) out[i] = 0;
        else out[i] = weights ? weights[i] : a->chosen ? 0 : a->scale;
    }
}

/* ---- what the tree knows ---------------------------------------------------------------------- */

static uint8_t acts_on(const struct model_adapter *a)
{
    static const uint8_t acts[ADAPTER_ROWS] = { [ADAPTER_ALL] = ADAPTS_GIVEN | ADAPTS_WRITTEN,
                                                [ADAPTER_GIVEN] = ADAPTS_GIVEN, [ADAPTER_ANSWERS] = ADAPTS_WRITTEN };
    return acts[a->pairs.rows];
}

static bool waits(const struct model_adapter *a, bool uninvoked) { return uninvoked && a->pairs.n_invocation; }

void adapted_view(const struct engine *e, const float *weights, bool uninvoked, struct prefix_seq *s)
{
    uint64_t key = 0;
    s->adapts = 0;
    s->by_role = false;
    for (uint32_t i = 0; i < count_of(e); i++) {
        const struct model_adapter *a = &e->model->adapters[i];
        uint32_t bits;
        if (weights[i] == 0 || waits(a, uninvoked) || !acts_on(a)) continue;
        memcpy(&bits, &weights[i], sizeof bits);
        key = random_mix(random_mix(key ^ a->key) ^ bits);
        s->adapts |= acts_on(a);
        s->by_role |= acts_on(a) != (ADAPTS_GIVEN | ADAPTS_WRITTEN);
    }
    s->exact |= s->by_role;
    s->adapted = random_mix(s->salt ^ key);
    if (s->adapted == s->salt) s->adapted++;
}

void adapted_reset(struct engine *e, struct sequence *s)
{
    engine_weights(e, NULL, s->adapters);
    s->uninvoked = false;
    s->at.exact = s->exact = false;
    adapted_view(e, s->adapters, false, &s->at);
}

bool engine_reads_alike(const struct engine *e, const float *a, const float *b)
{
    struct prefix_seq x = { .salt = 0 }, y = { .salt = 0 };
    float of[2][GRAPH_SETS] = { { 0 } };
    engine_weights(e, a, of[0]);
    engine_weights(e, b, of[1]);
    adapted_view(e, of[0], false, &x);
    adapted_view(e, of[1], false, &y);
    if (!(x.adapts & ADAPTS_GIVEN) && !(y.adapts & ADAPTS_GIVEN)) return true;
    return x.adapts == y.adapts && x.adapted == y.adapted;
}

static stretto_status check(const struct engine *e, const float *weights, struct error *err)
{
    const struct model_adapter *behind = NULL;
    for (uint32_t i = 0; i < count_of(e); i++) {
        const struct model_adapter *a = &e->model->adapters[i];
        if (!isfinite(weights[i])) return fail(err, STRETTO_E_ARG, "the scale of an adapter is no number");
        if (!a->pairs.n_invocation || weights[i] == 0) continue;
        bool other = behind && (behind->pairs.n_invocation != a->pairs.n_invocation
                                || memcmp(behind->pairs.invocation, a->pairs.invocation,
                                          a->pairs.n_invocation * sizeof *a->pairs.invocation) != 0);
        if (other)
            return fail(err, STRETTO_E_ARG, "%.100s and %.100s act behind different tokens: choose one of them",
                        behind->path, a->path);
        behind = a;
    }
    return STRETTO_OK;
}

stretto_status engine_weights_check(const struct engine *e, const float *weights, struct error *err)
{
    float meant[GRAPH_SETS] = { 0 };
    engine_weights(e, weights, meant);
    return check(e, meant, err);
}

stretto_status engine_adapt(struct engine *e, int32_t seq, const float *weights, struct error *err)
{
    struct sequence *s = &e->seqs[seq];
    struct prefix_seq view = { .salt = s->at.salt, .exact = s->exact };
    float new[GRAPH_SETS] = { 0 };
    if (!count_of(e)) return STRETTO_OK;
    engine_weights(e, weights, new);
    TRY(check(e, new, err));
    adapted_view(e, new, s->uninvoked, &view);
    if (view.adapts != s->at.adapts || view.by_role != s->at.by_role || view.adapted != s->at.adapted) {
        prefix_leave(&e->prefix, &s->at);
        engine_forget(e, seq, 0);
    }
    s->at.goal.node = PREFIX_NONE;
    memcpy(s->adapters, new, count_of(e) * sizeof *new);
    s->at.adapts = view.adapts;
    s->at.adapted = view.adapted;
    s->at.by_role = view.by_role;
    s->at.exact = view.exact;
    return STRETTO_OK;
}

/* ---- where answers begin ---------------------------------------------------------------------- */

static uint32_t last_place(const int32_t *tokens, uint32_t n, const struct adapter *a)
{
    uint32_t k = (uint32_t)a->n_invocation;
    for (uint32_t at = n >= k ? n - k + 1 : 0; at-- > 0;)
        if (memcmp(tokens + at, a->invocation, k * sizeof *tokens) == 0) return at;
    return n;
}

uint32_t adapted_begin(struct engine *e, struct sequence *s, const int32_t *tokens, uint32_t n)
{
    const struct adapter *answers = NULL, *behind = NULL;
    for (uint32_t i = 0; i < count_of(e); i++) {
        const struct adapter *a = &e->model->adapters[i].pairs;
        if (s->adapters[i] == 0 || a->rows != ADAPTER_ANSWERS) continue;
        answers = a;
        if (a->n_invocation) behind = a;
    }
    if (!answers) return n;
    uint32_t begin = behind ? last_place(tokens, n, behind) : n - 1;
    bool uninvoked = begin == n;
    if (uninvoked != s->uninvoked) {
        prefix_leave(&e->prefix, &s->at);
        engine_forget(e, (int32_t)(s - e->seqs), 0);
        s->uninvoked = uninvoked;
        s->at.exact = s->exact;
        adapted_view(e, s->adapters, uninvoked, &s->at);
    }
    return begin;
}

/* ---- rows ------------------------------------------------------------------------------------- */

static bool acts_here(const struct engine *e, const struct model_adapter *a, int32_t row)
{
    switch (a->pairs.rows) {
    case ADAPTER_GIVEN: return e->given[row];
    case ADAPTER_ANSWERS: return !e->given[row];
    case ADAPTER_GUESSES: return e->apart[row];
    default: return true;
    }
}

void adapted_rows(struct engine *e, struct step *st)
{
    uint32_t n = count_of(e);
    int32_t at = 0;
    for (uint32_t i = 0; i < n; e->set_at[++i] = at) {
        const struct model_adapter *a = &e->model->adapters[i];
        e->set_at[i] = at;
        for (size_t q = 0; q < st->n_seqs; q++) {
            const struct sequence *s = e->owner[q];
            int32_t first = e->step_seqs[q].first_row, end = first + e->step_seqs[q].n_rows;
            if (s->adapters[i] == 0 || waits(a, s->uninvoked)) continue;
            for (int32_t row = first; row < end; row++) {
                if (!acts_here(e, a, row)) continue;
                e->set_row[at] = row;
                e->set_weight[at++] = s->adapters[i];
            }
        }
    }
    if (!at) return;
    st->set_at = e->set_at;
    st->set_row = e->set_row;
    st->set_weight = e->set_weight;
}
