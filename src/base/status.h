/* Where it went wrong, in words for a person. One struct error lives in each handle; callees borrow
 * it. The first writer wins, so the root cause is what gets printed. */
#ifndef BASE_STATUS_H
#define BASE_STATUS_H
#include "stretto/stretto.h"

struct error { stretto_status status; char text[512]; };

/* Records `s` and the words unless an earlier cause is already there; returns `s`. err may be NULL. */
__attribute__((format(printf, 3, 4)))
stretto_status fail(struct error *err, stretto_status s, const char *fmt, ...);
/* Names in files may hold anything; a sentence about them must not command a terminal: control characters
 * become '?'. fail() does so. */
void text_tame(char *text);
void error_clear(struct error *err);

/* Where there is nothing to undo; otherwise one `goto done`. Never both in one function. */
#define TRY(expr)                                               \
    do {                                                        \
        stretto_status try_status = (expr);                     \
        if (try_status != STRETTO_OK) return try_status;        \
    } while (0)
#endif
