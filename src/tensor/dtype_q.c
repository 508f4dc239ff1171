/* Blocks of 32 elements that share a float16 scale d (and a float16 minimum m), or an exponent e.
 *
 *   Q4_0  d, 16 bytes of nibbles           (q - 8) * d
 *   Q4_1  d, m, nibbles                    q * d + m
 *   Q5_0  d, 32 fifth bits, nibbles        (q - 16) * d
 *   Q5_1  d, m, 32 fifth bits, nibbles     q * d + m
 *   Q8_0  d, 32 signed bytes               q * d
 *   IQ4_NL  d, nibbles                     d * one of 16 uneven steps
 *   MXFP4   e, nibbles                     one of 15 uneven steps * 2^(e - 128)
 *   Q2_0    d, 16 bytes of two bits        (q - 1) * d, 64 elements
 *
 * Element i < 16 is the low nibble of byte i, element 16 + i its high nibble. Arithmetic is
 * float32 in this very order; tests/unit/tensor holds it to the published dequantisation bit for
 * bit. */
#include "tensor/dtype_rows.h"
#include "tensor/half.h"
#include <math.h>
#include <string.h>

enum { BLOCK = 32, HALF = 16 };

static int nibble(const unsigned char *q, int i)
{
    return i < HALF ? q[i] & 15 : q[i - HALF] >> 4;
}

static int fifth_bit(const unsigned char *high, int i) { return (high[i / 8] >> i % 8 & 1) << 4; }

void decode_Q4_0(const void *in, float *out, size_t n)
{
    for (const unsigned char *b = in; n; n -= BLOCK, b += 18, out += BLOCK) {
        float d = load_half(b);
        for (int i = 0; i < BLOCK; i++) out[i] = (float)(nibble(b + 2, i) - 8) * d;
    }
}

void decode_Q4_1(const void *in, float *out, size_t n)
{
    for (const unsigned char *b = in; n; n -= BLOCK, b += 20, out += BLOCK) {
        float d = load_half(b), m = load_half(b + 2);
        for (int i = 0; i < BLOCK; i++) out[i] = (float)nibble(b + 4, i) * d + m;
    }
}

void decode_Q5_0(const void *in, float *out, size_t n)
{
    for (const unsigned char *b = in; n; n -= BLOCK, b += 22, out += BLOCK) {
        float d = load_half(b);
        for (int i = 0; i < BLOCK; i++)
            out[i] = (float)((nibble(b + 6, i) | fifth_bit(b + 2, i)) - 16) * d;
    }
}

void decode_Q5_1(const void *in, float *out, size_t n)
{
    for (const unsigned char *b = in; n; n -= BLOCK, b += 24, out += BLOCK) {
        float d = load_half(b), m = load_half(b + 2);
        for (int i = 0; i < BLOCK; i++)
            out[i] = (float)(nibble(b + 8, i) | fifth_bit(b + 4, i)) * d + m;
    }
}

void decode_Q8_0(const void *in, float *out, size_t n)
{
    for (const unsigned char *b = in; n; n -= BLOCK, b += 34, out += BLOCK) {
        float d = load_half(b);
        for (int i = 0; i < BLOCK; i++) out[i] = (float)(signed char)b[2 + i] * d;
    }
}

void decode_IQ4_NL(const void *in, float *out, size_t n)
{
    for (const unsigned char *b = in; n; n -= BLOCK, b += 18, out += BLOCK) {
        float d = load_half(b);
        for (int i = 0; i < BLOCK; i++) out[i] = d * (float)values_iq4[nibble(b + 2, i)];
    }
}

void decode_MXFP4(const void *in, float *out, size_t n)
{
    for (const unsigned char *b = in; n; n -= BLOCK, b += 17, out += BLOCK) {
        float d = exponent_to_float(b[0]);
        for (int i = 0; i < BLOCK; i++) out[i] = (float)values_e2m1[nibble(b + 1, i)] * d;
    }
}

/* Clamps before the conversion, so that no input, NaN and infinity included, is undefined. */
static int to_int(double v, int lowest, int highest)
{
    if (!(v > lowest)) return lowest;
    return v < highest ? (int)v : highest;
}

/* The divisor is the signed value of largest magnitude, mapped to -8: one step more on its side.
 * The product is taken in double so that the answer does not depend on fused multiply-add. */
void encode_Q4_0(const float *in, void *out, size_t n)
{
    for (unsigned char *b = out; n; n -= BLOCK, b += 18, in += BLOCK) {
        float most = 0;
        for (int i = 0; i < BLOCK; i++)
            if (fabsf(in[i]) > fabsf(most)) most = in[i];
        float d = most / -8, inverse = d != 0 ? 1 / d : 0;
        store_half(b, d);
        for (int i = 0; i < HALF; i++) {
            int low = to_int((double)in[i] * inverse + 8.5, 0, 15);
            int high = to_int((double)in[i + HALF] * inverse + 8.5, 0, 15);
            b[2 + i] = (unsigned char)(low | high << 4);
        }
    }
}

void encode_Q4_1(const float *in, void *out, size_t n)
{
    for (unsigned char *b = out; n; n -= BLOCK, b += 20, in += BLOCK) {
        float least = in[0], most = in[0];
        for (int i = 1; i < BLOCK; i++) {
            if (in[i] < least) least = in[i];
            if (in[i] > most) most = in[i];
        }
        float d = (most - least) / 15, inverse = d != 0 ? 1 / d : 0;
        store_half(b, d);
        store_half(b + 2, least);
        for (int i = 0; i < HALF; i++) {
            int low = to_int((in[i] - least) * inverse + 0.5f, 0, 15);
            int high = to_int((in[i + HALF] - least) * inverse + 0.5f, 0, 15);
            b[4 + i] = (unsigned char)(low | high << 4);
        }
    }
}

/* A fifth bit of each code, and its nibble. */
static void put_five(unsigned char *high, unsigned char *q, int i, int code)
{
    high[i / 8] |= (unsigned char)(code >> 4 << i % 8);
    q[i % HALF] |= (unsigned char)((code & 15) << i / HALF * 4);
}

void encode_Q5_0(const float *in, void *out, size_t n)
{
    for (unsigned char *b = out; n; n -= BLOCK, b += 22, in += BLOCK) {
        float most = 0;
        for (int i = 0; i < BLOCK; i++)
            if (fabsf(in[i]) > fabsf(most)) most = in[i];
        float d = most / -16, inverse = d != 0 ? 1 / d : 0;
        store_half(b, d);
        memset(b + 2, 0, 20);
        for (int i = 0; i < BLOCK; i++) put_five(b + 2, b + 6, i, to_int(in[i] * inverse + 16.5f, 0, 31));
    }
}

void encode_Q5_1(const float *in, void *out, size_t n)
{
    for (unsigned char *b = out; n; n -= BLOCK, b += 24, in += BLOCK) {
        float least = in[0], most = in[0];
        for (int i = 1; i < BLOCK; i++) {
            if (in[i] < least) least = in[i];
            if (in[i] > most) most = in[i];
        }
        float d = (most - least) / 31, inverse = d != 0 ? 1 / d : 0;
        store_half(b, d);
        store_half(b + 2, least);
        memset(b + 4, 0, 20);
        for (int i = 0; i < BLOCK; i++) put_five(b + 4, b + 8, i, to_int((in[i] - least) * inverse + 0.5f, 0, 31));
    }
}

/* Halves round away from zero. -128 is never written: kernels rely on it. */
void encode_Q8_0(const float *in, void *out, size_t n)
{
    for (unsigned char *b = out; n; n -= BLOCK, b += 34, in += BLOCK) {
        float most = 0;
        for (int i = 0; i < BLOCK; i++) most = fmaxf(most, fabsf(in[i]));
        float d = most / 127, inverse = d != 0 ? 1 / d : 0;
        store_half(b, d);
        for (int i = 0; i < BLOCK; i++)
            b[2 + i] = (unsigned char)to_int((double)roundf(in[i] * inverse), -127, 127);
    }
}

/* The first of the nearest, of which there are two for 0 and for what lies midway. */
static unsigned nearest_e2m1(float x, float d)
{
    unsigned best = 0;
    float least = INFINITY;
    for (unsigned code = 0; code < 16; code++) {
        float off = fabsf((float)values_e2m1[code] * d - x);
        if (off < least) least = off, best = code;
    }
    return best;
}

/* The largest number gets the largest power of two, 4, of the values. */
void encode_MXFP4(const float *in, void *out, size_t n)
{
    for (unsigned char *b = out; n; n -= BLOCK, b += 17, in += BLOCK) {
        float most = 0;
        for (int i = 0; i < BLOCK; i++) most = fmaxf(most, fabsf(in[i]));
        int e = most > 0 ? to_int(ilogbf(fminf(most, 0x1p127f)) + 125, 0, 252) : 0;
        float d = exponent_to_float((uint8_t)e);
        b[0] = (unsigned char)e;
        for (int i = 0; i < HALF; i++)
            b[1 + i] = (unsigned char)(nearest_e2m1(in[i], d) | nearest_e2m1(in[i + HALF], d) << 4);
    }
}

/* Four elements a byte, 64 under a scale. */
void decode_Q2_0(const void *in, float *out, size_t n)
{
    for (const unsigned char *b = in; n; n -= 64, b += 18, out += 64) {
        float d = load_half(b);
        for (int i = 0; i < 64; i++) out[i] = (float)((b[2 + i / 4] >> i % 4 * 2 & 3) - 1) * d;
    }
}

/* The largest magnitude is the scale: of the four codes -1, 0, 1 are used. */
void encode_Q2_0(const float *in, void *out, size_t n)
{
    for (unsigned char *b = out; n; n -= 64, b += 18, in += 64) {
        float d = 0;
        for (int i = 0; i < 64; i++) d = fmaxf(d, fabsf(in[i]));
        float inverse = d > 0 ? 1 / d : 0;
        store_half(b, d);
        memset(b + 2, 0, 16);
        for (int i = 0; i < 64; i++) {
            int q = to_int((double)roundf(in[i] * inverse), -1, 2) + 1;
            b[2 + i / 4] |= (unsigned char)(q << i % 4 * 2);
        }
    }
}
