#include "compress/reach.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "compress/budget.h"
#include "compress/rates.h"
#include "compress/squeeze_int.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A divergence that was met by less than a twenty-fifth is not asked for better. */
enum { ROUNDS = 6 };
#define AIM 0.985
#define AIM_SPEED 0.98
#define NEAR_ENOUGH 0.96

/* kl: what the proof will say. model: the file, opened; the plan's, not the attempt's. stays: for an interrupted run,
 * until all is done. */
struct attempt {
    char *path;
    struct verdict v;
    struct margin kl;
    struct squeeze_row *rows;
    const struct model *model;
    bool stays;
};

struct reach {
    struct squeeze *s;
    const struct reach_from *from;
    const struct reach_goal *g;
    const char *out;
    struct budget *b;
    struct judge *judge;                /* NULL: nothing was measured yet */
    double overhead;                    /* bytes of the file beside its tensors */
    double allowed, most;               /* that the file may have; and that are tried for; or infinity */
    double kl;                          /* that the estimate may be, its margin being what it was last */
    double seconds;                     /* that weights with a choice may take */
    double rate[DT_COUNT];
    bool refused;                       /* OUT is in the way: what was measured before stays */
    struct attempt best;
};

/* Finer than bytes_words: people ask for this very number. */
static const char *size_text(char text[24], double bytes)
{
    if (bytes >= 1e9) snprintf(text, 24, "%.3f GB", bytes / 1e9);
    else if (bytes >= 1e6) snprintf(text, 24, "%.2f MB", bytes / 1e6);
    else snprintf(text, 24, "%.1f kB", bytes / 1e3);
    return text;
}

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
    if (a->path && !a->stays) unlink(a->path);
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
    snprintf(goal, sizeof goal, "to a budget, round %d, %.3f bits (%016llx)", round, squeeze_bits(x->s, true),
             (unsigned long long)budget_key(x->b));
    stretto_status s = squeeze_name(x->s, goal, err);
    /* Of a run that was stopped after it. */
    bool whole = s == STRETTO_OK && squeeze_is_written(x->s, path);
    if (!whole) unlink(path);
    if (s == STRETTO_OK && !whole) s = squeeze_write(x->s, path, err);
    if (s == STRETTO_OK) a->path = path;
    else mem_free(path);
    return s;
}

static stretto_status judge_attempt(struct reach *x, struct attempt *a, struct error *err)
{
    struct judge_options o = *x->from->judge;
    o.part = JUDGE_CHOICE;
    if (!x->judge) TRY(judge_open(&x->judge, x->from->original, &o, err));
    TRY(judge_measure(x->judge, a->path, x->g->speed > 0, &a->v, err));
    a->kl = judge_margin(x->judge, &a->v);
    return STRETTO_OK;
}

static double sure_kl(const struct attempt *a) { return a->kl.kl + a->kl.margin; }

static stretto_status try_plan(struct reach *x, int round, struct attempt *a, struct error *err)
{
    double kl, tensors;
    budget_expect(x->b, &kl, &tensors);
    TRY(write_attempt(x, round, a, err));
    TRY(squeeze_keep_done(x->s, a->path, &a->model, err));
    TRY(judge_attempt(x, a, err));
    a->rows = mem_alloc(x->s->n * sizeof *a->rows);
    if (!a->rows) return fail(err, STRETTO_E_NOMEM, "out of memory");
    memcpy(a->rows, x->s->rows, x->s->n * sizeof *a->rows);
    char speed[64] = "", size[24];
    if (x->g->speed > 0) snprintf(speed, sizeof speed, ", %.1f tokens a second", a->v.speed);
    log_say(&x->s->o.log, LOG_INFO, "attempt %d has %s and diverges by %.4f, in the proof by up to %.4f (expected "
            "%.4f)%s", round + 1, size_text(size, (double)a->v.file_bytes), a->kl.kl, sure_kl(a), kl, speed);
    return STRETTO_OK;
}

/* How far what was asked for is missed: the worst of the ratios; at most 1 where all is met. */
static double excess(const struct reach *x, const struct attempt *a)
{
    double most = (double)a->v.file_bytes / x->allowed;
    if (x->g->kl > 0) most = fmax(most, sure_kl(a) / x->g->kl);
    if (x->g->speed > 0) most = fmax(most, x->g->speed / a->v.speed);
    return most;
}

static bool within(const struct reach *x, const struct attempt *a) { return excess(x, a) <= 1; }

/* What is within the goal is better than what is not; then the smaller where the divergence was bounded, the
 * nearer to the original otherwise. */
static bool better(const struct reach *x, const struct attempt *a, const struct attempt *b)
{
    double one = excess(x, a), other = excess(x, b);
    if (one > 1 || other > 1) return one < other;
    if (x->g->kl > 0) return a->v.file_bytes < b->v.file_bytes;
    return a->kl.kl < b->kl.kl;
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

/* Types for the goal as it is seen now: the fewest bytes, and where those are not read fast enough, the least time. */
static void plan(struct reach *x)
{
    double kl, bytes;
    bool ok = true;
    if (x->g->kl > 0) ok = budget_kl(x->b, AIM * x->kl, &kl, &bytes, NULL) == STRETTO_OK;
    else if (isfinite(x->most)) budget_bytes(x->b, x->most - x->overhead, &kl, &bytes, NULL);
    else budget_time(x->b, x->seconds, NULL);
    if (x->g->speed > 0 && budget_seconds(x->b) > x->seconds) {
        if (x->g->kl > 0) budget_kl_in_time(x->b, AIM * x->kl, NULL);
        else budget_time(x->b, x->seconds, NULL);
    }
    budget_expect(x->b, &kl, &bytes);
    if (isfinite(x->most) && (!ok || file_size(x, bytes) > x->most))
        budget_bytes(x->b, x->most - x->overhead, &kl, &bytes, NULL);
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
static bool goes_on(const struct reach *x, const struct attempt *a, bool uniform)
{
    double kl = sure_kl(a), most = x->g->kl;
    bool fast = x->g->speed <= 0 || a->v.speed >= x->g->speed;
    if (uniform) return false;
    if (most > 0) return !(fast && kl <= most && kl >= NEAR_ENOUGH * most);
    return x->g->speed <= 0 || !fast;
}

/* What a token took beside the weights that have a choice is what their time leaves of it. */
static void learn(struct reach *x, const struct attempt *a)
{
    budget_learn(x->b, a->kl.kl);
    if (a->kl.kl > 0) x->kl = x->g->kl * a->kl.kl / sure_kl(a);
    if (x->g->speed <= 0 || a->v.speed <= 0) return;
    double rest = 1 / a->v.speed - budget_seconds(x->b);
    x->seconds = AIM_SPEED / x->g->speed - rest;
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

static stretto_status round_of(struct reach *x, int round, bool uniform, bool *more, struct error *err)
{
    struct attempt a = { .stays = round == 0 };
    stretto_status s = try_plan(x, round, &a, err);
    if (s == STRETTO_OK && round == 0) s = budget_ask(x->b, a.model, err);
    if (s != STRETTO_OK) {
        drop(&a);
        return s;
    }
    *more = goes_on(x, &a, uniform) || round == 0;
    learn(x, &a);
    keep_better(x, &a);
    return STRETTO_OK;
}

static stretto_status attempts(struct reach *x, struct error *err)
{
    uint64_t last = 0;
    bool more = true;
    for (int round = 1; round < ROUNDS && more; round++) {
        bool uniform = x->g->kl <= 0 && x->g->speed <= 0 && round == 2;
        if (uniform && !plan_uniform(x)) break;
        if (!uniform) plan(x);
        if (is_old(x, &last)) break;
        TRY(round_of(x, round, uniform, &more, err));
    }
    return STRETTO_OK;
}

/* ---- the whole ------------------------------------------------------------------------------ */

/* Bytes that the file may have, of all that is asked for. */
static stretto_status find_limit(struct reach *x, struct error *err)
{
    const struct reach_goal *g = x->g;
    char size[24];
    double kl, least;
    budget_bytes(x->b, 0, &kl, &least, NULL);
    least = file_size(x, least);
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
    x->allowed = x->most;
    return least <= x->most ? STRETTO_OK
        : fail(err, STRETTO_E_FULL, "the budget cannot be met: the smallest file that can be written has %s",
               size_text(size, least));
}

static stretto_status find_rates(struct reach *x, struct error *err)
{
    bool wanted[DT_COUNT];
    if (x->g->speed <= 0) return STRETTO_OK;
    budget_types(x->b, wanted);
    TRY(rates_measure(wanted, x->s->o.threads, x->rate, err));
    budget_rates(x->b, x->rate);
    return STRETTO_OK;
}

static stretto_status search(struct reach *x, struct exchange table[EXCHANGES], struct error *err)
{
    bool more;
    TRY(find_limit(x, err));
    TRY(find_rates(x, err));
    budget_middle(x->b);
    TRY(round_of(x, 0, false, &more, err));
    tell_exchange(x, table);
    return attempts(x, err);
}

static char *beside(const char *out, const char *ending)
{
    char *path = mem_alloc(strlen(out) + strlen(ending) + 1);
    if (path) sprintf(path, "%s%s", out, ending);
    return path;
}

/* The first attempt is what prices are asked in: it stays to the end. */
static void forget_file(const char *out, const char *ending)
{
    char *path = beside(out, ending);
    if (path) unlink(path);
    mem_free(path);
}

/* ---- a proof that was interrupted ----------------------------------------------------------- */

enum { NOTED_GOAL, NOTED_KL = 4, NOTED_MARGIN, NOTED_TABLE };

static stretto_status note_some(struct reach *x, size_t at, const double *v, size_t n, struct error *err)
{
    for (size_t i = 0; i < n; i++)
        if (v[i] > 0 && isfinite(v[i])) TRY(budget_note(x->b, at + i, v[i], err));
    return STRETTO_OK;
}

static stretto_status note_reached(struct reach *x, const struct exchange table[EXCHANGES], const struct margin *kl,
                                   struct error *err)
{
    const double goal[4] = { x->g->bytes, x->g->bits, x->g->kl, x->g->speed }, m[2] = { kl->kl, kl->margin };
    TRY(note_some(x, NOTED_GOAL, goal, 4, err));
    for (size_t i = 0; i < EXCHANGES; i++) {
        const double e[2] = { table[i].bytes, table[i].kl };
        TRY(note_some(x, NOTED_TABLE + 2 * i, e, 2, err));
    }
    return note_some(x, NOTED_KL, m, 2, err);
}

/* Whether OUT is what this budget made; its types become the plan. */
static bool take_types(struct reach *x)
{
    char key[24], words[200] = "";
    struct source *f = NULL;
    struct source_str text;
    snprintf(key, sizeof key, "(%016llx)", (unsigned long long)budget_key(x->b));
    bool own = source_open(&f, x->out, NULL) == STRETTO_OK && source_string(f, "stretto.squeeze.recipe", &text);
    if (own) snprintf(words, sizeof words, "%.*s", (int)(text.n < sizeof words ? text.n : sizeof words - 1), text.p);
    own = own && strstr(words, key);
    for (size_t i = 0; own && i < x->s->n; i++) {
        struct squeeze_row *r = &x->s->rows[i];
        const struct source_tensor *t = source_tensor_find(f, r->name);
        own = t && t->bytes == row_bytes_as(r, t->type) && (t->type == r->to || !(r->fixed || r->role == WEIGHT_NONE));
        if (own) r->to = t->type;
    }
    source_close(f);
    return own;
}

static bool is_reached(struct reach *x, struct exchange table[EXCHANGES], struct margin *kl)
{
    const double goal[4] = { x->g->bytes, x->g->bits, x->g->kl, x->g->speed };
    for (size_t i = 0; i < 4; i++)
        if (budget_noted(x->b, NOTED_GOAL + i) != goal[i]) return false;
    *kl = (struct margin){ budget_noted(x->b, NOTED_KL), budget_noted(x->b, NOTED_MARGIN) };
    for (size_t i = 0; i < EXCHANGES; i++)
        table[i] = (struct exchange){ budget_noted(x->b, NOTED_TABLE + 2 * i),
                                      budget_noted(x->b, NOTED_TABLE + 2 * i + 1) };
    return kl->kl > 0 && take_types(x);
}

void squeeze_reached(const char *out) { forget_file(out, ".attempt-notes"); }

bool squeeze_is_reached(const char *out)
{
    char *path = beside(out, ".attempt-notes");
    bool is = path && access(path, R_OK) == 0 && access(out, R_OK) == 0;
    mem_free(path);
    return is;
}

/* ---- all of it ------------------------------------------------------------------------------ */

static stretto_status take_best(struct reach *x, const struct exchange table[EXCHANGES], struct margin *kl,
                                struct error *err)
{
    struct attempt *a = &x->best;
    char speed[64] = "", size[24];
    double nearest = x->g->kl > 0 ? sure_kl(a) : a->kl.kl;
    if (x->g->speed > 0) snprintf(speed, sizeof speed, ", and writes %.1f tokens a second", a->v.speed);
    if (!within(x, a))
        return fail(err, STRETTO_E_FULL, "the budget cannot be met: the nearest there is has %s and diverges by "
                    "%.4f%s; ask for that", size_text(size, (double)a->v.file_bytes), nearest, speed);
    *kl = a->kl;
    TRY(note_reached(x, table, kl, err));
    if (rename(a->path, x->out) != 0) return fail(err, STRETTO_E_IO, "cannot name %s", x->out);
    memcpy(x->s->rows, a->rows, x->s->n * sizeof *a->rows);
    mem_free(a->path);
    a->path = NULL;
    return STRETTO_OK;
}

static stretto_status run(struct reach *x, struct exchange table[EXCHANGES], struct margin *kl, struct error *err)
{
    if (is_reached(x, table, kl)) {
        log_say(&x->s->o.log, LOG_INFO, "%s is whole already; its proof is missing", x->out);
        return STRETTO_OK;
    }
    x->refused = !x->s->o.force && access(x->out, F_OK) == 0;
    if (x->refused) return fail(err, STRETTO_E_ARG, "%s is there already; --force replaces it", x->out);
    TRY(budget_measure(x->b, err));
    TRY(search(x, table, err));
    return take_best(x, table, kl, err);
}

stretto_status squeeze_reach(struct squeeze *s, const struct reach_from *from, const struct reach_goal *g,
                             const char *out, struct exchange table[EXCHANGES], struct margin *kl, struct error *err)
{
    struct reach x = { .s = s, .from = from, .g = g, .out = out, .most = INFINITY, .allowed = INFINITY, .kl = g->kl };
    if (file_is_other(out))
        return fail(err, STRETTO_E_ARG, "%s is there already and is not a file", out);
    size_t room = s->o.report_room ? s->o.report_room : SQUEEZE_REPORT_ROOM;
    x.overhead = (double)source_bytes(s->m->source) - (double)squeeze_bytes(s, false) + (double)room + 512;
    char *keep = beside(out, ".attempt");
    if (!keep) return fail(err, STRETTO_E_NOMEM, "out of memory");
    stretto_status st = budget_open(&x.b, s, s->o.sequential ? NULL : keep, err);
    if (st == STRETTO_OK) st = run(&x, table, kl, err);
    if (st == STRETTO_OK) budget_tell(x.b);
    drop(&x.best);
    judge_close(x.judge);
    if (st == STRETTO_E_CANCEL) {
        error_clear(err);
        fail(err, st, "interrupted; the same command goes on with what it has measured and the file that it was "
             "writing");
    } else if (!x.refused) {
        budget_forget(x.b, st != STRETTO_OK);
        forget_file(out, ".attempt-0");
    }
    budget_close(x.b);
    mem_free(keep);
    return st;
}
