#include "engine/probe.h"
#include "base/clock.h"
#include "base/random.h"

enum { MOST = 64, SIZES = 24 };

static int32_t token(const struct engine *e, uint32_t i)
{
    return (int32_t)(random_mix(i) % engine_model(e)->config.vocab);
}

static stretto_status one(struct engine *e, int32_t seq, uint32_t rows, double *seconds,
                          struct error *err)
{
    struct row row[MOST];
    struct answer answers[MOST];
    for (uint32_t i = 0; i < rows; i++)
        row[i] = (struct row){ seq, token(e, 977 + i), i ? (int32_t)i - 1 : ROW_COMMITTED, 0,
                               WANT_BEST };
    double begin = clock_seconds();
    TRY(engine_step(e, row, rows, answers, err));
    *seconds = clock_seconds() - begin;
    return STRETTO_OK;
}

static void insert(double *sorted, unsigned n, double x)
{
    while (n && sorted[n - 1] > x) {
        sorted[n] = sorted[n - 1];
        n--;
    }
    sorted[n] = x;
}

static stretto_status probe(struct engine *e, int32_t seq, uint32_t depth, const uint32_t *rows,
                            double *seconds, size_t n, unsigned times, struct error *err)
{
    double sorted[SIZES][MOST], x;
    int32_t text[MOST];
    for (uint32_t at = 0; at < depth; at += MOST) {
        uint32_t k = depth - at < MOST ? depth - at : MOST;
        for (uint32_t i = 0; i < k; i++) text[i] = token(e, at + i);
        TRY(engine_feed(e, seq, text, k, 0, NULL, err));
    }
    for (size_t i = 0; i < n; i++) TRY(one(e, seq, rows[i], &x, err));   /* the first time pays more */
    for (unsigned t = 0; t < times; t++)
        for (size_t i = 0; i < n; i++) {
            TRY(one(e, seq, rows[i], &x, err));
            insert(sorted[i], t, x);
        }
    for (size_t i = 0; i < n; i++) seconds[i] = sorted[i][times / 2];
    return STRETTO_OK;
}

stretto_status engine_probe(struct engine *e, int32_t seq, uint32_t depth, const uint32_t *rows,
                            double *seconds, size_t n, unsigned times, struct error *err)
{
    if (n > SIZES || times < 1 || times > MOST)
        return fail(err, STRETTO_E_ARG, "a probe takes up to %d numbers of rows, 1 to %d times",
                    SIZES, MOST);
    for (size_t i = 0; i < n; i++)
        if (rows[i] < 1 || rows[i] > MOST)
            return fail(err, STRETTO_E_ARG, "a probe of %u rows; 1 to %d", rows[i], MOST);
    engine_rewind(e, seq, 0);
    stretto_status s = probe(e, seq, depth, rows, seconds, n, times, err);
    engine_rewind(e, seq, 0);
    return s;
}
