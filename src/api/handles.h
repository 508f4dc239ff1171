/* What the public handles hold. */
#ifndef API_HANDLES_H
#define API_HANDLES_H
#include "decode/learned.h"
#include "decode/text_stream.h"
#include "engine/companion.h"
#include "engine/scheduler.h"
#include "text/chat.h"
#include <pthread.h>

struct stretto_model {
    struct model *model;             /* stays, with its texts, when it goes on elsewhere */
    struct device *taken[SPLIT_MEMBERS]; /* [n_taken] of this process's: the cpu, or cards and the cpu behind them */
    size_t n_taken;
    struct chat *chat;               /* NULL: it has no template for conversations */
    bool automatic;                  /* on a card, and the cpu goes on where that cannot (move.c) */
    uint32_t threads;                /* as it was opened, for then; level is owned, or NULL */
    char *level;
    void (*moved)(void *user, const char *line);
    void *moved_user;
    pthread_mutex_t lock;
    struct model *spare;             /* under lock: on the cpu; NULL while the card does */
    struct device *spare_device;
};

struct stretto_engine {
    struct engine *engine;
    const struct stretto_model *model;
    struct engine_options options;
    struct stretto_session *sessions;
    struct engine *left;             /* on the device that was lost, until all is closed; or NULL */
    struct learned learned;          /* what its texts taught it           */
    _Atomic(const void *) thread;    /* in a call on it: who; NULL: nobody */
    unsigned calls;                  /* of that thread, one in the other   */
};

struct embedding;

struct stretto_session {
    struct stretto_engine *engine;
    struct stretto_session *next;    /* of the engine's                    */
    bool private_engine;
    int32_t seq;
    struct error err;
    struct sampler sampler;
    struct arena arena;
    struct writer *writer;
    struct decode_choice decode;
    stretto_decoding how;            /* as it was asked for; heads is the session's own copy */
    struct drafter *drafter;
    struct heads *heads;
    float *logits;                   /* [vocab], and the best token: of the prompt's last row    */
    int32_t best;
    struct embedding *embedding;     /* that is being computed, or NULL */
    atomic_bool busy;                /* in a call */
    bool answered;     /* they are at hand, and nothing was picked from them                 */
    bool begun;        /* the writer is at work; the timeline may have more than we told     */
    uint32_t n_tokens; /* of the timeline: what the caller gave and was given                */
    struct logit_bias *bias;
    int (*read)(void *user, size_t done, size_t total);   /* watches a prompt being read, or NULL */
    void *read_user;
    const volatile int *cancel, *cancel_here;   /* the caller's flag, and that of a call; or NULL  */
    struct buffer out;               /* reserved at open: generating allocates nothing */
    struct text_stream text;
};

/* The process's device of that word, which backend_find gave (NULL: the cpu), for a ceiling of the kernels (NULL:
 * none), and back: for each model once. */
stretto_status shared_device_take(const char *word, const char *level, struct device **out,
                                  struct error *err);
void shared_device_give(struct device *d);
/* ---- move.c: what a model opened with "auto" does when its card cannot go on ---- */

/* The model where it runs now: itself, or on the cpu. */
stretto_status model_running(const stretto_model *m, struct model **out, struct error *err);
/* Whether a call of the session that ended with `status` is to be tried once more, on the cpu: then its engine and
 * the engine's sessions are there, and `was` (the engine that it ran on) is no longer theirs. */
bool session_moves(stretto_session *s, const struct engine *was, stretto_status status);
/* Opens the engine, on the cpu where its card has no memory for it. */
stretto_status engine_place(stretto_engine *e, struct error *err);
/* Opens what guesses for a session, in the engine: as s->how says, of it what `choice` takes part in. */
stretto_status session_companions(stretto_session *s, struct engine *e, const stretto_decoding *how,
                                  struct decode_choice *choice, struct drafter **drafter,
                                  struct heads **heads);

/* Around every call that uses a session's engine. E_ARG when another thread is in one, or when a callback
 * of the session calls it; a callback may call other sessions of the engine. */
stretto_status session_enter(stretto_session *s);
void session_leave(stretto_session *s);
stretto_status engine_enter(stretto_engine *e, struct error *err);
void engine_leave(stretto_engine *e);
/* stretto_session_next inside such a call. */
stretto_status session_next(stretto_session *s, int32_t *id);
/* A request on the session's sequence that its flags end; ud is the session. */
struct request session_request(stretto_session *s);
/* Copies the caller's struct over our defaults: an older caller's is shorter, a newer one's tail
 * must be zero. */
stretto_status options_take(void *ours, size_t our_size, const void *theirs, struct error *err);
/* Gives the words to the caller's buffer; returns s. */
stretto_status report(stretto_status s, const struct error *e, char *err, size_t err_size);
#endif
