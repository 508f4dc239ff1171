/* IEEE binary16 and bfloat16 by integer arithmetic: the same bits on every machine, independent of
 * the rounding mode and of flush-to-zero. */
#include "tensor/dtype.h"

union bits { uint32_t u; float f; };

float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = h >> 10 & 31, man = h & 0x3ff;
    if (exp == 31) return (union bits){ .u = sign | 0x7f800000 | man << 13 }.f;
    if (exp == 0) {
        if (man == 0) return (union bits){ .u = sign }.f;
        /* A denormal is man * 2^-24; every one is a normal float32. */
        exp = 113;
        while (!(man & 0x400)) { man <<= 1; exp--; }
        return (union bits){ .u = sign | exp << 23 | (man & 0x3ff) << 13 }.f;
    }
    return (union bits){ .u = sign | (exp + 112) << 23 | man << 13 }.f;
}

uint16_t f32_to_f16(float f)
{
    uint32_t u = (union bits){ .f = f }.u, sign = u >> 16 & 0x8000;
    u &= 0x7fffffff;
    /* NaN keeps its upper payload bits and becomes quiet, as the hardware conversions do. */
    if (u > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (u >> 13 & 0x3ff));
    if (u >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* 65520 and above round to infinity */
    if (u < 0x38800000) {                                  /* below 2^-14: a denormal, or zero */
        uint32_t shift = 126 - (u >> 23);                        /* 14 for 2^-15 <= |f| < 2^-14 */
        if (shift > 24) return (uint16_t)sign;                   /* below 2^-25: rounds to zero */
        uint32_t man = (u & 0x7fffff) | 0x800000, half = (uint32_t)1 << (shift - 1);
        uint32_t q = man >> shift, rest = man & ((half << 1) - 1);
        if (rest > half || (rest == half && (q & 1))) q++;
        return (uint16_t)(sign | q);
    }
    u += 0xfff + (u >> 13 & 1);                                  /* to nearest, ties to even */
    return (uint16_t)(sign | ((u >> 13) - (112 << 10)));
}

uint16_t f32_to_bf16(float f)
{
    uint32_t u = (union bits){ .f = f }.u;
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
