/* Blocks by search. A block's numbers are first brought to a largest magnitude of 1 to 2 by a power of two,
 * which changes no digit, so that no sum of squares over- or underflows; scales are rounded to float16 as
 * they will stand in the file, and codes are chosen after that, not before.
 *
 * In super-blocks the groups' own scales are fitted first; then they become small whole numbers under the
 * scale of the super-block. Three steps repeat: every group tries its neighbours, codes are rounded anew,
 * and both scales of the super-block are solved for by least squares. */
#include "tensor/encode.h"
#include "tensor/fit.h"
#include "tensor/half.h"
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { MOST = 256, GROUPS = 16, ROUNDS = 4 };

/* A block on its way. A group's scale is s[g] * d and its minimum -(m[g] * dmin), or d and dmin themselves. */
struct block {
    const struct dtype_info *type;
    struct grid grid;
    float x[MOST], w[MOST];
    float up, down;             /* powers of two: from here to the file's numbers, and back */
    size_t n_groups, size;
    struct group groups[GROUPS];
};
struct scales { float d, dmin; int s[GROUPS], m[GROUPS]; };

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
    size_t n = b->type->block;
    float most = 0;
    for (size_t i = 0; i < n; i++) {
        float v = isnan(in[i]) ? 0 : in[i];
        b->x[i] = v > 0x1p40f ? 0x1p40f : v < -0x1p40f ? -0x1p40f : v;
        if (fabsf(b->x[i]) > most) most = fabsf(b->x[i]);
    }
    if (most < 0x1p-25f) return false;
    int e = ilogbf(most);
    b->up = ldexpf(1, e);
    b->down = ldexpf(1, -e);
    for (size_t i = 0; i < n; i++) b->x[i] *= b->down;
    take_weights(b, weight);
    for (size_t g = 0; g < b->n_groups; g++)
        b->groups[g] = group_make(b->x + g * b->size, b->w + g * b->size, b->size);
    return true;
}

/* A scale as the file's float16 has it, `ulps` steps further from zero. */
static float scale_kept(const struct block *b, float scale, int ulps)
{
    float v = scale * b->up;
    v = v > 65504 ? 65504 : v < -65504 ? -65504 : v;
    int h = float_to_half(v), magnitude = (h & 0x7fff) + ulps;
    if (magnitude < 0 || magnitude > 0x7bff) magnitude = h & 0x7fff;
    return half_to_float((uint16_t)((h & 0x8000) | magnitude)) * b->down;
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

static void put_code(const struct dtype_info *t, unsigned char *b, size_t i, unsigned code)
{
    size_t apart = t->nib_apart;
    if (t->planes & CODE_BYTES) b[t->bytes_at + i] = (unsigned char)code;
    if (t->planes & CODE_NIB) {
        b[t->nib_at + i / (2 * apart) * apart + i % apart] |= (unsigned char)((code & 15) << i / apart % 2 * 4);
        code >>= 4;
    }
    if (t->planes & CODE_TWO) {
        b[t->two_at + i / 128 * 32 + i % 32] |= (unsigned char)((code & 3) << i % 128 / 32 * 2);
        code >>= 2;
    }
    if (t->planes & CODE_ONE) {
        if (t->block == 32) b[t->one_at + i / 8] |= (unsigned char)((code & 1) << i % 8);
        else b[t->one_at + i % 32] |= (unsigned char)((code & 1) << i / 32);
    }
}

static void put_sub(const struct dtype_info *t, unsigned char *to, const struct scales *k)
{
    to += t->sub_at;
    for (int g = 0; g < GROUPS; g++) {
        unsigned s = (unsigned)k->s[g], m = (unsigned)k->m[g];
        if (t->sub == SUB_NIBBLES) to[g] = (unsigned char)(s | m << 4);
        if (t->sub == SUB_BYTES) to[g] = (unsigned char)s;
        if (t->sub == SUB_SIX) {
            s += 32;
            to[g % 8] |= (unsigned char)((s & 15) << g / 8 * 4);
            to[8 + g % 4] |= (unsigned char)(s >> 4 << g / 4 * 2);
        }
        if (t->sub == SUB_PAIRS_6 && g < 4) {
            to[g] |= (unsigned char)s;
            to[g + 4] |= (unsigned char)m;
        } else if (t->sub == SUB_PAIRS_6 && g < 8) {
            to[g + 4] = (unsigned char)((s & 15) | (m & 15) << 4);
            to[g - 4] |= (unsigned char)(s >> 4 << 6);
            to[g] |= (unsigned char)(m >> 4 << 6);
        }
    }
}

static unsigned code_of(const struct dtype_info *t, float value)
{
    if (!t->values) return (unsigned)((int)value + t->zero);
    unsigned code = 0;
    while (code < 15 && t->values[code] != (int)value) code++;
    return code;
}

static float scale_in(const struct block *b, const struct scales *k, size_t g)
{
    return b->type->sub == SUB_NONE ? k->d : k->d * (float)k->s[g];
}

static float min_in(const struct block *b, const struct scales *k, size_t g)
{
    return b->type->sub == SUB_NONE ? k->dmin : -(k->dmin * (float)k->m[g]);
}

static bool has_min(const struct dtype_info *t) { return t->min != MIN_NONE || t->sub == SUB_NIBBLES; }

static void put_block(const struct block *b, const struct scales *k, unsigned char *to)
{
    const struct dtype_info *t = b->type;
    memset(to, 0, t->bytes);
    store_half(to + t->d_at, k->d * b->up);
    if (has_min(t)) store_half(to + t->m_at, k->dmin * b->up);
    if (t->sub != SUB_NONE) put_sub(t, to, k);
    for (size_t i = 0; i < t->block; i += FIT_LANES) {
        float scale = scale_in(b, k, i / b->size), min = min_in(b, k, i / b->size), v[FIT_LANES];
        for (size_t l = 0; l < FIT_LANES; l++) v[l] = scale != 0 ? (b->x[i + l] - min) / scale : 0;
        grid_nearest(&b->grid, v, v);
        for (size_t l = 0; l < FIT_LANES; l++) put_code(t, to, i + l, code_of(t, v[l]));
    }
}

/* ---- one scale for the block --------------------------------------------------------------- */

/* Rounding to float16 moves the dip, so its neighbours are tried. */
static void keep_scale(const struct block *b, const struct group *a, float scale, float min, float *least,
                       struct scales *k)
{
    for (int ulps = -1; ulps <= 1; ulps++) {
        float d = scale_kept(b, scale, ulps), error = fit_error(&b->grid, a, d, min);
        if (!(error < *least)) continue;
        *least = error;
        k->d = d;
        k->dmin = min;
    }
}

static void fit_block(const struct block *b, struct scales *k)
{
    const struct group *a = &b->groups[0];
    float least = INFINITY, scale, min;
    if (!has_min(b->type)) {
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

struct limits { int low, high; };

static struct limits limits_of(enum dtype_sub sub)
{
    switch (sub) {
    case SUB_PAIRS_6: return (struct limits){ 0, 63 };
    case SUB_NIBBLES: return (struct limits){ 0, 15 };
    case SUB_BYTES: return (struct limits){ -128, 127 };
    case SUB_SIX: return (struct limits){ -32, 31 };
    default: return (struct limits){ 0, 0 };
    }
}

static int whole(float v, struct limits of)
{
    if (!(v > (float)of.low)) return of.low;
    return v < (float)of.high ? (int)lrintf(v) : of.high;
}

static float part(float of, float unit) { return unit != 0 ? of / unit : 0; }

/* The best of what a group can have near (s, m): each scale beside s with the minimum that suits its codes. */
static float choose_group(const struct block *b, struct scales *k, size_t g, struct limits in)
{
    const struct group *a = &b->groups[g];
    int s = k->s[g], m = k->m[g];
    bool with_min = has_min(b->type);
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
static void solve_scales(const struct block *b, struct scales *k)
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
    if (has_min(b->type) && of > 1e-9 * ss * mm) {
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

static void refine(const struct block *b, struct scales *k, float *least, struct scales *best)
{
    struct limits in = limits_of(b->type->sub);
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

static void fit_super(const struct block *b, struct scales *best)
{
    struct limits in = limits_of(b->type->sub);
    float scale[GROUPS], min[GROUPS] = { 0 }, most = 0, deepest = 0, least = INFINITY;
    for (size_t g = 0; g < b->n_groups; g++) {
        const struct group *a = &b->groups[g];
        if (has_min(b->type)) fit_scale_min(&b->grid, a, true, &scale[g], &min[g]);
        else scale[g] = fit_scale(&b->grid, a);
        if (fabsf(scale[g]) > fabsf(most)) most = scale[g];
        if (min[g] < deepest) deepest = min[g];
    }
    struct scales k = { .d = scale_above(b, most / (float)(in.low ? in.low : in.high)),
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
    b.size = t->sub == SUB_PAIRS_6 || t->sub == SUB_NONE ? 32 : 16;
    b.n_groups = t->block / b.size;
    unsigned char *to = out;
    for (; n; n -= t->block, in += t->block, to += t->bytes) {
        struct scales k = { 0 };
        bool some = take(&b, in, weight);
        if (!some) memset(b.x, 0, sizeof b.x);
        else if (t->sub == SUB_NONE) fit_block(&b, &k);
        else fit_super(&b, &k);
        put_block(&b, &k, to);
        if (some && t->encode) not_worse_than_plain(&b, to);
        if (weight) weight += t->block;
    }
}
