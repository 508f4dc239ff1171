/* Serving is a program of its own, so that this one starts without an HTTP library and TLS. The rows of its
 * options are shared; here they are parsed, shown in the help, and handed on. */
#include "stretto/become.h"
#include "stretto/commands.h"
#include "stretto/peer_flags.h"
#include "stretto/serve_options.h"

static int serve_run(void *options, size_t n, char **operands)
{
    return command_become(&command_serve, "stretto-serve", serve_missing, options, n, operands);
}

const struct command command_serve = {
    .name = "serve", .summary = "answer clients of the OpenAI, Anthropic and ollama APIs over HTTP",
    .operands = "[MODEL]", .max_operands = 1,
    .description = serve_description, .uses = serve_uses, .n_uses = SERVE_USES,
    .options_size = sizeof(struct serve_options), .defaults = serve_options_defaults, .run = serve_run,
    .unknown = peer_flag,
};
