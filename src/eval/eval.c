#include "eval/eval.h"
#include "base/memory.h"
#include "engine/scheduler.h"
#include "decode/logits.h"
#include <math.h>
#include <string.h>

/* Logits that one engine's rows hold at once: of rows, and of bytes where the vocabulary is large. */
enum { EVAL_ROWS = 128, EVAL_ROWS_LEAST = 16, EVAL_BYTES = 64 << 20 };

struct reading {                     /* one engine's way through a window */
    struct engine *e;
    const volatile int *cancel;
    int32_t seq;
    uint32_t vocab, rows;            /* rows: whose logits there is room for   */
    float *logits;                   /* [rows][vocab] */
    struct answer answers[EVAL_ROWS];
    uint32_t at;                     /* tokens of the window already read */
};

static stretto_status reading_open(struct reading *r, struct engine *e, const volatile int *cancel,
                                   struct error *err)
{
    uint32_t vocab = engine_model(e)->config.vocab, rows = EVAL_BYTES / (vocab * 4);
    if (rows < EVAL_ROWS_LEAST) rows = EVAL_ROWS_LEAST;
    if (rows > EVAL_ROWS) rows = EVAL_ROWS;
    if (rows > engine_about(e)->max_rows) rows = engine_about(e)->max_rows;
    *r = (struct reading){ .cancel = cancel, .vocab = vocab, .rows = rows };
    TRY(engine_seq_open(e, &r->seq, err));
    r->e = e;
    r->logits = mem_alloc((size_t)rows * vocab * sizeof *r->logits);
    if (!r->logits) return fail(err, STRETTO_E_NOMEM, "no memory for the logits of %u tokens", rows);
    for (size_t i = 0; i < rows; i++) r->answers[i].logits = r->logits + i * vocab;
    return STRETTO_OK;
}

static void reading_done(struct reading *r)
{
    mem_free(r->logits);
    if (r->e) engine_seq_close(r->e, r->seq);
}

/* Tokens up to `to`, those from `first` on with logits. */
static stretto_status read_to(struct reading *r, const int32_t *ids, uint32_t to, uint32_t first,
                              struct error *err)
{
    struct request q = { .seq = r->seq, .wants = first < to ? WANT_LOGITS : WANT_NOTHING, .first = first,
                         .room = r->rows, .places = r->answers,
                         .cancel = r->cancel ? engine_flag_set : NULL,
                         .ud = (void *)(uintptr_t)r->cancel };
    engine_set(r->e, r->seq, ids, to, r->at);
    TRY(request_run(r->e, &q, err));
    r->at = to;
    return STRETTO_OK;
}

/* Rows of a window whose logits are asked for in one go: they tell about the tokens behind them. */
struct span { uint32_t first, end; };

/* The next span of rows before tokens that count, from row `at` on; false: there is none. */
static bool span_next(const uint8_t *counts, uint32_t n, uint32_t at, uint32_t most, struct span *out)
{
    while (at + 1 < n && !counts[at + 1]) at++;
    *out = (struct span){ at, at };
    while (out->end + 1 < n && counts[out->end + 1] && out->end - at < most) out->end++;
    return out->end > at;
}

static stretto_status read_span(struct reading *r, const int32_t *ids, struct span s, struct error *err)
{
    if (r->at < s.first) TRY(read_to(r, ids, s.first, s.first, err));
    return read_to(r, ids, s.end, s.first, err);
}

static stretto_status check(const struct eval_set *set, struct engine *e, struct error *err)
{
    if (engine_model(e)->graph.logits == GRAPH_NONE)
        return fail(err, STRETTO_E_UNSUP,
                    "this model is an encoder; it gives no probabilities of a next token");
    if (set->longest > engine_about(e)->context)
        return fail(err, STRETTO_E_ARG, "a window of %u tokens; the context allows %u", set->longest,
                    engine_about(e)->context);
    return STRETTO_OK;
}

static stretto_status interrupted(size_t w, size_t windows, struct error *err)
{
    error_clear(err);
    return fail(err, STRETTO_E_CANCEL, "interrupted after %zu of %zu windows", w, windows);
}

/* A step that was cancelled, or a request that came between steps. */
static stretto_status or_cancelled(const volatile int *cancel, stretto_status s, size_t w, size_t windows,
                                   struct error *err)
{
    bool asked = s == STRETTO_OK && cancel && *cancel;
    return asked || s == STRETTO_E_CANCEL ? interrupted(w, windows, err) : s;
}

/* ---- perplexity ----------------------------------------------------------------------------- */

struct sums { double nll, nll2; size_t n; };

static void finish_ppl(const struct sums *s, size_t windows, struct eval_ppl *out)
{
    double mean = s->nll / (double)s->n, var = s->nll2 / (double)s->n - mean * mean;
    *out = (struct eval_ppl){ .perplexity = exp(mean), .nll = mean, .windows = windows, .tokens = s->n };
    if (s->n > 1 && var > 0) out->deviation = out->perplexity * sqrt(var / (double)(s->n - 1));
}

static stretto_status ppl_window(struct reading *r, const struct eval_set *set, size_t w, struct sums *sums,
                                 struct error *err)
{
    const int32_t *ids = set->id + set->at[w];
    const uint8_t *counts = set->counts + set->at[w];
    uint32_t n = (uint32_t)(set->at[w + 1] - set->at[w]);
    struct span s;
    r->at = 0;
    while (span_next(counts, n, r->at, r->rows, &s)) {
        TRY(or_cancelled(r->cancel, read_span(r, ids, s, err), w, set->n, err));
        for (uint32_t i = s.first; i < s.end; i++) {
            const float *x = r->logits + (size_t)(i - s.first) * r->vocab;
            double nll = logits_log_sum(x, r->vocab) - (double)x[ids[i + 1]];
            sums->nll += nll;
            sums->nll2 += nll * nll;
            sums->n++;
        }
    }
    return STRETTO_OK;
}

stretto_status eval_ppl(struct engine *e, const struct eval_set *set, const volatile int *cancel,
                        const struct progress *progress, struct eval_ppl *out, struct error *err)
{
    struct reading r = { 0 };
    struct sums sums = { 0 };
    *out = (struct eval_ppl){ 0 };
    TRY(check(set, e, err));
    stretto_status s = reading_open(&r, e, cancel, err);
    for (size_t w = 0; w < set->n && s == STRETTO_OK; w++) {
        progress_tell(progress, "windows", w, set->n);
        s = or_cancelled(cancel, ppl_window(&r, set, w, &sums, err), w, set->n, err);
    }
    if (s == STRETTO_OK) {
        progress_tell(progress, "windows", set->n, set->n);
        finish_ppl(&sums, set->n, out);
    }
    reading_done(&r);
    return s;
}

/* ---- divergence ------------------------------------------------------------------------------ */

void eval_rows_done(struct eval_rows *r)
{
    mem_free(r->row);
    *r = (struct eval_rows){ 0 };
}

stretto_status eval_rows_add(struct eval_rows *r, const struct eval_rows *part, struct error *err)
{
    struct eval_row *row = mem_resize(r->row, (r->n + part->n + 1) * sizeof *row);
    if (!row) return fail(err, STRETTO_E_NOMEM, "out of memory");
    r->row = row;
    for (size_t i = 0; i < part->n; i++) {
        row[r->n] = part->row[i];
        row[r->n++].window += (uint32_t)r->windows;
    }
    r->windows += part->windows;
    return STRETTO_OK;
}

struct comparison {
    const struct eval_base *base;
    struct reading own[EVAL_MODELS];
    size_t n;
    const struct eval_set *set;
    const volatile int *cancel;
    struct eval_rows *out;
};

static void compare_row(struct comparison *c, const float *b, uint32_t at, int32_t next, uint32_t window)
{
    uint32_t vocab = c->base->vocab;
    struct logits_about base = logits_about(b, vocab);
    for (size_t k = 0; k < c->n; k++) {
        const float *x = c->own[k].logits + (size_t)at * vocab;
        struct logits_about own = logits_about(x, vocab);
        struct eval_row *row = &c->out[k].row[c->out[k].n++];
        double kl, back;
        logits_divergence(b, &base, x, &own, vocab, &kl, &back);
        *row = (struct eval_row){ (float)kl, (float)back, (float)(base.log_sum - (double)b[next]),
                                  (float)(own.log_sum - (double)x[next]), window, base.top == own.top };
    }
}

static stretto_status compare_window(struct comparison *c, size_t w, struct error *err)
{
    const struct eval_set *set = c->set;
    const int32_t *ids = set->id + set->at[w];
    const uint8_t *counts = set->counts + set->at[w];
    uint32_t n = (uint32_t)(set->at[w + 1] - set->at[w]), most = c->base->most;
    struct span s = { 0 };
    for (size_t k = 0; k < c->n; k++) {
        c->own[k].at = 0;
        if (c->own[k].rows < most) most = c->own[k].rows;
    }
    while (span_next(counts, n, s.end, most, &s)) {
        const float *base;
        stretto_status status = c->base->answer(c->base->ud, w, s.first, s.end, &base, err);
        for (size_t k = 0; k < c->n && status == STRETTO_OK; k++) status = read_span(&c->own[k], ids, s, err);
        TRY(or_cancelled(c->cancel, status, w, set->n, err));
        for (uint32_t i = s.first; i < s.end; i++)
            compare_row(c, base + (size_t)(i - s.first) * c->base->vocab, i - s.first, ids[i + 1], (uint32_t)w);
    }
    return STRETTO_OK;
}

static stretto_status check_pair(uint32_t vocab, struct engine *e, const struct eval_set *set, struct error *err)
{
    TRY(check(set, e, err));
    uint32_t own = engine_model(e)->config.vocab;
    return vocab == own ? STRETTO_OK
                        : fail(err, STRETTO_E_ARG, "the models have vocabularies of %u and %u tokens; only equal ones "
                               "can be compared", vocab, own);
}

static stretto_status comparison_open(struct comparison *c, struct engine *const *models, size_t n, struct error *err)
{
    for (size_t k = 0; k < n; k++) TRY(check_pair(c->base->vocab, models[k], c->set, err));
    for (; c->n < n; c->n++) {
        size_t k = c->n;
        c->out[k].windows = c->set->n;
        c->out[k].row = mem_alloc((c->set->tokens + 1) * sizeof *c->out[k].row);
        if (!c->out[k].row) return fail(err, STRETTO_E_NOMEM, "out of memory");
        stretto_status s = reading_open(&c->own[k], models[k], c->cancel, err);
        if (s != STRETTO_OK) {
            reading_done(&c->own[k]);
            return s;
        }
    }
    return STRETTO_OK;
}

stretto_status eval_divergence_from(const struct eval_base *base, struct engine *const *models, size_t n,
                                    const struct eval_set *set, const volatile int *cancel,
                                    const struct progress *progress, struct eval_rows *out, struct error *err)
{
    for (size_t k = 0; k < n; k++) out[k] = (struct eval_rows){ 0 };
    if (n == 0 || n > EVAL_MODELS)
        return fail(err, STRETTO_E_ARG, "1 to %d models can be compared with a base, not %zu", EVAL_MODELS, n);
    struct comparison *c = mem_zalloc(1, sizeof *c);
    if (!c) return fail(err, STRETTO_E_NOMEM, "out of memory");
    c->base = base;
    c->set = set;
    c->cancel = cancel;
    c->out = out;
    stretto_status s = comparison_open(c, models, n, err);
    for (size_t w = 0; w < set->n && s == STRETTO_OK; w++) {
        progress_tell(progress, "windows", w, set->n);
        s = or_cancelled(cancel, compare_window(c, w, err), w, set->n, err);
    }
    if (s == STRETTO_OK) progress_tell(progress, "windows", set->n, set->n);
    for (size_t k = 0; k < c->n; k++) reading_done(&c->own[k]);
    mem_free(c);
    for (size_t k = 0; k < n && s != STRETTO_OK; k++) eval_rows_done(&out[k]);
    return s;
}

/* ---- a base that an engine has --------------------------------------------------------------- */

struct engine_base { struct reading r; const struct eval_set *set; size_t window; };

static stretto_status engine_answers(void *ud, size_t w, uint32_t first, uint32_t end, const float **logits,
                                     struct error *err)
{
    struct engine_base *b = ud;
    if (w != b->window) b->r.at = 0;
    b->window = w;
    *logits = b->r.logits;
    return read_span(&b->r, b->set->id + b->set->at[w], (struct span){ first, end }, err);
}

stretto_status eval_divergence(struct engine *base, struct engine *const *models, size_t n,
                               const struct eval_set *set, const volatile int *cancel,
                               const struct progress *progress, struct eval_rows *out, struct error *err)
{
    for (size_t k = 0; k < n; k++) out[k] = (struct eval_rows){ 0 };
    struct engine_base *b = mem_zalloc(1, sizeof *b);
    if (!b) return fail(err, STRETTO_E_NOMEM, "out of memory");
    b->set = set;
    b->window = SIZE_MAX;
    stretto_status s = check(set, base, err);
    if (s == STRETTO_OK) s = reading_open(&b->r, base, cancel, err);
    struct eval_base of = { engine_answers, b, b->r.vocab, b->r.rows };
    if (s == STRETTO_OK) s = eval_divergence_from(&of, models, n, set, cancel, progress, out, err);
    reading_done(&b->r);
    mem_free(b);
    return s;
}
