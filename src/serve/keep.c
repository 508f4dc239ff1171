/* Texts by the numbers of their places, as llama.cpp's slots have them: what was read last under a number can be put
 * aside in a file, taken back, and given up. Between turns; a step waits meanwhile. */
#include "base/clock.h"
#include "base/memory.h"
#include "serve/service_int.h"
#include <string.h>

static bool room(const struct service *s, struct engine_text *t)
{
    if (t->tokens) return true;
    t->tokens = mem_alloc(s->info.context * (sizeof *t->tokens + 1));
    if (!t->tokens) return false;
    t->given = (uint8_t *)(t->tokens + s->info.context);
    t->cap = s->info.context;
    return true;
}

void keep_text(struct service *s, const struct slot *x)
{
    const struct job_options *o = &x->job->o;
    if (!s->o.keeps || o->kind != JOB_WRITE || x->seq < 0) return;
    uint32_t place = o->place >= 0 && (uint32_t)o->place < s->most ? (uint32_t)o->place
                                                                   : (uint32_t)(x - s->slots) % s->most;
    struct engine_text *t = &s->kept[place];
    if (!room(s, t)) return;
    uint32_t n = engine_known(s->engine, x->seq);
    t->n = n < t->cap ? n : t->cap;
    t->salt = o->salt;
    engine_weights(s->engine, o->adapters, t->adapters);
    memcpy(t->tokens, engine_tokens(s->engine, x->seq), t->n * sizeof *t->tokens);
    for (uint32_t i = 0; i < t->n; i++) t->given[i] = engine_given(s->engine, x->seq, i);
}

static stretto_status serve_one(struct service *s, const struct job *j, struct job_usage *usage, struct error *err)
{
    struct engine_text *t = &s->kept[j->o.place];
    stretto_status st = STRETTO_OK;
    t->owner = j->client->hash;
    if (j->o.keep == KEEP_LOAD) {
        if (!room(s, t)) return fail(err, STRETTO_E_NOMEM, "no memory for another text");
        const struct engine_text before = *t;
        t->n = 0;
        t->salt = j->o.salt;
        engine_weights(s->engine, j->o.adapters, t->adapters);
        st = engine_text_load(s->engine, t, j->o.path, err);
        if (st != STRETTO_OK && !t->n) *t = before;       /* nothing was read of the file: the text is there still */
        else if (st != STRETTO_OK) t->n = 0;
    } else if (!t->n || t->salt != j->o.salt) {
        return fail(err, STRETTO_E_ARG, "nobody with this key and cache_salt had a text in slot %d last", j->o.place);
    } else if (j->o.keep == KEEP_SAVE) {
        uint32_t known = t->n;
        st = engine_text_save(s->engine, t, j->o.path, &j->o.room, err);
        usage->prompt = t->n;
        usage->bytes = t->bytes;
        t->n = known;
        return st;
    } else {
        usage->prompt = engine_text_erase(s->engine, t);
        t->n = 0;
        return STRETTO_OK;
    }
    usage->prompt = t->n;
    usage->bytes = t->bytes;
    return st;
}

/* The first that waits of the client who was charged least. */
static struct job **next_of(struct service *s, uint32_t *count)
{
    struct job **best = NULL;
    *count = 0;
    for (struct job **at = &s->waiting; *at; at = &(*at)->next) {
        if ((*at)->o.kind != JOB_KEEP) continue;
        ++*count;
        if (!best || (*at)->client->used < (*best)->client->used) best = at;
    }
    return best;
}

/* One between two steps: files of hundreds of megabytes make everybody wait. */
void keep_serve(struct service *s)
{
    uint32_t count;
    struct job **at = next_of(s, &count);
    if (at) {
        struct error err = { .status = STRETTO_OK };
        struct client *client = (*at)->client;
        struct job *j = service_unqueue(s, at);
        struct job_usage usage = { .queued = clock_seconds() - j->submitted };
        double began = clock_seconds();
        stretto_status st = serve_one(s, j, &usage, &err);
        usage.reading = clock_seconds() - began;
        client->used += usage.reading;
        s->ended |= count > 1;                 /* the others are not slept over */
        job_finish(j, st == STRETTO_OK ? JOB_END : JOB_FAILED, &usage, st == STRETTO_OK ? NULL : &err);
    }
}

void keep_close(struct service *s)
{
    for (uint32_t i = 0; s->kept && i < s->most; i++) mem_free(s->kept[i].tokens);
}
