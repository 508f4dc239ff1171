/* Characters as the tokenizers see them: the classes that BERT and the pre-tokenizers ask for, normal forms,
 * and the byte alphabet of byte-level BPE. */
#ifndef TEXT_UNICODE_H
#define TEXT_UNICODE_H
#include "base/buffer.h"
#include "base/utf8.h"
#include <stdbool.h>

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
