/* What a stream can show: whether it is a terminal, whether it has colours, how wide it is. */
#ifndef UI_TERMINAL_H
#define UI_TERMINAL_H
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct ui_terminal {
    bool there;          /* a terminal at all                                                     */
    bool moves, colour;  /* lines can be drawn again; escapes for colours mean something there    */
    size_t width;        /* columns; 80 when the terminal does not say                            */
};

/* Looks at TERM, NO_COLOR and, where the terminal does not know its size, COLUMNS. */
struct ui_terminal ui_terminal_look(FILE *out);
size_t ui_terminal_width(FILE *out);
#endif
