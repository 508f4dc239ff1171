/* Rounding to the nearest code and nothing else: the baseline that better methods are measured by. A weight is
 * scale * code with whole codes of `bits` bits, symmetric around zero, and one scale for the whole tensor, for each
 * row (output channel) or for each group of 32: the largest magnitude becomes the largest code. Jacob et al. 2017,
 * arXiv 1712.05877, section 2, without zero points. */
#ifndef COMPRESS_RTN_H
#define COMPRESS_RTN_H
#include "base/status.h"
#include "tensor/dtype.h"

enum rtn_share { RTN_TENSOR, RTN_ROW, RTN_GROUP };

/* The smallest type that holds codes of 2 to 8 bits as they are; DT_COUNT for other numbers of bits. */
enum dtype rtn_type(unsigned bits);
/* weight [rows][n], n a multiple of 32; blocks: rows * dtype_bytes(rtn_type(bits), n). Scales are rounded to float16
 * before codes are chosen. E_FORMAT with the row where a weight is no finite number. */
stretto_status rtn_encode(unsigned bits, enum rtn_share share, const float *weight, size_t rows, size_t n,
                          void *blocks, struct error *err);
#endif
