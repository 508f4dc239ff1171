#include "tensor/blocks.h"
#include "tensor/half.h"
#include <string.h>

size_t block_group(const struct dtype_info *t)
{
    return t->sub == SUB_NONE ? t->block : t->sub == SUB_PAIRS_6 || t->sub == SUB_SIX_32 ? 32 : 16;
}

bool block_has_min(const struct dtype_info *t) { return t->min != MIN_NONE || t->sub == SUB_NIBBLES; }

struct block_limits block_limits(const struct dtype_info *t)
{
    switch (t->sub) {
    case SUB_PAIRS_6: return (struct block_limits){ 0, 63 };
    case SUB_NIBBLES: return (struct block_limits){ 0, 15 };
    case SUB_BYTES: return (struct block_limits){ -128, 127 };
    case SUB_SIX: case SUB_SIX_32: return (struct block_limits){ -32, 31 };
    default: return (struct block_limits){ 0, 0 };
    }
}

float block_scale(const struct dtype_info *t, const struct block_scales *k, size_t g)
{
    return t->sub == SUB_NONE ? k->d : k->d * (float)k->s[g];
}

float block_min(const struct dtype_info *t, const struct block_scales *k, size_t g)
{
    return t->sub == SUB_NONE ? k->dmin : -(k->dmin * (float)k->m[g]);
}

/* 255 is a NaN to others. */
static float exponent_kept(float v, int steps)
{
    int e = float_to_exponent(v), to = e + steps;
    e = to < 0 || to > 254 ? e : to;
    return exponent_to_float((uint8_t)(e < 254 ? e : 254));
}

float block_kept(const struct dtype_info *t, float v, int steps)
{
    if (t->scale == SCALE_E8M0) return exponent_kept(v, steps);
    v = v > 65504 ? 65504 : v < -65504 ? -65504 : v;
    int h = float_to_half(v), magnitude = (h & 0x7fff) + steps;
    if (magnitude < 0 || magnitude > 0x7bff) magnitude = h & 0x7fff;
    return half_to_float((uint16_t)((h & 0x8000) | magnitude));
}

/* ---- scales -------------------------------------------------------------------------------- */

static size_t sub_bytes(const struct dtype_info *t)
{
    return t->sub == SUB_NONE ? 0 : t->sub == SUB_SIX_32 ? 6 : t->sub == SUB_NIBBLES || t->sub == SUB_BYTES ? 16 : 12;
}

static void put_sub(const struct dtype_info *t, unsigned char *to, const struct block_scales *k)
{
    memset(to, 0, sub_bytes(t));
    for (int g = 0; g < BLOCK_GROUPS; g++) {
        unsigned s = (unsigned)k->s[g], m = (unsigned)k->m[g];
        if (t->sub == SUB_NIBBLES) to[g] = (unsigned char)(s | m << 4);
        if (t->sub == SUB_BYTES) to[g] = (unsigned char)s;
        if (t->sub == SUB_SIX) {
            s += 32;
            to[g % 8] |= (unsigned char)((s & 15) << g / 8 * 4);
            to[8 + g % 4] |= (unsigned char)(s >> 4 << g / 4 * 2);
        }
        if (t->sub == SUB_SIX_32 && g < 8) {
            s += 32;
            to[2 + g / 2] |= (unsigned char)((s & 15) << g % 2 * 4);
            to[g / 4] |= (unsigned char)(s >> 4 << g % 4 * 2);
        }
        if (t->sub == SUB_PAIRS_6 && g < 4) {
            to[g] |= (unsigned char)s;
            to[g + 4] |= (unsigned char)m;
        } else if (t->sub == SUB_PAIRS_6 && g < 8) {
            to[g + 4] = (unsigned char)((s & 15) | (m & 15) << 4);
            to[g - 4] |= (unsigned char)(s >> 4 << 6);
            to[g] |= (unsigned char)(m >> 4 << 6);
        }
    }
}

static void get_sub(const struct dtype_info *t, const unsigned char *from, struct block_scales *k)
{
    for (int g = 0; g < BLOCK_GROUPS; g++) {
        if (t->sub == SUB_NIBBLES) k->s[g] = from[g] & 15, k->m[g] = from[g] >> 4;
        if (t->sub == SUB_BYTES) k->s[g] = (int8_t)from[g];
        if (t->sub == SUB_SIX)
            k->s[g] = ((from[g % 8] >> g / 8 * 4 & 15) | (from[8 + g % 4] >> g / 4 * 2 & 3) << 4) - 32;
        if (t->sub == SUB_SIX_32 && g < 8)
            k->s[g] = ((from[2 + g / 2] >> g % 2 * 4 & 15) | (from[g / 4] >> g % 4 * 2 & 3) << 4) - 32;
        if (t->sub == SUB_PAIRS_6 && g < 4) k->s[g] = from[g] & 63, k->m[g] = from[g + 4] & 63;
        else if (t->sub == SUB_PAIRS_6 && g < 8) {
            k->s[g] = (from[g + 4] & 15) | from[g - 4] >> 6 << 4;
            k->m[g] = from[g + 4] >> 4 | from[g] >> 6 << 4;
        }
    }
}

void block_get_scales(const struct dtype_info *t, const void *block, struct block_scales *k)
{
    const unsigned char *b = block;
    *k = (struct block_scales){ .d = t->scale == SCALE_E8M0 ? exponent_to_float(b[t->d_at]) : load_half(b + t->d_at) };
    if (block_has_min(t)) k->dmin = load_half(b + t->m_at);
    get_sub(t, b + t->sub_at, k);
}

void block_put_scales(const struct dtype_info *t, void *block, const struct block_scales *k)
{
    unsigned char *b = block;
    if (t->scale == SCALE_E8M0) b[t->d_at] = float_to_exponent(k->d);
    else store_half(b + t->d_at, k->d);
    if (block_has_min(t)) store_half(b + t->m_at, k->dmin);
    put_sub(t, b + t->sub_at, k);
}

/* ---- codes --------------------------------------------------------------------------------- */

/* Where a code's two bits are: the byte, and the lower bit. */
struct place { size_t byte; int bit; };
static struct place two_of(const struct dtype_info *t, size_t i)
{
    size_t apart = t->two_apart;
    return (struct place){ t->two_at + i / (4 * apart) * apart + i % apart, (int)(i % (4 * apart) / apart * 2) };
}

/* Planes are zeros before. */
static void put_code(const struct dtype_info *t, unsigned char *b, size_t i, unsigned code)
{
    size_t apart = t->nib_apart;
    if (t->planes & CODE_BYTES) b[t->bytes_at + i] = (unsigned char)code;
    if (t->planes & CODE_NIB) {
        b[t->nib_at + i / (2 * apart) * apart + i % apart] |= (unsigned char)((code & 15) << i / apart % 2 * 4);
        code >>= 4;
    }
    if (t->planes & CODE_TWO) {
        struct place p = two_of(t, i);
        b[p.byte] |= (unsigned char)((code & 3) << p.bit);
        code >>= 2;
    }
    if (t->planes & CODE_ONE) {
        if (t->block == 32) b[t->one_at + i / 8] |= (unsigned char)((code & 1) << i % 8);
        else b[t->one_at + i % 32] |= (unsigned char)((code & 1) << i / 32);
    }
}

static unsigned get_code(const struct dtype_info *t, const unsigned char *b, size_t i)
{
    size_t apart = t->nib_apart;
    unsigned code = 0, at = 0;
    if (t->planes & CODE_NIB) {
        code = b[t->nib_at + i / (2 * apart) * apart + i % apart] >> i / apart % 2 * 4 & 15;
        at = 4;
    }
    if (t->planes & CODE_TWO) {
        struct place p = two_of(t, i);
        code |= (b[p.byte] >> p.bit & 3u) << at;
        at += 2;
    }
    if (t->planes & CODE_ONE)
        code |= ((unsigned)b[t->one_at + (t->block == 32 ? i / 8 : i % 32)] >> (t->block == 32 ? i % 8 : i / 32) & 1u)
                << at;
    return code;
}

static unsigned code_of(const struct dtype_info *t, float value)
{
    if (!t->values) return (unsigned)((int)value + t->zero);
    unsigned code = 0;
    while (code < 15 && t->values[code] != (int)value) code++;
    return code;
}

static float value_of(const struct dtype_info *t, const unsigned char *b, size_t i)
{
    if (t->planes & CODE_BYTES) return (int8_t)b[t->bytes_at + i];
    unsigned code = get_code(t, b, i);
    return (float)(t->values ? t->values[code] : (int)code - t->zero);
}

void block_get_values(const struct dtype_info *t, const void *block, float *values)
{
    for (size_t i = 0; i < t->block; i++) values[i] = value_of(t, block, i);
}

void block_put_values(const struct dtype_info *t, void *block, const float *values)
{
    unsigned char *b = block;
    if (t->planes & CODE_NIB) memset(b + t->nib_at, 0, t->block / 2);
    if (t->planes & CODE_TWO) memset(b + t->two_at, 0, t->block / 4);
    if (t->planes & CODE_ONE) memset(b + t->one_at, 0, t->block / 8);
    for (size_t i = 0; i < t->block; i++) put_code(t, b, i, code_of(t, values[i]));
}
