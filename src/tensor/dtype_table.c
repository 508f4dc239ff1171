/* The rows. To add a type: a row here, its decode (and encode) in a file beside, a line in the
 * test. */
#include "tensor/dtype_int.h"
#include <string.h>
#include <strings.h>

static void decode_f32(const void *in, float *out, size_t n) { memcpy(out, in, n * sizeof *out); }
static void encode_f32(const float *in, void *out, size_t n) { memcpy(out, in, n * sizeof *in); }

static void decode_f16(const void *in, float *out, size_t n)
{
    const unsigned char *p = in;
    for (size_t i = 0; i < n; i++) out[i] = load_f16(p + 2 * i);
}

static void encode_f16(const float *in, void *out, size_t n)
{
    unsigned char *p = out;
    for (size_t i = 0; i < n; i++) store_u16(p + 2 * i, f32_to_f16(in[i]));
}

static void decode_bf16(const void *in, float *out, size_t n)
{
    const unsigned char *p = in;
    for (size_t i = 0; i < n; i++) out[i] = bf16_to_f32(load_u16(p + 2 * i));
}

static void encode_bf16(const float *in, void *out, size_t n)
{
    unsigned char *p = out;
    for (size_t i = 0; i < n; i++) store_u16(p + 2 * i, f32_to_bf16(in[i]));
}

const struct dtype_info dtype_table[DT_COUNT] = {
    [DT_F32]  = { "F32",   0,   1,   4, decode_f32,  encode_f32  },
    [DT_F16]  = { "F16",   1,   1,   2, decode_f16,  encode_f16  },
    [DT_BF16] = { "BF16", 30,   1,   2, decode_bf16, encode_bf16 },
    [DT_Q4_0] = { "Q4_0",  2,  32,  18, decode_q4_0, encode_q4_0 },
    [DT_Q4_1] = { "Q4_1",  3,  32,  20, decode_q4_1, encode_q4_1 },
    [DT_Q5_0] = { "Q5_0",  6,  32,  22, decode_q5_0, NULL        },
    [DT_Q5_1] = { "Q5_1",  7,  32,  24, decode_q5_1, NULL        },
    [DT_Q8_0] = { "Q8_0",  8,  32,  34, decode_q8_0, encode_q8_0 },
    [DT_Q2_K] = { "Q2_K", 10, 256,  84, decode_q2_k, NULL        },
    [DT_Q3_K] = { "Q3_K", 11, 256, 110, decode_q3_k, NULL        },
    [DT_Q4_K] = { "Q4_K", 12, 256, 144, decode_q4_k, NULL        },
    [DT_Q5_K] = { "Q5_K", 13, 256, 176, decode_q5_k, NULL        },
    [DT_Q6_K] = { "Q6_K", 14, 256, 210, decode_q6_k, NULL        },
};

/* Numbers that GGUF files use or once used for types that are not in the table. */
static const struct { uint32_t number; const char *name;
} foreign[] = {
    { 4, "Q4_2" },        { 5, "Q4_3" },        { 9, "Q8_1" },      { 15, "Q8_K" },
    { 16, "IQ2_XXS" },    { 17, "IQ2_XS" },     { 18, "IQ3_XXS" },  { 19, "IQ1_S" },
    { 20, "IQ4_NL" },     { 21, "IQ3_S" },      { 22, "IQ2_S" },    { 23, "IQ4_XS" },
    { 24, "I8" },         { 25, "I16" },        { 26, "I32" },      { 27, "I64" },
    { 28, "F64" },        { 29, "IQ1_M" },      { 31, "Q4_0_4_4" }, { 32, "Q4_0_4_8" },
    { 33, "Q4_0_8_8" },   { 34, "TQ1_0" },      { 35, "TQ2_0" },    { 36, "IQ4_NL_4_4" },
    { 37, "IQ4_NL_4_8" }, { 38, "IQ4_NL_8_8" }, { 39, "MXFP4" },    { 40, "NVFP4" },
    { 41, "Q1_0" },       { 42, "Q2_0" },
};

enum dtype dtype_by_gguf(uint32_t number)
{
    for (int t = 0; t < DT_COUNT; t++)
        if (dtype_table[t].gguf == number) return (enum dtype)t;
    return DT_COUNT;
}

enum dtype dtype_by_name(const char *name)
{
    for (int t = 0; t < DT_COUNT; t++)
        if (strcasecmp(dtype_table[t].name, name) == 0) return (enum dtype)t;
    return DT_COUNT;
}

const char *dtype_gguf_foreign_name(uint32_t number)
{
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        if (foreign[i].number == number) return foreign[i].name;
    return NULL;
}

size_t dtype_bytes(enum dtype t, size_t n)
{
    return n / dtype_table[t].block * dtype_table[t].bytes;
}
