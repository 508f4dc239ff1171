/* A step: a set of rows sent through the model, and what they asked. It is flat arrays of integers
 * (and the vectors of rows that bring one), the same for every backend, so it can be sent to another
 * process or device as it stands; where answers go is said apart (struct answer).
 *
 * A sequence is a range of cache pages; a row sees its sequence's committed tokens and its chain of
 * parents. Rows of one sequence are neighbours, parents before children. In a chain row i + 1's
 * parent is row i, and slot = position. Guess trees put several rows at one position, each in a slot
 * of its own. */
#ifndef GRAPH_STEP_H
#define GRAPH_STEP_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STEP_COMMITTED = -1 };      /* parent: the committed end of the sequence */

/* What a row may want, as bits. Best, top and logits are answers of the head. */
enum step_want {
    WANT_NOTHING = 0,
    WANT_BEST = 1,                 /* the likeliest token, ties to the lowest id           */
    WANT_TOP = 2,                  /* the STEP_TOP likeliest                               */
    WANT_LOGITS = 4,               /* of the whole vocabulary                              */
    WANT_HIDDEN = 8,               /* what the head reads: graph.hidden                    */
    WANT_LOSS = 16,                /* of a graph that has a loss: how far the row is from its target */
    WANT_OF_HEAD = WANT_BEST | WANT_TOP | WANT_LOGITS
};

enum { STEP_TOP = 8 };
/* The likeliest tokens of a row, best first (ties: the lower id); id -1 behind the last. */
struct step_top { int32_t id[STEP_TOP]; float logit[STEP_TOP]; };

struct step_seq {
    int32_t committed;         /* tokens in the cache before this step                         */
    int32_t first_row, n_rows; /* its rows of this step                                        */
    int32_t tree;              /* 1: parents are not a chain: tail blocks go through a list    */
};

/* What a row should have said. */
struct step_target {
    int32_t token;
    float weight;              /* of its loss, divided already by the sum of the weights of the whole batch */
    /* A teacher's likeliest tokens and their probabilities, in place of `token`; all others have `tail` together. */
    uint32_t n_top;            /* 0: none                                                          */
    const int32_t *top;
    const float *prob;
    float tail;
    /* In place of all that: what ask number `like` - 1 of this step answers, all of it, and what made it is not changed
     * by that; 0: none. Only programs with likes (backend.h). */
    uint32_t like;
};

enum { STEP_RANGES = 4 };

/* A step of a graph that has a loss (graph/differentiate.h) has targets and ranges, and neither sequences nor pages:
 * n_seqs and n_heads are 0; seq, slot, parent, seqs, page and page_at are not read. All of its asks want WANT_LOSS,
 * their rows ascend. */
struct step {
    size_t n_rows, n_seqs, n_asks, n_heads;
    /* [n_rows]. A token t below 0 is no id: the row's input is vectors[-1 - t]. */
    const int32_t *token, *position, *seq, *slot, *parent;
    const uint8_t *given;        /* 1: a prompt row, 0: written (decoded or guessed)              */
    const float *vectors;        /* [][width of the graph's input]; NULL: every row has a token   */
    const struct step_seq *seqs; /* [n_seqs]                                                      */

    /* The asks: a row and enum step_want bits each. The first n_heads want something of the head, the
     * others their hidden state alone. */
    const int32_t *ask_row;      /* [n_asks]                                                      */
    const uint8_t *ask_wants;    /* [n_asks]                                                      */

    /* Page tables: block b (64 positions) of sequence s is in the physical page
     * page[page_at[g * n_seqs + s] + b] of layer group g. */
    const int32_t *page, *page_at;

    /* The rows of the graph's sets (graph.h: ROWS_SETS): those of set s are set_row[set_at[s]] up to
     * set_row[set_at[s + 1]], ascending, and what they weigh there (OP_WEIGH). set_at: [n_sets + 1]; NULL: no row is in
     * a set. */
    const int32_t *set_at, *set_row;
    const float *set_weight;

    const struct step_target *targets; /* [n_asks]; NULL where nobody wants a loss                */
    /* What rows see, themselves included, where that is rows of this step and not the cache: row r sees rows
     * ranges[2 i] .. ranges[2 i + 1] (the end is not seen) for range_at[r] <= i < range_at[r + 1], in this order,
     * at most STEP_RANGES of them. Windows count along them. range_at: [n_rows + 1]. NULL: inference */
    const int32_t *range_at, *ranges;

    /* Asked by any thread between pieces of work that take milliseconds; once it says true the step ends
     * with E_CANCEL, without answers. NULL: never. */
    bool (*cancel)(void *ud);
    void *cancel_ud;
};

/* What a row wanted, and how it fared. Only what is wanted is computed and written. */
struct answer {
    stretto_status status;   /* OK; E_NAN: what the model said is no number; or why it was not sent */
    int32_t best;
    float loss;              /* nats; without the target's weight                                   */
    float *logits, *hidden;  /* [n_vocab], [width]: places of the caller's choosing, set before     */
    struct step_top top;
};

static inline int32_t step_page(const struct step *s, size_t group, size_t seq, int32_t block)
{
    return s->page[s->page_at[group * s->n_seqs + seq] + block];
}
#endif
