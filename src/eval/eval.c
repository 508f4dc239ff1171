#include "eval/eval.h"
#include "base/memory.h"
#include "engine/scheduler.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows whose logits are held at once: 128 x a vocabulary of 150,000 is 77 MB. */
enum { EVAL_ROWS = 128 };

struct reading {                     /* one engine's way through a window */
    struct engine *e;
    const volatile int *cancel;
    int32_t seq;
    float *logits;                   /* [EVAL_ROWS][vocab] */
    struct answer answers[EVAL_ROWS];
    uint32_t at;                     /* tokens of the window already read */
};

static stretto_status reading_open(struct reading *r, struct engine *e, const volatile int *cancel,
                                   struct error *err)
{
    size_t vocab = engine_model(e)->config.vocab;
    *r = (struct reading){ .cancel = cancel };
    TRY(engine_seq_open(e, &r->seq, err));
    r->e = e;
    r->logits = mem_alloc(EVAL_ROWS * vocab * sizeof *r->logits);
    for (size_t i = 0; i < EVAL_ROWS; i++) r->answers[i].logits = r->logits + i * vocab;
    return r->logits ? STRETTO_OK
                     : fail(err, STRETTO_E_NOMEM, "no memory for the logits of %d tokens", EVAL_ROWS);
}

static void reading_done(struct reading *r)
{
    mem_free(r->logits);
    if (r->e) engine_seq_close(r->e, r->seq);
}

/* Tokens up to `to`, the first of which that counts is `first`. */
static stretto_status read_to(struct reading *r, const int32_t *ids, uint32_t to, uint32_t first,
                              struct error *err)
{
    struct request q = { .seq = r->seq, .wants = first < to ? WANT_LOGITS : WANT_NOTHING, .first = first,
                         .room = EVAL_ROWS, .places = r->answers,
                         .cancel = r->cancel ? engine_flag_set : NULL,
                         .ud = (void *)(uintptr_t)r->cancel };
    engine_set(r->e, r->seq, ids, to, r->at);
    TRY(request_run(r->e, &q, err));
    r->at = to;
    return STRETTO_OK;
}

/* Reads the window on to the next rows that count: tokens [at, first) silently, then up to
 * EVAL_ROWS with logits. *n is how many. */
static stretto_status reading_next(struct reading *r, const int32_t *ids, uint32_t first,
                                   uint32_t end, uint32_t *n, struct error *err)
{
    uint32_t most = engine_about(r->e)->max_rows;
    if (r->at < first) TRY(read_to(r, ids, first, first, err));
    if (most > EVAL_ROWS) most = EVAL_ROWS;
    *n = end - r->at < most ? end - r->at : most;
    return read_to(r, ids, r->at + *n, r->at, err);
}

/* log of the sum of exp(x) */
static double log_sum(const float *x, uint32_t n)
{
    float most = x[0];
    for (uint32_t i = 1; i < n; i++) if (x[i] > most) most = x[i];
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += (double)expf(x[i] - most);
    return (double)most + log(sum);
}

static stretto_status check(const struct eval_text *t, struct engine *e, size_t *windows,
                            struct error *err)
{
    if (engine_model(e)->graph.logits == GRAPH_NONE)
        return fail(err, STRETTO_E_UNSUP,
                    "this model is an encoder; it gives no probabilities of a next token");
    if (t->window < 3)                      /* the last one predicts nothing that is there */
        return fail(err, STRETTO_E_ARG,
                    "a window of %u token%s has nothing to count in its second half: -c takes 3 or more",
                    t->window, t->window == 1 ? "" : "s");
    if (t->window > engine_about(e)->context)
        return fail(err, STRETTO_E_ARG, "a window of %u tokens; the context allows 3 to %u",
                    t->window, engine_about(e)->context);
    *windows = t->n / t->window;
    if (t->max_windows && t->max_windows < *windows) *windows = t->max_windows;
    if (*windows == 0)
        return fail(err, STRETTO_E_ARG,
                    "the text has %zu tokens, less than one window of %u; give a longer text or a "
                    "smaller -c",
                    t->n, t->window);
    return STRETTO_OK;
}

/* Copies window w, BOS in front where the model wants one. */
static void window_ids(const struct eval_text *t, size_t w, int32_t *ids)
{
    memcpy(ids, t->ids + w * t->window, t->window * sizeof *ids);
    if (t->bos >= 0) ids[0] = t->bos;
}

static stretto_status interrupted(size_t w, size_t windows, struct error *err)
{
    error_clear(err);
    return fail(err, STRETTO_E_CANCEL, "interrupted after %zu of %zu windows", w, windows);
}

/* A step that was cancelled, or a request that came between steps. */
static stretto_status or_cancelled(const struct eval_text *t, stretto_status s, size_t w,
                                   size_t windows, struct error *err)
{
    bool asked = s == STRETTO_OK && t->cancel && *t->cancel;
    return asked || s == STRETTO_E_CANCEL ? interrupted(w, windows, err) : s;
}

struct sums { double nll, nll2; size_t n; };

static void add_nll(struct sums *s, double nll)
{
    s->nll += nll;
    s->nll2 += nll * nll;
    s->n++;
}

static void finish_ppl(const struct sums *s, size_t windows, struct eval_ppl *out)
{
    double mean = s->nll / (double)s->n, var = s->nll2 / (double)s->n - mean * mean;
    *out =
        (struct eval_ppl){.perplexity = exp(mean), .nll = mean, .windows = windows, .tokens = s->n};
    if (s->n > 1 && var > 0) out->deviation = out->perplexity * sqrt(var / (double)(s->n - 1));
}

stretto_status eval_ppl(struct engine *e, const struct eval_text *t,
                        const struct progress *progress, struct eval_ppl *out, struct error *err)
{
    size_t windows;
    *out = (struct eval_ppl){ 0 };
    TRY(check(t, e, &windows, err));
    uint32_t vocab = engine_model(e)->config.vocab, first = t->window / 2, end = t->window - 1;
    struct reading r = { 0 };
    struct sums sums = { 0 };
    int32_t *ids = mem_alloc(t->window * sizeof *ids);
    stretto_status s = ids ? reading_open(&r, e, t->cancel, err) : fail(err, STRETTO_E_NOMEM, "out of memory");
    for (size_t w = 0; w < windows && s == STRETTO_OK; w++) {
        progress_tell(progress, "windows", w, windows);
        window_ids(t, w, ids);
        r.at = 0;
        while (s == STRETTO_OK && r.at < end) {
            uint32_t n = 0;
            s = or_cancelled(t, reading_next(&r, ids, first, end, &n, err), w, windows, err);
            for (uint32_t i = 0; i < n && s == STRETTO_OK; i++) {
                const float *x = r.logits + (size_t)i * vocab;
                add_nll(&sums, log_sum(x, vocab) - (double)x[ids[r.at - n + i + 1]]);
                s = or_cancelled(t, s, w, windows, err);
            }
        }
    }
    if (s == STRETTO_OK) {
        progress_tell(progress, "windows", windows, windows);
        finish_ppl(&sums, windows, out);
    }
    reading_done(&r);
    mem_free(ids);
    return s;
}

static double divergence(const float *base, const float *x, uint32_t n, double base_sum, double sum,
                         bool *same)
{
    double kl = 0;
    uint32_t top = 0, base_top = 0;
    for (uint32_t i = 0; i < n; i++) {
        double lp = (double)base[i] - base_sum;
        if (lp > -40) kl += exp(lp) * (lp - ((double)x[i] - sum));
        if (x[i] > x[top]) top = i;
        if (base[i] > base[base_top]) base_top = i;
    }
    *same = top == base_top;
    return kl > 0 ? kl : 0;
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static void finish_kl(float *kl, size_t n, const struct sums *base, const struct sums *own,
                      size_t same, size_t windows, struct eval_kl *out)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)kl[i];
    qsort(kl, n, sizeof *kl, ascending);
    struct eval_ppl b, o;
    finish_ppl(base, windows, &b);
    finish_ppl(own, windows, &o);
    *out = (struct eval_kl){.mean = sum / (double)n,
                            .median = (double)kl[n / 2],
                            .p99 = (double)kl[(n - 1) * 99 / 100],
                            .max = (double)kl[n - 1],
                            .same_top = (double)same / (double)n,
                            .perplexity = o.perplexity,
                            .base_perplexity = b.perplexity,
                            .windows = windows,
                            .tokens = n};
}

stretto_status eval_kl(struct engine *base, struct engine *e, const struct eval_text *t,
                       const struct progress *progress, struct eval_kl *out, struct error *err)
{
    size_t windows, n_kl = 0, same = 0;
    *out = (struct eval_kl){ 0 };
    TRY(check(t, base, &windows, err));
    TRY(check(t, e, &windows, err));
    uint32_t vocab = engine_model(e)->config.vocab, first = t->window / 2, end = t->window - 1;
    if (engine_model(base)->config.vocab != vocab)
        return fail(
            err, STRETTO_E_ARG,
            "the models have vocabularies of %u and %u tokens; only equal ones can be compared",
            engine_model(base)->config.vocab, vocab);
    struct reading rb = { 0 }, ro = { 0 };
    struct sums sb = { 0 }, so = { 0 };
    int32_t *ids = mem_alloc(t->window * sizeof *ids);
    float *kl = mem_alloc(windows * (end - first) * sizeof *kl);
    stretto_status s =
        ids && kl ? reading_open(&rb, base, t->cancel, err) : fail(err, STRETTO_E_NOMEM, "out of memory");
    if (s == STRETTO_OK) s = reading_open(&ro, e, t->cancel, err);
    for (size_t w = 0; w < windows && s == STRETTO_OK; w++) {
        progress_tell(progress, "windows", w, windows);
        window_ids(t, w, ids);
        rb.at = ro.at = 0;
        while (s == STRETTO_OK && rb.at < end) {
            uint32_t n = 0, m = 0;
            s = reading_next(&rb, ids, first, end, &n, err);
            if (s == STRETTO_OK) s = reading_next(&ro, ids, first, end, &m, err);
            s = or_cancelled(t, s, w, windows, err);
            for (uint32_t i = 0; i < n && s == STRETTO_OK; i++) {
                const float *b = rb.logits + (size_t)i * vocab, *x = ro.logits + (size_t)i * vocab;
                double bs = log_sum(b, vocab), xs = log_sum(x, vocab);
                int32_t next = ids[rb.at - n + i + 1];
                bool agree;
                add_nll(&sb, bs - (double)b[next]);
                add_nll(&so, xs - (double)x[next]);
                kl[n_kl++] = (float)divergence(b, x, vocab, bs, xs, &agree);
                same += agree;
                s = or_cancelled(t, s, w, windows, err);
            }
        }
    }
    if (s == STRETTO_OK) {
        progress_tell(progress, "windows", windows, windows);
        finish_kl(kl, n_kl, &sb, &so, same, windows, out);
    }
    reading_done(&rb);
    reading_done(&ro);
    mem_free(ids);
    mem_free(kl);
    return s;
}
