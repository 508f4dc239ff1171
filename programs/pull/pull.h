/* Fetches one file from the first of its sources that delivers it whole. */
#ifndef PULL_PULL_H
#define PULL_PULL_H
#include "base/progress.h"
#include "pull/http.h"
#include "stretto/pull_options.h"

struct pull {
    const struct pull_options *options;
    const char *endpoint;                /* of hf: sources                                */
    const char *token;                   /* NULL: none                                    */
    struct http *http;
    struct progress progress;
    const volatile int *stop;
    /* A sentence for a person while the work goes on. */
    void (*note)(const char *fmt, ...);
};

struct pull_file {
    const char *name;                    /* for progress and messages                     */
    const char *path;                    /* where it must end up                          */
    const char *const *sources;
    size_t n_sources;
    uint64_t bytes;                      /* 0: not known                                  */
    char sha256[65];                     /* "": not known                                 */
};

struct pull_result {
    bool present;                        /* it was there already                          */
    bool verified;                       /* against a sha256 known beforehand             */
    uint64_t bytes, resumed;             /* resumed: bytes of an earlier run that served  */
    char sha256[65];
    char source[200];                    /* "" when present                               */
};

stretto_status pull_file(struct pull *p, const struct pull_file *f, struct pull_result *r,
                         struct error *err);

/* http_get with the retries of the options. */
enum outcome pull_patiently(struct pull *p, const struct http_ask *ask,
                            const struct http_sink *sink, struct http_answer *a, struct error *err);
/* Replaces the words of a 401, 403 or 404 about an hf: repository by what a person can do. */
void pull_explain(const struct pull *p, const char *repo, const char *shown, long status,
                  struct error *err);
#endif
