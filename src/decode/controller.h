/* The controller keeps guessing from ever being slower than not guessing. It knows two things:
 *
 *   what guesses are worth   per strategy and bucket of confidence, how often a guess was right when
 *                            its parent was. Learned from every proposal whose truth became known,
 *                            also from those that were never sent: watching costs no row.
 *   what rows cost           seconds of a step of n rows, from a table and from every step since.
 *
 * Each step it sends the k guesses, best first, that maximise (1 + sum of path chances) / t(1 + k)
 * (arXiv 2402.12374 for the tree, the cost term is ours), or none when that is plain decoding. An
 * account of what guessing really won or lost raises the margin it must clear.
 *
 * A strategy whose rows foretell the next step's tokens (strategy.h: ahead) gets as many of them as pay: what they will
 * make of the next step, by how often such guesses proved right place by place, against what they add to this one. */
#ifndef DECODE_CONTROLLER_H
#define DECODE_CONTROLLER_H
#include "backend/backend.h"
#include "decode/strategy.h"

enum { COSTS_MOST = TREE_ROWS + 1, COSTS_READS = 12 };  /* rows of a step that are told apart */
enum { AHEAD_DEPTH = 16 };             /* places of rows ahead that are told apart             */

/* What steps cost here, by number of rows; one for an engine, shared by its sequences. The seconds
 * of one row drift with the length of the text and with the machine; the ratios hardly do. */
struct step_costs {
    double base;                       /* seconds of a step of one row; 0: never measured */
    float prior[COSTS_MOST + 1];       /* [n] t(n) / t(1) before anything is measured     */
    float factor[COSTS_MOST + 1];      /* what was measured, over the prior               */
    uint32_t seen[COSTS_MOST + 1], steps;
    float read[COSTS_READS];           /* [k] seconds that each of 2^k.. given rows added, if it looked back on none */
    float look;                        /* what each token does that a given row looks back on, in such rows */
    float look_prior;
    uint32_t read_seen[COSTS_READS];
    bool fixed;                        /* another machine's ratios: nothing is learned    */
};
/* Begins with what the device says of itself. */
void costs_init(struct step_costs *c, const struct device *d);
/* As if the machine's steps of 1, 2, 4, 8, 16 and 32 rows cost so many steps of one; linear between
 * and beyond. For measuring what guesses would be worth there. */
enum { COSTS_POINTS = 6 };
void costs_fix(struct step_costs *c, const float at[COSTS_POINTS]);
/* Robust against single slow steps (a stolen core). */
void costs_learn(struct step_costs *c, uint32_t rows, double seconds);
/* What looking back costs before anything is measured: a share of a given row's time for each token that it sees. */
void costs_look(struct step_costs *c, double share);
/* Given rows of one step, and the tokens that all of them look back on, of all layers' average. */
struct given_rows { uint32_t rows; double back; };
/* They were read beside `written` others, or alone. */
void costs_learn_reading(struct step_costs *c, uint32_t written, struct given_rows r, double seconds);
/* Plain steps that they add to a step; 0: none was measured yet. */
double costs_reading(const struct step_costs *c, struct given_rows r);
/* t(n) / t(1) as believed now, and seconds (0: unknown). */
double costs_ratio(const struct step_costs *c, uint32_t rows);
double costs_of(const struct step_costs *c, uint32_t rows);

/* How being asked went for a priced strategy; older times fade. gained: tokens that nobody else had
 * guessed, less what their rows took in plain steps; made: guesses. After a loss it is not asked for
 * `wait` steps, out of pauses that double. */
struct asking { float times, gained, made; uint32_t pause, wait; };

/* What guesses proved worth. How often a class of a strategy was right, whoever else proposed the same,
 * decides what is proposed. What is sent is decided by all strategies together: each adds evidence, in
 * log odds, for a token it proposes and against one it does not (logistic mixing, Mahoney 2005). */
struct calibration {
    struct asking asking[STRATEGIES_MOST];                      /* of priced strategies            */
    float hits[STRATEGIES_MOST][CONFIDENCE_BUCKETS], tests[STRATEGIES_MOST][CONFIDENCE_BUCKETS];
    float evidence[STRATEGIES_MOST][CONFIDENCE_BUCKETS + 1], bias;   /* [CONFIDENCE_BUCKETS]: not proposed */
    /* Of guesses that rows ahead made: right where the one before was, by their place. Not kept in files. */
    float ahead_hits[STRATEGIES_MOST][AHEAD_DEPTH], ahead_tests[STRATEGIES_MOST][AHEAD_DEPTH];
};
void calibration_init(struct calibration *c);

struct decode_counts {                 /* what it did, for people and for bench */
    uint64_t steps, tokens, rows;      /* rows: guess rows sent                 */
    uint64_t accepted;                 /* guesses that were right               */
    uint64_t proposed[STRATEGIES_MOST], sent[STRATEGIES_MOST], right[STRATEGIES_MOST];
    uint64_t apart;                    /* rows apart, which are in rows too     */
    uint64_t by_rows[COSTS_MOST + 1];  /* steps of n rows                       */
    double guess_seconds;              /* spent proposing                       */
    /* Of priced strategies: times asked, their seconds, plain steps won (lost: below 0), and steps at
     * which asking did not promise to pay, or would have passed what may be lost. */
    uint64_t asked[STRATEGIES_MOST], unpaying[STRATEGIES_MOST], withheld[STRATEGIES_MOST];
    double seconds[STRATEGIES_MOST], won[STRATEGIES_MOST];
};

struct controller {
    struct decode_choice choice;
    struct step_costs *costs;
    struct calibration *engine, own;   /* engine: where a request begins; own: this request */
    struct decode_counts counts;
    uint32_t most;                     /* guess rows at most                                */
    double credit;                     /* won by guessing, in plain steps; forgets slowly   */
    double won;                        /* the same of this text, whole                      */
    double spent;                      /* plain steps that priced strategies took in this step */
    double lately[2];                  /* tokens of the last steps, plain steps that they took */
    struct asked {                     /* in this step; the rest of priced strategies only     */
        bool now;
        double seconds, read, rate;    /* rate: tokens a plain step without it              */
        double spend;                  /* what it may read for                              */
        float stop[TREE_ROWS + 1];    /* where one more guess does not pay                 */
    } asked[STRATEGIES_MOST];
};
void controller_init(struct controller *c, struct decode_choice choice, struct step_costs *costs,
                     struct calibration *engine, uint32_t most);
/* A new text: what this request taught is forgotten, what the engine knows is not. */
void controller_begin(struct controller *c);
/* Whether to let a strategy propose now; always for those that cost nothing. A priced one, whose state
 * is `state`, may add to what the others have put into the tree d: it is asked where it is expected
 * to win more than its price, and only while all of a request's asking has lost next to nothing. */
bool controller_asks(struct controller *c, unsigned strategy, void *state, const struct timeline *t,
                     struct guess_tree *d);
/* Chance of each bucket of a strategy, for proposals; returns the floor below which paths are not
 * worth adding. */
float controller_chances(const struct controller *c, unsigned strategy, float p[CONFIDENCE_BUCKETS]);
/* Seconds that a strategy spent proposing. */
void controller_asked(struct controller *c, unsigned strategy, double seconds);
/* Gives every node of the tree its chance by the evidence of all strategies, and weighs the tree. */
void controller_weigh(struct controller *c, struct guess_tree *d);
/* How many rows ahead the strategy gets, at most `room`, where `writers` texts share the step and guess alike;
 * *promise: tokens that they will bring the next step. For `auto`; the tree is weighed. */
uint32_t controller_ahead(struct controller *c, unsigned strategy, const struct guess_tree *d, uint32_t room,
                          uint32_t writers, double *promise);
/* What one sequence might send in a step that many share. */
struct bid {
    struct controller *controller;
    struct guess_tree *tree;           /* weighed                                            */
    uint32_t room;                     /* guess rows at most                                 */
    uint32_t apart;                    /* rows apart beside them; out: those that are sent   */
    double promise;                    /* of its rows ahead                                  */
    uint32_t rows;                     /* out: how many nodes of the tree to send           */
    uint32_t wanted;                   /* of controllers_share: of them, those sent for their answers */
    float gains[TREE_ROWS];           /* of controllers_share: its paths, descending        */
    uint32_t n_gains, taken;
};
/* Shares out the guess rows of one step, at most `room`, over all bids: as many, best paths first, as
 * promise the most tokens per second. Each bid has one certain row in the step. `reading`: plain steps that
 * prompts add to it; they have to be read sooner or later and so are no reason to guess, but nobody's step
 * gets a twentieth longer than with them alone. What must be sent (not `auto`, or wanted) comes first; wanted nodes of
 * `auto` only where what they promise keeps to that. */
void controllers_share(struct bid *bids, size_t n, uint32_t room, double reading);
/* The same for one alone. */
uint32_t controller_rows(struct controller *c, struct guess_tree *d, uint32_t room, double reading);
/* Learns from a verified step which proposals proved right. `price`: what its guess rows added to the
 * step, in plain steps. */
void controller_learn(struct controller *c, const struct outcome *o, double price);
#endif
