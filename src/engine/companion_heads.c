/* Heads for writers: those of an engine that want the same file share its steps, each in a place of its own. */
#include "base/clock.h"
#include "base/memory.h"
#include "engine/companion.h"
#include "engine/engine_int.h"
#include "engine/head_model.h"
#include <string.h>

/* A file's, for all writers of an engine that want it. */
struct shared_heads {
    struct shared_heads *next;         /* of the target's */
    struct engine *target;
    char *path;
    unsigned users;
    struct head_model *model;
    uint32_t places;
    struct heads **who;                /* [places] who has it */
    double seconds;                    /* that a run of one writer takes: all of Medusa's guesses, or one */
};

/* One writer's. */
struct heads {
    struct companion companion;
    struct shared_heads *shared;
    uint32_t place;
};

/* All who have asked, in the same steps. */
static stretto_status run(void *ud, struct error *err)
{
    struct shared_heads *s = ((struct heads *)ud)->shared;
    uint32_t asking = 0;
    double begin = clock_seconds();
    for (uint32_t i = 0; i < s->places; i++) asking += head_model_place(s->model, i)->asks;
    TRY(head_model_run(s->model, err));
    if (asking == 1) s->seconds += (clock_seconds() - begin - s->seconds) / 8;
    return STRETTO_OK;
}

stretto_status heads_guess(struct heads *x, const float *hidden, int32_t last, int32_t *token, float *p, uint32_t *n,
                           struct error *err)
{
    struct head_model *m = x->shared->model;
    const struct head_place *at = head_model_place(m, x->place);
    *n = head_model_depth(m);
    if (!token || !p) return STRETTO_OK;
    head_model_begin(m, x->place, hidden, last);
    TRY(head_model_run(m, err));
    while (at->n < *n && at->failed.status == STRETTO_OK) {
        head_model_next(m, x->place);
        TRY(head_model_run(m, err));
    }
    memcpy(token, at->token, *n * sizeof *token);
    memcpy(p, at->p, *n * sizeof *p);
    return at->failed.status == STRETTO_OK ? STRETTO_OK : fail(err, at->failed.status, "%s", at->failed.text);
}

static bool knows(const struct heads *x, const struct timeline *t)
{
    return x->companion.hidden && x->companion.hidden_at == t->n && t->n;
}

/* Of Medusa's heads only the first guess is worth a step. */
static stretto_status ask(void *ud, const struct timeline *t, uint32_t k, double spend, struct error *err)
{
    struct heads *x = ud;
    (void)spend;
    (void)err;
    if (k) head_model_next(x->shared->model, x->place);
    else if (knows(x, t)) head_model_begin(x->shared->model, x->place, x->companion.hidden, t->tokens[t->n - 1]);
    else head_model_forget(x->shared->model, x->place);
    return STRETTO_OK;
}

/* Where what they say is no number they have nothing to say; the text goes on. */
static stretto_status take(void *ud, uint32_t k, int32_t *token, float *p, struct error *err)
{
    struct heads *x = ud;
    const struct head_place *at = head_model_place(x->shared->model, x->place);
    (void)err;
    *token = k < at->n ? at->token[k] : -1;
    *p = k < at->n ? at->p[k] : 0;
    return STRETTO_OK;
}

static struct guess_price price(void *ud, const struct timeline *t, double spend)
{
    const struct heads *x = ud;
    const struct shared_heads *s = x->shared;
    (void)spend;
    return (struct guess_price){ .first = s->seconds, .next = head_model_recursive(s->model) ? s->seconds : 0,
                                 .silent = !knows(x, t) };
}

/* ---- opening -------------------------------------------------------------------------------- */

/* With its last user. */
static void shared_close(struct shared_heads *s)
{
    struct shared_heads **at = &s->target->heads;
    if (--s->users) return;
    while (*at != s) at = &(*at)->next;
    *at = s->next;
    head_model_close(s->model);
    mem_free(s->who);
    mem_free(s->path);
    mem_free(s);
}

static stretto_status shared_open_into(struct shared_heads *s, struct error *err)
{
    const struct model *m = engine_model(s->target);
    const struct engine_info *e = engine_about(s->target);
    const struct head_setup setup = { .model = m, .device = m->device, .threads = e->threads, .places = e->sequences };
    s->places = e->sequences;
    s->who = mem_zalloc(s->places, sizeof(struct heads *));
    if (!s->path || !s->who) return fail(err, STRETTO_E_NOMEM, "no memory for the heads");
    return head_model_open(&s->model, s->path, &setup, err);
}

static stretto_status shared_open(struct shared_heads **out, struct engine *target, const char *path, struct error *err)
{
    for (*out = target->heads; *out && strcmp((*out)->path, path) != 0;) *out = (*out)->next;
    if (*out) {
        (*out)->users++;
        return STRETTO_OK;
    }
    struct shared_heads *s = mem_zalloc(1, sizeof *s);
    if (!s) return fail(err, STRETTO_E_NOMEM, "out of memory");
    *s = (struct shared_heads){ .next = target->heads, .target = target, .users = 1, .path = mem_strdup(path) };
    target->heads = s;
    stretto_status st = shared_open_into(s, err);
    if (st != STRETTO_OK) shared_close(s);
    else *out = s;
    return st;
}

/* What a run costs; the first time touches its pages. */
static stretto_status probe(struct heads *x, struct error *err)
{
    struct shared_heads *s = x->shared;
    const struct model *m = engine_model(s->target);
    float *any = mem_zalloc(m->config.width, sizeof *any);
    stretto_status st = any ? STRETTO_OK : fail(err, STRETTO_E_NOMEM, "no memory for the heads");
    for (int i = 0; i < 2 && st == STRETTO_OK; i++) {
        double begin = clock_seconds();
        head_model_begin(s->model, x->place, any, 0);
        st = head_model_run(s->model, err);
        s->seconds = clock_seconds() - begin;
    }
    head_model_forget(s->model, x->place);
    mem_free(any);
    return st;
}

/* A place for one writer. */
static stretto_status open_into(struct heads *x, struct engine *target, const char *path, struct error *err)
{
    TRY(shared_open(&x->shared, target, path, err));
    struct shared_heads *s = x->shared;
    while (x->place < s->places && s->who[x->place]) x->place++;
    if (x->place == s->places) return fail(err, STRETTO_E_FULL, "%u writers use these heads already", s->places);
    s->who[x->place] = x;
    return s->users == 1 ? probe(x, err) : STRETTO_OK;
}

stretto_status heads_open(struct heads **out, struct engine *target, const char *path, struct error *err)
{
    *out = NULL;
    struct heads *x = mem_zalloc(1, sizeof *x);
    if (!x) return fail(err, STRETTO_E_NOMEM, "out of memory");
    x->companion = (struct companion){ .ud = x, .price = price, .ask = ask, .run = run, .take = take,
                                       .wants_hidden = true };
    stretto_status s = open_into(x, target, path, err);
    if (s != STRETTO_OK) heads_close(x);
    else *out = x;
    return s;
}

void heads_close(struct heads *x)
{
    if (!x) return;
    if (x->shared) {
        if (x->shared->who && x->place < x->shared->places && x->shared->who[x->place] == x) {
            x->shared->who[x->place] = NULL;
            if (x->shared->model) head_model_forget(x->shared->model, x->place);
        }
        shared_close(x->shared);
    }
    mem_free(x);
}

bool heads_are_of(const struct heads *x, const char *path) { return x && strcmp(x->shared->path, path) == 0; }

struct companion *heads_companion(struct heads *x) { return x ? &x->companion : NULL; }
