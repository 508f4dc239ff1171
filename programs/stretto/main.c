/* The command: finds the row, parses its options, runs it. */
#include "stretto/commands.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int run(const struct command *c, int argc, char **argv)
{
    void *options = calloc(1, c->options_size ? c->options_size : 1);
    if (!options) return command_fail(c->name, STRETTO_E_NOMEM, NULL);
    if (c->defaults) c->defaults(options);
    size_t n = 0;
    bool help;
    int code = command_parse(c, argc, argv, options, &n, &help);
    if (code == EXIT_DONE && help) command_help(c);
    else if (code == EXIT_DONE) code = c->run(options, n, argv);
    free(options);
    return code;
}

/* As ollama spells them: "stretto rm NAME" is "stretto models rm NAME". */
static bool is_of_models(const char *word)
{
    return strcmp(word, "list") == 0 || strcmp(word, "ls") == 0 || strcmp(word, "rm") == 0;
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2) {
        command_help_all(false);
        return EXIT_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        printf("stretto %s\n", STRETTO_VERSION);
        return EXIT_DONE;
    }
    if (strcmp(word, "help") == 0 || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        if (argc > 2 && strcmp(argv[2], "--json") == 0) return command_help_all(true);
        if (argc == 2) return command_help_all(false);
        const struct command *c = is_of_models(argv[2]) ? &command_models : command_find(argv[2]);
        if (!c) return command_unknown(argv[2]);
        command_help(c);
        return EXIT_DONE;
    }
    const struct command *c = command_find(word);
    if (c) return run(c, argc - 2, argv + 2);
    return is_of_models(word) ? run(&command_models, argc - 1, argv + 1) : command_unknown(word);
}

int main(int argc, char **argv)
{
    signal(SIGXFSZ, SIG_IGN);                           /* EFBIG is an error like another */
    int code = dispatch(argc, argv);
    /* A full disk behind standard output must not look like success. */
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == EXIT_DONE) {
        perror("stretto: standard output");
        code = EXIT_FAILED;
    }
    return code;
}
