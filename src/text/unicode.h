/* Characters as the tokenizers see them: a decoder that survives malformed bytes, the classes that
 * BERT and the pre-tokenizers ask for, and the byte alphabet of byte-level BPE. */
#ifndef TEXT_UNICODE_H
#define TEXT_UNICODE_H
#include "base/buffer.h"
#include <stdbool.h>

enum { UTF8_BAD = -1 };

/* Decodes one character of the n >= 1 bytes at p. A byte that cannot begin or continue a well-formed
 * sequence (overlong forms and surrogates included) is one "character" UTF8_BAD of length 1. */
size_t utf8_decode(const char *p, size_t n, int32_t *cp);
size_t utf8_encode(int32_t cp, char out[4]);
/* Length of the well-formed beginning, and of the malformed beginning. */
size_t utf8_valid_run(const char *p, size_t n);
size_t utf8_bad_run(const char *p, size_t n);
/* The text appended to b with U+FFFD for what is malformed, as JSON and templates need it: as many as
 * Python's bytes.decode("utf-8", "replace") puts. */
stretto_status utf8_repair(struct buffer *b, const char *p, size_t n);
/* Where the last character before `end` starts. */
size_t utf8_before(const char *p, size_t end);

bool unicode_is_space(int32_t cp);       /* property White_Space                                     */
bool unicode_is_punct(int32_t cp);       /* category P, or any ASCII character that is a mark        */
bool unicode_is_other(int32_t cp);       /* Cc, Cf, Cs, Co except tab, line feed, carriage return    */
bool unicode_is_mark(int32_t cp);        /* category Mn                                              */
bool unicode_is_any_mark(int32_t cp);    /* category M                                               */
bool unicode_is_number(int32_t cp);      /* category N                                               */
bool unicode_is_decimal(int32_t cp);     /* category Nd                                              */
bool unicode_is_word(int32_t cp);        /* letters, marks, decimal digits, connectors: the \w of text */
bool unicode_is_cjk(int32_t cp);         /* the ranges BERT puts spaces around                       */

/* Lower case of one character appended to b; U+0130 becomes two. */
stretto_status unicode_lower(struct buffer *b, int32_t cp);

enum unicode_form { UNICODE_NFC, UNICODE_NFD, UNICODE_NFKC, UNICODE_NFKD };
/* Appends the normal form of the text; malformed bytes pass through unchanged. */
stretto_status unicode_normalize(struct buffer *b, const char *p, size_t n, enum unicode_form form);

/* GPT-2's printable alphabet for the 256 bytes: '!'..'~', U+00A1..U+00AC and U+00AE..U+00FF stand for
 * themselves, the other 68 bytes are U+0100, U+0101, ... in ascending order. */
int32_t byte_letter(unsigned char byte);
stretto_status byte_letters(struct buffer *b, const char *p, size_t n);
int byte_of_letter(int32_t cp);          /* -1 when cp is not in the alphabet */
#endif
