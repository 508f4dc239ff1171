/* Writing text: tokens through the decoder, whole characters and stop strings. */
#include "api/handles.h"
#include "base/clock.h"
#include "decode/suffix.h"
#include "stretto/stretto.h"
#include <string.h>

/* Hands out what is certain; true when the caller wants no more. */
static bool emit(stretto_session *s, const stretto_generate_options *o)
{
    struct error before = s->err;                /* what the callback is refused is not this call's error */
    bool stop = o->text && s->out.len && o->text(o->user, s->out.data, s->out.len) != 0;
    s->err = before;
    buffer_clear(&s->out);
    return stop;
}

/* What a text holds back: what a decoder may yet replace, and the beginning of a character. */
struct text_stream { struct spelling_chain reread; struct utf8_stream whole; };

/* s->piece through the decoder's second reading, where a tokenizer has one. */
static stretto_status reread(stretto_session *s, struct text_stream *u, bool end)
{
    const struct tokenizer *t = engine_model(s->engine->engine)->tokenizer;
    if (!t || !tokenizer_rereads(t)) return STRETTO_OK;
    buffer_clear(&s->whole);
    if (s->piece.len) TRY(tokenizer_reread(t, &u->reread, s->piece.data, s->piece.len, &s->whole));
    if (end) TRY(tokenizer_reread_end(t, &u->reread, &s->whole));
    struct buffer b = s->piece;
    s->piece = s->whole;
    s->whole = b;
    return STRETTO_OK;
}

/* One token's text through the character and stop filters. */
static stretto_status push_text(stretto_session *s, struct text_stream *u, int32_t id,
                                bool *stopped)
{
    const struct model *m = engine_model(s->engine->engine);
    buffer_clear(&s->piece);
    /* The embedding may have rows behind the vocabulary's end; they are no text. */
    if (m->tokenizer && (size_t)id < tokenizer_size(m->tokenizer))
        TRY(tokenizer_piece(m->tokenizer, id, false, false, &s->piece));
    TRY(reread(s, u, false));
    buffer_clear(&s->whole);
    TRY(utf8_stream_push(&u->whole, s->piece.data ? s->piece.data : "", s->piece.len, &s->whole));
    return stop_push(&s->stop, s->whole.data ? s->whole.data : "", s->whole.len, &s->out, stopped);
}

static void end_text(stretto_session *s, struct text_stream *u)
{
    bool stopped = false;
    buffer_clear(&s->piece);
    stretto_status st = reread(s, u, true);
    buffer_clear(&s->whole);
    if (st == STRETTO_OK && s->piece.len)
        st = utf8_stream_push(&u->whole, s->piece.data, s->piece.len, &s->whole);
    if (st == STRETTO_OK) st = utf8_stream_end(&u->whole, &s->whole);
    if (st == STRETTO_OK && s->whole.len)
        stop_push(&s->stop, s->whole.data, s->whole.len, &s->out, &stopped);
    stop_end(&s->stop, &s->out);
}

static bool ends_answer(const void *tokenizer, int32_t token)
{
    return tokenizer_is_eog(tokenizer, token);
}

/* A finished answer teaches the engine's other texts, with a little of what it follows. */
static void remember(stretto_session *s, uint32_t from)
{
    enum { LEAD = 8 };
    unsigned suffix;
    strategy_find("suffix", 6, &suffix);
    if (!(s->decode.strategies >> suffix & 1) || s->n_tokens < from + LEAD) return;
    uint32_t lead = from < LEAD ? from : LEAD;
    suffix_store_add(&s->engine->learned.store,
                     engine_tokens(s->engine->engine, s->seq) + from - lead,
                     s->n_tokens - from + lead);
}

static stretto_status ended(stretto_generated *r, stretto_finish why)
{
    r->finish = why;
    return STRETTO_OK;
}

/* Tokens and their text until something ends it. */
static stretto_status write_text(stretto_session *s, const stretto_generate_options *o,
                                 struct text_stream *u, stretto_generated *r)
{
    const struct tokenizer *t = engine_model(s->engine->engine)->tokenizer;
    uint32_t context = engine_about(s->engine->engine)->context;
    while (o->max_tokens < 0 || r->tokens < (size_t)o->max_tokens) {
        bool stopped = false;
        int32_t id;
        if (o->cancel && *o->cancel) return ended(r, STRETTO_FINISH_CANCEL);
        if (s->n_tokens >= context) return ended(r, STRETTO_FINISH_CONTEXT);
        TRY(session_next(s, &id));
        r->tokens++;
        if (t && tokenizer_is_eog(t, id) && !o->ignore_end) return ended(r, STRETTO_FINISH_END);
        TRY(push_text(s, u, id, &stopped));
        bool enough = emit(s, o);
        if (stopped) return ended(r, STRETTO_FINISH_STOP);
        if (enough) return ended(r, STRETTO_FINISH_CANCEL);
    }
    return ended(r, STRETTO_FINISH_LENGTH);
}

static stretto_status generate(stretto_session *s, const stretto_generate_options *opt,
                               stretto_generated *r)
{
    stretto_generate_options own = STRETTO_GENERATE_OPTIONS_INIT, *o = &own;
    TRY(options_take(o, sizeof own, opt, &s->err));
    if (o->max_tokens < -1)
        return fail(&s->err, STRETTO_E_ARG,
                    "%lld tokens cannot be written; give a number from 0, or -1 for no limit",
                    (long long)o->max_tokens);
    const struct tokenizer *t = engine_model(s->engine->engine)->tokenizer;
    uint32_t from = s->n_tokens, context = engine_about(s->engine->engine)->context;
    struct text_stream u = { .whole = { .n = 0 } };
    double start = clock_seconds();
    s->stop.stops = o->stops;
    buffer_clear(&s->stop.held);
    buffer_clear(&s->out);
    writer_limit(s->writer, o->max_tokens >= 0 && o->max_tokens < context
                 ? from + (uint32_t)o->max_tokens : 0, t && !o->ignore_end ? ends_answer : NULL, t);
    s->cancel_here = o->cancel;
    stretto_status status = write_text(s, o, &u, r);
    if (r->finish != STRETTO_FINISH_STOP) {
        end_text(s, &u);
        emit(s, o);
    }
    s->cancel_here = NULL;
    if (status == STRETTO_E_CANCEL) {
        r->finish = STRETTO_FINISH_CANCEL;
        status = STRETTO_OK;
        error_clear(&s->err);
    }
    /* What was written ahead, behind a stop string or a cancellation, is taken back. */
    writer_limit(s->writer, 0, NULL, NULL);
    if (s->begun) writer_trim(s->writer);
    r->seconds = clock_seconds() - start;
    if (status == STRETTO_OK) remember(s, from);
    return status;
}

stretto_status stretto_session_generate(stretto_session *s, const stretto_generate_options *opt,
                                        stretto_generated *result)
{
    if (!s) return STRETTO_E_ARG;
    stretto_generated r = { .size = sizeof r, .finish = STRETTO_FINISH_LENGTH };
    TRY(session_enter(s));
    stretto_status status = generate(s, opt, &r);
    session_leave(s);
    if (result && result->size >= sizeof(size_t)) {
        size_t size = result->size;
        memcpy(result, &r, size < sizeof r ? size : sizeof r);
        result->size = size;
    }
    return status;
}
