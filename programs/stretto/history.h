/* What was typed before, kept in $XDG_STATE_HOME/stretto/history. A file that cannot be read or
 * written is no error: the history then lives as long as the program.
 *
 * The file is plain: an entry a line, appended to as entries are made, so two chats at once lose
 * nothing of each other; it is cut when it has grown long. A line of an entry that is followed by
 * another one ends with a backslash, and backslashes that an entry's line ends with are doubled. */
#ifndef STRETTO_HISTORY_H
#define STRETTO_HISTORY_H
#include "base/buffer.h"
#include <stdbool.h>

enum { HISTORY_MAX_ENTRIES = 1000, HISTORY_MAX_ENTRY = 1 << 16, HISTORY_MAX_FILE = 1 << 20 };

struct history {
    char **entries;                    /* oldest first; NUL-terminated                          */
    size_t n, cap;
    char path[4096];                   /* "": none                                              */
};

/* Fills it from the file. */
void history_open(struct history *h);
void history_close(struct history *h);
/* Adds an entry and appends it to the file. Blank ones, those with a NUL, very long ones and one that is
 * there already as the newest are left out. */
void history_add(struct history *h, const char *text, size_t n);

/* The entries of a file's bytes; `cut`: its beginning is missing, so the first line is not whole. */
void history_parse(struct history *h, const char *text, size_t n, bool cut);
/* An entry as the file holds it. */
stretto_status history_write(struct buffer *out, const char *text);
#endif
