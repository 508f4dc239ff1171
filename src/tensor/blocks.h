/* Blocks of codes taken apart and put together, for every type from its row: an element is
 * scale * value + min, where scale and min belong to its group and value is what its code stands for. */
#ifndef TENSOR_BLOCKS_H
#define TENSOR_BLOCKS_H
#include "tensor/dtype.h"
#include <stdbool.h>

enum { BLOCK_MOST = 256, BLOCK_GROUPS = 16 };   /* elements, and groups, of a block at most */

/* The scales of a block as the file has them. Without sub-scales d and dmin are the scale and the minimum; with them
 * group g has the scale d * s[g] and the minimum -(dmin * m[g]). */
struct block_scales { float d, dmin; int s[BLOCK_GROUPS], m[BLOCK_GROUPS]; };
/* What sub-scales may be. */
struct block_limits { int low, high; };

/* Elements that share a scale: 16, 32, 64 or 256. */
size_t block_group(const struct dtype_info *t);
bool block_has_min(const struct dtype_info *t);
struct block_limits block_limits(const struct dtype_info *t);

/* In the arithmetic of the format: what decoding computes. */
float block_scale(const struct dtype_info *t, const struct block_scales *k, size_t g);
float block_min(const struct dtype_info *t, const struct block_scales *k, size_t g);

/* The d or dmin nearest to v that a file can hold, `steps` representable ones further from zero. Exponents (MXFP4) have
 * no sign and no zero. */
float block_kept(const struct dtype_info *t, float v, int steps);

/* Scales: codes stay as they are. d and dmin are rounded to what the file can hold. */
void block_get_scales(const struct dtype_info *t, const void *block, struct block_scales *k);
void block_put_scales(const struct dtype_info *t, void *block, const struct block_scales *k);
/* Values of the grid, one an element (tensor/fit.h: grid_of); scales stay as they are. */
void block_get_values(const struct dtype_info *t, const void *block, float *values);
void block_put_values(const struct dtype_info *t, void *block, const float *values);
#endif
