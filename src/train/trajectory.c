#include "train/trajectory.h"
#include "base/memory.h"
#include "base/random.h"
#include <string.h>

static stretto_status cancelled(const struct trajectory_how *how, struct error *err)
{
    return how->cancel && *how->cancel ? fail(err, STRETTO_E_CANCEL, "interrupted") : STRETTO_OK;
}

int32_t trajectory_guess(const struct trajectory_answer *a, uint64_t seed, uint32_t i)
{
    return a->prompt[random_at(seed, 0, i, 0) % a->n_prompt];
}

static void tell(const struct trajectory_how *how, const struct trajectory_answer *a,
                 const struct step_top *top)
{
    const int32_t *p = a->prompt;
    if (!how->said) return;
    int32_t token = a->n ? a->token[a->n - 1] : p[a->n_prompt - 1];
    int32_t before = a->n > 1 ? a->token[a->n - 2] : a->n ? p[a->n_prompt - 1]
                     : a->n_prompt > 1 ? p[a->n_prompt - 2] : -1;
    how->said(how->ud, before, token, top);
}

stretto_status trajectory_answers(struct engine *e, const struct trajectory_how *how,
                                  struct trajectory_answer *a, uint32_t count, struct error *err)
{
    struct row *rows = mem_zalloc(count, sizeof *rows);
    struct answer *got = mem_zalloc(count, sizeof *got);
    uint8_t wants = how->said ? WANT_BEST | WANT_TOP : WANT_BEST;
    stretto_status s =
        rows && got ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "out of memory");
    for (uint32_t i = 0; i < count && s == STRETTO_OK; i++) {
        a[i].n = 0;
        a[i].ended = false;
        engine_rewind(e, (int32_t)i, 0);
        if ((s = cancelled(how, err)) != STRETTO_OK) break;
        s = engine_feed(e, (int32_t)i, a[i].prompt, a[i].n_prompt, wants, got, err);
        if (s != STRETTO_OK) break;
        tell(how, &a[i], &got->top);
        a[i].token[0] = got->best;
        a[i].n = 1;
        a[i].ended = how->ends(how->ud, i, a[i].token, 1);
    }
    while (s == STRETTO_OK) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < count; i++)
            if (!a[i].ended && a[i].n < how->tokens)
                rows[n++] =
                    (struct row){ (int32_t)i, a[i].token[a[i].n - 1], ROW_COMMITTED, 0, wants };
        if (n == 0 || (s = cancelled(how, err)) != STRETTO_OK) break;
        if ((s = engine_step(e, rows, n, got, err)) != STRETTO_OK) break;
        for (uint32_t r = 0; r < n; r++) {
            struct trajectory_answer *x = &a[rows[r].seq];
            engine_commit(e, rows[r].seq, 1);
            tell(how, x, &got[r].top);
            x->token[x->n++] = got[r].best;
            x->ended = how->ends(how->ud, (uint32_t)rows[r].seq, x->token, x->n);
        }
    }
    mem_free(rows);
    mem_free(got);
    return s;
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
            s = engine_fork(e, seq, from + (int32_t)f, a->n_prompt + b->at, err);
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
