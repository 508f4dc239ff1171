/* The panel layouts of panel.h, written and read. What a file's block looks like is the type's row
 * (tensor/dtype_rows.h). Codes move four at a time as words, whose bytes never touch each other.
 * Packing is most of the time a model takes to open, so it is compiled once per type (FOR_TYPE): the
 * type's choices fold away. */
#include "kernels/panel_shape.h"
#include "kernels/scalar.h"

#define FOR_TYPE static inline __attribute__((always_inline))

/* The shape and the row of a type that is known only at run time. */
static struct panel_shape shape_of(enum dtype t)
{
    switch (t) {
#define X(T, ...) case DT_##T: return panel_shape(DT_##T);
        DTYPES(X)
#undef X
    default: return (struct panel_shape){ 0 };
    }
}

enum panel_min panel_min(enum dtype t) { return shape_of(t).min; }

static size_t float_bytes(enum dtype t, size_t k)
{
    size_t n = t == DT_F32 ? k * 64 : t == DT_F16 ? k * 32 : (k + 1) / 2 * 64;
    return (n + 63) & ~(size_t)63;
}

size_t panel_bytes(enum dtype t, size_t k)
{
    const struct panel_shape s = shape_of(t);
    if (!s.groups) return float_bytes(t, k);
    size_t unit_k = s.groups * PANEL_GROUP, left = k % unit_k;
    if (s.codes && left) return k / unit_k * s.bytes + s.codes + left / PANEL_GROUP * s.step;
    return (k + unit_k - 1) / unit_k * s.bytes;
}

/* ---- the file's blocks ----------------------------------------------------------------------- */

/* Four bits to four bytes. */
static uint32_t spread(uint32_t bits) { return ((bits & 15) * 0x00204081u) & 0x01010101u; }

/* The four pairs of bits of a byte to four bytes. */
static uint32_t spread_two(uint32_t byte)
{
    return (byte | byte << 6 | byte << 12 | byte << 18) & 0x03030303;
}

/* The codes of group g of a block as eight quads. Element k = 32 g + i of a block: its nibble lies with the
 * one `nib_apart` from it in a byte, its two bits with those 32 (or 1) apart, its single bit with those 32 apart
 * in super-blocks and in one word of 32 bits otherwise. */
FOR_TYPE void file_codes(const struct dtype_info row, const uint8_t *b, size_t g, uint32_t q[8])
{
    const uint32_t n4 = 0x0f0f0f0f, n2 = 0x03030303, n1 = 0x01010101;
    for (size_t i = 0; i < 8; i++) {
        size_t at = 4 * i, k = PANEL_GROUP * g + at, up = 0;
        q[i] = 0;
        if (row.planes & CODE_BYTES) q[i] = load_word(b + row.bytes_at + k);
        if (row.planes & CODE_NIB) {
            size_t apart = row.nib_apart, in = k % (2 * apart);
            const uint8_t *p = b + row.nib_at + k / (2 * apart) * apart + in % apart;
            q[i] = load_word(p) >> in / apart * 4 & n4;
            up = 4;
        }
        if (row.planes & CODE_TWO) {
            const uint8_t *p = b + row.two_at;
            q[i] |= (row.two_apart == 1 ? spread_two(p[k / 4])
                                        : load_word(p + k / 128 * 32 + at) >> g % 4 * 2 & n2) << up;
            up += 2;
        }
        if (row.planes & CODE_ONE)
            q[i] |= (row.block == 32 ? spread(load_word(b + row.one_at) >> at)
                                     : load_word(b + row.one_at + at) >> g & n1) << up;
    }
}

/* SUB_PAIRS_6: scale and minimum of 6 bits each, the upper four groups in pieces. */
FOR_TYPE void file_sub32(const uint8_t *s, size_t g, uint8_t *sc, uint8_t *m)
{
    if (g < 4) {
        *sc = s[g] & 63;
        *m = s[g + 4] & 63;
    } else {
        *sc = (uint8_t)((s[g + 4] & 15) | s[g - 4] >> 6 << 4);
        *m = (uint8_t)(s[g + 4] >> 4 | s[g] >> 6 << 4);
    }
}

/* SUB_SIX_32, of group g. */
FOR_TYPE uint8_t file_sub_six(const uint8_t *s, size_t g)
{
    return (uint8_t)(((s[2 + g / 2] >> g % 2 * 4 & 15) | (s[g / 4] >> g % 4 * 2 & 3) << 4) - 32);
}

/* Byte of sub-block s (of 16 elements) as panels store it. */
FOR_TYPE uint8_t file_sub16(enum dtype_sub kind, const uint8_t *p, size_t s)
{
    if (kind != SUB_SIX) return p[s];
    int v = (s < 8 ? p[s] & 15 : p[s - 8] >> 4) | (p[8 + s % 4] >> s / 4 * 2 & 3) << 4;
    return (uint8_t)(v - 32);
}

/* Whether a panel has bytes that no weight fills. */
static bool panel_pads(enum dtype t, size_t k)
{
    const struct panel_shape s = shape_of(t);
    if (!s.groups) return (t == DT_BF16 || t == DT_F16) && k % 2;
    return k % (s.groups * PANEL_GROUP) || (s.groups == 8 && !s.min);
}

/* ---- packing --------------------------------------------------------------------------------- */

static void store_word(uint8_t *p, uint32_t w) { memcpy(p, &w, sizeof w); }

/* Writes one column's quads of a group; `at` is the column's place in the group's first line. */
FOR_TYPE void put_codes(const struct panel_shape s, const uint32_t q[8], uint8_t *at)
{
    uint32_t shift = 0;
    if (s.whole)
        for (size_t i = 0; i < 8; i++) store_word(at + 64 * i, q[i]);
    if (s.nib) {
        for (size_t i = 0; i < 4; i++)
            store_word(at + 64 * i, (q[i] & 0x0f0f0f0f) | (q[i + 4] & 0x0f0f0f0f) << 4);
        at += 256;
        shift = 4;
    }
    if (s.two) {
        for (size_t i = 0; i < 2; i++) {
            uint32_t w = 0;
            for (size_t j = 0; j < 4; j++) w |= (q[i + 2 * j] >> shift & 0x03030303) << 2 * j;
            store_word(at + 64 * i, w);
        }
        at += 128;
        shift += 2;
    }
    if (s.one) {
        uint32_t w = 0;
        for (size_t i = 0; i < 8; i++) w |= (q[i] >> shift & 0x01010101) << i;
        store_word(at, w);
    }
}

FOR_TYPE void put_scales(const struct dtype_info row, const struct panel_shape s, const uint8_t *b, size_t bg,
                         size_t g, size_t c, uint8_t *unit)
{
    size_t d = s.d + g / s.d_groups * s.d_step;
    if (s.exponent) unit[d + c] = b[row.d_at];
    else memcpy(unit + d + 2 * c, b + row.d_at, 2);
    if (s.min) memcpy(unit + s.m + 2 * c, b + row.m_at, 2);
    uint8_t *sub = unit + PANEL_SUB + s.sub_step * g;
    if (row.sub == SUB_PAIRS_6) file_sub32(b + row.sub_at, bg, sub + c, sub + 16 + c);
    if (row.sub == SUB_SIX_32) sub[c] = file_sub_six(b + row.sub_at, bg);
    if (s.sub == 16)
        for (size_t h = 0; h < 2; h++) sub[2 * c + h] = file_sub16(row.sub, b + row.sub_at, 2 * bg + h);
}

FOR_TYPE void pack_codes(enum dtype t, const uint8_t *cols, size_t stride, size_t n, size_t k,
                         uint8_t *panel)
{
    const struct dtype_info row = dtype_row(t);
    const struct panel_shape s = panel_shape(t);
    size_t groups = k / PANEL_GROUP, block_groups = row.block / PANEL_GROUP;
    for (size_t g = 0; g < groups; g++) {
        uint8_t *unit = panel + g / s.groups * s.bytes;
        size_t ug = g % s.groups, bg = g % block_groups;
        for (size_t c = 0; c < n; c++) {
            const uint8_t *block = cols + c * stride + g / block_groups * row.bytes;
            uint32_t q[8];
            file_codes(row, block, bg, q);
            put_codes(s, q, unit + s.codes + ug * s.step + 4 * c);
            put_scales(row, s, block, bg, ug, c, unit);
        }
    }
}

FOR_TYPE void pack_floats(enum dtype t, const uint8_t *cols, size_t stride, size_t n, size_t k,
                          uint8_t *panel)
{
    size_t size = t == DT_F32 ? 4 : 2;
    for (size_t c = 0; c < n; c++)
        for (size_t i = 0; i < k; i++) {
            size_t at = t == DT_BF16 ? i / 2 * 32 + 2 * c + i % 2 : i * PANEL_COLS + c;
            memcpy(panel + at * size, cols + c * stride + i * size, size);
        }
}

void panel_pack(enum dtype t, const void *cols, size_t stride, size_t n, size_t k, void *panel)
{
    if (n < PANEL_COLS || panel_pads(t, k)) memset(panel, 0, panel_bytes(t, k));
    switch (t) {
#define X(T, ...) case DT_##T: pack_floats(DT_##T, cols, stride, n, k, panel); break;
        DTYPES_FLOAT(X)
#undef X
#define X(T, ...) case DT_##T: pack_codes(DT_##T, cols, stride, n, k, panel); break;
        DTYPES_CODED(X)
#undef X
    default: break;
    }
}

/* ---- reading back ---------------------------------------------------------------------------- */

static int get_code(const struct panel_shape s, const uint8_t *group, size_t k, size_t c)
{
    size_t quad = k / 4, at = 4 * c + k % 4;
    if (s.whole) return (int8_t)group[64 * quad + at];
    int code = 0, shift = 0;
    if (s.nib) {
        code = group[quad % 4 * 64 + at] >> quad / 4 * 4 & 15;
        group += 256;
        shift = 4;
    }
    if (s.two) {
        code |= (group[quad % 2 * 64 + at] >> quad / 2 * 2 & 3) << shift;
        group += 128;
        shift += 2;
    }
    if (s.one) code |= (group[at] >> quad & 1) << shift;
    return s.values ? s.values[code] : code - s.zero;
}

void panel_group(enum dtype t, const void *panel, size_t g, struct panel_group *out)
{
    const struct panel_shape s = shape_of(t);
    size_t ug = g % s.groups;
    const uint8_t *unit = (const uint8_t *)panel + g / s.groups * s.bytes;
    const uint8_t *codes = unit + s.codes + ug * s.step, *sub = unit + PANEL_SUB + s.sub_step * ug;
    for (size_t c = 0; c < PANEL_COLS; c++) {
        for (size_t k = 0; k < PANEL_GROUP; k++) out->code[k][c] = get_code(s, codes, k, c);
        const uint8_t *d = panel_d(s, unit, ug);
        out->d[c] = s.exponent ? exponent_to_float(d[c]) : load_half(d + 2 * c);
        out->m[c] = s.min ? load_half(unit + s.m + 2 * c) : 0;
        if (s.plus) out->m[c] = -out->m[c];
        if (s.sub == 32) out->d[c] *= s.min ? (float)sub[c] : (float)(int8_t)sub[c];
        if (s.sub == 32 && s.min) out->m[c] *= (float)sub[16 + c];
        for (size_t h = 0; h < 2; h++) {
            uint8_t b = sub[2 * c + h];
            out->sub[h][c] = s.sub != 16 ? 1 : s.sub_nibbles ? b & 15 : (int8_t)b;
            out->submin[h][c] = s.sub_nibbles ? b >> 4 : 1;
        }
    }
}

static void decode_floats(enum dtype t, const uint8_t *panel, size_t k, float *out)
{
    for (size_t i = 0; i < k; i++)
        for (size_t c = 0; c < PANEL_COLS; c++) {
            const uint8_t *at =
                panel + (t == DT_BF16 ? i / 2 * 32 + 2 * c + i % 2 : i * 16 + c) * 2;
            uint16_t h;
            memcpy(&h, at, sizeof h);
            out[i * 16 + c] = t == DT_F16 ? half_to_float(h) : brain_to_float(h);
        }
}

void panel_decode(enum dtype t, const void *panel, size_t k, float *out)
{
    if (t == DT_F32) {
        memcpy(out, panel, k * 64);
        return;
    }
    const struct panel_shape s = shape_of(t);
    if (!s.groups) {
        decode_floats(t, panel, k, out);
        return;
    }
    struct panel_group w;
    for (size_t i = 0; i < k; i++) {
        if (i % PANEL_GROUP == 0) panel_group(t, panel, i / PANEL_GROUP, &w);
        for (size_t c = 0; c < PANEL_COLS; c++) {
            size_t h = i % PANEL_GROUP / 16;
            float v = w.d[c] * (float)w.sub[h][c] * (float)w.code[i % PANEL_GROUP][c];
            out[i * 16 + c] = s.min ? v - w.m[c] * (float)w.submin[h][c] : v;
        }
    }
}
