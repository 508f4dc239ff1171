/* AMX in plain C after the instruction pages of Intel's Software Developer's Manual (LDTILECFG, TILELOADD,
 * TDPBSSD, TDPBF16PS ...): eight tiles of 16 rows of 64 bytes. What would fault on a CPU stops here, with
 * a word on why. */
#ifndef EMULATE_AMX_H
#define EMULATE_AMX_H
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct emu_tile { int rows, colsb; uint8_t b[16][64]; };
static struct { int palette; struct emu_tile t[8]; } emu_amx __attribute__((unused));

#define EMU_TILE static inline __attribute__((unused))

EMU_TILE void emu_tile_must(int ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "amx: %s\n", what);
    abort();
}

EMU_TILE void emu_tile_loadconfig(const void *config)
{
    uint8_t c[64];
    memcpy(c, config, sizeof c);
    memset(&emu_amx, 0, sizeof emu_amx);
    emu_amx.palette = c[0];
    emu_tile_must(c[0] <= 1, "palette above 1");
    for (int i = 1; i < 16; i++) emu_tile_must(c[i] == 0, "start row or reserved bytes set");
    for (int i = 0; i < 16; i++) {
        int colsb = c[16 + 2 * i] | c[17 + 2 * i] << 8, rows = c[48 + i];
        emu_tile_must(i < 8 || (!colsb && !rows), "more than 8 tiles");
        emu_tile_must(colsb <= 64 && rows <= 16 && !colsb == !rows, "tile too large or half configured");
        if (i < 8) emu_amx.t[i].rows = rows, emu_amx.t[i].colsb = colsb;
    }
}

EMU_TILE struct emu_tile *emu_tile_at(int i)
{
    emu_tile_must(emu_amx.palette == 1 && emu_amx.t[i].rows, "a tile that is not configured");
    return &emu_amx.t[i];
}

EMU_TILE void emu_tile_release(void) { memset(&emu_amx, 0, sizeof emu_amx); }
EMU_TILE void emu_tile_zero(int i) { memset(emu_tile_at(i)->b, 0, sizeof emu_amx.t[i].b); }

EMU_TILE void emu_tile_loadd(int i, const void *base, long stride)
{
    struct emu_tile *t = emu_tile_at(i);
    memset(t->b, 0, sizeof t->b);
    for (int r = 0; r < t->rows; r++)
        memcpy(t->b[r], (const uint8_t *)base + r * stride, (size_t)t->colsb);
}

EMU_TILE void emu_tile_stored(int i, void *base, long stride)
{
    struct emu_tile *t = emu_tile_at(i);
    for (int r = 0; r < t->rows; r++) memcpy((uint8_t *)base + r * stride, t->b[r], (size_t)t->colsb);
}

EMU_TILE void emu_tile_shapes(const struct emu_tile *c, const struct emu_tile *a, const struct emu_tile *b)
{
    emu_tile_must(c != a && c != b && a != b, "operands are not three tiles");
    emu_tile_must(c->rows == a->rows && c->colsb == b->colsb && a->colsb == 4 * b->rows,
                  "shapes do not fit");
}

/* c[m][n] += sum of a[m][4k + i] b[k][4n + i]; sign: bit 0 for a, bit 1 for b */
EMU_TILE void emu_tile_dp(int ci, int ai, int bi, int sign)
{
    struct emu_tile *c = emu_tile_at(ci), *a = emu_tile_at(ai), *b = emu_tile_at(bi);
    emu_tile_shapes(c, a, b);
    for (int m = 0; m < c->rows; m++)
        for (int k = 0; k < a->colsb / 4; k++)
            for (int n = 0; n < c->colsb / 4; n++) {
                int32_t sum;
                memcpy(&sum, &c->b[m][4 * n], 4);
                for (int i = 0; i < 4; i++) {
                    int x = sign & 1 ? (int8_t)a->b[m][4 * k + i] : a->b[m][4 * k + i];
                    int y = sign & 2 ? (int8_t)b->b[k][4 * n + i] : b->b[k][4 * n + i];
                    sum += x * y;
                }
                memcpy(&c->b[m][4 * n], &sum, 4);
            }
}

/* Denormals are zeros on the way in and out, whatever MXCSR says. */
EMU_TILE float emu_flush(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; }

EMU_TILE float emu_tile_bf16(const uint8_t *p)
{
    uint32_t u = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 24;
    float f;
    memcpy(&f, &u, 4);
    return emu_flush(f);
}

/* Even and odd elements of K are summed apart, each a chain of fused multiply-adds, then added to each
 * other and to c. */
EMU_TILE void emu_tile_dpbf16ps(int ci, int ai, int bi)
{
    struct emu_tile *c = emu_tile_at(ci), *a = emu_tile_at(ai), *b = emu_tile_at(bi);
    emu_tile_shapes(c, a, b);
    for (int m = 0; m < c->rows; m++)
        for (int n = 0; n < c->colsb / 4; n++) {
            float even = 0, odd = 0, sum;
            for (int k = 0; k < a->colsb / 4; k++) {
                even = emu_flush(fmaf(emu_tile_bf16(&a->b[m][4 * k]), emu_tile_bf16(&b->b[k][4 * n]), even));
                odd = emu_flush(
                    fmaf(emu_tile_bf16(&a->b[m][4 * k + 2]), emu_tile_bf16(&b->b[k][4 * n + 2]), odd));
            }
            memcpy(&sum, &c->b[m][4 * n], 4);
            sum = emu_flush(emu_flush(sum) + emu_flush(even + odd));
            memcpy(&c->b[m][4 * n], &sum, 4);
        }
}

#undef _tile_loadconfig
#define _tile_loadconfig emu_tile_loadconfig
#undef _tile_release
#define _tile_release emu_tile_release
#undef _tile_zero
#define _tile_zero(t) emu_tile_zero(t)
#undef _tile_loadd
#define _tile_loadd(t, base, stride) emu_tile_loadd(t, base, (long)(stride))
#undef _tile_stored
#define _tile_stored(t, base, stride) emu_tile_stored(t, base, (long)(stride))
#undef _tile_dpbssd
#define _tile_dpbssd(c, a, b) emu_tile_dp(c, a, b, 3)
#undef _tile_dpbsud
#define _tile_dpbsud(c, a, b) emu_tile_dp(c, a, b, 1)
#undef _tile_dpbusd
#define _tile_dpbusd(c, a, b) emu_tile_dp(c, a, b, 2)
#undef _tile_dpbuud
#define _tile_dpbuud(c, a, b) emu_tile_dp(c, a, b, 0)
#undef _tile_dpbf16ps
#define _tile_dpbf16ps(c, a, b) emu_tile_dpbf16ps(c, a, b)
#endif
