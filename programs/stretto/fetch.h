/* The model that a name means, fetched first where it is not here yet. Fetching is a program of its own,
 * stretto-pull, so that this one starts without libcurl and TLS. */
#ifndef STRETTO_FETCH_H
#define STRETTO_FETCH_H
#include "base/buffer.h"
#include "stretto/command.h"

/* The path of what -m or an operand names (NULL: the default model). A model that is not here is fetched
 * when `yes` says so or a person at the terminal does; otherwise a sentence tells how to get it. Prints the
 * sentence itself; an exit code. */
int model_path(const char *command, const char *model, bool yes, struct buffer *path);

/* Whether a word is a name of the catalogue or of Hugging Face, which nobody means as a text. */
bool names_model(const char *word);

/* What to do where the program stretto-pull is missing. */
extern const char pull_missing[];

/* A question to a person at the terminal: standard input and standard error are one, and the answer is
 * yes, or a bare Enter where that means yes. */
bool can_ask(void);
bool ask_person(bool enter_is_yes);
#endif
