#include "train/pack.h"
#include "base/memory.h"
#include "base/random.h"
#include <stdlib.h>
#include <string.h>

/* What random_at is asked for. */
enum { ORDER_SAMPLES = 1, ORDER_UNITS = 2 };

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory for the data"); }

/* The last token predicts nothing. */
static uint32_t rows_of(const struct sample *s) { return s->last; }

uint32_t pack_longest(const struct lines *l)
{
    uint32_t most = 0;
    for (size_t i = 0; i < l->n; i++)
        if (rows_of(&l->sample[i]) > most) most = rows_of(&l->sample[i]);
    return most;
}

/* ---- units ----------------------------------------------------------------------------------- */

struct key { uint64_t group, place; uint32_t sample; };

static int by_group(const void *p, const void *q)
{
    const struct key *a = p, *b = q;
    if (a->group != b->group) return a->group < b->group ? -1 : 1;
    if (a->place != b->place) return a->place < b->place ? -1 : 1;
    return (a->sample > b->sample) - (a->sample < b->sample);
}

/* Samples of a group beside each other, in an order of their own; others by themselves. */
static stretto_status order_samples(struct packing *p, const struct packing_how *how, struct error *err)
{
    const struct lines *l = p->lines;
    struct key *key = mem_alloc((l->n + 1) * sizeof *key);
    if (!key) return no_memory(err);
    for (size_t i = 0; i < l->n; i++)
        key[i] = (struct key){ l->sample[i].group,
                               how->in_order ? i : random_at(how->seed, ORDER_SAMPLES, how->epoch, i), (uint32_t)i };
    qsort(key, l->n, sizeof *key, by_group);
    for (size_t i = 0; i < l->n; i++) p->order[i] = key[i].sample;
    mem_free(key);
    return STRETTO_OK;
}

/* Tokens that two samples begin with, but for the one in front of the first that counts: its row says something else
 * in each of them. */
static uint32_t common(const struct lines *l, const struct sample *a, const struct sample *b, uint32_t most)
{
    const int32_t *x = sample_ids(l, a), *y = sample_ids(l, b);
    if (most > b->first - 1) most = b->first - 1;
    uint32_t n = 0;
    while (n < most && x[n] == y[n]) n++;
    return n;
}

/* The unit that begins with order[at]: as many samples as gain by sharing, and have `most` rows together. */
static struct pack_unit unit_at(const struct packing *p, size_t at, uint32_t most)
{
    const struct lines *l = p->lines;
    const struct sample *head = &l->sample[p->order[at]];
    struct pack_unit u = { (uint32_t)at, 1, 0, rows_of(head) };
    uint32_t shared = head->first - 1;
    uint64_t own = rows_of(head);
    for (; head->group && at + u.count < l->n && u.count < PACK_SHARE; u.count++) {
        const struct sample *s = &l->sample[p->order[at + u.count]];
        uint32_t now = s->group == head->group ? common(l, head, s, shared) : 0;
        uint64_t rows = own + rows_of(s) - (uint64_t)now * u.count;
        if (rows > most || rows >= u.rows + (uint64_t)rows_of(s)) break;
        shared = now;
        own += rows_of(s);
        u.rows = (uint32_t)rows;
        u.shared = now;
    }
    return u;
}

static int by_place(const void *p, const void *q)
{
    const struct key *a = p, *b = q;
    return a->place != b->place ? (a->place < b->place ? -1 : 1) : (a->sample > b->sample) - (a->sample < b->sample);
}

static stretto_status shuffle_units(struct packing *p, const struct packing_how *how, struct error *err)
{
    struct key *key = mem_alloc((p->n_units + 1) * sizeof *key);
    struct pack_unit *unit = mem_alloc((p->n_units + 1) * sizeof *unit);
    for (size_t i = 0; key && i < p->n_units; i++)
        key[i] = (struct key){ 0, random_at(how->seed, ORDER_UNITS, how->epoch, i), (uint32_t)i };
    if (key) qsort(key, p->n_units, sizeof *key, by_place);
    for (size_t i = 0; key && unit && i < p->n_units; i++) unit[i] = p->unit[key[i].sample];
    mem_free(key);
    if (!unit || !key) {
        mem_free(unit);
        return no_memory(err);
    }
    mem_free(p->unit);
    p->unit = unit;
    return STRETTO_OK;
}

/* Each has about the same rows, and one unit at least. */
static void cut_batches(struct packing *p, size_t batches)
{
    uint64_t rows = 0;
    if (batches > p->n_units) batches = p->n_units;
    p->batch[0] = 0;
    p->n_batches = 0;
    for (size_t i = 0; i < p->n_units; i++) {
        size_t left = p->n_units - 1 - i;
        rows += p->unit[i].rows;
        if (rows * batches < (p->n_batches + 1) * p->rows && left >= batches - p->n_batches) continue;
        p->batch[++p->n_batches] = (uint32_t)i + 1;
    }
}

/* As many as are nearest to batch_rows rows each. */
static size_t batches_of(const struct packing *p, const struct packing_how *how)
{
    if (how->batches) return how->batches;
    uint64_t n = (p->rows + how->batch_rows / 2) / how->batch_rows;
    return n ? (size_t)n : 1;
}

stretto_status packing_make(struct packing *p, const struct lines *l, const struct packing_how *how, struct error *err)
{
    *p = (struct packing){ .lines = l, .step_rows = how->step_rows };
    p->order = mem_alloc((l->n + 1) * sizeof *p->order);
    p->unit = mem_alloc((l->n + 1) * sizeof *p->unit);
    p->step_of = mem_alloc((l->n + 1) * sizeof *p->step_of);
    p->batch = mem_alloc((l->n + 2) * sizeof *p->batch);
    stretto_status s = p->order && p->unit && p->step_of && p->batch ? STRETTO_OK : no_memory(err);
    if (s == STRETTO_OK) s = order_samples(p, how, err);
    uint32_t most = how->step_rows < how->batch_rows ? how->step_rows : how->batch_rows;
    for (size_t at = 0; s == STRETTO_OK && at < l->n; at += p->unit[p->n_units++].count) {
        p->unit[p->n_units] = unit_at(p, at, most);
        p->rows += p->unit[p->n_units].rows;
    }
    if (s == STRETTO_OK && !how->in_order) s = shuffle_units(p, how, err);
    if (s == STRETTO_OK) cut_batches(p, batches_of(p, how));
    if (s != STRETTO_OK) packing_done(p);
    return s;
}

void packing_done(struct packing *p)
{
    mem_free(p->order);
    mem_free(p->unit);
    mem_free(p->batch);
    mem_free(p->step_of);
    *p = (struct packing){ 0 };
}

/* ---- steps ----------------------------------------------------------------------------------- */

enum { NO_STEP = UINT32_MAX };

static size_t longest_left(const struct packing *p, size_t from, size_t to, uint32_t room)
{
    size_t best = to;
    for (size_t i = from; i < to; i++)
        if (p->step_of[i] == NO_STEP && p->unit[i].rows <= room
            && (best == to || p->unit[i].rows > p->unit[best].rows)) best = i;
    return best;
}

uint32_t packing_steps(struct packing *p, size_t batch, double *weights)
{
    size_t from = p->batch[batch], to = p->batch[batch + 1];
    uint32_t steps = 0;
    *weights = 0;
    for (size_t i = from; i < to; i++) {
        p->step_of[i] = NO_STEP;
        for (uint32_t k = 0; k < p->unit[i].count; k++) {
            const struct sample *s = &p->lines->sample[p->order[p->unit[i].first + k]];
            for (uint32_t t = s->first; t <= s->last; t++) *weights += (double)sample_weights(p->lines, s)[t];
        }
    }
    for (size_t left = to - from; left; steps++) {
        uint32_t room = p->step_rows;
        for (size_t i; (i = longest_left(p, from, to, room)) < to; left--) {
            p->step_of[i] = steps;
            room -= p->unit[i].rows;
        }
    }
    return steps;
}

stretto_status packed_make(struct packed *p, uint32_t max_rows, const struct taught *taught, struct error *err)
{
    size_t n = (size_t)max_rows + 1;
    *p = (struct packed){ .max_rows = max_rows, .taught = taught };
    p->width = taught ? taught->shape.top + taught->shape.drawn : 0;
    p->top = mem_alloc(n * p->width * sizeof *p->top + 1);
    p->prob = mem_alloc(n * p->width * sizeof *p->prob + 1);
    p->add = mem_zalloc(n, sizeof *p->add);
    p->token = mem_alloc(n * sizeof *p->token);
    p->position = mem_alloc(n * sizeof *p->position);
    p->range_at = mem_alloc(n * sizeof *p->range_at);
    p->ranges = mem_alloc(4 * n * sizeof *p->ranges);
    p->ask_row = mem_alloc(n * sizeof *p->ask_row);
    p->given = mem_alloc(n);
    p->ask_wants = mem_alloc(n);
    p->target = mem_zalloc(n, sizeof *p->target);
    p->ask_sample = mem_alloc(n * sizeof *p->ask_sample);
    p->ask_token = mem_alloc(n * sizeof *p->ask_token);
    p->answer = mem_zalloc(n, sizeof *p->answer);
    p->answers = mem_alloc(n * sizeof *p->answers);
    p->set_row = mem_alloc(n * sizeof *p->set_row);
    p->set_weight = mem_alloc(n * sizeof *p->set_weight);
    for (size_t i = 0; p->set_weight && i < n; i++) p->set_weight[i] = 1;
    if (p->set_row && p->set_weight
        && p->token && p->position && p->range_at && p->ranges && p->ask_row && p->given && p->ask_wants && p->target
        && p->ask_sample && p->ask_token && p->answer && p->answers && p->top && p->prob && p->add) return STRETTO_OK;
    packed_done(p);
    return no_memory(err);
}

void packed_done(struct packed *p)
{
    void *const all[] = { p->token, p->position, p->range_at, p->ranges, p->ask_row, p->given, p->ask_wants, p->target,
                          p->ask_sample, p->ask_token, p->answer, p->answers, p->set_row, p->set_weight, p->top,
                          p->prob, p->add };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mem_free(all[i]);
    *p = (struct packed){ 0 };
}

/* What row number `row` of the sample should have said, as ask number a. */
static void put_target(struct packed *p, const struct sample *s, size_t a, uint32_t row, struct step_target target)
{
    p->target[a] = target;
    if (!p->taught) return;
    int32_t *top = p->top + a * p->width;
    float *prob = p->prob + a * p->width;
    struct taught_target t = taught_read(s->written ? p->written : p->taught, s->taught, row, top, prob);
    p->target[a].n_top = t.n;
    p->target[a].top = top;
    p->target[a].prob = prob;
    p->target[a].tail = t.tail;
    p->add[a] = t.add;
}

/* Tokens [from, end) of a sample as rows behind the trunk [trunk, trunk + shared). */
static void put_rows(struct packed *p, const struct lines *l, uint32_t sample, uint32_t from, uint32_t end,
                     int32_t trunk, uint32_t shared, double weights)
{
    const struct sample *s = &l->sample[sample];
    const int32_t *id = sample_ids(l, s);
    const float *weight = sample_weights(l, s);
    int32_t begin = (int32_t)p->step.n_rows;
    uint32_t counted = 0;                    /* none stands before `from` */
    for (uint32_t i = from; i < end; i++) {
        size_t r = p->step.n_rows++;
        int32_t at = p->range_at[r];
        p->token[r] = id[i];
        p->position[r] = (int32_t)i;
        p->given[r] = !(weight[i] > 0);
        if (shared) {
            p->ranges[2 * at] = trunk;
            p->ranges[2 * at++ + 1] = trunk + (int32_t)shared;
        }
        p->ranges[2 * at] = begin;
        p->ranges[2 * at++ + 1] = (int32_t)r + 1;
        p->range_at[r + 1] = at;
        bool answers = weight[i] > 0 || weight[i + 1] > 0;    /* the row that makes the first token among them */
        if (p->rows_of == (answers ? ADAPTER_ANSWERS : ADAPTER_GIVEN) || (p->rows_of == ADAPTER_GIVEN && p->given[r]))
            p->set_row[p->set_at[1]++] = (int32_t)r;
        if (!(weight[i + 1] > 0)) continue;
        size_t a = p->step.n_asks++;
        p->ask_row[a] = (int32_t)r;
        p->ask_wants[a] = WANT_LOSS;
        p->ask_sample[a] = sample;
        p->ask_token[a] = i + 1;
        put_target(p, s, a, counted++, (struct step_target){ .token = id[i + 1],
                                                             .weight = (float)((double)weight[i + 1] / weights) });
        p->answer[a] = (struct answer){ .status = STRETTO_OK };
        p->answers[a] = &p->answer[a];
    }
}

void packed_fill(struct packed *p, const struct packing *of, size_t batch, uint32_t step, double weights)
{
    const struct lines *l = of->lines;
    p->step = (struct step){ .token = p->token, .position = p->position, .given = p->given, .ask_row = p->ask_row,
                             .ask_wants = p->ask_wants, .targets = p->target, .range_at = p->range_at,
                             .ranges = p->ranges };
    p->range_at[0] = 0;
    p->set_at[0] = p->set_at[1] = 0;
    if (p->rows_of != ADAPTER_ALL) {
        p->step.set_at = p->set_at;
        p->step.set_row = p->set_row;
        p->step.set_weight = p->set_weight;
    }
    for (size_t i = of->batch[batch]; i < of->batch[batch + 1]; i++) {
        const struct pack_unit *u = &of->unit[i];
        if (of->step_of[i] != step) continue;
        int32_t trunk = (int32_t)p->step.n_rows;
        if (u->shared) put_rows(p, l, of->order[u->first], 0, u->shared, 0, 0, weights);
        for (uint32_t k = 0; k < u->count; k++) {
            uint32_t sample = of->order[u->first + k];
            put_rows(p, l, sample, u->shared, rows_of(&l->sample[sample]), trunk, u->shared, weights);
        }
    }
}
