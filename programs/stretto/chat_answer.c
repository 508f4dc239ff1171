/* One answer: the conversation becomes tokens, the model goes on. When the context is full the oldest
 * exchanges make room, aloud; an answer that was cut by that goes on where it was. */
#include "stretto/chat.h"
#include "base/clock.h"
#include "base/memory.h"
#include "stretto/output.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int on_text(void *user, const char *piece, size_t n)
{
    struct chat *c = user;
    answer_print(piece, n);
    fflush(stdout);
    return ferror(stdout) != 0 || buffer_append(&c->answer, piece, n) != STRETTO_OK;
}

static void keep_pending(struct chat *c, const char *text)
{
    char *copy = text ? mem_strdup(text) : NULL;
    mem_free(c->pending);
    c->pending = copy;
}

/* ---- speed ----------------------------------------------------------------------------------- */

static double rate(size_t n, double seconds) { return seconds > 0 ? (double)n / seconds : 0; }

void chat_tell_speed(const struct chat_stats *s, const char *what)
{
    chat_say("%sread %zu tokens at %.1f/s (%zu more were in the cache), wrote %zu at %.1f/s", what, s->read,
             rate(s->read, s->read_seconds), s->kept, s->written, rate(s->written, s->write_seconds));
}

static void add_stats(struct chat *c)
{
    c->last.answers = 1;
    c->all.answers++;
    c->all.read += c->last.read;
    c->all.kept += c->last.kept;
    c->all.written += c->last.written;
    c->all.read_seconds += c->last.read_seconds;
    c->all.write_seconds += c->last.write_seconds;
}

/* ---- a full context -------------------------------------------------------------------------- */

static bool compacts(const struct chat *c) { return strcmp(c->options->on_full, "compact") == 0; }

static void offer_ways(struct chat *c)
{
    struct error ignored = { 0 };
    if (!c->pending) talk_ids(&c->talk, false, &ignored);     /* the answer counts too */
    chat_say("stretto chat: the conversation has %zu tokens and the context holds %zu. /compact forgets "
             "its oldest part, /reset all of it, and /regen asks again; get a larger context "
             "with -c.", c->talk.n_ids, c->talk.context);
}

/* The oldest exchanges go, the last message stays; E_FULL when that is not enough. `begun`: tokens of an
 * answer that follow. */
static stretto_status make_room(struct chat *c, size_t begun, struct error *err)
{
    size_t forgotten = 0;
    TRY(talk_make_room(&c->talk, begun, &forgotten, err));
    if (!forgotten) return STRETTO_E_FULL;
    if (begun && c->terminal) putchar('\n');
    chat_say("(the context of %zu tokens is full: the oldest %zu messages are forgotten, %zu kept)",
             c->talk.context, forgotten, c->talk.n);
    if (begun && c->terminal) printf("...");
    return STRETTO_OK;
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* The tokens of an answer that has begun follow those of the conversation. */
static stretto_status append_ids(struct talk *t, const int32_t *begun, size_t n)
{
    if (t->n_ids + n > t->ids_cap) {
        int32_t *more = mem_resize(t->ids, (t->n_ids + n) * sizeof *more);
        if (!more) return STRETTO_E_NOMEM;
        t->ids = more;
        t->ids_cap = t->n_ids + n;
    }
    if (n) memcpy(t->ids + t->n_ids, begun, n * sizeof *begun);
    t->n_ids += n;
    return STRETTO_OK;
}

/* Reads what the session does not know yet, and writes until something ends it. */
static stretto_status write_answer(struct chat *c, int64_t most, stretto_generated *r)
{
    stretto_generate_options g = STRETTO_GENERATE_OPTIONS_INIT;
    g.max_tokens = most;
    g.stops = (const char *const *)c->stops;
    g.text = on_text;
    g.user = c;
    g.cancel = &interrupted;
    *r = (stretto_generated){ .size = sizeof *r };
    size_t kept = 0, n = c->talk.n_ids;
    double began = clock_seconds();
    stretto_status s = sync_prompt_kept(c->session, c->talk.ids, n, &kept);
    c->last.read_seconds += clock_seconds() - began;
    c->last.read += n - kept;
    c->last.kept += kept;
    if (s == STRETTO_OK) s = stretto_session_generate(c->session, &g, r);
    c->last.written += r->tokens;
    c->last.write_seconds += r->seconds;
    return s;
}

/* Goes on with an answer that filled the context, behind fewer messages. */
static stretto_status go_on(struct chat *c, size_t prompt, stretto_generated *r, struct error *err)
{
    size_t n = stretto_session_length(c->session) - prompt;
    int32_t *begun = mem_alloc((n + 1) * sizeof *begun);
    if (!begun) return fail(err, STRETTO_E_NOMEM, "out of memory");
    memcpy(begun, stretto_session_tokens(c->session) + prompt, n * sizeof *begun);
    stretto_status s = make_room(c, n, err);
    if (s == STRETTO_OK) s = talk_ids(&c->talk, true, err);
    if (s == STRETTO_OK) s = append_ids(&c->talk, begun, n);
    mem_free(begun);
    if (s != STRETTO_OK) return s;
    int64_t most = c->n < 0 ? -1 : c->n - (int64_t)c->last.written;
    return write_answer(c, most, r);
}

/* Asks for the answer to the last message, which is the user's. */
static stretto_status generate(struct chat *c, stretto_generated *r, struct error *err)
{
    buffer_clear(&c->answer);
    c->last = (struct chat_stats){ 0 };
    TRY(talk_ids(&c->talk, true, err));
    if (c->talk.n_ids >= c->talk.context) {
        if (!compacts(c)) return STRETTO_E_FULL;
        TRY(make_room(c, 0, err));
        TRY(talk_ids(&c->talk, true, err));
    }
    size_t prompt = c->talk.n_ids;
    stretto_status s = stretto_session_sampling(c->session, &c->how);
    if (s == STRETTO_OK) s = write_answer(c, c->n, r);
    while (s == STRETTO_OK && r->finish == STRETTO_FINISH_CONTEXT && compacts(c)) {
        size_t begun = stretto_session_length(c->session) - prompt;
        s = go_on(c, prompt, r, err);
        if (s == STRETTO_E_FULL) return s;
        prompt = c->talk.n_ids - begun;
    }
    if (s == STRETTO_OK || s == STRETTO_E_FULL || err->text[0]) return s;
    const char *words = stretto_session_error(c->session);
    return fail(err, s, "%s", *words ? words : stretto_status_text(s));
}

/* Says how it ended, where that is not plain to see. */
static void tell_end(struct chat *c, stretto_status s, const stretto_generated *r, bool full,
                     const struct error *err)
{
    if (interrupted && c->terminal) chat_say("(stopped; /regen asks again)");
    else if (full) offer_ways(c);
    else if (s == STRETTO_OK && !c->answer.len) chat_say("(the model said nothing)");
    else if (s == STRETTO_OK && r->finish == STRETTO_FINISH_LENGTH && c->terminal)
        chat_say("(stopped after %lld tokens, as -n says)", (long long)c->n);
    else if (s != STRETTO_OK)
        chat_say("stretto chat: %s", err->text[0] ? err->text : stretto_status_text(s));
    c->stopped = interrupted;
    c->failed |= full || c->stopped || s != STRETTO_OK;
    interrupted = 0;
}

static void finish(struct chat *c, const char *message, stretto_status s, const stretto_generated *r,
                   const struct error *err)
{
    bool full = s == STRETTO_E_FULL || (s == STRETTO_OK && r->finish == STRETTO_FINISH_CONTEXT);
    if (c->answer.len) putchar('\n');
    fflush(stdout);
    if (c->answer.len && (s == STRETTO_OK || full)) {
        s = talk_add(&c->talk, "assistant", c->answer.data, c->answer.len);
        keep_pending(c, NULL);
    } else {
        talk_drop(&c->talk);
        keep_pending(c, message);
    }
    add_stats(c);
    if (c->verbose && c->last.written) {
        chat_tell_speed(&c->last, "stretto chat: ");
        tell_decoding("chat", c->session);
    }
    tell_end(c, s, r, full, err);
}

void chat_ask(struct chat *c, const char *text)
{
    struct error err = { 0 };
    stretto_generated r = { .size = sizeof r };
    char *message = mem_strdup(text);
    stretto_status s =
        message ? talk_add(&c->talk, "user", message, strlen(message)) : STRETTO_E_NOMEM;
    if (s == STRETTO_OK) {
        interrupted = 0;
        s = generate(c, &r, &err);
        finish(c, message, s, &r, &err);
    } else
        chat_wrong(c, "%s", stretto_status_text(s));
    mem_free(message);
}
