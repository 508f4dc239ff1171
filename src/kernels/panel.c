/* The panel layouts of panel.h, written and read. File layouts are those of ggml: Q4_x and Q5_x
 * keep K j and j + 16 of a block in one byte; K-quants keep 64 or 128 apart. Codes move four at a
 * time as words, whose bytes never touch each other. Packing is most of the time a model takes to
 * open, so it is compiled once per type (FOR_TYPE): the type's choices fold away. */
#include "kernels/panel.h"
#include "kernels/scalar.h"
#include <stdbool.h>

#define FOR_TYPE static inline __attribute__((always_inline))

/* Planes of a group in their order, and where things are in a unit. file_*: offsets in the file's
 * block. */
struct layout {
    uint16_t unit_k, unit_bytes;
    uint16_t codes_at, codes_step;          /* of group g of the unit                     */
    uint16_t d_at, d_step;                  /* f16 d of group g                           */
    uint8_t bytes, nib, two, one;           /* which planes                               */
    uint8_t zero;                           /* value of a code is code - zero             */
    uint8_t sub;                            /* elements under one sub-scale: 16, 32 or 0  */
    uint8_t min;                            /* enum panel_min                             */
    uint16_t m_at;                          /* f16 m or dmin                              */
    uint16_t file_block, file_bytes, file_d, file_m;
};

static const struct layout layouts[DT_COUNT] = {
    [DT_Q4_0] = {64, PANEL_Q4_0, 0, 256, 512, 32, 0, 1, 0, 0, 8, 0, 0, 0, 32, 18, 0, 0},
    [DT_Q5_0] = {64, PANEL_Q5_0, 0, 320, 640, 32, 0, 1, 0, 1, 16, 0, 0, 0, 32, 22, 0, 0},
    [DT_Q8_0] = {64, PANEL_Q8_0, 0, 512, 1024, 32, 1, 0, 0, 0, 0, 0, 0, 0, 32, 34, 0, 0},
    [DT_Q4_1] = {32, PANEL_Q4_1, 0, 0, 256, 0, 0, 1, 0, 0, 0, 0, PANEL_MIN, 288, 32, 20, 0, 2},
    [DT_Q5_1] = {32, PANEL_Q5_1, 0, 0, 320, 0, 0, 1, 0, 1, 0, 0, PANEL_MIN, 352, 32, 24, 0, 2},
    [DT_Q2_K] = {256, PANEL_Q2_K, PANEL_SUPER, 128, 0, 0, 0, 0, 1, 0, 0, 16, PANEL_SUBMIN, 32, 256,
                 84, 80, 82},
    [DT_Q3_K] = {256, PANEL_Q3_K, PANEL_SUPER, 192, 0, 0, 0, 0, 1, 1, 4, 16, 0, 0, 256, 110, 108,
                 0},
    [DT_Q4_K] = {256, PANEL_Q4_K, PANEL_SUPER, 256, 0, 0, 0, 1, 0, 0, 0, 32, PANEL_MIN, 32, 256,
                 144, 0, 2},
    [DT_Q5_K] = {256, PANEL_Q5_K, PANEL_SUPER, 320, 0, 0, 0, 1, 0, 1, 0, 32, PANEL_MIN, 32, 256,
                 176, 0, 2},
    [DT_Q6_K] = {256, PANEL_Q6_K, PANEL_SUPER, 384, 0, 0, 0, 1, 1, 0, 32, 16, 0, 0, 256, 210, 208,
                 0},
};

enum panel_min panel_min(enum dtype t) { return (enum panel_min)layouts[t].min; }

static size_t float_bytes(enum dtype t, size_t k)
{
    size_t n = t == DT_F32 ? k * 64 : t == DT_F16 ? k * 32 : (k + 1) / 2 * 64;
    return (n + 63) & ~(size_t)63;
}

size_t panel_bytes(enum dtype t, size_t k)
{
    const struct layout *l = &layouts[t];
    if (!l->unit_k) return float_bytes(t, k);
    return (k + l->unit_k - 1) / l->unit_k * l->unit_bytes;
}

/* ---- the file's blocks ----------------------------------------------------------------------- */

/* Four bits to four bytes. */
static uint32_t spread(uint32_t bits) { return ((bits & 15) * 0x00204081u) & 0x01010101u; }

/* The codes of group g of a block as eight quads. */
FOR_TYPE void file_codes(enum dtype t, const uint8_t *b, size_t g, uint32_t q[8])
{
    const uint32_t n4 = 0x0f0f0f0f, n2 = 0x03030303, n1 = 0x01010101;
    for (size_t i = 0; i < 8; i++) {
        size_t half = g / 4, r = g % 4, at = 4 * i;
        switch (t) {
        case DT_Q4_0: q[i] = load_word(b + 2 + at % 16) >> i / 4 * 4 & n4; break;
        case DT_Q4_1: q[i] = load_word(b + 4 + at % 16) >> i / 4 * 4 & n4; break;
        case DT_Q5_0:
            q[i] = (load_word(b + 6 + at % 16) >> i / 4 * 4 & n4) | spread(load_word(b + 2) >> at)
                                                                        << 4;
            break;
        case DT_Q5_1:
            q[i] = (load_word(b + 8 + at % 16) >> i / 4 * 4 & n4) | spread(load_word(b + 4) >> at)
                                                                        << 4;
            break;
        case DT_Q8_0: q[i] = load_word(b + 2 + at); break;
        case DT_Q2_K: q[i] = load_word(b + 16 + 32 * half + at) >> 2 * r & n2; break;
        case DT_Q3_K:
            q[i] = (load_word(b + 32 + 32 * half + at) >> 2 * r & n2) |
                   (load_word(b + at) >> g & n1) << 2;
            break;
        case DT_Q4_K: q[i] = load_word(b + 16 + g / 2 * 32 + at) >> g % 2 * 4 & n4; break;
        case DT_Q5_K:
            q[i] = (load_word(b + 48 + g / 2 * 32 + at) >> g % 2 * 4 & n4)
                   | (load_word(b + 16 + at) >> g & n1) << 4;
            break;
        case DT_Q6_K:
            q[i] = (load_word(b + 64 * half + r % 2 * 32 + at) >> r / 2 * 4 & n4)
                   | (load_word(b + 128 + 32 * half + at) >> 2 * r & n2) << 4;
            break;
        default: q[i] = 0;
        }
    }
}

/* Sub-scales of Q4_K and Q5_K: 6 bits each, the upper four groups in pieces. */
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

/* Byte of sub-block s (of 16 elements) as panels store it. */
FOR_TYPE uint8_t file_sub16(enum dtype t, const uint8_t *b, size_t s)
{
    if (t == DT_Q2_K) return b[s];
    if (t == DT_Q6_K) return b[192 + s];
    const uint8_t *p = b + 96;
    int v = (s < 8 ? p[s] & 15 : p[s - 8] >> 4) | (p[8 + s % 4] >> s / 4 * 2 & 3) << 4;
    return (uint8_t)(v - 32);
}

/* Whether a panel has bytes that no weight fills. */
static bool panel_pads(enum dtype t, size_t k)
{
    const struct layout *l = &layouts[t];
    if (!l->unit_k) return (t == DT_BF16 || t == DT_F16) && k % 2;
    return k % l->unit_k || (l->sub == 16 && !l->min);
}

/* ---- packing --------------------------------------------------------------------------------- */

static void store_word(uint8_t *p, uint32_t w) { memcpy(p, &w, sizeof w); }

/* Writes one column's quads of a group; `at` is the column's place in the group's first line. */
FOR_TYPE void put_codes(const struct layout *l, const uint32_t q[8], uint8_t *at)
{
    uint32_t shift = 0;
    if (l->bytes)
        for (size_t i = 0; i < 8; i++) store_word(at + 64 * i, q[i]);
    if (l->nib) {
        for (size_t i = 0; i < 4; i++)
            store_word(at + 64 * i, (q[i] & 0x0f0f0f0f) | (q[i + 4] & 0x0f0f0f0f) << 4);
        at += 256;
        shift = 4;
    }
    if (l->two) {
        for (size_t i = 0; i < 2; i++) {
            uint32_t w = 0;
            for (size_t j = 0; j < 4; j++) w |= (q[i + 2 * j] >> shift & 0x03030303) << 2 * j;
            store_word(at + 64 * i, w);
        }
        at += 128;
        shift += 2;
    }
    if (l->one) {
        uint32_t w = 0;
        for (size_t i = 0; i < 8; i++) w |= (q[i] >> shift & 0x01010101) << i;
        store_word(at, w);
    }
}

FOR_TYPE void put_scales(enum dtype t, const struct layout *l, const uint8_t *b, size_t g, size_t c,
                       uint8_t *unit)
{
    memcpy(unit + l->d_at + g * l->d_step + 2 * c, b + l->file_d, 2);
    if (l->min) memcpy(unit + l->m_at + 2 * c, b + l->file_m, 2);
    uint8_t *sub = unit + PANEL_SUB + 32 * g;
    if (l->sub == 32) file_sub32(b + 4, g, sub + c, sub + 16 + c);
    if (l->sub == 16)
        for (size_t h = 0; h < 2; h++) sub[2 * c + h] = file_sub16(t, b, 2 * g + h);
}

FOR_TYPE void pack_codes(enum dtype t, const uint8_t *cols, size_t stride, size_t n, size_t k,
                         uint8_t *panel)
{
    const struct layout *l = &layouts[t];
    size_t groups = k / PANEL_GROUP, unit_groups = l->unit_k / PANEL_GROUP;
    size_t block_groups = l->file_block / PANEL_GROUP;
    for (size_t g = 0; g < groups; g++) {
        uint8_t *unit = panel + g / unit_groups * l->unit_bytes;
        size_t ug = g % unit_groups;
        for (size_t c = 0; c < n; c++) {
            const uint8_t *block = cols + c * stride + g / block_groups * l->file_bytes;
            uint32_t q[8];
            file_codes(t, block, g % block_groups, q);
            put_codes(l, q, unit + l->codes_at + ug * l->codes_step + 4 * c);
            put_scales(t, l, block, ug, c, unit);
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
#define PACK(T, kind) case DT_##T: pack_##kind(DT_##T, cols, stride, n, k, panel); break
    switch (t) {
        PACK(F32, floats);
        PACK(F16, floats);
        PACK(BF16, floats);
        PACK(Q4_0, codes);
        PACK(Q4_1, codes);
        PACK(Q5_0, codes);
        PACK(Q5_1, codes);
        PACK(Q8_0, codes);
        PACK(Q2_K, codes);
        PACK(Q3_K, codes);
        PACK(Q4_K, codes);
        PACK(Q5_K, codes);
        PACK(Q6_K, codes);
    default: break;
    }
#undef PACK
}

/* ---- reading back ---------------------------------------------------------------------------- */

static int get_code(const struct layout *l, const uint8_t *group, size_t k, size_t c)
{
    size_t quad = k / 4, at = 4 * c + k % 4;
    if (l->bytes) return (int8_t)group[64 * quad + at];
    int code = 0, shift = 0;
    if (l->nib) {
        code = group[quad % 4 * 64 + at] >> quad / 4 * 4 & 15;
        group += 256;
        shift = 4;
    }
    if (l->two) {
        code |= (group[quad % 2 * 64 + at] >> quad / 2 * 2 & 3) << shift;
        group += 128;
        shift += 2;
    }
    if (l->one) code |= (group[at] >> quad & 1) << shift;
    return code - l->zero;
}

void panel_group(enum dtype t, const void *panel, size_t g, struct panel_group *out)
{
    const struct layout *l = &layouts[t];
    size_t unit_groups = l->unit_k / PANEL_GROUP, ug = g % unit_groups;
    const uint8_t *unit = (const uint8_t *)panel + g / unit_groups * l->unit_bytes;
    const uint8_t *codes = unit + l->codes_at + ug * l->codes_step,
                  *sub = unit + PANEL_SUB + 32 * ug;
    for (size_t c = 0; c < PANEL_COLS; c++) {
        for (size_t k = 0; k < PANEL_GROUP; k++) out->code[k][c] = get_code(l, codes, k, c);
        out->d[c] = load_half(unit + l->d_at + ug * l->d_step + 2 * c);
        out->m[c] = l->min ? load_half(unit + l->m_at + 2 * c) : 0;
        if (l->min && l->file_block == 32) out->m[c] = -out->m[c];
        if (l->sub == 32) {
            out->d[c] *= (float)sub[c];
            out->m[c] *= (float)sub[16 + c];
        }
        for (size_t h = 0; h < 2; h++) {
            uint8_t s = sub[2 * c + h];
            out->sub[h][c] = l->sub != 16 ? 1 : t == DT_Q2_K ? s & 15 : (int8_t)s;
            out->submin[h][c] = t == DT_Q2_K ? s >> 4 : 1;
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
    if (!layouts[t].unit_k) {
        decode_floats(t, panel, k, out);
        return;
    }
    struct panel_group w;
    for (size_t i = 0; i < k; i++) {
        if (i % PANEL_GROUP == 0) panel_group(t, panel, i / PANEL_GROUP, &w);
        for (size_t c = 0; c < PANEL_COLS; c++) {
            size_t h = i % PANEL_GROUP / 16;
            float v = w.d[c] * (float)w.sub[h][c] * (float)w.code[i % PANEL_GROUP][c];
            out[i * 16 + c] = layouts[t].min ? v - w.m[c] * (float)w.submin[h][c] : v;
        }
    }
}
