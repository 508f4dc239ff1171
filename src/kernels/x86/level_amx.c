/* AMX: quantised linear layers for sixteen rows and more, and the given-row path.
 *
 *   written rows  one TDPBSSD per group of 32, whose int32 tile is then converted, scaled and added as
 *                 kernels.h rules: the bits of every other level. Fewer than sixteen rows go to AVX-512
 *                 VNNI, which was 1.25 to 1.5 times as fast with eight, and so do the types with sub-blocks
 *                 of 16, which take two products a group (Q2_K: 1.5 times with 32 rows, Q6_K: as fast).
 *   given rows    weights decoded to float32 (one fmaf: d q - m) and rounded to bf16 once per panel, bf16
 *                 activations, TDPBF16PS over the whole of K in the accumulator tile, groups of 32 ascending.
 *                 A tile row depends on nothing but its own activations: same bits for any number of rows.
 *
 * Tile state belongs to a call: configured when it begins, released when it ends. */
#include "kernels/x86/amx.h"
#include "kernels/x86/avx512vnni.h"
#include "kernels/brain12_linear.h"
#include "kernels/x86/bytes512.h"
#include "kernels/x86/pairs512.h"
/* after the operations it is written in */
#include "kernels/wide_quant.h"

static inline vf scaled(vi dot, vf d, float dx, vf y) { return v_fma(i_float(dot), v_mul(d, v_set1(dx)), y); }

/* ---- written rows: int8 by group ------------------------------------------------------------------- */

enum { AMX_GROUPS = 32, AMX_ROWS = 16 };

/* The groups of a panel that are worked on at once, taken apart. */
struct amx_chunk {
    _Alignas(64) int8_t codes[AMX_GROUPS][8][64];
    float d[AMX_GROUPS][16], m[AMX_GROUPS][16];
};

/* Tiles: 0, 1 sums, 2, 4 activations, 3, 5 weights. */
static void amx_configure(void)
{
    struct tile_config c = { .palette = 1 };
    tile_shape(&c, 0, AMX_ROWS, 64), tile_shape(&c, 1, AMX_ROWS, 64);
    tile_shape(&c, 2, AMX_ROWS, PANEL_GROUP), tile_shape(&c, 4, AMX_ROWS, PANEL_GROUP);
    tile_shape(&c, 3, PANEL_GROUP / 4, 64), tile_shape(&c, 5, PANEL_GROUP / 4, 64);
    tile_configure(&c);
}

/* Q8_0 keeps signed bytes: a group's codes are a tile already. */
WIDE_INLINE bool amx_direct(struct panel_shape s) { return s.whole; }

/* The eight quads of group g0 + i. */
WIDE_INLINE const int8_t *amx_codes(struct panel_shape s, const struct amx_chunk *w, const uint8_t *panel,
                                    size_t g0, size_t i)
{
    size_t g = g0 + i;
    if (!amx_direct(s)) return w->codes[i][0];
    return (const int8_t *)panel + g / s.groups * s.bytes + s.codes + g % s.groups * s.step;
}

/* Signed codes and scales of groups g0..g1. */
WIDE_INLINE void amx_unpack(struct panel_shape s, const uint8_t *panel, size_t g0, size_t g1,
                            struct amx_chunk *to)
{
    const vb zero = _mm512_set1_epi8((char)s.zero);
    for (size_t g = g0; g < g1; g++) {
        const uint8_t *unit = panel + g / s.groups * s.bytes;
        const uint8_t *codes = unit + s.codes + g % s.groups * s.step;
        size_t i = g - g0;
        for (size_t at = 0; at < s.bytes / s.groups; at += 64) __builtin_prefetch(codes + QUANT_AHEAD + at);
        if (!amx_direct(s)) {
            vb w[8];
            quant_codes(s, codes, w);
            WIDE_UNROLL
            for (int q = 0; q < 8; q++) _mm512_store_si512(to->codes[i][q], _mm512_sub_epi8(w[q], zero));
        }
        struct quant_scales f = quant_scales(s, unit, g % s.groups, 0);
        v_store(to->d[i], f.d);
        if (s.min) v_store(to->m[i], f.m);
    }
    tile_fence(to);
}

/* Two groups' sums. */
struct amx_sums { _Alignas(64) int32_t dot[2][AMX_ROWS][16]; };

/* w: the quads of this group; next: those of the group after it, or NULL */
static inline void amx_multiply(const int8_t *w, const int8_t *next, const int8_t *q, size_t ldq,
                                struct amx_sums *to)
{
    _tile_zero(0);
    _tile_loadd(2, q, ldq);
    _tile_loadd(3, w, 64);
    _tile_dpbssd(0, 2, 3);
    _tile_stored(0, to->dot[0], 64);
    if (!next) return;
    _tile_zero(1);
    _tile_loadd(4, q + PANEL_GROUP, ldq);
    _tile_loadd(5, next, 64);
    _tile_dpbssd(1, 4, 5);
    _tile_stored(1, to->dot[1], 64);
}

/* Row r of a product added to y. */
WIDE_INLINE vf amx_add(struct panel_shape s, const struct amx_chunk *w, size_t i, const int32_t dot[16],
                       float dx, float sx, vf y)
{
    y = scaled(_mm512_load_si512(dot), v_load(w->d[i]), dx, y);
    if (!s.min) return y;
    const vf m = v_load(w->m[i]);
    return s.plus ? v_fma(m, v_set1(sx), y) : v_fnma(m, v_set1(sx), y);
}

/* The chunk of n groups from g0 on times 16 rows, whose sums stay in registers; x begins at group g0. y is
 * continued unless g0 is 0. */
WIDE_INLINE void amx_block(struct panel_shape s, const struct amx_chunk *w, const uint8_t *panel, size_t g0,
                           size_t n, const struct act *x, float *y, size_t ldy)
{
    struct amx_sums t;
    vf sum[AMX_ROWS];
    WIDE_UNROLL
    for (size_t r = 0; r < AMX_ROWS; r++) sum[r] = g0 ? v_load(y + r * ldy) : v_set1(0);
    for (size_t i = 0; i < n; i += 2) {
        const int8_t *next = i + 1 < n ? amx_codes(s, w, panel, g0, i + 1) : NULL;
        amx_multiply(amx_codes(s, w, panel, g0, i), next, x->q + i * PANEL_GROUP, x->ldq, &t);
        for (size_t h = 0; h < 2 && i + h < n; h++) {
            const float *dx = x->d + i + h, *sx = x->s + i + h;
            WIDE_UNROLL
            for (size_t r = 0; r < AMX_ROWS; r++)
                sum[r] = amx_add(s, w, i + h, t.dot[h][r], dx[r * x->ldd], sx[r * x->ldd], sum[r]);
        }
    }
    WIDE_UNROLL
    for (size_t r = 0; r < AMX_ROWS; r++) v_store(y + r * ldy, sum[r]);
}

/* Rows r on, of the chunk that begins at group g0. */
WIDE_INLINE struct act amx_rows(const struct act *x, size_t r, size_t g0)
{
    struct act at = quant_rows(x, r);
    at.q += g0 * PANEL_GROUP;
    at.d += g0;
    at.s += g0;
    at.sum += 2 * g0;
    return at;
}

/* Whole blocks of 16 rows; what is left is AVX-512 VNNI's. */
WIDE_INLINE void amx_linear(enum dtype t, const uint8_t *panels, size_t n_panels, size_t k,
                            const struct act *x, size_t rows, float *y, size_t ldy)
{
    const struct panel_shape s = quant_shape(t);
    struct amx_chunk chunk;
    size_t bytes = panel_bytes(t, k), groups = k / PANEL_GROUP, whole = k ? rows / AMX_ROWS * AMX_ROWS : 0;
    if (whole) amx_configure();
    for (size_t p = 0; whole && p < n_panels; p++)
        for (size_t g0 = 0, g1; g0 < groups; g0 = g1) {
            g1 = groups - g0 < AMX_GROUPS ? groups : g0 + AMX_GROUPS;
            amx_unpack(s, panels + p * bytes, g0, g1, &chunk);
            for (size_t r = 0; r < whole; r += AMX_ROWS) {
                struct act at = amx_rows(x, r, g0);
                amx_block(s, &chunk, panels + p * bytes, g0, g1 - g0, &at, y + r * ldy + p * PANEL_COLS, ldy);
            }
        }
    if (whole) _tile_release();
    struct act left = quant_rows(x, whole);
    if (whole < rows) linear_avx512vnni(t)(panels, n_panels, k, &left, rows - whole, y + whole * ldy, ldy);
}

/* ---- given rows: bf16, whole K ----------------------------------------------------------------------- */

enum { GIVEN_GROUPS = 32, GIVEN_ROWS = 32, GIVEN_PANELS = 2 };

/* Weights of some groups as tiles: [16 pairs of K][16 columns][2]. */
struct given_chunk { _Alignas(64) uint16_t w[GIVEN_PANELS][GIVEN_GROUPS][16][32]; };

/* Codes in byte n of every lane, as floats. */
WIDE_INLINE vf given_code(vb quads, unsigned n)
{
    vi x = n ? _mm512_srli_epi32(quads, 8 * n) : quads;
    return i_float(n < 3 ? i_low(x, 255) : x);
}

/* d code + add; under exponents d zero may be infinite where d (code - zero) is not. */
WIDE_INLINE vf given_weight(struct panel_shape s, vf d, vf code, vf add)
{
    return s.exponent ? v_mul(d, v_sub(code, v_set1((float)s.zero))) : v_fma(d, code, add);
}

WIDE_INLINE void given_unpack(enum dtype t, const uint8_t *panel, size_t g0, size_t g1,
                              uint16_t (*to)[16][32])
{
    const struct panel_shape s = quant_shape(t);
    for (size_t g = g0; g < g1; g++) {
        const uint8_t *unit = panel + g / s.groups * s.bytes;
        const uint8_t *codes = unit + s.codes + g % s.groups * s.step;
        for (size_t at = 0; at < s.bytes / s.groups; at += 64) __builtin_prefetch(codes + QUANT_AHEAD + at);
        vb w[8];
        quant_codes(s, codes, w);
        struct quant_scales f = quant_scales(s, unit, g % s.groups, 0);
        WIDE_UNROLL
        for (int h = 0; h < 2; h++) {
            vf d = s.sub == 16 ? v_mul(f.d, i_float(f.sub[h])) : f.d;          /* exact: 11 and 8 bits */
            vf m = s.min == PANEL_SUBMIN ? v_mul(f.m, i_float(f.submin[h])) : f.m;
            /* what fmaf adds: the file's own minimum, minus m_w, or -d zero, exact as zero is 2^n */
            vf add = !s.min ? v_mul(d, v_set1((float)-s.zero)) : s.plus ? m : v_sub(v_set1(0), m);
            WIDE_UNROLL
            for (int q = 4 * h; q < 4 * h + 4; q++)
                WIDE_UNROLL
                for (unsigned n = 0; n < 4; n += 2) {
                    vf even = given_weight(s, d, given_code(w[q], n), add);
                    vf odd = given_weight(s, d, given_code(w[q], n + 1), add);
                    _mm512_store_si512(to[g - g0][2 * q + (int)n / 2], v_pairs(even, odd));
                }
        }
    }
}

/* The tiles of groups g0..g1, one after the other. BF16 panels are tiles already; only the last group of
 * a K that is no multiple of 32 needs its zeros. */
WIDE_INLINE const uint16_t *given_tiles(enum dtype t, const uint8_t *panel, size_t k, size_t g0, size_t g1,
                                        uint16_t (*to)[16][32])
{
    if (t != DT_BF16) {
        given_unpack(t, panel, g0, g1, to);
        return to[0][0];
    }
    panel += g0 * sizeof *to;
    if (g1 * PANEL_GROUP <= k) return (const uint16_t *)(const void *)panel;
    memset(to, 0, sizeof *to);
    memcpy(to, panel, (k - g0 * PANEL_GROUP + 1) / 2 * 64);
    return to[0][0];
}

/* The same of a panel of brain12.h. */
WIDE_INLINE const uint16_t *given_tiles12(const void *panel, size_t k, size_t g0, size_t g1, uint16_t (*to)[16][32])
{
    const uint32_t *list = brain12_list(panel, k);
    size_t k0 = g0 * PANEL_GROUP, k1 = g1 * PANEL_GROUP < k ? g1 * PANEL_GROUP : k;
    while (*list < (uint32_t)(k0 * PANEL_COLS) << 8) list++;
    if (k1 % PANEL_GROUP) memset(to, 0, sizeof *to);
    brain12_lines(v_brain12, panel, k0, k1, list, (uint8_t *)to);
    return to[0][0];
}

/* The chunk times all rows. A last group that is not whole (float types) takes its activations from a
 * copy padded with zeros, as a chunk of its own. */
static void given_rows(bool two_panels, const uint16_t *const w[2], size_t n, size_t k_left,
                       const struct act *x, size_t k0, size_t rows, float *y, size_t ldy, bool more,
                       size_t *configured)
{
    _Alignas(64) uint16_t pad[GIVEN_ROWS][PANEL_GROUP];
    for (size_t r = 0; r < rows; r += GIVEN_ROWS) {
        size_t nr = rows - r < GIVEN_ROWS ? rows - r : GIVEN_ROWS, ldh = x->ldh;
        const uint16_t *h = x->h + r * ldh + k0;
        if (k_left < PANEL_GROUP) {
            memset(pad, 0, sizeof pad);
            for (size_t i = 0; i < nr; i++) memcpy(pad[i], h + i * ldh, k_left * sizeof *h);
            tile_fence(pad);
            h = pad[0];
            ldh = PANEL_GROUP;
        }
        if (nr != *configured) {
            tiles_configure(nr < 16 ? nr : 16, nr > 16 ? nr - 16 : 0);
            *configured = nr;
        }
        tiles_times(nr > 16, two_panels, w, n, h, ldh, y + r * ldy, ldy, PANEL_COLS, more);
    }
}

/* `twelve`: panels of brain12.h, t is DT_BF16. */
WIDE_INLINE void given_linear(enum dtype t, bool twelve, const uint8_t *panels, size_t n_panels, size_t k,
                              const struct act *x, size_t rows, float *y, size_t ldy)
{
    struct given_chunk chunk;
    size_t bytes = twelve ? brain12_bytes(k) : panel_bytes(t, k), configured = 0, np, k1;
    for (size_t p = 0; p < n_panels; p += np, y += np * PANEL_COLS) {
        np = n_panels - p < GIVEN_PANELS ? 1 : GIVEN_PANELS;
        if (k == 0)
            for (size_t r = 0; r < rows; r++) memset(y + r * ldy, 0, np * PANEL_COLS * sizeof *y);
        for (size_t k0 = 0; k0 < k; k0 = k1) {
            size_t whole = (k - k0) / PANEL_GROUP, g0 = k0 / PANEL_GROUP;
            size_t n = whole > GIVEN_GROUPS ? GIVEN_GROUPS : whole ? whole : 1;
            k1 = whole ? k0 + n * PANEL_GROUP : k;
            const uint16_t *w[GIVEN_PANELS] = { NULL };
            for (size_t i = 0; i < np; i++)
                w[i] = twelve ? given_tiles12(panels + (p + i) * bytes, k, g0, g0 + n, chunk.w[i])
                              : given_tiles(t, panels + (p + i) * bytes, k, g0, g0 + n, chunk.w[i]);
            tile_fence(&chunk);
            given_rows(np == 2, w, n, k1 - k0, x, k0, rows, y, ldy, k0 > 0, &configured);
        }
    }
    _tile_release();
}

/* ---- roofs ---------------------------------------------------------------------------------- */

/* Four sums, two tiles of rows and two of weights, the latter loaded anew as a kernel must. */
#define AMX_PEAK(NAME, PRODUCT, MACS)                                  \
    static uint64_t NAME(size_t rounds)                                \
    {                                                                  \
        static const _Alignas(64) uint8_t from[2][1024];               \
        struct tile_config c = { .palette = 1 };                       \
        for (int t = 0; t < 8; t++) tile_shape(&c, t, 16, 64);         \
        tile_configure(&c);                                            \
        _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);    \
        _tile_loadd(4, from[0], 64); _tile_loadd(5, from[1], 64);      \
        for (size_t r = 0; r < rounds; r++) {                          \
            tile_fence(from);                                          \
            _tile_loadd(6, from[0], 64); _tile_loadd(7, from[1], 64);  \
            PRODUCT(0, 4, 6); PRODUCT(1, 4, 7);                        \
            PRODUCT(2, 5, 6); PRODUCT(3, 5, 7);                        \
        }                                                              \
        _tile_release();                                               \
        return (uint64_t)rounds * 4 * (MACS);                          \
    }
AMX_PEAK(peak_int8, _tile_dpbssd, 16 * 16 * 64)
AMX_PEAK(peak_bf16, _tile_dpbf16ps, 16 * 16 * 32)

/* ---- the table ---------------------------------------------------------------------------------------- */

#define AMX_TYPE(T, ...)                                                                                 \
    static void linear_##T##_amx(const void *panels, size_t n_panels, size_t k, const struct act *x,     \
                                 size_t rows, float *y, size_t ldy)                                      \
    {                                                                                                    \
        amx_linear(DT_##T, panels, n_panels, k, x, rows, y, ldy);                                        \
    }                                                                                                    \
    GIVEN_TYPE(T)
#define GIVEN_TYPE(T)                                                                                    \
    static void given_##T##_amx(const void *panels, size_t n_panels, size_t k, const struct act *x,      \
                                size_t rows, float *y, size_t ldy)                                       \
    {                                                                                                    \
        given_linear(DT_##T, false, panels, n_panels, k, x, rows, y, ldy);                               \
    }
GIVEN_TYPE(BF16)
DTYPES_CODED(AMX_TYPE)

static void given_brain12_amx(const void *panels, size_t n_panels, size_t k, const struct act *x, size_t rows,
                              float *y, size_t ldy)
{
    given_linear(DT_BF16, true, panels, n_panels, k, x, rows, y, ldy);
}

/* Sub-blocks of 16 take two products a group: written rows are faster without tiles (see above). */
static void amx_take(struct kernels *k, enum dtype t, int sub, linear_fn *linear, linear_fn *given)
{
    if (sub != 16) k->linear[t] = linear, k->linear_level[t] = "amx";
    k->linear_given[t] = given, k->linear_given_level[t] = "amx";
}

void kernels_init_amx(struct kernels *k)
{
#define AMX_ROW(T, ...) amx_take(k, DT_##T, panel_shape(DT_##T).sub, linear_##T##_amx, given_##T##_amx);
    DTYPES_CODED(AMX_ROW)
    k->linear_given[DT_BF16] = given_BF16_amx, k->linear_given_level[DT_BF16] = "amx";
    k->brain12_given = given_brain12_amx;
    k->learn_linear = given_BF16_amx;
    learn_init_amx(k);
    attn_init_amx(k);
    k->row_block = 512;
    k->peak[ARITHMETIC_INT8] = peak_int8;
    k->peak[ARITHMETIC_BF16] = peak_bf16;
}
