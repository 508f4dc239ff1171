#include "train/trajectory.h"
#include "base/memory.h"
#include "base/random.h"
#include "engine/writers.h"
#include <string.h>

static stretto_status cancelled(const struct trajectory_how *how, struct error *err)
{
    return how->cancel && *how->cancel ? fail(err, STRETTO_E_CANCEL, "interrupted") : STRETTO_OK;
}

int32_t trajectory_guess(const struct trajectory_answer *a, uint64_t seed, uint32_t i)
{
    return a->prompt[random_at(seed, 0, i, 0) % a->n_prompt];
}

/* ---- answers --------------------------------------------------------------------------------- */

/* One answer that is being written, in a writer's sequence. */
struct answering { struct answers *of; size_t which; uint32_t id, told; }; /* told: tokens whose followers were told */

struct answers {
    struct engine *e;
    const struct trajectory_how *how;
    struct trajectory_answer *a;
    size_t n, next;
    struct answering *at;                         /* [writers.n]                     */
    int32_t *room;                                /* [writers.n][how->tokens]        */
    struct writers writers;
    stretto_status (*done)(void *ud, size_t which, int32_t seq, struct error *err);
    void *ud;
};

/* What was likely after the last token that is certain: of the prompt first, then of the answer. */
static void heard(void *ud, const struct answer *got)
{
    struct answering *x = ud;
    const struct trajectory_how *how = x->of->how;
    const struct trajectory_answer *a = &x->of->a[x->which];
    uint32_t n = a->n_prompt + x->told++;
    const int32_t *p = a->prompt;
    int32_t last[2] = { -1, -1 };
    for (uint32_t i = 0; i < 2 && n > i; i++)
        last[i] = n - 1 - i < a->n_prompt ? p[n - 1 - i] : a->token[n - 1 - i - a->n_prompt];
    how->said(how->ud, last[1], last[0], &got->top);
}

/* The next answer in the place of writer k. */
static stretto_status begin_answer(struct answers *x, uint32_t k, struct error *err)
{
    struct plain_writer *w = &x->writers.w[k];
    if (x->next == x->n) return STRETTO_OK;
    x->at[k] = (struct answering){ .of = x, .which = x->next };
    struct trajectory_answer *a = &x->a[x->next++];
    a->token = x->room + (size_t)k * x->how->tokens;
    a->n = 0;
    a->ended = false;
    if (x->how->said) writer_heard(w->writer, heard, &x->at[k]);
    engine_set(x->e, w->seq, a->prompt, a->n_prompt, a->n_prompt);
    writer_begin(w->writer);
    writer_limit(w->writer, a->n_prompt + x->how->tokens, NULL, NULL);
    struct request r = { .seq = w->seq, .writer = w->writer, .cancel = x->how->cancel ? engine_flag_set : NULL,
                         .ud = (void *)(uintptr_t)x->how->cancel };
    return request_add(x->e, &r, &x->at[k].id, err);
}

static stretto_status take_tokens(struct answers *x, const struct event *v, struct error *err)
{
    uint32_t k = writers_find(&x->writers, v->seq);
    struct trajectory_answer *a = &x->a[x->at[k].which];
    if (v->error.status != STRETTO_OK) return fail(err, v->error.status, "%s", v->error.text);
    for (int32_t token; writer_next(x->writers.w[k].writer, &token);) a->token[a->n++] = token;
    if (v->wrote) a->ended = x->how->ends(x->how->ud, x->at[k].which, a->token, a->n);
    if (a->ended) request_cancel(x->e, x->at[k].id);
    if (!a->ended && !v->done) return STRETTO_OK;
    TRY(x->done(x->ud, x->at[k].which, v->seq, err));
    return begin_answer(x, k, err);
}

static stretto_status write_all(struct answers *x, struct error *err)
{
    for (uint32_t k = 0; k < x->writers.n; k++) TRY(begin_answer(x, k, err));
    while (requests_count(x->e)) {
        size_t n;
        TRY(engine_turn(x->e, x->writers.events, x->writers.n, &n, err));
        for (size_t i = 0; i < n; i++) TRY(take_tokens(x, &x->writers.events[i], err));
    }
    return STRETTO_OK;
}

stretto_status trajectory_answers(struct engine *e, const struct trajectory_how *how, struct trajectory_answer *a,
                                  size_t n, uint32_t together,
                                  stretto_status (*done)(void *ud, size_t which, int32_t seq, struct error *err),
                                  void *ud, struct error *err)
{
    struct answers x = { .e = e, .how = how, .a = a, .n = n, .done = done, .ud = ud };
    if (together > n) together = (uint32_t)n;
    if (!n) return STRETTO_OK;
    TRY(writers_open(e, &x.writers, together, err));
    x.at = mem_zalloc(together, sizeof *x.at);
    x.room = mem_zalloc((size_t)together * how->tokens, sizeof *x.room);
    stretto_status s = x.at && x.room ? write_all(&x, err) : fail(err, STRETTO_E_NOMEM, "out of memory");
    requests_drop(e);
    writers_close(e, &x.writers);
    mem_free(x.at);
    mem_free(x.room);
    return s;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* `to` becomes the first n tokens of the clean text. Blocks come in ascending order: where a window has left
 * their beginnings behind (engine_reach), the text is read again, from each to the next. */
static stretto_status fork_text(struct engine *e, const struct trajectory_answer *a, int32_t seq, int32_t to,
                                uint32_t n, struct error *err)
{
    if (engine_reach(e, seq, n) < n) {
        if (engine_known(e, seq) > n) engine_rewind(e, seq, n);
        for (uint32_t k; (k = engine_known(e, seq)) < n;) engine_push(e, seq, a->token[k - a->n_prompt]);
        TRY(request_run(e, &(struct request){ .seq = seq }, err));
    }
    return engine_fork(e, seq, to, n, err);
}

/* What the last state still has wrong goes behind it. */
static void note(struct trajectory_block *b, const struct trajectory_how *how,
                 const struct trajectory_answer *a)
{
    const int32_t *y = b->state + (size_t)b->n_states * how->block;
    uint32_t k = 0;
    while (k < b->n && y[k] == a->token[b->at + k]) k++;
    b->wrong[b->n_states++] = k;
}

static bool moving(const struct trajectory_block *b, const struct trajectory_how *how)
{
    return b->wrong[b->n_states - 1] < b->n && b->n_states <= how->states;
}

/* All blocks that still move, by one state. *n: how many did. */
static stretto_status refine(struct engine *e, const struct trajectory_how *how,
                             const struct trajectory_answer *a, int32_t from, uint32_t forks,
                             struct trajectory_block *block, struct row *rows, struct answer *got,
                             uint32_t *moved, struct error *err)
{
    size_t n = 0;
    *moved = 0;
    for (uint32_t f = 0; f < forks; f++) {
        const struct trajectory_block *b = &block[f];
        const int32_t *y = b->state + (size_t)(b->n_states - 1) * how->block;
        if (!moving(b, how)) continue;
        for (uint32_t i = b->clean; i + 1 < b->n; i++, n++)
            rows[n] = (struct row){from + (int32_t)f, y[i], i > b->clean ? (int32_t)n - 1 : ROW_COMMITTED, 0,
                                   WANT_BEST};
        ++*moved;
    }
    if (n) TRY(engine_step(e, rows, n, got, err));
    n = 0;
    for (uint32_t f = 0; f < forks; f++) {
        struct trajectory_block *b = &block[f];
        if (!moving(b, how)) continue;
        int32_t *next = b->state + (size_t)b->n_states * how->block;
        uint32_t right = b->wrong[b->n_states - 1] < b->n - 1 ? b->wrong[b->n_states - 1] : b->n - 1;
        for (uint32_t i = 0; i <= b->clean; i++) next[i] = a->token[b->at + i];   /* asked already */
        for (uint32_t i = b->clean + 1; i < b->n; i++) next[i] = got[n++].best;
        if (right > b->clean) b->clean += engine_commit(e, from + (int32_t)f, right - b->clean);
        note(b, how, a);
    }
    return STRETTO_OK;
}

stretto_status trajectory_blocks(struct engine *e, const struct trajectory_how *how, int32_t seq,
                                 const struct trajectory_answer *a, int32_t from, uint32_t forks,
                                 struct trajectory_block *block, struct error *err)
{
    size_t most = (size_t)forks * how->block;
    struct row *rows = mem_zalloc(most, sizeof *rows);
    struct answer *got = mem_zalloc(most, sizeof *got);
    stretto_status s = rows && got ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "out of memory");
    uint32_t blocks = (a->n + how->block - 1) / how->block;
    for (uint32_t first = 0; first < blocks && s == STRETTO_OK; first += forks) {
        uint32_t n = blocks - first < forks ? blocks - first : forks, moved = 1;
        for (uint32_t f = 0; f < n && s == STRETTO_OK; f++) {
            struct trajectory_block *b = &block[first + f];
            b->at = (first + f) * how->block;
            b->n = a->n - b->at < how->block ? a->n - b->at : how->block;
            b->n_states = 0;
            for (uint32_t i = 0; i < b->n; i++)
                b->state[i] = trajectory_guess(a, how->seed, b->at + i);
            note(b, how, a);
            b->clean = b->wrong[0] < b->n ? b->wrong[0] : b->n - 1;
            s = fork_text(e, a, seq, from + (int32_t)f, a->n_prompt + b->at + b->clean, err);
        }
        while (s == STRETTO_OK && moved) {
            if ((s = cancelled(how, err)) == STRETTO_OK)
                s = refine(e, how, a, from, n, block + first, rows, got, &moved, err);
        }
        for (uint32_t f = 0; f < n; f++) engine_rewind(e, from + (int32_t)f, 0);
    }
    mem_free(rows);
    mem_free(got);
    return s;
}
