/* A step: a set of rows sent through the model, and what they answered. Flat integer arrays, the
 * same for every backend. Sequences are ranges of cache pages; a row sees its sequence's committed
 * tokens and its chain of parents.
 *
 * Rows of one sequence are neighbours, parents before children. In a chain row i+1's parent is row
 * i; then slot = position. Guess trees put several rows at one position, each in a slot of its own.
 */
#ifndef GRAPH_STEP_H
#define GRAPH_STEP_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STEP_COMMITTED = -1 };      /* parent: the committed end of the sequence */

enum step_ask { ASK_NOTHING = 0, ASK_BEST = 1, ASK_LOGITS = 2, ASK_HIDDEN = 4 };

enum { STEP_TOP = 8 };
/* The likeliest tokens of a row, best first (ties: the lower id); id -1 behind the last. */
struct step_top { int32_t id[STEP_TOP]; float logit[STEP_TOP]; };

struct step_seq {
    const int32_t *pages;          /* physical page of every 64 slots                             */
    int32_t committed;         /* tokens in the cache before this step                         */
    int32_t first_row, n_rows; /* its rows of this step                                        */
    bool tree;                 /* parents are not a chain: tail blocks go through a list       */
};

struct step {
    size_t n_rows, n_seqs;
    const int32_t *token, *position, *seq, *slot, *parent; /* [n_rows]                           */
    const uint8_t *given;        /* [n_rows] 1: a prompt row, 0: written (decoded or guessed)     */
    const uint8_t *asks;         /* [n_rows] enum step_ask bits                                   */
    const struct step_seq *seqs; /* [n_seqs]                                                      */

    /* Answers, in the order of the rows that ask for anything; NULL where nothing of it is wanted.
     */
    int32_t *best; /* [n_asks] arg-max, ties to the lowest id                       */
    struct step_top *top; /* [n_asks]                                               */
    float *logits; /* [n_asks][n_vocab]                                             */
    float *hidden; /* [n_asks][width]                                               */

    /* Asked by any thread between pieces of work that take milliseconds; once it says true the step ends
     * with E_CANCEL, without answers. NULL: never. */
    bool (*cancel)(void *ud);
    void *cancel_ud;
};
#endif
