/* The rows: one per supported type, and everything about a type that is not its decoder's arithmetic. From
 * a row come the table of types, the panels and their packing (kernels/panel.c), the linear kernels of
 * every level, what kcheck runs and what the oracles of tools/ make models of (tools/oracle/dtypes.py
 * reads this file). Fields: dtype.h. docs/recipes/format.md says how to add one.
 *
 * Few files include this; whoever only carries types about includes dtype.h. */
#ifndef TENSOR_DTYPE_ROWS_H
#define TENSOR_DTYPE_ROWS_H
#include "tensor/dtype.h"

/* Codes that are looked up: the non-linear steps of IQ4 types, as ggml publishes them. */
static const int8_t values_iq4[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };

/* The four bits of a float (E2M1, OCP Microscaling Formats 1.0), times two: 0 0.5 1 1.5 2 3 4 6 and their negatives. */
static const int8_t values_e2m1[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };

/* One number is one element. The largest float16 is 65504; 65520 would round to infinity. */
#define DTYPES_FLOAT(X)                                                                                  \
    X(F32, .block = 1, .bytes = 4, .encode = encode_F32, .file_type = 0, .most = 3.4028235e38f)          \
    X(F16, .block = 1, .bytes = 2, .encode = encode_F16, .file_type = 1, .most = 65519.996f)             \
    X(BF16, .block = 1, .bytes = 2, .encode = encode_BF16, .file_type = 32, .most = 3.3895314e38f)

/* 32 elements under one scale, of Q2_0 64. Q8_0 has 127 steps of a float16. */
#define DTYPES_BLOCK(X)                                                                                  \
    X(Q4_0, .block = 32, .bytes = 18, .file_type = 2, .most = 7 * 65504.0f, .encode = encode_Q4_0,       \
      .d_at = 0, .zero = 8, .planes = CODE_NIB, .nib_at = 2, .nib_apart = 16)                            \
    X(Q4_1, .block = 32, .bytes = 20, .file_type = 3, .most = 65504.0f, .encode = encode_Q4_1,           \
      .d_at = 0, .m_at = 2, .min = MIN_PLUS, .planes = CODE_NIB, .nib_at = 4, .nib_apart = 16)           \
    X(Q5_0, .block = 32, .bytes = 22, .file_type = 8, .most = 15 * 65504.0f, .encode = encode_Q5_0,      \
      .d_at = 0, .zero = 16, .planes = CODE_NIB | CODE_ONE, .nib_at = 6, .nib_apart = 16, .one_at = 2)   \
    X(Q5_1, .block = 32, .bytes = 24, .file_type = 9, .most = 65504.0f, .encode = encode_Q5_1,           \
      .d_at = 0, .m_at = 2, .min = MIN_PLUS, .planes = CODE_NIB | CODE_ONE, .nib_at = 8,                 \
      .nib_apart = 16, .one_at = 4)                                                                      \
    X(Q8_0, .block = 32, .bytes = 34, .encode = encode_Q8_0, .file_type = 7,                             \
      .most = 127 * 65504.0f, .d_at = 0, .planes = CODE_BYTES, .bytes_at = 2)                            \
    X(IQ4_NL, .block = 32, .bytes = 18, .file_type = 25, .most = 113 * 65504.0f, .d_at = 0,              \
      .values = values_iq4, .values_most = 127, .planes = CODE_NIB, .nib_at = 2, .nib_apart = 16)        \
    X(MXFP4, .block = 32, .bytes = 17, .file_type = 38, .most = 0x1.8p127f, .encode = encode_MXFP4,      \
      .d_at = 0, .scale = SCALE_E8M0, .values = values_e2m1, .values_most = 12, .planes = CODE_NIB,      \
      .nib_at = 1, .nib_apart = 16)                                                                      \
    X(Q2_0, .block = 64, .bytes = 18, .file_type = 41, .most = 2 * 65504.0f, .encode = encode_Q2_0,      \
      .instead = DT_Q4_0, .d_at = 0, .zero = 1, .planes = CODE_TWO, .two_at = 2, .two_apart = 1)

/* 256 elements, in groups of 16 or 32 with small scales of their own; of TQ2_0 under one scale. */
#define DTYPES_SUPER(X)                                                                                  \
    X(Q2_K, .block = 256, .bytes = 84, .file_type = 10, .most = 15 * 65504.0f,                           \
      .instead = DT_IQ4_NL, .d_at = 80, .m_at = 82, .sub = SUB_NIBBLES, .sub_at = 0,                     \
      .planes = CODE_TWO, .two_at = 16, .two_apart = 32)                                                 \
    X(Q3_K, .block = 256, .bytes = 110, .file_type = 11, .most = 93 * 65504.0f,                          \
      .instead = DT_IQ4_NL, .d_at = 108, .sub = SUB_SIX, .sub_at = 96, .zero = 4,                        \
      .planes = CODE_TWO | CODE_ONE, .two_at = 32, .two_apart = 32, .one_at = 0)                         \
    X(Q4_K, .block = 256, .bytes = 144, .file_type = 14, .most = 63 * 65504.0f, .instead = DT_Q5_0,      \
      .d_at = 0, .m_at = 2, .min = MIN_MINUS, .sub = SUB_PAIRS_6, .sub_at = 4, .planes = CODE_NIB,       \
      .nib_at = 16, .nib_apart = 32)                                                                     \
    X(Q5_K, .block = 256, .bytes = 176, .file_type = 16, .most = 63 * 65504.0f, .instead = DT_Q5_1,      \
      .d_at = 0, .m_at = 2, .min = MIN_MINUS, .sub = SUB_PAIRS_6, .sub_at = 4,                           \
      .planes = CODE_NIB | CODE_ONE, .nib_at = 48, .nib_apart = 32, .one_at = 16)                        \
    X(Q6_K, .block = 256, .bytes = 210, .file_type = 18, .most = 3937 * 65504.0f,                        \
      .instead = DT_Q8_0, .d_at = 208, .sub = SUB_BYTES, .sub_at = 192, .zero = 32,                      \
      .planes = CODE_NIB | CODE_TWO, .nib_at = 0, .nib_apart = 64, .two_at = 128, .two_apart = 32)       \
    X(IQ4_XS, .block = 256, .bytes = 136, .file_type = 30, .most = 4064 * 65504.0f,                      \
      .instead = DT_IQ4_NL, .d_at = 0, .sub = SUB_SIX_32, .sub_at = 2, .values = values_iq4,             \
      .values_most = 127, .planes = CODE_NIB, .nib_at = 8, .nib_apart = 16)                              \
    X(TQ2_0, .block = 256, .bytes = 66, .file_type = 37, .most = 65504.0f, .encode = encode_TQ2_0,       \
      .instead = DT_Q4_0, .d_at = 64, .zero = 1, .codes = 3, .planes = CODE_TWO, .two_at = 0,            \
      .two_apart = 32)

/* What `--type` takes: every type, as options spell it (tests/unit/tensor holds it to the rows). */
#define DTYPE_WORDS "f32|f16|bf16|q4_0|q4_1|q5_0|q5_1|q8_0|iq4_nl|mxfp4|q2_0|" \
                    "q2_k|q3_k|q4_k|q5_k|q6_k|iq4_xs|tq2_0"

#define DTYPES_CODED(X) DTYPES_BLOCK(X) DTYPES_SUPER(X)
#define DTYPES(X)       DTYPES_FLOAT(X) DTYPES_CODED(X)

/* decode_T of every row, and encode_T of those that name one. `n` counts elements and is a multiple of the
 * block; pointers need no alignment, because blocks of 18 or 34 bytes have none. */
#define X(T, ...)                                                                                        \
    void decode_##T(const void *in, float *out, size_t n);                                               \
    void encode_##T(const float *in, void *out, size_t n);
DTYPES(X)
#undef X

/* The row of a type whose number the compiler knows, as constants that fold away. */
static inline __attribute__((always_inline)) struct dtype_info dtype_row(enum dtype t)
{
    switch (t) {
#define X(T, ...)                                                                                        \
    case DT_##T: return (struct dtype_info){ __VA_ARGS__ };
        DTYPES(X)
#undef X
    default: return (struct dtype_info){ 0 };
    }
}
#endif
