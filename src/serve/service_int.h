/* What the files of serving share. The service's lock guards what other threads reach: the inbox, who closed and
 * who finished, the last look. The rest of a service is its own thread's. */
#ifndef SERVE_SERVICE_INT_H
#define SERVE_SERVICE_INT_H
#include "decode/learned.h"
#include "decode/text_stream.h"
#include "engine/companion.h"
#include "engine/embedding.h"
#include "engine/scheduler.h"
#include "serve/ring.h"
#include "serve/service.h"
#include <pthread.h>

enum { CLIENTS_MOST = 512, CLIENT_NAME = 32 };

/* Who pays. */
struct client {
    char name[CLIENT_NAME];
    uint64_t hash;                     /* of the whole name                                       */
    double used;                       /* seconds that were charged, or lifted to                 */
    uint32_t waiting, placed, running; /* jobs in the queue, in slots, and of those: in the steps */
};

struct job {
    struct service *service;
    struct client *client;             /* once the service's thread has seen it                   */
    uint32_t offers;                   /* tokens that the cache had of it                         */
    const struct slot *behind;         /* it waits until this one, with that job, has read        */
    uint64_t behind_number, checked;   /* so many tokens; checked: joins when this was looked at  */
    uint32_t common;
    struct job *next;                  /* in the inbox, or among those that wait                  */
    uint64_t number;
    struct job_options o;              /* what it points to is the job's own                      */
    const char **stops;                /* [n_stops + 1], NULL at the end                          */
    struct sampling how;
    double submitted;
    atomic_bool cancel;
    atomic_bool full;                  /* its writer waits for room in the ring                   */
    atomic_bool finished;              /* `done` is whole                                         */
    bool closed;                       /* the service's lock                                      */
    struct embedding embedding;        /* of JOB_EMBED                                            */
    float *vectors;                    /* what it makes: the job's until it is closed             */
    struct ring ring;                  /* memory of all three comes with a place: who waits takes little */
    struct {                           /* what JOB_DONE says                                      */
        enum job_finish finish;
        const char *stop;
        const float *vector;
        size_t n_vector;
        struct job_usage usage;
        stretto_status status;         /* of FAILED, and its words if there was memory for them  */
        struct error *words;
    } done;
    const struct record *held;         /* the reader's: of the event it has                       */
    bool told;                         /* it has had JOB_DONE                                     */
};

/* A copy of the options with all they point to, checked. E_ARG, E_NOMEM. */
stretto_status job_make(struct job **out, const struct job_options *o, struct error *err);
void job_free(struct job *j);
/* Events of the service's thread; false where the ring has no room. */
bool job_tell_read(struct job *j, enum job_event_kind kind, uint32_t read, const struct job_usage *so_far);
bool job_tell_text(struct job *j, const char *text, size_t n_text, const struct job_token *tokens, uint32_t n);
bool job_tell_scores(struct job *j, uint32_t first, const struct job_token *tokens, uint32_t n);
/* The last one: afterwards the job may be gone. */
void job_finish(struct job *j, enum job_finish why, const struct job_usage *usage, const struct error *failed);

enum { PENDING_MOST = 256, SCORED_MOST = 64 };

/* Tokens whose text is not whole yet, and where each begins and ends in the text that has come out. */
struct pending { struct job_token token; uint64_t from, to; };

/* A place where a job runs: a sequence of the engine and what continues it. */
struct slot {
    struct service *service;
    struct job *job;                   /* NULL: free                                              */
    int32_t seq;
    uint32_t request;                  /* 0: not among the engine's now                           */
    struct sampler sampler;
    struct writer *writer;
    struct drafter *drafter;           /* companions of the writer, or NULL                       */
    struct heads *heads;
    struct prediction prediction;      /* the job's                                               */
    struct text_stream text;
    struct buffer out;                 /* of this step                                            */
    struct pending *pending;           /* [PENDING_MOST]                                          */
    uint32_t n_pending;
    bool scores;                       /* the prompt is being scored, up to its last token        */
    struct job_token *scored;          /* [SCORED_MOST] of this step: tokens [first_scored, next_score) */
    uint32_t first_scored, next_score;
    struct answer places[SCORED_MOST];
    uint64_t sent, made;               /* bytes of text that were sent; up to the last token's end */
    uint32_t limit, read;              /* tokens of timeline at most; of the prompt that are read */
    bool cut;                          /* the limit is not the job's                              */
    struct job_usage usage;
    bool coming;                       /* pages of its beginning come from disk, beside others' steps */
    uint32_t fetched;                  /* so many have                                            */
    double began, since;               /* when it got here; up to when its seconds are counted    */
    bool wrote;                        /* its first token is there                                */
    double paused;                     /* since when its ring has no room; 0: it has              */
    uint32_t joined_at;                /* tokens written when it got its place                    */
    uint64_t joined;                   /* counts joins: who came last                             */
};

struct service {
    pthread_t thread;
    bool runs;
    struct engine *engine;
    struct engine_info info;           /* of it, also when it is closed                           */
    uint32_t longest;                  /* tokens of a text: the context, or the pool              */
    struct service_options o;
    struct learned learned;
    struct slot *slots;                /* [n_slots]                                               */
    uint32_t n_slots, most;            /* most: of them that run at once                          */
    struct event *events;              /* [n_slots]                                               */
    struct client *clients;            /* [CLIENTS_MOST]                                          */
    uint8_t *given;                    /* [context] 1: the roles of a prompt                      */
    int32_t *running;                  /* [n_slots] scratch: sequences                            */
    struct engine_text *kept;          /* [most] with o.keeps: the last texts by their places     */
    float *logits;                     /* [SCORED_MOST][vocab] for one slot that scores at a time */
    const struct slot *scorer;         /* that one; others have their writers' fewer places       */
    bool disk;                         /* pages are kept there                                    */
    double floor;                      /* nobody who comes back was charged less                  */
    double answer;                     /* tokens that answers have, on average                    */
    uint64_t joins;
    struct arena arena;
    struct job *waiting;               /* in the order of arrival                                 */
    bool told;                         /* somebody has a new event                                */
    bool ended;                        /* a place is free since the last look at who waits        */
    struct service_state state;        /* the thread's own                                        */

    pthread_mutex_t lock;
    pthread_cond_t work;
    /* under lock */
    uint32_t references;               /* jobs, and the service itself                            */
    struct job *inbox, **inbox_end;
    bool poked;                        /* there is something to look at                           */
    atomic_bool closing;
    bool draining;
    uint32_t n_waiting;                /* in the inbox and behind it                              */
    uint64_t waiting_tokens, last_number;
    struct service_state look;
    struct service_slot *look_slots;   /* [n_slots]                                               */
};

/* Any thread: the service has something to look at. */
void service_poke(struct service *s);
/* What service_look tells is what is now. */
void service_show(struct service *s);
/* One reference less; the last one takes it all away. */
void service_leave(struct service *s);

/* ---- fair.c: who is next ---- */

/* The job's client, one job more of it waiting. */
void fair_arrive(struct service *s, struct job *j);
/* A step's seconds are the slot's; what they were for. */
void fair_charge(struct service *s, struct slot *x, double seconds, uint32_t read, uint32_t wrote);
/* An answer of so many tokens has ended. */
void fair_learn(struct service *s, uint32_t written);
/* Seconds of steps that a text takes before it writes, and in all, as far as is known. */
double fair_reading(const struct service_state *x, uint32_t unread);
double fair_cost(const struct service *s, const struct job *j);
/* Seconds that a job that came now would wait for a place. */
double fair_wait(const struct service *s);
/* Places are given to who is to have them: jobs that wait begin, those that were parked go on, and those of clients
 * with more than their share are parked. */
void fair_admit(struct service *s);
/* The ranks of who reads. */
void fair_rank(struct service *s);

/* One job less that waits; it is s->waiting's no longer. */
struct job *service_unqueue(struct service *s, struct job **at);

/* ---- keep.c: texts that were ---- */

/* The slot's text is its place's from now on; before it is closed. */
void keep_text(struct service *s, const struct slot *x);
/* Jobs of JOB_KEEP that have come. */
void keep_serve(struct service *s);
void keep_close(struct service *s);

/* ---- slot.c: a job in its place ---- */

stretto_status slot_open(struct slot *x, struct service *s, struct error *err);
void slot_close(struct slot *x);
void slot_plan(struct slot *x, struct arena *a, uint32_t vocab);
/* The job begins here. */
void slot_take(struct slot *x, struct job *j);
/* Whether it takes part in steps, and whether it would. */
static inline bool slot_runs(const struct slot *x) { return x->request != 0; }
static inline bool slot_parked(const struct slot *x)
{
    return x->job && !x->request && !(x->paused > 0) && !x->coming;
}
/* Pages come from disk, one at least and until `end`; then it may join. */
void slot_fetch(struct slot *x, double end);
/* It gets its place in the steps, and gives it up. */
void slot_join(struct slot *x);
void slot_park(struct slot *x);
/* Pauses and goes on as its reader does; ends what waits for too long. */
void slot_watch(struct slot *x, double now);
/* What a turn did. */
void slot_event(struct slot *x, const struct event *v);
/* Ends the job, whatever it does. */
void slot_end(struct slot *x, enum job_finish why, const struct error *failed);
#endif
