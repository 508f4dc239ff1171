#include "train/trajectory.h"
#include "base/memory.h"
#include "base/random.h"
#include "engine/scheduler.h"
#include <string.h>

static stretto_status cancelled(const struct trajectory_how *how, struct error *err)
{
    return how->cancel && *how->cancel ? fail(err, STRETTO_E_CANCEL, "interrupted") : STRETTO_OK;
}

int32_t trajectory_guess(const struct trajectory_answer *a, uint64_t seed, uint32_t i)
{
    return a->prompt[random_at(seed, 0, i, 0) % a->n_prompt];
}

/* One answer that is being written. */
struct answering {
    const struct trajectory_how *how;
    struct trajectory_answer *a;
    struct sampler sampler;
    struct writer *writer;
    uint32_t id, told;               /* told: tokens whose followers were told of */
};

/* What was likely after the last token that is certain: of the prompt first, then of the answer. */
static void heard(void *ud, const struct answer *got)
{
    struct answering *x = ud;
    const struct trajectory_answer *a = x->a;
    uint32_t n = a->n_prompt + x->told++;
    const int32_t *p = a->prompt;
    int32_t last[2] = { -1, -1 };
    for (uint32_t i = 0; i < 2 && n > i; i++)
        last[i] = n - 1 - i < a->n_prompt ? p[n - 1 - i] : a->token[n - 1 - i - a->n_prompt];
    x->how->said(x->how->ud, last[1], last[0], &got->top);
}

static bool cancel_asked(void *ud) { return *((struct answering *)ud)->how->cancel != 0; }

/* A prompt joins in sequence `seq`; greedy, without guesses. */
static stretto_status begin_answer(struct engine *e, struct answering *x, int32_t seq, struct arena *memory,
                                   struct calibration *calibration, struct error *err)
{
    static const struct sampling greedy = { .top_p = 1, .repeat_penalty = 1, .repeat_last_n = 64 };
    const struct writer_options plain = { .most = 1 };
    struct trajectory_answer *a = x->a;
    a->n = 0;
    a->ended = false;
    sampler_plan(&x->sampler, memory, engine_model(e)->config.vocab);
    TRY(sampler_set(&x->sampler, &greedy, err));
    TRY(writer_open(&x->writer, e, seq, &x->sampler, calibration, &plain, err));
    if (x->how->said) writer_heard(x->writer, heard, x);
    engine_set(e, seq, a->prompt, a->n_prompt, 0);
    writer_begin(x->writer);
    writer_limit(x->writer, a->n_prompt + x->how->tokens, NULL, NULL);
    struct request r = { .seq = seq, .writer = x->writer, .ud = x,
                         .cancel = x->how->cancel ? cancel_asked : NULL };
    return request_add(e, &r, &x->id, err);
}

static stretto_status take_tokens(struct engine *e, const struct event *v, uint32_t which, struct error *err)
{
    struct answering *x = v->ud;
    struct trajectory_answer *a = x->a;
    if (v->error.status != STRETTO_OK) return fail(err, v->error.status, "%s", v->error.text);
    for (int32_t token; writer_next(x->writer, &token);) a->token[a->n++] = token;
    if (v->wrote) a->ended = x->how->ends(x->how->ud, which, a->token, a->n);
    if (a->ended) request_cancel(e, x->id);
    return STRETTO_OK;
}

stretto_status trajectory_answers(struct engine *e, const struct trajectory_how *how,
                                  struct trajectory_answer *a, uint32_t count, struct error *err)
{
    struct calibration calibration;
    struct arena size = { 0 }, memory;
    struct sampler any;
    struct answering *x = mem_zalloc(count, sizeof *x);
    struct event *events = mem_zalloc(count, sizeof *events);
    sampler_plan(&any, &size, engine_model(e)->config.vocab);
    memory = (struct arena){ .cap = count * (size.top + 64) };
    memory.base = mem_map(memory.cap);
    calibration_init(&calibration);
    stretto_status s =
        x && events && memory.base ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "out of memory");
    for (uint32_t i = 0; i < count && s == STRETTO_OK; i++) {
        x[i].how = how;
        x[i].a = &a[i];
        s = begin_answer(e, &x[i], (int32_t)i, &memory, &calibration, err);
    }
    while (s == STRETTO_OK && requests_count(e)) {
        size_t n;
        s = engine_turn(e, events, count, &n, err);
        for (size_t i = 0; i < n && s == STRETTO_OK; i++)
            s = take_tokens(e, &events[i], (uint32_t)events[i].seq, err);
    }
    requests_drop(e);
    for (uint32_t i = 0; x && i < count; i++) writer_close(x[i].writer);
    mem_unmap(memory.base, memory.cap);
    mem_free(events);
    mem_free(x);
    return s;
}

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
        for (uint32_t i = 0; i + 1 < b->n; i++, n++)
            rows[n] = (struct row){from + (int32_t)f, y[i], i ? (int32_t)n - 1 : ROW_COMMITTED, 0,
                                   WANT_BEST};
        ++*moved;
    }
    if (n) TRY(engine_step(e, rows, n, got, err));
    n = 0;
    for (uint32_t f = 0; f < forks; f++) {
        struct trajectory_block *b = &block[f];
        if (!moving(b, how)) continue;
        int32_t *next = b->state + (size_t)b->n_states * how->block;
        next[0] = a->token[b->at]; /* the answer after the clean text: it has been asked already */
        for (uint32_t i = 1; i < b->n; i++) next[i] = got[n++].best;
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
            s = fork_text(e, a, seq, from + (int32_t)f, a->n_prompt + b->at, err);
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
