/* Codes with feedback (GPTQ, arXiv 2210.17323): columns get codes one after the other, and what each loses the
 * columns behind it make good. A unit of columns shares a block of scales, so they are chosen when the unit's turn
 * comes, for the weights as they then are, by the very sum that the whole method makes small: the squares of
 * e U^-1 add up to e H e^T, and what a unit adds is known once it has codes. So several scales are tried, each
 * with codes of its own. */
#include "compress/feedback_int.h"
#include "tensor/encode.h"
#include <math.h>
#include <string.h>

enum { LANES = 16, MIN_GROUP = 32 };       /* scales at once; columns of a group with a minimum, at most */

/* A run of columns whose turn it is: their weights, and the factor of these columns. */
struct run { const double *x, *u; size_t n, ld; };

struct pick { double scale, min, loss; };

/* y U = x */
static void unfold(const struct run *w, const double *x, double *y)
{
    double t[BLOCK_MOST];
    memcpy(t, x, w->n * sizeof *t);
    for (size_t j = 0; j < w->n; j++) {
        const double *u = w->u + j * w->ld;
        y[j] = t[j] / u[j];
        for (size_t k = j + 1; k < w->n; k++) t[k] -= y[j] * u[k];
    }
}

static double codes(const struct codec *c, const struct run *w, double scale, double min, double *values, double *e)
{
    double t[BLOCK_MOST], loss = 0;
    memcpy(t, w->x, w->n * sizeof *t);
    for (size_t j = 0; j < w->n; j++) {
        const double *u = w->u + j * w->ld;
        values[j] = codec_nearest(c, scale != 0 ? (t[j] - min) / scale : 0);
        e[j] = (t[j] - (scale * values[j] + min)) / u[j];
        loss += e[j] * e[j];
        for (size_t k = j + 1; k < w->n; k++) t[k] -= e[j] * u[k];
    }
    return loss;
}

/* ---- many scales at once -------------------------------------------------------------------- */

struct tries { float scale[LANES], min[LANES], loss[LANES]; };

static void try_codes(const struct codec *c, const struct run *w, const float *local, struct tries *y)
{
    float t[BLOCK_MOST][LANES], inverse[LANES], v[LANES], e[LANES];
    for (int l = 0; l < LANES; l++) {
        inverse[l] = y->scale[l] != 0 ? 1 / y->scale[l] : 0;
        y->loss[l] = 0;
    }
    for (size_t j = 0; j < w->n; j++)
        for (int l = 0; l < LANES; l++) t[j][l] = (float)w->x[j];
    for (size_t j = 0; j < w->n; j++, local += w->n) {
        for (int l = 0; l < LANES; l++) v[l] = (t[j][l] - y->min[l]) * inverse[l];
        for (int l = 0; l < LANES; l += FIT_LANES) grid_nearest(&c->grid, v + l, v + l);
        for (int l = 0; l < LANES; l++) {
            e[l] = (t[j][l] - (y->scale[l] * v[l] + y->min[l])) * local[j];
            y->loss[l] += e[l] * e[l];
        }
        for (size_t k = j + 1; k < w->n; k++)
            for (int l = 0; l < LANES; l++) t[k][l] -= e[l] * local[k];
    }
}

static int best_of(const struct tries *y)
{
    int best = 0;
    for (int l = 1; l < LANES; l++)
        if (y->loss[l] < y->loss[best]) best = l;
    return best;
}

static void pick_best(const struct codec *c, const struct run *w, const float *local, struct tries *y, struct pick *p)
{
    try_codes(c, w, local, y);
    int l = best_of(y);
    if (!((double)y->loss[l] < p->loss)) return;
    *p = (struct pick){ (double)y->scale[l], (double)y->min[l], (double)y->loss[l] };
}

/* ---- blocks of one group -------------------------------------------------------------------- */

static double dot(const double *a, const double *b, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++) s += a[i] * b[i];
    return s;
}

/* The factors of a and b by which they are nearest to x; b NULL: there is none. */
static bool solve(const struct run *w, const double *a, const double *b, double *by_a, double *by_b)
{
    double y[BLOCK_MOST], z[BLOCK_MOST], o[BLOCK_MOST];
    unfold(w, w->x, y);
    unfold(w, a, z);
    double zz = dot(z, z, w->n), yz = dot(y, z, w->n);
    if (!(zz > 0)) return false;
    *by_a = yz / zz;
    if (!b) return true;
    unfold(w, b, o);
    double oo = dot(o, o, w->n), oz = dot(o, z, w->n), yo = dot(y, o, w->n), of = zz * oo - oz * oz;
    if (!(of > 1e-9 * zz * oo)) return false;
    *by_a = (oo * yz - oz * yo) / of;
    *by_b = (zz * yo - oz * yz) / of;
    return true;
}

/* Where to begin: as if columns could not make good what others lose. `other`: the largest number as the
 * outermost code of the other side. */
static bool begin(const struct codec *c, const struct run *w, const float *local, float *scale, float *min,
                  float *other)
{
    float x[BLOCK_MOST], weight[BLOCK_MOST], most = 0, heaviest = 0;
    for (size_t i = 0; i < w->n; i++) {
        x[i] = (float)w->x[i];
        weight[i] = local[i * w->n + i] * local[i * w->n + i];
        if (fabsf(x[i]) > fabsf(most)) most = x[i];
        if (weight[i] > heaviest) heaviest = weight[i];
    }
    if (!(fabsf(most) > 0x1p-25f) || !(heaviest > 0)) return false;
    for (size_t i = 0; i < w->n; i++) {
        x[i] /= fabsf(most);
        weight[i] /= heaviest;
    }
    struct group g = group_make(x, weight, w->n);
    *min = 0;
    if (c->min) fit_scale_min(&c->grid, &g, false, scale, min);
    else *scale = fit_scale(&c->grid, &g);
    *scale *= fabsf(most);
    *min *= fabsf(most);
    *other = most / ((*scale > 0) == (most > 0) ? c->grid.low : c->grid.high);
    return true;
}

/* Narrower than what fits without feedback, mostly: a number that is cut is made good, a wide step is not. */
static void try_wide(const struct codec *c, float scale, float min, float other, struct tries *y)
{
    static const float by[8] = { 0.78f, 0.84f, 0.89f, 0.94f, 0.975f, 1.01f, 1.06f, 1.13f };
    for (int l = 0; l < 8; l++) {
        float narrower = (1 - by[l]) * scale * c->grid.high / 2;
        y->scale[l] = block_kept(c->t, scale * by[l], 0);
        y->min[l] = block_kept(c->t, min, 0);
        y->scale[l + 8] = c->min ? y->scale[l] : block_kept(c->t, other * (by[l] + 0.05f), 0);
        y->min[l + 8] = c->min ? block_kept(c->t, min + narrower, 0) : y->min[l];
    }
}

/* Around the best so far, and around what suits its codes. */
static void try_near(const struct codec *c, const struct pick *p, double scale, double min, struct tries *y)
{
    for (int l = 0; l < 8; l++) {
        if (c->min) {
            y->scale[l] = block_kept(c->t, (float)(p->scale * (1 + (l / 3 - 1) * 0.03)), 0);
            y->min[l] = block_kept(c->t, (float)(p->min + (l % 3 - 1) * 0.25 * p->scale), 0);
            y->scale[l + 8] = block_kept(c->t, (float)scale, l % 3 - 1);
            y->min[l + 8] = block_kept(c->t, (float)(min + (l / 3 - 1) * 0.15 * scale), 0);
        } else {
            y->scale[l] = block_kept(c->t, (float)(p->scale * (1 + (l - 3.5) * 0.012)), 0);
            y->scale[l + 8] = block_kept(c->t, (float)scale, l - 4);
            y->min[l] = y->min[l + 8] = 0;
        }
    }
}

static void fit_group(const struct slab *s, const struct run *w, struct pick *p)
{
    static const double ones[MIN_GROUP] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                            1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    const struct codec *c = s->c;
    const float *local = s->local + s->at * c->group;
    float scale, min, other;
    struct tries y;
    *p = (struct pick){ 0, 0, INFINITY };
    if (!begin(c, w, local, &scale, &min, &other)) return;
    try_wide(c, scale, min, other, &y);
    pick_best(c, w, local, &y, p);
    for (unsigned i = 0; i < s->m->o.refits; i++) {
        double values[BLOCK_MOST], e[BLOCK_MOST], a = p->scale, b = p->min, before = p->loss;
        codes(c, w, p->scale, p->min, values, e);
        if (!solve(w, values, c->min ? ones : NULL, &a, &b)) break;
        try_near(c, p, a, b, &y);
        pick_best(c, w, local, &y, p);
        if (!(p->loss < before)) break;
    }
}

/* ---- super-blocks --------------------------------------------------------------------------- */

/* A unit on its way: x its weights in order, place[i] where its i-th column stands in the block. */
struct unit { double x[BLOCK_MOST], values[BLOCK_MOST], e[BLOCK_MOST], loss; size_t place[BLOCK_MOST]; };

static void begin_super(const struct slab *s, const struct unit *u, struct block_scales *k)
{
    const struct codec *c = s->c;
    float in[BLOCK_MOST], weight[BLOCK_MOST];
    unsigned char block[2 * BLOCK_MOST];
    for (size_t i = 0; i < c->unit; i++) {
        double d = s->m->u[(s->at + i) * (s->n + 1)];
        in[u->place[i]] = (float)u->x[i];
        weight[u->place[i]] = (float)(1 / (d * d));
    }
    encode_search(c->type, in, weight, block, c->unit);
    block_get_scales(c->t, block, k);
}

static int within(int v, struct block_limits l) { return v < l.low ? l.low : v > l.high ? l.high : v; }

/* A group takes the best of the sub-scales near those it has. */
static void choose_sub(const struct slab *s, const struct run *w, size_t at, size_t g, struct block_scales *k)
{
    const struct codec *c = s->c;
    struct tries y;
    int scale[LANES], min[LANES];
    for (int l = 0; l < LANES; l++) {
        scale[l] = within(k->s[g] + (c->min ? l % 4 - 2 : l - 8), c->limits);
        min[l] = c->min ? within(k->m[g] + l / 4 - 2, c->limits) : 0;
        struct block_scales one = { k->d, k->dmin, { scale[l] }, { min[l] } };
        y.scale[l] = block_scale(c->t, &one, 0);
        y.min[l] = c->min ? block_min(c->t, &one, 0) : 0;
    }
    try_codes(c, w, s->local + at * c->group, &y);
    int best = best_of(&y);
    k->s[g] = scale[best];
    k->m[g] = min[best];
}

/* All groups of the unit get sub-scales and codes. */
static void pass(const struct slab *s, const struct unit *from, struct block_scales *k, struct unit *to)
{
    const struct codec *c = s->c;
    *to = *from;
    to->loss = 0;
    for (size_t at = 0; at < c->unit; at += c->group) {
        const double *u = s->m->u + (s->at + at) * s->n + s->at;
        struct run w = { to->x + at, u + at, c->group, s->n };
        size_t g = to->place[at] / c->group;
        choose_sub(s, &w, s->at + at, g, k);
        double scale = (double)block_scale(c->t, k, g), min = c->min ? (double)block_min(c->t, k, g) : 0;
        to->loss += codes(c, &w, scale, min, to->values + at, to->e + at);
        for (size_t j = at; j < at + c->group; j++, u += s->n)
            for (size_t i = at + c->group; i < c->unit; i++) to->x[i] -= to->e[j] * u[i];
    }
}

static void solve_super(const struct slab *s, const struct unit *from, const double *values, struct block_scales *k)
{
    const struct codec *c = s->c;
    double a[BLOCK_MOST], b[BLOCK_MOST], d = 0, dmin = 0;
    struct run w = { from->x, s->m->u + s->at * (s->n + 1), c->unit, s->n };
    for (size_t i = 0; i < c->unit; i++) {
        size_t g = from->place[i] / c->group;
        a[i] = k->s[g] * values[i];
        b[i] = -k->m[g];
    }
    if (!solve(&w, a, c->min ? b : NULL, &d, &dmin) || (c->min && (d < 0 || dmin < 0))) return;
    k->d = block_kept(c->t, (float)d, 0);
    k->dmin = block_kept(c->t, (float)dmin, 0);
}

static void fit_super(const struct slab *s, struct unit *u, struct block_scales *k)
{
    struct unit best = { .loss = INFINITY }, now;
    struct block_scales next;
    begin_super(s, u, &next);
    for (unsigned i = 0; i <= s->m->o.refits; i++) {
        pass(s, u, &next, &now);
        if (now.loss < best.loss || i == 0) {
            best = now;
            *k = next;
        }
        solve_super(s, u, now.values, &next);
    }
    *u = best;
}

/* ---- all units ------------------------------------------------------------------------------ */

static void unit_row(struct slab *s, size_t r)
{
    const struct codec *c = s->c;
    const uint32_t *order = s->m->order + s->at;
    unsigned char *block = s->blocks + (r * s->n + order[0] / c->unit * c->unit) / c->unit * c->t->bytes;
    struct block_scales k = { 0 };
    struct unit u;
    memcpy(u.x, s->work + r * s->n + s->at, c->unit * sizeof *u.x);
    for (size_t i = 0; i < c->unit; i++) u.place[i] = order[i] % c->unit;
    if (c->super) fit_super(s, &u, &k);
    else {
        struct run w = { u.x, s->m->u + s->at * (s->n + 1), c->unit, s->n };
        struct pick p;
        fit_group(s, &w, &p);
        k.d = (float)p.scale;
        k.dmin = (float)p.min;
        codes(c, &w, p.scale, p.min, u.values, u.e);
    }
    float values[BLOCK_MOST];
    for (size_t i = 0; i < c->unit; i++) {
        values[u.place[i]] = (float)u.values[i];
        s->errors[i * s->rows + r] = u.e[i];
    }
    block_put_scales(c->t, block, &k);
    block_put_values(c->t, block, values);
}

static void order_row(struct slab *s, size_t r)
{
    for (size_t i = 0; i < s->n; i++) s->work[r * s->n + i] = (double)s->weight[r * s->n + s->m->order[i]];
}

void slab_follow(struct slab *s)
{
    slab_each(s, order_row);
    for (s->at = 0; s->at < s->n; s->at += s->c->unit) {
        slab_each(s, unit_row);
        size_t next = s->at + s->c->unit;
        if (next == s->n) continue;
        workers_outer_d(s->w, s->errors, s->rows, s->m->u + s->at * s->n + next, s->n, s->rows, s->n - next, s->c->unit,
                        -1, s->work + next, s->n, 0);
    }
}
