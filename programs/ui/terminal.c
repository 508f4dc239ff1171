#include "ui/terminal.h"
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

size_t ui_terminal_width(FILE *out)
{
    struct winsize w;
    if (ioctl(fileno(out), TIOCGWINSZ, &w) == 0 && w.ws_col > 10) return w.ws_col;
    const char *columns = getenv("COLUMNS");
    unsigned long n = columns ? strtoul(columns, NULL, 10) : 0;
    return n > 10 && n < 10000 ? n : 80;
}

struct ui_terminal ui_terminal_look(FILE *out)
{
    struct ui_terminal t = { .width = 80 };
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    t.there = isatty(fileno(out)) == 1;
    if (!t.there) return t;
    t.moves = term && *term && strcmp(term, "dumb") != 0;
    t.colour = t.moves && !(no_color && *no_color);
    t.width = ui_terminal_width(out);
    return t;
}
