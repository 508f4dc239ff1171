/* Sub-commands are rows of a table. A row names its options, an option row says where its value
 * goes; parsing, help, man pages and completion all come from these rows.
 *
 * To add a command: write cmd_<name>.c with a `const struct command command_<name>`, and name it in
 * commands.h (docs/recipes/command.md). */
#ifndef STRETTO_COMMAND_H
#define STRETTO_COMMAND_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

enum option_kind {
    OPT_FLAG,          /* bool                                            */
    OPT_INT,           /* int64_t, within min..max                        */
    OPT_REAL,          /* double, within min..max                         */
    OPT_TEXT,          /* const char *                                    */
    OPT_STRATEGIES,          /* const char *: decoding strategies; "%s" in help stands for those there are */
    OPT_CHOICE,        /* const char *, one of `choices` ("a|b|c")        */
    OPT_INTS,          /* struct int_list: comma list, each within range  */
    OPT_TEXTS,         /* struct text_list: may be given several times    */
};

struct int_list { int64_t v[32]; size_t n; };
struct text_list { const char *v[17]; size_t n; };   /* NULL behind the last */

struct option {
    const char *flags; /* "-n --predict --n-predict": the last is the name in messages          */
    const char *value; /* placeholder in help ("N"); for OPT_CHOICE the choices "a|b"; NULL: flag */
    enum option_kind kind;
    size_t at;        /* offset in the command's struct of options                              */
    double min, max;  /* OPT_INT, OPT_REAL, OPT_INTS; both 0 = any                               */
    const char *help; /* one sentence; the default value in brackets                             */
};

/* A group shared by several commands; `at` of its options is relative to the group's member. */
struct option_group { const char *title; const struct option *options; size_t n; };
struct option_use { const struct option_group *group; size_t at; };

struct command {
    const char *name, *summary;      /* one line                                              */
    const char *operands;            /* "" or "IN OUT"                                        */
    const char *description;         /* paragraphs of the man page                            */
    const struct option_use *uses;   /* groups, n_uses                                        */
    size_t n_uses;
    size_t options_size;             /* bytes of the struct the options fill                  */
    size_t min_operands, max_operands;
    void (*defaults)(void *options); /* may be NULL: zeros                                    */
    int (*run)(void *options, size_t n_operands, char **operands);   /* returns an exit code  */
    bool hidden;
    /* What to do about an option that is in no row: NULL, or a function that takes argv[0..*used) and
     * returns EXIT_DONE, EXIT_USAGE after a sentence, or -1 when it does not know it either. */
    int (*unknown)(const struct command *c, int argc, char **argv, int *used);
};

extern const struct command *const command_table[];      /* NULL-terminated */
const struct command *command_find(const char *name);

/* Parses argv[0..argc) into `options`; operands are moved to the front of argv and counted. Returns
 * EXIT_DONE, or EXIT_USAGE after printing a sentence. *help is set when -h or --help is there. */
int command_parse(const struct command *c, int argc, char **argv, void *options, size_t *n_operands,
                  bool *help);
/* Whether the row's option was there when command_parse was last called. */
bool option_given(const struct option *o);
/* A number as an OPT_INT or OPT_REAL may have it, into *target; false: it is none, or out of range. */
bool option_number(const struct option *o, const char *text, void *target);
/* Whether a word is in a list such as "a|b|c", whose members the character separates. */
bool list_has(const char *list, char separator, const char *word, size_t n);
void command_help(const struct command *c);
/* A paragraph on standard output, as wide as the terminal. */
void command_say(const char *text);
int command_help_all(bool json);
/* Says that there is no such command, and which one may be meant. */
int command_unknown(const char *word);

/* "stretto run: words" on standard error; returns the exit code of the status: E_ARG is usage (2),
 * everything else 1. */
int command_fail(const char *command, stretto_status s, const char *words);
/* "there is no WHAT 'WORD': take one of a|b|c; did you mean 'b'?" */
int command_odd(const char *command, const char *what, const char *word, const char *words);
__attribute__((format(printf, 2, 3)))
int command_usage(const char *command, const char *fmt, ...);

#endif
