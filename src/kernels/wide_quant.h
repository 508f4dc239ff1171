/* y = W x with quantised weights for any vector width, by the rule of kernels.h: exact integer dots per
 * group of 32, then one fmaf (two with a minimum) per group, groups ascending. Every lane is one column
 * and obeys the rule by itself, so blocking, row count and level move no bit.
 *
 * A panel's line of 64 bytes is QUANT_LANES vectors; a tile is one such vector times up to eight rows,
 * whose codes are unpacked once. Operations of the level's header, besides those of wide_math.h and
 * v_load_half:
 *
 *   vi, VL int32 lanes: i_set1 i_add i_mul i_max i_load (VL int32), i_load_u8 and i_load_i8 (VL bytes), i_load_16
 *       (VL int16), i_sar(x, n), i_left(x, n), i_low(x, mask), i_float, i_bits (as they are, to floats)
 *   vb, the same bits as bytes: b_load, b_quad (4 bytes to all lanes), b_up(x, n), b_down(x, n) shift lanes
 *       of any width, b_and(x, mask), b_with(x, y, mask) = x | (y & mask), b_signed (a signed code as i_dot
 *       wants it: plus QUANT_OFFSET), b_table (16 codes, to every 16 bytes),
 *       b_look(table, x) of x 0..15
 *   i_dot(sum, codes, quad): sum of four products, exact, codes 0..255 where QUANT_OFFSET is 128
 *   QUANT_PAIRS is 1 where an instruction takes two rows at once: i_pair_up(codes) rearranges a group's
 *   quads for it, i_dot_pair(codes, q0, q1, halves, dot0, dot1) gives both rows' dots */
#ifndef KERNELS_WIDE_QUANT_H
#define KERNELS_WIDE_QUANT_H
#include "kernels/kernels.h"
#include "kernels/panel_shape.h"
#include "kernels/wide.h"

#ifndef QUANT_PAIRS
#define QUANT_PAIRS 0
static inline void i_pair_up(vb w[8]) { (void)w; }
static inline void i_dot_pair(const vb w[8], const int8_t *q0, const int8_t *q1, bool halves, vi dot0[2],
                              vi dot1[2])
{
    (void)w, (void)q0, (void)q1, (void)halves, (void)dot0, (void)dot1;
}
#endif

enum {
    QUANT_LANES = PANEL_COLS / VL,
    QUANT_GROUPS = 64,                  /* K at once: the panel's share stays in the first-level cache  */
    QUANT_ROWS = 64,                    /* rows at once: their codes stay in the second                  */
    QUANT_AHEAD = 4096                  /* bytes prefetched ahead: measured best on a 2-core AMX machine */
};

/* A type's shape, with the zero of the codes as quant_codes gives them. */
WIDE_INLINE struct panel_shape quant_shape(enum dtype t)
{
    struct panel_shape s = panel_shape(t);
    if (s.whole || s.values) s.zero = QUANT_OFFSET;
    return s;
}

/* Bits of x moved up by n, or down by -n. */
WIDE_INLINE vb quant_move(vb x, int n) { return n > 0 ? b_up(x, n) : n < 0 ? b_down(x, -n) : x; }

/* The eight quads of a group, for the columns whose bytes begin at p. */
WIDE_INLINE void quant_codes(struct panel_shape s, const uint8_t *p, vb w[8])
{
    if (s.whole) {
        WIDE_UNROLL
        for (int q = 0; q < 8; q++) w[q] = b_signed(b_load(p + 64 * q));
        return;
    }
    if (s.nib) {
        WIDE_UNROLL
        for (int l = 0; l < 4; l++) {
            vb line = b_load(p + 64 * l);
            w[l] = b_and(line, 15);
            w[l + 4] = b_and(b_down(line, 4), 15);
        }
        p += 256;
    }
    int at = s.nib ? 4 : 0;
    if (s.two) {
        WIDE_UNROLL
        for (int l = 0; l < 2; l++) {
            vb line = b_load(p + 64 * l);
            WIDE_UNROLL
            for (int j = 0; j < 4; j++) {
                vb x = quant_move(line, at - 2 * j);
                w[l + 2 * j] = s.nib ? b_with(w[l + 2 * j], x, 3 << 4) : b_and(x, 3);
            }
        }
        p += 128;
        at += 2;
    }
    if (s.one) {
        vb line = b_load(p);
        WIDE_UNROLL
        for (int q = 0; q < 8; q++) w[q] = b_with(w[q], quant_move(line, at - q), 1 << at);
    }
    if (s.values) {
        vb table = b_signed(b_table(s.values));
        WIDE_UNROLL
        for (int q = 0; q < 8; q++) w[q] = b_look(table, w[q]);
    }
}

/* What a group's integers are multiplied with: floats d, m and the sub-scales of its two halves. */
struct quant_scales { vf d, m; vi sub[2], submin[2]; };

/* 2^(e - 128) of VL bytes. A float's bits are (e - 1) 2^23 from e = 2 on, and below, where it has no exponent left,
 * (e + 1) 2^21: whichever is larger. */
WIDE_INLINE vf quant_exponents(const uint8_t *p)
{
    vi e = i_load_u8(p);
    return i_bits(i_max(i_add(i_left(e, 23), i_set1(-(1 << 23))), i_add(i_left(e, 21), i_set1(1 << 21))));
}

WIDE_INLINE struct quant_scales quant_scales(struct panel_shape s, const uint8_t *unit, size_t g, size_t v)
{
    struct quant_scales w;
    const uint8_t *sub = unit + PANEL_SUB + s.sub_step * g, *d = panel_d(s, unit, g);
    w.d = s.exponent ? quant_exponents(d + v * VL) : v_load_half((const uint16_t *)(const void *)d + v * VL);
    if (s.min) w.m = v_load_half((const uint16_t *)(const void *)(unit + s.m) + v * VL);
    if (s.sub == 32) w.d = v_mul(w.d, i_float(s.min ? i_load_u8(sub + v * VL) : i_load_i8(sub + v * VL)));
    if (s.sub == 32 && s.min) w.m = v_mul(w.m, i_float(i_load_u8(sub + 16 + v * VL)));
    if (s.sub == 16) {
        vi both = i_load_16(sub + 2 * v * VL);
        if (s.min) {                                        /* two nibbles per byte */
            w.sub[0] = i_low(both, 15);
            w.submin[0] = i_low(i_sar(both, 4), 15);
            w.sub[1] = i_low(i_sar(both, 8), 15);
            w.submin[1] = i_low(i_sar(both, 12), 15);
        } else {                                            /* two signed bytes */
            w.sub[0] = i_sar(i_left(both, 24), 24);
            w.sub[1] = i_sar(both, 8);
        }
    }
    return w;
}

/* Where the dots of a group or of its two halves begin: what the zero takes off. */
WIDE_INLINE int32_t quant_begin(struct panel_shape s, const int16_t sum[2], int half)
{
    return -s.zero * (s.sub == 16 ? sum[half] : sum[0] + sum[1]);
}

/* The integer dots of a group for one row: of the whole group, or of its two halves, whose sums of codes
 * are `sum`. */
WIDE_INLINE void quant_dots(struct panel_shape s, const vb w[8], const int8_t *q, const int16_t sum[2],
                            vi dot[2])
{
    dot[0] = i_set1(s.zero ? quant_begin(s, sum, 0) : 0);
    dot[1] = i_set1(s.zero && s.sub == 16 ? quant_begin(s, sum, 1) : 0);
    WIDE_UNROLL
    for (int i = 0; i < 8; i++) {
        int half = s.sub == 16 ? i / 4 : 0;
        dot[half] = i_dot(dot[half], w[i], b_quad(q + 4 * i));
    }
}

/* y plus a group's share */
WIDE_INLINE vf quant_add(struct panel_shape s, const vi dots[2], const struct quant_scales *f, float dx,
                         float sx, const int16_t sum[2], vf y)
{
    vi dot = dots[0];
    if (s.sub == 16) dot = i_add(i_mul(dot, f->sub[0]), i_mul(dots[1], f->sub[1]));
    y = v_fma(i_float(dot), v_mul(f->d, v_set1(dx)), y);
    if (s.min == PANEL_MIN)             /* `plus`: the panel holds -m_w */
        y = s.plus ? v_fma(f->m, v_set1(sx), y) : v_fnma(f->m, v_set1(sx), y);
    if (s.min == PANEL_SUBMIN) {
        vi mins = i_add(i_mul(f->submin[0], i_set1(sum[0])), i_mul(f->submin[1], i_set1(sum[1])));
        y = v_fnma(i_float(mins), v_mul(f->m, v_set1(dx)), y);
    }
    return y;
}

/* Vector v of a panel times nr rows, groups g0..g1; y is continued unless g0 is 0. */
WIDE_INLINE void quant_tile(enum dtype t, size_t nr, const uint8_t *panel, size_t v, size_t g0, size_t g1,
                            const struct act *x, float *y, size_t ldy, bool ahead)
{
    const struct panel_shape s = quant_shape(t);
    vf sum[8];
    WIDE_UNROLL
    for (size_t r = 0; r < nr; r++) sum[r] = g0 ? v_load(y + r * ldy) : v_set1(0);
    for (size_t g = g0; g < g1; g++) {
        const uint8_t *unit = panel + g / s.groups * s.bytes;
        const uint8_t *codes = unit + s.codes + g % s.groups * s.step;
        if (ahead)
            for (size_t i = 0; i < s.bytes / s.groups; i += 64) __builtin_prefetch(codes + QUANT_AHEAD + i);
        vb w[8];
        quant_codes(s, codes + v * VL * 4, w);
        struct quant_scales f = quant_scales(s, unit, g % s.groups, v);
        vi dot[8][2];
        if (QUANT_PAIRS && nr > 1) {
            i_pair_up(w);
            WIDE_UNROLL
            for (size_t r = 0; r < nr; r += 2) {
                const int8_t *q = x->q + r * x->ldq + g * PANEL_GROUP;
                const int16_t *at = x->sum + 2 * (r * x->ldd + g);
                i_dot_pair(w, q, q + x->ldq, s.sub == 16, dot[r], dot[r + 1]);
                for (size_t h = 0; s.zero && h < (s.sub == 16 ? 2 : 1); h++) {
                    dot[r][h] = i_add(dot[r][h], i_set1(quant_begin(s, at, (int)h)));
                    dot[r + 1][h] =
                        i_add(dot[r + 1][h], i_set1(quant_begin(s, at + 2 * x->ldd, (int)h)));
                }
            }
        }
        WIDE_UNROLL
        for (size_t r = 0; r < nr; r++) {
            const int16_t *at = x->sum + 2 * (r * x->ldd + g);
            if (!QUANT_PAIRS || nr == 1)
                quant_dots(s, w, x->q + r * x->ldq + g * PANEL_GROUP, at, dot[r]);
            sum[r] = quant_add(s, dot[r], &f, x->d[r * x->ldd + g], x->s[r * x->ldd + g], at, sum[r]);
        }
    }
    WIDE_UNROLL
    for (size_t r = 0; r < nr; r++) v_store(y + r * ldy, sum[r]);
}

WIDE_INLINE struct act quant_rows(const struct act *x, size_t r)
{
    struct act at = *x;
    at.q += r * x->ldq;
    at.d += r * x->ldd;
    at.s += r * x->ldd;
    at.sum += 2 * r * x->ldd;
    return at;
}

/* A panel's groups g0..g1 for `rows` <= QUANT_ROWS rows */
WIDE_INLINE void quant_panel(enum dtype t, const uint8_t *panel, size_t g0, size_t g1, const struct act *x,
                             size_t rows, float *y, size_t ldy)
{
    for (size_t r = 0, nr; r < rows; r += nr) {
        struct act at = quant_rows(x, r);
        size_t left = rows - r;
        nr = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        for (size_t v = 0; v < QUANT_LANES; v++) {
            float *to = y + r * ldy + v * VL;
            bool ahead = r == 0 && v == 0;
            switch (nr) {
            case 8: quant_tile(t, 8, panel, v, g0, g1, &at, to, ldy, ahead); break;
            case 4: quant_tile(t, 4, panel, v, g0, g1, &at, to, ldy, ahead); break;
            case 2: quant_tile(t, 2, panel, v, g0, g1, &at, to, ldy, ahead); break;
            default: quant_tile(t, 1, panel, v, g0, g1, &at, to, ldy, ahead);
            }
        }
    }
}

WIDE_INLINE void quant_linear(enum dtype t, const uint8_t *panels, size_t n_panels, size_t k,
                              const struct act *x, size_t rows, float *y, size_t ldy)
{
    size_t bytes = panel_bytes(t, k), groups = k / PANEL_GROUP;
    for (size_t r = 0; r < rows; r += QUANT_ROWS) {
        struct act at = quant_rows(x, r);
        size_t n = rows - r < QUANT_ROWS ? rows - r : QUANT_ROWS, g0 = 0;
        do {
            size_t g1 = groups - g0 < QUANT_GROUPS ? groups : g0 + QUANT_GROUPS;
            for (size_t p = 0; p < n_panels; p++)
                quant_panel(t, panels + p * bytes, g0, g1, &at, n, y + r * ldy + p * PANEL_COLS, ldy);
            g0 = g1;
        } while (g0 < groups);
    }
}

#define QUANT_TYPE(T, ...)                                                                               \
    static void wide_linear_##T(const void *panels, size_t n_panels, size_t k, const struct act *x,      \
                                size_t rows, float *y, size_t ldy)                                       \
    {                                                                                                    \
        quant_linear(DT_##T, panels, n_panels, k, x, rows, y, ldy);                                      \
    }
DTYPES_CODED(QUANT_TYPE)

static inline linear_fn *wide_quant_linear(enum dtype t)
{
    switch (t) {
#define QUANT_CASE(T, ...) case DT_##T: return wide_linear_##T;
        DTYPES_CODED(QUANT_CASE)
    default: return NULL;
    }
}

static inline void wide_quant_init(struct kernels *k, const char *level)
{
    for (size_t t = 0; t < DT_COUNT; t++)
        if (wide_quant_linear((enum dtype)t)) {
            k->linear[t] = wide_quant_linear((enum dtype)t);
            k->linear_level[t] = level;
        }
}
#endif
