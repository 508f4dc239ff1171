#include "train/heads.h"
#include <math.h>

static bool can_be(const struct head_rows *h, int32_t token) { return !h->place || h->place[token] >= 0; }

/* Guess k (from 1 on) of row t is about token t + 1 + k: while that is part of the answer. */
static uint32_t guesses_at(const struct lines *l, const struct head_rows *h, const struct sample *s, uint32_t t)
{
    const float *weight = sample_weights(l, s);
    uint32_t k = 1;
    while (k <= h->depth && t + 1 + k <= s->last && weight[t + 1 + k] > 0
           && (h->kind == HEAD_MEDUSA || can_be(h, sample_ids(l, s)[t + 1 + k]))) k++;
    return k - 1;
}

static bool has_row(const struct lines *l, const struct head_rows *h, const struct sample *s, uint32_t token)
{
    return h->kind == HEAD_RECURSIVE || can_be(h, sample_ids(l, s)[token]);
}

size_t heads_units(const struct lines *l, const struct head_rows *h, struct pack_unit *unit)
{
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++) {
        const struct sample *s = &l->sample[i];
        uint32_t number = 0;
        for (uint32_t t = s->first - 1; t < s->last; t++) {
            if (!(sample_weights(l, s)[t + 1] > 0)) continue;
            uint32_t rows = h->kind == HEAD_RECURSIVE, asks = 0;
            for (uint32_t k = 1, all = guesses_at(l, h, s, t); k <= all; k++) asks += has_row(l, h, s, t + 1 + k);
            if (asks && unit) unit[n] = (struct pack_unit){ (uint32_t)i, t, number, rows + asks };
            n += asks > 0;
            number++;
        }
    }
    return n;
}

static double weight_of(float token, uint32_t k) { return (double)token * pow(HEAD_DECAY, k - 1); }

double heads_weight(const struct lines *l, const struct head_rows *h, const struct pack_unit *u)
{
    const struct sample *s = &l->sample[u->first];
    double sum = 0;
    for (uint32_t k = 1, all = guesses_at(l, h, s, u->count); k <= all; k++)
        if (has_row(l, h, s, u->count + 1 + k)) sum += weight_of(sample_weights(l, s)[u->count + 1 + k], k);
    return sum;
}

/* Sees row `sees` of the step alone. position: the guess, from 1 on. */
static size_t put_row(struct packed *p, int32_t token, uint32_t k, int32_t sees)
{
    size_t r = p->step.n_rows++;
    int32_t at = p->range_at[r];
    p->token[r] = token;
    p->position[r] = (int32_t)k;
    p->given[r] = 0;
    p->ranges[2 * at] = sees;
    p->ranges[2 * at + 1] = sees + 1;
    p->range_at[r + 1] = at + 1;
    return r;
}

static void put_ask(struct packed *p, size_t row, uint32_t sample, uint32_t token, struct step_target target)
{
    size_t a = p->step.n_asks++;
    p->ask_row[a] = (int32_t)row;
    p->ask_wants[a] = WANT_LOSS;
    p->ask_noisy[a] = 0;
    p->ask_sample[a] = sample;
    p->ask_token[a] = token;
    p->target[a] = target;
    p->answer[a] = (struct answer){ .status = STRETTO_OK };
    p->answers[a] = &p->answer[a];
}

void heads_put(struct packed *p, const struct lines *l, const struct head_rows *h, const struct pack_unit *u,
               double weights)
{
    const struct sample *s = &l->sample[u->first];
    const int32_t *id = sample_ids(l, s);
    uint32_t t = u->count, all = guesses_at(l, h, s, t);
    int32_t vector = p->n_vectors++;
    hidden_read(h->hidden, s->taught, u->shared, p->vectors + (size_t)vector * h->width);
    bool chain = h->kind == HEAD_RECURSIVE;
    int32_t before = (int32_t)p->step.n_rows;
    if (chain) put_row(p, -1 - vector, 0, before);
    for (uint32_t k = 1; k <= all; k++) {
        if (!has_row(l, h, s, t + 1 + k)) continue;
        size_t r = put_row(p, chain ? id[t + k] : -1 - vector, k, chain ? before : (int32_t)p->step.n_rows);
        double weight = weight_of(sample_weights(l, s)[t + 1 + k], k) / weights;
        put_ask(p, r, u->first, t + 1 + k, (struct step_target){ .token = h->place[id[t + 1 + k]],
                                                                  .weight = (float)weight });
        before = (int32_t)r;
    }
}

void heads_close_step(struct packed *p, const struct head_rows *h)
{
    int32_t n = 0;
    for (uint32_t k = 1; k <= h->depth; k++) {
        p->set_at[k - 1] = n;
        for (size_t r = 0; r < p->step.n_rows; r++)
            if (p->position[r] == (int32_t)k) p->set_row[n++] = (int32_t)r;
    }
    p->set_at[h->depth] = n;
    p->step.set_at = p->set_at;
    p->step.set_row = p->set_row;
    p->step.set_weight = p->set_weight;
    p->step.vectors = p->vectors;
}
