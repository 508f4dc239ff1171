/* The controller keeps guessing from ever being slower than not guessing. It knows two things:
 *
 *   what guesses are worth   per source and class of confidence, how often a guess was right when
 *                            its parent was. Learned from every proposal whose truth became known,
 *                            also from those that were never sent: watching costs no row.
 *   what rows cost           seconds of a step of n rows, from a probe and from every step since.
 *
 * Each step it sends the k guesses, best first, that maximise (1 + sum of path chances) / t(1 + k)
 * (arXiv 2402.12374 for the tree, the cost term is ours), or none when that is plain decoding. */
#ifndef DECODE_CONTROLLER_H
#define DECODE_CONTROLLER_H
#include "decode/strategy.h"

/* What steps cost here, by number of rows; one for an engine, shared by its sequences. */
struct step_costs {
    double seconds[DRAFT_ROWS + 2]; /* [n] rows; 0: never measured, then interpolated */
    uint32_t seen[DRAFT_ROWS + 2];
};
void costs_learn(struct step_costs *c, uint32_t rows, double seconds);
double costs_of(const struct step_costs *c, uint32_t rows);

struct calibration { float hits[STRATEGY_MAX][DRAFT_BUCKETS], tests[STRATEGY_MAX][DRAFT_BUCKETS]; };

struct decode_counts {               /* what it did, for people and for bench */
    uint64_t steps, tokens, rows;    /* rows: guess rows sent                 */
    uint64_t accepted;               /* guesses that were right               */
    uint64_t proposed[STRATEGY_MAX], sent[STRATEGY_MAX], right[STRATEGY_MAX];
    uint64_t by_rows[DRAFT_ROWS + 2];/* steps of n rows                        */
    double guess_seconds;            /* spent proposing                        */
};

struct controller {
    struct decode_choice choice;
    struct step_costs *costs;
    struct calibration *engine, own;   /* engine: where a request begins; own: this request */
    struct decode_counts counts;
    uint32_t most;                     /* guess rows at most                  */
    double margin, credit;
};
void controller_init(struct controller *c, struct decode_choice choice, struct step_costs *costs,
                     struct calibration *engine, uint32_t most);
/* Chance of each bucket of a source, for proposals. */
void controller_chances(const struct controller *c, unsigned source, float p[DRAFT_BUCKETS]);
/* How many nodes of the draft to send; `besides`: rows of other sequences in the same step. */
uint32_t controller_rows(struct controller *c, const struct draft *d, uint32_t besides);
/* Learns from a verified step: which proposals proved right, what the step cost. */
void controller_learn(struct controller *c, const struct outcome *o, double seconds, uint32_t rows);
#endif
