#include "text/chat.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "template/template.h"
#include "text/tokenizer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 1 << 30, ROLES = 3 };
enum role { ROLE_USER, ROLE_SYSTEM, ROLE_ASSISTANT };
static const char *const role_names[ROLES] = { "user", "system", "assistant" };

/* How the content of a role's messages is given to the template. */
enum form {
    FORM_TEXT,                   /* "content": "words"                                        */
    FORM_PARTS,                  /* "content": [{"type": "text", "text": "words"}]            */
    FORM_FOLDED,                 /* system only: in front of the user's next message          */
    FORM_NONE,                   /* its words are printed in no form                          */
};

struct chat {
    const struct tokenizer *tokenizer;
    struct template *template;   /* NULL: it cannot be compiled, and why says so              */
    struct error why;
    enum form form[ROLES];
    const char *const *thinks;   /* [2] of `tags`; NULL: the template has none of them        */
};

/* How families mark what is thought. */
static const char *const tags[][2] = {
    { "<think>", "</think>" }, { "<seed:think>", "</seed:think>" }, { "<mm:think>", "</mm:think>" },
    { "<|START_THINKING|>", "<|END_THINKING|>" },
};

/* ---- the variables --------------------------------------------------------------------------- */

/* Well-formed UTF-8 as a JSON string. */
static stretto_status put_string(struct buffer *b, const char *p, size_t n)
{
    TRY(buffer_append(b, "\"", 1));
    for (size_t i = 0, from = 0; i <= n; i++) {
        unsigned char c = i < n ? (unsigned char)p[i] : '"';
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        if (i > from) TRY(buffer_append(b, p + from, i - from));
        if (i < n) TRY(buffer_printf(b, "\\u%04x", c));
        from = i + 1;
    }
    return buffer_append(b, "\"", 1);
}

static stretto_status put_text(struct buffer *b, const char *p, struct buffer *spare)
{
    buffer_clear(spare);
    TRY(utf8_repair(spare, p ? p : "", p ? strlen(p) : 0));
    return put_string(b, spare->data ? spare->data : "", spare->len);
}

static enum role role_of(const stretto_message *m)
{
    if (m->role && strcmp(m->role, role_names[ROLE_SYSTEM]) == 0) return ROLE_SYSTEM;
    return m->role && strcmp(m->role, role_names[ROLE_ASSISTANT]) == 0 ? ROLE_ASSISTANT : ROLE_USER;
}

struct writing { struct buffer *out, spare, fold; size_t n; const enum form *form; unsigned *notes; };

/* Keeps a system message for the user's next one. */
static stretto_status keep(struct writing *w, const char *content)
{
    *w->notes |= CHAT_SYSTEM_FOLDED;
    TRY(buffer_str(&w->fold, content ? content : ""));
    return buffer_str(&w->fold, "\n\n");
}

static stretto_status put_message(struct writing *w, const stretto_message *m)
{
    enum role role = role_of(m);
    const char *content = m->content;
    if (w->form[role] == FORM_FOLDED) return keep(w, content);
    bool take = role == ROLE_USER && w->fold.len;
    if (take) {
        TRY(buffer_str(&w->fold, content ? content : ""));
        content = w->fold.data;
    }
    TRY(buffer_str(w->out, w->n++ ? ",{\"role\":" : "{\"role\":"));
    TRY(put_text(w->out, m->role ? m->role : "user", &w->spare));
    TRY(buffer_str(w->out, ",\"content\":"));
    TRY(put_text(w->out, content, &w->spare));
    if (take) buffer_clear(&w->fold);
    return buffer_str(w->out, "}");
}

/* transformers gives tools and documents as none where there are none. */
static stretto_status put_vars(struct buffer *b, const stretto_message *messages, size_t n, bool answer,
                               const char *more, const enum form form[ROLES], unsigned *notes)
{
    struct writing w = { .out = b, .spare = buffer_make(TEXT_MAX), .fold = buffer_make(TEXT_MAX),
                         .form = form, .notes = notes };
    stretto_status s = buffer_str(b, "{\"messages\":[");
    for (size_t i = 0; i < n && s == STRETTO_OK; i++) s = put_message(&w, &messages[i]);
    if (s == STRETTO_OK)
        s = buffer_printf(b, "],\"tools\":null,\"documents\":null,\"add_generation_prompt\":%s%s%s}",
                          answer ? "true" : "false", more ? "," : "", more ? more : "");
    if (s == STRETTO_OK && w.fold.len) s = STRETTO_E_ARG;
    buffer_done(&w.spare);
    buffer_done(&w.fold);
    return s;
}

static size_t offer(struct template_token *list, size_t n, const struct tokenizer *t, const char *name,
                    int32_t id)
{
    list[n].name = name;
    list[n].p = id < 0 ? NULL : tokenizer_spelling(t, id, &list[n].n);
    return list[n].p ? n + 1 : n;
}

/* Adds what the model gives to the variables: its tokens, and the form of contents. */
static stretto_status render_vars(const struct chat *c, struct template_input in, const enum form *form,
                                  struct buffer *text, struct buffer *content, struct error *err)
{
    struct template_token tokens[2];
    const char *parts[ROLES + 1] = { NULL };
    for (size_t i = 0, n = 0; i < ROLES; i++)
        if (form[i] == FORM_PARTS) parts[n++] = role_names[i];
    in.tokens = tokens;
    in.n_tokens = offer(tokens, 0, c->tokenizer, "bos_token", tokenizer_bos(c->tokenizer));
    in.n_tokens = offer(tokens, in.n_tokens, c->tokenizer, "eos_token", tokenizer_eos(c->tokenizer));
    in.parts = parts[0] ? parts : NULL;
    return template_render(c->template, &in, text, content, err);
}

static stretto_status render(const struct chat *c, const stretto_message *messages, size_t n,
                             bool answer, const char *more, const enum form form[ROLES], time_t now,
                             struct buffer *text,
                             struct buffer *content, unsigned *notes, struct error *err)
{
    struct buffer vars = buffer_make(TEXT_MAX);
    stretto_status s = put_vars(&vars, messages, n, answer, more, form, notes);
    const struct template_input in = { .vars = vars.data, .n_vars = vars.len, .now = now,
                                       .where = "the conversation" };
    if (s != STRETTO_OK)
        fail(err, s, s == STRETTO_E_FULL  ? "the conversation is longer than 1 GiB"
                     : s == STRETTO_E_ARG ? "the model's chat template has no place for a system message, "
                                            "and no message of the user follows to put it into"
                                          : "out of memory");
    else s = render_vars(c, in, form, text, content, err);
    buffer_done(&vars);
    return s;
}

/* ---- what the template wants ----------------------------------------------------------------- */

/* Words that no template has of its own, one for each role; digits, which no filter changes. */
static const char *const canaries[ROLES] = { "90417263581", "31862095747", "75290641833" };

enum { WORD_DIGITS = 10, WORD_BYTES = 24 };     /* of a number behind such a word, and of both */

enum seen { SEEN, UNSEEN, NOT_RENDERED };

/* Whether the words of all roles in the conversation are in its rendering. E_NOMEM or OK. */
static stretto_status look(const struct chat *c, const enum role *roles, size_t n, enum seen *out)
{
    stretto_message m[4];
    struct buffer text = buffer_make(TEXT_MAX);
    unsigned notes = 0;
    for (size_t i = 0; i < n; i++) m[i] = (stretto_message){ role_names[roles[i]], canaries[roles[i]] };
    stretto_status s = render(c, m, n, true, NULL, c->form, 0, &text, NULL, &notes, NULL);
    *out = s == STRETTO_OK ? SEEN : NOT_RENDERED;
    for (size_t i = 0; i < n && *out == SEEN; i++) {
        const char *word = canaries[roles[i]];
        if (!text.len || !memmem(text.data, text.len, word, strlen(word))) *out = UNSEEN;
    }
    buffer_done(&text);
    return s == STRETTO_E_NOMEM ? s : STRETTO_OK;
}

/* The form in which the role's words are seen, tried in the order of `forms`. Where every form fails to
 * render, the text form stays: the conversation itself will say why. */
static stretto_status probe(struct chat *c, enum role role, const enum role *roles, size_t n,
                            const enum form *forms, size_t n_forms)
{
    bool rendered = false;
    for (size_t i = 0; i < n_forms; i++) {
        enum seen seen;
        c->form[role] = forms[i];
        TRY(look(c, roles, n, &seen));
        if (seen == SEEN) return STRETTO_OK;
        rendered |= seen == UNSEEN;
    }
    c->form[role] = rendered ? FORM_NONE : FORM_TEXT;
    return STRETTO_OK;
}

static stretto_status find_forms(struct chat *c)
{
    static const enum role user[] = { ROLE_USER }, system[] = { ROLE_SYSTEM, ROLE_USER };
    static const enum role turns[] = { ROLE_USER, ROLE_ASSISTANT, ROLE_USER };
    static const enum role whole[] = { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_USER };
    static const enum form forms[] = { FORM_TEXT, FORM_PARTS, FORM_FOLDED };
    TRY(probe(c, ROLE_USER, user, 1, forms, 2));
    if (c->form[ROLE_USER] == FORM_NONE) return STRETTO_OK;
    TRY(probe(c, ROLE_SYSTEM, system, 2, forms, 3));
    TRY(probe(c, ROLE_ASSISTANT, turns, 3, forms, 2));
    if (c->form[ROLE_ASSISTANT] != FORM_NONE) return STRETTO_OK;
    /* Some want a system message first, whatever the user says. */
    TRY(probe(c, ROLE_ASSISTANT, whole, 4, forms, 2));
    return STRETTO_OK;
}

/* ---- open, close, render --------------------------------------------------------------------- */

stretto_status chat_open(struct chat **out, const struct tokenizer *t, struct error *err)
{
    const char *p;
    size_t n;
    *out = NULL;
    if (!t || !tokenizer_chat_template(t, false, &p, &n)) return STRETTO_OK;
    return chat_open_text(out, t, p, n, err);
}

stretto_status chat_open_text(struct chat **out, const struct tokenizer *t, const char *p, size_t n,
                              struct error *err)
{
    struct chat *c = mem_zalloc(1, sizeof *c);
    *out = NULL;
    if (!c) return fail(err, STRETTO_E_NOMEM, "out of memory for a chat template");
    c->tokenizer = t;
    for (size_t i = 0; i < sizeof tags / sizeof *tags && !c->thinks; i++)
        if (memmem(p, n, tags[i][1], strlen(tags[i][1]))) c->thinks = tags[i];
    stretto_status s = template_compile(&c->template, p, n, &c->why);
    if (s == STRETTO_OK) s = find_forms(c);
    if (s == STRETTO_E_NOMEM) {
        chat_close(c);
        return fail(err, s, "out of memory for a chat template");
    }
    *out = c;
    return STRETTO_OK;
}

bool chat_thinks(const struct chat *c, const char **open, const char **close)
{
    *open = c->thinks ? c->thinks[0] : NULL;
    *close = c->thinks ? c->thinks[1] : NULL;
    return c->thinks != NULL;
}

const char *chat_trouble(const struct chat *c) { return c->template ? NULL : c->why.text; }

void chat_close(struct chat *c)
{
    if (!c) return;
    template_free(c->template);
    mem_free(c);
}

static stretto_status check_shown(const struct chat *c, const stretto_message *messages, size_t n,
                                  struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        enum role role = role_of(&messages[i]);
        if (c->form[role] == FORM_NONE && messages[i].content && *messages[i].content)
            return fail(err, STRETTO_E_UNSUP, "the model's chat template prints nothing of what the %s "
                        "says, neither given as a text nor as a list of parts; give the prompt as plain "
                        "text", role_names[role]);
    }
    return STRETTO_OK;
}

/* What the small conversations did not try: roles of other names, and system messages between others.
 * Whether the template shows such a message is seen by changing what it says. */
static bool untried(const struct chat *c, const stretto_message *messages, size_t i)
{
    const stretto_message *m = &messages[i];
    if (!m->content || !*m->content || !m->role) return false;
    if (role_of(m) == ROLE_SYSTEM) return i > 0 && c->form[ROLE_SYSTEM] != FORM_FOLDED;
    return role_of(m) == ROLE_USER && strcmp(m->role, role_names[ROLE_USER]) != 0;
}

static stretto_status vanishes(const struct chat *c, stretto_message *all, size_t n, size_t i, bool answer,
                               const char *more, time_t now, const char *p, size_t length, bool *yes)
{
    struct buffer other = buffer_make(TEXT_MAX);
    const char *words = all[i].content;
    unsigned notes = 0;
    all[i].content = canaries[ROLE_USER];
    stretto_status s = render(c, all, n, answer, more, c->form, now, &other, NULL, &notes, NULL);
    all[i].content = words;
    *yes = s == STRETTO_OK && other.len == length && memcmp(other.data, p, length) == 0;
    buffer_done(&other);
    return s == STRETTO_E_NOMEM ? s : STRETTO_OK;
}

/* Says what is in messages that nobody tried, each a word of its own, and renders once: gone[i] says that the word of
 * message i was not seen. E_NOMEM or OK. */
static stretto_status look_for_all(const struct chat *c, stretto_message *all, size_t n, bool answer,
                                   const char *more, time_t now, bool *gone)
{
    struct buffer words = buffer_make(TEXT_MAX), text = buffer_make(TEXT_MAX);
    const stretto_message *messages = all + n;         /* as they were */
    unsigned notes = 0;
    stretto_status s = buffer_reserve(&words, n * WORD_BYTES);
    for (size_t i = 0; i < n && s == STRETTO_OK; i++) {
        char *word = words.data + i * WORD_BYTES;
        snprintf(word, WORD_BYTES, "%s%0*u", canaries[ROLE_USER], (int)WORD_DIGITS, (unsigned)i);
        if (gone[i]) all[i].content = word;
    }
    if (s == STRETTO_OK) s = render(c, all, n, answer, more, c->form, now, &text, NULL, &notes, NULL);
    const char *p = text.data, *end = p + text.len;
    const size_t n_word = strlen(canaries[ROLE_USER]);
    while (s == STRETTO_OK && p && (p = memmem(p, (size_t)(end - p), canaries[ROLE_USER], n_word))) {
        char number[WORD_DIGITS + 1] = "";
        p += n_word;
        memcpy(number, p, (size_t)(end - p) < WORD_DIGITS ? (size_t)(end - p) : WORD_DIGITS);
        size_t i = (size_t)strtoull(number, NULL, 10);
        if (i < n) gone[i] = false;
    }
    memcpy(all, messages, n * sizeof *all);
    buffer_done(&words);
    buffer_done(&text);
    return s == STRETTO_E_NOMEM ? s : STRETTO_OK;
}

/* A template that hides every word in a form of its own is believed behind the first few. */
static stretto_status check_untried(const struct chat *c, const stretto_message *messages, size_t n,
                                    bool answer, const char *more, time_t now, const char *p, size_t length,
                                    struct error *err)
{
    enum { SINGLY = 16 };
    size_t some = 0;
    for (size_t i = 0; i < n; i++) some += untried(c, messages, i);
    if (!some) return STRETTO_OK;
    stretto_message *all = mem_alloc(2 * n * sizeof *all);
    bool *gone = mem_zalloc(n, sizeof *gone);
    stretto_status s = all && gone ? STRETTO_OK : STRETTO_E_NOMEM;
    for (size_t i = 0; i < n && s == STRETTO_OK; i++) {
        all[i] = all[n + i] = messages[i];
        gone[i] = untried(c, messages, i);
    }
    if (s == STRETTO_OK && some > SINGLY) s = look_for_all(c, all, n, answer, more, now, gone);
    some = 0;
    for (size_t i = 0; i < n && s == STRETTO_OK && some < SINGLY; i++) {
        bool yes = false;
        if (!gone[i]) continue;
        some++;
        s = vanishes(c, all, n, i, answer, more, now, p, length, &yes);
        if (yes)
            s = fail(err, STRETTO_E_UNSUP, "the model's chat template prints nothing of message %zu, whose "
                     "role is %.40s: give it as the user's", i + 1, messages[i].role);
    }
    mem_free(all);
    mem_free(gone);
    return s == STRETTO_E_NOMEM ? fail(err, s, "out of memory") : s;
}

stretto_status chat_render(const struct chat *c, const stretto_message *messages, size_t n, bool answer,
                           time_t now, struct buffer *text, struct buffer *content, unsigned *notes,
                           struct error *err)
{
    return chat_render_more(c, messages, n, answer, NULL, now, text, content, notes, err);
}

stretto_status chat_render_more(const struct chat *c, const stretto_message *messages, size_t n, bool answer,
                                const char *more, time_t now, struct buffer *text, struct buffer *content,
                                unsigned *notes, struct error *err)
{
    unsigned made = 0;
    size_t had = text->len;
    if (!c->template) return fail(err, c->why.status, "%s", c->why.text);
    TRY(check_shown(c, messages, n, err));
    TRY(render(c, messages, n, answer, more, c->form, now, text, content, &made, err));
    if (notes) *notes = made;
    const char *p = text->len > had ? text->data + had : "";
    return check_untried(c, messages, n, answer, more, now, p, text->len - had, err);
}

stretto_status chat_render_vars(const struct chat *c, const struct template_input *in,
                                struct buffer *text, bool *parts, struct error *err)
{
    if (!c->template) return fail(err, c->why.status, "%s", c->why.text);
    if (parts) *parts = c->form[ROLE_USER] == FORM_PARTS;
    return render_vars(c, *in, c->form, text, NULL, err);
}
