/* Noise without state: a number is a function of what it is for. Counter-based, so any thread may
 * compute any of it, in any order, and get the same (the mixing is SplitMix64's finaliser). */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H
#include <stdint.h>

static inline uint64_t random_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* The noise of one token at one position of one choice under one seed. */
static inline uint64_t random_at(uint64_t seed, uint64_t choice, uint64_t position, uint64_t token)
{
    return random_mix(random_mix(random_mix(random_mix(seed) ^ choice) ^ position) ^ token);
}

/* In (0, 1), never 0 or 1. */
static inline double random_unit(uint64_t bits) { return ((double)(bits >> 12) + 0.5) * 0x1p-52; }
#endif
