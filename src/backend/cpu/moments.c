#include "backend/cpu/moments.h"
#include "base/random.h"
#include <math.h>
#include <string.h>

static uint32_t bits_of(float x)
{
    uint32_t b;
    memcpy(&b, &x, sizeof b);
    return b;
}

static float float_of(uint32_t b)
{
    float x;
    memcpy(&x, &b, sizeof x);
    return x;
}

/* ---- codes ----------------------------------------------------------------------------------------------------- */

enum { DECADES = 7 };

/* Of each decade below 1 twice as many values as of the one below it, in the middles of equal parts, and 0 and 1. */
static void list_values(struct moment_code *c, bool is_signed)
{
    size_t below = is_signed ? 127 : 0, at = below + 1;
    c->value[below] = 0;
    c->zero = (uint8_t)below;
    for (int decade = 0; decade < DECADES; decade++) {
        int n = is_signed ? 1 << decade : 2 << decade;
        for (int k = 0; k < n; k++)
            c->value[at++] = (float)((0.1 + 0.9 * (k + 0.5) / n) * pow(10, decade - (DECADES - 1)));
    }
    c->value[at] = 1;
    for (size_t i = 0; i < below; i++) c->value[i] = -c->value[2 * below - i];
}

/* Where the search begins: how many middles lie below everything that has these bits. */
static uint8_t first_of(const struct moment_code *c, float least)
{
    size_t n = 0;
    while (n < 255 && c->middle[n] < least) n++;
    return (uint8_t)n;
}

static void make(struct moment_code *c, bool is_signed)
{
    list_values(c, is_signed);
    for (int i = 0; i < 255; i++) c->middle[i] = (c->value[i] + c->value[i + 1]) / 2;
    for (uint32_t b = 0; b < CODE_BUCKETS; b++) {
        uint32_t low = (b + ((uint32_t)CODE_LOW << CODE_FINE)) << (23 - CODE_FINE);
        c->first[0][b] = first_of(c, b ? float_of(low) : 0);
        c->first[1][b] = first_of(c, -float_of(low + (1u << (23 - CODE_FINE))));
    }
}

void moment_codes_make(struct moment_codes *c)
{
    make(&c->first, true);
    make(&c->second, false);
}

void moment_decode(const struct moment_code *c, const uint8_t *code, float scale, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = c->value[code[i]] * scale;
}

/* The nearest value; the lower one of two. */
static uint8_t nearest(const struct moment_code *c, float x)
{
    uint32_t bits = bits_of(x), lead = (bits & 0x7fffffff) >> (23 - CODE_FINE);
    uint32_t bucket = lead > (uint32_t)CODE_LOW << CODE_FINE ? lead - ((uint32_t)CODE_LOW << CODE_FINE) : 0;
    if (bucket >= CODE_BUCKETS) bucket = CODE_BUCKETS - 1;
    uint32_t at = c->first[bits >> 31][bucket];
    while (at < 255 && x > c->middle[at]) at++;
    return (uint8_t)at;
}

float moment_encode(const struct moment_code *c, const float *x, size_t n, bool never_zero, uint8_t *code)
{
    float scale = 0;
    for (size_t i = 0; i < n; i++) scale = fabsf(x[i]) > scale ? fabsf(x[i]) : scale;
    for (size_t i = 0; i < n; i++) {
        code[i] = scale > 0 ? nearest(c, x[i] / scale) : c->zero;
        if (never_zero && x[i] > 0 && code[i] == c->zero) code[i]++;
    }
    return scale;
}

/* ---- bf16 ------------------------------------------------------------------------------------------------------ */

void moment_noise(uint64_t seed, uint64_t at, size_t n, uint32_t *noise)
{
    uint64_t key = random_mix(random_mix(seed) ^ at);
    for (size_t i = 0; i < n; i++) {
        uint32_t x = (uint32_t)key + (uint32_t)i * 0x9e3779b9u;
        x = (x ^ x >> 16) * 0x7feb352du;
        x = (x ^ x >> 15 ^ (uint32_t)(key >> 32)) * 0x846ca68bu;
        noise[i] = x ^ x >> 16;
    }
}

void moment_from_bf16(const uint16_t *x, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = float_of((uint32_t)x[i] << 16);
}

/* What is cut off, and noise of as many bits, make the next larger magnitude together as often as is right. The largest
 * numbers stay numbers. */
void moment_to_bf16(const float *x, size_t n, const uint32_t *noise, unsigned shift, uint16_t *out)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = bits_of(x[i]), up = bits + (noise[i] >> shift & 0xffff);
        out[i] = (uint16_t)(((up & 0x7f800000) == 0x7f800000 ? bits : up) >> 16);
    }
}
