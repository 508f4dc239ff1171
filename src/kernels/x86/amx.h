/* Tiles of AMX: their configuration, which belongs to a call, and the files that make up the level. */
#ifndef KERNELS_X86_AMX_H
#define KERNELS_X86_AMX_H
#include "kernels/kernels.h"
#include "kernels/wide.h"
#include <immintrin.h>

struct tile_config { uint8_t palette, start, reserved[14]; uint16_t colsb[16]; uint8_t rows[16]; };

/* The compiler must know that tiles are loaded from what was stored before: gcc 12 takes _tile_loadconfig
 * for a read of 8 bytes and _tile_loadd for no read at all. */
static inline void tile_fence(const void *p) { __asm__ volatile("" : : "r"(p) : "memory"); }

static inline void tile_shape(struct tile_config *c, int tile, size_t rows, size_t colsb)
{
    c->rows[tile] = (uint8_t)rows;
    c->colsb[tile] = (uint16_t)(rows ? colsb : 0);
}

static inline void tile_configure(const struct tile_config *c)
{
    tile_fence(c);
    _tile_loadconfig(c);
}

/* Tiles: 0..3 sums (rows x panels), 4, 5 activations, 6, 7 weights. r1 may be 0. */
static inline void tiles_configure(size_t r0, size_t r1)
{
    struct tile_config c = { .palette = 1 };
    tile_shape(&c, 0, r0, 64), tile_shape(&c, 1, r0, 64), tile_shape(&c, 4, r0, 64);
    tile_shape(&c, 2, r1, 64), tile_shape(&c, 3, r1, 64), tile_shape(&c, 5, r1, 64);
    tile_shape(&c, 6, 16, 64), tile_shape(&c, 7, 16, 64);
    tile_configure(&c);
}

/* n groups of 32 of one or two panels, 16 pairs to a tile, times up to 32 rows of h; two_rows: rows 16 and on exist.
 * The panels' sums are `apart` floats from each other. `more`: they are gone on from, which is exact. */
WIDE_INLINE void tiles_block(bool two_rows, bool two_panels, const uint16_t *const w[2], size_t n, const uint16_t *h,
                             size_t ldh, float *y, size_t ldy, size_t apart, bool more)
{
    const size_t sh = ldh * sizeof *h, sy = ldy * sizeof *y;
    float *y1 = y + 16 * ldy;
    _tile_zero(0);
    if (two_panels) _tile_zero(1);
    if (two_rows) _tile_zero(2);
    if (two_rows && two_panels) _tile_zero(3);
    if (more) {
        _tile_loadd(0, y, sy);
        if (two_panels) _tile_loadd(1, y + apart, sy);
        if (two_rows) _tile_loadd(2, y1, sy);
        if (two_rows && two_panels) _tile_loadd(3, y1 + apart, sy);
    }
    for (size_t g = 0; g < n; g++) {
        _tile_loadd(4, h + g * PANEL_GROUP, sh);
        _tile_loadd(6, w[0] + g * 512, 64);
        _tile_dpbf16ps(0, 4, 6);
        if (two_panels) {
            _tile_loadd(7, w[1] + g * 512, 64);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (two_rows) {
            _tile_loadd(5, h + 16 * ldh + g * PANEL_GROUP, sh);
            _tile_dpbf16ps(2, 5, 6);
            if (two_panels) _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, y, sy);
    if (two_panels) _tile_stored(1, y + apart, sy);
    if (two_rows) _tile_stored(2, y1, sy);
    if (two_rows && two_panels) _tile_stored(3, y1 + apart, sy);
}

static inline void tiles_times(bool two_rows, bool two_panels, const uint16_t *const w[2], size_t n, const uint16_t *h,
                               size_t ldh, float *y, size_t ldy, size_t apart, bool more)
{
    if (two_rows && two_panels) tiles_block(true, true, w, n, h, ldh, y, ldy, apart, more);
    else if (two_rows) tiles_block(true, false, w, n, h, ldh, y, ldy, apart, more);
    else if (two_panels) tiles_block(false, true, w, n, h, ldh, y, ldy, apart, more);
    else tiles_block(false, false, w, n, h, ldh, y, ldy, apart, more);
}

/* attn_amx.c, learn_amx.c */
void attn_init_amx(struct kernels *k);
void learn_init_amx(struct kernels *k);
#endif
