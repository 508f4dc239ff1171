/* One message after another from a person (line editing, history, several lines) or from a pipe
 * (one message a line). */
#ifndef STRETTO_LINE_H
#define STRETTO_LINE_H
#include "base/buffer.h"
#include <stdbool.h>

enum { LINE_MAX_MESSAGE = 1 << 20, LINE_MAX_HISTORY = 1000 };

enum line_result { LINE_MESSAGE, LINE_END, LINE_INTERRUPTED, LINE_FAILED };

struct line;                           /* opaque */

/* Edits when standard input and output are both terminals. *interrupted is what the SIGINT handler
 * sets; a set one ends the line being typed. History lives in $XDG_STATE_HOME/stretto/history; one
 * that cannot be read or written is no error. */
stretto_status line_open(struct line **out, const volatile int *interrupted, struct error *err);
void line_close(struct line *l);
bool line_edits(const struct line *l);

/* Replaces `text`. A line that ends with a backslash goes on in the next one; """ at the beginning
 * of a line opens a message of several lines, which the next """ at the end of a line closes. */
enum line_result line_read(struct line *l, struct buffer *text);
#endif
