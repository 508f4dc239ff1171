#include "base/memory.h"
#include "train/heads.h"
#include <string.h>

enum { PLACES = 16 };

/* Places that guess together, and what they are to guess. */
struct batch { uint32_t n, truths[PLACES], right[PLACES]; int32_t truth[PLACES][MAX_HEADS]; };
struct counts { uint64_t of[MAX_HEADS], right[MAX_HEADS]; };

static void take(struct batch *b, struct head_model *m, const struct head_measure *how, const struct pack_unit *u,
                 float *hidden)
{
    const struct sample *s = &how->lines->sample[u->first];
    const int32_t *id = sample_ids(how->lines, s);
    const float *weight = sample_weights(how->lines, s);
    uint32_t t = u->count, n = 0, i = b->n++;
    while (n < how->rows->depth && t + 2 + n <= s->last && weight[t + 2 + n] > 0) {
        b->truth[i][n] = id[t + 2 + n];
        n++;
    }
    b->truths[i] = n;
    b->right[i] = 0;
    hidden_read(how->rows->hidden, s->taught, u->shared, hidden);
    head_model_begin(m, i, hidden, id[t + 1]);
}

/* Counts on while guesses are right; who was wrong is asked no more. */
static bool judge(struct batch *b, struct head_model *m)
{
    bool more = false;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct head_place *p = head_model_place(m, i);
        uint32_t before = b->right[i];
        while (b->right[i] < p->n && b->right[i] < b->truths[i] && p->token[b->right[i]] == b->truth[i][b->right[i]])
            b->right[i]++;
        if (b->right[i] == before || b->right[i] == b->truths[i] || !head_model_recursive(m)) continue;
        head_model_next(m, i);
        more = true;
    }
    return more;
}

static void count(struct counts *c, const struct batch *b)
{
    for (uint32_t i = 0; i < b->n; i++)
        for (uint32_t k = 0; k < b->truths[i]; k++) {
            c->of[k]++;
            c->right[k] += k < b->right[i];
        }
}

static stretto_status guess(struct counts *c, struct head_model *m, const struct head_measure *how,
                            const struct pack_unit *unit, size_t n, float *hidden, struct error *err)
{
    size_t step = n > how->most ? (n + how->most - 1) / how->most : 1;
    for (size_t at = 0; at < n;) {
        struct batch b = { .n = 0 };
        if (how->cancel && *how->cancel) return fail(err, STRETTO_E_CANCEL, "training was interrupted");
        for (; b.n < PLACES && at < n; at += step) take(&b, m, how, &unit[at], hidden);
        do TRY(head_model_run(m, err));
        while (judge(&b, m));
        count(c, &b);
        for (uint32_t i = 0; i < PLACES; i++) head_model_forget(m, i);
    }
    return STRETTO_OK;
}

stretto_status heads_measure(struct head_accept *out, const struct head_measure *how, struct error *err)
{
    const struct head_setup setup = { .model = how->model, .device = how->device, .threads = how->threads,
                                      .places = PLACES };
    struct head_model *m = NULL;
    struct counts c = { { 0 }, { 0 } };
    struct head_rows all = *how->rows;
    all.place = NULL;
    size_t n = heads_units(how->lines, &all, NULL);
    struct pack_unit *unit = mem_alloc((n + 1) * sizeof *unit);
    float *hidden = mem_alloc(how->rows->width * sizeof *hidden);
    stretto_status s = unit && hidden ? head_model_open(&m, how->path, &setup, err)
                                      : fail(err, STRETTO_E_NOMEM, "no memory for measuring heads");
    if (s == STRETTO_OK) {
        heads_units(how->lines, &all, unit);
        s = guess(&c, m, how, unit, n, hidden, err);
    }
    *out = (struct head_accept){ .n = how->rows->depth, .places = (uint32_t)c.of[0], .per_step = 1 };
    for (uint32_t k = 0; k < out->n; k++) {
        out->accept[k] = c.of[k] ? (double)c.right[k] / (double)c.of[k] : 0;
        out->per_step += out->accept[k];
    }
    head_model_close(m);
    mem_free(unit);
    mem_free(hidden);
    return s;
}
