/* Why a request is not answered: one kind of a table, which knows its HTTP status and how each API calls it,
 * and words that say what to do. The first writer wins. */
#ifndef SERVE_TROUBLE_H
#define SERVE_TROUBLE_H
#include "base/buffer.h"
#include "base/status.h"
#include <stdbool.h>

enum trouble_kind {
    TROUBLE_NONE, TROUBLE_INVALID, TROUBLE_KEY, TROUBLE_FORBIDDEN, TROUBLE_NOT_FOUND, TROUBLE_METHOD,
    TROUBLE_SLOW, TROUBLE_LARGE, TROUBLE_HEADERS, TROUBLE_CONTEXT, TROUBLE_UNSUPPORTED, TROUBLE_BUSY,
    TROUBLE_LOADING, TROUBLE_DRAINING, TROUBLE_LATE, TROUBLE_FAILED
};

enum { TROUBLE_TEXT = 700, TROUBLE_PARAM = 80 };

/* Most requests have none, so its words take no room in them. */
struct trouble {
    enum trouble_kind kind;
    const char *text, *param;          /* of one that has a kind; param: the field, or "" */
    char *memory;                      /* where they stand; NULL: they are constants */
    uint32_t n_prompt, n_context;      /* CONTEXT: tokens         */
    double retry_after;                /* seconds; 0: not said    */
};

struct trouble_row {
    unsigned http;
    const char *openai, *anthropic;    /* "type" there                                          */
    bool never;                        /* trying again would not help: x-should-retry: false    */
};
const struct trouble_row *trouble_row(enum trouble_kind kind);

void trouble_done(struct trouble *t);

/* What a client sent becomes one line of well-formed text: control characters and bytes that are none become '?'. */
void text_line(char *text);

/* Always false, for `return trouble(...)`. param may be NULL. */
__attribute__((format(printf, 4, 5)))
bool trouble(struct trouble *t, enum trouble_kind kind, const char *param, const char *fmt, ...);
/* What a function of the library said: its own mistakes and want of memory are FAILED, all else `kind`. */
bool trouble_status(struct trouble *t, enum trouble_kind kind, const char *param, stretto_status s,
                    const struct error *err);
#endif
