/* What a model or a file says, on its way to a person or into a pipe. */
#ifndef STRETTO_OUTPUT_H
#define STRETTO_OUTPUT_H
#include <stddef.h>
#include <stdio.h>

/* To standard output. A terminal must not be commanded by it: control characters other than newline and
 * tab are left out there (those of C1 too), and malformed bytes become U+FFFD. Pipes and files get every
 * byte. */
void text_print(const char *p, size_t n);
/* The same of what a model writes, whose malformed bytes are U+FFFD for everybody: an answer may end within
 * a character, and what reads it must not stumble. */
void answer_print(const char *p, size_t n);
/* UTF-8 to a terminal, without what would command it; returns how many characters were written. */
size_t tame_print(FILE *out, const char *p, size_t n);
#endif
