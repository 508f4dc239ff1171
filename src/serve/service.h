/* Serving: one engine thread for a model, and jobs of many clients in it.
 *
 * A job is one text that a client asked for: tokens to read, how to sample, when to end; or a text whose
 * tokens are to be scored or embedded. Any thread opens, cancels and closes jobs and reads their events; the
 * service's own thread alone touches the engine. A job whose events nobody reads pauses when its ring is full
 * (its pages stay, it is charged nothing) and never makes the engine wait.
 *
 *     open -> QUEUED -> (WAITS for a beginning that another reads, or for pages from disk) -> READS -> WRITES -> DONE
 *                          \-> preempted: its pages were given to others; it reads again, the text is the same
 *
 * Fairness: every step's measured seconds are charged to who had rows in it, guesses to who made them; the client
 * that was charged least is next, and one that comes back begins where the least charged of the others is (virtual
 * token counters, VTC, arXiv 2401.00588, in seconds). While others wait nobody holds more than his share of places,
 * nor any when he is `quantum` ahead of them: the job that came last gives up its place and goes on later, its text
 * the same. Within a client the shortest prompt goes first, less the seconds that others have waited. Prompts are
 * read in chunks by the measured cost of rows (Sarathi-Serve, arXiv 2403.02310).
 * What is written does not depend on who else is served: same bits (ARCHITECTURE.md). */
#ifndef SERVE_SERVICE_H
#define SERVE_SERVICE_H
#include "base/log.h"
#include "decode/logits.h"
#include "decode/sampler.h"
#include "decode/strategy.h"
#include "engine/engine_text.h"
#include "format/pooling.h"

struct service;
struct job;

enum service_goal { GOAL_LATENCY, GOAL_THROUGHPUT };

struct service_options {
    struct engine_options engine;      /* sequences: jobs that run at once; 0: 16; cache 0 is float32   */
    enum service_goal goal;
    uint32_t queue;                    /* jobs that may wait; 0: 256                                    */
    uint64_t queue_tokens;             /* tokens to be read of all that wait; 0: 64 contexts            */
    double queue_seconds;              /* that a job may have to wait as far as that is known; 0: 600   */
    double quantum;                    /* seconds of steps that a client may be ahead of one that waits
                                        * before it gives up a place; 0: 2                              */
    uint64_t prefix_bytes;             /* cache pages kept for texts that begin alike; 0: what is free  */
    const char *disk;                  /* folder of the tier on disk; NULL: none                        */
    uint64_t disk_bytes;
    bool keeps;                        /* texts are remembered by their places, for JOB_KEEP            */
    struct decode_choice choice;       /* guesses of jobs that do not say                               */
    const struct model *draft;         /* a smaller model that guesses, borrowed; or NULL               */
    const char *heads;                 /* a file of layers that guess (engine/companion.h), borrowed; or NULL */
    void (*wake)(void *ud);            /* events are there: from the service's thread, once a step      */
    void *ud;
    struct log log;
};

/* The model is borrowed. Everything that serving needs is taken here, but for what belongs to a job. */
stretto_status service_open(struct service **out, const struct model *m, const struct service_options *o,
                            struct error *err);
/* Jobs that wait or run end as JOB_CANCELLED, within a step; nothing is called any more when this returns. Handles
 * of jobs outlive it: they are read and closed as ever. */
void service_close(struct service *s);
const struct engine_info *service_about(const struct service *s);
/* No new jobs from now on (service_submit: E_DEVICE "draining"); those that run go on. */
void service_drain(struct service *s);

enum job_kind {
    JOB_WRITE,
    JOB_SCORE,                         /* JOB_SCORED events alone, with `logprobs` others beside each token (-1 is 0) */
    JOB_EMBED,                         /* one vector of the whole text                                  */
    JOB_KEEP                           /* of a text that was: see `keep`                                */
};
/* What becomes of the last text that had this number for its place: it is written to a file, read from one, or given up
 * (engine/engine_text.h). */
enum job_keep { KEEP_SAVE, KEEP_LOAD, KEEP_ERASE };

enum { JOB_STOPS = 16, JOB_STOP_BYTES = 4096, JOB_LOGPROBS = LOGPROBS_MOST };

struct job_options {
    enum job_kind kind;
    const int32_t *ids;                /* [n_ids], n_ids >= 1: what is read; copied                     */
    uint32_t n_ids;
    struct sampling how;               /* seed, choice, biases (copied) among it                        */
    int64_t max_tokens;                /* -1: until the model ends or the context is full; 0: only reads */
    const char *const *stops;          /* [n_stops], none empty, JOB_STOP_BYTES together; copied         */
    uint32_t n_stops;
    bool ignore_end;
    int32_t logprobs;                  /* -1: none; 0..20: of each token written, and so many beside it */
    bool drawn;                        /* of what the token was drawn from, not of the model            */
    bool prompt_logprobs;              /* of the tokens read too, from the second on: JOB_SCORED; with as
                                        * many beside it as logprobs says. Nothing is taken over then    */
    enum pooling pooling;              /* of JOB_EMBED; POOLING_NONE: as the model's file says          */
    bool raw;                          /* of JOB_EMBED: not scaled                                      */
    bool each;                         /* of JOB_EMBED: a vector for each token, whatever `pooling` is  */
    int32_t place;                     /* a number by which the text is found again, of those that run at once; -1: that
                                        * where it happens to run. Only with service_options.keeps      */
    enum job_keep keep;                /* of JOB_KEEP                                                   */
    const char *path;                  /* of it: the file; copied                                       */
    struct engine_text_room room;      /* of KEEP_SAVE: who is asked, on the service's thread           */
    const char *client;                /* who pays; copied                                              */
    uint64_t salt;                     /* texts share what they begin with where this is equal          */
    bool cache_exact;                  /* only prefixes that were read in the same roles                */
    bool no_cache;                     /* nothing is taken over                                         */
    const float *adapters;             /* [n_adapters, the model's] what each weighs (engine/engine.h: engine_adapt);
                                        * NULL: as they were opened. Copied                             */
    uint32_t n_adapters;
    const struct decode_choice *choice;/* NULL: the service's                                           */
    const int32_t *prediction;         /* text that is likely to be written (a source of guesses)       */
    uint32_t n_prediction;
    double deadline;                   /* clock_seconds(); 0: none                                      */
    int32_t priority;                  /* higher first, within a client                                 */
    void *ud;                          /* the caller's; see job_ud                                      */
};

/* E_ARG: wrong options, with a sentence. E_FULL: longer than the context (busy->context set), or too much waits
 * already, or the deadline cannot be met (busy->retry_after: seconds; late: nor could it be
 * if nobody waited). The job is the caller's until job_close. */
struct job_busy { double retry_after; uint32_t context; bool late; };
stretto_status service_submit(struct service *s, const struct job_options *o, struct job **out, struct job_busy *busy,
                              struct error *err);
/* Ends within a step; its last event says so. Any thread. */
void job_cancel(struct job *j);
/* Cancels it where it still runs; the handle is gone. NULL is fine. */
void job_close(struct job *j);
void *job_ud(const struct job *j);

enum job_event_kind { JOB_STARTED = 1, JOB_PROGRESS, JOB_TEXT, JOB_SCORED, JOB_DONE };
enum job_finish { JOB_END, JOB_LENGTH, JOB_STOP, JOB_CONTEXT, JOB_CANCELLED, JOB_DEADLINE, JOB_FAILED };

/* What the model held of a token before sampling, and of the likeliest in its place, best first. */
struct job_token {
    int32_t id;
    float logprob;
    uint32_t text, n_text;             /* bytes of event.text that are its own                          */
    uint32_t n_top;
    struct { int32_t id; float logprob; } top[JOB_LOGPROBS];
};

struct job_usage {
    uint32_t prompt, cached, cached_written, written;   /* tokens; cached_written: of cached, in the written role */
    uint32_t steps, guesses, accepted;
    double queued, reading, writing;   /* seconds from its arrival to its end: without a place, up to its first token
                                        * with one, and behind it                                      */
    uint64_t bytes;                    /* of JOB_KEEP: of the file; prompt: tokens                      */
    struct prefix_miss missed;                           /* why no more was known (cache/prefix.h)     */
};

/* Valid until the job's next job_read. */
struct job_event {
    enum job_event_kind kind;
    const char *text;                  /* TEXT: whole UTF-8 characters, stop strings left out           */
    size_t n_text;
    const int32_t *ids;                /* TEXT: tokens whose text is complete with this event; without
                                        * the one that ended the answer, and those of a stop string     */
    uint32_t n_ids;                    /* of SCORED: tokens of the prompt, `first` and those behind it  */
    const struct job_token *tokens;    /* [n_ids] SCORED, and TEXT with logprobs >= 0; else NULL        */
    uint32_t first;
    const float *vector;               /* DONE of JOB_EMBED: [n_vector], the job's                      */
    size_t n_vector;
    uint32_t read, cached, total;      /* STARTED, PROGRESS: tokens of the prompt; read: cached ones too */
    double queued, reading;            /* of them too: as in job_usage, so far                          */
    enum job_finish finish;            /* DONE                                                          */
    const char *stop;                  /* DONE by STOP: the string                                      */
    struct job_usage usage;            /* DONE                                                          */
    struct error error;                /* DONE by FAILED                                                */
};
/* The next event; false when there is none now, and for ever behind JOB_DONE. One reader at a time for each job,
 * and none in job_close. */
bool job_read(struct job *j, struct job_event *e);

/* What /health, /slots and /metrics show: a copy of the last step's, the engine is not asked. */
struct service_slot { bool busy, parked; uint64_t job; uint32_t prompt, read, written; char client[32]; };
struct service_state {
    double at;                         /* clock_seconds() of the last step                              */
    bool draining;
    uint32_t running, parked, waiting, slots; /* parked: begun, and others have their places; slots: those */
    uint64_t waiting_tokens;
    double wait;                       /* seconds that a new job would wait                             */
    uint64_t jobs, prompt_tokens, cached_tokens, written_tokens, steps, guesses, accepted, cancelled;
    uint64_t preempted;                     /* places that were given to others                    */
    uint64_t yielded, evicted;              /* texts whose pages were; pages of texts that are gone */
    uint64_t drafts, longest;               /* steps of texts with guesses; tokens of the longest text */
    uint64_t busy;                          /* texts in steps, all steps together                  */
    double prompt_seconds, write_seconds;   /* of steps, charged to reading and to writing         */
    double read_cost, write_cost;           /* seconds of a step for a token read, and written     */
    uint32_t pages, pages_used, pages_kept; /* of 64 tokens; kept: of used, those of texts that are gone */
};
/* slots: may be NULL. There are twice out->slots, as those that were parked have theirs. */
void service_look(struct service *s, struct service_state *out, struct service_slot *slots, uint32_t cap);
#endif
