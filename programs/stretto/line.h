/* One message after another from a person (an editor of several lines, history, pasting) or from a
 * pipe (one message a line). A terminal that cannot draw a line again (TERM=dumb) is read line by line. */
#ifndef STRETTO_LINE_H
#define STRETTO_LINE_H
#include "base/buffer.h"
#include <stdbool.h>

enum { LINE_MAX_MESSAGE = 1 << 20 };

enum line_result { LINE_MESSAGE, LINE_END, LINE_INTERRUPTED, LINE_FAILED };

struct line;                           /* opaque */

/* *interrupted is what the SIGINT handler sets; a set one ends the message being typed. `word` gives
 * the words Tab completes, NULL behind the last. From here to line_close the terminal shows nothing that
 * is typed but the message, and is as it was whenever the program stops or is ended by a signal. */
stretto_status line_open(struct line **out, const volatile int *interrupted,
                         const char *(*word)(size_t i), struct error *err);
void line_close(struct line *l);
bool line_asks(const struct line *l);  /* a person is there, who sees a prompt                  */

/* Replaces `text`. A person's message may have several lines: pasted, with Alt-Enter, behind a
 * backslash, or between """ and """. LINE_INTERRUPTED leaves in `text` what was dropped. */
enum line_result line_read(struct line *l, struct buffer *text);
/* Forgets what was typed ahead, as Ctrl-C does. */
void line_forget(struct line *l);
#endif
