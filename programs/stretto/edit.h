/* The message being typed: its text, the cursor, and what each key does to them. It knows nothing of
 * terminals; stretto/screen.h draws it. */
#ifndef STRETTO_EDIT_H
#define STRETTO_EDIT_H
#include "stretto/history.h"
#include "stretto/keys.h"

enum { EDIT_MAX_TEXT = 1 << 20 };

enum edit_result {
    EDIT_GOES_ON, EDIT_SEND, EDIT_END, EDIT_INTERRUPTED, EDIT_SUSPEND, EDIT_QUIT, EDIT_CLEAR,
    EDIT_BELL                          /* the key could do nothing                              */
};

struct edit {
    struct buffer text;
    size_t at;                         /* of the cursor, in bytes; a border of characters       */
    struct buffer killed;              /* what Ctrl-Y brings back                               */
    struct history *history;
    size_t entry;                      /* shown now; history->n: what is being typed            */
    struct buffer typed;               /* kept while an older entry is shown                    */
    bool searching;                    /* Ctrl-R: `query` looks for an entry, which is in `text` */
    struct buffer query;
    const char *(*word)(size_t i);     /* the words Tab completes at the beginning; NULL: none  */
};

void edit_init(struct edit *e, struct history *h);
void edit_done(struct edit *e);
void edit_reset(struct edit *e);       /* an empty message                                      */
enum edit_result edit_key(struct edit *e, enum key key, const char *text, size_t n);

/* Whether a message goes on behind its last line: """ has opened and not closed it, or a backslash
 * ends it. */
bool message_goes_on(const char *text, size_t n);
/* Makes room for that line; the backslash goes. */
stretto_status message_continue(struct buffer *text);
/* A whole message without the quotes around it. */
void message_finish(struct buffer *text);

/* Where the character (with the marks that sit on it) before or behind `at` begins. */
size_t edit_before(const struct buffer *text, size_t at);
size_t edit_after(const struct buffer *text, size_t at);
#endif
