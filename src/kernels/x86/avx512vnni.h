/* The quantised linear kernels of AVX-512 VNNI, which AMX leaves few rows to. NULL for float types. */
#ifndef KERNELS_X86_AVX512VNNI_H
#define KERNELS_X86_AVX512VNNI_H
#include "kernels/kernels.h"

linear_fn *linear_avx512vnni(enum dtype t);
#endif
