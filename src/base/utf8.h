/* UTF-8 that may be malformed: the one decoder there is. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H
#include "base/buffer.h"
#include <stddef.h>
#include <stdint.h>

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
#endif
