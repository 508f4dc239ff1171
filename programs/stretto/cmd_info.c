/* What this machine offers and which kernels were chosen. */
#include "kernels/kernels.h"
#include "stretto/commands.h"
#include "stretto/options.h"
#include <stdio.h>

struct info_options { struct model_options model; bool graph, json; };

static void print_machine(void)
{
    static struct kernels k;
    kernels_init(&k, cpu_detect());
    printf("stretto %s\nkernels: %s\n", STRETTO_VERSION, k.level);
}

static int info_run(void *options, size_t n, char **operands)
{
    (void)options; (void)n; (void)operands;
    print_machine();
    return EXIT_DONE;
}

static const struct option_use uses[] = { { &group_model, offsetof(struct info_options, model) } };
const struct command command_info = {
    .name = "info", .summary = "what a model is, what this machine offers, what was chosen",
    .operands = "", .uses = uses, .n_uses = 1, .options_size = sizeof(struct info_options),
    .run = info_run,
};
