/* What the machine can do at all with so many threads: how fast it reads memory, how fast it multiplies
 * and adds. The best of several passes: neighbours on the machine make a pass slow, never fast. */
#include "backend/cpu/cpu.h"
#include "base/clock.h"
#include "base/memory.h"
#include <string.h>

enum { LINE = 8, AHEAD = 64 * LINE }; /* words of 8 bytes */

struct reading {
    const uint64_t *data[2];
    size_t words[2];
    unsigned threads;
    uint64_t sum[TEAM_MAX];
};

/* Several sums, so that loads and not additions are the limit. */
static uint64_t read_words(const uint64_t *p, size_t n)
{
    uint64_t a[2 * LINE] = {0}, sum = 0;
    for (size_t i = 0; i + 2 * LINE <= n; i += 2 * LINE) {
        __builtin_prefetch(p + i + AHEAD);
        __builtin_prefetch(p + i + AHEAD + LINE);
        for (size_t k = 0; k < 2 * LINE; k++) a[k] += p[i + k];
    }
    for (size_t k = 0; k < 2 * LINE; k++) sum += a[k];
    return sum;
}

static void read_part(void *arg, unsigned rank)
{
    struct reading *r = arg;
    uint64_t sum = 0;
    for (int i = 0; i < 2; i++) {
        size_t each = r->words[i] / r->threads & ~(size_t)(2 * LINE - 1);
        sum += read_words(r->data[i] + rank * each, each);
    }
    r->sum[rank] = sum;
}

/* The best of several passes: neighbours on the machine make one slow, nothing makes one too fast. */
stretto_status cpu_roof_bytes(const struct weights *w, unsigned threads, size_t bytes, double *rate,
                              struct error *err)
{
    enum { PASSES = 12 };
    threads = cpu_threads(w->device, threads);
    TRY(team_grow(w->device->team, threads, err));
    size_t more = bytes > w->bytes ? bytes - w->bytes : 0;
    char *own = more ? mem_map(more) : NULL;
    if (more && !own) return fail(err, STRETTO_E_NOMEM, "no memory for reading %zu bytes", bytes);
    if (own) memset(own, 1, more);
    struct reading r = { .data = { w->memory, (uint64_t *)(void *)own },
                         .words = { (bytes - more) / 8, more / 8 }, .threads = threads };
    for (int i = 0; i < PASSES; i++) {
        double begin = clock_seconds();
        team_run(w->device->team, threads, read_part, &r);
        double seconds = clock_seconds() - begin;
        if (seconds > 0 && (double)bytes / seconds > *rate) *rate = (double)bytes / seconds;
    }
    mem_unmap(own, more);
    return STRETTO_OK;
}

struct multiplying { peak_fn *peak; size_t rounds; uint64_t done[TEAM_MAX]; };

static void multiply_part(void *arg, unsigned rank)
{
    struct multiplying *x = arg;
    x->done[rank] = x->peak(x->rounds);
}

stretto_status cpu_roof_macs(const struct weights *w, unsigned threads,
                             double rate[ARITHMETIC_KINDS], struct error *err)
{
    enum { PASSES = 9 };
    threads = cpu_threads(w->device, threads);
    TRY(team_grow(w->device->team, threads, err));
    for (int k = 0; k < ARITHMETIC_KINDS; k++) {
        struct multiplying x = { .peak = w->kernels->peak[k], .rounds = 1000 };
        for (int i = 0; x.peak && i < PASSES;) {
            double begin = clock_seconds(), done = 0;
            team_run(w->device->team, threads, multiply_part, &x);
            double seconds = clock_seconds() - begin;
            for (unsigned t = 0; t < threads; t++) done += (double)x.done[t];
            if (seconds < 3e-3) { /* long beside waking the threads */
                x.rounds *= 4;
                continue;
            }
            if (done / seconds > rate[k]) rate[k] = done / seconds;
            i++;
        }
    }
    return STRETTO_OK;
}
