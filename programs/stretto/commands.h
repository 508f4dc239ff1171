/* The sub-commands, in the order people meet them: each is a row `command_<name>` in cmd_<name>.c. */
#ifndef STRETTO_COMMANDS_H
#define STRETTO_COMMANDS_H
#include "stretto/command.h"
#define COMMANDS(X)                                                                                \
    X(run) X(chat) X(serve) X(bench) X(eval) X(embed) X(trace) X(teach)                                     \
    X(info) X(tokenize) X(template) X(convert) X(squeeze) X(merge) X(pack) X(unpack) X(calibrate) X(pull) X(models)
#define X(name) extern const struct command command_##name;
COMMANDS(X)
#undef X
#endif
