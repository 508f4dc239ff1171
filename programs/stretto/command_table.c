/* One row per sub-command, in the order people meet them. */
#include "stretto/command.h"
#include "stretto/commands.h"

const struct command *const command_table[] = {
    &command_run,
    &command_chat,
    &command_bench,
    &command_eval,
    &command_embed,
    &command_trace,
    &command_info,
    &command_tokenize,
    &command_template,
    &command_convert,
    &command_pull,
    &command_models,
    NULL,
};
