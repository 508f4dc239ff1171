#include "stretto/screen.h"
#include "base/utf8.h"
#include <stdint.h>
#include <string.h>
#include <utf8proc.h>

enum { PROMPT = 2, TAB = 8 };          /* columns */

void screen_init(struct screen *s, bool colour)
{
    *s = (struct screen){ .cols = 80, .rows = 24, .colour = colour, .rewraps = true };
}

void screen_forget(struct screen *s) { s->from = s->row = s->at = 0; }

/* ---- where characters stand ------------------------------------------------------------------ */

/* Rows below the first, columns. col == cols is the end of a full row. */
struct place { size_t row, col; };

/* A character as it is shown: its bytes in the text, columns, and what to write ("": spaces). The end of
 * a line takes a column, so that the cursor has a place there; nothing is written for it. */
struct cell { size_t bytes, width; bool line_end; char text[8]; };

static struct cell cell_at(const struct buffer *t, size_t at, size_t col, size_t cols)
{
    struct cell c = { .width = 1 };
    int32_t cp;
    if (at == t->len) return c;
    c.bytes = utf8_decode(t->data + at, t->len - at, &cp);
    if (cp == '\n') c.line_end = true;
    else if (cp == '\t') {
        if (col >= cols) col = 0;
        c.width = TAB - col % TAB < cols - col ? TAB - col % TAB : cols - col;
    } else if (cp >= 0 && (cp < 0x20 || cp == 0x7f)) {
        c.width = 2;
        c.text[0] = '^';
        c.text[1] = (char)(cp ^ 0x40);
    } else if (cp < 0 || (cp >= 0x80 && cp < 0xa0)) {
        memcpy(c.text, "\xef\xbf\xbd", 4);
    } else {
        c.width = (size_t)utf8proc_charwidth(cp);
        memcpy(c.text, t->data + at, c.bytes);
    }
    return c;
}

/* Goes behind a cell. True when that cell had to begin the next row. */
static bool pass(struct place *p, const struct cell *c, size_t cols)
{
    bool wraps = p->col + c->width > cols && c->width;
    if (wraps) *p = (struct place){ p->row + 1, 0 };
    p->col += c->width;
    if (c->line_end) *p = (struct place){ p->row + 1, PROMPT };
    return wraps;
}

static bool begins_line(const struct buffer *t, size_t at) { return at && t->data[at - 1] == '\n'; }

/* The first row begins with the byte `from`: behind a prompt, or as the rest of a long line. */
static struct place first_place(const struct screen *s, const struct buffer *t, size_t from)
{
    return (struct place){ 0, !from ? s->prompt : begins_line(t, from) ? PROMPT : 0 };
}

/* Where the cursor stands before the byte `to`. */
static struct place find_place(const struct screen *s, const struct buffer *t, size_t from, size_t to)
{
    struct place p = first_place(s, t, from);
    size_t at = from;
    while (at < to && at < t->len) {
        struct cell c = cell_at(t, at, p.col, s->cols);
        pass(&p, &c, s->cols);
        at += c.bytes;
    }
    struct cell c = cell_at(t, at, p.col, s->cols);
    return p.col + c.width > s->cols || p.col == s->cols ? (struct place){ p.row + 1, 0 } : p;
}

/* The byte that begins row `row` of the whole text. */
static size_t row_begin(const struct screen *s, const struct buffer *t, size_t row)
{
    struct place p = first_place(s, t, 0);
    size_t at = 0;
    while (row && at < t->len) {
        struct cell c = cell_at(t, at, p.col, s->cols);
        size_t before = p.row;
        bool wraps = pass(&p, &c, s->cols);
        if (wraps && before + 1 == row) return at;
        at += c.bytes;
        if (p.row == row) return at;
    }
    return at;
}

/* ---- drawing --------------------------------------------------------------------------------- */

static stretto_status draw_prompt(const struct screen *s, const struct edit *e, bool first,
                                  struct buffer *out)
{
    const char *bold = s->colour ? "\033[1m" : "", *end = s->colour ? "\033[0m" : "";
    if (first && e->searching && s->prompt > PROMPT)
        return buffer_printf(out, "%ssearch%s [%s]: ", bold, end, e->query.len ? e->query.data : "");
    return buffer_printf(out, "%s%s%s ", bold, !first ? "." : e->searching ? "?" : ">", end);
}

/* Columns of the first prompt; a search that leaves no room for the text shows no query. */
static size_t prompt_width(const struct screen *s, const struct edit *e)
{
    size_t n = sizeof "search []: " - 1;
    int32_t cp;
    if (!e->searching) return PROMPT;
    for (size_t at = 0; at < e->query.len;) {
        at += utf8_decode(e->query.data + at, e->query.len - at, &cp);
        n += cp < 0 ? 1 : (size_t)utf8proc_charwidth(cp);
    }
    return n + 8 < s->cols ? n : PROMPT;
}

/* A cell that fits no more goes to the next row by itself. The end of a line writes nothing but there,
 * where a space does the wrapping; the space stays, because terminals take a row without a character in
 * it for a line of its own when they wrap lines anew. */
static stretto_status draw_cell(const struct screen *s, const struct cell *c, size_t col,
                                struct buffer *out)
{
    if (c->line_end) return buffer_str(out, col + c->width > s->cols ? " " : "");
    if (c->text[0]) return buffer_str(out, c->text);
    for (size_t i = 0; i < c->width; i++) TRY(buffer_str(out, " "));
    return STRETTO_OK;
}

/* Rows of the text from `from` on, at most `rows`; *p is where the terminal's cursor is then. */
static stretto_status draw_rows(const struct screen *s, const struct edit *e, size_t from, size_t rows,
                                struct place *p, struct buffer *out)
{
    const struct buffer *t = &e->text;
    *p = first_place(s, t, from);
    if (p->col) TRY(draw_prompt(s, e, !from, out));
    for (size_t at = from; at < t->len;) {
        struct cell c = cell_at(t, at, p->col, s->cols);
        struct place next = *p;
        bool wraps = pass(&next, &c, s->cols);
        if (p->row + wraps >= rows) return STRETTO_OK;
        TRY(draw_cell(s, &c, p->col, out));
        if (c.line_end && next.row >= rows) {
            *p = (struct place){ next.row - 1, wraps ? 1 : p->col };
            return STRETTO_OK;
        }
        if (c.line_end) {
            TRY(buffer_str(out, "\r\n"));
            TRY(draw_prompt(s, e, false, out));
        }
        *p = next;
        at += c.bytes;
    }
    if (p->col < s->cols || p->row + 1 >= rows) return STRETTO_OK;
    *p = (struct place){ p->row + 1, 1 };
    return buffer_str(out, " ");
}

/* Keeps the cursor among the rows that can be shown, moving them as little as it takes. */
static size_t first_row(const struct screen *s, const struct buffer *t, size_t cursor)
{
    size_t top = find_place(s, t, 0, s->from).row, last = find_place(s, t, 0, t->len).row;
    if (cursor < top) top = cursor;
    if (cursor >= top + s->rows) top = cursor + 1 - s->rows;
    if (top + s->rows > last + 1) top = last + 1 > s->rows ? last + 1 - s->rows : 0;
    return top;
}

static stretto_status draw(struct screen *s, const struct edit *e, size_t rows, size_t cursor,
                           struct buffer *out)
{
    struct place end, p;
    if (s->row) TRY(buffer_printf(out, "\033[%zuA", s->row));
    /* All rows are cleared first: those that are only written over would still count as wrapped. The
     * first one by itself, because tmux keeps a copy of a screen that is cleared from its first row on. */
    TRY(buffer_str(out, "\r\033[2K\0337\033[B\033[J\0338"));
    TRY(draw_rows(s, e, s->from, rows, &end, out));
    p = find_place(s, &e->text, s->from, cursor);
    s->row = p.row;
    s->at = cursor;
    if (end.row > p.row) TRY(buffer_printf(out, "\033[%zuA", end.row - p.row));
    TRY(buffer_str(out, "\r"));
    return p.col ? buffer_printf(out, "\033[%zuC", p.col) : STRETTO_OK;
}

stretto_status screen_draw(struct screen *s, const struct edit *e, struct buffer *out)
{
    s->prompt = prompt_width(s, e);
    size_t cursor = find_place(s, &e->text, 0, e->at).row;
    s->from = row_begin(s, &e->text, first_row(s, &e->text, cursor));
    return draw(s, e, s->rows, e->at, out);
}

stretto_status screen_finish(struct screen *s, const struct edit *e, struct buffer *out)
{
    s->prompt = PROMPT;
    s->from = 0;
    stretto_status status = draw(s, e, SIZE_MAX, e->text.len, out);
    screen_forget(s);
    return status;
}

/* ---- another size ---------------------------------------------------------------------------- */

/* The cells that are on the screen, set anew at another width. The end of a line is one of them only
 * where it was written, as the space that wraps. */
static size_t row_after_rewrapping(const struct screen *s, const struct buffer *t, size_t cols)
{
    struct place old = first_place(s, t, s->from), now = old;
    size_t at = s->from;
    while (at < s->at && at < t->len) {
        struct cell c = cell_at(t, at, old.col, s->cols);
        bool wrote = pass(&old, &c, s->cols) || !c.line_end;
        at += c.bytes;
        if (!wrote) c.width = 0;
        pass(&now, &c, cols);
    }
    struct cell c = cell_at(t, at, old.col, s->cols);
    bool there = at < t->len && !c.line_end;
    return now.row + (there && now.col + c.width > cols);
}

void screen_resize(struct screen *s, const struct edit *e, size_t cols, size_t rows)
{
    if (cols < 8) cols = 8;
    if (rows < 2) rows = 2;
    if (cols != s->cols && s->rewraps) s->row = row_after_rewrapping(s, &e->text, cols);
    if (s->row >= rows) s->row = rows - 1;
    s->cols = cols;
    s->rows = rows;
}
