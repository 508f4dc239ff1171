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
                                 stretto_generated *r)
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
        TRY(text_stream_push(&s->text, id, &s->out, &stopped));
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
    double start = clock_seconds();
    text_stream_begin(&s->text, o->stops);
    buffer_clear(&s->out);
    writer_limit(s->writer, o->max_tokens >= 0 && o->max_tokens < context
                 ? from + (uint32_t)o->max_tokens : 0, t && !o->ignore_end ? ends_answer : NULL, t);
    s->cancel_here = o->cancel;
    stretto_status status = write_text(s, o, r);
    if (r->finish != STRETTO_FINISH_STOP) {
        bool stopped;
        text_stream_end(&s->text, &s->out, &stopped);
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
