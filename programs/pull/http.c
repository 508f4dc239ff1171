#include "pull/http.h"
#include "base/memory.h"
#include "pull/place.h"
#include <curl/curl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_HOPS = 8, SLOW_BYTES_PER_S = 1000, CONNECT_S = 30, MAX_ERROR_BODY = 1 << 16 };

struct http { CURL *curl; char words[CURL_ERROR_SIZE]; };

/* One exchange: a hop of the redirects. */
struct hop {
    const struct http_ask *ask;
    const struct http_sink *sink;
    struct http_answer *answer;
    struct error *err;
    CURL *curl;
    bool begun, chunked, first;
    bool has_length;
    uint64_t length, ignored;
    enum outcome verdict;               /* of the sink                  */
};

stretto_status http_open(struct http **out, struct error *err)
{
    *out = mem_zalloc(1, sizeof **out);
    if (!*out) return fail(err, STRETTO_E_NOMEM, "no memory for the network");
    (*out)->curl = curl_easy_init();
    if ((*out)->curl) return STRETTO_OK;
    mem_free(*out);
    *out = NULL;
    return fail(err, STRETTO_E_NOMEM, "libcurl does not start: no memory");
}

void http_close(struct http *h)
{
    if (!h) return;
    curl_easy_cleanup(h->curl);
    mem_free(h);
}

/* ---- headers --------------------------------------------------------------------------------- */

/* The value when `line` (n bytes, with its end of line) is the header `name`; copied, trimmed. */
static bool header(const char *line, size_t n, const char *name, char *out, size_t cap)
{
    size_t k = strlen(name);
    if (n <= k || strncasecmp(line, name, k) != 0 || line[k] != ':') return false;
    const char *from = line + k + 1, *to = line + n;
    while (from < to && (*from == ' ' || *from == '\t')) from++;
    while (to > from && (unsigned char)to[-1] <= ' ') to--;
    if ((size_t)(to - from) >= cap) return false;
    for (const char *p = from; p < to; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) return false;
    memcpy(out, from, (size_t)(to - from));
    out[to - from] = '\0';
    return true;
}

/* A decimal number that ends where the text ends, or at `*end` when that is asked for. */
static bool number(const char *s, const char **end, uint64_t *v)
{
    uint64_t x = 0;
    const char *p = s;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (x > (UINT64_MAX >> 4) / 10) return false; /* far above any file, far below overflow */
        x = x * 10 + (uint64_t)(*p - '0');
    }
    if (p == s || (!end && *p)) return false;
    if (end) *end = p;
    *v = x;
    return true;
}

/* "bytes 100-199/200" or "bytes 100-199/<star>" */
static void content_range(struct http_answer *a, const char *v)
{
    uint64_t from, to, total = 0;
    if (strncasecmp(v, "bytes ", 6) != 0 || !number(v + 6, &v, &from) || *v != '-'
            || !number(v + 1, &v, &to) || *v != '/' || to < from || to == UINT64_MAX)
        return;
    if (strcmp(v + 1, "*") != 0 && (!number(v + 1, NULL, &total) || total <= to)) return;
    a->from = from;
    a->total = total;
}

/* `"<64 digits>"`, the form in which Hugging Face names what it keeps outside of git. */
static void linked_etag(struct http_answer *a, const char *v)
{
    if (*v == '"') v++;
    size_t n = strcspn(v, "\"");
    if (n != 64 || strspn(v, "0123456789abcdef") != 64) return;
    memcpy(a->linked_sha256, v, 64);
    a->linked_sha256[64] = '\0';
}

static size_t on_header(char *line, size_t size, size_t n, void *ud)
{
    struct hop *hop = ud;
    struct http_answer *a = hop->answer;
    char v[1024];
    n *= size;
    if (n >= 5 && strncmp(line, "HTTP/", 5) == 0) {         /* also after "100 Continue"          */
        a->validator[0] = '\0';
        a->from = UINT64_MAX;
        a->total = 0;
        a->retry_after = 0;
        hop->chunked = hop->has_length = false;
    } else if (header(line, n, "ETag", v, sizeof a->validator)) {
        if (v[0] == '"') strcpy(a->validator, v);           /* weak ones do not vouch for bytes   */
    } else if (header(line, n, "Last-Modified", v, sizeof a->validator)) {
        if (!a->validator[0]) strcpy(a->validator, v);
    } else if (header(line, n, "Content-Range", v, sizeof v)) {
        content_range(a, v);
    } else if (header(line, n, "Content-Length", v, sizeof v)) {
        hop->has_length = number(v, NULL, &hop->length);
    } else if (header(line, n, "Transfer-Encoding", v, sizeof v)) {
        hop->chunked = true;
    } else if (header(line, n, "Retry-After", v, sizeof v)) {
        uint64_t s;
        if (number(v, NULL, &s)) a->retry_after = s < 86400 ? (double)s : 86400;
    } else if (hop->first && header(line, n, "X-Linked-Etag", v, sizeof v)) {
        linked_etag(a, v);
    } else if (hop->first && header(line, n, "X-Linked-Size", v, sizeof v)) {
        if (!number(v, NULL, &a->linked_bytes)) a->linked_bytes = 0;
    }
    return n;
}

/* ---- body ------------------------------------------------------------------------------------ */

static void begin(struct hop *hop)
{
    long version = 0;
    curl_easy_getinfo(hop->curl, CURLINFO_HTTP_VERSION, &version);
    if (hop->answer->status == 200) {
        hop->answer->from = 0;
        hop->answer->total = hop->has_length ? hop->length : 0;
    }
    hop->answer->framed = hop->has_length || hop->chunked || version >= CURL_HTTP_VERSION_2_0;
    hop->begun = true;
    hop->verdict = hop->sink->begin(hop->sink->ud, hop->answer, hop->err);
}

static bool is_file(long status) { return status == 200 || status == 206; }

static size_t on_body(char *data, size_t size, size_t n, void *ud)
{
    struct hop *hop = ud;
    n *= size;
    curl_easy_getinfo(hop->curl, CURLINFO_RESPONSE_CODE, &hop->answer->status);
    if (!is_file(hop->answer->status)) {
        hop->ignored += n;
        return hop->ignored > MAX_ERROR_BODY ? 0 : n;
    }
    if (!hop->begun) begin(hop);
    if (hop->verdict == OUT_DONE) hop->verdict = hop->sink->write(hop->sink->ud, data, n, hop->err);
    return hop->verdict == OUT_DONE ? n : 0;
}

static int on_progress(void *ud, curl_off_t dt, curl_off_t dn, curl_off_t ut, curl_off_t un)
{
    (void)dt; (void)dn; (void)ut; (void)un;
    return *((struct hop *)ud)->ask->stop;
}

/* ---- one hop --------------------------------------------------------------------------------- */

static struct curl_slist *headers_make(const struct http_ask *ask, bool token)
{
    char line[4400];
    struct curl_slist *list = curl_slist_append(NULL, "Accept: */*");
    if (token && ask->token) {
        snprintf(line, sizeof line, "Authorization: Bearer %s", ask->token);
        list = curl_slist_append(list, line);
    }
    if (ask->from && *ask->if_range) {
        snprintf(line, sizeof line, "If-Range: %s", ask->if_range);
        list = curl_slist_append(list, line);
    }
    return list;
}

/* Proxies and no_proxy come from the environment, which libcurl reads itself. */
static void options_set(struct http *h, struct hop *hop, const char *url,
                        struct curl_slist *headers)
{
    CURL *c = h->curl;
    const struct http_ask *ask = hop->ask;
    curl_easy_reset(c);
    h->words[0] = '\0';
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "stretto/" STRETTO_VERSION);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, h->words);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(c, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, (long)SLOW_BYTES_PER_S);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)(ask->stall < 1 ? 1 : ask->stall));
    curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L * 1024);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, hop);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, hop);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, hop);
    const char *ca = getenv("SSL_CERT_FILE");
    if (!ca || !*ca) ca = getenv("CURL_CA_BUNDLE");
    if (ca && *ca) curl_easy_setopt(c, CURLOPT_CAINFO, ca);
    if (ask->from) {
        char range[40];
        snprintf(range, sizeof range, "%llu-", (unsigned long long)ask->from);
        curl_easy_setopt(c, CURLOPT_RANGE, range);
    }
}

/* What a broken exchange means. */
static enum outcome broken(const struct http *h, const struct http_ask *ask, CURLcode code,
                           const char *shown, struct error *err)
{
    const char *why = h->words[0] ? h->words : curl_easy_strerror(code);
    switch (code) {
    case CURLE_ABORTED_BY_CALLBACK:
        fail(err, STRETTO_E_CANCEL, "interrupted");
        return OUT_STOP;
    case CURLE_OUT_OF_MEMORY:
        fail(err, STRETTO_E_NOMEM, "no memory for the network");
        return OUT_STOP;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
        fail(err, STRETTO_E_IO,
             "the certificate of %s is not trusted (%s): if your proxy replaces it with its "
             "own, name that one's file in SSL_CERT_FILE",
             shown, why);
        return OUT_NEXT;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        fail(err, STRETTO_E_IO, "%s: %s. Is this machine on the network, or behind a proxy that "
             "https_proxy should name?", shown, why);
        return ask->from ? OUT_RETRY : OUT_NEXT;       /* it was there when the first bytes came */
    case CURLE_OPERATION_TIMEDOUT:
        fail(err, STRETTO_E_IO, "%s is too slow or silent (%s)", shown, why);
        return OUT_RETRY;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_BAD_CONTENT_ENCODING:
        fail(err, STRETTO_E_IO, "%s: %s", shown, why);
        return OUT_NEXT;
    default:
        fail(err, STRETTO_E_IO, "the connection to %s failed: %s", shown, why);
        return OUT_RETRY;
    }
}

static enum outcome refused(const struct http_answer *a, const char *shown, struct error *err)
{
    switch (a->status) {
    case 408: case 425: case 429: case 500: case 502: case 503: case 504:
        fail(err, STRETTO_E_IO, "%s is busy or out of order (HTTP %ld)", shown, a->status);
        return OUT_RETRY;
    case 404: case 410:
        fail(err, STRETTO_E_IO, "%s does not exist (HTTP %ld)", shown, a->status);
        return OUT_NEXT;
    default:
        fail(err, STRETTO_E_IO, "%s was refused (HTTP %ld)", shown, a->status);
        return OUT_NEXT;
    }
}

static enum outcome hop_run(struct http *h, struct hop *hop, const char *url, bool token)
{
    char shown[200];
    url_show(shown, sizeof shown, url);
    struct http_answer *a = hop->answer;
    a->status = 0;
    struct curl_slist *headers = headers_make(hop->ask, token);
    options_set(h, hop, url, headers);
    CURLcode code = curl_easy_perform(h->curl);
    curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &a->status);
    /* An empty file has no body to begin with. */
    if (code == CURLE_OK && is_file(a->status) && !hop->begun) begin(hop);
    curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    if (hop->verdict != OUT_DONE) return hop->verdict;
    if (*hop->ask->stop) code = CURLE_ABORTED_BY_CALLBACK;
    bool whole_words = code == CURLE_OK || code == CURLE_WRITE_ERROR; /* enough of an error page */
    if (a->status >= 300 && whole_words) {
        if (a->status < 400 && a->status != 304) return OUT_DONE;
        return refused(a, shown, hop->err);
    }
    if (code != CURLE_OK) return broken(h, hop->ask, code, shown, hop->err);
    if (!is_file(a->status)) return refused(a, shown, hop->err);
    return OUT_DONE;
}

/* ---- redirects ------------------------------------------------------------------------------- */

static bool is_redirect(long status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

enum outcome http_get(struct http *h, const struct http_ask *ask, const struct http_sink *sink,
                      struct http_answer *a, struct error *err)
{
    char url[PLACE_MAX], shown[200];
    bool token = true;
    *a = (struct http_answer){ .from = UINT64_MAX };
    if (strlen(ask->url) >= sizeof url) {
        fail(err, STRETTO_E_FORMAT, "the address is too long");
        return OUT_NEXT;
    }
    strcpy(url, ask->url);
    for (int n = 0; n <= MAX_HOPS; n++) {
        struct hop hop = { .ask = ask, .sink = sink, .answer = a, .err = err, .curl = h->curl,
                           .first = n == 0, .verdict = OUT_DONE };
        if (url_check(url, err) != STRETTO_OK) return OUT_NEXT;
        /* Once it has left its origin the token stays at home, wherever the chain leads. */
        a->away = !url_same_origin(url, ask->url);
        token = token && !a->away;
        enum outcome out = hop_run(h, &hop, url, token);
        if (out != OUT_DONE || is_file(a->status)) return out;
        char *to = NULL;
        url_show(shown, sizeof shown, url);
        curl_easy_getinfo(h->curl, CURLINFO_REDIRECT_URL, &to);
        if (!is_redirect(a->status) || !to || strlen(to) >= sizeof url) {
            fail(err, STRETTO_E_IO, "%s leads nowhere (HTTP %ld)", shown, a->status);
            return OUT_NEXT;
        }
        if (url_is_https(url) && !url_is_https(to)) {
            fail(err, STRETTO_E_IO, "%s leads away from https:, which is not followed", shown);
            return OUT_NEXT;
        }
        memmove(url, to, strlen(to) + 1);
    }
    fail(err, STRETTO_E_IO, "%s leads in circles: more than %d redirects", shown, (int)MAX_HOPS);
    return OUT_NEXT;
}
