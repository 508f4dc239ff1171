/* Tiles of AMX: their configuration, which belongs to a call, and the files that make up the level. */
#ifndef KERNELS_X86_AMX_H
#define KERNELS_X86_AMX_H
#include "kernels/kernels.h"
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

/* attn_amx.c */
void attn_init_amx(struct kernels *k);
#endif
