/* The K block types: super-blocks of 256 elements in groups of 16 or 32, whose scales (and
 * minimums) are small integers under one float16 scale d (and dmin) of the super-block.
 *
 *   Q2_K  scales[16] q[64] d dmin              16 groups of 16:  d*(s & 15) * q - dmin*(s >> 4)
 *   Q3_K  high[32] q[64] scales[12] d          16 groups of 16:  d*(s - 32) * (q - 4 or q)
 *   Q4_K  d dmin scales[12] q[128]              8 groups of 32:  d*s * q - dmin*m
 *   Q5_K  d dmin scales[12] high[32] q[128]     8 groups of 32:  d*s * q - dmin*m
 *   Q6_K  low[128] high[64] scales[16] d       16 groups of 16:  d*s * (q - 32)
 *   IQ4_XS  d scales[6] q[128]                  8 groups of 32:  d*(s - 32) * one of 16 uneven steps
 *   TQ2_0  q[64] d                             one scale:       (q - 1) * d
 *
 * Arithmetic is float32 in this very order; tests/unit/tensor holds it to the published
 * dequantisation bit for bit. */
#include "tensor/dtype_rows.h"
#include "tensor/half.h"
#include <math.h>
#include <string.h>

enum { BLOCK = 256 };

/* Two bits each: byte 32*(i/128) + i%32 holds elements i, i+32, i+64 and i+96 of a half. */
static int two_bits(const unsigned char *q, int i)
{
    return q[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
}

void decode_Q2_K(const void *in, float *out, size_t n)
{
    for (const unsigned char *b = in; n; n -= BLOCK, b += 84, out += BLOCK) {
        float d = load_half(b + 80), dmin = load_half(b + 82);
        for (int g = 0; g < 16; g++) {
            float scale = d * (float)(b[g] & 15), min = dmin * (float)(b[g] >> 4);
            for (int i = 16 * g; i < 16 * g + 16; i++)
                out[i] = scale * (float)two_bits(b + 16, i) - min;
        }
    }
}

/* Sixteen 6-bit scales in 12 bytes: low nibbles in the first eight, upper bit pairs in the last
 * four. */
static int scale_q3(const unsigned char *s, int g)
{
    int low = g < 8 ? s[g] & 15 : s[g - 8] >> 4;
    return (low | (s[8 + g % 4] >> g / 4 * 2 & 3) << 4) - 32;
}

void decode_Q3_K(const void *in, float *out, size_t n)
{
    for (const unsigned char *b = in; n; n -= BLOCK, b += 110, out += BLOCK) {
        float d = load_half(b + 108);
        for (int g = 0; g < 16; g++) {
            float scale = d * (float)scale_q3(b + 96, g);
            for (int i = 16 * g; i < 16 * g + 16; i++) {
                int high = b[i % 32] >> i / 32 & 1;
                out[i] = scale * (float)(two_bits(b + 32, i) - (high ? 0 : 4));
            }
        }
    }
}

/* Eight pairs of 6-bit scale and minimum in 12 bytes: the first four pairs lie whole in bytes 0-3
 * and 4-7; the last four have low nibbles in bytes 8-11 and their upper bits above the first
 * four. */
static void scale_min(const unsigned char *s, int g, int *scale, int *min)
{
    if (g < 4) {
        *scale = s[g] & 63;
        *min = s[g + 4] & 63;
    } else {
        *scale = (s[g + 4] & 15) | s[g - 4] >> 6 << 4;
        *min = s[g + 4] >> 4 | s[g] >> 6 << 4;
    }
}

/* Groups 2j and 2j+1 share 32 bytes: low nibbles and high nibbles. */
static int paired_nibble(const unsigned char *q, int g, int i)
{
    return q[g / 2 * 32 + i] >> g % 2 * 4 & 15;
}

void decode_Q4_K(const void *in, float *out, size_t n)
{
    for (const unsigned char *b = in; n; n -= BLOCK, b += 144, out += BLOCK) {
        float d = load_half(b), dmin = load_half(b + 2);
        for (int g = 0; g < 8; g++) {
            int s, m;
            scale_min(b + 4, g, &s, &m);
            float scale = d * (float)s, min = dmin * (float)m;
            for (int i = 0; i < 32; i++)
                out[32 * g + i] = scale * (float)paired_nibble(b + 16, g, i) - min;
        }
    }
}

void decode_Q5_K(const void *in, float *out, size_t n)
{
    for (const unsigned char *b = in; n; n -= BLOCK, b += 176, out += BLOCK) {
        float d = load_half(b), dmin = load_half(b + 2);
        for (int g = 0; g < 8; g++) {
            int s, m;
            scale_min(b + 4, g, &s, &m);
            float scale = d * (float)s, min = dmin * (float)m;
            for (int i = 0; i < 32; i++) {
                int q = paired_nibble(b + 48, g, i) | (b[16 + i] >> g & 1) << 4;
                out[32 * g + i] = scale * (float)q - min;
            }
        }
    }
}

void decode_Q6_K(const void *in, float *out, size_t n)
{
    for (const unsigned char *b = in; n; n -= BLOCK, b += 210, out += BLOCK) {
        float d = load_half(b + 208);
        for (int i = 0; i < BLOCK; i++) {
            int half = i / 128, quarter = i % 128 / 32, at = i % 32;
            int low = b[half * 64 + quarter % 2 * 32 + at] >> quarter / 2 * 4 & 15;
            int high = b[128 + half * 32 + at] >> quarter * 2 & 3;
            int scale = (signed char)b[192 + i / 16];
            out[i] = d * (float)scale * (float)((low | high << 4) - 32);
        }
    }
}

/* Eight 6-bit scales in 6 bytes: the upper pairs of bits in the first two, nibbles in the others. */
static int scale_iq4(const unsigned char *s, int g)
{
    return ((s[2 + g / 2] >> g % 2 * 4 & 15) | (s[g / 4] >> g % 4 * 2 & 3) << 4) - 32;
}

void decode_IQ4_XS(const void *in, float *out, size_t n)
{
    for (const unsigned char *b = in; n; n -= BLOCK, b += 136, out += BLOCK) {
        float d = load_half(b);
        for (int g = 0; g < 8; g++) {
            float scale = d * (float)scale_iq4(b + 2, g);
            for (int i = 0; i < 32; i++) {
                int code = b[8 + 16 * g + i % 16] >> i / 16 * 4 & 15;
                out[32 * g + i] = scale * (float)values_iq4[code];
            }
        }
    }
}

void decode_TQ2_0(const void *in, float *out, size_t n)
{
    for (const unsigned char *b = in; n; n -= BLOCK, b += 66, out += BLOCK) {
        float d = load_half(b + 64);
        for (int i = 0; i < BLOCK; i++) out[i] = (float)(two_bits(b, i) - 1) * d;
    }
}

/* The largest magnitude is the scale. */
void encode_TQ2_0(const float *in, void *out, size_t n)
{
    for (unsigned char *b = out; n; n -= BLOCK, b += 66, in += BLOCK) {
        float d = 0;
        for (int i = 0; i < BLOCK; i++) d = fmaxf(d, fabsf(in[i]));
        float inverse = d > 0 ? 1 / d : 0;
        memset(b, 0, 64);
        store_half(b + 64, d);
        for (int i = 0; i < BLOCK; i++) {
            float v = roundf(in[i] * inverse);
            b[i / 128 * 32 + i % 32] |= (unsigned char)((v > 0 ? 2 : v < 0 ? 0 : 1) << i % 128 / 32 * 2);
        }
    }
}
