#include "train/writing.h"
#include "engine/writers.h"

enum { TOGETHER = 16 };

struct run {
    const struct model *m;
    const struct writing_how *how;
    struct writing *w, *at[TOGETHER];          /* at: what each of `places` writes */
    size_t n, next, done;
    struct engine *e;
    struct writers places;
};

static bool ends(const void *ud, int32_t token)
{
    const struct model *m = ud;
    return m->tokenizer && tokenizer_is_eog(m->tokenizer, token);
}

/* The next text begins in place k. */
static stretto_status begin(struct run *r, uint32_t k, struct error *err)
{
    struct sampling how = { .temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = r->how->seed };
    struct plain_writer *p = &r->places.w[k];
    struct writing *w = r->at[k] = r->next < r->n ? &r->w[r->next++] : NULL;
    if (!w) return STRETTO_OK;
    how.choice = w->number;
    w->n = 0;
    TRY(sampler_set(&p->sampler, &how, err));
    engine_set(r->e, p->seq, w->prompt, w->n_prompt, w->n_prompt);
    writer_begin(p->writer);
    writer_limit(p->writer, w->n_prompt + w->most, ends, r->m);
    struct request q = { .seq = p->seq, .writer = p->writer, .cancel = r->how->cancel ? engine_flag_set : NULL,
                         .ud = (void *)(uintptr_t)r->how->cancel };
    return request_add(r->e, &q, &(uint32_t){ 0 }, err);
}

static stretto_status take(struct run *r, const struct event *v, struct error *err)
{
    uint32_t k = writers_find(&r->places, v->seq);
    struct writing *w = r->at[k];
    if (v->error.status != STRETTO_OK) return fail(err, v->error.status, "%s", v->error.text);
    for (int32_t token; w->n < w->most && writer_next(r->places.w[k].writer, &token);) w->token[w->n++] = token;
    if (!v->done) return STRETTO_OK;
    progress_tell(&r->how->progress, "writing", ++r->done, r->n);
    return begin(r, k, err);
}

static stretto_status open_engine(struct run *r, struct error *err)
{
    struct engine_options o = { .threads = r->how->threads, .cache = CACHE_F32 };
    for (size_t i = 0; i < r->n; i++)
        if (r->w[i].n_prompt + r->w[i].most > o.context) o.context = r->w[i].n_prompt + r->w[i].most;
    o.sequences = r->n < TOGETHER ? (uint32_t)r->n : TOGETHER;
    TRY(engine_open(&r->e, r->m, &o, err));
    return writers_open(r->e, &r->places, o.sequences, err);
}

stretto_status writing_run(const struct model *m, const struct writing_how *how, struct writing *w, size_t n,
                           struct error *err)
{
    if (!n) return STRETTO_OK;
    struct run r = { .m = m, .how = how, .w = w, .n = n };
    stretto_status s = open_engine(&r, err);
    for (uint32_t i = 0; i < r.places.n && s == STRETTO_OK; i++) s = begin(&r, i, err);
    while (s == STRETTO_OK && requests_count(r.e)) {
        size_t k;
        s = engine_turn(r.e, r.places.events, r.places.n, &k, err);
        for (size_t i = 0; i < k && s == STRETTO_OK; i++) s = take(&r, &r.places.events[i], err);
    }
    if (r.e) requests_drop(r.e);
    writers_close(r.e, &r.places);
    engine_close(r.e);
    return s;
}
