/* Between the HTTP library and exchanges: headers are judged, bodies collected, answers sent. */
#include "serve/wire.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/memory.h"
#include "serve/framing.h"
#include "serve/route.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { SMALL_BODY = 64 << 10, BLOCK = 256 };   /* BLOCK: only HTTP/1.0 without chunks reads by it */

const char *exchange_header(const struct exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->wire->connection, MHD_HEADER_KIND, name);
}

const char *exchange_query(const struct exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->wire->connection, MHD_GET_ARGUMENT_KIND, name);
}

/* ---- connections ------------------------------------------------------------------------------- */

static void name_peer(struct wire *w)
{
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(w->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    snprintf(w->peer, sizeof w->peer, "local");
    if (!i || !i->client_addr) return;
    if (i->client_addr->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)i->client_addr)->sin_addr, w->peer,
                  sizeof w->peer);
    if (i->client_addr->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)i->client_addr)->sin6_addr, w->peer,
                  sizeof w->peer);
}

static void open_wire(struct server *s, struct MHD_Connection *connection, void **context)
{
    struct wire *w = mem_zalloc(1, sizeof *w);
    const union MHD_ConnectionInfo *i = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    *context = w;
    if (!w || !i) return;
    const int one = 1;
    *w = (struct wire){ .server = s, .connection = connection, .fd = i->connect_fd, .since = clock_seconds(),
                        .next = s->wires };
    if (s->wires) s->wires->prev = w;
    s->wires = w;
    name_peer(w);
    setsockopt(w->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event e = { .events = EPOLLRDHUP | EPOLLET, .data.ptr = w };
    epoll_ctl(s->watch, EPOLL_CTL_ADD, w->fd, &e);
}

static void close_wire(struct server *s, struct wire *w)
{
    epoll_ctl(s->watch, EPOLL_CTL_DEL, w->fd, NULL);
    if (w->next) w->next->prev = w->prev;
    if (w->prev) w->prev->next = w->next;
    else if (s->wires == w) s->wires = w->next;
    mem_free(w);
}

void wire_notify(void *server, struct MHD_Connection *connection, void **context,
                 enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED) open_wire(server, connection, context);
    else if (*context) {
        close_wire(server, *context);
        *context = NULL;
    }
}

void wire_resume(struct wire *w)
{
    if (!w->suspended) return;
    w->suspended = false;
    w->moved = clock_seconds();
    MHD_resume_connection(w->connection);
}

static void suspend(struct wire *w)
{
    w->suspended = true;
    MHD_suspend_connection(w->connection);
}

void wire_cut(struct wire *w)
{
    w->closed = true;
    shutdown(w->fd, SHUT_RDWR);
    wire_resume(w);
}

static void set_phase(struct wire *w, enum wire_phase phase)
{
    w->phase = phase;
    w->since = clock_seconds();
    if (phase == WIRE_BODY) w->body_since = w->since;
}

/* Whoever closed a connection whose request waits to be read may still listen. An interim answer changes nothing for
 * him (RFC 9110 15.2); a socket that is closed answers it with a reset, and that ends the request before it is read.
 * Behind TLS nothing can be said here. */
void wire_ask(struct wire *w)
{
    static const char words[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (w->server->tls || w->asked || w->exchange->old) return;
    w->asked = true;
    (void)!send(w->fd, words, sizeof words - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* ---- who may ask ------------------------------------------------------------------------------- */

/* Pages of this machine, whatever their port. */
static bool origin_here(const char *origin)
{
    static const char *const names[] = { "localhost", "127.0.0.1", "[::1]" };
    const char *at = strstr(origin, "://");
    if (!at || (strncasecmp(origin, "http://", 7) != 0 && strncasecmp(origin, "https://", 8) != 0)) return false;
    size_t n = strcspn(at + 3, at[3] == '[' ? "]" : ":/");
    n += at[3 + n] == ']';
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == n && strncasecmp(at + 3, names[i], n) == 0
            && (!at[3 + n] || (at[3 + n] == ':' && strspn(at + 4 + n, "0123456789") == strlen(at + 4 + n))))
            return true;
    return false;
}

/* "https://chat.example" in a list by commas; localhost: of this machine. */
static bool origin_listed(const char *list, const char *origin)
{
    size_t n = strlen(origin);
    for (const char *p = list; p && *p;) {
        size_t len = strcspn(p, ",");
        while (len && *p == ' ') { p++; len--; }
        if (len == 9 && strncasecmp(p, "localhost", 9) == 0 && origin_here(origin)) return true;
        if ((len == 1 && *p == '*') || (len == n && strncasecmp(p, origin, n) == 0)) return true;
        p += len + (p[len] == ',');
    }
    return false;
}

/* The page came from this server itself. */
static bool origin_own(const struct exchange *x, const char *origin)
{
    const char *host = exchange_header(x, "Host"), *at = strstr(origin, "://");
    return host && at && strcasecmp(at + 3, host) == 0;
}

/* "localhost:8080" -> "localhost"; "[::1]:8080" -> "::1". */
static void host_name(const char *host, char *out, size_t cap)
{
    if (*host == '[') {
        snprintf(out, cap, "%.*s", (int)strcspn(host + 1, "]"), host + 1);
        return;
    }
    const char *colon = strrchr(host, ':');
    snprintf(out, cap, "%.*s", (int)(colon ? (size_t)(colon - host) : strlen(host)), host);
}

/* Names that nobody outside can own. */
static bool is_private(const char *name)
{
    static const char *const endings[] = { ".local", ".lan", ".internal", ".home.arpa" };
    size_t n = strlen(name);
    if (!strchr(name, '.')) return true;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t k = strlen(endings[i]);
        if (n > k && strcasecmp(name + n - k, endings[i]) == 0) return true;
    }
    return false;
}

/* A web page can make a name of its own mean this machine (DNS rebinding); it cannot do so with a number. Where
 * everybody may ask, programs use whatever name they like, and pages a name that is nobody else's. */
static bool host_known(const struct exchange *x)
{
    const struct server *s = x->server;
    const char *host = exchange_header(x, "Host"), *cors = s->start.options->cors;
    char name[256], origin[300];
    struct in6_addr six;
    struct in_addr four;
    if (s->keys.n || !host) return true;
    host_name(host, name, sizeof name);
    if (!s->start.loopback && (!exchange_header(x, "Origin") || is_private(name))) return true;
    if (strcasecmp(name, "localhost") == 0 || inet_pton(AF_INET, name, &four) == 1
        || inet_pton(AF_INET6, name, &six) == 1 || strcasecmp(name, s->start.options->host) == 0)
        return true;
    size_t n = strlen(name);
    if (n > 10 && strcasecmp(name + n - 10, ".localhost") == 0) return true;
    static const char *const schemes[] = { "http", "https" };
    for (size_t i = 0; i < 2; i++) {
        snprintf(origin, sizeof origin, "%s://%s", schemes[i], host);
        if (cors && origin_listed(cors, origin)) return true;
        snprintf(origin, sizeof origin, "%s://%s", schemes[i], name);
        if (cors && origin_listed(cors, origin)) return true;
    }
    return false;
}

static bool preflight(const struct exchange *x) { return strcmp(x->method, "OPTIONS") == 0; }

static bool check_origin(struct exchange *x)
{
    const char *origin = exchange_header(x, "Origin"), *cors = x->server->start.options->cors;
    if (!host_known(x))
        return exchange_refuse(x, TROUBLE_FORBIDDEN, NULL, "the name in the Host header is not this server's: use "
                               "127.0.0.1 or localhost, or start it with --cors-origins http://NAME or with a key");
    if (!origin || origin_own(x, origin) || (cors && origin_listed(cors, origin))) return true;
    if (preflight(x)) return true;             /* the answer allows nothing, and that is the answer */
    return exchange_refuse(x, TROUBLE_FORBIDDEN, NULL, "web pages of %.100s may not ask here: start the server with "
                           "--cors-origins %.100s", origin, origin);
}

static const char *key_of(const struct exchange *x)
{
    const char *bearer = exchange_header(x, "Authorization");
    if (bearer && strncasecmp(bearer, "Bearer ", 7) == 0) return bearer + 7 + strspn(bearer + 7, " ");
    return exchange_header(x, "X-Api-Key");
}

/* Sets who pays. */
static bool check_key(struct exchange *x)
{
    struct server *s = x->server;
    const char *key = key_of(x);
    unsigned char digest[KEY_DIGEST];
    snprintf(x->client, sizeof x->client, "%s", x->wire->peer);
    if (!s->keys.n) return true;
    if (key && keys_have(&s->keys, key, digest)) {
        snprintf(x->client, sizeof x->client, "key-%02x%02x%02x%02x%02x%02x", digest[0], digest[1], digest[2],
                 digest[3], digest[4], digest[5]);
        memcpy(&x->salt, digest + 8, sizeof x->salt);
        x->keyed = true;
        return true;
    }
    if (x->route && x->route->flags & ROUTE_OPEN) return true;
    return exchange_refuse(x, TROUBLE_KEY, NULL, key ? "Invalid API Key" : "this server wants an API key: send it as "
                           "'Authorization: Bearer KEY' or 'X-Api-Key: KEY'");
}

/* ---- a request begins -------------------------------------------------------------------------- */

static void begin_names(struct exchange *x, const char *url, const char *method)
{
    struct server *s = x->server;
    snprintf(x->id, sizeof x->id, "%.12s%010llx", s->id_seed, (unsigned long long)++s->next_id);
    snprintf(x->method, sizeof x->method, "%s", method);
    snprintf(x->path, sizeof x->path, "%s", url);
    size_t n = strlen(x->path);
    if (n > 1 && x->path[n - 1] == '/') x->path[n - 1] = '\0';
    text_line(x->method);
    text_line(x->path);
}

static bool check_route(struct exchange *x, const char *url)
{
    char allowed[64];
    if (strlen(url) >= sizeof x->path)
        return exchange_refuse(x, TROUBLE_NOT_FOUND, NULL, "there is no such path");
    x->route = route_find(x->method, x->path, x->rest, sizeof x->rest, allowed);
    x->manner = x->route ? x->route->manner : route_manner(x->path);
    if (x->route) return true;
    if (*allowed)
        return exchange_refuse(x, TROUBLE_METHOD, NULL, "%s takes %s, not %s", x->path, allowed, x->method);
    return exchange_refuse(x, TROUBLE_NOT_FOUND, NULL, "there is no path %.100s: there are /v1/chat/completions, "
                           "/v1/messages, /completion, /api/chat and those beside them", x->path);
}

/* Content-Length as told; 0: none, or in chunks. */
static uint64_t told_length(const struct exchange *x)
{
    const char *p = exchange_header(x, "Content-Length");
    return p ? strtoull(p, NULL, 10) : 0;
}

static bool check_length(struct exchange *x)
{
    uint64_t n = told_length(x), limit = (uint64_t)x->server->start.options->body << 20;
    if (n <= limit) return true;
    return exchange_refuse(x, TROUBLE_LARGE, NULL, "the request has %llu bytes, and %llu are the most here "
                           "(--body-limit)", (unsigned long long)n, (unsigned long long)limit);
}

static bool check_time(struct exchange *x)
{
    struct server *s = x->server;
    if (s->draining && !(x->route->flags & ROUTE_LATE))
        return exchange_refuse(x, TROUBLE_DRAINING, NULL, "the server is shutting down: ask again later");
    if (x->route->flags & ROUTE_EARLY || atomic_load(&s->start.models->ready) == 1) return true;
    return exchange_refuse(x, TROUBLE_LOADING, NULL, "Loading model");
}

/* How long a client wants to wait at most. */
static bool check_patience(struct exchange *x)
{
    const char *text = exchange_header(x, "X-Request-Timeout-Ms");
    char *end;
    if (!text) return true;
    double ms = strtod(text, &end);
    if (end == text || *end || !(ms > 0 && ms <= 1e9))
        return exchange_refuse(x, TROUBLE_INVALID, "X-Request-Timeout-Ms", "the header X-Request-Timeout-Ms must be a "
                               "number of milliseconds, not '%.40s'", text);
    x->ask.time_limit = ms;
    return true;
}

static struct exchange *begin(struct server *s, struct wire *w, const char *url, const char *method,
                              const char *version)
{
    struct exchange *x = exchange_open(s, w);
    if (!x) return NULL;
    w->exchange = x;
    s->n_exchanges++;
    x->next = s->exchanges;
    if (s->exchanges) s->exchanges->prev = x;
    s->exchanges = x;
    begin_names(x, url, method);
    x->old = strcmp(version, "HTTP/1.1") != 0;
    x->manner = route_manner(x->path);
    if (framing_check(x, version) && check_origin(x) && !preflight(x) && check_route(x, url) && check_length(x)
        && check_key(x) && check_patience(x))
        check_time(x);
    return x;
}

/* ---- answers ----------------------------------------------------------------------------------- */

static void add_cors(const struct exchange *x, struct MHD_Response *r)
{
    const char *origin = exchange_header(x, "Origin"), *cors = x->server->start.options->cors;
    if (!origin || strlen(origin) > 300 || !cors || !origin_listed(cors, origin)) return;
    MHD_add_response_header(r, "Access-Control-Allow-Origin", origin);
    MHD_add_response_header(r, "Vary", "Origin");
    MHD_add_response_header(r, "Access-Control-Expose-Headers", "x-request-id, X-Stretto-Ignored, Retry-After");
    if (!preflight(x)) return;
    const char *headers = exchange_header(x, "Access-Control-Request-Headers");
    MHD_add_response_header(r, "Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS");
    if (headers && strlen(headers) < 400) MHD_add_response_header(r, "Access-Control-Allow-Headers", headers);
    MHD_add_response_header(r, "Access-Control-Max-Age", "600");
}

static void add_headers(const struct exchange *x, struct MHD_Response *r, const char *type)
{
    char text[32];
    if (type) MHD_add_response_header(r, "Content-Type", type);
    MHD_add_response_header(r, x->manner && x->manner->id_header ? x->manner->id_header : "x-request-id", x->id);
    MHD_add_response_header(r, "Server", "stretto/" STRETTO_VERSION);
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    if (x->route && strcmp(x->route->path, "/metrics") == 0) {
        snprintf(text, sizeof text, "%lld", (long long)((double)time(NULL) - server_uptime(x->server)));
        MHD_add_response_header(r, "Process-Start-Time-Unix", text);
    }
    if (x->policy) MHD_add_response_header(r, "Content-Security-Policy", x->policy);
    if (x->waited) MHD_add_response_header(r, "X-Stretto-Loading", x->ask.model->name);
    if (x->ignored.len) MHD_add_response_header(r, "X-Stretto-Ignored", x->ignored.data);
    add_cors(x, r);
    if (x->state == EXCHANGE_STREAMING) {
        MHD_add_response_header(r, "Cache-Control", "no-cache");
        MHD_add_response_header(r, "X-Accel-Buffering", "no");
    }
    const struct trouble *t = &x->trouble;
    if (t->kind == TROUBLE_METHOD) {
        char allowed[64], rest[sizeof x->rest];
        route_find(x->method, x->path, rest, sizeof rest, allowed);
        MHD_add_response_header(r, "Allow", allowed);
    }
    if (t->kind != TROUBLE_NONE && x->state != EXCHANGE_STREAMING) {
        double wait = t->retry_after > 0 ? t->retry_after : 1;
        if (trouble_row(t->kind)->http == 503) {
            snprintf(text, sizeof text, "%.0f", wait < 1 ? 1 : wait);
            MHD_add_response_header(r, "Retry-After", text);
        }
        if (t->kind == TROUBLE_KEY) MHD_add_response_header(r, "WWW-Authenticate", "Bearer");
        if (trouble_row(t->kind)->never) MHD_add_response_header(r, "x-should-retry", "false");
    }
    if (x->server->draining || x->cut || t->kind == TROUBLE_LARGE) MHD_add_response_header(r, "Connection", "close");
}

static enum MHD_Result send_response(struct exchange *x, unsigned http, const char *type, struct MHD_Response *r)
{
    if (!r) return MHD_NO;
    add_headers(x, r, type);
    x->http = http;
    enum MHD_Result done = MHD_queue_response(x->wire->connection, http, r);
    MHD_destroy_response(r);
    set_phase(x->wire, WIRE_BUSY);
    return done;
}

static enum MHD_Result send_json(struct exchange *x, unsigned http, json_t *value)
{
    /* Nine digits are a float's; times are doubles. */
    size_t digits = x->dialect && x->dialect->kind == JOB_EMBED ? 9 : 12;
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(digits)) : NULL;
    if (!text) return MHD_NO;
    size_t n = strlen(text);
    x->bytes_out += n;
    return send_response(x, http, "application/json; charset=utf-8",
                         MHD_create_response_from_buffer(n, text, MHD_RESPMEM_MUST_FREE));
}

static enum MHD_Result send_trouble(struct exchange *x)
{
    const struct trouble *t = &x->trouble;
    unsigned http = x->manner->http ? x->manner->http(t) : trouble_row(t->kind)->http;
    json_t *body = x->manner->error(x, t);
    x->state = EXCHANGE_ENDED;
    enum MHD_Result r = send_json(x, http, body);
    json_decref(body);
    return r;
}

/* What waits to be sent, all of it; nothing: the connection sleeps until there is something. */
static ssize_t read_stream(void *exchange, uint64_t pos, char *to, size_t most)
{
    struct exchange *x = exchange;
    (void)pos;
    x->wire->moved = clock_seconds();
    exchange_pump(x);
    size_t n = x->out.len - x->out_at;
    if (n > most) n = most;
    if (n) {
        memcpy(to, x->out.data + x->out_at, n);
        x->out_at += n;
        x->bytes_out += n;
        x->sent_at = x->wire->moved;
        if (x->out_at == x->out.len) {
            if (x->out.cap > 64 << 10) {
                size_t max = x->out.max;
                buffer_done(&x->out);
                x->out = buffer_make(max);
            }
            buffer_clear(&x->out);
            x->out_at = 0;
        }
        return (ssize_t)n;
    }
    if (x->ended || x->gone) return MHD_CONTENT_READER_END_OF_STREAM;
    suspend(x->wire);
    return 0;
}

static enum MHD_Result send_stream(struct exchange *x)
{
    x->sent_at = x->wire->moved = clock_seconds();
    return send_response(x, 200, x->dialect->type,
                         MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_stream, x, NULL));
}

static enum MHD_Result send_preflight(struct exchange *x)
{
    x->state = EXCHANGE_ENDED;
    return send_response(x, 200, NULL,
                         MHD_create_response_from_buffer(0, (void *)(uintptr_t)"", MHD_RESPMEM_PERSISTENT));
}

static enum MHD_Result send_reply(struct exchange *x)
{
    x->state = EXCHANGE_ENDED;
    if (x->reply) return send_json(x, x->http, x->reply);
    struct buffer b = x->reply_text;           /* the library gives it back */
    x->reply_text = buffer_make(0);
    x->bytes_out += b.len;
    return send_response(x, x->http ? x->http : 200, x->reply_type,
                         MHD_create_response_from_buffer(b.len, b.data ? b.data : (void *)(uintptr_t)"",
                                                         b.data ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT));
}

/* Whatever there is to send now. */
static enum MHD_Result answer(struct exchange *x)
{
    if (preflight(x) && x->trouble.kind == TROUBLE_NONE) return send_preflight(x);
    if (x->trouble.kind != TROUBLE_NONE && x->state != EXCHANGE_STREAMING) return send_trouble(x);
    switch (x->state) {
    case EXCHANGE_STREAMING: return send_stream(x);
    case EXCHANGE_WAITING:
        set_phase(x->wire, WIRE_BUSY);
        if (exchange_pump(x)) return x->trouble.kind != TROUBLE_NONE ? send_trouble(x) : send_reply(x);
        suspend(x->wire);
        return MHD_YES;
    case EXCHANGE_READING: case EXCHANGE_ENDED: break;
    }
    return send_reply(x);
}

/* ---- the library's callbacks ------------------------------------------------------------------- */

/* When half of the memory for requests is taken, nobody gets more than a half: who sends much and slowly stands in his
 * own way. */
static bool has_share(const struct exchange *x)
{
    struct server *s = x->server;
    size_t own = 0, half = exchange_hold_most(x) / 2;
    if (x->held <= EXCHANGE_SMALL || server_hold(s, 0) <= half) return true;
    for (const struct exchange *y = s->exchanges; y; y = y->next)
        if (!y->preparing && strcmp(y->client, x->client) == 0) own += y->held;
    return own <= half;
}

static enum MHD_Result take_body(struct exchange *x, const char *p, size_t n)
{
    uint64_t limit = (uint64_t)x->server->start.options->body << 20;
    x->bytes_in += n;
    x->wire->since = clock_seconds();
    if (x->trouble.kind == TROUBLE_NONE && x->bytes_in > limit) {
        exchange_refuse(x, TROUBLE_LARGE, NULL, "the request has more than the %llu bytes that are the most here "
                        "(--body-limit)", (unsigned long long)limit);
    }
    if (x->bytes_in > 2 * limit) return MHD_NO;
    if (x->trouble.kind == TROUBLE_NONE && !has_share(x)) exchange_hold_refuse(x);
    if (x->trouble.kind != TROUBLE_NONE || !exchange_hold(x, n)) {
        buffer_done(&x->body);
        exchange_let_go(x, x->held);
        return MHD_YES;
    }
    if (buffer_append(&x->body, p, n) != STRETTO_OK)
        trouble_status(&x->trouble, TROUBLE_BUSY, NULL, STRETTO_E_NOMEM, NULL);
    return MHD_YES;
}

enum MHD_Result wire_request(void *server, struct MHD_Connection *connection, const char *url, const char *method,
                             const char *version, const char *upload, size_t *upload_size, void **request)
{
    struct exchange *x = *request;
    if (!x) {
        const union MHD_ConnectionInfo *i = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        struct wire *w = i ? i->socket_context : NULL;
        x = w ? begin(server, w, url, method, version) : NULL;
        if (!x) return MHD_NO;
        *request = x;
        set_phase(w, WIRE_BODY);
        /* Who waits to be told to send, or would send much, is told at once that it is for nothing. */
        if (x->trouble.kind != TROUBLE_NONE && (x->cut || exchange_header(x, "Expect") || told_length(x) > SMALL_BODY))
            return send_trouble(x);
        return MHD_YES;
    }
    if (*upload_size) {
        size_t n = *upload_size;
        *upload_size = 0;
        return take_body(x, upload, n);
    }
    if (!x->handled && x->trouble.kind == TROUBLE_NONE && !preflight(x)) {
        set_phase(x->wire, WIRE_BUSY);
        x->handled = true;
        if (x->body.len >= PREPARE_BYTES) {
            x->preparing = true;
            suspend(x->wire);
            if (x->wire->half) wire_ask(x->wire);
            prepare_give(x->server->preparer[x->body.len >= PREPARE_MANY], x);
            return MHD_YES;
        }
        x->route->handle(x);
    }
    return answer(x);
}

void wire_completed(void *server, struct MHD_Connection *connection, void **request,
                    enum MHD_RequestTerminationCode code)
{
    struct server *s = server;
    struct exchange *x = *request;
    (void)connection;
    if (!x) return;
    *request = NULL;
    if (code != MHD_REQUEST_TERMINATED_COMPLETED_OK) x->gone = true;
    if (!x->ended_at) x->ended_at = clock_seconds();
    log_request(x);
    metrics_add(&s->metrics, x);
    if (x->next) x->next->prev = x->prev;
    if (x->prev) x->prev->next = x->next;
    else s->exchanges = x->next;
    s->n_exchanges--;
    x->wire->exchange = NULL;
    x->wire->suspended = false;
    set_phase(x->wire, WIRE_IDLE);
    exchange_close(x);
}
