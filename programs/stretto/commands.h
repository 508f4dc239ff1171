/* The rows that command_table.c lists; each lives in cmd_<name>.c. */
#ifndef STRETTO_COMMANDS_H
#define STRETTO_COMMANDS_H
#include "stretto/command.h"
extern const struct command command_run, command_chat, command_info, command_tokenize,
    command_template, command_convert, command_bench, command_eval, command_embed, command_pull,
    command_models, command_trace;
#endif
