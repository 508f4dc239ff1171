/* Quantised linear kernels for AVX2. How a group of a panel is read and what kind of dot product it
 * needs follows from the type's panel_shape; linear_*_avx2.c compile the types.
 *
 * Few rows: codes go from the panel straight into products, with prefetch; one row is as fast as
 * memory. More: a stretch of a panel is unpacked once into L1 and serves all of them, and what
 * comes next is asked for meanwhile, a line now and then. A tile is 4 rows x 16 columns. VPMADDUBSW
 * multiplies unsigned codes with signed activations; pairs of products stay in 16 bits as long as
 * they fit (`quads` quads of 4), then VPMADDWD widens them, multiplying with the sub-scale on the
 * way where the type has one. Q4_1 needs 8 + 7 + 5 instructions for 256 products, and Zen 3 runs
 * three of them a cycle, not four: an addition takes one of the multiplier's two pipes as soon as
 * its product is there (docs/performance.md). Signed codes up to 127 (Q8_0, looked up) fill 16 bits
 * with one quad: a sign, a product, a widening and an addition for each, 31 instructions for 256
 * products. Values cut into two unsigned planes of four bits would take 33, int16 weights 31.
 *
 * Static inline only (see kernels.h): included by files compiled with -mavx2. */
#ifndef KERNELS_LINEAR_AVX2_H
#define KERNELS_LINEAR_AVX2_H
#include "kernels/kernels.h"
#include "kernels/panel_shape.h"
#include "kernels/scalar.h"
#include "kernels/x86/math_avx2.h"

enum {
    TILE_ROWS = 4,
    AHEAD = 1024,     /* bytes between reading and prefetching, of few rows              */
    BLOCK_ROWS = 128, /* rows that share an unpacked group                               */
    CHUNK_GROUPS = 20, /* unpacked at a time, at most: in L1                              */
    BLOCK_GROUPS = 4096, /* rows x groups of a block: codes of many rows stay in L2      */
};

/* How the codes of a type become a sum. */
struct dot_kind {
    bool sign; /* signed 8-bit codes (Q8_0, looked up): |w| times x with the sign of w          */
    int quads; /* quads that may be added in 16 bits: codes up to 15: 8, 31: 4, 63: 2           */
    bool sub;  /* sub-scales of the two halves                                                  */
    int zero;  /* value = code - zero                                                           */
    int min;   /* +1: y += m s; -1: y -= m s; -2: y -= (sub-minimums . half sums) * (m d); 0    */
};

/* Of 16 columns: [columns 0-7, 8-15]. */
struct scales {
    __m256 d[2], m[2];
    __m256i pair[2];   /* int16 (first half, second half): zero * sub-scale, or sub-minimum     */
    __m256i sub[2][2]; /* [half][columns]: the sub-scale twice, as int16                        */
};
struct line {
    __m256i lo[2], hi[2];
}; /* codes of quads l and l + 4: four of a column in 32 bits  */
struct unpacked { __m256i code[8][2]; struct scales s; };

/* Rows of activations as tiles read them. */
struct rows_avx2 {
    const int8_t *q;
    const float *d, *s;
    const int16_t *sum;
    size_t ldq, ldd;
};

/* The value is in a register here. Without it the compiler moves the additions of a tile apart
 * from their products and spills half of it: 80 instead of 120 products a nanosecond (gcc 12,
 * Zen 3). */
#define KEEP(v) __asm__("" : "+x"(v))

INLINE __m256i load_i(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE __m256i load_32(const void *p) { return _mm256_set1_epi32((int)load_word(p)); }
INLINE __m256 half_8(const void *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }

/* ---- reading a panel ------------------------------------------------------------------------ */

INLINE void nib_line(const uint8_t *p, int l, struct line *out)
{
    const __m256i mask = _mm256_set1_epi8(15);
    UNROLL
    for (int c = 0; c < 2; c++) {
        __m256i v = load_i(p + 64 * l + 32 * c);
        out->lo[c] = _mm256_and_si256(v, mask);
        out->hi[c] = _mm256_and_si256(_mm256_srli_epi16(v, 4), mask);
    }
}

/* Shifts bytes left by n (right by -n); bits that cross into a neighbour are masked by the
 * caller. */
INLINE __m256i shift_to(__m256i v, int n)
{
    return n >= 0 ? _mm256_slli_epi16(v, n) : _mm256_srli_epi16(v, -n);
}

/* Two bits of every quad, placed at bit `at`. */
INLINE __m256i two_bits(const uint8_t *p, int quad, int c, int at)
{
    __m256i v = load_i(p + 64 * (quad % 2) + 32 * c);
    return _mm256_and_si256(shift_to(v, at - quad / 2 * 2), _mm256_set1_epi8((char)(3 << at)));
}

INLINE __m256i one_bit(const uint8_t *p, int quad, int c, int at)
{
    return _mm256_and_si256(shift_to(load_i(p + 32 * c), at - quad),
                            _mm256_set1_epi8((char)(1 << at)));
}

INLINE __m128i load_16(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* What is added to small looked-up values so that they are codes without a sign: products of unsigned codes need
 * neither it nor a widening each. */
INLINE int raised(struct panel_shape s) { return s.values && s.values_most <= 15 ? s.values_most : 0; }

/* Codes of quads l and l + 4 of group g. */
INLINE void line(struct panel_shape s, const uint8_t *panel, size_t g, int l, struct line *out)
{
    const uint8_t *p = panel + g / s.groups * s.bytes + s.codes + g % s.groups * s.step;
    if (s.nib) {
        nib_line(p, l, out);
        p += 256;
    }
    UNROLL
    for (int c = 0; c < 2; c++) {
        if (s.whole) {
            out->lo[c] = load_i(p + 64 * l + 32 * c);
            out->hi[c] = load_i(p + 64 * l + 256 + 32 * c);
        }
        if (s.two) {
            __m256i lo = two_bits(p, l, c, s.nib ? 4 : 0), hi = two_bits(p, l + 4, c, s.nib ? 4 : 0);
            out->lo[c] = s.nib ? _mm256_or_si256(out->lo[c], lo) : lo;
            out->hi[c] = s.nib ? _mm256_or_si256(out->hi[c], hi) : hi;
        }
        if (s.one) {
            const uint8_t *bits = p + (s.two ? 128 : 0);
            out->lo[c] = _mm256_or_si256(out->lo[c], one_bit(bits, l, c, s.bits - 1));
            out->hi[c] = _mm256_or_si256(out->hi[c], one_bit(bits, l + 4, c, s.bits - 1));
        }
        if (s.values) {
            const __m256i table = _mm256_add_epi8(_mm256_broadcastsi128_si256(load_16((const uint8_t *)s.values)),
                                                  _mm256_set1_epi8((char)raised(s)));
            out->lo[c] = _mm256_shuffle_epi8(table, out->lo[c]);
            out->hi[c] = _mm256_shuffle_epi8(table, out->hi[c]);
        }
    }
}

/* Sub-scales as int16 (first half, second half) of 8 columns to each of them twice. */
INLINE void spread_sub(__m256i pair, int c, struct scales *out)
{
    __m256i first = _mm256_slli_epi32(pair, 16), second = _mm256_srli_epi32(pair, 16);
    out->sub[0][c] = _mm256_or_si256(first, _mm256_srli_epi32(first, 16));
    out->sub[1][c] = _mm256_or_si256(second, _mm256_slli_epi32(second, 16));
}

/* Sub-scales of the halves of a group, with zero * sub-scale or the sub-minimum. */
INLINE void sub16(struct panel_shape s, const uint8_t *sub, struct scales *out)
{
    UNROLL
    for (int c = 0; c < 2; c++) {
        __m256i pair;
        if (s.sub_nibbles) {
            pair = _mm256_cvtepu8_epi16(load_16(sub + 16 * c));
            out->pair[c] = _mm256_srli_epi16(pair, 4);
            pair = _mm256_and_si256(pair, _mm256_set1_epi16(15));
        } else {
            pair = _mm256_cvtepi8_epi16(load_16(sub + 16 * c));
            out->pair[c] = _mm256_mullo_epi16(pair, _mm256_set1_epi16((short)s.zero));
        }
        spread_sub(pair, c, out);
    }
}

INLINE __m128i load_8(const uint8_t *p) { return _mm_loadl_epi64((const __m128i *)(const void *)p); }

/* 8 bytes, float16 numbers times them: exact, as sub-scales of 32 have 6 bits. */
INLINE __m256 half_times(const uint8_t *half, __m256i sub)
{
    return _mm256_mul_ps(half_8(half), _mm256_cvtepi32_ps(sub));
}

/* As quant_exponents of wide_quant.h. */
INLINE __m256 exponents(const uint8_t *p)
{
    __m256i e = _mm256_cvtepu8_epi32(load_8(p));
    __m256i a = _mm256_sub_epi32(_mm256_slli_epi32(e, 23), _mm256_set1_epi32(1 << 23));
    __m256i b = _mm256_add_epi32(_mm256_slli_epi32(e, 21), _mm256_set1_epi32(1 << 21));
    return _mm256_castsi256_ps(_mm256_max_epi32(a, b));
}

/* Scales of 8 columns: d is where those of the group begin. */
INLINE __m256 scales_8(struct panel_shape s, const uint8_t *d, const uint8_t *sub, size_t c)
{
    if (s.exponent) return exponents(d + 8 * c);
    if (s.sub != 32) return half_8(d + 16 * c);
    __m128i b = load_8(sub + 8 * c);
    return half_times(d + 16 * c, s.min ? _mm256_cvtepu8_epi32(b) : _mm256_cvtepi8_epi32(b));
}

INLINE void scales(struct panel_shape s, const uint8_t *panel, size_t g, struct scales *out)
{
    const uint8_t *unit = panel + g / s.groups * s.bytes, *sub = unit + PANEL_SUB + g % s.groups * s.sub_step;
    const uint8_t *d = panel_d(s, unit, g % s.groups), *m = unit + s.m;
    if (s.sub == 16) sub16(s, sub, out);
    for (size_t c = 0; c < 2; c++) {
        out->d[c] = scales_8(s, d, sub, c);
        if (s.min)
            out->m[c] = s.sub == 32 ? half_times(m + 16 * c, _mm256_cvtepu8_epi32(load_8(sub + 16 + 8 * c)))
                                    : half_8(m + 16 * c);
    }
}

/* Quads that fit in 16 bits: 2 * 127 * the largest code each; with sub-scales no more than a half. */
INLINE struct dot_kind kind_of(struct panel_shape s)
{
    return (struct dot_kind){
        .sign = s.whole || (s.values && !raised(s)),
        .quads = s.whole || (s.values && !raised(s)) ? 1
                 : s.bits > 5                        ? 2
                 : s.bits > 4 || s.sub == 16 || raised(s) ? 4 : 8,
        .sub = s.sub == 16,
        .zero = s.zero + raised(s),
        .min = s.min == PANEL_SUBMIN ? -2 : s.min == PANEL_NO_MIN ? 0 : s.plus ? 1 : -1,
    };
}

/* Bytes of K 32, for the prefetch. */
INLINE size_t group_bytes(struct panel_shape s) { return s.bytes / s.groups; }

/* |w| times x with the sign of w: exact for every pair of codes, as |w| <= 128 and |x| <= 127. */
INLINE __m256i signed_dot(__m256i w, __m256i x)
{
    __m256i p = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_madd_epi16(p, _mm256_set1_epi16(1));
}

/* Sums over one group: i[r][c]. Three shapes of the same loop, by how soon 16 bits are full. */
INLINE void dot_signed(int n, const struct unpacked *w, const int8_t *q, size_t ldq,
                       __m256i i[TILE_ROWS][2])
{
    UNROLL
    for (int quad = 0; quad < 8; quad++) {
        __m256i w0 = w->code[quad][0], w1 = w->code[quad][1];
        UNROLL
        for (int r = 0; r < n; r++) {
            __m256i x = load_32(q + (size_t)r * ldq + 4 * quad);
            i[r][0] = quad ? _mm256_add_epi32(i[r][0], signed_dot(w0, x)) : signed_dot(w0, x);
            i[r][1] = quad ? _mm256_add_epi32(i[r][1], signed_dot(w1, x)) : signed_dot(w1, x);
        }
        UNROLL
        for (int r = 0; r < n; r++) {
            KEEP(i[r][0]);
            KEEP(i[r][1]);
        }
    }
}

INLINE void dot_pairs(struct dot_kind kind, int n, const struct unpacked *w, const int8_t *q,
                      size_t ldq, __m256i i[TILE_ROWS][2])
{
    const __m256i ones = _mm256_set1_epi16(1);
    UNROLL
    for (int quad = 0; quad < 8; quad += 2) {
        UNROLL
        for (int r = 0; r < n; r++) {
            __m256i x = load_32(q + (size_t)r * ldq + 4 * quad),
                    y = load_32(q + (size_t)r * ldq + 4 * quad + 4);
            UNROLL
            for (int c = 0; c < 2; c++) {
                __m256i p = _mm256_add_epi16(_mm256_maddubs_epi16(w->code[quad][c], x),
                                             _mm256_maddubs_epi16(w->code[quad + 1][c], y));
                p = _mm256_madd_epi16(p, kind.sub ? w->s.sub[quad / 4][c] : ones);
                i[r][c] = quad ? _mm256_add_epi32(i[r][c], p) : p;
                KEEP(i[r][c]);
            }
        }
    }
}

INLINE void dot_long(struct dot_kind kind, int n, const struct unpacked *w, const int8_t *q,
                     size_t ldq, __m256i i[TILE_ROWS][2])
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i a[TILE_ROWS][2];
    UNROLL
    for (int quad = 0; quad < 8; quad++) {
        __m256i w0 = w->code[quad][0], w1 = w->code[quad][1];
        bool fresh = quad % kind.quads == 0, full = (quad + 1) % kind.quads == 0;
        UNROLL
        for (int r = 0; r < n; r++) {
            __m256i x = load_32(q + (size_t)r * ldq + 4 * quad);
            __m256i p0 = _mm256_maddubs_epi16(w0, x), p1 = _mm256_maddubs_epi16(w1, x);
            a[r][0] = fresh ? p0 : _mm256_add_epi16(a[r][0], p0);
            a[r][1] = fresh ? p1 : _mm256_add_epi16(a[r][1], p1);
        }
        UNROLL
        for (int r = 0; r < n; r++) {
            UNROLL
            for (int c = 0; c < 2; c++) {
                KEEP(a[r][c]);
                if (!full) continue;
                __m256i p = _mm256_madd_epi16(a[r][c], kind.sub ? w->s.sub[quad / 4][c] : ones);
                i[r][c] = quad >= kind.quads ? _mm256_add_epi32(i[r][c], p) : p;
            }
        }
    }
}

INLINE void dot_group(struct dot_kind kind, int n, const struct unpacked *w, const int8_t *q,
                      size_t ldq, __m256i i[TILE_ROWS][2])
{
    if (kind.sign)
        dot_signed(n, w, q, ldq, i);
    else if (kind.quads == 2)
        dot_pairs(kind, n, w, q, ldq, i);
    else
        dot_long(kind, n, w, q, ldq, i);
}

/* f += the group's share, as kernels.h states it, of columns 8 c0 to 8 c1. */
INLINE void add_group(struct dot_kind kind, int n, int c0, int c1, const struct scales *w,
                      const struct rows_avx2 *x, size_t g, __m256i i[TILE_ROWS][2],
                      __m256 f[TILE_ROWS][2])
{
    UNROLL
    for (int r = 0; r < n; r++) {
        __m256 d = _mm256_set1_ps(x->d[(size_t)r * x->ldd + g]);
        __m256i half = _mm256_setzero_si256();
        if (kind.zero || kind.min == -2) half = load_32(x->sum + 2 * ((size_t)r * x->ldd + g));
        if (kind.zero && !kind.sub)
            half = _mm256_madd_epi16(half, _mm256_set1_epi16((short)kind.zero));
        UNROLL
        for (int c = c0; c < c1; c++) {
            if (kind.zero)
                i[r][c] = _mm256_sub_epi32(i[r][c],
                                           kind.sub ? _mm256_madd_epi16(half, w->pair[c]) : half);
            f[r][c] =
                _mm256_fmadd_ps(_mm256_cvtepi32_ps(i[r][c]), _mm256_mul_ps(w->d[c], d), f[r][c]);
            if (kind.min == 1 || kind.min == -1) {
                __m256 s = _mm256_set1_ps(x->s[(size_t)r * x->ldd + g]);
                f[r][c] = kind.min > 0 ? _mm256_fmadd_ps(w->m[c], s, f[r][c])
                                       : _mm256_fnmadd_ps(w->m[c], s, f[r][c]);
            }
            if (kind.min == -2) {
                __m256 j = _mm256_cvtepi32_ps(_mm256_madd_epi16(half, w->pair[c]));
                f[r][c] = _mm256_fnmadd_ps(j, _mm256_mul_ps(w->m[c], d), f[r][c]);
            }
        }
    }
}

/* The bytes of panels to ask for next, and how many a group of a tile is to ask for: spread over
 * all products, so that memory and arithmetic overlap. */
struct ahead {
    const uint8_t *at;
    size_t due, step;
};

INLINE void fetch_some(struct ahead *a)
{
    for (a->due += a->step; a->due >= 64; a->due -= 64, a->at += 64)
        _mm_prefetch((const char *)a->at, _MM_HINT_T0);
}

/* y[n][16] += groups of one panel. */
INLINE void tile(struct dot_kind kind, int n, const struct unpacked *w, size_t groups,
                 const struct rows_avx2 *x, float *y, size_t ldy, bool first, struct ahead *ahead)
{
    __m256 f[TILE_ROWS][2];
    UNROLL
    for (int r = 0; r < n; r++) {
        UNROLL
        for (int c = 0; c < 2; c++)
            f[r][c] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(y + (size_t)r * ldy + 8 * c);
    }
    for (size_t g = 0; g < groups; g++) {
        __m256i i[TILE_ROWS][2];
        fetch_some(ahead);
        dot_group(kind, n, w + g, x->q + 32 * g, x->ldq, i);
        add_group(kind, n, 0, 2, &w[g].s, x, g, i, f);
    }
    UNROLL
    for (int r = 0; r < n; r++) {
        UNROLL
        for (int c = 0; c < 2; c++) _mm256_storeu_ps(y + (size_t)r * ldy + 8 * c, f[r][c]);
    }
}

INLINE void unpack(struct panel_shape in, const uint8_t *panel, size_t g, struct unpacked *out)
{
    UNROLL
    for (int l = 0; l < 4; l++) {
        struct line v;
        line(in, panel, g, l, &v);
        UNROLL
        for (int c = 0; c < 2; c++) {
            out->code[l][c] = v.lo[c];
            out->code[l + 4][c] = v.hi[c];
        }
    }
    scales(in, panel, g, &out->s);
}

/* ---- few rows
 * --------------------------------------------------------------------------------------- */

INLINE void fetch(const uint8_t *p, size_t bytes)
{
    UNROLL
    for (size_t l = 0; l < bytes; l += 64) _mm_prefetch((const char *)p + l, _MM_HINT_T0);
}

/* dot_group without the detour through memory, of columns 8 c0 to 8 c1; halves of the group in sums of
 * their own where they must not mix. */
INLINE void dot_few(struct dot_kind kind, struct panel_shape in, int n, int c0, int c1,
                    const uint8_t *panel, size_t g, const struct scales *s, const int8_t *q,
                    size_t ldq, __m256i i[TILE_ROWS][2])
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i a[TILE_ROWS][2], b[TILE_ROWS][2];
    UNROLL
    for (int l = 0; l < 4; l++) {
        struct line w;
        line(in, panel, g, l, &w);
        UNROLL
        for (int r = 0; r < n; r++) {
            __m256i x = load_32(q + (size_t)r * ldq + 4 * l),
                    y = load_32(q + (size_t)r * ldq + 16 + 4 * l);
            UNROLL
            for (int c = c0; c < c1; c++) {
                if (kind.sign) {
                    __m256i p = _mm256_add_epi32(signed_dot(w.lo[c], x), signed_dot(w.hi[c], y));
                    i[r][c] = l ? _mm256_add_epi32(i[r][c], p) : p;
                    KEEP(i[r][c]);
                    continue;
                }
                __m256i p = _mm256_maddubs_epi16(w.lo[c], x), t = _mm256_maddubs_epi16(w.hi[c], y);
                bool fresh = l % (kind.quads < 4 ? kind.quads : 4) == 0;
                if (kind.quads == 8) {
                    a[r][c] = _mm256_add_epi16(fresh ? p : _mm256_add_epi16(a[r][c], p), t);
                    KEEP(a[r][c]);
                    if (l == 3) i[r][c] = _mm256_madd_epi16(a[r][c], ones);
                    continue;
                }
                a[r][c] = fresh ? p : _mm256_add_epi16(a[r][c], p);
                b[r][c] = fresh ? t : _mm256_add_epi16(b[r][c], t);
                KEEP(a[r][c]);
                KEEP(b[r][c]);
                if ((l + 1) % kind.quads) continue;
                p = _mm256_add_epi32(_mm256_madd_epi16(a[r][c], kind.sub ? s->sub[0][c] : ones),
                                     _mm256_madd_epi16(b[r][c], kind.sub ? s->sub[1][c] : ones));
                i[r][c] = l >= kind.quads ? _mm256_add_epi32(i[r][c], p) : p;
            }
        }
    }
}

INLINE void tile_few(struct dot_kind kind, struct panel_shape in, int n, const uint8_t *panel,
                     size_t g0, size_t groups, const struct rows_avx2 *x, float *y, size_t ldy,
                     bool first)
{
    /* Half the columns at a time where masks, sub-scales and two sums a row and column have no room in
     * registers otherwise. */
    const int part = kind.quads == 2 || (kind.quads == 4 && n == 2) ? 1 : 2;
    __m256 f[TILE_ROWS][2];
    UNROLL
    for (int r = 0; r < n; r++) {
        UNROLL
        for (int c = 0; c < 2; c++)
            f[r][c] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(y + (size_t)r * ldy + 8 * c);
    }
    const uint8_t *soon = panel + g0 * group_bytes(in) + AHEAD;
    for (size_t g = 0; g < groups; g++, soon += group_bytes(in)) {
        fetch(soon, group_bytes(in));
        UNROLL
        for (int c = 0; c < 2; c += part) {
            __m256i i[TILE_ROWS][2];
            struct scales s;
            if (part == 1) __asm__ volatile("" : : : "memory"); /* no half is kept for the other */
            scales(in, panel, g0 + g, &s);
            dot_few(kind, in, n, c, c + part, panel, g0 + g, &s, x->q + 32 * g, x->ldq, i);
            add_group(kind, n, c, c + part, &s, x, g, i, f);
        }
    }
    UNROLL
    for (int r = 0; r < n; r++) {
        UNROLL
        for (int c = 0; c < 2; c++) _mm256_storeu_ps(y + (size_t)r * ldy + 8 * c, f[r][c]);
    }
}

/* ---- all
 * -------------------------------------------------------------------------------------------- */

/* The rows from r0 on, from group g0 on. */
INLINE struct rows_avx2 rows_at(const struct act *x, size_t r0, size_t g0)
{
    return (struct rows_avx2){.q = x->q + r0 * x->ldq + 32 * g0,
                              .d = x->d + r0 * x->ldd + g0,
                              .s = x->s + r0 * x->ldd + g0,
                              .sum = x->sum + 2 * (r0 * x->ldd + g0),
                              .ldq = x->ldq,
                              .ldd = x->ldd};
}

INLINE struct rows_avx2 rows_on(struct rows_avx2 x, size_t rows, size_t groups)
{
    x.q += rows * x.ldq + 32 * groups;
    x.d += rows * x.ldd + groups;
    x.s += rows * x.ldd + groups;
    x.sum += 2 * (rows * x.ldd + groups);
    return x;
}

INLINE void tiles(struct dot_kind kind, const struct unpacked *w, size_t groups, struct rows_avx2 x,
                  size_t rows, float *y, size_t ldy, bool first, struct ahead *ahead)
{
    size_t r = 0;
    for (; r + TILE_ROWS <= rows; r += TILE_ROWS, x = rows_on(x, TILE_ROWS, 0))
        tile(kind, TILE_ROWS, w, groups, &x, y + r * ldy, ldy, first, ahead);
    switch (rows - r) {
    case 1: tile(kind, 1, w, groups, &x, y + r * ldy, ldy, first, ahead); break;
    case 2: tile(kind, 2, w, groups, &x, y + r * ldy, ldy, first, ahead); break;
    case 3: tile(kind, 3, w, groups, &x, y + r * ldy, ldy, first, ahead); break;
    default: break;
    }
}

/* All rows of one panel, codes straight from it. */
INLINE void tiles_few(struct dot_kind kind, struct panel_shape in, const uint8_t *panel, size_t g0,
                      size_t groups, struct rows_avx2 x, size_t rows, float *y, size_t ldy)
{
    size_t r = 0;
    for (; r + TILE_ROWS <= rows; r += TILE_ROWS) {
        tile_few(kind, in, TILE_ROWS, panel, g0, groups, &x, y, ldy, g0 == 0);
        x = rows_on(x, TILE_ROWS, 0);
        y += TILE_ROWS * ldy;
    }
    switch (rows - r) {
    case 1: tile_few(kind, in, 1, panel, g0, groups, &x, y, ldy, g0 == 0); break;
    case 2: tile_few(kind, in, 2, panel, g0, groups, &x, y, ldy, g0 == 0); break;
    case 3: tile_few(kind, in, 3, panel, g0, groups, &x, y, ldy, g0 == 0); break;
    default: break;
    }
}

/* y[rows][16] += groups g0 .. g0 + groups of one panel. */
INLINE void panel_rows(struct dot_kind kind, struct panel_shape in, const uint8_t *panel, size_t g0,
                       size_t groups, struct rows_avx2 x, size_t rows, float *y, size_t ldy)
{
    const size_t few = kind.quads == 8 ? 5 : 4;            /* what costs more to unpack, sooner */
    if (rows < few || in.whole) {                          /* Q8_0 has nothing to unpack */
        tiles_few(kind, in, panel, g0, groups, x, rows, y, ldy);
        return;
    }
    struct unpacked w[CHUNK_GROUPS];
    size_t n_tiles = (rows + TILE_ROWS - 1) / TILE_ROWS, g = 0;
    size_t n_chunks = (groups + CHUNK_GROUPS - 1) / CHUNK_GROUPS;
    /* while a stretch is used the next is fetched, the next panel's first at last */
    const uint8_t *next = panel + (g0 + groups / (n_chunks + !n_chunks)) * group_bytes(in);
    struct ahead ahead = {next, 0, group_bytes(in) / n_tiles};
    do {
        size_t n = n_chunks ? (groups - g) / n_chunks-- : 0;
        for (size_t i = 0; i < n; i++) unpack(in, panel, g0 + g + i, &w[i]);
        tiles(kind, w, n, x, rows, y, ldy, g0 + g == 0, &ahead);
        x = rows_on(x, 0, n);
        g += n;
    } while (n_chunks);
}

/* Blocks of rows, of K, then panels. y carries the sums from one block of K to the next, so their
 * order, and with it every bit, is that of the rule. */
INLINE void linear(struct dot_kind kind, struct panel_shape in, size_t pb, const uint8_t *panels,
                   size_t n_panels, size_t k, const struct act *x, size_t rows, float *y,
                   size_t ldy)
{
    size_t groups = k / PANEL_GROUP;
    for (size_t r0 = 0, n; r0 < rows; r0 += n) {
        n = rows - r0 < BLOCK_ROWS ? rows - r0 : BLOCK_ROWS;
        size_t g0 = 0, most = BLOCK_GROUPS / n;
        do {
            size_t ng = groups - g0 < most ? groups - g0 : most;
            struct rows_avx2 at = rows_at(x, r0, g0);
            for (size_t p = 0; p < n_panels; p++)
                panel_rows(kind, in, panels + p * pb, g0, ng, at, n, y + r0 * ldy + PANEL_COLS * p,
                           ldy);
            g0 += ng;
        } while (g0 < groups);
    }
}

#define LINEAR_AVX2(T, ...)                                                                   \
    static void linear_##T##_avx2(const void *panels, size_t n_panels, size_t k,              \
                                  const struct act *x, size_t rows, float *y, size_t ldy)     \
    {                                                                                         \
        const struct panel_shape s = panel_shape(DT_##T);                                     \
        linear(kind_of(s), s, panel_bytes(DT_##T, k), panels, n_panels, k, x, rows, y, ldy);  \
    }
#define LINEAR_SET_AVX2(T, ...) linear_set_avx2(k, DT_##T, linear_##T##_avx2);
#endif
