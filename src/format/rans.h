/* Bytes coded by how often each stands in them, without their neighbours (order 0): range asymmetric numeral systems
 * (rANS, Duda, arXiv 1311.2540), eight states in turns so that a CPU decodes several bytes at once (Giesen, arXiv
 * 1402.3392). Frequencies are of 4096. What is decoded is not trusted: any bytes give an answer or false.
 *
 *   u8 [32]   a bit for every byte that occurs
 *   u16 [..]  its frequency less 1, for each of these in order
 *   u32 [8]   the states to begin with
 *   u16 [..]  what states are filled up with */
#ifndef FORMAT_RANS_H
#define FORMAT_RANS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that `out` of rans_encode must have. */
size_t rans_bound(size_t n);
/* How many bytes were written; 0 where that would be no less than n. n at most 2^28. */
size_t rans_encode(const uint8_t *in, size_t n, uint8_t *out);
/* Exactly n bytes from exactly `bytes`; false where these are none that rans_encode writes. */
bool rans_decode(const uint8_t *in, size_t bytes, uint8_t *out, size_t n);
#endif
