#include "train/pack.h"
#include "base/memory.h"
#include "base/random.h"
#include "train/heads.h"
#include <stdlib.h>
#include <string.h>

/* What random_at is asked for. */
enum { ORDER_SAMPLES = 1, ORDER_UNITS = 2 };
enum { RANGES = 3 };                     /* of a row at most */

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory for the data"); }

/* The last token predicts nothing. */
static uint32_t clean_rows(const struct sample *s) { return s->last; }

static uint32_t rows_of(const struct packing *p, uint32_t sample)
{
    return clean_rows(&p->lines->sample[sample]) + noise_rows(&p->noise, p->lines, sample, p->epoch);
}

uint32_t pack_longest(const struct lines *l, const struct noise_how *noise)
{
    uint32_t most = 0;
    for (size_t i = 0; i < l->n; i++) {
        uint32_t rows = clean_rows(&l->sample[i]) + (noise ? noise_rows_most(noise, l, &l->sample[i]) : 0);
        if (rows > most) most = rows;
    }
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
    struct pack_unit u = { (uint32_t)at, 1, 0, rows_of(p, p->order[at]) };
    uint32_t shared = head->first - 1;
    uint64_t own = u.rows;
    for (; head->group && at + u.count < l->n && u.count < PACK_SHARE; u.count++) {
        const struct sample *s = &l->sample[p->order[at + u.count]];
        uint32_t now = s->group == head->group ? common(l, head, s, shared) : 0;
        uint64_t its = rows_of(p, p->order[at + u.count]), rows = own + its - (uint64_t)now * u.count;
        if (rows > most || rows >= u.rows + its) break;
        shared = now;
        own += its;
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

static void make_units(struct packing *p, const struct packing_how *how)
{
    uint32_t most = how->step_rows < how->batch_rows ? how->step_rows : how->batch_rows;
    if (how->heads) p->n_units = heads_units(p->lines, how->heads, p->unit);
    else for (size_t at = 0; at < p->lines->n; at += p->unit[p->n_units++].count)
        p->unit[p->n_units] = unit_at(p, at, most);
    for (size_t i = 0; i < p->n_units; i++) p->rows += p->unit[i].rows;
    for (uint32_t i = 0; i < p->lines->n && !how->heads; i++)
        p->noisy += noise_rows(&p->noise, p->lines, i, p->epoch);
}

stretto_status packing_make(struct packing *p, const struct lines *l, const struct packing_how *how, struct error *err)
{
    size_t most = how->heads ? heads_units(l, how->heads, NULL) : l->n;
    *p = (struct packing){ .lines = l, .step_rows = how->step_rows, .epoch = how->epoch, .heads = how->heads };
    p->noise = how->noise ? *how->noise : (struct noise_how){ .clean = 1 };
    p->order = mem_alloc((l->n + 1) * sizeof *p->order);
    p->unit = mem_alloc((most + 1) * sizeof *p->unit);
    p->step_of = mem_alloc((most + 1) * sizeof *p->step_of);
    p->batch = mem_alloc((most + 2) * sizeof *p->batch);
    stretto_status s = p->order && p->unit && p->step_of && p->batch ? STRETTO_OK : no_memory(err);
    if (s == STRETTO_OK) s = order_samples(p, how, err);
    if (s == STRETTO_OK) make_units(p, how);
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

/* What counts of a sample and its copies. */
static double weights_of(const struct packing *p, uint32_t sample)
{
    const struct sample *s = &p->lines->sample[sample];
    struct noise x = noise_begin(&p->noise, p->lines, sample, p->epoch);
    int32_t state[NOISE_WINDOW];
    double sum = 0;
    for (uint32_t t = s->first; t <= s->last; t++) sum += p->noise.clean * (double)sample_weights(p->lines, s)[t];
    while (noise_next(&x))
        for (uint32_t j = noise_state(&x, state); j + 1 < x.n; j++) sum += noise_weight(&x, j);
    return sum;
}

static double weight_of(const struct packing *p, const struct pack_unit *u)
{
    double sum = 0;
    if (p->heads) return heads_weight(p->lines, p->heads, u);
    for (uint32_t k = 0; k < u->count; k++) sum += weights_of(p, p->order[u->first + k]);
    return sum;
}

/* Places of heads are all small, so they stay in their order. Gradients of Medusa's heads then have the same bits
 * however many rows a step has; the recursive head's weights are added to once for each guess of a step. */
static uint32_t in_order(struct packing *p, size_t from, size_t to)
{
    uint32_t step = 0, rows = 0;
    for (size_t i = from; i < to; i++) {
        if (rows + p->unit[i].rows > p->step_rows) {
            step++;
            rows = 0;
        }
        rows += p->unit[i].rows;
        p->step_of[i] = step;
    }
    return step + 1;
}

uint32_t packing_steps(struct packing *p, size_t batch, double *weights)
{
    size_t from = p->batch[batch], to = p->batch[batch + 1];
    uint32_t steps = 0;
    *weights = 0;
    for (size_t i = from; i < to; i++) {
        p->step_of[i] = NO_STEP;
        *weights += weight_of(p, &p->unit[i]);
    }
    if (p->heads) return in_order(p, from, to);
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
    p->clean_from = p->noisy_from = taught ? LEARN_TAUGHT : LEARN_LINE;
    p->width = taught ? taught->shape.top + taught->shape.drawn : 0;
    p->top = mem_alloc(n * p->width * sizeof *p->top + 1);
    p->prob = mem_alloc(n * p->width * sizeof *p->prob + 1);
    p->add = mem_zalloc(n, sizeof *p->add);
    p->token = mem_alloc(n * sizeof *p->token);
    p->position = mem_alloc(n * sizeof *p->position);
    p->range_at = mem_alloc(n * sizeof *p->range_at);
    p->ranges = mem_alloc(2 * RANGES * n * sizeof *p->ranges);
    p->ask_row = mem_alloc(n * sizeof *p->ask_row);
    p->given = mem_alloc(n);
    p->ask_wants = mem_alloc(n);
    p->ask_noisy = mem_alloc(n);
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
        && p->ask_noisy && p->ask_sample && p->ask_token && p->answer && p->answers && p->top && p->prob && p->add)
        return STRETTO_OK;
    packed_done(p);
    return no_memory(err);
}

stretto_status packed_vectors(struct packed *p, uint32_t width, struct error *err)
{
    p->vectors = mem_alloc((size_t)p->max_rows * width * sizeof *p->vectors);
    return p->vectors ? STRETTO_OK : no_memory(err);
}

void packed_done(struct packed *p)
{
    void *const all[] = { p->token, p->position, p->range_at, p->ranges, p->ask_row, p->given, p->ask_wants, p->target,
                          p->ask_sample, p->ask_token, p->ask_noisy, p->answer, p->answers, p->set_row, p->set_weight,
                          p->top, p->prob, p->add, p->vectors };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mem_free(all[i]);
    *p = (struct packed){ 0 };
}

/* A sample of the step that is being filled: where its trunk and its own rows stand. */
struct placed {
    const struct packing *of;
    uint32_t sample, shared;          /* its tokens [0, shared) are the trunk's                        */
    int32_t trunk, begin;
    size_t first_ask;                 /* of its own rows                                               */
    double weights;                   /* by which what counts is divided                               */
};

static const struct sample *sample_of(const struct placed *x) { return &x->of->lines->sample[x->sample]; }

static void put_range(struct packed *p, size_t row, int32_t from, int32_t to)
{
    int32_t at = p->range_at[row + 1]++;
    p->ranges[2 * at] = from;
    p->ranges[2 * at + 1] = to;
}

/* Token number i of the sample's text, or another one in its place, which sees the trunk. */
static size_t put_row(struct packed *p, const struct placed *x, int32_t token, uint32_t i, bool given)
{
    size_t r = p->step.n_rows++;
    p->token[r] = token;
    p->position[r] = (int32_t)i;
    p->given[r] = given;
    p->range_at[r + 1] = p->range_at[r];
    if (x->shared) put_range(p, r, x->trunk, x->trunk + (int32_t)x->shared);
    return r;
}

static void put_in_set(struct packed *p, size_t row) { p->set_row[p->set_at[1]++] = (int32_t)row; }

/* What a teacher says in place of a token; row: which of the sample's rows that count. */
static void put_taught(struct packed *p, const struct sample *s, size_t a, uint32_t row)
{
    int32_t *top = p->top + a * p->width;
    float *prob = p->prob + a * p->width;
    struct taught_target t = taught_read(s->written ? p->written : p->taught, s->taught, row, top, prob);
    p->target[a].n_top = t.n;
    p->target[a].top = top;
    p->target[a].prob = prob;
    p->target[a].tail = t.tail;
    p->add[a] = t.add;
}

/* The row is asked for token t of the sample, number `row` of those that count. */
static void put_ask(struct packed *p, const struct placed *x, size_t r, uint32_t t, uint32_t row, double weight,
                    bool noisy)
{
    size_t a = p->step.n_asks++;
    const struct sample *s = sample_of(x);
    p->ask_row[a] = (int32_t)r;
    p->ask_wants[a] = WANT_LOSS;
    p->ask_sample[a] = x->sample;
    p->ask_token[a] = t;
    p->ask_noisy[a] = noisy;
    p->add[a] = 0;
    p->target[a] = (struct step_target){ .token = sample_ids(x->of->lines, s)[t],
                                         .weight = (float)(weight / x->weights) };
    p->answer[a] = (struct answer){ .status = STRETTO_OK };
    p->answers[a] = &p->answer[a];
    if ((noisy ? p->noisy_from : p->clean_from) == LEARN_TAUGHT) put_taught(p, s, a, row);
    if (noisy && p->noisy_from == LEARN_CLEAN) p->target[a].like = (uint32_t)x->first_ask + row + 1;
}

/* Tokens [from, end) of the sample as rows behind its trunk. */
static void put_rows(struct packed *p, const struct placed *x, uint32_t from, uint32_t end)
{
    const struct sample *s = sample_of(x);
    const int32_t *id = sample_ids(x->of->lines, s);
    const float *weight = sample_weights(x->of->lines, s);
    uint32_t counted = 0;                    /* none stands before `from` */
    for (uint32_t i = from; i < end; i++) {
        size_t r = put_row(p, x, id[i], i, !(weight[i] > 0));
        put_range(p, r, x->begin, (int32_t)r + 1);
        bool answers = weight[i] > 0 || weight[i + 1] > 0;    /* the row that makes the first token among them */
        if (p->rows_of == (answers ? ADAPTER_ANSWERS : ADAPTER_GIVEN) || (p->rows_of == ADAPTER_GIVEN && p->given[r]))
            put_in_set(p, r);
        if (!(weight[i + 1] > 0)) continue;
        if (x->of->noise.clean > 0 || p->noisy_from == LEARN_CLEAN)
            put_ask(p, x, r, i + 1, counted, x->of->noise.clean * (double)weight[i + 1], false);
        counted++;
    }
}

static uint32_t counted_before(const struct placed *x, uint32_t token)
{
    const struct sample *s = sample_of(x);
    const float *weight = sample_weights(x->of->lines, s);
    uint32_t n = 0;
    for (uint32_t i = s->first; i < token; i++) n += weight[i] > 0;
    return n;
}

/* A window's state as rows behind those before it. */
static void put_window(struct packed *p, const struct placed *x, const struct noise *w)
{
    int32_t state[NOISE_WINDOW], begin = (int32_t)p->step.n_rows;
    uint32_t counts = noise_state(w, state), row = counted_before(x, w->at + 1);
    for (uint32_t j = 0; j + 1 < w->n; j++) {
        size_t r = put_row(p, x, state[j], w->at + j, false);
        put_range(p, r, x->begin, x->begin + (int32_t)(w->at - x->shared));
        put_range(p, r, begin, (int32_t)r + 1);
        if (p->rows_of == ADAPTER_GUESSES || p->rows_of == ADAPTER_ANSWERS) put_in_set(p, r);
        if (j >= counts) put_ask(p, x, r, w->at + j + 1, row + j, noise_weight(w, j), true);
    }
}

static void put_sample(struct packed *p, struct placed *x)
{
    const struct packing *of = x->of;
    struct noise w = noise_begin(&of->noise, of->lines, x->sample, of->epoch);
    x->begin = (int32_t)p->step.n_rows;
    x->first_ask = p->step.n_asks;
    put_rows(p, x, x->shared, clean_rows(sample_of(x)));
    while (noise_next(&w)) put_window(p, x, &w);
}

void packed_fill(struct packed *p, const struct packing *of, size_t batch, uint32_t step, double weights)
{
    p->step = (struct step){ .token = p->token, .position = p->position, .given = p->given, .ask_row = p->ask_row,
                             .ask_wants = p->ask_wants, .targets = p->target, .range_at = p->range_at,
                             .ranges = p->ranges };
    p->range_at[0] = 0;
    p->set_at[0] = p->set_at[1] = p->n_vectors = 0;
    if (p->rows_of != ADAPTER_ALL) {
        p->step.set_at = p->set_at;
        p->step.set_row = p->set_row;
        p->step.set_weight = p->set_weight;
    }
    for (size_t i = of->batch[batch]; i < of->batch[batch + 1]; i++) {
        const struct pack_unit *u = &of->unit[i];
        if (of->step_of[i] != step) continue;
        if (of->heads) {
            heads_put(p, of->lines, of->heads, u, weights);
            continue;
        }
        struct placed x = { .of = of, .sample = of->order[u->first], .weights = weights };
        int32_t trunk = x.begin = (int32_t)p->step.n_rows;
        if (u->shared) put_rows(p, &x, 0, u->shared);
        for (uint32_t k = 0; k < u->count; k++) {
            x = (struct placed){ .of = of, .sample = of->order[u->first + k], .shared = u->shared, .trunk = trunk,
                                 .weights = weights };
            put_sample(p, &x);
        }
    }
    if (of->heads) heads_close_step(p, of->heads);
}
