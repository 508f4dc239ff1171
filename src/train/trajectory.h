/* Jacobi trajectories: how blocks of guessed tokens move towards what plain decoding writes, the
 * data that consistency training learns from (arXiv 2403.00835 §3.1).
 *
 * Answers are written side by side. Where one has ended every block of it is refined at once, because
 * what stands before each block is known: a block is a sequence that shares the pages of the clean text
 * and whose rows hang on the last clean token. One step moves all blocks by one state. Tokens of a state that
 * are right up to the first that is not are clean text and are not sent again. Then the next answer
 * begins in its place.
 *
 * The engine's sequences that are named here are open. */
#ifndef TRAIN_TRAJECTORY_H
#define TRAIN_TRAJECTORY_H
#include "engine/engine.h"

struct trajectory_how {
    uint32_t block;      /* tokens of a block, at least 2                                    */
    uint32_t states;     /* times a block is refined at most                                 */
    uint64_t seed;       /* of the first state                                               */
    uint32_t tokens;     /* of an answer at most                                             */
    /* Does answer number `which` end with its last token? */
    bool (*ends)(const void *ud, size_t which, const int32_t *token, uint32_t n);
    /* Told of every row of an answer: what was likely after `token`, which stands after `before` (-1:
     * nothing). NULL: nobody. */
    void (*said)(const void *ud, int32_t before, int32_t token, const struct step_top *top);
    const void *ud;
    const volatile int *cancel;
};

/* One answer. */
struct trajectory_answer {
    const int32_t *prompt; uint32_t n_prompt; /* the caller's                                */
    int32_t *token; uint32_t n;      /* until it was told of; an end token is the last of them */
    bool ended;                      /* by the model; otherwise by the number of tokens      */
};

/* State k of a block is at state[k * block]; state 0 is the guess. In wrong[k] stands the first
 * place where state k differs from the answer; n where it does not, then k is the last state. */
struct trajectory_block {
    uint32_t at, n;                  /* answer tokens [at, at + n)                           */
    int32_t *state; uint32_t *wrong; /* [states + 1][block], [states + 1]                    */
    uint32_t n_states;
    uint32_t clean;                  /* inside: its tokens that its sequence holds           */
};

/* The first guess for answer token i: a token of the prompt. */
int32_t trajectory_guess(const struct trajectory_answer *a, uint64_t seed, uint32_t i);
/* Writes n answers, `together` of them at a time, with that many writers of its own. Each is told when it has ended,
 * in any order; its sequence then holds it, until `done` returns. */
stretto_status trajectory_answers(struct engine *e, const struct trajectory_how *how, struct trajectory_answer *a,
                                  size_t n, uint32_t together,
                                  stretto_status (*done)(void *ud, size_t which, int32_t seq, struct error *err),
                                  void *ud, struct error *err);
/* Refines the blocks of the answer that sequence `seq` holds, in sequences from..from+forks-1.
 * block[] has one place for each `how->block` answer tokens begun. */
stretto_status trajectory_blocks(struct engine *e, const struct trajectory_how *how, int32_t seq,
                                 const struct trajectory_answer *a, int32_t from, uint32_t forks,
                                 struct trajectory_block *block, struct error *err);
#endif
