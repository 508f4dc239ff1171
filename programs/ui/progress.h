/* Draws base/progress.h for a person: one redrawn line on a terminal, otherwise a plain line every
 * few seconds. Work shorter than a second shows nothing. Everything goes to `out`. */
#ifndef UI_PROGRESS_H
#define UI_PROGRESS_H
#include "base/progress.h"
#include <stdbool.h>
#include <stdio.h>

struct ui_progress {
    FILE *out; /* NULL: quiet                                                    */
    bool terminal, colour;
    bool items;          /* counts things; otherwise bytes                                 */
    double (*now)(void); /* seconds; tests bring their own clock                           */

    char what[96]; /* the piece being shown; "" between pieces                       */
    double began, drawn,
        sampled;          /* when the piece began, was last drawn, the rate was last taken  */
    uint64_t first, last; /* `done` at the beginning (a resumed transfer) and at `sampled`  */
    double rate;          /* per second, smoothed                                           */
    bool shown;           /* something of this piece has been written                       */
};

/* Looks whether `out` is a terminal, and at TERM=dumb and NO_COLOR. */
void ui_progress_init(struct ui_progress *u, FILE *out);
/* What to hand to the library; `u` must outlive it. */
struct progress ui_progress_hook(struct ui_progress *u);
/* Ends a line that is half drawn, so that a message can follow. Safe at any time. */
void ui_progress_break(struct ui_progress *u);

/* "98.4 MB"; decimal units, as sizes of downloads are given. */
const char *ui_bytes(char *buf, size_t cap, uint64_t n);
/* One line without colour or newline, at most `width` columns. rate 0: not known yet. */
void ui_progress_line(char *buf, size_t cap, size_t width, const char *what, uint64_t done,
                      uint64_t total, double rate, bool items);
#endif
