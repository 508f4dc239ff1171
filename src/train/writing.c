#include "train/writing.h"
#include "base/memory.h"
#include "engine/scheduler.h"

enum { TOGETHER = 16 };

/* A place for one text after the other. */
struct place {
    const struct writing_how *how;
    struct writing *w;               /* NULL: nothing is left for it */
    struct sampler sampler;
    struct writer *writer;
    int32_t seq;
};

struct run {
    const struct model *m;
    const struct writing_how *how;
    struct writing *w;
    size_t n, next, done;
    struct engine *e;
    struct calibration calibration;
    struct arena memory;
    struct place place[TOGETHER];
    uint32_t places;
    struct event events[TOGETHER];
};

static bool cancelled(void *ud)
{
    const struct place *p = ud;
    return p->how->cancel && *p->how->cancel;
}

static bool ends(const void *ud, int32_t token)
{
    const struct model *m = ud;
    return m->tokenizer && tokenizer_is_eog(m->tokenizer, token);
}

/* The next text begins in the place. */
static stretto_status begin(struct run *r, struct place *p, struct error *err)
{
    struct sampling how = { .temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = r->how->seed };
    p->w = r->next < r->n ? &r->w[r->next++] : NULL;
    if (!p->w) return STRETTO_OK;
    how.choice = p->w->number;
    p->w->n = 0;
    TRY(sampler_set(&p->sampler, &how, err));
    engine_set(r->e, p->seq, p->w->prompt, p->w->n_prompt, p->w->n_prompt);
    writer_begin(p->writer);
    writer_limit(p->writer, p->w->n_prompt + p->w->most, ends, r->m);
    struct request q = { .seq = p->seq, .writer = p->writer, .cancel = cancelled, .ud = p };
    return request_add(r->e, &q, &(uint32_t){ 0 }, err);
}

static stretto_status take(struct run *r, const struct event *v, struct error *err)
{
    struct place *p = v->ud;
    if (v->error.status != STRETTO_OK) return fail(err, v->error.status, "%s", v->error.text);
    for (int32_t token; p->w->n < p->w->most && writer_next(p->writer, &token);) p->w->token[p->w->n++] = token;
    if (!v->done) return STRETTO_OK;
    progress_tell(&r->how->progress, "writing", ++r->done, r->n);
    return begin(r, p, err);
}

static stretto_status open_places(struct run *r, struct error *err)
{
    static const struct writer_options plain = { .most = 1 };
    struct arena size = { 0 };
    struct sampler any;
    sampler_plan(&any, &size, r->m->config.vocab);
    r->memory.cap = r->places * (size.top + 64);
    r->memory.base = mem_map(r->memory.cap);
    if (!r->memory.base) return fail(err, STRETTO_E_NOMEM, "out of memory");
    calibration_init(&r->calibration);
    for (uint32_t i = 0; i < r->places; i++) {
        struct place *p = &r->place[i];
        p->how = r->how;
        sampler_plan(&p->sampler, &r->memory, r->m->config.vocab);
        TRY(engine_seq_open(r->e, &p->seq, err));
        TRY(writer_open(&p->writer, r->e, p->seq, &p->sampler, &r->calibration, &plain, err));
    }
    return STRETTO_OK;
}

static stretto_status open_engine(struct run *r, struct error *err)
{
    struct engine_options o = { .threads = r->how->threads, .cache = CACHE_F32 };
    for (size_t i = 0; i < r->n; i++)
        if (r->w[i].n_prompt + r->w[i].most > o.context) o.context = r->w[i].n_prompt + r->w[i].most;
    r->places = r->n < TOGETHER ? (uint32_t)r->n : TOGETHER;
    o.sequences = r->places;
    return engine_open(&r->e, r->m, &o, err);
}

stretto_status writing_run(const struct model *m, const struct writing_how *how, struct writing *w, size_t n,
                           struct error *err)
{
    if (!n) return STRETTO_OK;
    struct run *r = mem_zalloc(1, sizeof *r);
    if (!r) return fail(err, STRETTO_E_NOMEM, "out of memory");
    *r = (struct run){ .m = m, .how = how, .w = w, .n = n };
    stretto_status s = open_engine(r, err);
    if (s == STRETTO_OK) s = open_places(r, err);
    for (uint32_t i = 0; i < r->places && s == STRETTO_OK; i++) s = begin(r, &r->place[i], err);
    while (s == STRETTO_OK && requests_count(r->e)) {
        size_t k;
        s = engine_turn(r->e, r->events, TOGETHER, &k, err);
        for (size_t i = 0; i < k && s == STRETTO_OK; i++) s = take(r, &r->events[i], err);
    }
    if (r->e) requests_drop(r->e);
    for (uint32_t i = 0; i < r->places; i++) writer_close(r->place[i].writer);
    engine_close(r->e);
    mem_unmap(r->memory.base, r->memory.cap);
    mem_free(r);
    return s;
}
