/* A conversation as tokens, and which of them the assistant says: those behind what stood there when an answer was
 * asked for, up to the token that ends it. The template is the tokenisation: nothing is put together beside it. */
#ifndef TEXT_CONVERSATION_H
#define TEXT_CONVERSATION_H
#include "base/buffer.h"
#include "text/chat.h"
#include "text/tokenizer.h"

/* Room that is used again from one conversation to the next. */
struct conversation {
    const struct tokenizer *tokenizer;
    const struct chat *chat;
    time_t now;                  /* for templates that print a date                                    */
    struct buffer text, content;
    struct tokens all;           /* the conversation                                                   */
    uint8_t *said;               /* [all.n] 1: the assistant says it                                   */
};

void conversation_init(struct conversation *c, const struct tokenizer *t, const struct chat *chat, time_t now);
void conversation_done(struct conversation *c);

/* Renders the first n messages, of which the last is an answer, into all and said. Answers where skip[i] is not 0 are
 * as anybody's words; skip NULL: none. *silent (may be NULL): the first answer of which the template prints
 * nothing, or n; *open: whether an answer is ended by no token that ends it. E_FULL beyond 64 MB of text. */
stretto_status conversation_read(struct conversation *c, const stretto_message *m, size_t n, const uint8_t *skip,
                                 size_t *silent, bool *open, struct error *err);

/* Where the model has phrases: spells with them what stands in a conversation's tokens behind the words that open an
 * answer, up to the token that ends it, as the model writes it and was taught. So a conversation that goes on begins
 * with the tokens that are known of it. Templates that open answers without a special token are left alone. chat may
 * be NULL. */
stretto_status conversation_join(const struct tokenizer *t, const struct chat *chat, struct tokens *ids,
                                 struct error *err);

/* Messages of a line of data: "messages": [{"role", "content"}, ...], at most CONVERSATION_MOST, as views into the
 * tree (of jansson's: json_t). E_FORMAT with what is missing. */
enum { CONVERSATION_MOST = 256 };
struct json_t;
stretto_status conversation_messages(const struct json_t *list, stretto_message *m, size_t *n, struct error *err);
#endif
