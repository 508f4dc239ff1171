/* Inside of the server: connections, and what answering a request needs of it. */
#ifndef SERVE_WIRE_H
#define SERVE_WIRE_H
#include "serve/exchange.h"
#include "serve/keys.h"
#include "serve/prepare.h"
#include "serve/server.h"
#include "serve/shelf.h"
#include <microhttpd.h>
#include <stdatomic.h>

struct tls;

enum wire_phase { WIRE_NEW, WIRE_BODY, WIRE_BUSY, WIRE_IDLE };

/* A connection, from accept to close. */
struct wire {
    struct server *server;
    struct MHD_Connection *connection;
    struct exchange *exchange;         /* the request that is being read or answered; or NULL   */
    int fd;
    enum wire_phase phase;
    double since;                      /* of the phase; of BODY: when bytes came last           */
    double body_since, last;           /* last: when the rest of a request must be there; 0: any time */
    double moved;                      /* of a stream: when the library last asked for more, or was woken to */
    bool suspended, closed;
    bool half, asked;                  /* its other side closed; it was asked whether anybody is there */
    char peer[64];
    struct wire *next, *prev;
};

struct server {
    struct server_start start;
    struct MHD_Daemon *daemon;
    struct tls *tls;
    struct preparer *preparer[PREPARERS];
    struct keys keys;
    struct metrics metrics;
    struct shelf shelf;
    int loop, watch, events, signals, mhd;     /* descriptors */
    atomic_bool woken;
    atomic_size_t held;                /* by requests: exchange_hold                            */
    atomic_int loaded;                 /* 0; 1: the models are there; -1: they cannot be opened */
    bool told;                         /* of what `loaded` says                                 */
    bool draining, stop;
    double began, drain_end, swept;
    int code;
    size_t n_exchanges;
    struct exchange *exchanges;        /* active ones */
    struct wire *wires;
    uint64_t next_id, trimmed, moved;  /* requests, and bytes of them, when memory was last given back */
    char id_seed[17];
};

/* MHD's callbacks. */
enum MHD_Result wire_request(void *server, struct MHD_Connection *connection, const char *url, const char *method,
                             const char *version, const char *upload, size_t *upload_size, void **request);
void wire_completed(void *server, struct MHD_Connection *connection, void **request,
                    enum MHD_RequestTerminationCode code);
void wire_notify(void *server, struct MHD_Connection *connection, void **wire,
                 enum MHD_ConnectionNotificationCode code);
/* Goes on where it is suspended. */
void wire_resume(struct wire *w);
/* The other side of a connection whose request waits closed: is anybody there? */
void wire_ask(struct wire *w);
/* The other end is to see that this is over. */
void wire_cut(struct wire *w);
/* One line about a request that is over. */
void log_request(const struct exchange *x);
#endif
