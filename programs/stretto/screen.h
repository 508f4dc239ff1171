/* Draws a message being typed on a terminal, below what is there already, and draws it again at the same
 * place after every change. Everything is relative to the row where the message begins: where that is
 * on the screen is not known, and need not be.
 *
 * Long lines are left to the terminal to wrap, so that a terminal that sets its lines anew when its width
 * changes sets these as we then expect them. */
#ifndef STRETTO_SCREEN_H
#define STRETTO_SCREEN_H
#include "stretto/edit.h"

struct screen {
    size_t cols, rows;                 /* of the terminal                                       */
    bool colour, rewraps;              /* rewraps: see above                                    */
    /* What is drawn now. */
    size_t from;                       /* byte of the text the first row begins with            */
    size_t row;                        /* of the cursor, below the first                        */
    size_t at;                         /* where the cursor is in the text                       */
    size_t prompt;                     /* columns before the text                               */
};

void screen_init(struct screen *s, bool colour);
/* The next drawing begins at the row where the terminal's cursor is. */
void screen_forget(struct screen *s);
/* The terminal has another size now: finds where the cursor is, as far as that can be known. */
void screen_resize(struct screen *s, const struct edit *e, size_t cols, size_t rows);
/* Bytes for the terminal are appended to `out`. */
stretto_status screen_draw(struct screen *s, const struct edit *e, struct buffer *out);
/* Draws all of the message, however long, with the cursor behind it: the last drawing of it. */
stretto_status screen_finish(struct screen *s, const struct edit *e, struct buffer *out);
#endif
