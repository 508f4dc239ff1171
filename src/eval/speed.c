#include "eval/speed.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include <string.h>
#include <time.h>

static int32_t random_token(const struct engine *e, uint64_t seed, uint64_t seq, uint64_t at)
{
    return (int32_t)(random_at(seed, seq, at, 0) % engine_model(e)->config.vocab);
}

static stretto_status fill(struct engine *e, int32_t seq, uint32_t n, uint64_t seed, int32_t *ids,
                           struct error *err)
{
    for (uint32_t i = 0; i < n; i++) ids[i] = random_token(e, seed, (uint64_t)seq, i);
    int32_t best;
    struct answers a = { .best = &best };
    return n ? engine_feed(e, seq, ids, n, ASK_BEST, &a, err) : STRETTO_OK;
}

static stretto_status write_tokens(struct engine *e, const struct speed_test *t, struct row *rows,
                                   int32_t *best, struct error *err)
{
    struct answers a = { .best = best };
    for (uint32_t i = 0; i < t->generate; i++) {
        for (uint32_t s = 0; s < t->sequences; s++)
            rows[s] = (struct row){ (int32_t)s, best[s], ROW_COMMITTED, 0, ASK_BEST };
        TRY(engine_step(e, rows, t->sequences, &a, err));
        for (uint32_t s = 0; s < t->sequences; s++) engine_commit(e, (int32_t)s, 1);
    }
    return STRETTO_OK;
}

stretto_status speed_once(struct engine *e, const struct speed_test *t, uint64_t seed,
                          double *seconds, struct error *err)
{
    size_t most = t->depth > t->prompt ? t->depth : t->prompt;
    int32_t *ids = mem_alloc((most + 1) * sizeof *ids),
            *best = mem_alloc(t->sequences * sizeof *best);
    struct row *rows = mem_zalloc(t->sequences, sizeof *rows);
    stretto_status s =
        ids && best && rows ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "out of memory");
    for (uint32_t i = 0; s == STRETTO_OK && i < t->sequences; i++) {
        engine_rewind(e, (int32_t)i, 0);
        s = fill(e, (int32_t)i, t->depth, seed, ids, err);
        if (s == STRETTO_OK) best[i] = random_token(e, seed, i, t->depth);
    }
    double begin = clock_seconds();
    if (s == STRETTO_OK && t->prompt)
        for (uint32_t i = 0; s == STRETTO_OK && i < t->sequences; i++)
            s = fill(e, (int32_t)i, t->prompt, seed + 1, ids, err);
    else if (s == STRETTO_OK)
        s = write_tokens(e, t, rows, best, err);
    *seconds = clock_seconds() - begin;
    mem_free(ids);
    mem_free(best);
    mem_free(rows);
    return s;
}

struct roof { const uint64_t *data; size_t words; unsigned threads; uint64_t sum[TEAM_MAX]; };

/* Many sums, so that loads and not additions are the limit. */
static void read_part(void *arg, unsigned rank)
{
    struct roof *r = arg;
    size_t each = r->words / r->threads & ~(size_t)31;
    const uint64_t *p = r->data + rank * each;
    uint64_t a[32] = { 0 };
    for (size_t i = 0; i < each; i += 32)
        for (size_t k = 0; k < 32; k++) a[k] += p[i + k];
    uint64_t sum = 0;
    for (size_t k = 0; k < 32; k++) sum += a[k];
    r->sum[rank] = sum;
}

stretto_status speed_roof(const struct model *m, unsigned threads, double *rate, struct error *err)
{
    struct team *team;
    *rate = 0;
    size_t bytes = m->backend->weights_bytes(m->weights);
    const void *data = m->backend->weights_view(m->weights);
    if (!data) return STRETTO_OK;
    TRY(team_open(&team, threads, err));
    struct roof r = { .data = data, .words = bytes / 8, .threads = team_size(team) };
    for (int i = 0; i < 9; i++) {
        double begin = clock_seconds();
        team_run(team, read_part, &r);
        double s = clock_seconds() - begin;
        if (s > 0 && (double)bytes / s > *rate) *rate = (double)bytes / s;
    }
    team_close(team);
    return STRETTO_OK;
}

double speed_token_bytes(const struct engine *e, uint32_t depth)
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
    return bytes + (double)engine_about(e)->page / PAGE_SLOTS * depth;
}
