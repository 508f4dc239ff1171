#include "serve/server.h"
#include "base/clock.h"
#include "base/memory.h"
#include "serve/framing.h"
#include "serve/notify.h"
#include "serve/tls.h"
#include "serve/wire.h"
#include "stretto/open.h"
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { HEADER_SECONDS = 10, KEEP_SECONDS = 60,
       SWEEP_MS = 250, EVENTS = 64, TRIM_AFTER = 200, TRIM_BYTES = 4 << 20 };

struct served_list *server_models(const struct server *s) { return s->start.models; }
const struct serve_options *server_options(const struct server *s) { return s->start.options; }
struct metrics *server_metrics(struct server *s) { return &s->metrics; }
struct shelf *server_shelf(struct server *s) { return &s->shelf; }
size_t server_hold(struct server *s, ptrdiff_t more)
{
    return atomic_fetch_add(&s->held, (size_t)more) + (size_t)more;
}
bool server_has_keys(const struct server *s) { return s->keys.n != 0; }
bool server_draining(const struct server *s) { return s->draining; }
double server_uptime(const struct server *s) { return clock_seconds() - s->began; }

void server_wake(void *server)
{
    struct server *s = server;
    const uint64_t one = 1;
    if (!atomic_exchange(&s->woken, true)) (void)!write(s->events, &one, sizeof one);
}

void server_loaded(struct server *s, bool well)
{
    atomic_store(&s->loaded, well ? 1 : -1);
    server_wake(s);
}

/* ---- events ------------------------------------------------------------------------------------ */

/* Streams whose jobs said something go on. */
static void pump_all(struct server *s)
{
    for (struct exchange *x = s->exchanges, *next; x; x = next) {
        next = x->next;
        if (x->wire->suspended && !x->preparing && exchange_pump(x)) wire_resume(x->wire);
    }
}

/* The other end closed its side. A stream's next byte finds out whether anybody reads; whoever waits for a
 * whole answer is gone. */
static void on_hangup(struct wire *w, uint32_t events)
{
    struct exchange *x = w->exchange;
    w->half = true;
    /* Nothing more will come of a request that is not whole: what has come is read within a second. */
    if (w->phase == WIRE_NEW || w->phase == WIRE_BODY) w->last = clock_seconds() + 1;
    if (x && x->preparing) {
        atomic_fetch_or(&x->hung_up, events);
        if (!(events & (EPOLLHUP | EPOLLERR))) wire_ask(w);
        return;
    }
    if (!x || w->phase != WIRE_BUSY || x->state == EXCHANGE_ENDED || x->ended) return;
    bool dead = events & (EPOLLHUP | EPOLLERR);
    if (!x->streams_out || dead) {
        x->gone = true;
        exchange_cancel(x);
        if (!x->streams_out) trouble(&x->trouble, TROUBLE_SLOW, NULL, "the client closed the connection");
    }
    if (x->streams_out && x->dialect && x->out.len == x->out_at) buffer_str(&x->out, x->dialect->ping);
    if (!x->streams_out) exchange_pump(x);
    wire_resume(w);
}

static void on_wake(struct server *s)
{
    uint64_t count;
    (void)!read(s->events, &count, sizeof count);
    atomic_store(&s->woken, false);
    pump_all(s);
    for (size_t i = 0; i < PREPARERS; i++)
        for (struct exchange *x; (x = prepare_take(s->preparer[i]));) {
            x->preparing = false;
            if (x->hung_up) on_hangup(x->wire, x->hung_up);
            wire_resume(x->wire);
        }
}

static void on_watch(struct server *s)
{
    struct epoll_event e[EVENTS];
    int n = epoll_wait(s->watch, e, EVENTS, 0);
    for (int i = 0; i < n; i++) on_hangup(e[i].data.ptr, e[i].events);
}

static void read_again(struct server *s)
{
    const struct serve_options *o = s->start.options;
    struct error err = { 0 };
    notify_send("RELOADING=1\nMONOTONIC_USEC=%llu\n", (unsigned long long)(clock_seconds() * 1e6));
    if (o->api_key_file && keys_read(&s->keys, o->api_key, o->api_key_file, &err) != STRETTO_OK)
        fprintf(stderr, "stretto serve: the keys stay as they were: %s\n", err.text);
    else if (o->api_key_file) fprintf(stderr, "stretto serve: read %zu API keys\n", s->keys.n);
    error_clear(&err);
    if (s->tls && tls_read(s->tls, o->cert_file, o->key_file, &err) != STRETTO_OK)
        fprintf(stderr, "stretto serve: the certificate stays as it was: %s\n", err.text);
    else if (s->tls) fprintf(stderr, "stretto serve: read the certificate\n");
    notify_send("READY=1\n");
}

static void cut_all(struct server *s)
{
    for (struct exchange *x = s->exchanges; x; x = x->next)
        if (!x->preparing) exchange_cancel(x);
    s->drain_end = clock_seconds() + 2;        /* for the last words */
}

static void drain(struct server *s)
{
    if (s->draining) {
        cut_all(s);
        return;
    }
    s->draining = true;
    s->drain_end = clock_seconds() + s->start.options->drain;
    notify_send("STOPPING=1\n");
    MHD_socket fd = MHD_quiesce_daemon(s->daemon);
    if (fd != MHD_INVALID_SOCKET) close(fd);
    interrupted = 1;                           /* models that are being opened */
    struct served_list *l = s->start.models;
    served_drain(l);
    fprintf(stderr, "stretto serve: no new requests; %zu are being answered\n", s->n_exchanges);
}

static void on_signal(struct server *s)
{
    struct signalfd_siginfo i;
    while (read(s->signals, &i, sizeof i) == sizeof i) {
        if (i.ssi_signo == SIGHUP) read_again(s);
        else drain(s);
    }
}

/* ---- time -------------------------------------------------------------------------------------- */

static void sweep_exchange(struct server *s, struct exchange *x, double now)
{
    const struct serve_options *o = s->start.options;
    struct wire *w = x->wire;
    if (x->preparing) return;
    /* The library asks for more as soon as the socket has taken what it holds. */
    if (x->state == EXCHANGE_STREAMING && !w->suspended && now - w->moved > o->stall) {
        s->metrics.cut_slow++;
        x->gone = true;
        exchange_cancel(x);
        wire_cut(w);
        return;
    }
    if (!w->suspended) return;
    bool more = exchange_pump(x);
    if (x->state == EXCHANGE_STREAMING && !more && now - x->sent_at > o->ping && x->dialect->ping) {
        buffer_str(&x->out, x->dialect->ping);
        more = true;
    }
    if (more) wire_resume(w);
}

/* Slow beginnings, bodies and silence between requests. */
static void sweep_wire(struct server *s, struct wire *w, double now)
{
    const struct serve_options *o = s->start.options;
    double limit = w->phase == WIRE_NEW ? HEADER_SECONDS : w->phase == WIRE_IDLE ? KEEP_SECONDS : o->stall;
    if (w->phase == WIRE_BUSY || w->closed) return;
    bool slow = now - w->since > limit;
    if (w->phase == WIRE_BODY && w->exchange && now - w->body_since > 2 * o->stall)
        slow |= (double)w->exchange->bytes_in < 1000 * (now - w->body_since);
    if (w->phase == WIRE_IDLE && s->draining) slow = true;
    if (w->last > 0 && now > w->last) slow = true;
    if (!slow) return;
    if (w->phase != WIRE_IDLE) s->metrics.cut_slow++;
    wire_cut(w);
}

static void sweep(struct server *s, double now)
{
    s->swept = now;
    for (struct exchange *x = s->exchanges, *next; x; x = next) {
        next = x->next;
        sweep_exchange(s, x, now);
    }
    for (struct wire *w = s->wires, *next; w; w = next) {
        next = w->next;
        sweep_wire(s, w, now);
    }
    uint64_t moved = s->metrics.bytes_in + s->metrics.bytes_out;
    if (!s->n_exchanges && (s->metrics.requests > s->trimmed + TRIM_AFTER || moved > s->moved + TRIM_BYTES)) {
        s->trimmed = s->metrics.requests;
        s->moved = moved;
        malloc_trim(0);
    }
    int loaded = atomic_load(&s->loaded);
    if (loaded && !s->told) {
        s->told = true;
        if (loaded < 0) {
            s->stop = true;
            s->code = s->draining ? EXIT_DONE : EXIT_FAILED;
        } else {
            fprintf(stderr, "stretto serve: ready at %s\n", s->start.where);
            notify_send("READY=1\nSTATUS=ready at %s\n", s->start.where);
        }
    }
    if (!s->draining) return;
    if (!s->n_exchanges && s->told) s->stop = true;
    else if (now > s->drain_end + 2 && s->told) s->stop = true;
    else if (now > s->drain_end && s->n_exchanges) {
        double end = s->drain_end;
        cut_all(s);
        s->drain_end = end;
    }
}

/* ---- the loop ---------------------------------------------------------------------------------- */

static int wait_ms(const struct server *s)
{
    MHD_UNSIGNED_LONG_LONG ms;
    if (MHD_get_timeout(s->daemon, &ms) != MHD_YES || ms > SWEEP_MS) return SWEEP_MS;
    return (int)ms;
}

/* Exchanges end while their models are there. */
static void hang_up(struct server *s)
{
    if (!s->daemon) return;
    for (struct wire *w = s->wires; w; w = w->next) {
        if (w->exchange) exchange_cancel(w->exchange);
        wire_cut(w);
    }
    for (int i = 0; i < 3; i++) MHD_run(s->daemon);
    MHD_stop_daemon(s->daemon);
    s->daemon = NULL;
}

static void close_preparers(struct server *s)
{
    for (size_t i = 0; i < PREPARERS; i++) {
        prepare_close(s->preparer[i]);
        s->preparer[i] = NULL;
    }
}

int server_run(struct server *s)
{
    struct epoll_event e[8];
    while (!s->stop) {
        int n = epoll_wait(s->loop, e, 8, wait_ms(s));
        if (n < 0 && errno != EINTR) break;
        for (int i = 0; i < n; i++) {
            if (e[i].data.fd == s->events) on_wake(s);
            else if (e[i].data.fd == s->watch) on_watch(s);
            else if (e[i].data.fd == s->signals) on_signal(s);
        }
        double now = clock_seconds();
        if (now - s->swept > SWEEP_MS / 1e3 || (!s->told && atomic_load(&s->loaded))) sweep(s, now);
        MHD_run(s->daemon);
    }
    close_preparers(s);
    for (struct exchange *x = s->exchanges; x; x = x->next)
        if (x->preparing) {
            x->preparing = false;
            trouble(&x->trouble, TROUBLE_DRAINING, NULL, "the server is shutting down: ask again later");
        }
    hang_up(s);
    return s->code;
}

/* ---- open, close ------------------------------------------------------------------------------- */

static bool watch(int loop, int fd)
{
    struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };
    return fd >= 0 && epoll_ctl(loop, EPOLL_CTL_ADD, fd, &e) == 0;
}

static stretto_status open_descriptors(struct server *s, struct error *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);        /* before there are threads */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);                  /* a file of the log that is full is no reason to end */
    s->loop = epoll_create1(EPOLL_CLOEXEC);
    s->watch = epoll_create1(EPOLL_CLOEXEC);
    s->events = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->loop < 0 || !watch(s->loop, s->watch) || !watch(s->loop, s->events) || !watch(s->loop, s->signals))
        return fail(err, STRETTO_E_IO, "the kernel gives no descriptors: %s", strerror(errno));
    return STRETTO_OK;
}

/* As many connections as there may be descriptors. */
static unsigned connections(const struct serve_options *o)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0) return (unsigned)o->connections;
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
    rlim_t room = r.rlim_cur == RLIM_INFINITY || r.rlim_cur > 200 ? r.rlim_cur - 100 : r.rlim_cur / 2;
    return (rlim_t)o->connections < room ? (unsigned)o->connections : (unsigned)room;
}

static void say(void *ud, const char *fmt, va_list ap)
{
    (void)ud;
    char line[600];
    vsnprintf(line, sizeof line, fmt, ap);
    line[strcspn(line, "\n")] = '\0';
    text_tame(line);
    /* What a client did wrong is his answer, and closed sockets are no news. */
    if (strstr(line, "closed") || strstr(line, "reset") || strstr(line, "processing request")) return;
    fprintf(stderr, "stretto serve: libmicrohttpd: %s\n", line);
}

static size_t unescape(void *ud, struct MHD_Connection *connection, char *text)
{
    (void)ud; (void)connection;
    return framing_unescape(text);
}

static stretto_status open_daemon(struct server *s, struct error *err)
{
    const struct serve_options *o = s->start.options;
    struct MHD_OptionItem tls[3] = { { MHD_OPTION_END, 0, NULL } };
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    if (s->tls) {
        flags |= MHD_USE_TLS;
        tls_options(s->tls, tls);
    }
    s->daemon = MHD_start_daemon(flags, 0, NULL, NULL, wire_request, s,
        MHD_OPTION_EXTERNAL_LOGGER, say, NULL, MHD_OPTION_LISTEN_SOCKET, s->start.listen_fd,
        MHD_OPTION_CONNECTION_LIMIT, connections(o),
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)o->connections_peer,
        /* Of answers that go out whole; streams and requests have limits of their own. */
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(o->stall > KEEP_SECONDS ? o->stall : KEEP_SECONDS),
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL,
        MHD_OPTION_NOTIFY_COMPLETED, wire_completed, s, MHD_OPTION_NOTIFY_CONNECTION, wire_notify, s,
        MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
    if (!s->daemon) return fail(err, STRETTO_E_IO, "libmicrohttpd does not start (its words are above)");
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info || !watch(s->loop, info->epoll_fd))
        return fail(err, STRETTO_E_UNSUP, "this libmicrohttpd has no epoll");
    return STRETTO_OK;
}

stretto_status server_open(struct server **out, const struct server_start *start, struct error *err)
{
    const struct serve_options *o = start->options;
    struct server *s = mem_zalloc(1, sizeof *s);
    uint64_t bits = 0;
    *out = NULL;
    if (!s) return fail(err, STRETTO_E_NOMEM, "no memory for the server");
    *s = (struct server){ .start = *start, .began = clock_seconds(), .loop = -1, .watch = -1, .events = -1,
                          .signals = -1 };
    shelf_open(&s->shelf, o->slots, (uint64_t)o->disk_mb << 20);
    (void)!getrandom(&bits, sizeof bits, 0);
    snprintf(s->id_seed, sizeof s->id_seed, "%016llx", (unsigned long long)bits);
    stretto_status st = keys_read(&s->keys, o->api_key, o->api_key_file, err);
    if (st == STRETTO_OK && o->cert_file) st = tls_open(&s->tls, o->cert_file, o->key_file, err);
    if (st == STRETTO_OK) st = open_descriptors(s, err);
    for (size_t i = 0; i < PREPARERS && st == STRETTO_OK; i++) st = prepare_open(&s->preparer[i], server_wake, s, err);
    if (st == STRETTO_OK) st = open_daemon(s, err);
    if (st != STRETTO_OK) {
        server_close(s);
        return st;
    }
    *out = s;
    return STRETTO_OK;
}

void server_close(struct server *s)
{
    if (!s) return;
    close_preparers(s);
    hang_up(s);
    tls_close(s->tls);
    keys_done(&s->keys);
    shelf_close(&s->shelf);
    const int fds[] = { s->loop, s->watch, s->events, s->signals };
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0) close(fds[i]);
    mem_free(s);
}
