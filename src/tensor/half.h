/* IEEE binary16 ("half") and bfloat16 ("brain") from and to float32, round to nearest even: the only place
 * that converts them. The bits are those of the hardware instructions (VCVTPS2PH, VCVTPH2PS, FCVT), NaN
 * payloads included. Static inline only: a copy belongs to the file it is compiled in, with its flags. */
#ifndef TENSOR_HALF_H
#define TENSOR_HALF_H
#include <stdint.h>
#include <string.h>

static inline uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline float half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 0x3ff;
    if (e == 31) return float_of(sign | 0x7f800000 | m << 13 | (m ? 0x400000 : 0));
    if (e) return float_of(sign | (e + 112) << 23 | m << 13);
    float v = (float)m * 0x1p-24f;                     /* zero and denormals: exact */
    return sign ? -v : v;
}

static inline uint16_t float_to_half(float f)
{
    uint32_t u = bits_of(f), a = u & 0x7fffffff;
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
    if (a >= 0x477ff000) return (uint16_t)(sign | 0x7c00);                /* rounds to infinity */
    if (a < 0x38800000)                          /* denormal half: adding 0.5 rounds at 2^-24 */
        return (uint16_t)(sign | (bits_of(float_of(a) + 0.5f) - 0x3f000000));
    return (uint16_t)(sign | ((a + 0xfff + (a >> 13 & 1)) - 0x38000000) >> 13);
}

static inline float brain_to_float(uint16_t h) { return float_of((uint32_t)h << 16); }

static inline uint16_t float_to_brain(float f)
{
    uint32_t u = bits_of(f);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* 2^(e - 128): half of what a byte of OCP's E8M0 means, and 2^127 for 255, which is a NaN there. */
static inline float exponent_to_float(uint8_t e)
{
    return float_of(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}

/* The e whose exponent_to_float is nearest to |v|. */
static inline uint8_t float_to_exponent(float v)
{
    uint32_t a = bits_of(v) & 0x7fffffff;
    if (a < 0x00800000) return (uint8_t)((a >= 0x00300000) + (a >= 0x00600000)); /* 2^-128, 2^-127, 2^-126 */
    uint32_t e = (a + 0x00400000) >> 23;
    return (uint8_t)(e < 254 ? e + 1 : 255);
}

/* At any alignment. */
static inline float load_half(const void *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return half_to_float(h);
}

static inline float load_brain(const void *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return brain_to_float(h);
}

static inline void store_half(void *p, float f)
{
    uint16_t h = float_to_half(f);
    memcpy(p, &h, sizeof h);
}

static inline void store_brain(void *p, float f)
{
    uint16_t h = float_to_brain(f);
    memcpy(p, &h, sizeof h);
}
#endif
