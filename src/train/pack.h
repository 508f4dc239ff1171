/* From samples to steps. Samples that share a group are computed with their common beginning once: it is a trunk that
 * each of them sees, then only themselves. Noisy copies of its answers (noise.h) stand behind a sample's own rows: they
 * see the trunk, the sample up to where they begin, and themselves, so a row sees three ranges at most. Texts never
 * see each other, whatever stands beside them in a step, and nothing is filled up.
 *
 *   unit    a sample with its copies, or some of a group on one trunk, as many as fit into a step and a batch: what is
 *           shuffled, and stays together
 *   batch   the units of one update, about `batch_rows` rows; an epoch's batches are as large as each other, and
 *           later epochs are cut into as many (or a batch of each unit, where there are fewer)
 *   step    units of a batch that fit into `step_rows` rows, the longest first: what a program runs at once
 *
 * All of it follows from the samples, the seed and the epoch's number: there is nothing to save. */
#ifndef TRAIN_PACK_H
#define TRAIN_PACK_H
#include "format/adapter.h"
#include "graph/graph.h"
#include "graph/step.h"
#include "train/noise.h"
#include "train/taught.h"

enum { PACK_SHARE = 16 };         /* samples of a group in one unit at most                           */

struct pack_unit { uint32_t first, count, shared, rows; }; /* samples order[first .. first + count)   */

struct head_rows;                 /* a packing of theirs has units and steps of its own (heads.h)      */

/* batches: how many there are to be; 0: as many as are nearest to batch_rows rows each, which no unit has more than. */
struct packing_how {
    uint64_t seed, epoch;
    uint32_t step_rows, batch_rows, batches;
    bool in_order;
    const struct noise_how *noise;    /* copies beside the samples; NULL: none                         */
    const struct head_rows *heads;    /* NULL: the model's own rows                                    */
};

struct packing {
    const struct lines *lines;
    struct noise_how noise;
    uint64_t epoch;
    uint32_t *order;              /* [n samples]                                                      */
    struct pack_unit *unit; size_t n_units;
    uint32_t *batch; size_t n_batches; /* units of batch b: batch[b] .. batch[b + 1]                  */
    uint64_t rows, noisy;         /* noisy: those of copies among them                                 */
    uint32_t step_rows;
    uint32_t *step_of;            /* [n_units] of the batch that was asked for last                   */
    const struct head_rows *heads;
};

/* Rows that any step of these samples needs at least; noise may be NULL. */
uint32_t pack_longest(const struct lines *l, const struct noise_how *noise);
stretto_status packing_make(struct packing *p, const struct lines *l, const struct packing_how *how,
                            struct error *err);
void packing_done(struct packing *p);
/* Puts the units of a batch into steps and returns how many there are. *weights: the sum of what counts in it. */
uint32_t packing_steps(struct packing *p, size_t batch, double *weights);

/* Where a row's target comes from: the line; a teacher's record of the token; of noisy rows: what the sample's own row
 * answers that has read what is right (a program with likes). */
enum learn_from { LEARN_LINE, LEARN_TAUGHT, LEARN_CLEAN };

/* Room for a step. */
struct packed {
    uint32_t max_rows;
    int32_t *token, *position, *range_at, *ranges, *ask_row;
    uint8_t *given, *ask_wants, *ask_noisy; /* ask_noisy: it is of a copy's row                        */
    struct step_target *target;
    uint32_t *ask_sample, *ask_token; /* which token of which sample an ask is about                  */
    struct answer *answer, **answers;
    enum adapter_rows rows_of;        /* the caller's: those of the graph's set 0, unless it is ADAPTER_ALL */
    int32_t set_at[GRAPH_SETS + 1], *set_row;
    float *set_weight;
    enum learn_from clean_from, noisy_from;  /* the caller's; with a teacher's records, those                */
    float *vectors; int32_t n_vectors; /* what rows of heads bring: room for one each, of packed_vectors */
    /* Of a teacher, whose rows are `width` tokens long at most; NULL: the lines say what is learned.                */
    const struct taught *taught, *written;   /* of lines, and of what the model wrote itself */
    uint32_t width;
    int32_t *top;                     /* [max_rows][width] */
    float *prob, *add;                /* beside it; [max_rows] what a loss lacks                          */
    struct step step;
};

/* taught: where samples' targets come from, or NULL; borrowed. */
stretto_status packed_make(struct packed *p, uint32_t max_rows, const struct taught *taught, struct error *err);
/* Room for the vectors of rows of heads. */
stretto_status packed_vectors(struct packed *p, uint32_t width, struct error *err);
void packed_done(struct packed *p);
/* Step number `step` of the batch that packing_steps was asked for; targets' weights are divided by `weights`. */
void packed_fill(struct packed *p, const struct packing *of, size_t batch, uint32_t step, double weights);
#endif
