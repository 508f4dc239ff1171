/* The HTTP server: one thread with an epoll of its own around libmicrohttpd's, no threads of the library.
 *
 *   the library's epoll    connections that can be read or written
 *   an eventfd             a service has events for streams
 *   a second epoll         sockets whose other end closed: the library does not look at suspended ones
 *   a signalfd             SIGTERM, SIGINT, SIGHUP
 *
 * A connection that waits for tokens is suspended and resumed by the events; what its client does not read
 * waits in a bounded buffer, then in the job, which pauses: the engine never waits for a client. */
#ifndef SERVE_SERVER_H
#define SERVE_SERVER_H
#include "serve/metrics.h"
#include "serve/served.h"
#include "stretto/serve_options.h"

struct server;
struct exchange;
struct shelf;

struct server_start {
    const struct serve_options *options;
    struct served_list *models;
    int listen_fd;
    const char *where;                 /* "http://127.0.0.1:8080", for people      */
    bool loopback;                     /* it can be reached from this machine only */
};

stretto_status server_open(struct server **out, const struct server_start *start, struct error *err);
/* Until it is told to end; models become ready meanwhile (server_loaded). An exit code. */
int server_run(struct server *s);
void server_close(struct server *s);

/* For services: events are there. Any thread. */
void server_wake(void *server);
/* The thread that opens models is done; any thread. */
void server_loaded(struct server *s, bool well);

/* For routes and exchanges. */
struct served_list *server_models(const struct server *s);
const struct serve_options *server_options(const struct server *s);
struct metrics *server_metrics(struct server *s);
struct shelf *server_shelf(struct server *s);
/* Bytes that all requests hold together; more may be negative. Any thread. */
size_t server_hold(struct server *s, ptrdiff_t more);
bool server_has_keys(const struct server *s);
bool server_draining(const struct server *s);
double server_uptime(const struct server *s);
#endif
