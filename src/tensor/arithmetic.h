/* What numbers are multiplied and added as: kernels are measured by it, operations are held against it. */
#ifndef TENSOR_ARITHMETIC_H
#define TENSOR_ARITHMETIC_H

enum arithmetic { ARITHMETIC_INT8, ARITHMETIC_F32, ARITHMETIC_BF16, ARITHMETIC_KINDS };
#endif
