/* What the public handles hold. */
#ifndef API_HANDLES_H
#define API_HANDLES_H
#include "decode/learned.h"
#include "decode/stop.h"
#include "engine/companion.h"
#include "engine/scheduler.h"
#include "text/chat.h"

struct stretto_model {
    struct model *model;
    struct device *device;           /* taken of this process's; NULL: vocabulary only */
    struct chat *chat;               /* NULL: it has no template for conversations */
};

struct stretto_engine {
    struct engine *engine;
    struct learned learned;          /* what its texts taught it           */
    _Atomic(const void *) thread;    /* in a call on it: who; NULL: nobody */
    unsigned calls;                  /* of that thread, one in the other   */
};

struct embedding;

struct stretto_session {
    struct stretto_engine *engine;
    bool private_engine;
    int32_t seq;
    struct error err;
    struct sampler sampler;
    struct arena arena;
    struct writer *writer;
    struct decode_choice decode;
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
    struct buffer piece, whole, out; /* reserved at open: generating allocates nothing */
    struct stop_filter stop;
};

/* The process's device for a ceiling of the kernels (NULL: none), and back: for each model once. */
stretto_status shared_device_take(const char *level, struct device **out, struct error *err);
void shared_device_give(struct device *d);
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
