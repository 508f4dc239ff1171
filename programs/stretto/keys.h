/* Bytes of a terminal become keys: characters, control keys, escape sequences, pasted text. */
#ifndef STRETTO_KEYS_H
#define STRETTO_KEYS_H
#include "base/buffer.h"
#include <stdbool.h>

enum key {
    KEY_NONE,                          /* the bytes so far are no whole key                     */
    KEY_TEXT,                          /* one character: `text`                                 */
    KEY_PASTE,                         /* what was pasted: `text`, with \n line ends and tabs   */
    KEY_ENTER, KEY_NEWLINE, KEY_TAB, KEY_BACKSPACE, KEY_DELETE,
    KEY_LEFT, KEY_RIGHT, KEY_UP, KEY_DOWN, KEY_WORD_LEFT, KEY_WORD_RIGHT,
    KEY_LINE_BEGIN, KEY_LINE_END, KEY_TEXT_BEGIN, KEY_TEXT_END,
    KEY_OLDER, KEY_NEWER, KEY_SEARCH, KEY_CANCEL,
    KEY_KILL_BEFORE, KEY_KILL_AFTER, KEY_KILL_WORD_BEFORE, KEY_KILL_WORD_AFTER, KEY_YANK,
    KEY_SWAP, KEY_DELETE_OR_END,       /* Ctrl-D                                                */
    KEY_INTERRUPT, KEY_SUSPEND, KEY_QUIT, KEY_CLEAR, KEY_UNKNOWN
};

enum { KEYS_MAX_SEQUENCE = 64, KEYS_MAX_PASTE = 1 << 20 };

struct keys {
    char held[KEYS_MAX_SEQUENCE];      /* a sequence or a character that is not whole yet       */
    size_t n;
    bool pasting, too_long;            /* too_long: the paste has more than fits                */
    struct buffer pasted;
    char text[8];                      /* of KEY_TEXT                                           */
};

void keys_init(struct keys *k);
void keys_done(struct keys *k);
/* Takes one byte. *text and *n are set for KEY_TEXT and KEY_PASTE and live until the next call; of a
 * paste that is too long *text is NULL. */
enum key keys_feed(struct keys *k, unsigned char byte, const char **text, size_t *n);
/* Whether Esc came and nothing behind it: a person who pressed that key ends it by waiting. */
bool keys_waiting(const struct keys *k);
void keys_give_up(struct keys *k);
#endif
