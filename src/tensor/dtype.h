/* Element types and their block layouts: one row per type, the only place that knows them.
 * Layouts are those of GGUF (ggml) files; F32, F16 and BF16 are shared with safetensors. */
#ifndef TENSOR_DTYPE_H
#define TENSOR_DTYPE_H
#include <stddef.h>
#include <stdint.h>

enum dtype {
    DT_F32, DT_F16, DT_BF16, DT_Q4_0, DT_Q4_1, DT_Q5_0, DT_Q5_1, DT_Q8_0,
    DT_Q2_K, DT_Q3_K, DT_Q4_K, DT_Q5_K, DT_Q6_K, DT_COUNT
};

struct dtype_info {
    const char *name; /* "Q4_1", as GGUF tools print it; option spellings are lower case */
    uint32_t gguf;    /* the type's number in GGUF files                                  */
    uint32_t block;   /* elements of a block: 1, 32 or 256                                */
    uint32_t bytes;   /* bytes of a block                                                 */
    /* n is a multiple of `block`. decode: exact arithmetic of the format in float32, as the
     * published ggml reference dequantisation does it. encode: plain rounding; NULL where not
     * offered. */
    void (*decode)(const void *in, float *out, size_t n);
    void (*encode)(const float *in, void *out, size_t n);
};

extern const struct dtype_info dtype_table[DT_COUNT];

/* DT_COUNT when there is no such type. dtype_by_name ignores case. */
enum dtype dtype_by_gguf(uint32_t number);
enum dtype dtype_by_name(const char *name);
/* Name of a GGUF type number that is known but not supported ("IQ4_XS", "TQ1_0" ...), else NULL. */
const char *dtype_gguf_foreign_name(uint32_t number);
/* Bytes of n elements; n must be a multiple of the block. */
size_t dtype_bytes(enum dtype t, size_t n);

/* Scalar conversions, round to nearest even; NaN stays NaN. */
float    f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f);
static inline float bf16_to_f32(uint16_t h)
{
    union { uint32_t u; float f; } v = { .u = (uint32_t)h << 16 };
    return v.f;
}
uint16_t f32_to_bf16(float f);
#endif
