#include "stretto/talk.h"
#include "base/memory.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

void talk_take(struct talk *t, struct talk *from)
{
    talk_reset(t);
    mem_free(t->messages);
    mem_free(t->system);
    t->messages = from->messages;
    t->n = from->n;
    t->cap = from->cap;
    t->system = from->system;
    t->n_ids = 0;
    mem_free(from->ids);
    *from = (struct talk){ 0 };
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
    return s == STRETTO_OK ? s : fail(err, s, "the conversation cannot be tokenized: %s",
                                      *words ? words : stretto_status_text(s));
}

stretto_status talk_ids(struct talk *t, bool answer, struct error *err)
{
    return ids_from(t, 0, answer, err);
}

/* ---- forgetting ------------------------------------------------------------------------------ */

static void forget(struct talk *t, size_t n)
{
    for (size_t i = 0; i < n; i++) message_free(&t->messages[i]);
    if (n) memmove(t->messages, t->messages + n, (t->n - n) * sizeof *t->messages);
    t->n -= n;
}

/* The first question at or behind a message: what is kept begins with one. */
static size_t question(const struct talk *t, size_t at)
{
    while (at < t->n && strcmp(t->messages[at].role, "user") != 0) at++;
    return at;
}

/* The first question from `lo` on with which the conversation and `more` tokens take at most half of the
 * context, or `hi`. Fewer messages never take more tokens. */
static stretto_status first_kept(struct talk *t, size_t lo, size_t hi, bool answer, size_t more, size_t *out,
                                 struct error *err)
{
    while (lo < hi) {
        size_t at = question(t, lo + (hi - lo) / 2);
        if (at >= hi) at = question(t, lo);
        if (at >= hi) break;
        TRY(ids_from(t, at, answer, err));
        if (t->n_ids + more <= t->context / 2) hi = at;
        else lo = at + 1;
    }
    *out = hi;
    return STRETTO_OK;
}

stretto_status talk_compact(struct talk *t, size_t *forgotten, struct error *err)
{
    *forgotten = 0;
    size_t first = t->n;
    TRY(first_kept(t, 0, t->n, false, 0, &first, err));
    if (first < t->n) TRY(ids_from(t, first, false, err));
    forget(t, first);
    *forgotten = first;
    if (!t->n) t->n_ids = 0;
    return STRETTO_OK;
}

stretto_status talk_make_room(struct talk *t, size_t more, size_t *forgotten, struct error *err)
{
    size_t first = 0;
    *forgotten = 0;
    if (!t->n) return STRETTO_OK;
    TRY(first_kept(t, 1, t->n - 1, true, more, &first, err));
    TRY(ids_from(t, first, true, err));
    if (t->n_ids + more >= t->context) return ids_from(t, 0, true, err);
    forget(t, first);
    *forgotten = first;
    return STRETTO_OK;
}
