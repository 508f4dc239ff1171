#include "text/conversation.h"
#include "base/json_tree.h"
#include "base/memory.h"
#include "text/phrases.h"
#include <string.h>

enum { TEXT_MOST = 1 << 26 };

void conversation_init(struct conversation *c, const struct tokenizer *t, const struct chat *chat, time_t now)
{
    *c = (struct conversation){ .tokenizer = t, .chat = chat, .now = now, .text = buffer_make(TEXT_MOST),
                                .content = buffer_make(TEXT_MOST) };
}

void conversation_done(struct conversation *c)
{
    buffer_done(&c->text);
    buffer_done(&c->content);
    tokens_done(&c->all);
    mem_free(c->said);
    *c = (struct conversation){ 0 };
}

/* The first n messages as tokens; `answer`: with the opening of the next answer. */
static stretto_status render(struct conversation *c, const stretto_message *m, size_t n, bool answer,
                             struct tokens *out, struct error *err)
{
    buffer_clear(&c->text);
    buffer_clear(&c->content);
    out->n = 0;
    TRY(chat_render(c->chat, m, n, answer, c->now, &c->text, &c->content, NULL, err));
    return tokenizer_encode_chat(c->tokenizer, c->text.data, (const unsigned char *)c->content.data, c->text.len,
                                 TOKENIZE_SPECIAL, out, err);
}

struct answer_mark { size_t tokens; bool ended; };

static stretto_status mark(struct conversation *c, const stretto_message *m, size_t i, struct answer_mark *out,
                           struct error *err)
{
    struct tokens before = { 0 }, with = { 0 };
    const struct tokens *all = &c->all;
    *out = (struct answer_mark){ 0 };
    stretto_status s = render(c, m, i, true, &before, err);
    if (s == STRETTO_OK) s = render(c, m, i + 1, false, &with, err);
    size_t from = 0;
    while (from < before.n && from < with.n && before.id[from] == with.id[from]) from++;
    for (size_t k = from; s == STRETTO_OK && k < with.n && k < all->n && with.id[k] == all->id[k]; k++) {
        c->said[k] = 1;
        out->tokens++;
        out->ended = tokenizer_is_eog(c->tokenizer, with.id[k]);
        if (out->ended) break;
    }
    tokens_done(&before);
    tokens_done(&with);
    return s;
}

stretto_status conversation_read(struct conversation *c, const stretto_message *m, size_t n, const uint8_t *skip,
                                 size_t *silent, bool *open, struct error *err)
{
    if (silent) *silent = n;
    if (open) *open = false;
    TRY(render(c, m, n, false, &c->all, err));
    uint8_t *said = mem_resize(c->said, c->all.n + 1);
    if (!said) return fail(err, STRETTO_E_NOMEM, "out of memory");
    c->said = said;
    memset(said, 0, c->all.n + 1);
    for (size_t i = 0; i < n; i++) {
        struct answer_mark a;
        if (strcmp(m[i].role, "assistant") != 0 || (skip && skip[i])) continue;
        TRY(mark(c, m, i, &a, err));
        if (silent && !a.tokens && *silent == n) *silent = i;
        if (open && !a.ended) *open = true;
    }
    return STRETTO_OK;
}

/* ---- phrases --------------------------------------------------------------------------------- */

/* What the template puts before an answer. */
static stretto_status find_opening(struct conversation *c, struct tokens *out, struct error *err)
{
    const stretto_message asked = { "user", "x" };
    struct tokens plain = { 0 };
    stretto_status s = render(c, &asked, 1, false, &plain, err);
    if (s == STRETTO_OK) s = render(c, &asked, 1, true, out, err);
    bool follows = s == STRETTO_OK && out->n > plain.n && memcmp(out->id, plain.id, plain.n * sizeof *out->id) == 0;
    bool special = false;
    for (size_t i = plain.n; follows && i < out->n; i++) special |= tokenizer_is_special(c->tokenizer, out->id[i]);
    if (follows) memmove(out->id, out->id + plain.n, (out->n - plain.n) * sizeof *out->id);
    out->n = special ? out->n - plain.n : 0;
    tokens_done(&plain);
    return s;
}

static stretto_status join_behind(const struct tokenizer *t, const struct tokens *opening, const struct tokens *ids,
                                  struct tokens *out)
{
    for (size_t i = 0, end; i < ids->n; i = end) {
        bool opens = i >= opening->n
                  && memcmp(ids->id + i - opening->n, opening->id, opening->n * sizeof *ids->id) == 0;
        for (end = i; opens && end < ids->n && !tokenizer_is_special(t, ids->id[end]); end++) {}
        if (end > i) TRY(phrases_join(tokenizer_phrases(t), ids->id + i, end - i, out));
        else TRY(tokens_push(out, ids->id[end++]));
    }
    return STRETTO_OK;
}

stretto_status conversation_join(const struct tokenizer *t, const struct chat *chat, struct tokens *ids,
                                 struct error *err)
{
    struct tokens opening = { 0 }, out = { 0 };
    struct conversation c;
    struct error ignored = { 0 };
    if (!t || !chat || !tokenizer_phrases(t)) return STRETTO_OK;
    conversation_init(&c, t, chat, 0);
    stretto_status s = find_opening(&c, &opening, &ignored);
    conversation_done(&c);
    if (s == STRETTO_OK && opening.n && join_behind(t, &opening, ids, &out) == STRETTO_OK) {
        struct tokens had = *ids;
        *ids = out;
        out = had;
    }
    tokens_done(&opening);
    tokens_done(&out);
    return s == STRETTO_E_NOMEM ? fail(err, s, "out of memory") : STRETTO_OK;
}

stretto_status conversation_messages(const struct json_t *list, stretto_message *m, size_t *n, struct error *err)
{
    *n = json_array_size(list);
    if (!*n) return fail(err, STRETTO_E_FORMAT, "it has no \"messages\"");
    if (*n > CONVERSATION_MOST)
        return fail(err, STRETTO_E_FORMAT, "it has more than %d messages", CONVERSATION_MOST);
    for (size_t i = 0; i < *n; i++) {
        const json_t *x = json_array_get(list, i);
        m[i] = (stretto_message){ json_string_value(json_object_get(x, "role")),
                                  json_string_value(json_object_get(x, "content")) };
        if (!m[i].role || !m[i].content)
            return fail(err, STRETTO_E_FORMAT, "message %zu needs a \"role\" and a \"content\", both strings", i + 1);
    }
    return STRETTO_OK;
}
