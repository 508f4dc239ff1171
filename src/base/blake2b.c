#include "base/blake2b.h"
#include <string.h>

static const uint64_t start[8] = { 0x6a09e667f3bcc908u, 0xbb67ae8584caa73bu, 0x3c6ef372fe94f82bu, 0xa54ff53a5f1d36f1u,
                                   0x510e527fade682d1u, 0x9b05688c2b3e6c1fu, 0x1f83d9abfb41bd6bu, 0x5be0cd19137e2179u };

static uint64_t load(const unsigned char *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

static inline uint64_t turn(uint64_t x, int by) { return x >> by | x << (64 - by); }

static inline void mix(uint64_t *a, uint64_t *b, uint64_t *c, uint64_t *d, uint64_t x, uint64_t y)
{
    *a += *b + x;
    *d = turn(*d ^ *a, 32);
    *c += *d;
    *b = turn(*b ^ *c, 24);
    *a += *b + y;
    *d = turn(*d ^ *a, 16);
    *c += *d;
    *b = turn(*b ^ *c, 63);
}

#define ROUND(a, b, c, d, e, f, g, h, i, j, k, l, n, o, p, q)   \
    do {                                                       \
        mix(&v[0], &v[4], &v[8], &v[12], m[a], m[b]);          \
        mix(&v[1], &v[5], &v[9], &v[13], m[c], m[d]);          \
        mix(&v[2], &v[6], &v[10], &v[14], m[e], m[f]);         \
        mix(&v[3], &v[7], &v[11], &v[15], m[g], m[h]);         \
        mix(&v[0], &v[5], &v[10], &v[15], m[i], m[j]);         \
        mix(&v[1], &v[6], &v[11], &v[12], m[k], m[l]);         \
        mix(&v[2], &v[7], &v[8], &v[13], m[n], m[o]);          \
        mix(&v[3], &v[4], &v[9], &v[14], m[p], m[q]);          \
    } while (0)

static void compress(struct blake2b *x, const unsigned char *block, uint64_t last)
{
    uint64_t m[16], v[16];
    for (int i = 0; i < 16; i++) m[i] = load(block + 8 * i);
    for (int i = 0; i < 8; i++) {
        v[i] = x->h[i];
        v[8 + i] = start[i];
    }
    v[12] ^= x->n;
    v[14] ^= last;
    for (int twice = 0; twice < 2; twice++) {        /* ten rounds, and the first two again */
        ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3);
        if (twice) break;
        ROUND(11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4);
        ROUND(7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8);
        ROUND(9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13);
        ROUND(2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9);
        ROUND(12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11);
        ROUND(13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10);
        ROUND(6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5);
        ROUND(10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0);
    }
    for (int i = 0; i < 8; i++) x->h[i] ^= v[i] ^ v[8 + i];
}

void blake2b_begin(struct blake2b *x, size_t bytes)
{
    *x = (struct blake2b){ .bytes = bytes };
    memcpy(x->h, start, sizeof start);
    x->h[0] ^= 0x01010000u ^ bytes;
}

/* A full block waits until it is known not to be the last. */
void blake2b_add(struct blake2b *x, const void *data, size_t n)
{
    const unsigned char *p = data;
    while (n) {
        if (x->held == sizeof x->block) {
            x->n += sizeof x->block;
            compress(x, x->block, 0);
            x->held = 0;
        }
        while (!x->held && n > sizeof x->block) {
            x->n += sizeof x->block;
            compress(x, p, 0);
            p += sizeof x->block;
            n -= sizeof x->block;
        }
        size_t k = sizeof x->block - x->held < n ? sizeof x->block - x->held : n;
        memcpy(x->block + x->held, p, k);
        x->held += k;
        p += k;
        n -= k;
    }
}

void blake2b_end(struct blake2b *x, void *digest)
{
    unsigned char out[64];
    x->n += x->held;
    memset(x->block + x->held, 0, sizeof x->block - x->held);
    compress(x, x->block, ~(uint64_t)0);
    for (size_t i = 0; i < sizeof out; i++) out[i] = (unsigned char)(x->h[i / 8] >> 8 * (i % 8));
    memcpy(digest, out, x->bytes);
}
