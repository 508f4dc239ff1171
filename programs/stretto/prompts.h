/* Files of prompts: JSON lines {"prompt": "text"} or {"ids": [1, 2]}, and if wanted "id", "set",
 * "chat": true (the prompt goes through the model's chat template), "begin" (the opening of the
 * answer, part of what the model reads), "stop" (a string that ends the answer) and "group".
 * bench/make_prompts.py writes them. */
#ifndef STRETTO_PROMPTS_H
#define STRETTO_PROMPTS_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>

enum { PROMPTS_MAX = 1 << 20, PROMPT_MAX_BYTES = 1 << 22, PROMPT_MAX_NAME = 256 };

struct prompt {
    char *id, *set;               /* malloc'd, as the others                                      */
    char *text, *begin, *stop;    /* text NULL: the line gives ids; the others NULL: none         */
    char *group;                  /* or NULL: what its line says it belongs to, for who learns from it */
    bool chat;
    int32_t *ids;                 /* malloc'd; of the text once prompts_read is over              */
    size_t n;
};
struct prompts { struct prompt *v; size_t n; };

/* One line. `number` names a line without an id. Nothing is held after a failure. */
stretto_status prompt_parse(struct prompt *p, const char *line, size_t n, size_t number,
                            struct error *err);
void prompt_done(struct prompt *p);

/* The first `limit` prompts (0: all) of a file, "-" is standard input, as ids of the model. Prints
 * the sentence itself; an exit code. */
int prompts_read(const char *command, const stretto_model *m, const char *path, size_t limit,
                 struct prompts *out);
void prompts_done(struct prompts *p);

/* The conversation of one user message as the model's template writes it; malloc'd. NULL after a
 * sentence. system may be NULL. */
char *chat_text(const char *command, const stretto_model *m, const char *system, const char *user,
                size_t *length);
/* The same as token ids, malloc'd: special tokens are the template's alone, unless special_in_text. */
int32_t *chat_ids(const char *command, const stretto_model *m, const char *system, const char *user,
                  bool special_in_text, size_t *n);
/* Token ids of a text, malloc'd; NULL after a failure. Ctrl-C ends the program, for nothing is written yet. */
stretto_status encode_text(const stretto_model *m, const char *text, size_t length, unsigned flags,
                           int32_t **ids, size_t *n, struct error *err);
/* The same with a sentence. A BOS that the text spells and the tokenizer adds
 * comes once, with a warning. */
int32_t *text_ids(const char *command, const stretto_model *m, const char *text, size_t length,
                  unsigned flags, size_t *n);
#endif
