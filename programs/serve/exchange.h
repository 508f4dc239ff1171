/* One request and its answer, from its first byte to its last. The HTTP thread alone touches it, but
 * for long requests, whose handlers run on a thread of their own (prepare.h).
 *
 *     READING (the body arrives) -> a route's handler: refuses, replies at once, or runs an ask ->
 *     WAITING (jobs write; the answer goes out whole) or STREAMING (what they write goes out as it comes) -> ENDED
 *
 * An API is a manner: the shape of its errors, the way it streams, and handlers of its routes. A handler reads
 * the body into the neutral ask and calls exchange_run; its dialect then says the neutral events in
 * its own words. How to add one: api_openai_chat.c is the model to copy; name its routes in route.c. */
#ifndef SERVE_EXCHANGE_H
#define SERVE_EXCHANGE_H
#include "serve/ask.h"
#include "serve/field.h"
#include "serve/thoughts.h"
#include "serve/trouble.h"
#include <stdatomic.h>

struct server;
struct exchange;
struct wire;

enum { EXCHANGE_OUT = 256 << 10,       /* bytes that may wait for a client to read them */
       EXCHANGE_SMALL = 64 << 10 };    /* of a request that gets its memory always      */

/* One answer of several: a prompt's n-th. */
struct choice {
    struct exchange *exchange;
    struct job *job;                   /* NULL: not begun, or over                                  */
    uint32_t index, prompt;            /* index: as the answer numbers it                           */
    bool begun, started, done, new_line;   /* new_line: one was written                            */
    enum job_finish finish;
    const char *stop;                  /* STOP: the string, of the ask; else ""                      */
    struct job_usage usage;
    /* Whole answers; of streams only the lengths. */
    struct buffer text, thought;
    struct thoughts thoughts;          /* of dialects that tell them                                */
    uint32_t n_thought;                /* tokens of them                                            */
    struct job_token *tokens;          /* [n_tokens] with logprobs; text: place in `text`           */
    int32_t *ids;                      /* [n_ids] with ask.tokens                                   */
    struct job_token *scored;          /* [n_scored] of the prompt, from its second on            */
    size_t n_tokens, cap_tokens, n_ids, cap_ids, n_scored, cap_scored;
    size_t n_text;                     /* bytes written so far                                      */
    uint32_t n_written, n_cached;      /* tokens; of the prompt that were known                     */
    double reading, queued, first;     /* seconds before its first token; when that came; 0: not yet */
    float *vector;                     /* [n_vector] of an embedding                                */
    size_t n_vector;
};

/* How an API says what happens. Functions append to x->out; a failure ends the answer. Those that may be NULL
 * say so. */
struct dialect {
    enum job_kind kind;
    const char *type;                  /* Content-Type of a stream                                  */
    const char *ping;                  /* what a silent stream says                                 */
    /* Streams. */
    stretto_status (*begin)(struct exchange *x);                       /* NULL: nothing             */
    stretto_status (*started)(struct exchange *x, struct choice *c);   /* NULL: nothing             */
    stretto_status (*progress)(struct exchange *x, struct choice *c, const struct job_event *e);  /* NULL: nothing */
    stretto_status (*text)(struct exchange *x, struct choice *c, const struct job_event *e);
    /* What the model thinks before it answers; NULL: that stays in the text. */
    stretto_status (*thought)(struct exchange *x, struct choice *c, const char *p, size_t n);
    stretto_status (*done)(struct exchange *x, struct choice *c);      /* one choice is over        */
    stretto_status (*end)(struct exchange *x);                         /* all are                   */
    stretto_status (*failed)(struct exchange *x, const struct trouble *t);   /* after the beginning */
    /* Whole answers: everything is in x->choices. NULL: no memory. */
    json_t *(*whole)(struct exchange *x);
    /* Instead of it, for answers of millions of numbers: as text at once, into x->reply_text. */
    stretto_status (*put_whole)(struct exchange *x);
};

struct manner {
    const char *name;
    /* The body of an error. */
    json_t *(*error)(const struct exchange *x, const struct trouble *t);
    unsigned (*http)(const struct trouble *t);     /* NULL: as the table of troubles says              */
    const char *id_header;                         /* "x-request-id"                                  */
};

enum exchange_state { EXCHANGE_READING, EXCHANGE_WAITING, EXCHANGE_STREAMING, EXCHANGE_ENDED };

struct exchange {
    struct server *server;
    struct wire *wire;
    const struct route *route;
    const struct manner *manner;
    enum exchange_state state;
    char id[40], method[12], path[200], rest[120];     /* rest: what stands for * in the route       */
    char client[72];                   /* who pays: digest of the key, else the address               */
    uint64_t salt;
    struct trouble trouble;
    struct buffer body, ignored;
    json_t *json;                      /* the body                                                    */
    struct ask ask;
    const struct dialect *dialect;
    struct service *service;           /* its model's, held from its first job to its end; or NULL  */
    bool waits, waited;                /* for the model's weights                                    */
    double loading;                    /* seconds of it; while it waits: since when                  */
    uint32_t failures;                 /* of loading them, when it began to wait                     */
    struct choice *choices;
    size_t n_choices, n_begun, n_done, n_running;
    time_t created;
    double began, first_byte, ended_at, sent_at;   /* clock_seconds(); first_byte 0: none yet */
    struct buffer out;                 /* of a stream: not yet taken by the socket                    */
    size_t out_at;
    struct buffer head;                /* of a dialect: what all its chunks begin with                */
    struct buffer scratch;             /* of a dialect                                                */
    struct buffer thinking, said;      /* an event's text, taken apart                                */
    uint32_t sequence;                 /* of a dialect: events so far                                 */
    bool opened;                       /* of a dialect: its message has begun                         */
    bool streams_out, ended, cut, gone;/* gone: the client is                                         */
    /* The reply, once there is one. */
    unsigned http;
    json_t *reply;
    const char *reply_type;            /* NULL: JSON                                                  */
    struct buffer reply_text;
    char *policy;                      /* Content-Security-Policy; NULL: none                        */
    uint64_t bytes_in, bytes_out;
    bool handled, preparing;           /* preparing: its handler runs on another thread (prepare.h)     */
    bool old;                          /* HTTP/1.0: knows no interim answers                         */
    bool keyed;                        /* who asks has one of the server's keys                        */
    atomic_uint hung_up;               /* while preparing: what the socket said                        */
    size_t held;                       /* bytes of its body, of what was read from it, of a long reply */
    struct exchange *next, *prev, *prepared_next;
};

/* ---- for handlers; each returns false where the handler is to return at once ---------------- */

/* Takes bytes from what the requests that are there may hold together, until its end or exchange_let_go; small
 * requests get them always. */
bool exchange_hold(struct exchange *x, size_t bytes);
void exchange_let_go(struct exchange *x, size_t bytes);
/* All that there is, and the words that there is no more. */
size_t exchange_hold_most(const struct exchange *x);
bool exchange_hold_refuse(struct exchange *x);
/* The body as an object; limits on depth and values, names twice refused. */
bool exchange_object(struct exchange *x);
/* The same of any value. */
bool exchange_json(struct exchange *x);
/* What the model's adapters weigh, from a list of ids and scales: [n_adapters]. */
bool exchange_weights(struct exchange *x, const char *name, const json_t *list, float *out);
/* Fields by these tables and the shared ones behind them, then the model that the request names. */
bool exchange_fields(struct exchange *x, const struct field_table *const *tables, size_t n);
/* Whether the tools of the request, if it has some, may be left aside. */
bool exchange_tools(struct exchange *x);
/* Whether unknown fields are refused. */
bool exchange_strict(const struct exchange *x);
/* The model that is named, or the only one; TROUBLE_LOADING while there is none yet. */
bool exchange_model(struct exchange *x);
/* Begins the jobs: for each prompt, n choices. */
bool exchange_run(struct exchange *x, const struct dialect *d);
/* Whose beginnings its texts share: those of its key, and of these its own word's for it. */
uint64_t exchange_salt(const struct exchange *x);
/* Replies; takes the value. NULL: no memory. */
void exchange_reply(struct exchange *x, unsigned http, json_t *value);
/* Replies with what stands in x->reply_text. */
void exchange_reply_text(struct exchange *x, unsigned http, const char *type);
__attribute__((format(printf, 4, 5)))
bool exchange_refuse(struct exchange *x, enum trouble_kind kind, const char *param, const char *fmt, ...);
/* A header of the request; NULL: none. */
const char *exchange_header(const struct exchange *x, const char *name);
/* Of the query: "?autoparse=1"; NULL: none. */
const char *exchange_query(const struct exchange *x, const char *name);

/* ---- for dialects ------------------------------------------------------------------------------ */

/* Usage of all choices: a prompt counts once. */
struct job_usage exchange_usage(const struct exchange *x);
/* A JSON string, quotes and all; malformed UTF-8 becomes U+FFFD. */
stretto_status put_string(struct buffer *b, const char *p, size_t n);
/* Numbers as a list, as short as float32 can be told from its neighbours. */
stretto_status put_numbers(struct buffer *b, const float *v, size_t n);
/* A value as JSON. */
stretto_status put_value(struct buffer *b, const json_t *value);
/* "data: " + JSON + "\n\n" of a value, which is taken. */
stretto_status put_event(struct exchange *x, const char *event, json_t *value);
/* A line of JSON. */
stretto_status put_line(struct exchange *x, json_t *value);
/* `,"name":` and the value, which is taken. */
stretto_status put_member(struct exchange *x, const char *name, json_t *value);
/* Well-formed text as a JSON string value. */
json_t *text_json(const char *p, size_t n);
/* Something that belongs into the JSON that this thread builds could not be made: it is not sent. */
void json_lost(void);

/* ---- for the server ---------------------------------------------------------------------------- */

/* Once, before there are threads. */
void exchange_setup(void);
struct exchange *exchange_open(struct server *s, struct wire *w);
void exchange_close(struct exchange *x);
/* Reads what its jobs have to say, as far as there is room; true: there is something to send, or it is over. */
bool exchange_pump(struct exchange *x);
/* Its jobs end. */
void exchange_cancel(struct exchange *x);
#endif
