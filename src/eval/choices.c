#include "eval/choices.h"
#include "base/buffer.h"
#include "base/memory.h"
#include "engine/scheduler.h"
#include "decode/logits.h"
#include "text/tokenizer.h"
#include <math.h>
#include <string.h>

/* Logits at hand: bytes of all requests together, and of one request's rows at most. */
enum { CHOICES_BYTES = 32 << 20, CHOICES_ROWS = 64 };
/* Pages that the tasks of one batch take, unless one of them takes more. */
enum { CHOICES_PAGES = 16 };

/* ---- tokens --------------------------------------------------------------------------------- */

void choices_done(struct choice_set *s)
{
    for (size_t i = 0; i < s->n; i++)
        for (size_t c = 0; c < TASK_CHOICES; c++) mem_free(s->task[i].id[c]);
    mem_free(s->task);
    *s = (struct choice_set){ 0 };
}

static stretto_status encode_one(struct choice_tokens *out, const struct tokenizer *t, const struct eval_task *task,
                                 uint32_t c, struct error *err)
{
    struct buffer b = buffer_make(16 * TASK_TEXT_MAX);
    struct tokens all = { 0 };
    stretto_status s = buffer_printf(&b, "%s %s", task->question, task->choice[c]);
    s = s == STRETTO_OK ? tokenizer_encode(t, b.data, b.len, TOKENIZE_ADD, &all, err) : fail(err, s, "out of memory");
    if (s == STRETTO_OK && !all.n) s = fail(err, STRETTO_E_ARG, "a task has no tokens");
    out->id[c] = s == STRETTO_OK ? mem_alloc(all.n * sizeof *out->id[c]) : NULL;
    if (s == STRETTO_OK && !out->id[c]) s = fail(err, STRETTO_E_NOMEM, "out of memory");
    if (s == STRETTO_OK) memcpy(out->id[c], all.id, all.n * sizeof *out->id[c]);
    out->length[c] = (uint32_t)all.n;
    buffer_done(&b);
    tokens_done(&all);
    return s;
}

/* How many tokens all begin with, so that each has one more. */
static uint32_t common(const struct choice_tokens *x)
{
    uint32_t k = 0, least = x->length[0];
    for (uint32_t c = 1; c < x->n; c++) least = x->length[c] < least ? x->length[c] : least;
    for (; k + 1 < least; k++)
        for (uint32_t c = 1; c < x->n; c++)
            if (x->id[c][k] != x->id[0][k]) return k;
    return k;
}

/* Of the beginning, and of each answer those from the page on that it shares in part. */
static uint32_t pages_of(const struct choice_tokens *t)
{
    uint32_t whole = t->common / PAGE_SLOTS, n = whole + 1;
    for (uint32_t c = 0; c < t->n; c++) n += (t->length[c] + PAGE_SLOTS - 1) / PAGE_SLOTS - whole;
    return n;
}

uint32_t choices_pool(const struct choice_set *s)
{
    uint32_t most = CHOICES_PAGES;
    for (size_t i = 0; i < s->n; i++)
        if (pages_of(&s->task[i]) > most) most = pages_of(&s->task[i]);
    return most * PAGE_SLOTS;
}

stretto_status choices_open(struct choice_set *s, const struct tokenizer *t, const struct eval_tasks *tasks,
                            struct error *err)
{
    *s = (struct choice_set){ .task = mem_zalloc(tasks->n, sizeof *s->task) };
    if (!s->task) return fail(err, STRETTO_E_NOMEM, "out of memory");
    for (size_t i = 0; i < tasks->n; i++) {
        struct choice_tokens *x = &s->task[s->n++];
        stretto_status status = STRETTO_OK;
        x->n = tasks->v[i].n;
        for (uint32_t c = 0; c < x->n && status == STRETTO_OK; c++) {
            status = encode_one(x, t, &tasks->v[i], c, err);
            if (x->length[c] > s->longest) s->longest = x->length[c];
        }
        if (status == STRETTO_OK && !(x->common = common(x)))
            status = fail(err, STRETTO_E_UNSUP, "the answers of a task share no first token");
        if (status != STRETTO_OK) {
            choices_done(s);
            return status;
        }
    }
    return STRETTO_OK;
}

/* ---- requests ------------------------------------------------------------------------------- */

/* One text that is read in a batch: the common beginning of a task, or an answer behind it. */
struct part {
    struct scoring *all;
    const struct choice_tokens *task;
    struct choice_result *out;
    int32_t seq;
    uint32_t choice, end;                  /* the text's first `end` tokens are read            */
    bool beginning;
    struct answer place[CHOICES_ROWS];
};

struct scoring {
    struct engine *e;
    const volatile int *cancel;
    uint32_t vocab, rows;                  /* rows of logits there is room for                 */
    float *logits;
    struct part part[CHOICES_SEQUENCES + TASK_CHOICES];
    struct event events[CHOICES_SEQUENCES];
    uint32_t n;                            /* parts of this round */
};

static bool asked_to_stop(void *ud)
{
    const struct part *p = ud;
    return p->all->cancel && *p->all->cancel;
}

/* The last token of the beginning tells about the first of every answer, others about the next of theirs. */
static stretto_status take(void *ud, uint32_t at, const struct answer *a, struct error *err)
{
    struct part *p = ud;
    (void)err;
    double sum = logits_log_sum(a->logits, p->all->vocab);
    uint32_t c = p->beginning ? 0 : p->choice, end = p->beginning ? p->task->n : p->choice + 1;
    for (; c < end; c++) p->out->score[c] += (double)a->logits[p->task->id[c][at + 1]] - sum;
    return STRETTO_OK;
}

static stretto_status run_parts(struct scoring *x, struct error *err)
{
    uint32_t id, room = x->n ? x->rows / x->n : 0;
    if (room > CHOICES_ROWS) room = CHOICES_ROWS;
    for (uint32_t i = 0; i < x->n; i++) {
        struct part *p = &x->part[i];
        for (uint32_t k = 0; k < room; k++)
            p->place[k] = (struct answer){ .logits = x->logits + ((size_t)i * room + k) * x->vocab };
        uint32_t first = p->beginning ? p->end - 1 : p->task->common;
        struct request r = { .seq = p->seq, .wants = WANT_LOGITS, .first = first, .room = room,
                             .places = p->place, .answered = take, .cancel = asked_to_stop, .ud = p };
        stretto_status s = request_add(x->e, &r, &id, err);
        if (s != STRETTO_OK) {
            requests_drop(x->e);
            return s;
        }
    }
    while (requests_count(x->e)) {
        size_t n;
        stretto_status s = engine_turn(x->e, x->events, CHOICES_SEQUENCES, &n, err);
        for (size_t i = 0; i < n && s == STRETTO_OK; i++)
            if (x->events[i].error.status != STRETTO_OK)
                s = fail(err, x->events[i].error.status, "%s", x->events[i].error.text);
        if (s != STRETTO_OK) {
            requests_drop(x->e);
            return s;
        }
    }
    return STRETTO_OK;
}

/* How many of the tasks from `at` on are read together. */
static size_t batch_of(const struct scoring *x, const struct choice_set *s, size_t at)
{
    size_t n = 0, sequences = 0, pages = 0, rows = 0;
    for (; at + n < s->n; n++) {
        const struct choice_tokens *t = &s->task[at + n];
        sequences += t->n;
        pages += pages_of(t);
        for (uint32_t c = 0; c < t->n; c++) rows += t->length[c] - t->common;
        if (n && (sequences > CHOICES_SEQUENCES || pages > CHOICES_PAGES || rows > x->rows)) break;
    }
    return n;
}

/* The beginnings of n tasks, and a part for every answer: it stands in the sequence of its number in the batch, which
 * is no less than its task's. */
static stretto_status begin_batch(struct scoring *x, const struct choice_set *s, size_t at, size_t n,
                                  struct choice_result *out, struct error *err)
{
    int32_t seq = 0, head[CHOICES_SEQUENCES];
    for (size_t i = 0; i < n; i++) {
        const struct choice_tokens *t = &s->task[at + i];
        head[i] = (int32_t)i;
        engine_set(x->e, head[i], t->id[0], t->common, 0);
        x->part[i] = (struct part){ .all = x, .task = t, .out = &out[at + i], .seq = head[i],
                                    .end = t->common, .beginning = true };
    }
    x->n = (uint32_t)n;
    TRY(run_parts(x, err));
    /* Backwards, so that a beginning is forked before its sequence is an answer's. */
    for (size_t i = n; i-- > 0;) seq += (int32_t)s->task[at + i].n;
    x->n = (uint32_t)seq;
    for (size_t i = n; i-- > 0;) {
        const struct choice_tokens *t = &s->task[at + i];
        for (uint32_t c = t->n; c-- > 0;) {
            seq--;
            if (seq != head[i]) TRY(engine_fork(x->e, head[i], seq, t->common, err));
            x->part[seq] = (struct part){ .all = x, .task = t, .out = &out[at + i], .seq = seq,
                                          .choice = c, .end = t->length[c] - 1 };
        }
    }
    return STRETTO_OK;
}

static stretto_status end_batch(struct scoring *x, struct error *err)
{
    uint32_t n = x->n;
    x->n = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct part *p = &x->part[i];
        if (p->end == p->task->common) continue;            /* one token, which is scored already */
        engine_set(x->e, p->seq, p->task->id[p->choice], p->end, p->task->common);
        x->part[x->n++] = *p;
    }
    return run_parts(x, err);
}

static void choose(const struct choice_tokens *t, struct choice_result *r)
{
    for (uint32_t c = 0; c < t->n; c++) {
        r->score[c] /= t->length[c] - t->common;
        if (r->score[c] > r->score[r->chosen]) r->chosen = c;
    }
}

static stretto_status scoring_open(struct scoring *x, struct engine *e, const struct choice_set *s, struct error *err)
{
    x->vocab = engine_model(e)->config.vocab;
    x->rows = CHOICES_BYTES / (x->vocab * 4);
    if (x->rows < CHOICES_SEQUENCES) x->rows = CHOICES_SEQUENCES;
    if (engine_model(e)->graph.logits == GRAPH_NONE)
        return fail(err, STRETTO_E_UNSUP, "this model is an encoder; it gives no probabilities of a next token");
    if (engine_about(e)->context < s->longest)
        return fail(err, STRETTO_E_ARG, "a task of %u tokens; the context allows %u", s->longest,
                    engine_about(e)->context);
    if (engine_about(e)->sequences < CHOICES_SEQUENCES)
        return fail(err, STRETTO_E_ARG, "an engine of %d sequences is needed", CHOICES_SEQUENCES);
    x->logits = mem_alloc((size_t)x->rows * x->vocab * sizeof *x->logits);
    if (!x->logits) return fail(err, STRETTO_E_NOMEM, "no memory for the logits of %u tokens", x->rows);
    x->e = e;
    return engine_seq_open_all(e, err);
}

stretto_status choices_score(struct engine *e, const struct choice_set *s, const volatile int *cancel,
                             const struct progress *progress, struct choice_result *out, struct error *err)
{
    struct scoring *x = mem_zalloc(1, sizeof *x);
    if (!x) return fail(err, STRETTO_E_NOMEM, "out of memory");
    x->cancel = cancel;
    stretto_status status = scoring_open(x, e, s, err);
    for (size_t i = 0; i < s->n; i++) out[i] = (struct choice_result){ 0 };
    for (size_t at = 0, n; at < s->n && status == STRETTO_OK; at += n) {
        progress_tell(progress, "tasks", at, s->n);
        n = batch_of(x, s, at);
        status = begin_batch(x, s, at, n, out, err);
        if (status == STRETTO_OK) status = end_batch(x, err);
        for (size_t i = at; i < at + n && status == STRETTO_OK; i++) choose(&s->task[i], &out[i]);
        model_release(engine_model(e));
    }
    if (status == STRETTO_OK) progress_tell(progress, "tasks", s->n, s->n);
    for (int32_t i = 0; x->e && i < CHOICES_SEQUENCES; i++) engine_seq_close(e, i);
    mem_free(x->logits);
    mem_free(x);
    return status;
}

/* ---- what shares are worth ------------------------------------------------------------------ */

void share_interval(size_t right, size_t n, double *low, double *high)
{
    const double z = 1.95996398454;
    double p = (double)right / (double)n, a = z * z / (double)n;
    double half = z * sqrt(p * (1 - p) / (double)n + a / (4 * (double)n));
    *low = (p + a / 2 - half) / (1 + a);
    *high = (p + a / 2 + half) / (1 + a);
}

double mcnemar(size_t only_a, size_t only_b)
{
    size_t n = only_a + only_b, less = only_a < only_b ? only_a : only_b;
    double p = 0;
    if (2 * less >= n) return 1;
    for (size_t k = 0; k <= less; k++)
        p += exp(lgamma((double)n + 1) - lgamma((double)k + 1) - lgamma((double)(n - k) + 1) - (double)n * log(2));
    return 2 * p < 1 ? 2 * p : 1;
}
