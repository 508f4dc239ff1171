/* A number for bytes, to tell texts and files apart that nobody made to look alike. */
#ifndef BASE_HASH_H
#define BASE_HASH_H
#include "base/random.h"
#include <stddef.h>
#include <string.h>

/* h: 0, or the hash of what stood before. */
static inline uint64_t hash_bytes(uint64_t h, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    h = random_mix(h ^ n);
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        h = (h ^ v) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
    }
    uint64_t rest = 0;
    for (size_t i = 0; i < n; i++) rest |= (uint64_t)p[i] << 8 * i;
    return random_mix(h ^ rest);
}

static inline uint64_t hash_text(uint64_t h, const char *s) { return hash_bytes(h, s, strlen(s)); }
#endif
