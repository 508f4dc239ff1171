/* The choices of a part that can be right for some price of cost lie on the lower convex hull of (cost, damage).
 * Between neighbours on a hull damage falls at a rate; taking all steps of all parts in falling order of rate, as
 * far as the budget goes, is what the Lagrange multiplier finds by bisection, without a tolerance. A step that does
 * not fit ends its part's way; the others go on with what is left, then single choices off the hulls are tried.
 * A bound of damage is the same with the two swapped. Rate-distortion allocation: Shoham and Gersho 1988. */
#include "compress/allocate.h"
#include "base/memory.h"
#include <stdbool.h>
#include <stdlib.h>

struct step { double rate; size_t part, to; };

struct work {
    const struct part *parts;
    size_t n;
    bool swapped;
    size_t *pick;
    struct step *steps;
    size_t n_steps;
};

static double cost(const struct work *w, size_t part, size_t k)
{
    const struct choice *c = &w->parts[part].choice[k];
    return w->swapped ? c->damage : c->cost;
}

static double damage(const struct work *w, size_t part, size_t k)
{
    const struct choice *c = &w->parts[part].choice[k];
    return w->swapped ? c->cost : c->damage;
}

/* The choice of least cost behind `from` on the hull with the steepest fall, or n. */
static size_t next_on_hull(const struct work *w, size_t part, size_t from, double *rate)
{
    size_t best = w->parts[part].n;
    *rate = 0;
    for (size_t k = 0; k < w->parts[part].n; k++) {
        double more = cost(w, part, k) - cost(w, part, from), less = damage(w, part, from) - damage(w, part, k);
        if (!(more > 0) || !(less > 0)) continue;
        double r = less / more;
        if (r > *rate || (r == *rate && cost(w, part, k) > cost(w, part, best))) {
            *rate = r;
            best = k;
        }
    }
    return best;
}

static size_t cheapest(const struct work *w, size_t part)
{
    size_t best = 0;
    for (size_t k = 1; k < w->parts[part].n; k++) {
        double d = cost(w, part, k) - cost(w, part, best);
        if (d < 0 || (d == 0 && damage(w, part, k) < damage(w, part, best))) best = k;
    }
    return best;
}

static int steepest_first(const void *a, const void *b)
{
    const struct step *x = a, *y = b;
    if (x->rate != y->rate) return x->rate > y->rate ? -1 : 1;
    return x->part < y->part ? -1 : x->part > y->part;
}

static void list_steps(struct work *w)
{
    for (size_t i = 0; i < w->n; i++) {
        double rate;
        for (size_t at = w->pick[i]; (at = next_on_hull(w, i, at, &rate)) < w->parts[i].n;)
            w->steps[w->n_steps++] = (struct step){ rate, i, at };
    }
    qsort(w->steps, w->n_steps, sizeof *w->steps, steepest_first);
}

/* Any one choice that makes it better and fits, the best first, until there is none. */
static void fill(struct work *w, double left)
{
    for (;;) {
        double most = 0;
        size_t part = w->n, to = 0;
        for (size_t i = 0; i < w->n; i++)
            for (size_t k = 0; k < w->parts[i].n; k++) {
                double more = cost(w, i, k) - cost(w, i, w->pick[i]);
                double less = damage(w, i, w->pick[i]) - damage(w, i, k);
                if (more <= left && less > most) {
                    most = less;
                    part = i;
                    to = k;
                }
            }
        if (part == w->n) return;
        left -= cost(w, part, to) - cost(w, part, w->pick[part]);
        w->pick[part] = to;
    }
}

static stretto_status solve(struct work *w, double budget, struct error *err)
{
    double left = budget;
    for (size_t i = 0; i < w->n; i++) {
        w->pick[i] = cheapest(w, i);
        left -= cost(w, i, w->pick[i]);
    }
    if (left < 0) {
        if (w->swapped)
            return fail(err, STRETTO_E_FULL, "the best there is spoils %.4g, more than %.4g", budget - left, budget);
        return fail(err, STRETTO_E_FULL, "the smallest there is takes %.4g, more than %.4g", budget - left, budget);
    }
    list_steps(w);
    for (size_t s = 0; s < w->n_steps; s++) {
        size_t i = w->steps[s].part, to = w->steps[s].to;
        double more = cost(w, i, to) - cost(w, i, w->pick[i]);
        if (more > left) continue;
        left -= more;
        w->pick[i] = to;
    }
    fill(w, left);
    return STRETTO_OK;
}

static stretto_status allocate(const struct part *parts, size_t n, bool swapped, double budget, size_t *pick,
                               struct error *err)
{
    struct work w = { .parts = parts, .n = n, .swapped = swapped, .pick = pick };
    size_t choices = 0;
    for (size_t i = 0; i < n; i++) {
        if (!parts[i].n) return fail(err, STRETTO_E_ARG, "a part without a choice");
        choices += parts[i].n;
    }
    w.steps = mem_alloc((choices + 1) * sizeof *w.steps);
    if (!w.steps) return fail(err, STRETTO_E_NOMEM, "out of memory");
    stretto_status s = solve(&w, budget, err);
    mem_free(w.steps);
    return s;
}

stretto_status allocate_budget(const struct part *parts, size_t n, double budget, size_t *pick, struct error *err)
{
    return allocate(parts, n, false, budget, pick, err);
}

stretto_status allocate_bound(const struct part *parts, size_t n, double most, size_t *pick, struct error *err)
{
    return allocate(parts, n, true, most, pick, err);
}
