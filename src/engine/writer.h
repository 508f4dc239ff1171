/* A writer writes one sequence: sampler, strategies and controller on one side, rows and answers on
 * the other. It makes the rows of its next step and reads their answers; it does not step, so the
 * steps of many writers can be one (continuous batching). writer_step is the simple case.
 *
 * Exact: the tokens are those of plain decoding with the same sampling and seed, whatever is
 * guessed and whatever else is in the step. */
#ifndef ENGINE_WRITER_H
#define ENGINE_WRITER_H
#include "decode/controller.h"
#include "decode/sampler.h"
#include "engine/engine.h"

struct writer;

struct writer_options {
    struct decode_choice choice;
    uint32_t most;                     /* guess rows in a step at most; 0: 15               */
    struct strategy_setup setup;       /* store, companions, windows, seed; the rest: filled */
};

/* The sampler, costs and calibration are borrowed. Everything is taken here. */
stretto_status writer_open(struct writer **out, struct engine *e, int32_t seq,
                           struct sampler *sampler, struct step_costs *costs,
                           struct calibration *calibration, const struct writer_options *o,
                           struct error *err);
void writer_close(struct writer *w);

/* The timeline is now tokens[0..n), at most the context: all but the last are in the sequence's
 * cache. Forgets what it had not handed out. */
void writer_begin(struct writer *w, const int32_t *tokens, uint32_t n);
/* Ends the text: no guess and no token beyond `limit` tokens of timeline (0: the context), and none
 * after a token for which `ends` (may be NULL) says so. Holds until the next call. */
void writer_limit(struct writer *w, uint32_t limit, bool (*ends)(const void *ud, int32_t token),
                  const void *ud);

/* Appends the rows of the next step at rows[base..] and the places of their answers at answers[base..],
 * at most `room`, at least one; *n of them. E_FULL when the timeline has reached its limit. */
stretto_status writer_rows(struct writer *w, struct row *rows, struct answer *answers, size_t base,
                           size_t room, size_t *n, struct error *err);
/* answers: of those rows alone, after the engine's step; the first has status OK. A guess that has not
 * is as if it had not been sent. Accepts in the engine.
 * seconds: of a step of only these rows; 0 in a shared step, whose caller calls costs_learn. */
stretto_status writer_take(struct writer *w, size_t base, const struct answer *answers, double seconds,
                           struct error *err);
/* The two above around one engine_step. */
stretto_status writer_step(struct writer *w, struct error *err);

/* Certain tokens since writer_begin that the caller has not seen; takes one. */
bool writer_next(struct writer *w, int32_t *token);
/* Takes back the certain tokens that were not handed out, in the cache too. */
void writer_trim(struct writer *w);

const struct decode_counts *writer_counts(const struct writer *w);
/* Called after every step of this writer, its outcome at hand; NULL: nobody. */
void writer_watch(struct writer *w, void (*watch)(void *ud, const struct outcome *o, double seconds),
                  void *ud);
#endif
