/* How weights lie in memory: panels of 16 output columns, made for one pass over the weights per step
 * whatever the number of rows. One layout per dtype, the same on every CPU level, so a packed weight
 * can be shared and cached. Packing is lossless: bit patterns move, nothing is rounded again.
 *
 * Within a panel, K runs in groups of 32 and codes in "quads" of 4 consecutive K: 16 columns x 4 bytes
 * is one 64-byte line, which serves VPMADDUBSW, VPDPBUSD, SDOT and TDPBUSD alike. */
#ifndef KERNELS_PANEL_H
#define KERNELS_PANEL_H
#include "tensor/dtype.h"

enum { PANEL_COLS = 16, PANEL_GROUP = 32 };

/* Bytes of one panel of 16 columns x k; k is a multiple of the dtype's block. 64-byte multiple. */
size_t panel_bytes(enum dtype t, size_t k);

/* Packs up to 16 columns of a weight into one panel. A column is one output: k elements in the file's
 * block layout, contiguous, `stride` bytes from the previous column's. Missing columns (n < 16) become
 * zeros. */
void panel_pack(enum dtype t, const void *cols, size_t stride, size_t n, size_t k, void *panel);

/* The float32 value of every element of a panel, [k][16]: what `ref` and the float32 path use. */
void panel_decode(enum dtype t, const void *panel, size_t k, float *out);
#endif
