/* BLAKE2b (RFC 7693), without a key: a digest that nobody can make two texts for. */
#ifndef BASE_BLAKE2B_H
#define BASE_BLAKE2B_H
#include <stddef.h>
#include <stdint.h>

struct blake2b { uint64_t h[8], n; unsigned char block[128]; size_t held, bytes; };

/* bytes: of the digest, 1 to 64. */
void blake2b_begin(struct blake2b *x, size_t bytes);
void blake2b_add(struct blake2b *x, const void *data, size_t n);
void blake2b_end(struct blake2b *x, void *digest);
#endif
