/* Blocks by search. A block's numbers are first brought to a largest magnitude of 1 to 2 by a power of two,
 * which changes no digit, so that no sum of squares over- or underflows; scales are rounded to float16 as
 * they will stand in the file, and codes are chosen after that, not before.
 *
 * In super-blocks the groups' own scales are fitted first; then they become small whole numbers under the
 * scale of the super-block. Three steps repeat: every group tries its neighbours, codes are rounded anew,
 * and both scales of the super-block are solved for by least squares. */
#include "tensor/encode.h"
#include "tensor/blocks.h"
#include "tensor/fit.h"
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { MOST = BLOCK_MOST, GROUPS = BLOCK_GROUPS, ROUNDS = 4 };

/* A block on its way. A group's scale is s[g] * d and its minimum -(m[g] * dmin), or d and dmin themselves. */
struct block {
    const struct dtype_info *type;
    struct grid grid;
    float x[MOST], w[MOST];
    float up, down;             /* powers of two: from here to the file's numbers, and back */
    size_t n_groups, size;
    struct group groups[GROUPS];
};

/* ---- in ------------------------------------------------------------------------------------ */

/* Groups of a super-block are weighed against each other, so one factor is for all of them; a group without
 * weights gets small ones, and has its codes. */
static void take_weights(struct block *b, const float *weight)
{
    float most = 0;
    for (size_t i = 0; i < b->type->block; i++) {
        b->w[i] = weight && isfinite(weight[i]) && weight[i] > 0 ? weight[i] : 0;
        if (b->w[i] > most) most = b->w[i];
    }
    for (size_t g = 0; g < b->n_groups; g++) {
        float *w = b->w + g * b->size, group_most = 0;
        for (size_t i = 0; i < b->size && most > 0; i++) {
            w[i] /= most;
            if (w[i] > group_most) group_most = w[i];
        }
        for (size_t i = 0; i < b->size && !(group_most > 0); i++) w[i] = most > 0 ? 0x1p-20f : 1;
    }
}

/* False: nothing in it that the format can tell from zero. */
static bool take(struct block *b, const float *in, const float *weight)
{
    const bool wide = b->type->scale == SCALE_E8M0;              /* goes as far as float32 does */
    const float far = wide ? b->type->most : 0x1p40f, near = wide ? 0x1p-129f : 0x1p-25f;
    size_t n = b->type->block;
    float most = 0;
    for (size_t i = 0; i < n; i++) {
        float v = isnan(in[i]) ? 0 : in[i];
        b->x[i] = v > far ? far : v < -far ? -far : v;
        if (fabsf(b->x[i]) > most) most = fabsf(b->x[i]);
    }
    if (most < near) return false;
    int e = ilogbf(most) > -126 ? ilogbf(most) : -126;
    b->up = ldexpf(1, e);
    b->down = ldexpf(1, -e);
    for (size_t i = 0; i < n; i++) b->x[i] *= b->down;
    take_weights(b, weight);
    for (size_t g = 0; g < b->n_groups; g++)
        b->groups[g] = group_make(b->x + g * b->size, b->w + g * b->size, b->size);
    return true;
}

/* A scale as the file has it, `steps` further from zero. */
static float scale_kept(const struct block *b, float scale, int steps)
{
    return block_kept(b->type, scale * b->up, steps) * b->down;
}

/* Where float16 has few digits left the nearest may be much smaller, or 0: then the next, under which small
 * whole numbers still reach what they must. */
static float scale_above(const struct block *b, float scale)
{
    float kept = scale_kept(b, scale, 0);
    bool few = fabsf(kept * b->up) < 0x1p-14f;
    return few && fabsf(kept) < fabsf(scale) ? scale_kept(b, scale, 1) : kept;
}

/* ---- out ----------------------------------------------------------------------------------- */

static float scale_in(const struct block *b, const struct block_scales *k, size_t g)
{
    return block_scale(b->type, k, g);
}

static float min_in(const struct block *b, const struct block_scales *k, size_t g) { return block_min(b->type, k, g); }

static void put_block(const struct block *b, const struct block_scales *k, unsigned char *to)
{
    const struct dtype_info *t = b->type;
    struct block_scales kept = *k;
    float v[MOST];
    kept.d *= b->up;
    kept.dmin *= b->up;
    block_put_scales(t, to, &kept);
    for (size_t i = 0; i < t->block; i += FIT_LANES) {
        float scale = scale_in(b, k, i / b->size), min = min_in(b, k, i / b->size);
        for (size_t l = i; l < i + FIT_LANES; l++) v[l] = scale != 0 ? (b->x[l] - min) / scale : 0;
        grid_nearest(&b->grid, v + i, v + i);
    }
    block_put_values(t, to, v);
}

/* ---- one scale for the block --------------------------------------------------------------- */

/* Rounding to float16 moves the dip, so its neighbours are tried. */
static void keep_scale(const struct block *b, const struct group *a, float scale, float min, float *least,
                       struct block_scales *k)
{
    for (int ulps = -1; ulps <= 1; ulps++) {
        float d = scale_kept(b, scale, ulps), error = fit_error(&b->grid, a, d, min);
        if (!(error < *least)) continue;
        *least = error;
        k->d = d;
        k->dmin = min;
    }
}

static void fit_block(const struct block *b, struct block_scales *k)
{
    const struct group *a = &b->groups[0];
    float least = INFINITY, scale, min;
    if (!block_has_min(b->type)) {
        /* Where the best is exact, as with equal numbers, rounding to float16 decides: the plain one is asked too. */
        float most = 0;
        for (size_t i = 0; i < b->size; i++)
            if (fabsf(b->x[i]) > fabsf(most)) most = b->x[i];
        keep_scale(b, a, fit_scale(&b->grid, a), 0, &least, k);
        keep_scale(b, a, most / b->grid.low, 0, &least, k);
        return;
    }
    fit_scale_min(&b->grid, a, false, &scale, &min);
    for (int ulps = -1; ulps <= 1; ulps++) {
        float m = scale_kept(b, min, ulps);
        struct sums s = fit_sums(&b->grid, a, scale, m);
        keep_scale(b, a, s.vv > 0 ? (s.xv - m * s.v) / s.vv : scale, m, &least, k);
    }
}

/* ---- scales of groups under those of a super-block ------------------------------------------ */

static int whole(float v, struct block_limits of)
{
    if (!(v > (float)of.low)) return of.low;
    return v < (float)of.high ? (int)lrintf(v) : of.high;
}

static float part(float of, float unit) { return unit != 0 ? of / unit : 0; }

/* The best of what a group can have near (s, m): each scale beside s with the minimum that suits its codes. */
static float choose_group(const struct block *b, struct block_scales *k, size_t g, struct block_limits in)
{
    const struct group *a = &b->groups[g];
    int s = k->s[g], m = k->m[g];
    bool with_min = block_has_min(b->type);
    float least = INFINITY;
    for (int near = s - 1; near <= s + 1; near++) {
        if (near < in.low || near > in.high) continue;
        float scale = k->d * (float)near;
        int tried[2] = { m, m };
        if (with_min) {
            struct sums sums = fit_sums(&b->grid, a, scale, -(k->dmin * (float)m));
            tried[1] = whole(part((scale * sums.v - a->sum_x) / a->sum_w, k->dmin), in);
        }
        for (int i = 0; i < 1 + (tried[1] != m); i++) {
            float error = fit_error(&b->grid, a, scale, -(k->dmin * (float)tried[i]));
            if (!(error < least)) continue;
            least = error;
            k->s[g] = near;
            k->m[g] = tried[i];
        }
    }
    return least;
}

/* Both scales of the super-block for the codes at hand: two normal equations. */
static void solve_scales(const struct block *b, struct block_scales *k)
{
    double ss = 0, sm = 0, mm = 0, xs = 0, xm = 0;
    for (size_t g = 0; g < b->n_groups; g++) {
        const struct group *a = &b->groups[g];
        struct sums v = fit_sums(&b->grid, a, scale_in(b, k, g), min_in(b, k, g));
        double s = k->s[g], m = -k->m[g];
        ss += s * s * (double)v.vv;
        sm += s * m * (double)v.v;
        mm += m * m * (double)a->sum_w;
        xs += s * (double)v.xv;
        xm += m * (double)a->sum_x;
    }
    double of = ss * mm - sm * sm;
    if (block_has_min(b->type) && of > 1e-9 * ss * mm) {
        double d = (mm * xs - sm * xm) / of, dmin = (ss * xm - sm * xs) / of;
        if (d >= 0 && dmin >= 0) {
            k->d = scale_kept(b, (float)d, 0);
            k->dmin = scale_kept(b, (float)dmin, 0);
            return;
        }
    }
    if (ss == 0 && mm > 0 && xm > 0) k->dmin = scale_kept(b, (float)(xm / mm), 0);
    if (ss > 0) k->d = scale_kept(b, (float)((xs - (double)k->dmin * sm) / ss), 0);
}

static void refine(const struct block *b, struct block_scales *k, float *least, struct block_scales *best)
{
    struct block_limits in = block_limits(b->type);
    for (int round = 0; round < ROUNDS; round++) {
        float error = 0, d = k->d, dmin = k->dmin;
        for (size_t g = 0; g < b->n_groups; g++) error += choose_group(b, k, g, in);
        if (error < *least) {
            *least = error;
            *best = *k;
        }
        solve_scales(b, k);
        if (k->d == d && k->dmin == dmin) break;
    }
}

static void fit_super(const struct block *b, struct block_scales *best)
{
    struct block_limits in = block_limits(b->type);
    float scale[GROUPS], min[GROUPS] = { 0 }, most = 0, deepest = 0, least = INFINITY;
    for (size_t g = 0; g < b->n_groups; g++) {
        const struct group *a = &b->groups[g];
        if (block_has_min(b->type)) fit_scale_min(&b->grid, a, true, &scale[g], &min[g]);
        else scale[g] = fit_scale(&b->grid, a);
        if (fabsf(scale[g]) > fabsf(most)) most = scale[g];
        if (min[g] < deepest) deepest = min[g];
    }
    struct block_scales k = { .d = scale_above(b, most / (float)(in.low ? in.low : in.high)),
                        .dmin = scale_above(b, -deepest / (float)in.high) };
    for (size_t g = 0; g < b->n_groups; g++) {
        k.s[g] = whole(part(scale[g], k.d), in);
        k.m[g] = whole(part(-min[g], k.dmin), in);
    }
    *best = k;
    refine(b, &k, &least, best);
}

/* ---- any type ------------------------------------------------------------------------------ */

static double error_of(const struct block *b, const float *in, const void *block)
{
    float back[MOST];
    double sum = 0;
    b->type->decode(block, back, b->type->block);
    for (size_t i = 0; i < b->type->block; i++) {
        double e = (double)back[i] - (double)in[i];
        sum += (double)b->w[i] * (e * e);
    }
    return sum;
}

static void not_worse_than_plain(const struct block *b, void *block)
{
    unsigned char plain[MOST];
    float in[MOST];
    for (size_t i = 0; i < b->type->block; i++) in[i] = b->x[i] * b->up;
    b->type->encode(in, plain, b->type->block);
    if (error_of(b, in, plain) < error_of(b, in, block)) memcpy(block, plain, b->type->bytes);
}

void encode_search(enum dtype type, const float *in, const float *weight, void *out, size_t n)
{
    const struct dtype_info *t = &dtype_table[type];
    struct block b = { .type = t, .grid = grid_of(t) };
    b.size = block_group(t);
    b.n_groups = t->block / b.size;
    unsigned char *to = out;
    for (; n; n -= t->block, in += t->block, to += t->bytes) {
        struct block_scales k = { 0 };
        bool some = take(&b, in, weight);
        if (!some) memset(b.x, 0, sizeof b.x);
        else if (t->sub == SUB_NONE) fit_block(&b, &k);
        else fit_super(&b, &k);
        put_block(&b, &k, to);
        if (some && t->encode) not_worse_than_plain(&b, to);
        if (weight) weight += t->block;
    }
}
