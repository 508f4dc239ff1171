/* A client of many streams: sends prepared HTTP requests to a server and tells when each piece of each answer came.
 *
 *     load_client HOST PORT AT_ONCE [SECONDS] < requests > answers
 *
 * Requests are read whole before the first is sent, each a line and so many bytes:
 *
 *     AT CLOSE_EVENTS CLOSE_SECONDS SEND PAUSE N\n<N bytes>
 *
 * AT: seconds after the beginning before which it is not sent. At most AT_ONCE are open; they are begun in their
 * order, and each has a connection of its own. Faults: the connection is reset after so many events or seconds (-1:
 * never); only SEND bytes are sent (-1: all); PAUSE seconds pass between reads of 512 bytes (0: none).
 * SECONDS (600): who has no answer by then is told as "late".
 *
 * An answer is a line of JSON: the request's number, the status, seconds (begin, of the first event with text, end),
 * the times of all events with text in milliseconds behind begin, what usage told, whether [DONE] came, how it ended
 * (whole, cut: by the server in the middle; gone: by us; late, refused), and the text as it was escaped. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct request {
    double at, close_seconds, pause;
    long close_events, send;
    size_t n;
    char *bytes;
};

struct bytes {
    char *p;
    size_t n, cap;
};

struct stream {
    int fd;                            /* -1: free                                     */
    size_t i;                          /* the request                                  */
    size_t sent;
    double begin, first, end, again;   /* again: when it reads next                    */
    bool writing, head_read, chunked, events, done, length_known;
    int status;
    long chunk;                        /* bytes left of the chunk; -1: its size comes  */
    size_t left;                       /* of a body with a length                      */
    long n_events;
    struct bytes raw, line, text, times, body;
    long prompt, cached, tokens;
};

static struct sockaddr_in server;
static struct request *requests;
static size_t n_requests, begun, ended;
static int poller;
static double zero, patience = 600;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec - zero;
}

static void die(const char *what)
{
    fprintf(stderr, "load_client: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void put(struct bytes *b, const char *p, size_t n)
{
    if (b->n + n + 1 > b->cap) {
        b->cap = 2 * (b->n + n) + 256;
        b->p = realloc(b->p, b->cap);
        if (!b->p) die("memory");
    }
    memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = 0;
}

static void put_format(struct bytes *b, const char *format, ...)
{
    char s[64];
    va_list a;
    va_start(a, format);
    int n = vsnprintf(s, sizeof s, format, a);
    va_end(a);
    put(b, s, (size_t)n);
}

static void take(struct bytes *b, size_t n)
{
    memmove(b->p, b->p + n, b->n - n + 1);
    b->n -= n;
}

/* ---- what is in an answer ---- */

static long number_after(const char *s, const char *key)
{
    const char *p = strstr(s, key);
    return p ? strtol(p + strlen(key), NULL, 10) : -1;
}

/* The string of a key, still escaped: a quote inside has a backslash before it, so a key's is never a text's. */
static bool text_after(struct bytes *out, const char *s, const char *key)
{
    const char *p = strstr(s, key);
    if (!p) return false;
    p += strlen(key);
    if (*p == ' ') p++;
    if (*p++ != '"') return false;
    const char *q = p;
    while (*q && *q != '"') q += *q == '\\' && q[1] ? 2 : 1;
    put(out, p, (size_t)(q - p));
    return q > p;
}

static void event(struct stream *s, const char *data)
{
    if (strcmp(data, "[DONE]") == 0) {
        s->done = true;
        return;
    }
    double at = now();
    if (text_after(&s->text, data, "\"content\":") || text_after(&s->text, data, "\"text\":")) {
        if (s->n_events == 0) s->first = at;
        put_format(&s->times, s->n_events ? ",%.2f" : "%.2f", 1e3 * (at - s->begin));
        s->n_events++;
    }
    long prompt = number_after(data, "\"prompt_tokens\":"), tokens = number_after(data, "\"completion_tokens\":");
    long cached = number_after(data, "\"cached_tokens\":");
    if (prompt >= 0) s->prompt = prompt;
    if (tokens >= 0) s->tokens = tokens;
    if (cached >= 0) s->cached = cached;
}

static void body(struct stream *s, const char *p, size_t n)
{
    if (!s->events) {
        if (s->body.n < 1 << 20) put(&s->body, p, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (p[i] != '\n') {
            put(&s->line, p + i, 1);
            continue;
        }
        if (s->line.n > 6 && memcmp(s->line.p, "data: ", 6) == 0) event(s, s->line.p + 6);
        s->line.n = 0;
    }
}

/* ---- HTTP ---- */

static bool read_head(struct stream *s)
{
    char *end = s->raw.n ? strstr(s->raw.p, "\r\n\r\n") : NULL;
    if (!end) return false;
    *end = 0;
    if (sscanf(s->raw.p, "HTTP/1.%*d %d", &s->status) != 1) s->status = -1;
    s->chunked = strcasestr(s->raw.p, "transfer-encoding: chunked") != NULL;
    s->events = strcasestr(s->raw.p, "text/event-stream") != NULL;
    const char *length = strcasestr(s->raw.p, "content-length:");
    s->length_known = length && !s->chunked;
    s->left = s->length_known ? strtoul(length + 15, NULL, 10) : 0;
    s->chunk = -1;
    take(&s->raw, (size_t)(end - s->raw.p) + 4);
    if (s->status == 100) return read_head(s);
    return s->head_read = true;
}

/* True when the answer is whole. */
static bool read_chunks(struct stream *s)
{
    size_t at = 0;
    bool whole = false;
    while (at < s->raw.n && !whole) {
        if (s->chunk < 0) {
            char *eol = strstr(s->raw.p + at, "\r\n");
            if (!eol) break;
            if (eol == s->raw.p + at) {
                at += 2;
                continue;
            }
            s->chunk = strtol(s->raw.p + at, NULL, 16);
            at = (size_t)(eol - s->raw.p) + 2;
            whole = s->chunk == 0;
        } else {
            size_t n = s->raw.n - at < (size_t)s->chunk ? s->raw.n - at : (size_t)s->chunk;
            body(s, s->raw.p + at, n);
            at += n;
            s->chunk -= (long)n;
            if (s->chunk == 0) s->chunk = -1;
        }
    }
    if (at) take(&s->raw, at);
    return whole;
}

static bool digest(struct stream *s)
{
    if (!s->head_read && !read_head(s)) return false;
    if (s->chunked) return s->raw.n && read_chunks(s);
    if (!s->length_known) {
        if (s->raw.n) body(s, s->raw.p, s->raw.n);
        s->raw.n = 0;
        return false;
    }
    size_t n = s->raw.n < s->left ? s->raw.n : s->left;
    if (n) body(s, s->raw.p, n);
    s->left -= n;
    if (s->raw.n) take(&s->raw, n);
    return s->left == 0;
}

/* ---- connections ---- */

static void tell(struct stream *s, const char *how)
{
    if (!s->events && s->status == 200 && s->body.n) event(s, s->body.p);
    printf("{\"i\":%zu,\"status\":%d,\"how\":\"%s\",\"begin\":%.4f,\"first\":%.4f,\"end\":%.4f,\"done\":%s,"
           "\"prompt\":%ld,\"cached\":%ld,\"tokens\":%ld,\"events\":[%s],\"text\":\"%s\"", s->i, s->status, how,
           s->begin, s->n_events ? s->first : -1.0, now(), s->done ? "true" : "false", s->prompt, s->cached,
           s->tokens, s->times.n ? s->times.p : "", s->text.n ? s->text.p : "");
    if (s->status != 200 && s->body.n) {
        printf(",\"error\":\"");
        for (size_t i = 0; i < s->body.n && i < 600; i++) {
            unsigned char c = (unsigned char)s->body.p[i];
            if (c == '"' || c == '\\') putchar('\\');
            if (c >= ' ' && c < 127) putchar(c);
        }
        putchar('"');
    }
    printf("}\n");
}

static void finish(struct stream *s, const char *how)
{
    tell(s, how);
    if (strcmp(how, "gone") == 0) {
        struct linger hard = { .l_onoff = 1, .l_linger = 0 };
        setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    }
    close(s->fd);
    s->fd = -1;
    ended++;
}

static void listen_to(struct stream *s, uint32_t what)
{
    struct epoll_event e = { .events = what, .data.ptr = s };
    if (epoll_ctl(poller, EPOLL_CTL_MOD, s->fd, &e) && epoll_ctl(poller, EPOLL_CTL_ADD, s->fd, &e)) die("epoll_ctl");
}

static void begin(struct stream *s, size_t i)
{
    struct bytes keep[] = { s->raw, s->line, s->text, s->times, s->body };
    *s = (struct stream){ .i = i, .raw = keep[0], .line = keep[1], .text = keep[2], .times = keep[3], .body = keep[4],
                          .begin = now(), .writing = true, .prompt = -1, .cached = -1, .tokens = -1 };
    s->raw.n = s->line.n = s->text.n = s->times.n = s->body.n = 0;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0) die("socket");
    int one = 1, small = 4096;
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (requests[i].pause > 0) setsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (connect(s->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS) {
        finish(s, "refused");
        return;
    }
    listen_to(s, EPOLLOUT);
}

static void write_more(struct stream *s)
{
    const struct request *r = &requests[s->i];
    size_t all = r->send >= 0 && (size_t)r->send < r->n ? (size_t)r->send : r->n;
    while (s->sent < all) {
        ssize_t n = send(s->fd, r->bytes + s->sent, all - s->sent, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n < 0) {
            /* The server may have said why before it closed. */
            if (s->sent == 0) {
                finish(s, "refused");
                return;
            }
            break;
        }
        s->sent += (size_t)n;
    }
    s->writing = false;
    listen_to(s, EPOLLIN);
}

static void read_more(struct stream *s)
{
    static char buffer[65536];
    const struct request *r = &requests[s->i];
    for (;;) {
        ssize_t n = recv(s->fd, buffer, r->pause > 0 ? 512 : sizeof buffer, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n > 0) put(&s->raw, buffer, (size_t)n);
        bool whole = n > 0 && digest(s);
        bool closed = n <= 0;
        if (whole || closed) {
            bool enough = whole || (s->head_read && !s->chunked && !s->length_known);
            finish(s, enough ? "whole" : "cut");
            return;
        }
        if (r->close_events >= 0 && s->n_events >= r->close_events) {
            finish(s, "gone");
            return;
        }
        if (r->pause > 0) {
            s->again = now() + r->pause;
            listen_to(s, 0);
            return;
        }
    }
}

/* What time brings; answers when to look again. */
static double look(struct stream *all, size_t n)
{
    double next = 1e9, t = now();
    for (size_t k = 0; k < n; k++) {
        struct stream *s = &all[k];
        if (s->fd < 0) continue;
        const struct request *r = &requests[s->i];
        double gone = r->close_seconds >= 0 ? s->begin + r->close_seconds : 1e9;
        double late = s->begin + patience;
        if (t >= gone || t >= late) {
            finish(s, t >= gone ? "gone" : "late");
            continue;
        }
        if (s->again > 0 && t >= s->again) {
            s->again = 0;
            listen_to(s, EPOLLIN);
        }
        if (s->again > 0 && s->again < next) next = s->again;
        if (gone < next) next = gone;
        if (late < next) next = late;
    }
    return next;
}

static double begin_more(struct stream *all, size_t n)
{
    for (size_t k = 0; k < n && begun < n_requests; k++) {
        if (all[k].fd >= 0) continue;
        if (requests[begun].at > now()) return requests[begun].at;
        begin(&all[k], begun++);
    }
    return 1e9;
}

static void read_requests(void)
{
    size_t cap = 0;
    struct request r;
    while (scanf("%lf %ld %lf %ld %lf %zu", &r.at, &r.close_events, &r.close_seconds, &r.send, &r.pause, &r.n) == 6) {
        if (getchar() != '\n' || r.n > (size_t)1 << 31) {
            fprintf(stderr, "load_client: request %zu: AT CLOSE_EVENTS CLOSE_SECONDS SEND PAUSE N and a new line are "
                            "expected\n", n_requests);
            exit(2);
        }
        r.bytes = malloc(r.n + 1);
        if (n_requests == cap) {
            cap = 2 * cap + 64;
            requests = realloc(requests, cap * sizeof *requests);
        }
        if (!r.bytes || !requests) die("memory");
        if (fread(r.bytes, 1, r.n, stdin) != r.n) die("the last request is cut off");
        requests[n_requests++] = r;
    }
}

static void give_back(struct stream *all, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        free(all[k].raw.p);
        free(all[k].line.p);
        free(all[k].text.p);
        free(all[k].times.p);
        free(all[k].body.p);
    }
    free(all);
    for (size_t k = 0; k < n_requests; k++) free(requests[k].bytes);
    free(requests);
    close(poller);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: load_client HOST PORT AT_ONCE [SECONDS] < requests > answers\n");
        return 2;
    }
    server = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2])) };
    if (inet_pton(AF_INET, argv[1], &server.sin_addr) != 1) {
        fprintf(stderr, "load_client: %s is no IPv4 address\n", argv[1]);
        return 2;
    }
    size_t at_once = strtoul(argv[3], NULL, 10);
    if (argc > 4) patience = strtod(argv[4], NULL);
    struct rlimit files = { 0 };
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    read_requests();
    struct stream *all = calloc(at_once ? at_once : 1, sizeof *all);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (!all || poller < 0) die("memory");
    for (size_t k = 0; k < at_once; k++) all[k].fd = -1;
    zero = now();
    while (ended < n_requests && at_once) {
        double next = begin_more(all, at_once), timed = look(all, at_once);
        double wait = (timed < next ? timed : next) - now();
        struct epoll_event ready[256];
        int n = epoll_wait(poller, ready, 256, wait > 1 ? 1000 : wait > 0 ? (int)(1e3 * wait) + 1 : 0);
        for (int k = 0; k < n; k++) {
            struct stream *s = ready[k].data.ptr;
            if (s->fd < 0) continue;
            if (s->writing) write_more(s);
            else read_more(s);
        }
    }
    give_back(all, at_once);
    return fflush(stdout) ? 1 : 0;
}
