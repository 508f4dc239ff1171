#include "format/pack_fields.h"
#include <string.h>

struct span { size_t at, n; };

/* The planes of a type, as bytes of a block. */
static size_t plane_spans(const struct dtype_info *t, struct span out[4])
{
    size_t n = 0;
    if (t->planes & CODE_BYTES) out[n++] = (struct span){ t->bytes_at, t->block };
    if (t->planes & CODE_NIB) out[n++] = (struct span){ t->nib_at, t->block / 2 };
    if (t->planes & CODE_TWO) out[n++] = (struct span){ t->two_at, t->block / 4 };
    if (t->planes & CODE_ONE) out[n++] = (struct span){ t->one_at, t->block / 8 };
    return n;
}

static void add(struct fields *f, size_t from, size_t each)
{
    f->from[f->n] = (uint16_t)from;
    f->each[f->n++] = (uint16_t)each;
}

void fields_of(enum dtype type, struct fields *f)
{
    struct span plane[4];
    bool code[FIELDS_MOST] = { false };
    memset(f, 0, sizeof *f);
    f->block = 1;
    if (type < DT_COUNT) {
        f->info = dtype_table[type];
        f->block = f->info.bytes;
        f->rotated = f->info.block == 1 && type != DT_F16;
    }
    size_t planes = plane_spans(&f->info, plane);
    f->joined = planes > 1;
    for (size_t p = 0; p < planes; p++) memset(code + plane[p].at, 1, plane[p].n);
    for (size_t b = 0; b < f->block; b++)
        if (!code[b]) add(f, b, 1);
    if (f->joined) add(f, 0, f->info.block);
    else if (planes) add(f, plane[0].at, plane[0].n);
}

size_t fields_bytes(const struct fields *f, size_t n)
{
    size_t each = 0;
    for (size_t i = 0; i < f->n; i++) each += f->each[i];
    return n * each;
}

/* Where the bits of element k of a block stand: by plane, byte and shift; `up` is the plane's place in the code. */
struct bits { uint8_t byte[2], shift[2], mask[2], up[2]; };

static void element_bits(const struct dtype_info *t, size_t k, struct bits *out)
{
    size_t n = 0, up = 0, apart = t->nib_apart;
    memset(out, 0, sizeof *out);
    if (t->planes & CODE_NIB) {
        size_t byte = t->nib_at + k / (2 * apart) * apart + k % apart;
        out->byte[n] = (uint8_t)byte, out->shift[n] = (uint8_t)(k / apart % 2 * 4), out->mask[n] = 15;
        out->up[n++] = (uint8_t)up, up += 4;
    }
    if (t->planes & CODE_TWO) {
        out->byte[n] = (uint8_t)(t->two_at + k / 128 * 32 + k % 32), out->shift[n] = (uint8_t)(k / 32 % 4 * 2);
        out->mask[n] = 3, out->up[n++] = (uint8_t)up, up += 2;
    }
    if (t->planes & CODE_ONE) {
        out->byte[n] = (uint8_t)(t->one_at + (t->block == 32 ? k / 8 : k % 32));
        out->shift[n] = (uint8_t)(t->block == 32 ? k % 8 : k / 32), out->mask[n] = 1, out->up[n] = (uint8_t)up;
    }
}

/* Numbers whose lowest bit becomes their sign and whose highest byte their exponent. */
static void rotate(const uint8_t *from, size_t bytes, bool back, uint8_t *to)
{
    uint32_t x = 0, bits = (uint32_t)(8 * bytes), mask = bytes == 4 ? UINT32_MAX : (1u << bits) - 1;
    for (size_t i = 0; i < bytes; i++) x |= (uint32_t)from[i] << 8 * i;
    x = back ? (x >> 1 | x << (bits - 1)) & mask : (x << 1 | x >> (bits - 1)) & mask;
    for (size_t i = 0; i < bytes; i++) to[i] = (uint8_t)(x >> 8 * i);
}

static void split_codes(const struct fields *f, const struct bits *at, const uint8_t *block, uint8_t *codes)
{
    for (size_t k = 0; k < f->info.block; k++)
        codes[k] = (uint8_t)((block[at[k].byte[0]] >> at[k].shift[0] & at[k].mask[0]) << at[k].up[0] |
                             (block[at[k].byte[1]] >> at[k].shift[1] & at[k].mask[1]) << at[k].up[1]);
}

static void join_codes(const struct fields *f, const struct bits *at, const uint8_t *codes, uint8_t *block)
{
    for (size_t k = 0; k < f->info.block; k++)
        for (int i = 0; i < 2; i++)
            block[at[k].byte[i]] |= (uint8_t)((codes[k] >> at[k].up[i] & at[k].mask[i]) << at[k].shift[i]);
}

static void all_bits(const struct fields *f, struct bits at[256])
{
    for (size_t k = 0; f->joined && k < f->info.block; k++) element_bits(&f->info, k, &at[k]);
}

void fields_split(const struct fields *f, const uint8_t *blocks, size_t n, uint8_t *out)
{
    struct bits at[256];
    uint8_t turned[4];
    all_bits(f, at);
    for (size_t i = 0; i < f->n; out += n * f->each[i], i++) {
        size_t each = f->each[i];
        const uint8_t *block = blocks;
        for (size_t b = 0; b < n; b++, block += f->block) {
            if (f->joined && i + 1 == f->n) split_codes(f, at, block, out + b * each);
            else if (f->rotated) rotate(block, f->block, false, turned), out[b] = turned[f->from[i]];
            else memcpy(out + b * each, block + f->from[i], each);
        }
    }
}

void fields_join(const struct fields *f, const uint8_t *streams, size_t n, uint8_t *blocks)
{
    struct bits at[256];
    all_bits(f, at);
    if (f->joined) memset(blocks, 0, n * f->block);
    for (size_t i = 0; i < f->n; streams += n * f->each[i], i++) {
        size_t each = f->each[i];
        uint8_t *block = blocks;
        for (size_t b = 0; b < n; b++, block += f->block) {
            if (f->joined && i + 1 == f->n) join_codes(f, at, streams + b * each, block);
            else if (each == 1) block[f->from[i]] = streams[b];
            else memcpy(block + f->from[i], streams + b * each, each);
        }
    }
    for (size_t b = 0; f->rotated && b < n; b++) rotate(blocks + b * f->block, f->block, true, blocks + b * f->block);
}
