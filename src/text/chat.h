/* A conversation as the model's chat template writes it. Templates want different things: the content
 * of a message as one text or as a list of parts, a system message or none. What this one wants is
 * found out once, when the model is opened, by rendering small conversations with marked words in
 * them: a form that does not print the words is no form for it. Immutable; lifetime: model. */
#ifndef TEXT_CHAT_H
#define TEXT_CHAT_H
#include "base/buffer.h"
#include "base/status.h"
#include <stdbool.h>
#include <time.h>

struct tokenizer;
struct chat;

/* What a rendering had to do besides; each is worth a sentence to a person. */
enum chat_note {
    CHAT_SYSTEM_FOLDED = 1,      /* the template has no place for a system message: it stands in front of
                                    the next message of the user, an empty line between                  */
};

/* *out is NULL when the model has no template for conversations. A template that cannot be compiled or
 * used is no error here: chat_render says so. */
stretto_status chat_open(struct chat **out, const struct tokenizer *t, struct error *err);
/* The same of a template that stands elsewhere, or of another one of the model's. */
stretto_status chat_open_text(struct chat **out, const struct tokenizer *t, const char *p, size_t n,
                              struct error *err);
/* Why the template cannot be used for any conversation; NULL when it can. */
const char *chat_trouble(const struct chat *c);
void chat_close(struct chat *c);                                         /* NULL is fine */

/* Appends the conversation to *text, with the opening of an answer when `answer`. Malformed bytes become
 * U+FFFD. content, when not NULL, gets one byte for each of the text: 1 where it comes from a message,
 * 0 where the template wrote it. notes (may be NULL): of enum chat_note. E_UNSUP when the template
 * prints nothing of what one of the roles says, or of a message of another role; E_ARG when it refuses
 * the conversation. */
stretto_status chat_render(const struct chat *c, const stretto_message *messages, size_t n, bool answer,
                           time_t now, struct buffer *text, struct buffer *content, unsigned *notes,
                           struct error *err);
/* The same with further variables: members of a JSON object, "\"enable_thinking\":false", or NULL. */
stretto_status chat_render_more(const struct chat *c, const stretto_message *messages, size_t n, bool answer,
                                const char *more, time_t now, struct buffer *text, struct buffer *content,
                                unsigned *notes, struct error *err);
/* The words with which its answers begin and end what they think, as the template spells them; false: it knows none.
 * The strings are static. */
bool chat_thinks(const struct chat *c, const char **open, const char **close);
/* The template with whatever variables `in` has, and the model's tokens. Contents that are texts are
 * given in the form that shows them; *parts (may be NULL) says whether that was another one. */
struct template_input;
stretto_status chat_render_vars(const struct chat *c, const struct template_input *in,
                                struct buffer *text, bool *parts, struct error *err);
#endif
