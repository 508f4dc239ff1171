/* The scheduler: whose rows are in the next step. Requests join and leave between steps; one turn lets
 * each of them do what it can, in one step of the engine, and says what came of it.
 *
 * A request is work on the timeline of one open sequence. There are no phases: what the timeline knows
 * and the cache does not have is read, in chunks, each token in the role it has; behind the last token a
 * writer continues it. So a prompt, an answer and a sequence whose pages were given to others meanwhile
 * are all the same to it.
 *
 *   who writes   one row for each, and guesses: all of them share one budget, spent where it promises the
 *                most tokens per second of the whole step (controllers_share)
 *   who reads    chunks beside them, by rank and in the order of joining, as large as the measured cost of rows and of
 *                what they look back on lets the others' next token come `delay` plain steps later at most, and 8 at
 *                least, so that it ends; alone, max_rows at a time
 *                (stall-free batching: Sarathi-Serve, arXiv 2403.02310)
 *   pages        when the pool is empty: those of texts that nobody has any more, then of sequences that wait
 *                for nothing; then the youngest request gives up its pages and reads again later what others
 *                needed of them (its text does not change: every token keeps its role). A request alone in the
 *                pool that does not fit fails with E_FULL. */
#ifndef ENGINE_SCHEDULER_H
#define ENGINE_SCHEDULER_H
#include "engine/writer.h"

struct request {
    int32_t seq;
    struct writer *writer;             /* continues the text until writer_done; NULL: only reads      */
    /* Of a request that only reads: what its tokens [first, end) want; end 0: all from `first` on. Their
     * answers go, in order, to places[0..room) of the caller. With `answered`, which is called for each,
     * places are used again; without, there is one for every token that wants something. */
    uint8_t wants;
    uint32_t first, end, room;
    struct answer *places;             /* [room] with logits and hidden set where wanted              */
    stretto_status (*answered)(void *ud, uint32_t at, const struct answer *a, struct error *err);
    /* Asked before every step, and inside it by any thread: true ends the request with E_CANCEL, its
     * timeline as it was before the step. NULL: never. */
    bool (*cancel)(void *ud);
    double deadline;                   /* clock_seconds() at which it ends likewise; 0: none          */
    void *ud;
};

/* What a turn did for one request. */
struct event {
    uint32_t id;
    int32_t seq;
    void *ud;
    uint32_t read, unread;             /* tokens that were read; that remain to be read               */
    uint32_t wrote;                    /* tokens at the end of the timeline that are new               */
    double seconds;                    /* its part of the step's time, by what its rows cost           */
    bool done;                         /* it has left; why, if not OK, is in error                     */
    struct error error;
};

struct schedule {
    double delay;                      /* plain steps that others' next token may be late; 0: 2       */
    double seconds;                    /* or that a step may take beside who writes, if that is later */
    bool whole;                        /* prompts are read whole, one after the other, and nobody
                                        * writes meanwhile: what it costs not to mix                  */
};
void engine_schedule(struct engine *e, const struct schedule *s);

/* Joins; E_ARG when its sequence is not open, has a request already, or there is nothing to do. The
 * struct is copied, its pointers are borrowed until it is done or cancelled. */
stretto_status request_add(struct engine *e, const struct request *r, uint32_t *id, struct error *err);
/* Who reads first: the lower rank, of equal ones who joined first; 0 to begin with. */
void request_rank(struct engine *e, uint32_t id, double rank);
/* Leaves now; nothing happens when it is done already. */
void request_cancel(struct engine *e, uint32_t id);
/* All of them. */
void requests_drop(struct engine *e);
/* How many there are. */
uint32_t requests_count(const struct engine *e);

/* One step for all requests; events[0..*n), one for each request that got something or is done. cap is
 * at least the number of requests. Failures of requests are events; the status is that of the turn
 * itself: E_ARG when the engine is in the middle of another one. */
stretto_status engine_turn(struct engine *e, struct event *events, size_t cap, size_t *n,
                           struct error *err);
/* Turns until the request is done; its status. Other requests go on meanwhile. */
stretto_status request_run(struct engine *e, const struct request *r, struct error *err);
#endif
