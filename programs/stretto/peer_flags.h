/* Options of llama.cpp and ollama that are not options here. Those that would change nothing are taken
 * with a note, the others are refused by name with what to do instead, so that a command line that worked
 * there either means the same here or says why it does not. */
#ifndef STRETTO_PEER_FLAGS_H
#define STRETTO_PEER_FLAGS_H
#include "stretto/command.h"

/* For `unknown` of a command that opens a model; see command.h. */
int peer_flag(const struct command *c, int argc, char **argv, int *used);
#endif
