/* See trial.h. */
#include "compress/trial.h"
#include "base/memory.h"
#include "compress/piece.h"
#include "decode/logits.h"
#include <string.h>

/* rows [tokens][width] before layer `next`; sum of divergences. */
struct way { float *rows; double sum; uint32_t next; };

struct trials {
    const struct model *m;
    struct device *device;
    const struct binding *b;
    struct calibration_text text;
    uint32_t at, window, width;
    size_t tokens, counted;
    struct way *way;        /* the first: as it is                                             */
    size_t n, cap;
    float *logits, *other;  /* [counted][vocab] as it is, once at the last layer; [window][vocab]            */
    struct logits_about *about;
};

static uint32_t from_of(const struct trials *t, size_t i) { return (t->text.at[i + 1] - t->text.at[i]) / 2; }

static stretto_status add_way(struct trials *t, struct error *err)
{
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 64;
        struct way *more = mem_resize(t->way, cap * sizeof *more);
        if (!more) return fail(err, STRETTO_E_NOMEM, "out of memory");
        t->way = more;
        t->cap = cap;
    }
    struct way *w = &t->way[t->n];
    *w = (struct way){ .rows = mem_alloc(t->tokens * t->width * sizeof *w->rows) };
    if (!w->rows) return fail(err, STRETTO_E_NOMEM, "no memory for the rows of one more trial");
    t->n++;
    return STRETTO_OK;
}

stretto_status trials_open(struct trials **out, const struct model *m, struct device *d, const struct binding *b,
                           const struct calibration_text *text, struct error *err)
{
    *out = NULL;
    if (m->graph.logits == GRAPH_NONE)
        return fail(err, STRETTO_E_UNSUP, "this model is an encoder; it gives no probabilities of a next token");
    struct trials *t = mem_zalloc(1, sizeof *t);
    if (!t) return fail(err, STRETTO_E_NOMEM, "out of memory");
    *t = (struct trials){ .m = m, .device = d, .b = b, .text = *text, .width = m->config.width };
    for (size_t i = 0; i < text->n; i++) {
        uint32_t n = text->at[i + 1] - text->at[i];
        if (n > t->window) t->window = n;
        t->counted += n - from_of(t, i);
    }
    t->tokens = text->at[text->n] - text->at[0];
    stretto_status s = t->window ? add_way(t, err) : fail(err, STRETTO_E_ARG, "there is no text to try changes on");
    if (s != STRETTO_OK) trials_close(t);
    else *out = t;
    return s;
}

void trials_close(struct trials *t)
{
    if (!t) return;
    for (size_t i = 0; i < t->n; i++) mem_free(t->way[i].rows);
    mem_free(t->way);
    mem_free(t->logits);
    mem_free(t->other);
    mem_free(t->about);
    mem_free(t);
}

uint32_t trials_at(const struct trials *t) { return t->at; }
double trials_divergence(const struct trials *t, size_t id) { return t->way[id].sum / (double)t->counted; }

/* A way's rows through the layer as p has it. */
static stretto_status pass(struct trials *t, struct piece *p, const float *from, float *to, struct error *err)
{
    for (size_t i = 0; i < t->text.n; i++) {
        size_t at = t->text.at[i] - t->text.at[0];
        TRY(piece_run(p, t->text.id + t->text.at[i], t->at ? from + at * t->width : NULL,
                      t->text.at[i + 1] - t->text.at[i], 0, to + at * t->width, err));
    }
    return STRETTO_OK;
}

/* Divergences of n answers from those as they are, the first of which is number `done`. */
static double divergence(const struct trials *t, size_t done, size_t n)
{
    uint32_t vocab = t->m->config.vocab;
    double sum = 0, kl, back;
    for (size_t k = 0; k < n; k++) {
        const float *x = t->other + k * vocab;
        struct logits_about about = logits_about(x, vocab);
        logits_divergence(t->logits + (done + k) * vocab, &t->about[done + k], x, &about, vocab, &kl, &back);
        sum += kl;
    }
    return sum;
}

/* The same through the last layer and the head: logits of what counts, or how far they are from those. */
static stretto_status answer(struct trials *t, struct piece *p, const float *from, double *sum, struct error *err)
{
    size_t vocab = t->m->config.vocab, done = 0;
    for (size_t i = 0; i < t->text.n; i++) {
        size_t at = t->text.at[i] - t->text.at[0];
        uint32_t n = t->text.at[i + 1] - t->text.at[i], first = from_of(t, i);
        float *to = sum ? t->other : t->logits + done * vocab;
        TRY(piece_run(p, t->text.id + t->text.at[i], t->at ? from + at * t->width : NULL, n, first, to, err));
        if (sum) *sum += divergence(t, done, n - first);
        else for (size_t k = 0; k < n - first; k++) t->about[done + k] = logits_about(to + k * vocab, (uint32_t)vocab);
        done += n - first;
    }
    return STRETTO_OK;
}

static stretto_status open_here(struct trials *t, const struct binding *b, struct piece **p, struct error *err)
{
    return piece_open(p, t->device, &t->m->graph, t->at, PIECE_IN, PIECE_OUT, b, t->window, err);
}

/* At the last layer all is compared with what the model says as it is. */
static stretto_status answers_as_they_are(struct trials *t, struct piece *p, struct error *err)
{
    size_t vocab = t->m->config.vocab;
    t->logits = mem_alloc(t->counted * vocab * sizeof *t->logits);
    t->other = mem_alloc((t->window - t->window / 2) * vocab * sizeof *t->other);
    t->about = mem_alloc(t->counted * sizeof *t->about);
    if (!t->logits || !t->other || !t->about)
        return fail(err, STRETTO_E_NOMEM, "no memory for the model's answers to %zu tokens", t->counted);
    return answer(t, p, t->way[0].rows, NULL, err);
}

static bool last(const struct trials *t) { return t->at + 1 == t->m->graph.layers; }

static stretto_status try_through(struct trials *t, const struct binding *changed, struct error *err)
{
    struct way *w = &t->way[t->n - 1];
    struct piece *p = NULL;
    if (!changed) {
        if (t->at == 0 || last(t))
            return fail(err, STRETTO_E_UNSUP, "the first and the last layer are not left out");
        memcpy(w->rows, t->way[0].rows, t->tokens * t->width * sizeof *w->rows);
        return STRETTO_OK;
    }
    if (last(t) && !t->logits) {
        stretto_status s = open_here(t, t->b, &p, err);
        if (s == STRETTO_OK) s = answers_as_they_are(t, p, err);
        piece_close(p);
        TRY(s);
    }
    TRY(open_here(t, changed, &p, err));
    stretto_status s = last(t) ? answer(t, p, t->way[0].rows, &w->sum, err)
                               : pass(t, p, t->way[0].rows, w->rows, err);
    piece_close(p);
    return s;
}

stretto_status trials_try(struct trials *t, const struct binding *changed, size_t *id, struct error *err)
{
    TRY(add_way(t, err));
    *id = t->n - 1;
    t->way[*id].next = t->at + 1;
    return try_through(t, changed, err);
}

stretto_status trials_go(struct trials *t, struct error *err)
{
    struct piece *p = NULL;
    TRY(open_here(t, t->b, &p, err));
    stretto_status s = last(t) && !t->logits ? answers_as_they_are(t, p, err) : STRETTO_OK;
    for (size_t i = 0; i < t->n && s == STRETTO_OK; i++) {
        struct way *w = &t->way[i];
        if (w->next > t->at) continue;
        if (!last(t)) s = pass(t, p, w->rows, w->rows, err);
        else if (i) s = answer(t, p, w->rows, &w->sum, err);
        w->next = t->at + 1;
    }
    piece_close(p);
    t->at++;
    return s;
}
