/* Fetching models is a program of its own, so that this one starts without libcurl and TLS. The
 * rows of its options are shared; here they are parsed, shown in the help, and handed on. */
#include "stretto/become.h"
#include "stretto/commands.h"
#include "stretto/fetch.h"
#include "stretto/pull_options.h"

enum { MAX_OPERANDS = 1000 };

static int pull_run(void *options, size_t n, char **operands)
{
    return command_become(&command_pull, "stretto-pull", pull_missing, options, n, operands);
}

static const struct option_use uses[] = { { &group_pull, 0 } };
const struct command command_pull = {
    .name = "pull", .summary = "fetch models, resuming and checking what arrives",
    .operands = "[MODEL...]", .description = pull_description, .uses = uses, .n_uses = 1,
    .options_size = sizeof(struct pull_options), .max_operands = MAX_OPERANDS,
    .defaults = pull_options_defaults, .run = pull_run,
};
