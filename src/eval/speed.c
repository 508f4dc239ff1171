#include "eval/speed.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "engine/writers.h"
#include <string.h>

static int32_t random_token(const struct engine *e, uint64_t seed, uint64_t seq, uint64_t at)
{
    return (int32_t)(random_at(seed, seq, at, 0) % engine_model(e)->config.vocab);
}

/* n more tokens at the end of a sequence's text, read in steps of their own. */
static stretto_status read_tokens(struct engine *e, int32_t seq, uint32_t n, uint64_t seed,
                                  int32_t *ids, struct error *err)
{
    struct answer last;
    uint32_t have = engine_known(e, seq);
    if (!n) return STRETTO_OK;
    memcpy(ids, engine_tokens(e, seq), have * sizeof *ids);
    for (uint32_t i = 0; i < n; i++) ids[have + i] = random_token(e, seed, (uint64_t)seq, i);
    engine_set(e, seq, ids, have + n, have);
    struct request r = { .seq = seq, .wants = WANT_BEST, .first = have + n - 1, .room = 1,
                         .places = &last };
    return request_run(e, &r, err);
}

/* All of them, `tokens` each, in the same steps. */
static stretto_status write_tokens(struct engine *e, struct writers *x, uint32_t tokens,
                                   struct error *err)
{
    for (uint32_t i = 0, id; i < x->n; i++) {
        struct request r = { .seq = x->w[i].seq, .writer = x->w[i].writer };
        uint32_t all = engine_known(e, r.seq) + tokens, context = engine_about(e)->context;
        if (all > context)
            return fail(err, STRETTO_E_FULL, "a test up to token %u in a context of %u", all, context);
        writer_begin(r.writer);
        writer_limit(r.writer, engine_known(e, r.seq) + tokens, NULL, NULL);
        TRY(request_add(e, &r, &id, err));
    }
    while (requests_count(e)) {
        size_t n;
        TRY(engine_turn(e, x->events, x->n, &n, err));
        for (size_t i = 0; i < n; i++)
            if (x->events[i].error.status != STRETTO_OK)
                return fail(err, x->events[i].error.status, "%s", x->events[i].error.text);
    }
    return STRETTO_OK;
}

/* Clock and meters now, or negative numbers. */
static struct speed_cost meters_read(const struct engine *e, struct energy *meter)
{
    struct device *d = engine_model(e)->device;
    struct speed_cost c = { .joules = meter ? energy_joules(meter) : -1,
                            .card_joules = d->backend->joules ? d->backend->joules(d) : -1 };
    c.seconds = clock_seconds();
    return c;
}

static double since(double begin, double end) { return begin < 0 || end < begin ? -1 : end - begin; }

/* Times of operations are taken of the test proper, not of the depth before it. */
static stretto_status run_once(struct engine *e, const struct speed_test *t, uint64_t seed, bool profile,
                               struct energy *meter, struct speed_cost *cost, struct error *err)
{
    struct writers x = { .n = 0 };
    int32_t *ids = mem_alloc(((size_t)t->depth + t->prompt + 1) * sizeof *ids);
    stretto_status s = ids ? writers_open(e, &x, t->sequences, err)
                           : fail(err, STRETTO_E_NOMEM, "out of memory");
    for (uint32_t i = 0; s == STRETTO_OK && i < t->sequences; i++) {
        s = read_tokens(e, x.w[i].seq, t->depth, seed, ids, err);
        if (s == STRETTO_OK && t->generate)
            engine_push(e, x.w[i].seq, random_token(e, seed, i, t->depth));
    }
    if (s == STRETTO_OK && profile) s = engine_profile(e, true, err);
    struct speed_cost begin = meters_read(e, meter);
    for (uint32_t i = 0; s == STRETTO_OK && t->prompt && i < t->sequences; i++)
        s = read_tokens(e, x.w[i].seq, t->prompt, seed + 1, ids, err);
    if (s == STRETTO_OK && !t->prompt) s = write_tokens(e, &x, t->generate, err);
    double end = clock_seconds();
    *cost = meters_read(e, meter);
    cost->seconds = end - begin.seconds;
    cost->joules = since(begin.joules, cost->joules);
    cost->card_joules = since(begin.card_joules, cost->card_joules);
    requests_drop(e);
    writers_close(e, &x);
    mem_free(ids);
    return s;
}

stretto_status speed_once(struct engine *e, const struct speed_test *t, uint64_t seed,
                          struct energy *meter, struct speed_cost *cost, struct error *err)
{
    return run_once(e, t, seed, false, meter, cost, err);
}

stretto_status speed_profile(struct engine *e, const struct speed_test *t, uint64_t seed,
                             double *seconds, struct op_time *ops, size_t cap, size_t *n,
                             struct error *err)
{
    *n = 0;
    struct speed_cost cost;
    stretto_status s = run_once(e, t, seed, true, NULL, &cost, err);
    *seconds = cost.seconds;
    if (s == STRETTO_OK && cap) {
        *n = engine_profile_read(e, ops, cap - 1);
        double sum = 0;
        for (size_t i = 0; i < *n; i++) sum += ops[i].seconds;
        uint64_t steps = *n ? ops[*n - 1].count : 0;
        ops[(*n)++] = (struct op_time){.name = "engine", .count = steps, .seconds = *seconds - sum};
    }
    engine_profile(e, false, err);
    return s;
}

/* ---- roofs ----------------------------------------------------------------------------------- */

stretto_status speed_roof_bytes(const struct model *m, unsigned threads, double bytes,
                                struct speed_roof *out, struct error *err)
{
    const struct backend *b = m->device->backend;
    size_t want = bytes > 0 ? (size_t)bytes : b->weights_bytes(m->weights);
    out->bytes = 0;
    return b->roof_bytes ? b->roof_bytes(m->weights, threads, want, &out->bytes, err) : STRETTO_OK;
}

stretto_status speed_roof_macs(const struct model *m, unsigned threads, struct speed_roof *out,
                               struct error *err)
{
    const struct backend *b = m->device->backend;
    return b->roof_macs ? b->roof_macs(m->weights, threads, out->macs, err) : STRETTO_OK;
}

double speed_roof_seconds(const struct speed_roof *r, const struct op_time *op)
{
    double reading = r->bytes > 0 ? op->bytes / r->bytes : 0;
    double rate = r->macs[op->arithmetic], adding = rate > 0 ? op->macs / rate : 0;
    return reading > adding ? reading : adding;
}

double speed_cache_bytes(const struct engine *e, uint32_t tokens, uint32_t sequences)
{
    const struct engine_info *i = engine_about(e);
    const struct graph *g = &engine_model(e)->graph;
    uint32_t all = (tokens + PAGE_SLOTS - 1) / PAGE_SLOTS, ahead = (i->max_rows + PAGE_SLOTS - 1) / PAGE_SLOTS;
    double bytes = 0;
    for (uint32_t k = 0; k < g->n_groups; k++) {
        double pages = (double)cache_held(&g->group[k], all) * sequences + ahead;
        if (pages > (double)all * sequences) pages = (double)all * sequences;
        bytes += pages * (double)i->group[k].page;
    }
    return bytes;
}

double speed_step_bytes(const struct engine *e, uint32_t depth, uint32_t sequences)
{
    const struct model *m = engine_model(e);
    double bytes = 0;
    for (size_t i = 0; i < source_tensor_count(m->source); i++) {
        const struct source_tensor *t = source_tensor_at(m->source, i);
        bool lookup = strcmp(t->name, "token_embd.weight") == 0 ||
                      strcmp(t->name, "position_embd.weight") == 0;
        if (!lookup || (m->config.tied && strcmp(t->name, "token_embd.weight") == 0))
            bytes += (double)t->bytes;
    }
    for (uint32_t i = 0; i < m->graph.n_groups; i++) {
        uint32_t window = m->graph.group[i].window, sees = window && window < depth ? window : depth;
        bytes += (double)engine_about(e)->group[i].page / PAGE_SLOTS * sees * sequences;
    }
    return bytes;
}
