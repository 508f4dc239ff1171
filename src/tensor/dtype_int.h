/* The decoders and encoders behind the rows of dtype_table. `n` counts elements and is a multiple
 * of the type's block; pointers need no alignment, because blocks of 18 or 34 bytes have none. */
#ifndef TENSOR_DTYPE_INT_H
#define TENSOR_DTYPE_INT_H
#include "tensor/dtype.h"

static inline uint16_t load_u16(const unsigned char *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline float load_f16(const unsigned char *p) { return f16_to_f32(load_u16(p)); }
static inline void store_u16(unsigned char *p, uint16_t v)
{
    p[0] = (unsigned char)v;
    p[1] = (unsigned char)(v >> 8);
}

void decode_q4_0(const void *in, float *out, size_t n);
void decode_q4_1(const void *in, float *out, size_t n);
void decode_q5_0(const void *in, float *out, size_t n);
void decode_q5_1(const void *in, float *out, size_t n);
void decode_q8_0(const void *in, float *out, size_t n);
void decode_q2_k(const void *in, float *out, size_t n);
void decode_q3_k(const void *in, float *out, size_t n);
void decode_q4_k(const void *in, float *out, size_t n);
void decode_q5_k(const void *in, float *out, size_t n);
void decode_q6_k(const void *in, float *out, size_t n);

void encode_q4_0(const float *in, void *out, size_t n);
void encode_q4_1(const float *in, void *out, size_t n);
void encode_q8_0(const float *in, void *out, size_t n);
#endif
