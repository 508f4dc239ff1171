#include "eval/texts.h"
#include "base/json_tree.h"
#include "base/memory.h"
#include "text/conversation.h"
#include <string.h>
#include <time.h>

enum { CHAT_LINE_MAX = 1 << 22 };

void eval_set_done(struct eval_set *s)
{
    mem_free(s->name);
    mem_free(s->id);
    mem_free(s->counts);
    mem_free(s->at);
    *s = (struct eval_set){ 0 };
}

static stretto_status no_memory(struct error *err) { return fail(err, STRETTO_E_NOMEM, "out of memory"); }

static stretto_status named(struct eval_set *s, const char *name, struct error *err)
{
    *s = (struct eval_set){ .name = mem_strdup(name) };
    return s->name ? STRETTO_OK : no_memory(err);
}

static stretto_status cut(struct eval_set *s, const int32_t *id, uint32_t window, size_t windows, int32_t bos,
                          struct error *err)
{
    s->id = mem_alloc(windows * window * sizeof *s->id);
    s->counts = mem_alloc(windows * window);
    s->at = mem_alloc((windows + 1) * sizeof *s->at);
    if (!s->id || !s->counts || !s->at) return no_memory(err);
    memcpy(s->id, id, windows * window * sizeof *s->id);
    for (size_t w = 0; w <= windows; w++) s->at[w] = w * window;
    for (size_t w = 0; w < windows; w++) {
        if (bos >= 0) s->id[s->at[w]] = bos;
        for (uint32_t i = 0; i < window; i++) s->counts[s->at[w] + i] = i > window / 2;
    }
    s->n = windows;
    s->tokens = windows * (window - 1 - window / 2);
    s->longest = window;
    return STRETTO_OK;
}

stretto_status eval_set_text(struct eval_set *s, const char *name, const int32_t *id, size_t n, uint32_t window,
                             size_t most, int32_t bos, struct error *err)
{
    *s = (struct eval_set){ 0 };
    if (window < 3)                         /* the last one predicts nothing that is there */
        return fail(err, STRETTO_E_ARG, "a window of %u token%s has nothing to count in its second half: -c takes 3 "
                    "or more", window, window == 1 ? "" : "s");
    size_t windows = n / window;
    if (most && most < windows) windows = most;
    if (!windows)
        return fail(err, STRETTO_E_ARG, "the text '%s' has %zu token%s, less than one window of %u; give a longer text "
                    "or ask for shorter windows", name, n, n == 1 ? "" : "s", window);
    stretto_status status = named(s, name, err);
    if (status == STRETTO_OK) status = cut(s, id, window, windows, bos, err);
    if (status != STRETTO_OK) eval_set_done(s);
    return status;
}

/* ---- conversations -------------------------------------------------------------------------- */

static stretto_status add_window(struct eval_set *s, const struct tokens *all, const uint8_t *counts, size_t n,
                                 struct error *err)
{
    size_t from = s->n ? s->at[s->n] : 0;
    int32_t *id = mem_resize(s->id, (from + n) * sizeof *id);
    if (id) s->id = id;
    uint8_t *c = mem_resize(s->counts, from + n);
    if (c) s->counts = c;
    size_t *at = mem_resize(s->at, (s->n + 2) * sizeof *at);
    if (at) s->at = at;
    if (!id || !c || !at) return no_memory(err);
    memcpy(id + from, all->id, n * sizeof *id);
    memcpy(c + from, counts, n);
    at[0] = 0;
    at[++s->n] = from + n;
    for (size_t i = 0; i < n; i++) s->tokens += counts[i];
    if (n > s->longest) s->longest = (uint32_t)n;
    return STRETTO_OK;
}

/* What is said counts, but for the first two tokens, up to the last answer; cut behind `window` tokens. */
static stretto_status add_conversation(struct eval_set *s, struct conversation *c, const json_t *line, uint32_t window,
                                       struct error *err)
{
    stretto_message m[CONVERSATION_MOST];
    size_t n = 0, last = 0;
    TRY(conversation_messages(json_object_get(line, "messages"), m, &n, err));
    for (size_t i = 0; i < n; i++)
        if (strcmp(m[i].role, "assistant") == 0) last = i + 1;
    if (!last) return fail(err, STRETTO_E_FORMAT, "no message is the assistant's");
    TRY(conversation_read(c, m, last, NULL, NULL, NULL, err));
    size_t use = c->all.n < window ? c->all.n : window;
    for (size_t i = 0; i < 2 && i < use; i++) c->said[i] = 0;
    while (use && !c->said[use - 1]) use--;
    return use ? add_window(s, &c->all, c->said, use, err) : STRETTO_OK;
}

static stretto_status add_line(struct eval_set *s, struct conversation *c, const char *line, size_t n, size_t number,
                               uint32_t window, struct error *err)
{
    struct error why = { 0 };
    json_t *j = NULL;
    stretto_status status =
        n > CHAT_LINE_MAX ? fail(&why, STRETTO_E_FORMAT, "it is longer than %d bytes", CHAT_LINE_MAX)
                          : json_tree(&j, line, n, JSON_TWICE_REFUSED, "the line", &why);
    if (status == STRETTO_OK) status = add_conversation(s, c, j, window, &why);
    json_decref(j);
    return status == STRETTO_OK ? status : fail(err, status == STRETTO_E_ARG ? STRETTO_E_FORMAT : status,
                                                "%s, line %zu: %s", s->name, number, why.text);
}

static stretto_status add_lines(struct eval_set *s, struct conversation *c, const char *p, size_t n, uint32_t window,
                                size_t most, struct error *err)
{
    const char *end = p + n;
    for (size_t number = 1; p < end && (!most || s->n < most); number++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t length = (size_t)((stop ? stop : end) - p), blank = 0;
        while (blank < length && strchr(" \t\r", p[blank])) blank++;
        if (blank < length) TRY(add_line(s, c, p, length, number, window, err));
        p += length + 1;
    }
    return s->n ? STRETTO_OK
                : fail(err, STRETTO_E_FORMAT, "%s has no conversation with an answer within %u tokens; each line is "
                       "{\"messages\": [{\"role\": \"user\", \"content\": \"...\"}, {\"role\": \"assistant\", ...}]}",
                       s->name, window);
}

stretto_status eval_set_chat(struct eval_set *s, const char *name, const struct tokenizer *t, const struct chat *chat,
                             const char *lines, size_t n, uint32_t window, size_t most, struct error *err)
{
    struct conversation c;
    *s = (struct eval_set){ 0 };
    if (!chat)
        return fail(err, STRETTO_E_UNSUP, "the model has no chat template, which the conversations of '%s' need; "
                    "give plain text", name);
    conversation_init(&c, t, chat, time(NULL));
    stretto_status status = named(s, name, err);
    if (status == STRETTO_OK) status = add_lines(s, &c, lines, n, window, most, err);
    conversation_done(&c);
    if (status != STRETTO_OK) eval_set_done(s);
    return status;
}
