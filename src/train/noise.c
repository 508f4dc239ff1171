#include "train/noise.h"
#include "base/random.h"

/* What random_at is asked for. */
enum { DRAW_OFFSET = 21, DRAW_RAMP, DRAW_KIND, DRAW_TOKEN, DRAW_HALF, DRAW_SOURCE };

static const struct sample *sample_of(const struct noise *x) { return &x->lines->sample[x->sample]; }

/* What is drawn for this copy in this epoch, at a place of the sample. */
static uint64_t draw(const struct noise *x, unsigned what, uint32_t place)
{
    uint64_t copy = x->epoch * NOISE_COPIES + x->copy;
    const struct sample *s = sample_of(x);
    return random_at(x->how->seed, copy << 8 | what, (uint64_t)s->file << 32 | s->line, place);
}

/* ---- windows --------------------------------------------------------------------------------- */

/* The next run of tokens that count behind `to`. */
static bool next_run(struct noise *x)
{
    const struct sample *s = sample_of(x);
    const float *w = sample_weights(x->lines, s);
    x->from = x->to;
    while (x->from <= s->last && !(w[x->from] > 0)) x->from++;
    x->to = x->from;
    while (x->to <= s->last && w[x->to] > 0) x->to++;
    return x->from < x->to;
}

static uint32_t window_of(const struct noise *x) { return x->how->block * (x->copy % 2 ? 2 : 1); }

/* The window that begins behind the last one; the first of a run is what stands before its blocks begin. */
static bool next_window(struct noise *x)
{
    uint32_t at = x->n ? x->at + x->n : x->from, first = x->from + x->offset;
    if (at >= x->to) return false;
    uint32_t end = at < first ? first : at + window_of(x);
    x->at = at;
    x->n = (end < x->to ? end : x->to) - at;
    return true;
}

static bool is_traced(const struct noise *x) { return x->how->states && sample_of(x)->states; }

static bool begin_run(struct noise *x)
{
    if (!next_run(x)) return false;
    x->n = 0;
    x->offset = is_traced(x) ? 0 : (uint32_t)(draw(x, DRAW_OFFSET, x->from) % window_of(x));
    return true;
}

struct noise noise_begin(const struct noise_how *how, const struct lines *l, uint32_t sample, uint64_t epoch)
{
    return (struct noise){ .how = how, .lines = l, .sample = sample, .epoch = epoch };
}

/* Windows of one token have no rows. */
bool noise_next(struct noise *x)
{
    while (x->copy < x->how->copies && x->how->block) {
        while (x->to && next_window(x))
            if (x->n > 1) return true;
        if (begin_run(x)) continue;
        x->copy++;
        x->to = x->n = 0;
    }
    return false;
}

uint32_t noise_rows(const struct noise_how *how, const struct lines *l, uint32_t sample, uint64_t epoch)
{
    struct noise x = noise_begin(how, l, sample, epoch);
    uint32_t rows = 0;
    while (noise_next(&x)) rows += x.n - 1;
    return rows;
}

uint32_t noise_rows_most(const struct noise_how *how, const struct lines *l, const struct sample *s)
{
    const float *w = sample_weights(l, s);
    uint32_t counted = 0;
    for (uint32_t i = s->first; i <= s->last; i++) counted += w[i] > 0;
    return how->block ? how->copies * (counted - 1) : 0;
}

/* ---- states ---------------------------------------------------------------------------------- */

enum kind { KIND_TEXT, KIND_RUN, KIND_SHIFTED, KINDS };

/* Places of the block with tokens [at, at + n) that are right in front: fewer from block to block. */
static uint32_t right_of(const struct noise *x, uint32_t at, uint32_t n)
{
    uint64_t number = (at - x->from) / x->how->block + draw(x, DRAW_RAMP, x->from) % NOISE_RAMP;
    uint32_t wrong = (uint32_t)(number % NOISE_RAMP) + 1;
    return (n - 1) * (NOISE_RAMP - wrong) / NOISE_RAMP;
}

/* What stands in place of token t of a block that begins at `at`; place: drawn for the block. */
static int32_t wrong_token(const struct noise *x, enum kind kind, uint64_t place, uint32_t at, uint32_t t)
{
    const int32_t *y = sample_ids(x->lines, sample_of(x));
    uint32_t shift = (uint32_t)(place % 4), to = t;
    switch (kind) {
    case KIND_TEXT: return y[draw(x, DRAW_TOKEN, t) % x->at];
    case KIND_RUN: return y[(place + t - at) % x->at];
    default: break;
    }
    to = shift < 2 ? t + 1 + shift : t + 1 - shift;          /* one or two places on, or back */
    return to >= x->to ? y[x->to - 1] : y[to];
}

/* Of the states that have something wrong among their inputs the one whose first wrong place is nearest; NULL: all are
 * right. */
static const int32_t *nearest(const struct noise *x, uint32_t at, uint32_t n, uint32_t right)
{
    const struct sample *s = sample_of(x);
    const int32_t *y = sample_ids(x->lines, s) + at, *best = NULL;
    uint32_t b = (at - s->first) / x->how->block, count = states_count(x->how->states, s->states, b), off = n;
    for (uint32_t k = 0; k < count; k++) {
        const int32_t *state = states_get(x->how->states, s->states, b, n, k);
        uint32_t first = 0;
        while (first < n && state[first] == y[first]) first++;
        uint32_t apart = first > right ? first - right : right - first;
        if (first + 1 >= n || apart >= off) continue;
        best = state;
        off = apart;
    }
    return best;
}

/* A state that the model had, where one is drawn for this block and it has one. */
static bool traced_state(const struct noise *x, uint32_t at, uint32_t n, int32_t *state)
{
    const int32_t *y = sample_ids(x->lines, sample_of(x)) + at;
    uint64_t source = draw(x, DRAW_SOURCE, at) % 4;
    const int32_t *was = is_traced(x) && source < 3 ? nearest(x, at, n, right_of(x, at, n)) : NULL;
    for (uint32_t i = 0, wrong = 0; was && i < n; i++) {
        bool keep = was[i] == y[i] || (source == 2 && wrong && draw(x, DRAW_HALF, at + i) & 1);
        wrong += was[i] != y[i];
        state[i] = keep ? y[i] : was[i];
    }
    return was != NULL;
}

/* Tokens [at, at + n) of the sample, one block of the window. */
static void block_state(const struct noise *x, uint32_t at, uint32_t n, int32_t *state)
{
    const int32_t *y = sample_ids(x->lines, sample_of(x));
    uint64_t how = draw(x, DRAW_KIND, at), place = draw(x, DRAW_TOKEN, at);
    enum kind kind = (enum kind)(how % KINDS);
    bool half = how / KINDS % 4 == 0;
    uint32_t right = right_of(x, at, n);
    if (traced_state(x, at, n, state)) return;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t t = at + i;
        bool keep = i < right || (half && i > right && draw(x, DRAW_HALF, t) & 1);
        state[i] = keep ? y[t] : wrong_token(x, kind, place, at, t);
    }
}

uint32_t noise_state(const struct noise *x, int32_t *state)
{
    const int32_t *y = sample_ids(x->lines, sample_of(x));
    uint32_t first = 0;
    for (uint32_t i = 0, n; i < x->n; i += n) {
        n = x->n - i < x->how->block ? x->n - i : x->how->block;
        block_state(x, x->at + i, n, state + i);
    }
    while (first < x->n - 1 && state[first] == y[x->at + first]) first++;
    return first;
}
