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
 * A unit covers UNIT_K of K; `at` = byte offset in the unit; [16] is one element per column; 2nd is
 * the unit's second group.
 *
 *   dtype  K    bytes  at: content
 *   F32     1     64   0: f32 [16]
 *   F16     1     32   0: u16 [16]
 *   BF16    2     64   0: u16 [16][2]; an odd K is padded with a zero
 *   Q4_0   64    576   0: nib; 256: nib of the 2nd; 512: f16 d[16]; 544: d of the 2nd
 *   Q5_0   64    704   0: nib, one; 320: those of the 2nd; 640: f16 d[16]; 672: d of the 2nd
 *   Q8_0   64   1088   0: bytes; 512: bytes of the 2nd; 1024: f16 d[16]; 1056: d of the 2nd
 *   Q4_1   32    320   0: nib; 256: f16 d[16]; 288: f16 m[16]
 *   Q5_1   32    384   0: nib, one; 320: f16 d[16]; 352: f16 m[16]
 *   Q4_K  256   2368   0: f16 d[16]; 32: f16 dmin[16]; of group g = 0..7: 64 + 32g: u8 sc[16],
 *                      u8 m[16]; 320 + 256g: nib
 *   Q5_K  256   2880   0: d; 32: dmin; 64 + 32g: sc, m; 320 + 320g: nib, one
 *   Q6_K  256   3392   0: f16 d[16]; 32: zeros; 64 + 32g: i8 sc[16][2], one for each half of the
 *                      group; 320 + 384g: nib, two (bits 4-5 of the code)
 *   Q3_K  256   1856   0: f16 d[16]; 32: zeros; 64 + 32g: i8 sc[16][2]; 320 + 192g: two, one
 *                      (bit 2 of the code)
 *   Q2_K  256   1344   0: f16 d[16]; 32: f16 dmin[16]; 64 + 32g: u8 [16][2] = sc | m << 4 of the
 *                      halves; 320 + 128g: two
 *
 * The unit of 64 of Q4_0, Q5_0 and Q8_0 keeps lines aligned; an odd last group leaves its second
 * half zero. Codes are stored unsigned as in the file (Q8_0: signed); the value of a code is
 * code - ZERO, ZERO being 8, 16, 32 and 4 for Q4_0, Q5_0, Q6_K and Q3_K, else 0. */
#ifndef KERNELS_PANEL_H
#define KERNELS_PANEL_H
#include "tensor/dtype.h"

enum { PANEL_COLS = 16, PANEL_GROUP = 32 };

/* Bytes of a unit, and where the codes and the bytes per group begin. */
enum {
    PANEL_Q4_0 = 576, PANEL_Q5_0 = 704, PANEL_Q8_0 = 1088, PANEL_Q4_1 = 320, PANEL_Q5_1 = 384,
    PANEL_Q4_K = 2368, PANEL_Q5_K = 2880, PANEL_Q6_K = 3392, PANEL_Q3_K = 1856, PANEL_Q2_K = 1344,
    PANEL_SUB = 64, PANEL_SUPER = 320            /* K-quants: sub-scales, codes */
};

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
