/* A strategy guesses tokens. It is one row of a table: it sees the timeline, adds guesses to the
 * tree of the next step, and afterwards sees what the model answered. What it guesses changes how
 * many tokens a step yields and never which: every token is the sampler's choice from the model's
 * own answer (exactness is tested for every row of the table). Plain decoding is the strategy that
 * proposes nothing.
 *
 * Rules: state lives in memory planned beforehand; propose and observe allocate nothing and cost
 * microseconds; a strategy must survive any timeline, also one that was rewound or replaced. */
#ifndef DECODE_STRATEGY_H
#define DECODE_STRATEGY_H
#include "base/status.h"
#include "decode/tree.h"
#include "decode/ngram.h"
#include "graph/step.h"

struct timeline {
    const int32_t *tokens; /* [n] certain tokens; the last has not been through the model yet */
    uint32_t n;
    const struct ngram_index *index;   /* of exactly these tokens: place = position           */
};

/* What it takes to ask a priced strategy now: seconds, and rows of the step itself. */
struct guess_price {
    double read;           /* for tokens it has missed: once                                  */
    double first, next;    /* for its first guess, for each further one                       */
    uint32_t rows;         /* that it wants in the step whatever they are worth               */
    bool silent;           /* it has nothing to say now                                       */
};

/* A second model that guesses (draft model, heads): supplied by the room that can run models. Guesses
 * come in rounds, so that those of many sequences share a step: whoever wants one asks, a run answers all
 * that have asked companions of one program, and everybody takes his. */
struct companion {
    void *ud;
    /* Foretells its time. `spend`: seconds that it may read for; what does not fit, it skips. */
    struct guess_price (*price)(void *ud, const struct timeline *t, double spend);
    /* Asks for guess k behind the timeline, k = 0, 1, ... in turn, the ones before it being right. */
    stretto_status (*ask)(void *ud, const struct timeline *t, uint32_t k, double spend,
                          struct error *err);
    stretto_status (*run)(void *ud, struct error *err);
    /* *token (-1: there is none) and *p, the companion's own probability of it. */
    stretto_status (*take)(void *ud, uint32_t k, int32_t *token, float *p, struct error *err);
    /* Heads read the hidden state behind the last certain token: the writer asks for it when
     * wants_hidden, and points `hidden` [width] at it; hidden_at is the length of the timeline it
     * belongs to (its row was tokens[hidden_at - 2]). */
    bool wants_hidden;
    const float *hidden;
    uint32_t hidden_at;
};

struct recycle_memory;     /* what was likely after tokens (recycle.h); shared by sessions */
struct suffix_store;       /* the global index of finished answers (suffix.h); shared by sessions */

/* A text that somebody expects behind the first `from` tokens: lookup copies from it, where it ends like the text or
 * nothing is written yet. n 0: none. Changes only between texts. */
struct prediction { const int32_t *tokens; uint32_t n, from; };

struct strategy_setup {
    uint32_t vocab;
    uint32_t rows;         /* rows besides row 0 it may count on, at most TREE_ROWS */
    uint64_t seed;         /* for filling: guesses only, never answers               */
    struct suffix_store *store;              /* or NULL */
    struct recycle_memory *memory;           /* or NULL: a memory of its own */
    struct companion *drafter, *heads;       /* or NULL */
    const struct prediction *prediction;     /* or NULL; looked at for every guess */
    bool gated;            /* the model has an adapter of guesses */
    uint32_t window, ngram, guesses;   /* jacobi: window; lookahead: W, N, G; 0: the default */
};

/* The class of guesses that nobody believes in, which are there to be answered. */
enum { STOPGAP_BUCKET = CONFIDENCE_BUCKETS - 1 };

/* What a strategy proposes with. p is looked up in the controller's calibration of (strategy,
 * bucket): a strategy only classifies how sure it is, 0..CONFIDENCE_BUCKETS-1. */
struct proposal {
    struct guess_tree *tree;
    unsigned strategy;
    const float *p_of_bucket;          /* [CONFIDENCE_BUCKETS] chance learned so far */
    float floor;                       /* paths below this are not worth adding */
    bool automatic;                    /* `auto`: nothing is sent because it is wanted */
    double spend;                      /* seconds that a companion may read for */
    const float *stop;                 /* [TREE_ROWS + 1] of a companion: after k guesses, the chance
                                        * of all of them from which one more pays; NULL: no price */
};
/* Adds a guess below parent; the node, or TREE_FULL (no place, or deeper than the text may go). */
int32_t propose_token(const struct proposal *p, int32_t parent, int32_t token, unsigned bucket,
                      bool wanted);

/* What might stand k places behind the timeline and the guesses that follow it: what followed the last time, or a token
 * of the text. A stopgap, for rows that are sent for their answers. */
int32_t stopgap_token(const struct timeline *t, const int32_t *guess, uint32_t k, uint64_t seed);
/* The probability of a row's token by the row itself, among its likeliest tokens; 0 where it is none of them. */
float top_probability(const struct step_top *top, int32_t token);

/* A companion's guesses, proposed as one chain; how sure it is of each makes the class. It ends where one
 * more does not pay, and without a price where its chance falls below `least`. */
struct guess_chain {
    struct companion *companion;
    uint32_t depth;                    /* guesses at most                                   */
    float least;
    bool begins;                       /* the first guess is proposed whatever its chance   */
    uint32_t k;                        /* guess that is asked next, or has been             */
    int32_t parent;
    float path;
    bool open;
};
void chain_begin(struct guess_chain *c, const struct proposal *p);
/* Asks for the next guess, or ends: then `open` is false. */
stretto_status chain_ask(struct guess_chain *c, const struct timeline *t, const struct proposal *p,
                         struct error *err);
/* Takes it, after a run, into the tree. */
stretto_status chain_take(struct guess_chain *c, const struct proposal *p, struct error *err);

struct outcome {
    const struct guess_tree *tree;         /* with rows and answers                                  */
    int32_t root_answer;               /* the model's token after the last certain token         */
    const struct answer *answers;      /* [row]: those that were sent have their `top`            */
    const int32_t *path; uint32_t n_path;   /* accepted nodes, in order                          */
    /* Rows apart that were answered, a chain behind the token that was the last: what follows each by the sampler's
     * choice, and its answer. */
    const int32_t *apart_next; const struct answer *apart; uint32_t n_apart;
    struct timeline now;               /* the timeline after acceptance, new last token included */
};

struct strategy {
    const char *name, *what, *paper;  /* command-line word; one line; paper                     */
    float prior[CONFIDENCE_BUCKETS];        /* p of a bucket before anything is learned               */
    bool automatic;                    /* takes part in `auto`                                   */
    /* Proposing takes time, or rows that nobody weighs: what, if asked now; `auto` then asks when
     * that pays. NULL: it costs nothing. */
    struct guess_price (*price)(void *state, const struct timeline *t, double spend);
    /* Places the state in `a` (base NULL measures), zeroed; returns it. */
    void *(*plan)(struct arena *a, const struct strategy_setup *s);
    /* Once memory is there; E_ARG with a sentence when it lacks something (a companion). NULL: none */
    stretto_status (*open)(void *state, const struct strategy_setup *s, struct error *err);
    /* The timeline's first `kept` tokens are as the state knows them; what follows is new. NULL: none*/
    void (*reset)(void *state, uint32_t kept);
    stretto_status (*propose)(void *state, const struct timeline *t, const struct proposal *p,
                              struct error *err);
    /* Instead of propose, of a strategy that has a companion: fills in companion, depth and least. */
    void (*chain)(void *state, struct guess_chain *out);
    void (*observe)(void *state, const struct outcome *o);   /* NULL: none */
    /* Rows ahead: those that a step carries for what they say of the tokens behind it, whatever they are worth in it.
     * With everybody's guesses weighed, at most `rows` of them: as wanted nodes of the tree, or, of a strategy whose
     * rows are `apart` (engine/engine.h: ROW_APART), as tokens of a chain behind the last certain one in
     * out[TREE_ROWS]; how many those are. UINT32_MAX: as many as it likes. NULL: it has none. */
    uint32_t (*ahead)(void *state, const struct timeline *t, const struct proposal *p, uint32_t rows,
                      int32_t *out);
    bool apart;
    float ahead_prior;                 /* chance of the first token that such rows foretell, to begin with */
    /* It has nothing to say before this step, and that says nothing. NULL: never */
    bool (*silent)(void *state, const struct timeline *t);
};

/* The table, NULL-terminated, at most STRATEGIES_MOST rows; plain is not in it: it is what remains
 * when nobody guesses. A strategy's number is its place. */
extern const struct strategy *const strategies[];
const struct strategy *strategy_find(const char *name, size_t length, unsigned *strategy);

/* The bit of the strategy of that name, which is there. */
uint32_t strategy_bit(const char *name);

/* The words that decode_parse takes, as a list for people: "auto, plain, jacobi, ...". */
void strategy_names(char *out, size_t room);

/* "auto", "plain", "lookup+suffix", "auto+lookahead". E_ARG names the words there are. */
struct decode_choice { uint32_t strategies; bool automatic; };
stretto_status decode_parse(const char *words, struct decode_choice *out, struct error *err);
#endif
