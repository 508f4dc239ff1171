/* Text that a person gives: in words of the command line, in files, through a pipe. All of these
 * print the sentence themselves. */
#ifndef STRETTO_GIVEN_H
#define STRETTO_GIVEN_H
#include "stretto/command.h"

/* Replaces \n \r \t \' \" \\ and \xHH in place, as llama-cli does: what is no escape stays as it
 * stands. Returns the new length; the text is NUL-terminated again. */
size_t unescape(char *text, size_t n);
/* The same for words that end at a NUL, which must then not hold one. An exit code. */
int unescape_words(const char *command, const char *flag, const char *words);

/* A prompt as `run` takes it. Words come from an operand or -p; `file` is "-" for standard input. */
struct given_prompt { const char *words, *file; bool escape; };
/* The text, malloc'd: the words, and behind them, after an empty line, what a pipe brings; or the
 * file alone, as it stands. */
int prompt_given(const char *command, const struct given_prompt *g, char **text, size_t *length);

/* A system message from words or a file, malloc'd; *text NULL: none is given. */
int system_given(const char *command, const char *words, const char *file, bool escape, char **text);
#endif
