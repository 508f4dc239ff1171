/* What a level can multiply and add at all: the roof that a compute-bound operation is held
 * against. Independent sums stay in registers, one operand comes from the L1 cache as a weight
 * does. */
#ifndef KERNELS_PEAK_H
#define KERNELS_PEAK_H
#include "tensor/arithmetic.h"
#include <stddef.h>
#include <stdint.h>

/* Does `rounds` rounds and returns how many products were added. */
typedef uint64_t peak_fn(size_t rounds);

/* The function NAME: SUMS sums of type V, one STEP(sum, pointer to 64 bytes) for each and round,
 * MACS products a step. The empty statements keep the compiler from doing the work once for all
 * rounds. */
#define PEAK_FUNCTION(NAME, V, ZERO, SUMS, STEP, MACS)                         \
    static uint64_t NAME(size_t rounds)                                        \
    {                                                                          \
        static const _Alignas(64) uint8_t from[(SUMS)*64];                     \
        V sum[SUMS];                                                           \
        for (int i = 0; i < (SUMS); i++) sum[i] = ZERO;                        \
        for (size_t r = 0; r < rounds; r++) {                                  \
            const uint8_t *at = from;                                          \
            __asm__ volatile("" : "+r"(at));                                   \
            _Pragma("GCC unroll 16") for (int i = 0; i < (SUMS); i++) sum[i] = \
                STEP(sum[i], at + (size_t)i * 64);                             \
        }                                                                      \
        volatile V sink;                                                       \
        for (int i = 0; i < (SUMS); i++) sink = sum[i];                        \
        (void)sink;                                                            \
        return (uint64_t)rounds * (SUMS) * (MACS);                             \
    }
#endif
