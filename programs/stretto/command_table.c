#include "stretto/command.h"
#include "stretto/commands.h"

const struct command *const command_table[] = {
#define X(name) &command_##name,
    COMMANDS(X)
#undef X
    NULL,
};
