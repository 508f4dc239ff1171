/* One file asked of one address, redirects followed by our own rules: https stays https, the token
 * goes to the origin it was meant for and never to another, eight hops at most. */
#ifndef PULL_HTTP_H
#define PULL_HTTP_H
#include "base/status.h"
#include <stdbool.h>

/* What became of an attempt, and so what to do next. */
enum outcome {
    OUT_DONE,
    OUT_RETRY,       /* the same source may do better in a while       */
    OUT_AGAIN,       /* the same source, at once, from the beginning   */
    OUT_NEXT,        /* this source has it not, or not for us          */
    OUT_STOP,        /* nothing will help: full disk, interrupted      */
};

struct http_ask {
    const char *url;
    const char *token;                /* NULL: none                                        */
    uint64_t from;                    /* 0: the whole file                                 */
    const char *if_range;             /* validator of the bytes before `from`; "" : none   */
    double stall;                     /* seconds                                           */
    const volatile int *stop;
};

struct http_answer {
    long status;
    uint64_t from, total;             /* of a partial answer; total 0: not said            */
    char validator[256];              /* strong ETag, else Last-Modified, else ""          */
    char linked_sha256[65];           /* Hugging Face: what the file hashes to; "" : unsaid */
    uint64_t linked_bytes;
    double retry_after;               /* seconds; 0: not said                              */
    bool framed;                      /* a cut connection would be noticed                 */
    bool away;                        /* redirected to another origin than the one asked   */
};

struct http_sink {
    /* The headers of a 200 or 206 are complete; OUT_DONE goes on. */
    enum outcome (*begin)(void *ud, const struct http_answer *a, struct error *err);
    enum outcome (*write)(void *ud, const void *data, size_t n, struct error *err);
    void *ud;
};

struct http;
stretto_status http_open(struct http **out, struct error *err);
void http_close(struct http *h);
/* The last answer is left in *a. Anything but OUT_DONE comes with words in `err`. */
enum outcome http_get(struct http *h, const struct http_ask *ask, const struct http_sink *sink,
                      struct http_answer *a, struct error *err);
#endif
