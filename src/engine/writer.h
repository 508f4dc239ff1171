/* A writer continues one sequence: sampler, strategies and controller on one side, rows and answers on
 * the other. It makes the rows of its next step and reads their answers; the scheduler steps, for many
 * writers at once (scheduler.h). The text is the sequence's timeline in the engine.
 *
 * Exact: the tokens are those of plain decoding with the same sampling and seed, whatever is
 * guessed and whatever else is in the step. */
#ifndef ENGINE_WRITER_H
#define ENGINE_WRITER_H
#include "decode/controller.h"
#include "decode/logits.h"
#include "decode/sampler.h"
#include "engine/engine.h"

struct writer;

struct writer_options {
    struct decode_choice choice;
    uint32_t most;                     /* guess rows in a step at most; 0: 15               */
    struct strategy_setup setup;       /* store, companions, windows, seed; the rest: filled */
};

/* The sampler and calibration are borrowed. Everything is taken here. */
stretto_status writer_open(struct writer **out, struct engine *e, int32_t seq,
                           struct sampler *sampler, struct calibration *calibration,
                           const struct writer_options *o, struct error *err);
void writer_close(struct writer *w);
const struct engine *writer_engine(const struct writer *w);
/* From now on it continues another sequence, whose text begins anew (writer_begin). Not with companions. */
void writer_move(struct writer *w, int32_t seq);
/* Which of its strategies guess, from the next text on: some of those it was opened with, or none. */
void writer_choose(struct writer *w, struct decode_choice choice);

/* A new text: the sequence's timeline as it is. Forgets what it had not handed out. */
void writer_begin(struct writer *w);
/* Ends the text: no guess and no token beyond `limit` tokens of timeline (0: the context), and none
 * after a token for which `ends` (may be NULL) says so. Holds until the next call. */
void writer_limit(struct writer *w, uint32_t limit, bool (*ends)(const void *ud, int32_t token),
                  const void *ud);
/* Whether the text has ended. */
bool writer_done(const struct writer *w);

/* ---- before a step and after it, for whoever steps ---- */

/* What the last row of a prompt is to answer, and where to: behind it the text begins. */
void writer_ask(struct writer *w, struct row *row, struct answer *a);
/* Takes that answer: the first token. */
stretto_status writer_first(struct writer *w, const struct answer *a, struct error *err);

/* Whether what it guesses is only what pays (`auto`), so that it may be left out. */
bool writer_may_rest(const struct writer *w);
/* Writers make guesses behind their last tokens, those that are not in the cache yet, for a step in which
 * each may send `room` rows; companions of all of them run together. Then error says how each fared:
 * E_FULL when a text has reached its limit. */
struct proposing {
    struct writer *writer;
    size_t room;
    struct error error;
    bool waits;                        /* inside: for its companion */
};
void writers_propose(struct proposing *p, size_t n);
/* What it would send of them, for controllers_share. */
struct bid writer_bid(struct writer *w);
/* Appends its rows at rows[base..] and the places of their answers at answers[base..]: that of the last
 * token, `guesses` more at most, and behind them `apart` rows that will never be part of the text. Returns how many. */
size_t writer_rows(struct writer *w, struct row *rows, struct answer *answers, size_t base,
                   uint32_t guesses, uint32_t apart);
/* answers: of those rows alone, after the engine's step; the first has status OK. A guess that has not
 * is as if it had not been sent. Accepts in the engine. seconds: of the step; price: what the guess rows
 * added to it, in plain steps. */
stretto_status writer_take(struct writer *w, size_t base, const struct answer *answers, double seconds,
                           double price, struct error *err);

/* ---- its tokens ---- */

/* Certain tokens since writer_begin that the caller has not seen; takes one. */
bool writer_next(struct writer *w, int32_t *token);
/* From the next step on tokens come with the log probabilities of n_top others; -1: without any. */
void writer_score(struct writer *w, int32_t n_top);
/* The scores are those of the sampler (sampler_score), not the model's. */
void writer_score_drawn(struct writer *w, bool drawn);
/* Those of the token that writer_next gave last. */
const struct token_logprobs *writer_scores(const struct writer *w);
/* Before it writes, its places for logits serve who reads on its sequence: how many, `room` at most. */
size_t writer_places(struct writer *w, struct answer *places, size_t room);
/* Takes back the certain tokens that were not handed out, in the cache too. */
void writer_trim(struct writer *w);

const struct decode_counts *writer_counts(const struct writer *w);
/* Told, with its likeliest tokens, of the answer behind every certain token from the prompt's last on, in
 * their order; NULL: nobody. */
void writer_heard(struct writer *w, void (*heard)(void *ud, const struct answer *a), void *ud);
/* Ends its text as the other one does, and tells and is watched by the same. */
void writer_follow(struct writer *w, const struct writer *other);
/* Called after every step of this writer, its outcome at hand; NULL: nobody. */
void writer_watch(struct writer *w, void (*watch)(void *ud, const struct outcome *o, double seconds),
                  void *ud);
#endif
