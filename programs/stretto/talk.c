#include "stretto/talk.h"
#include "base/file.h"
#include "base/memory.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_MESSAGES = 1 << 16 };

static void message_free(stretto_message *m) { mem_free((void *)(uintptr_t)m->content); }

void talk_reset(struct talk *t)
{
    while (t->n) talk_drop(t);
}

void talk_drop(struct talk *t)
{
    if (t->n) message_free(&t->messages[--t->n]);
}

void talk_done(struct talk *t)
{
    talk_reset(t);
    mem_free(t->messages);
    mem_free(t->system);
    mem_free(t->ids);
    *t = (struct talk){ 0 };
}

stretto_status talk_system(struct talk *t, const char *text)
{
    char *copy = text ? mem_strdup(text) : NULL;
    if (text && !copy) return STRETTO_E_NOMEM;
    mem_free(t->system);
    t->system = copy;
    return STRETTO_OK;
}

stretto_status talk_add(struct talk *t, const char *role, const char *text, size_t n)
{
    if (t->n == MAX_MESSAGES) return STRETTO_E_FULL;
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 16;
        stretto_message *m = mem_resize(t->messages, cap * sizeof *m);
        if (!m) return STRETTO_E_NOMEM;
        t->messages = m;
        t->cap = cap;
    }
    char *copy = mem_strndup(text, n);
    if (!copy) return STRETTO_E_NOMEM;
    t->messages[t->n++] = (stretto_message){ role, copy };
    return STRETTO_OK;
}

/* ---- tokens ---------------------------------------------------------------------------------- */

/* What the library says goes out once, not again with every answer. */
static void tell_once(void *user, const char *line)
{
    struct talk *t = user;
    if (!t->told) fprintf(stderr, "stretto chat: %s\n", line);
    t->told = true;
}

/* The ids of some messages; what does not fit into t->ids is counted in t->n_ids. */
static stretto_status tokenize(struct talk *t, const stretto_message *messages, size_t n, bool answer,
                               char *words, size_t words_n)
{
    stretto_chat_options o = STRETTO_CHAT_OPTIONS_INIT;
    o.answer = answer;
    o.special_in_text = t->special_in_text;
    o.log = tell_once;
    o.user = t;
    return stretto_chat_tokenize(t->model, messages, n, &o, t->ids, t->ids_cap, &t->n_ids, words,
                                 words_n);
}

/* The messages from `first` on, the system message before them. */
static stretto_status ids_from(struct talk *t, size_t first, bool answer, struct error *err)
{
    size_t n = t->n - first, at = 0;
    stretto_message *all = mem_alloc((n + 1) * sizeof *all);
    char words[600] = "";
    if (!all) return fail(err, STRETTO_E_NOMEM, "%s", stretto_status_text(STRETTO_E_NOMEM));
    if (t->system) all[at++] = (stretto_message){ "system", t->system };
    if (n) memcpy(all + at, t->messages + first, n * sizeof *all);
    stretto_status s = tokenize(t, all, at + n, answer, words, sizeof words);
    if (s == STRETTO_E_FULL && t->n_ids > t->ids_cap) {
        int32_t *ids = mem_resize(t->ids, t->n_ids * sizeof *ids);
        if (ids) {
            t->ids = ids;
            t->ids_cap = t->n_ids;
        }
        s = ids ? tokenize(t, all, at + n, answer, words, sizeof words) : STRETTO_E_NOMEM;
    }
    mem_free(all);
    return s == STRETTO_OK ? s : fail(err, s, "the conversation cannot be made into tokens: %s",
                                      *words ? words : stretto_status_text(s));
}

stretto_status talk_ids(struct talk *t, bool answer, struct error *err)
{
    return ids_from(t, 0, answer, err);
}

stretto_status talk_compact(struct talk *t, size_t *forgotten, struct error *err)
{
    size_t first = 0;
    *forgotten = 0;
    for (; first < t->n; first++) {
        if (strcmp(t->messages[first].role, "user") != 0) continue;     /* begin with a question */
        stretto_status s = ids_from(t, first, false, err);
        if (s != STRETTO_OK) return s;
        if (t->n_ids <= t->context / 2) break;
    }
    for (size_t i = 0; i < first; i++) message_free(&t->messages[i]);
    memmove(t->messages, t->messages + first, (t->n - first) * sizeof *t->messages);
    t->n -= first;
    *forgotten = first;
    if (!t->n) t->n_ids = 0;
    return STRETTO_OK;
}

/* ---- saving ---------------------------------------------------------------------------------- */

static stretto_status as_json(const struct talk *t, struct buffer *out)
{
    json_t *all = json_array();
    bool good = all != NULL;
    if (t->system)
        good &= json_array_append_new(
                    all, json_pack("{s:s, s:s}", "role", "system", "content", t->system)) == 0;
    for (size_t i = 0; i < t->n; i++)
        good &= json_array_append_new(all, json_pack("{s:s, s:s}", "role", t->messages[i].role,
                                                     "content", t->messages[i].content)) == 0;
    json_t *root = json_pack("{s:o}", "messages", all);
    char *text = good && root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    stretto_status s = text ? buffer_str(out, text) : STRETTO_E_FORMAT;
    if (s == STRETTO_OK) s = buffer_str(out, "\n");
    free(text);
    json_decref(root);
    return s;
}

static stretto_status as_markdown(const struct talk *t, struct buffer *out)
{
    if (t->system) TRY(buffer_printf(out, "**system**\n\n%s\n\n", t->system));
    for (size_t i = 0; i < t->n; i++)
        TRY(buffer_printf(out, "**%s**\n\n%s\n\n", t->messages[i].role, t->messages[i].content));
    return STRETTO_OK;
}

stretto_status talk_save(const struct talk *t, const char *path, bool replace, struct error *err)
{
    struct buffer text = buffer_make((size_t)1 << 30);
    struct stat st;
    size_t n = strlen(path);
    if (!replace && lstat(path, &st) == 0)
        return fail(err, STRETTO_E_IO, "%s is there already: choose another name", path);
    bool json = n > 5 && strcmp(path + n - 5, ".json") == 0;
    stretto_status s = json ? as_json(t, &text) : as_markdown(t, &text);
    if (s != STRETTO_OK)
        fail(err, s,
             json ? "the conversation holds bytes that JSON cannot: save it under another name"
                  : "no memory to write the conversation");
    else
        s = file_replace(path, text.data, text.len, err);
    buffer_done(&text);
    return s;
}
