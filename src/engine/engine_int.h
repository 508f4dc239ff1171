/* What the engine's own files share: its sequences, steps and requests. */
#ifndef ENGINE_ENGINE_INT_H
#define ENGINE_ENGINE_INT_H
#include "cache/disk.h"
#include "cache/prefix.h"
#include "decode/account.h"
#include "decode/controller.h"
#include "engine/engine.h"
#include "engine/scheduler.h"
#include <stdatomic.h>

struct sequence {
    struct cache_seq cache;          /* cache.n_tokens: of `tokens`, those in the cache */
    struct prefix_seq at;            /* its place in the tree of pages */
    int32_t *tokens;                 /* [max_seq_pages * PAGE_SLOTS] */
    uint8_t *given;                  /* likewise: their roles */
    uint32_t known, unchanged;
    uint32_t last_row, last_rows;    /* its rows of the last call of engine_step */
    bool here;                       /* has rows in the call that is being looked at */
    bool open;
    bool managed;                    /* requests run on it: what it forgets is read again */
    uint64_t used;                   /* when it was last used */
    uint32_t shared;                 /* tokens that may be taken over while it reads */
    float *adapters;                 /* [the model's]: what they weigh on its rows */
    bool exact;                      /* as it was asked for; adapters that act on some rows need it */
    bool uninvoked;                  /* its text lacks the tokens behind which its adapter acts */
    struct prefix_miss missed;       /* by the last engine_set */
};

struct engine {
    const struct model *model;
    struct device *device;           /* the model's */
    struct program *program;
    struct cache cache;
    struct prefix prefix;            /* pages of texts that were read */
    enum cache_type cache_type;
    struct disk *disk;               /* and those that are in files, or NULL */
    bool disk_apart;                 /* engine_set takes nothing from it */
    void *compared;                  /* see engine_compare */
    unsigned char identity[DISK_DIGEST];     /* of its pages (engine_identity), once somebody asked */
    bool identified;
    struct sequence *seqs;           /* [n_seqs] */
    uint32_t n_seqs, n_open;
    uint64_t clock;                  /* counts uses of sequences */
    struct step_costs costs;
    struct engine_info info;
    void *memory;
    size_t bytes;
    /* the last call of engine_step, [max_rows] by its rows */
    int32_t *sent;                   /* the row's place in the step; -1: it was not sent */
    stretto_status *status;
    /* the arrays of the step (graph/step.h), [max_rows] by place */
    int32_t *token, *position, *seq, *slot, *parent, *ask_row;
    uint8_t *given, *ask_wants;
    struct step_seq *step_seqs;      /* [sequences] */
    int32_t *page_at;                /* [layer groups][sequences] */
    struct answer **ask_answer;      /* [max_rows] by ask */
    int32_t *path;                   /* [max_rows] slots of a path that is accepted */
    uint8_t *apart;                  /* [max_rows] by place: see struct row */
    struct sequence **owner;         /* [sequences] of the step's */
    int32_t *set_at, *set_row;       /* adapted.c: rows of the sets, or NULL where the model has none */
    float *set_weight;
    bool (*cancel)(void *ud);        /* see engine_cancel */
    void *cancel_ud;
    bool (*turn_cancel)(void *ud);   /* in a turn: instead, ud is the engine */
    struct schedule schedule;        /* scheduler.c */
    struct guess_account account;    /* of guessing in the steps of several writers */
    uint32_t read_beside;            /* rows that were read in the last step, where some wrote */
    struct slot *slots;              /* [sequences] */
    uint32_t n_slots, last_id;
    struct slot **order, **ranked;   /* [sequences] oldest request first; who reads first */
    struct bid *bids;                /* [sequences] */
    struct proposing *proposing;     /* [sequences] */
    struct draft_engine *drafts;     /* companions that its writers share (companion.c) */
    struct shared_heads *heads;
    struct row *rows;                /* [max_rows] of a turn, or of engine_feed */
    struct answer *answers;
    uint64_t turns, yielded;         /* yielded: see engine_pages */
    atomic_flag busy;                /* in a turn */
};

bool sequence_is_open(const struct engine *e, int32_t seq);
/* Slots up to n, the tree giving up pages where the pool has none left; the first slot that could not be had. */
uint32_t sequence_reserve(struct engine *e, struct sequence *s, uint32_t n);
/* The tokens behind those in the cache, at most `most` in all and in so many pages, are taken from the tree where it
 * has them in their roles: those of a text that is read at the same time, or its own that it gave up. */
void sequence_catch_up(struct engine *e, struct sequence *s, uint32_t most, uint32_t pages);
/* ---- adapted.c: adapters of rows ---- */

void adapted_plan(struct engine *e, struct arena *a);
/* The rows of the step in each set. */
void adapted_rows(struct engine *e, struct step *st);
/* What the tree is to know of a sequence with these weights; s->salt is set. */
void adapted_view(const struct engine *e, const float *weights, bool uninvoked, struct prefix_seq *s);
/* Before its text is tokens[0..n): the first that has the role of written ones; n: none. */
uint32_t adapted_begin(struct engine *e, struct sequence *s, const int32_t *tokens, uint32_t n);
/* A sequence that is opened. */
void adapted_reset(struct engine *e, struct sequence *s);

/* The part of the engine's memory that the scheduler uses; base == NULL measures. */
void scheduler_plan(struct engine *e, struct arena *a);
/* The sequence is closed: requests on it end in the next turn. */
void requests_lose(struct engine *e, int32_t seq);
/* Pages that could be had for a sequence: free ones and those that the tree would give up. */
uint32_t engine_pages_left(const struct engine *e);
/* e->identity: a digest of all that decides the bytes of a page. adapter: may be NULL; the first one counts. */
stretto_status engine_identity(struct engine *e, const char *adapter, struct error *err);
#endif
