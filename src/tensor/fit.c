/* Least squares in turns: a scale gives codes by rounding, codes give a scale by least squares, and neither
 * step raises the error. That ends in the nearest dip, so it starts from many scales around the one that
 * makes the largest number the outermost code: on either side of the grid, because the sides may differ.
 * Of each start only the sums are taken; the best is followed to its dip. */
#include "tensor/fit.h"
#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum { STARTS = 5, TURNS = 6 };     /* starts on each side of the outermost code; turns of the best */

struct grid grid_of(const struct dtype_info *t)
{
    unsigned p = t->planes;
    int codes = p & CODE_BYTES ? 256 : 1 << ((p & CODE_NIB ? 4 : 0) + (p & CODE_TWO ? 2 : 0) + (p & CODE_ONE ? 1 : 0));
    if (t->codes) codes = t->codes;
    struct grid g = { .values = t->values, .low = (float)-t->zero, .high = (float)(codes - 1 - t->zero) };
    if (p & CODE_BYTES) g.low = -127, g.high = 127;              /* -128 is never written */
    if (!t->values) return g;
    int ascending[16];
    for (int i = 0; i < 16; i++) {
        int k = i;
        for (; k > 0 && ascending[k - 1] > t->values[i]; k--) ascending[k] = ascending[k - 1];
        ascending[k] = t->values[i];
    }
    g.low = (float)ascending[0];
    g.high = (float)ascending[15];
    for (int i = 0, k = 0; i < 512; i++) {
        while (k < 15 && i + 2 * ascending[0] >= ascending[k] + ascending[k + 1]) k++;
        g.near[i] = (float)ascending[k];
    }
    return g;
}

/* Adding and taking away 1.5 * 2^23 rounds to a whole number: what is left of its 24 bits is no fraction. */
INLINE void nearest(const struct grid *g, bool table, const float *restrict in, float *restrict values)
{
    float low = g->low, high = g->high;
    for (int l = 0; l < FIT_LANES; l++) {
        float v = in[l] > low ? in[l] : low;
        v = v < high ? v : high;
        values[l] = table ? (v - low) * 2 : v + 12582912.0f - 12582912.0f;
    }
    for (int l = 0; l < FIT_LANES && table; l++) values[l] = g->near[(int)values[l]];
}

void grid_nearest(const struct grid *g, const float *in, float *values)
{
    float v[FIT_LANES];
    nearest(g, g->values, in, v);
    memcpy(values, v, sizeof v);
}

static float sum_of(const float *v)
{
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

struct group group_make(const float *x, const float *w, size_t n)
{
    float sx[FIT_LANES] = { 0 }, sw[FIT_LANES] = { 0 };
    for (size_t i = 0; i < n; i += FIT_LANES)
        for (int l = 0; l < FIT_LANES; l++) {
            sx[l] += w[i + (size_t)l] * x[i + (size_t)l];
            sw[l] += w[i + (size_t)l];
        }
    return (struct group){ x, w, n, sum_of(sx), sum_of(sw) };
}

static float inverse_of(float scale) { return scale != 0 ? 1 / scale : 0; }

/* By the inverse, which is what starts are. Without a minimum nobody asks for v. */
INLINE struct sums sums_in(const struct grid *g, const struct group *a, float inverse, float min, bool with_v,
                           bool table)
{
    float vv[FIT_LANES] = { 0 }, v[FIT_LANES] = { 0 }, xv[FIT_LANES] = { 0 }, t[FIT_LANES], u[FIT_LANES];
    for (size_t i = 0; i < a->n; i += FIT_LANES) {
        const float *x = a->x + i, *w = a->w + i;
        for (int l = 0; l < FIT_LANES; l++) t[l] = (x[l] - min) * inverse;
        nearest(g, table, t, u);
        for (int l = 0; l < FIT_LANES; l++) {
            float wv = w[l] * u[l];
            vv[l] += wv * u[l];
            xv[l] += wv * x[l];
            if (with_v) v[l] += wv;
        }
    }
    return (struct sums){ sum_of(vv), sum_of(v), sum_of(xv) };
}

INLINE struct sums sums_at(const struct grid *g, const struct group *a, float inverse, float min, bool with_v)
{
    return g->values ? sums_in(g, a, inverse, min, with_v, true) : sums_in(g, a, inverse, min, with_v, false);
}

struct sums fit_sums(const struct grid *g, const struct group *a, float scale, float min)
{
    return sums_at(g, a, inverse_of(scale), min, true);
}

INLINE float error_in(const struct grid *g, const struct group *a, float scale, float min, bool table)
{
    float inverse = inverse_of(scale), sum[FIT_LANES] = { 0 }, t[FIT_LANES], u[FIT_LANES];
    for (size_t i = 0; i < a->n; i += FIT_LANES) {
        const float *x = a->x + i, *w = a->w + i;
        for (int l = 0; l < FIT_LANES; l++) t[l] = (x[l] - min) * inverse;
        nearest(g, table, t, u);
        for (int l = 0; l < FIT_LANES; l++) {
            float e = x[l] - (scale * u[l] + min);
            sum[l] += w[l] * (e * e);
        }
    }
    return sum_of(sum);
}

float fit_error(const struct grid *g, const struct group *a, float scale, float min)
{
    return g->values ? error_in(g, a, scale, min, true) : error_in(g, a, scale, min, false);
}

/* How far apart starts are, as a part of the outermost code: less where codes are many. */
static float start_step(const struct grid *g)
{
    float codes = g->values ? 16 : g->high - g->low + 1;
    return 0.6f / codes;
}

/* What the best scale for these values takes off the sum of squares. */
static bool better_scale(const struct sums *s, float *gain, float *scale)
{
    float now = s->vv > 0 ? s->xv * (s->xv / s->vv) : 0;
    if (!(now > *gain)) return false;
    *gain = now;
    *scale = s->xv / s->vv;
    return true;
}

float fit_scale(const struct grid *g, const struct group *a)
{
    float most = 0, gain = 0, scale = 0;
    for (size_t i = 0; i < a->n; i++)
        if (a->w[i] > 0 && fabsf(a->x[i]) > fabsf(most)) most = a->x[i];
    if (most == 0) return 0;
    for (int side = g->low == -g->high; side < 2; side++)
        for (int k = -STARTS; k <= STARTS; k++) {
            float outermost = (side ? g->high : g->low) * (1 + (float)k * start_step(g));
            struct sums s = sums_at(g, a, outermost / most, 0, false);
            better_scale(&s, &gain, &scale);
        }
    for (int turn = 0; turn < TURNS && scale != 0; turn++) {
        struct sums s = fit_sums(g, a, scale, 0);
        if (!better_scale(&s, &gain, &scale)) break;
    }
    return scale;
}

/* The same with a minimum, which is `highest` at most. */
static bool better_pair(const struct group *a, const struct sums *s, float highest, float *gain, float *scale,
                        float *min)
{
    float of = a->sum_w * s->vv - s->v * s->v, d = 0, m = INFINITY;
    if (!(s->vv > 0)) return false;
    if (of > 1e-5f * a->sum_w * s->vv) {
        d = (a->sum_w * s->xv - a->sum_x * s->v) / of;
        m = (s->vv * a->sum_x - s->v * s->xv) / of;
    }
    if (m > highest || !(m < INFINITY)) {       /* also where all have one code */
        m = highest < INFINITY ? highest : 0;
        d = (s->xv - m * s->v) / s->vv;
    }
    float now = d * (2 * s->xv - d * s->vv - 2 * m * s->v) + m * (2 * a->sum_x - m * a->sum_w);
    if (!(now > *gain) || !(d >= 0)) return false;
    *gain = now;
    *scale = d;
    *min = m;
    return true;
}

/* The numbers are taken above the least of them, so that a large common part loses no digits. */
static void fit_above(const struct grid *g, const struct group *a, float range, float highest, float *scale,
                      float *min)
{
    float gain = 0;                     /* a start may also stand a little beside the least */
    for (int k = -STARTS; k <= STARTS; k++)
        for (int shift = -1; shift <= 1; shift++) {
            float inverse = g->high * (1 + (float)k * 0.75f * start_step(g)) / range;
            struct sums s = sums_at(g, a, inverse, (float)shift * 0.4f / inverse, true);
            better_pair(a, &s, highest, &gain, scale, min);
        }
    for (int turn = 0; turn < TURNS && *scale > 0; turn++) {
        struct sums s = fit_sums(g, a, *scale, *min);
        if (!better_pair(a, &s, highest, &gain, scale, min)) break;
    }
}

void fit_scale_min(const struct grid *g, const struct group *a, bool below, float *scale, float *min)
{
    float least = INFINITY, most = -INFINITY, above[256];
    for (size_t i = 0; i < a->n; i++) {
        if (!(a->w[i] > 0)) continue;
        if (a->x[i] < least) least = a->x[i];
        if (a->x[i] > most) most = a->x[i];
    }
    if (below && least > 0) least = 0;
    for (size_t i = 0; i < a->n; i++) above[i] = a->x[i] - least;
    struct group b = group_make(above, a->w, a->n);
    *scale = *min = 0;
    if (most > least) fit_above(g, &b, most - least, below ? -least : INFINITY, scale, min);
    *min += least;
}
