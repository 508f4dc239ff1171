#include "compress/reach.h"
#include "base/memory.h"
#include "base/random.h"
#include "compress/budget.h"
#include "compress/squeeze_int.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A divergence that was met by less than a fifteenth is not asked for better. */
enum { ROUNDS = 4 };
#define AIM 0.97
#define NEAR_ENOUGH 0.93

struct attempt { char *path; struct verdict v; struct squeeze_row *rows; };

struct reach {
    struct squeeze *s;
    struct judge *j;
    const struct reach_goal *g;
    const char *out;
    struct budget *b;
    double overhead, most;              /* bytes of the file beside its tensors; the most it may have, or infinity */
    struct attempt best;
};

static double file_size(const struct reach *x, double tensors) { return tensors + x->overhead; }

static void tell_exchange(struct reach *x, struct exchange table[EXCHANGES])
{
    double kl, low, high;
    budget_bytes(x->b, 0, &kl, &low, NULL);
    budget_kl(x->b, 0, &kl, &high, NULL);
    for (int i = 0; i < EXCHANGES; i++) {
        double bytes;
        budget_bytes(x->b, low * pow(high / low, (double)i / (EXCHANGES - 1)), &kl, &bytes, NULL);
        table[i] = (struct exchange){ file_size(x, bytes), kl };
    }
}

/* ---- attempts ------------------------------------------------------------------------------- */

static void drop(struct attempt *a)
{
    if (a->path) unlink(a->path);
    mem_free(a->path);
    mem_free(a->rows);
    verdict_done(&a->v);
    *a = (struct attempt){ .path = NULL };
}

static stretto_status write_attempt(struct reach *x, int round, struct attempt *a, struct error *err)
{
    char goal[120], *path = mem_alloc(strlen(x->out) + 24);
    if (!path) return fail(err, STRETTO_E_NOMEM, "out of memory");
    sprintf(path, "%s.attempt-%d", x->out, round);
    snprintf(goal, sizeof goal, "to a budget, round %d, %.3f bits", round, squeeze_bits(x->s, true));
    unlink(path);                               /* of a run that was stopped after it */
    stretto_status s = squeeze_name(x->s, goal, err);
    if (s == STRETTO_OK) s = squeeze_write(x->s, path, err);
    if (s == STRETTO_OK) a->path = path;
    else mem_free(path);
    return s;
}

static stretto_status try_plan(struct reach *x, int round, struct attempt *a, struct error *err)
{
    double kl, tensors;
    budget_expect(x->b, &kl, &tensors);
    TRY(write_attempt(x, round, a, err));
    TRY(judge_measure(x->j, a->path, true, &a->v, err));
    a->rows = mem_alloc(x->s->n * sizeof *a->rows);
    if (!a->rows) return fail(err, STRETTO_E_NOMEM, "out of memory");
    memcpy(a->rows, x->s->rows, x->s->n * sizeof *a->rows);
    log_say(&x->s->o.log, LOG_INFO, "attempt %d has %.2f MB and diverges by %.4f (expected %.4f), %.1f tokens a second",
            round + 1, (double)a->v.file_bytes / 1e6, a->v.all.kl.value, kl, a->v.speed);
    return STRETTO_OK;
}

static bool within(const struct reach *x, const struct attempt *a)
{
    return (x->g->kl <= 0 || a->v.all.kl.value <= x->g->kl) && (x->g->speed <= 0 || a->v.speed >= x->g->speed);
}

/* What is within the goal is better than what is not; then the smaller where the divergence was bounded, the
 * nearer to the original otherwise. */
static bool better(const struct reach *x, const struct attempt *a, const struct attempt *b)
{
    bool in = within(x, a), other = within(x, b);
    if (in != other) return in;
    if (x->g->kl > 0 && in) return a->v.file_bytes < b->v.file_bytes;
    return a->v.all.kl.value < b->v.all.kl.value;
}

static void keep_better(struct reach *x, struct attempt *a)
{
    if (x->best.path && !better(x, a, &x->best)) {
        drop(a);
        return;
    }
    drop(&x->best);
    x->best = *a;
}

/* Types for the goal as it is seen now. */
static void plan(struct reach *x)
{
    double kl, bytes;
    bool fits = x->g->kl > 0 && budget_kl(x->b, AIM * x->g->kl, &kl, &bytes, NULL) == STRETTO_OK
                && file_size(x, bytes) <= x->most;
    if (!fits && isfinite(x->most)) budget_bytes(x->b, x->most - x->overhead, &kl, &bytes, NULL);
}

static bool plan_uniform(struct reach *x)
{
    char words[400], best[16] = "", *save;
    double most = 0;
    snprintf(words, sizeof words, "%s", mixture_words());
    for (char *w = strtok_r(words, "|", &save); w; w = strtok_r(NULL, "|", &save)) {
        double bytes = squeeze_plan(x->s, w, NULL) == STRETTO_OK ? (double)squeeze_bytes(x->s, true) : INFINITY;
        if (file_size(x, bytes) > x->most || bytes <= most || strlen(w) >= sizeof best) continue;
        most = bytes;
        snprintf(best, sizeof best, "%s", w);
    }
    return best[0] && squeeze_plan(x->s, best, NULL) == STRETTO_OK;
}

/* Whether a further round may find better. */
static bool goes_on(struct reach *x, const struct verdict *v, bool uniform)
{
    double kl = v->all.kl.value;
    bool fast = x->g->speed <= 0 || v->speed >= x->g->speed;
    if (!fast) x->most = fmin(x->most, (double)v->file_bytes) * fmax(0.5, 0.98 * v->speed / x->g->speed);
    if (uniform) return false;
    if (x->g->kl > 0) return !(fast && kl <= x->g->kl && kl >= NEAR_ENOUGH * x->g->kl);
    return x->g->speed <= 0 || !fast;
}

/* A plan that was tried already: nothing new can come of it. */
static bool is_old(const struct reach *x, uint64_t *last)
{
    uint64_t h = 0;
    for (size_t i = 0; i < x->s->n; i++) h = random_mix(h ^ (uint64_t)x->s->rows[i].to);
    bool old = h == *last;
    *last = h;
    return old;
}

static stretto_status attempts(struct reach *x, struct error *err)
{
    uint64_t last = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct attempt a = { .path = NULL };
        bool uniform = x->g->kl <= 0 && x->g->speed <= 0 && round == 1;
        if (uniform && !plan_uniform(x)) break;
        if (!uniform) plan(x);
        if (is_old(x, &last)) break;
        stretto_status s = try_plan(x, round, &a, err);
        if (s != STRETTO_OK) {
            drop(&a);
            return s;
        }
        bool more = goes_on(x, &a.v, uniform);
        budget_learn(x->b, a.v.all.kl.value);
        keep_better(x, &a);
        if (!more) break;
    }
    return STRETTO_OK;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static stretto_status take_best(struct reach *x, struct verdict *v, struct error *err)
{
    struct attempt *a = &x->best;
    if (!within(x, a))
        return fail(err, STRETTO_E_FULL, "the budget cannot be met: the nearest there is has %.2f MB, diverges by %.4f "
                    "and writes %.1f tokens a second; ask for that", (double)a->v.file_bytes / 1e6, a->v.all.kl.value,
                    a->v.speed);
    if (rename(a->path, x->out) != 0) return fail(err, STRETTO_E_IO, "cannot name %s", x->out);
    memcpy(x->s->rows, a->rows, x->s->n * sizeof *a->rows);
    mem_free(a->path);
    a->path = NULL;
    *v = a->v;
    a->v = (struct verdict){ .file_bytes = 0 };
    return STRETTO_OK;
}

/* Bytes that the file may have, of all that is asked for. A speed is met by about so many as are read in the time
 * of a token at the rate of the original; what is measured corrects that. */
static stretto_status find_limit(struct reach *x, double in_bytes, double least, struct error *err)
{
    const struct reach_goal *g = x->g;
    if (g->bytes > 0) x->most = g->bytes;
    if (g->bits > 0) {
        double matrices = 0, vectors = 0;
        for (size_t i = 0; i < x->s->n; i++) {
            const struct squeeze_row *r = &x->s->rows[i];
            if (r->role != WEIGHT_NONE) matrices += (double)r->weights;
            else vectors += (double)row_bytes_as(r, r->to);
        }
        x->most = fmin(x->most, x->overhead + vectors + matrices * g->bits / 8);
    }
    if (least > x->most)
        return fail(err, STRETTO_E_FULL, "the budget cannot be met: the smallest file that can be written has %.2f MB",
                    least / 1e6);
    if (g->speed > 0) {
        double now;
        TRY(judge_speed(x->j, &now, err));
        x->most = fmin(x->most, fmax(least, 1.2 * in_bytes * now / g->speed));
    }
    return STRETTO_OK;
}

stretto_status squeeze_reach(struct squeeze *s, struct judge *j, const struct reach_goal *g, uint64_t in_bytes,
                             const char *out, struct exchange table[EXCHANGES], struct verdict *v, struct error *err)
{
    struct reach x = { .s = s, .j = j, .g = g, .out = out, .most = INFINITY };
    *v = (struct verdict){ .file_bytes = 0 };
    x.overhead = (double)in_bytes - (double)squeeze_bytes(s, false) + SQUEEZE_REPORT_ROOM + 1024;
    char *keep = mem_alloc(strlen(out) + sizeof ".attempt-stats");
    if (!keep) return fail(err, STRETTO_E_NOMEM, "out of memory");
    sprintf(keep, "%s.attempt-stats", out);
    stretto_status st = budget_open(&x.b, s, s->o.sequential ? NULL : keep, err);
    if (st == STRETTO_OK) tell_exchange(&x, table);
    if (st == STRETTO_OK) st = find_limit(&x, (double)in_bytes, table[0].bytes, err);
    if (st == STRETTO_OK) st = attempts(&x, err);
    if (st == STRETTO_OK) st = take_best(&x, v, err);
    if (st == STRETTO_E_CANCEL) {
        error_clear(err);
        fail(err, st, "interrupted; the same command measures again and goes on with the file that it was writing");
    }
    drop(&x.best);
    budget_close(x.b);
    unlink(keep);
    mem_free(keep);
    return st;
}
