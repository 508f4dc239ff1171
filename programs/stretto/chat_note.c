/* What chat itself says, on standard error: dim where there are colours, so that it stands back behind the
 * conversation; words whole where there is a terminal, and nothing in them that commands it. */
#include "stretto/chat.h"
#include "stretto/output.h"
#include "ui/terminal.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Where a row goes on when it is too long: under its second column, or a little to the right. */
static size_t hang(const char *line, size_t n, size_t width)
{
    if (n < 2 || line[0] != ' ' || line[1] != ' ') return 0;
    for (size_t i = 3; i + 1 < n; i++)
        if (line[i - 1] == ' ' && line[i - 2] == ' ' && line[i] != ' ') return i + 30 < width ? i : 4;
    return 4;
}

static void put_line(const char *line, size_t n, size_t width)
{
    size_t indent = hang(line, n, width), column = 0;
    for (size_t i = 0, gap, word; i < n; i += gap + word) {
        gap = strspn(line + i, " ");
        word = strcspn(line + i + gap, " \n");
        if (column > indent && column + gap + word > width) {
            fprintf(stderr, "\n%*s", (int)indent, "");
            column = indent;
        } else
            column += tame_print(stderr, line + i, gap);
        column += tame_print(stderr, line + i + gap, word);
    }
    fputc('\n', stderr);
}

static stretto_status format(struct buffer *text, const char *before, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    TRY(buffer_str(text, before));
    TRY(buffer_reserve(text, (size_t)(n < 0 ? 0 : n)));
    if (n > 0) text->len += (size_t)vsnprintf(text->data + text->len, (size_t)n + 1, fmt, ap);
    return STRETTO_OK;
}

static void put_note(const char *before, const char *fmt, va_list ap)
{
    struct buffer text = buffer_make((size_t)1 << 24);
    fflush(stdout);
    int e = errno;                     /* main names what went wrong with standard output */
    struct ui_terminal look = ui_terminal_look(stderr);
    bool whole = format(&text, before, fmt, ap) == STRETTO_OK;
    if (!whole) fputs("stretto chat: out of memory\n", stderr);
    else if (!look.there) fprintf(stderr, "%s\n", text.data);
    else {
        fputs(look.colour ? "\033[2m" : "", stderr);
        for (const char *p = text.data, *end; p; p = *end ? end + 1 : NULL) {
            end = p + strcspn(p, "\n");
            put_line(p, (size_t)(end - p), look.width);
        }
        fputs(look.colour ? "\033[0m" : "", stderr);
    }
    fflush(stderr);
    buffer_done(&text);
    errno = e;
}

void chat_say(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    put_note("", fmt, ap);
    va_end(ap);
}

void chat_wrong(struct chat *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    put_note("stretto chat: ", fmt, ap);
    va_end(ap);
    c->failed = true;
}
