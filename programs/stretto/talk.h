/* A conversation: who said what, and how it becomes the tokens of a session. */
#ifndef STRETTO_TALK_H
#define STRETTO_TALK_H
#include "base/buffer.h"
#include <jansson.h>
#include <stdbool.h>

struct talk {
    const stretto_model *model;
    size_t context;                    /* tokens of the session                        */
    char *system;                      /* NULL: none                                   */
    stretto_message *messages;         /* user and assistant in turns; contents owned  */
    size_t n, cap;
    int32_t *ids;                      /* of the last talk_ids                         */
    size_t n_ids, ids_cap;
    bool special_in_text;              /* special tokens that messages spell become ids    */
    bool told;                         /* what the library has to say was said             */
};

void talk_done(struct talk *t);
void talk_reset(struct talk *t);       /* forgets all but the system message           */
stretto_status talk_system(struct talk *t, const char *text);      /* NULL removes it   */
stretto_status talk_add(struct talk *t, const char *role, const char *text, size_t n);
void talk_drop(struct talk *t);        /* the last message                             */

/* The tokens of the conversation in t->ids, with the opening of an answer when `answer`. */
stretto_status talk_ids(struct talk *t, bool answer, struct error *err);
/* Forgets the oldest exchanges until what is left takes at most half of the context. */
stretto_status talk_compact(struct talk *t, size_t *forgotten, struct error *err);
/* Makes room before the answer to the last message, of which `more` tokens are written: the same, but
 * the last message stays. Nothing is forgotten where even that would not be enough. */
stretto_status talk_make_room(struct talk *t, size_t more, size_t *forgotten, struct error *err);

/* Writes it whole or not at all: a name that ends with .md gets Markdown, one with .json a JSON document,
 * any other JSON lines: {"stretto_chat": 1, "parameters": {...}}, then {"role", "content"} a line. An
 * existing file is replaced only when `replace`. Bytes that are no UTF-8 become U+FFFD, as the model
 * sees them. */
stretto_status talk_save(const struct talk *t, const json_t *parameters, const char *path, bool replace,
                         struct error *err);
/* Fills an empty conversation from a file: JSON lines, a document with "messages", or a list of them.
 * *parameters is NULL when there are none, else the caller's. */
stretto_status talk_load(struct talk *t, const char *path, json_t **parameters, struct error *err);
/* Takes the messages of another conversation, which is empty then. */
void talk_take(struct talk *t, struct talk *from);
/* The same of a file's bytes. */
stretto_status talk_parse(struct talk *t, const char *text, size_t n, json_t **parameters,
                          struct error *err);
#endif
