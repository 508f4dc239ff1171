/* Escape sequences as xterm sends them, and those of its followers for Enter with a modifier. Bracketed
 * paste is what tells a pasted line end from the Enter key: between ESC [200~ and ESC [201~ everything
 * is text. */
#include "stretto/keys.h"
#include "base/utf8.h"
#include <stdlib.h>
#include <string.h>

static const char paste_end[] = "\033[201~";

void keys_init(struct keys *k) { *k = (struct keys){ .pasted = buffer_make(KEYS_MAX_PASTE) }; }
void keys_done(struct keys *k) { buffer_done(&k->pasted); }
bool keys_waiting(const struct keys *k) { return k->n == 1 && k->held[0] == 0x1b && !k->pasting; }
void keys_give_up(struct keys *k) { k->n = 0; }

static const enum key controls[32] = {
    [0x01] = KEY_LINE_BEGIN, [0x02] = KEY_LEFT, [0x03] = KEY_INTERRUPT, [0x04] = KEY_DELETE_OR_END,
    [0x05] = KEY_LINE_END, [0x06] = KEY_RIGHT, [0x07] = KEY_CANCEL, [0x08] = KEY_BACKSPACE,
    [0x09] = KEY_TAB, [0x0a] = KEY_ENTER, [0x0b] = KEY_KILL_AFTER, [0x0c] = KEY_CLEAR,
    [0x0d] = KEY_ENTER, [0x0e] = KEY_NEWER, [0x10] = KEY_OLDER, [0x12] = KEY_SEARCH,
    [0x14] = KEY_SWAP, [0x15] = KEY_KILL_BEFORE, [0x17] = KEY_KILL_WORD_BEFORE, [0x19] = KEY_YANK,
    [0x1a] = KEY_SUSPEND, [0x1c] = KEY_QUIT,
};

static enum key with_alt(char c)
{
    switch (c) {
    case '\r': case '\n': return KEY_NEWLINE;
    case 'b': case 'B': return KEY_WORD_LEFT;
    case 'f': case 'F': return KEY_WORD_RIGHT;
    case 'd': case 'D': return KEY_KILL_WORD_AFTER;
    case '<': return KEY_TEXT_BEGIN;
    case '>': return KEY_TEXT_END;
    case 0x7f: case 0x08: return KEY_KILL_WORD_BEFORE;
    default: return KEY_UNKNOWN;
    }
}

/* The arrows and their neighbours; `modified`: Ctrl or Alt is held. */
static enum key cursor_key(char final, bool modified)
{
    switch (final) {
    case 'A': return KEY_UP;
    case 'B': return KEY_DOWN;
    case 'C': return modified ? KEY_WORD_RIGHT : KEY_RIGHT;
    case 'D': return modified ? KEY_WORD_LEFT : KEY_LEFT;
    case 'H': return modified ? KEY_TEXT_BEGIN : KEY_LINE_BEGIN;
    case 'F': return modified ? KEY_TEXT_END : KEY_LINE_END;
    default: return KEY_UNKNOWN;
    }
}

/* Behind ESC O. */
static enum key keypad_key(char final) { return final == 'M' ? KEY_ENTER : cursor_key(final, false); }

/* ESC [ numbers separated by ; and a final character. Modifiers are sent plus one. */
static enum key sequence(struct keys *k)
{
    unsigned long v[3] = { 0 };
    const char *p = k->held + 2;
    for (int i = 0; i < 3; i++) {
        char *end;
        v[i] = *p >= '0' && *p <= '9' ? strtoul(p, &end, 10) : 0;
        p += strspn(p, "0123456789:");
        if (*p == ';') p++;
    }
    char final = k->held[k->n - 1];
    bool modified = v[1] > 1;
    if (final == 'u') return v[0] == 13 ? (modified ? KEY_NEWLINE : KEY_ENTER) : KEY_UNKNOWN;
    if (final != '~') return cursor_key(final, modified);
    switch (v[0]) {
    case 1: case 7: return cursor_key('H', modified);
    case 3: return modified ? KEY_KILL_WORD_AFTER : KEY_DELETE;
    case 4: case 8: return cursor_key('F', modified);
    case 27: return v[2] == 13 ? KEY_NEWLINE : KEY_UNKNOWN;       /* xterm's modifyOtherKeys    */
    case 200:
        k->pasting = true;
        k->too_long = false;
        buffer_clear(&k->pasted);
        return KEY_NONE;
    default: return KEY_UNKNOWN;
    }
}

/* ---- pasted text ----------------------------------------------------------------------------- */

/* Line ends become \n; control characters other than tab and \n are left out, since what is pasted is
 * shown; bytes that are no text become U+FFFD. In place but for the last. */
static stretto_status clean(struct buffer *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->len; i++) {
        unsigned char c = (unsigned char)b->data[i];
        bool c1 = c == 0xc2 && i + 1 < b->len && (b->data[i + 1] & 0xe0) == 0x80;
        if (c == '\r' && i + 1 < b->len && b->data[i + 1] == '\n') continue;
        if (c == '\r') c = '\n';
        if (c1) i++;
        else if ((c >= 0x20 && c != 0x7f) || c == '\t' || c == '\n') b->data[n++] = (char)c;
    }
    b->len = n;
    if (utf8_valid_run(b->data, n) == n) return STRETTO_OK;
    struct buffer whole = buffer_make(b->max);
    stretto_status s = utf8_repair(&whole, b->data, n);
    buffer_done(b);
    *b = whole;
    return s;
}

static enum key paste(struct keys *k, unsigned char byte, const char **text, size_t *n)
{
    /* The end is looked for in `held`, so that it is found even behind what did not fit. */
    if (byte == (unsigned char)paste_end[k->n]) {
        k->held[k->n++] = (char)byte;
        if (k->n < sizeof paste_end - 1) return KEY_NONE;
        k->n = 0;
        k->pasting = false;
        if (!k->pasted.len && !k->too_long) return KEY_UNKNOWN;
        if (!k->too_long && clean(&k->pasted) != STRETTO_OK) k->too_long = true;
        *text = k->too_long ? NULL : k->pasted.data;
        *n = k->too_long ? 0 : k->pasted.len;
        return KEY_PASTE;
    }
    if (buffer_append(&k->pasted, k->held, k->n) != STRETTO_OK) k->too_long = true;
    k->n = 0;
    if (byte == 0x1b) k->held[k->n++] = (char)byte;
    else if (buffer_append(&k->pasted, &byte, 1) != STRETTO_OK) k->too_long = true;
    return KEY_NONE;
}

/* ---- characters ------------------------------------------------------------------------------ */

/* Bytes a character of this first byte has; 0: none begins so. */
static size_t char_length(unsigned char first)
{
    return first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
}

static enum key character(struct keys *k, unsigned char byte, const char **text, size_t *n)
{
    int32_t cp;
    if (k->n && (byte & 0xc0) != 0x80) k->n = 0;      /* a cut character is left out */
    k->held[k->n++] = (char)byte;
    size_t length = char_length((unsigned char)k->held[0]);
    if (length > k->n) return KEY_NONE;
    size_t got = k->n;
    k->n = 0;
    if (!length || utf8_decode(k->held, got, &cp) != got || cp < 0xa0) return KEY_UNKNOWN;
    memcpy(k->text, k->held, got);
    *text = k->text;
    *n = got;
    return KEY_TEXT;
}

enum key keys_feed(struct keys *k, unsigned char byte, const char **text, size_t *n)
{
    if (k->pasting) return paste(k, byte, text, n);
    bool escaped = k->n && k->held[0] == 0x1b;
    if (byte == 0x1b) {
        k->held[0] = 0x1b;
        k->n = 1;
        return KEY_NONE;
    }
    if (!escaped && byte >= 0x80) return character(k, byte, text, n);
    if (!escaped) {
        k->n = 0;
        if (byte == 0x7f) return KEY_BACKSPACE;
        if (byte < 0x20) return controls[byte] ? controls[byte] : KEY_UNKNOWN;
        k->text[0] = (char)byte;
        *text = k->text;
        *n = 1;
        return KEY_TEXT;
    }
    k->held[k->n++] = (char)byte;
    if (k->n == 2 && (byte == '[' || byte == 'O')) return KEY_NONE;
    bool final = k->n == 2 || k->held[1] == 'O' || (byte >= 0x40 && byte <= 0x7e);
    if (!final && k->n < KEYS_MAX_SEQUENCE - 1) return KEY_NONE;
    k->held[k->n] = '\0';
    enum key key = k->n == 2 ? with_alt((char)byte)
                   : !final ? KEY_UNKNOWN
                   : k->held[1] == 'O' ? keypad_key((char)byte) : sequence(k);
    k->n = 0;
    return key;
}
