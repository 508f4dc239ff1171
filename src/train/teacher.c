#include "train/teacher.h"
#include "base/memory.h"
#include "decode/learned.h"
#include "engine/scheduler.h"
#include <stdio.h>
#include <string.h>

/* Logits at hand at once: of rows, and of bytes where the vocabulary is large. */
enum { ROWS = 128, ROWS_LEAST = 16, BYTES = 64 << 20 };

/* ---- whether it can teach -------------------------------------------------------------------- */

/* A token for people: what is no printable character is shown by its number. */
static void spelled(const struct tokenizer *t, int32_t id, char *out, size_t size)
{
    size_t n, at = 0;
    const char *p = tokenizer_spelling(t, id, &n);
    *out = '\0';
    for (size_t i = 0; p && i < n && at + 5 < size; i++) {
        unsigned char c = (unsigned char)p[i];
        at += (size_t)snprintf(out + at, size - at, c < 0x20 || c == 0x7f ? "\\x%02x" : "%c", c);
    }
}

static bool same_token(const struct tokenizer *a, const struct tokenizer *b, int32_t id)
{
    size_t n, m;
    const char *p = tokenizer_spelling(a, id, &n), *q = tokenizer_spelling(b, id, &m);
    return p && q ? n == m && memcmp(p, q, n) == 0 : p == q;
}

uint64_t teacher_vocabulary(const struct model *m) { return learned_vocabulary(m->tokenizer, m->config.vocab); }

stretto_status teacher_fits(const struct model *teacher, const struct model *student, struct error *err)
{
    const struct tokenizer *a = teacher->tokenizer, *b = student->tokenizer;
    char theirs[80], own[80];
    if (teacher->graph.logits == GRAPH_NONE)
        return fail(err, STRETTO_E_UNSUP, "the teacher is an encoder, which says no next token");
    if (teacher_vocabulary(teacher) == teacher_vocabulary(student)) return STRETTO_OK;
    size_t n = a && b ? tokenizer_size(a) < tokenizer_size(b) ? tokenizer_size(a) : tokenizer_size(b) : 0;
    for (size_t i = 0; i < n; i++) {
        if (same_token(a, b, (int32_t)i)) continue;
        spelled(a, (int32_t)i, theirs, sizeof theirs);
        spelled(b, (int32_t)i, own, sizeof own);
        return fail(err, STRETTO_E_ARG, "the teacher has another vocabulary: token %zu is '%s' there and '%s' here; "
                    "only a model with the same tokens can teach this one", i, theirs, own);
    }
    if (a && b && tokenizer_size(a) == tokenizer_size(b) && teacher->config.vocab == student->config.vocab)
        return STRETTO_OK;
    return fail(err, STRETTO_E_ARG, "the teacher has another vocabulary: %u tokens, and this model has %u; only a "
                "model with the same tokens can teach this one", teacher->config.vocab, student->config.vocab);
}

/* ---- its answers ----------------------------------------------------------------------------- */

struct reading {
    const struct teacher_how *how;
    const char *what;                    /* for who waits                 */
    struct engine *e;
    int32_t seq;
    struct taught *to;
    const struct lines *l;               /* of the sample                 */
    const struct sample *s;
    unsigned char *rows;                 /* of its record                 */
    uint32_t n_rows, at;
    uint64_t before;                     /* rows of the records before it */
    uint32_t room;
    struct answer answer[ROWS];
    float *logits, *scratch;             /* [room][vocab], or [room][width] of hidden states; [vocab] */
};

static bool cancelled(void *ud)
{
    const struct reading *r = ud;
    return r->how->cancel && *r->how->cancel;
}

static stretto_status answered(void *ud, uint32_t at, const struct answer *a, struct error *err)
{
    struct reading *r = ud;
    const struct taught_shape *s = &r->to->shape;
    if (!(sample_weights(r->l, r->s)[at + 1] > 0)) return STRETTO_OK;
    if (r->at >= r->n_rows) return fail(err, STRETTO_E_ARG, "the teacher answered more than it was asked");
    unsigned char *row = r->rows + r->at * taught_row_bytes(s);
    bool sound = s->width ? hidden_row(s, a->hidden, row)
                          : taught_row(s, a->logits, r->before + r->at, r->scratch, row);
    if (!sound)
        return fail(err, STRETTO_E_NAN, "what the teacher says of %s, line %u, token %u is no number",
                    r->l->file[r->s->file], r->s->line, at + 1);
    r->at++;
    return STRETTO_OK;
}

/* Tokens that rows are asked about are read here; what stands before them may be another text's. */
static stretto_status read_sample(struct reading *r, struct error *err)
{
    const struct sample *s = r->s;
    struct request q = { .seq = r->seq, .wants = r->to->shape.width ? WANT_HIDDEN : WANT_LOGITS,
                         .first = s->first - 1, .room = r->room, .places = r->answer, .answered = answered,
                         .cancel = cancelled, .ud = r };
    r->before = taught_rows_before(r->to, r->to->done);
    r->at = 0;
    TRY(taught_begin(r->to, &r->rows, &r->n_rows, err));
    engine_set(r->e, r->seq, sample_ids(r->l, s), s->last, s->first - 1);
    TRY(request_run(r->e, &q, err));
    if (r->at != r->n_rows) return fail(err, STRETTO_E_ARG, "the teacher answered less than it was asked");
    return taught_add(r->to, err);
}

static stretto_status read_samples(struct reading *r, const struct lines *l, const struct lines *held,
                                   struct error *err)
{
    while (r->to->done < r->to->n) {
        size_t i = (size_t)r->to->done;
        r->l = i < l->n ? l : held;
        r->s = i < l->n ? &l->sample[i] : &held->sample[i - l->n];
        progress_tell(&r->how->progress, r->what, taught_rows_before(r->to, i), r->to->rows);
        stretto_status s = read_sample(r, err);
        if (s == STRETTO_E_CANCEL) {
            error_clear(err);
            return fail(err, s, "interrupted while %s; what it said of %zu of %llu lines is kept",
                        r->to->shape.width ? "the model read the lines" : "the teacher was asked", i,
                        (unsigned long long)r->to->n);
        }
        TRY(s);
    }
    progress_tell(&r->how->progress, r->what, r->to->rows, r->to->rows);
    return STRETTO_OK;
}

static uint32_t longest(const struct lines *l, const struct lines *held)
{
    uint32_t most = 0;
    for (size_t i = 0; i < l->n; i++)
        if (l->sample[i].last > most) most = l->sample[i].last;
    for (size_t i = 0; held && i < held->n; i++)
        if (held->sample[i].last > most) most = held->sample[i].last;
    return most;
}

static stretto_status reading_open(struct reading *r, const struct model *m, const struct lines *l,
                                   const struct lines *held, struct error *err)
{
    uint32_t context = longest(l, held), vocab = m->config.vocab, width = r->to->shape.width;
    uint32_t values = width ? width : vocab;
    const struct engine_options o = { .threads = r->how->threads, .context = context, .sequences = 1,
                                      .pool_tokens = 4 * (context + PAGE_SLOTS),
                                      .cache = r->to->shape.width ? CACHE_F16 : CACHE_F32 };
    if (context > m->config.context)
        return fail(err, STRETTO_E_ARG, "a line has %u tokens, and the teacher reads %u at most: shorten it, or leave "
                    "such lines out with -c %u --skip-long", context, m->config.context, m->config.context);
    TRY(engine_open(&r->e, m, &o, err));
    TRY(engine_seq_open(r->e, &r->seq, err));
    r->room = BYTES / 4 / values < ROWS_LEAST ? ROWS_LEAST : BYTES / 4 / values;
    if (r->room > ROWS) r->room = ROWS;
    r->logits = mem_alloc((size_t)r->room * values * sizeof *r->logits);
    r->scratch = mem_alloc(vocab * sizeof *r->scratch);
    if (!r->logits || !r->scratch) return fail(err, STRETTO_E_NOMEM, "no memory for the logits of %u tokens", r->room);
    for (uint32_t i = 0; i < r->room; i++)
        *(width ? &r->answer[i].hidden : &r->answer[i].logits) = r->logits + (size_t)i * values;
    return STRETTO_OK;
}

static void on_progress(void *ud, uint64_t done, uint64_t total)
{
    progress_tell(&((const struct teacher_how *)ud)->progress, "opening the model that is asked", done, total);
}

stretto_status teacher_answer(const struct teacher_how *how, struct taught *to, const struct lines *l,
                              const struct lines *held, struct error *err)
{
    const struct model_open_options o = { .adapters = how->adapters, .n_adapters = how->n_adapters,
                                          .level = how->level, .memory = how->memory, .threads = how->threads,
                                          .progress = on_progress, .ud = (void *)(uintptr_t)how,
                                          .cancel = how->cancel };
    struct model *m = NULL;
    if (to->done == to->n) return taught_finish(to, err);
    struct reading *r = mem_zalloc(1, sizeof *r);
    if (!r) return fail(err, STRETTO_E_NOMEM, "out of memory");
    *r = (struct reading){ .how = how, .to = to, .what = to->shape.width ? "reading the lines" : "asking the teacher" };
    stretto_status s = model_open(&m, how->model, &o, err);
    if (s == STRETTO_OK) s = reading_open(r, m, l, held, err);
    if (s == STRETTO_OK) s = read_samples(r, l, held, err);
    engine_close(r->e);
    model_close(m);
    mem_free(r->logits);
    mem_free(r->scratch);
    mem_free(r);
    return s == STRETTO_OK ? taught_finish(to, err) : s;
}
