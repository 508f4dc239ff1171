/* Element types. What a type looks like is its row in dtype_rows.h, and only the row: to add a type is to
 * add a row and its decoder. Layouts are those of GGUF (ggml) files; F32, F16 and BF16 are shared with
 * safetensors. */
#ifndef TENSOR_DTYPE_H
#define TENSOR_DTYPE_H
#include <stddef.h>
#include <stdint.h>

/* Every type number that GGUF files use or once used, under the name GGUF tools print. Those that have a
 * row are supported, the others are known by name and refused. The list is published and complete, so
 * that supporting one more of them changes no header that everybody includes. */
#define GGUF_TYPES(X)                                                                                    \
    X(F32, 0) X(F16, 1) X(Q4_0, 2) X(Q4_1, 3) X(Q4_2, 4) X(Q4_3, 5) X(Q5_0, 6) X(Q5_1, 7) X(Q8_0, 8)     \
    X(Q8_1, 9) X(Q2_K, 10) X(Q3_K, 11) X(Q4_K, 12) X(Q5_K, 13) X(Q6_K, 14) X(Q8_K, 15) X(IQ2_XXS, 16)    \
    X(IQ2_XS, 17) X(IQ3_XXS, 18) X(IQ1_S, 19) X(IQ4_NL, 20) X(IQ3_S, 21) X(IQ2_S, 22) X(IQ4_XS, 23)      \
    X(I8, 24) X(I16, 25) X(I32, 26) X(I64, 27) X(F64, 28) X(IQ1_M, 29) X(BF16, 30) X(Q4_0_4_4, 31)       \
    X(Q4_0_4_8, 32) X(Q4_0_8_8, 33) X(TQ1_0, 34) X(TQ2_0, 35) X(IQ4_NL_4_4, 36) X(IQ4_NL_4_8, 37)        \
    X(IQ4_NL_8_8, 38) X(MXFP4, 39) X(NVFP4, 40) X(Q1_0, 41) X(Q2_0, 42)

/* A type is its number. DT_COUNT is one more than the largest, and no type. */
enum dtype {
#define X(name, number) DT_##name = number,
    GGUF_TYPES(X)
#undef X
    DT_COUNT
};

/* What the codes of a block are made of, lowest bits first. */
enum dtype_planes { CODE_BYTES = 1, CODE_NIB = 2, CODE_TWO = 4, CODE_ONE = 8 };
/* Whether a weight has an added number per group: d * code + m, or d * code - m. */
enum dtype_min { MIN_NONE, MIN_PLUS, MIN_MINUS };
/* Scales of sub-blocks under d: none; 6 bits and a minimum of 6 bits per 32 elements (12 bytes); per 16
 * elements 4 bits and a minimum of 4 bits (16 bytes), a signed byte (16 bytes), or 6 bits less 32 (12 bytes);
 * per 32 elements 6 bits less 32 (6 bytes: all upper bits, then nibbles). */
enum dtype_sub { SUB_NONE, SUB_PAIRS_6, SUB_NIBBLES, SUB_BYTES, SUB_SIX, SUB_SIX_32 };
/* The scale: float16, or a byte e of the OCP formats (E8M0) that means 2^(e - 128) here: values are whole numbers,
 * twice those of the published format. Every e is a number, as in ggml, also 255, a NaN to OCP. */
enum dtype_scale { SCALE_F16, SCALE_E8M0 };

/* A type. Places are bytes in a block. A supported type has a block. */
struct dtype_info {
    const char *name;      /* "Q4_1", as GGUF tools print it; option spellings are lower case        */
    uint32_t block, bytes; /* elements of a block (1, 32, 64 or 256), and its bytes                  */
    /* n is a multiple of `block`. decode: exact arithmetic of the format in float32, as the published
     * ggml reference dequantisation does it. encode: the published plain rounding; NULL where there is none.
     * tensor/encode.h writes every type of codes. */
    void (*decode)(const void *in, float *out, size_t n);
    void (*encode)(const float *in, void *out, size_t n);
    float most;            /* largest magnitude of either sign that the type holds                   */
    enum dtype instead;    /* what `convert` writes where rows are no multiple of the block; 0: F16  */
    uint32_t file_type;    /* what llama.cpp calls a file that is mostly of this type                */

    /* ---- blocks of codes: what the panels, their packing, the kernels and the tests are made from */
    unsigned planes;       /* CODE_ bits                                                             */
    uint32_t bytes_at;     /* CODE_BYTES: element i is byte i                                        */
    uint32_t nib_at;       /* CODE_NIB: elements i and i + nib_apart share a byte                    */
    uint32_t nib_apart;
    uint32_t two_at;       /* CODE_TWO: four elements share a byte, two_apart (32 or 1) apart        */
    uint32_t two_apart;
    uint32_t one_at;       /* CODE_ONE: in blocks of 32 bit i; in 256 bit i / 32 of byte i % 32      */
    int zero;              /* the value of a code is code - zero,                                    */
    int codes;             /* that are written, from 0 on, where not all are: 3 of ternary types     */
    const int8_t *values;  /* or values[code] where there are such, 16 of -values_most..values_most  */
    int values_most;       /* at most 127                                                            */
    enum dtype_scale scale;
    uint32_t d_at, m_at;   /* the scale; with `min` or SUB_NIBBLES the float16 minimum               */
    enum dtype_min min;
    enum dtype_sub sub;
    uint32_t sub_at;
};

/* By type. Types without a row are zeros. */
extern const struct dtype_info dtype_table[DT_COUNT];

/* DT_COUNT when no such type is supported. dtype_by_name ignores case. */
enum dtype dtype_by_gguf(uint32_t number);
enum dtype dtype_by_name(const char *name);
/* Name of a GGUF type number that is known but not supported ("IQ4_XS", "TQ1_0" ...), else NULL. */
const char *dtype_gguf_foreign_name(uint32_t number);
/* The names of all supported types, "F32, F16, Q4_0 ...", cut short where `size` ends. */
const char *dtype_names(char *text, size_t size);
/* Bytes of n elements; n must be a multiple of the block. */
size_t dtype_bytes(enum dtype t, size_t n);
#endif
