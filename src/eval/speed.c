#include "eval/speed.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include <string.h>

static int32_t random_token(const struct engine *e, uint64_t seed, uint64_t seq, uint64_t at)
{
    return (int32_t)(random_at(seed, seq, at, 0) % engine_model(e)->config.vocab);
}

static stretto_status fill(struct engine *e, int32_t seq, uint32_t n, uint64_t seed, int32_t *ids,
                           struct error *err)
{
    for (uint32_t i = 0; i < n; i++) ids[i] = random_token(e, seed, (uint64_t)seq, i);
    struct answer last;
    return n ? engine_feed(e, seq, ids, n, WANT_BEST, &last, err) : STRETTO_OK;
}

static stretto_status write_tokens(struct engine *e, const struct speed_test *t, struct row *rows,
                                   struct answer *last, struct error *err)
{
    for (uint32_t i = 0; i < t->generate; i++) {
        for (uint32_t s = 0; s < t->sequences; s++)
            rows[s] = (struct row){(int32_t)s, last[s].best, ROW_COMMITTED, 0, WANT_BEST};
        TRY(engine_step(e, rows, t->sequences, last, err));
        for (uint32_t s = 0; s < t->sequences; s++) engine_commit(e, (int32_t)s, 1);
    }
    return STRETTO_OK;
}

/* Times of operations are taken of the test proper, not of the depth before it. */
static stretto_status run_once(struct engine *e, const struct speed_test *t, uint64_t seed,
                               bool profile, double *seconds, struct error *err)
{
    size_t most = t->depth > t->prompt ? t->depth : t->prompt;
    int32_t *ids = mem_alloc((most + 1) * sizeof *ids);
    struct answer *last = mem_zalloc(t->sequences, sizeof *last);
    struct row *rows = mem_zalloc(t->sequences, sizeof *rows);
    stretto_status s =
        ids && last && rows ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "out of memory");
    for (uint32_t i = 0; s == STRETTO_OK && i < t->sequences; i++) {
        engine_rewind(e, (int32_t)i, 0);
        s = fill(e, (int32_t)i, t->depth, seed, ids, err);
        if (s == STRETTO_OK) last[i].best = random_token(e, seed, i, t->depth);
    }
    if (s == STRETTO_OK && profile) s = engine_profile(e, true, err);
    double begin = clock_seconds();
    if (s == STRETTO_OK && t->prompt)
        for (uint32_t i = 0; s == STRETTO_OK && i < t->sequences; i++)
            s = fill(e, (int32_t)i, t->prompt, seed + 1, ids, err);
    else if (s == STRETTO_OK) s = write_tokens(e, t, rows, last, err);
    *seconds = clock_seconds() - begin;
    mem_free(ids);
    mem_free(last);
    mem_free(rows);
    return s;
}

stretto_status speed_once(struct engine *e, const struct speed_test *t, uint64_t seed,
                          double *seconds, struct error *err)
{
    return run_once(e, t, seed, false, seconds, err);
}

stretto_status speed_profile(struct engine *e, const struct speed_test *t, uint64_t seed,
                             double *seconds, struct op_time *ops, size_t cap, size_t *n,
                             struct error *err)
{
    *n = 0;
    stretto_status s = run_once(e, t, seed, true, seconds, err);
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
    double slot = (double)engine_about(e)->page / PAGE_SLOTS / m->graph.layers, slots = 0;
    for (size_t i = 0; i < m->graph.n_nodes; i++) {
        const struct graph_node *n = &m->graph.nodes[i];
        uint32_t window = n->op == OP_ATTENTION ? n->attention.window : 0;
        if (n->op == OP_ATTENTION) slots += window && window < depth ? window : depth;
    }
    return bytes + slot * slots * sequences;
}
