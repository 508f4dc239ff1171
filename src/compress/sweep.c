/* Descent under the whole metric: with e the errors of a row and y = e H, a change of e by -d in some columns changes
 * e H e^T by d H d^T - 2 d y. So one code, one small scale or the scales of a block have a best place with all
 * else fixed, and take it. A block's turn is the same for all rows, so what it changes elsewhere is one product. */
#include "compress/feedback_int.h"
#include <math.h>
#include <string.h>

enum { PASSES = 3 };            /* over the codes of a block, at most */

/* A block whose turn it is: h its own part of the metric. */
struct turn {
    const struct codec *c;
    const float *h;             /* [unit] rows, ld apart                                             */
    size_t ld;
    struct block_scales k;
    float v[BLOCK_MOST];        /* values of the grid                                                */
    double y[BLOCK_MOST], moved[BLOCK_MOST];  /* slope; e so far less e at first                     */
};

static void move(struct turn *b, size_t from, size_t n, const double *by)
{
    for (size_t i = 0; i < n; i++) {
        const float *h = b->h + (from + i) * b->ld;
        b->moved[from + i] -= by[i];
        for (size_t j = 0; j < b->c->unit; j++) b->y[j] -= by[i] * (double)h[j];
    }
}

/* z H z^T of some columns, and z y. */
static void measure(const struct turn *b, size_t from, size_t n, const double *z, double *zz, double *zy)
{
    double hz[BLOCK_MOST] = { 0 };
    *zz = *zy = 0;
    for (size_t i = 0; i < n; i++) {
        const float *h = b->h + (from + i) * b->ld + from;
        for (size_t j = 0; j < n; j++) hz[j] += z[i] * (double)h[j];
    }
    for (size_t i = 0; i < n; i++) {
        *zz += z[i] * hz[i];
        *zy += z[i] * b->y[from + i];
    }
}

/* ---- codes ---------------------------------------------------------------------------------- */

static bool move_codes(struct turn *b)
{
    bool some = false;
    for (size_t i = 0; i < b->c->unit; i++) {
        double scale = (double)block_scale(b->c->t, &b->k, i / b->c->group), hh = (double)b->h[i * (b->ld + 1)];
        if (scale == 0 || !(hh > 0)) continue;
        double to = codec_nearest(b->c, (double)b->v[i] + b->y[i] / hh / scale), by = (to - (double)b->v[i]) * scale;
        if (!(by * (by * hh - 2 * b->y[i]) < 0)) continue;
        b->v[i] = (float)to;
        move(b, i, 1, &by);
        some = true;
    }
    return some;
}

/* ---- scales of groups, whole numbers -------------------------------------------------------- */

static void move_sub(struct turn *b, size_t g, double unit, bool min, int *sub)
{
    double z[BLOCK_MOST], zz, zy;
    size_t n = b->c->group;
    for (size_t i = 0; i < n; i++) z[i] = min ? -unit : unit * (double)b->v[g * n + i];
    measure(b, g * n, n, z, &zz, &zy);
    if (!(zz > 0)) return;
    double to = *sub + rint(zy / zz);
    to = fmin(fmax(to, b->c->limits.low), b->c->limits.high);
    double by = to - *sub;
    if (!(by * (by * zz - 2 * zy) < 0)) return;
    for (size_t i = 0; i < n; i++) z[i] *= by;
    move(b, g * n, n, z);
    *sub = (int)to;
}

/* ---- scales of the block -------------------------------------------------------------------- */

/* What one more of d, or of dmin, adds to each element. */
static void along(const struct turn *b, bool min, double *z)
{
    for (size_t i = 0; i < b->c->unit; i++) {
        size_t g = i / b->c->group;
        double one = !b->c->super ? 1 : min ? -b->k.m[g] : b->k.s[g];
        z[i] = min ? one : one * (double)b->v[i];
    }
}

static void move_scale(struct turn *b, bool min)
{
    double z[BLOCK_MOST], zz, zy;
    float *of = min ? &b->k.dmin : &b->k.d;
    along(b, min, z);
    measure(b, 0, b->c->unit, z, &zz, &zy);
    if (!(zz > 0)) return;
    float to = block_kept(b->c->t, (float)((double)*of + zy / zz), 0);
    double by = (double)to - (double)*of;
    if (!(by * (by * zz - 2 * zy) < 0) || (b->c->super && b->c->min && to < 0)) return;
    for (size_t i = 0; i < b->c->unit; i++) z[i] *= by;
    move(b, 0, b->c->unit, z);
    *of = to;
}

/* ---- a block, a row ------------------------------------------------------------------------- */

static void turn_of(struct turn *b)
{
    const struct codec *c = b->c;
    for (int i = 0; i < PASSES && move_codes(b); i++) {}
    for (size_t g = 0; g < c->groups && c->super; g++) {
        move_sub(b, g, (double)b->k.d, false, &b->k.s[g]);
        if (c->min) move_sub(b, g, (double)b->k.dmin, true, &b->k.m[g]);
    }
    if (c->min) move_scale(b, true);
    move_scale(b, false);
    for (int i = 0; i < PASSES && move_codes(b); i++) {}
}

static void sweep_row(struct slab *s, size_t r)
{
    const struct codec *c = s->c;
    unsigned char *block = s->blocks + (r * s->n + s->at) / c->unit * c->t->bytes;
    struct turn b = { .c = c, .h = s->m->h + s->at * (s->n + 1), .ld = s->n };
    block_get_scales(c->t, block, &b.k);
    block_get_values(c->t, block, b.v);
    for (size_t i = 0; i < c->unit; i++) b.y[i] = (double)s->slope[r * s->n + s->at + i];
    turn_of(&b);
    block_put_scales(c->t, block, &b.k);
    block_put_values(c->t, block, b.v);
    for (size_t i = 0; i < c->unit; i++) s->delta[i * s->rows + r] = (float)b.moved[i];
}

void slab_sweep(struct slab *s, unsigned sweeps)
{
    for (unsigned i = 0; i < sweeps; i++)
        for (s->at = 0; s->at < s->n; s->at += s->c->unit) {
            slab_each(s, sweep_row);
            workers_outer(s->w, s->delta, s->rows, s->m->h + s->at * s->n, s->n, s->rows, s->n, s->c->unit, 1,
                          s->slope, s->n, 0);
        }
}
