/* Commands whose work another executable does, so that this one carries none of its libraries: their
 * options are parsed and shown here, and handed on as words that say the same. */
#ifndef STRETTO_BECOME_H
#define STRETTO_BECOME_H
#include "base/buffer.h"
#include "stretto/command.h"

/* A command line: [n], NULL behind the last. */
struct words { char **v; size_t n, cap; };
stretto_status words_say(struct words *w, const char *text);
/* "--retries=5": the option whose value is `at`, by the last of its long names; `word` is for scratch. */
stretto_status words_option(struct words *w, struct buffer *word, const struct option *o, const void *at);
void words_done(struct words *w);

/* Becomes the program of that name, which stands beside this one, in libexec, or on the PATH. Returns only
 * when it cannot, after a sentence; `missing`: what to do where there is no such program. */
int program_become(const char *command, const char *program, const char *missing, char **argv);
/* The same with the options and operands that the command was given. */
int command_become(const struct command *c, const char *program, const char *missing, const void *options,
                   size_t n, char **operands);
#endif
