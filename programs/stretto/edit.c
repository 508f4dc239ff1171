#include "stretto/edit.h"
#include "text/unicode.h"
#include <string.h>
#include <utf8proc.h>

void edit_init(struct edit *e, struct history *h)
{
    *e = (struct edit){ .text = buffer_make(EDIT_MAX_TEXT), .killed = buffer_make(EDIT_MAX_TEXT),
                        .typed = buffer_make(EDIT_MAX_TEXT), .query = buffer_make(1024),
                        .history = h, .entry = h->n };
}

void edit_done(struct edit *e)
{
    buffer_done(&e->text);
    buffer_done(&e->killed);
    buffer_done(&e->typed);
    buffer_done(&e->query);
}

void edit_reset(struct edit *e)
{
    buffer_clear(&e->text);
    buffer_clear(&e->typed);
    e->at = 0;
    e->entry = e->history->n;
    e->searching = false;
}

/* ---- where characters and words begin -------------------------------------------------------- */

size_t edit_after(const struct buffer *t, size_t at)
{
    int32_t cp, next, state = 0;
    if (at >= t->len) return t->len;
    at += utf8_decode(t->data + at, t->len - at, &cp);
    while (at < t->len && cp >= 0) {
        size_t k = utf8_decode(t->data + at, t->len - at, &next);
        if (next < 0 || utf8proc_grapheme_break_stateful(cp, next, &state)) break;
        at += k;
        cp = next;
    }
    return at;
}

static size_t line_begin(const struct buffer *t, size_t at)
{
    while (at && t->data[at - 1] != '\n') at--;
    return at;
}

static size_t line_end(const struct buffer *t, size_t at)
{
    while (at < t->len && t->data[at] != '\n') at++;
    return at;
}

/* Clusters are only known from the left: from some characters back, where one surely begins. */
size_t edit_before(const struct buffer *t, size_t at)
{
    if (!at) return 0;
    size_t from = at - 1;
    for (int i = 0; i < 64 && from && t->data[from] != '\n' && t->data[from] != ' '; i++) from--;
    while (from && (t->data[from] & 0xc0) == 0x80) from--;
    size_t next;
    while ((next = edit_after(t, from)) < at) from = next;
    return from;
}

static bool is_word(const struct buffer *t, size_t at)
{
    int32_t cp;
    utf8_decode(t->data + at, t->len - at, &cp);
    return cp >= 0 && (unicode_is_word(cp) || unicode_is_any_mark(cp));
}

static size_t word_before(const struct buffer *t, size_t at)
{
    while (at && !is_word(t, edit_before(t, at))) at = edit_before(t, at);
    while (at && is_word(t, edit_before(t, at))) at = edit_before(t, at);
    return at;
}

static size_t word_after(const struct buffer *t, size_t at)
{
    while (at < t->len && !is_word(t, at)) at = edit_after(t, at);
    while (at < t->len && is_word(t, at)) at = edit_after(t, at);
    return at;
}

/* Ctrl-W takes what stands between spaces, as in a shell. */
static size_t blank_before(const struct buffer *t, size_t at)
{
    while (at && strchr(" \t\n", t->data[at - 1])) at--;
    while (at && !strchr(" \t\n", t->data[at - 1])) at--;
    return at;
}

/* ---- changes --------------------------------------------------------------------------------- */

static enum edit_result insert(struct edit *e, const char *p, size_t n)
{
    struct buffer *t = &e->text;
    if (!p || buffer_reserve(t, n) != STRETTO_OK) return EDIT_BELL;
    memmove(t->data + e->at + n, t->data + e->at, t->len - e->at);
    memcpy(t->data + e->at, p, n);
    t->len += n;
    t->data[t->len] = '\0';
    e->at += n;
    return EDIT_GOES_ON;
}

static enum edit_result remove_between(struct edit *e, size_t from, size_t to)
{
    struct buffer *t = &e->text;
    if (from >= to) return EDIT_BELL;
    memmove(t->data + from, t->data + to, t->len - to);
    t->len -= to - from;
    t->data[t->len] = '\0';
    e->at = from;
    return EDIT_GOES_ON;
}

static enum edit_result kill_between(struct edit *e, size_t from, size_t to)
{
    if (from >= to) return EDIT_BELL;
    buffer_clear(&e->killed);
    buffer_append(&e->killed, e->text.data + from, to - from);   /* without memory: only removed */
    return remove_between(e, from, to);
}

static bool replace(struct edit *e, const char *p, size_t n)
{
    buffer_clear(&e->text);
    e->at = 0;
    return insert(e, n ? p : "", n) == EDIT_GOES_ON;
}

static enum edit_result swap(struct edit *e)
{
    struct buffer *t = &e->text;
    size_t end = e->at < line_end(t, e->at) ? edit_after(t, e->at) : e->at;
    size_t middle = edit_before(t, end), begin = edit_before(t, middle);
    if (begin == middle || begin < line_begin(t, end)) return EDIT_BELL;
    char moved[256];
    size_t n = middle - begin;
    if (n > sizeof moved) return EDIT_BELL;
    memcpy(moved, t->data + begin, n);
    memmove(t->data + begin, t->data + middle, end - middle);
    memcpy(t->data + end - n, moved, n);
    e->at = end;
    return EDIT_GOES_ON;
}

/* ---- history and lines ----------------------------------------------------------------------- */

static enum edit_result show_entry(struct edit *e, size_t i)
{
    const struct history *h = e->history;
    if (i > h->n) return EDIT_BELL;
    if (e->entry == h->n) {
        buffer_clear(&e->typed);
        if (buffer_append(&e->typed, e->text.data, e->text.len) != STRETTO_OK) return EDIT_BELL;
    }
    const char *text = i < h->n ? h->entries[i] : e->typed.data;
    if (!replace(e, text, i < h->n ? strlen(text) : e->typed.len)) return EDIT_BELL;
    e->entry = i;
    return EDIT_GOES_ON;
}

static enum edit_result older(struct edit *e)
{
    return e->entry ? show_entry(e, e->entry - 1) : EDIT_BELL;
}

static enum edit_result newer(struct edit *e) { return show_entry(e, e->entry + 1); }

/* The line above or below at the same number of characters; beyond the first and last, history. */
static enum edit_result line_up(struct edit *e)
{
    const struct buffer *t = &e->text;
    size_t begin = line_begin(t, e->at), n = 0;
    if (!begin) return older(e);
    for (size_t p = begin; p < e->at; p = edit_after(t, p)) n++;
    e->at = line_begin(t, begin - 1);
    while (n-- && e->at < begin - 1) e->at = edit_after(t, e->at);
    return EDIT_GOES_ON;
}

static enum edit_result line_down(struct edit *e)
{
    const struct buffer *t = &e->text;
    size_t end = line_end(t, e->at), n = 0;
    if (end == t->len) return newer(e);
    for (size_t p = line_begin(t, e->at); p < e->at; p = edit_after(t, p)) n++;
    e->at = end + 1;
    while (n-- && e->at < line_end(t, e->at)) e->at = edit_after(t, e->at);
    return EDIT_GOES_ON;
}

/* ---- looking for an entry -------------------------------------------------------------------- */

/* The newest entry before `from` that holds the query; shown with the cursor on it. */
static enum edit_result find(struct edit *e, size_t from)
{
    const char *query = e->query.len ? e->query.data : "";
    for (size_t i = from; i-- > 0;) {
        const char *found = strstr(e->history->entries[i], query);
        if (!found) continue;
        enum edit_result r = show_entry(e, i);
        if (r == EDIT_GOES_ON) e->at = (size_t)(found - e->history->entries[i]);
        return r;
    }
    return EDIT_BELL;
}

static enum edit_result search_begin(struct edit *e)
{
    if (!e->history->n) return EDIT_BELL;
    e->searching = true;
    buffer_clear(&e->query);
    return EDIT_GOES_ON;
}

static enum edit_result search_key(struct edit *e, enum key key, const char *text, size_t n)
{
    switch (key) {
    case KEY_SEARCH:
    case KEY_OLDER:
        return find(e, e->entry);
    case KEY_TEXT:
        if (buffer_append(&e->query, text, n) != STRETTO_OK) return EDIT_BELL;
        return find(e, e->entry < e->history->n ? e->entry + 1 : e->entry);
    case KEY_BACKSPACE:
        if (!e->query.len) return EDIT_BELL;
        e->query.len = edit_before(&e->query, e->query.len);
        e->query.data[e->query.len] = '\0';
        return find(e, e->history->n);
    case KEY_CANCEL:
    case KEY_INTERRUPT:
        e->searching = false;
        return e->entry == e->history->n ? EDIT_GOES_ON : show_entry(e, e->history->n);
    default:
        e->searching = false;                    /* takes what is found, and does what the key does */
        return edit_key(e, key, text, n);
    }
}

/* ---- sending --------------------------------------------------------------------------------- */

static bool quoted(const char *text, size_t n) { return n >= 3 && memcmp(text, "\"\"\"", 3) == 0; }

bool message_goes_on(const char *text, size_t n)
{
    if (quoted(text, n)) return n < 6 || memcmp(text + n - 3, "\"\"\"", 3) != 0;
    return n && text[n - 1] == '\\';
}

stretto_status message_continue(struct buffer *t)
{
    if (!quoted(t->data, t->len)) t->len--;                        /* the backslash */
    return buffer_str(t, "\n");
}

void message_finish(struct buffer *t)
{
    if (!quoted(t->data, t->len)) return;
    bool closed = !message_goes_on(t->data, t->len);
    t->len -= closed ? 6 : 3;
    memmove(t->data, t->data + 3, t->len);
    t->data[t->len] = '\0';
}

/* Enter sends, unless the message says that it goes on. */
static enum edit_result enter(struct edit *e)
{
    struct buffer *t = &e->text;
    if (!t->len || !message_goes_on(t->data, t->len)) return EDIT_SEND;
    bool good = message_continue(t) == STRETTO_OK;
    e->at = t->len;
    return good ? EDIT_GOES_ON : EDIT_BELL;
}

/* ---- words that Tab completes ---------------------------------------------------------------- */

static size_t common(const char *a, const char *b)
{
    size_t n = 0;
    while (a[n] && a[n] == b[n]) n++;
    return n;
}

/* A word at the beginning of the message grows as far as all words that begin so agree; anywhere else
 * a tab is a tab. */
static enum edit_result tab(struct edit *e)
{
    const char *first = NULL, *w;
    const char *text = e->text.len ? e->text.data : "";
    size_t same = 0, found = 0;
    if (!e->word || text[0] != '/' || strcspn(text, " \t\n") < e->at) return insert(e, "\t", 1);
    for (size_t i = 0; (w = e->word(i)); i++) {
        if (strncmp(w, text, e->at) != 0) continue;
        same = found++ ? (common(first, w) < same ? common(first, w) : same) : strlen(w);
        if (!first) first = w;
    }
    if (!found || (found > 1 && same == e->at)) return EDIT_BELL;
    enum edit_result r = insert(e, first + e->at, same - e->at);
    return r == EDIT_GOES_ON && found == 1 && e->at == e->text.len ? insert(e, " ", 1) : r;
}

/* ---- keys ------------------------------------------------------------------------------------ */

static enum edit_result go(struct edit *e, size_t to)
{
    if (e->at == to) return EDIT_BELL;
    e->at = to;
    return EDIT_GOES_ON;
}

static enum edit_result move_or_delete(struct edit *e, enum key key)
{
    struct buffer *t = &e->text;
    size_t at = e->at;
    switch (key) {
    case KEY_LEFT: return go(e, edit_before(t, at));
    case KEY_RIGHT: return go(e, edit_after(t, at));
    case KEY_WORD_LEFT: return go(e, word_before(t, at));
    case KEY_WORD_RIGHT: return go(e, word_after(t, at));
    case KEY_LINE_BEGIN: return go(e, line_begin(t, at));
    case KEY_LINE_END: return go(e, line_end(t, at));
    case KEY_TEXT_BEGIN: return go(e, 0);
    case KEY_TEXT_END: return go(e, t->len);
    case KEY_BACKSPACE: return remove_between(e, edit_before(t, at), at);
    case KEY_DELETE: return remove_between(e, at, edit_after(t, at));
    case KEY_KILL_BEFORE: return kill_between(e, line_begin(t, at), at);
    case KEY_KILL_WORD_BEFORE: return kill_between(e, blank_before(t, at), at);
    case KEY_KILL_WORD_AFTER: return kill_between(e, at, word_after(t, at));
    case KEY_KILL_AFTER:
        /* At the end of a line its end goes, so that lines can be joined. */
        return kill_between(e, at, line_end(t, at) > at ? line_end(t, at) : edit_after(t, at));
    default: return EDIT_BELL;
    }
}

enum edit_result edit_key(struct edit *e, enum key key, const char *text, size_t n)
{
    if (e->searching) return search_key(e, key, text, n);
    switch (key) {
    case KEY_NONE: return EDIT_GOES_ON;
    case KEY_TEXT:
    case KEY_PASTE: return insert(e, text, n);
    case KEY_NEWLINE: return insert(e, "\n", 1);
    case KEY_ENTER: return enter(e);
    case KEY_TAB: return tab(e);
    case KEY_YANK: return e->killed.len ? insert(e, e->killed.data, e->killed.len) : EDIT_BELL;
    case KEY_UP: return line_up(e);
    case KEY_DOWN: return line_down(e);
    case KEY_OLDER: return older(e);
    case KEY_NEWER: return newer(e);
    case KEY_SEARCH: return search_begin(e);
    case KEY_SWAP: return swap(e);
    case KEY_INTERRUPT: return EDIT_INTERRUPTED;
    case KEY_SUSPEND: return EDIT_SUSPEND;
    case KEY_QUIT: return EDIT_QUIT;
    case KEY_CLEAR: return EDIT_CLEAR;
    case KEY_DELETE_OR_END:
        return e->text.len ? move_or_delete(e, KEY_DELETE) : EDIT_END;
    default: return move_or_delete(e, key);
    }
}
