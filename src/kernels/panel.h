/* How weights lie in memory: panels of 16 output columns, made for one pass over the weights per
 * step whatever the number of rows. One layout per dtype, the same on every CPU level, so a packed
 * weight can be shared and cached. Packing is lossless: bits move, nothing is rounded again.
 *
 * Within a panel, K runs in groups of 32 and codes in "quads" of 4 consecutive K: 16 columns x 4
 * bytes is one 64-byte line, which serves VPMADDUBSW, VPDPBUSD, SDOT and TDPBUSD alike. A group's
 * codes are up to three planes, each whole lines; byte [4 * col + i] of a line is K = 4 * quad + i:
 *
 *   bytes  8 lines: line q is quad q (int8)
 *   nib    4 lines: line l has quad l in bits 0-3 and quad l + 4 in bits 4-7
 *   two    2 lines: line l has quad l + 2j in bits 2j, 2j+1 (j = 0..3)
 *   one    1 line:  quad q in bit q
 *
 * Groups come in units whose size is whole lines. What a unit is follows from the type's row
 * (tensor/dtype_rows.h) by the rules of panel_shape.h, where the kernels take it from:
 *
 *   blocks of 32              two groups: codes, codes of the 2nd, f16 d[16], d of the 2nd. An odd last
 *                             group leaves its half zero
 *   blocks of 32, minimum     one group: codes, f16 d[16], f16 m[16]
 *   blocks of 32, exponents   four groups: u8 e[4][16], codes; the last unit ends with its last group
 *   blocks of 64              four groups: f16 d[2][16], codes; the last unit ends with its last group
 *   super-blocks of 256       eight groups: f16 d[16] at 0, f16 m[16] at 32 (zeros where there is no
 *                             minimum), the groups' sub-scales from 64 on, then codes
 *   F32, F16                  K = 1: f32 or u16 [16]
 *   BF16                      K = 2: u16 [16][2]; an odd K is padded with a zero
 *
 * The sub-scales of a group are u8 sc[16], u8 m[16] (SUB_PAIRS_6); i8 sc[16] (SUB_SIX_32); u8 [16][2] =
 * sc | m << 4 of the two halves (SUB_NIBBLES); i8 sc[16][2] of the halves (SUB_BYTES, SUB_SIX). Codes are
 * stored unsigned as in the file (bytes: signed); the value of a code is code - zero, or values[code] where
 * it is looked up in a table of sixteen (IQ4 types, MXFP4; a shuffle per line on every level). */
#ifndef KERNELS_PANEL_H
#define KERNELS_PANEL_H
#include "tensor/dtype.h"

enum { PANEL_COLS = 16, PANEL_GROUP = 32 };

/* Bytes of one panel of 16 columns x k; k is a multiple of the dtype's block. 64-byte multiple. */
size_t panel_bytes(enum dtype t, size_t k);

/* Packs up to 16 columns of a weight into one panel. A column is one output: k elements in the
 * file's block layout, contiguous, `stride` bytes from the previous column's. Missing columns
 * (n < 16) become zeros. */
void panel_pack(enum dtype t, const void *cols, size_t stride, size_t n, size_t k, void *panel);

/* The float32 value of every element of a panel, [k][16]: what `ref` and the float32 path use. */
void panel_decode(enum dtype t, const void *panel, size_t k, float *out);

/* One group of a quantised panel, taken apart; for reading, not for speed. The weight of (k, c) is
 *   d[c] * sub[k / 16][c] * code[k][c] - m[c] * submin[k / 16][c]
 * sub and submin are 1 where the type has no sub-blocks of 16; m is m_w of kernels.h: the file's
 * minimum negated for Q4_1 and Q5_1 (w = d q + m), dmin * m for Q4_K and Q5_K, dmin for Q2_K,
 * else 0. */
struct panel_group {
    int code[PANEL_GROUP][PANEL_COLS];
    int sub[2][PANEL_COLS], submin[2][PANEL_COLS];
    float d[PANEL_COLS], m[PANEL_COLS];
};
void panel_group(enum dtype t, const void *panel, size_t g, struct panel_group *out);

enum panel_min { PANEL_NO_MIN, PANEL_MIN, PANEL_SUBMIN };
enum panel_min panel_min(enum dtype t);
#endif
