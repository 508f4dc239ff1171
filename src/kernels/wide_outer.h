/* Sums of outer products (kernels.h: `outer`) for any vector width, from one text for both element types.
 * Operations besides those of wide_vec.h: d_set1, d_load, d_store, d_fma on vd, VL / 2 lanes of double; and
 * OUTER_ROWS, the rows of c that stay in registers, two vectors wide.
 *
 * A strip of b and a block of a are copied together before they meet: their rows may lie a power of two apart,
 * where they push each other out of every cache. */
#ifndef KERNELS_WIDE_OUTER_H
#define KERNELS_WIDE_OUTER_H
#include "kernels/kernels.h"
#include "kernels/wide.h"
#include <string.h>

enum { OUTER_BLOCK = 96 << 10 };       /* bytes of a: in the second-level cache, and on the stack */

#define OUTER(name) name##_f
#define OUTER_CALL(op) v_##op
#define OUTER_LANES VL
#define OUTER_REAL float
#define OUTER_VECTOR vf
#include "kernels/outer_text.h"

#define OUTER(name) name##_d
#define OUTER_CALL(op) d_##op
#define OUTER_LANES (VL / 2)
#define OUTER_REAL double
#define OUTER_VECTOR vd
#include "kernels/outer_text.h"

static inline void wide_outer_init(struct kernels *k)
{
    k->outer = wide_outer_f;
    k->outer_d = wide_outer_d;
}
#endif
