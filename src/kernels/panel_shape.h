/* Where things lie in a type's panels: the layout of panel.h, computed from the type's row. Everything
 * here folds away where the compiler knows the type. Static inline only (see kernels.h). */
#ifndef KERNELS_PANEL_SHAPE_H
#define KERNELS_PANEL_SHAPE_H
#include "kernels/panel.h"
#include "tensor/dtype_rows.h"
#include <stdbool.h>

enum { PANEL_SUB = 64 };                           /* super-blocks: where sub-scales begin */

/* Lines of 64 bytes come whole; offsets are bytes from the unit's beginning. */
struct panel_shape {
    size_t groups, bytes;               /* of a unit; groups 0: a float type           */
    size_t codes, step;                 /* codes of group 0, and from one to the next  */
    size_t d, d_step, m;                /* f16 [16], or u8 [16]: */
    bool exponent;                      /* d is 2^(byte - 128)                         */
    size_t d_groups;                    /* groups that share d                         */
    bool whole, nib, two, one;          /* planes; whole: bytes                        */
    int bits, zero;                     /* of a code; its value is code - zero,        */
    const int8_t *values;               /* or values[code] where there are such, 16,   */
    int values_most;                    /* whose magnitudes are at most this           */
    int sub;                            /* elements under a sub-scale: 16, 32 or 0     */
    size_t sub_step;                    /* bytes of a group's sub-scales               */
    bool sub_nibbles;                   /* scale and minimum in a byte                 */
    bool plus;                          /* the panel holds -m_w (kernels.h), as Q4_1's files do */
    enum panel_min min;
};

#define PANEL_INLINE static inline __attribute__((always_inline))

PANEL_INLINE struct panel_shape panel_shape(enum dtype t)
{
    const struct dtype_info row = dtype_row(t);
    struct panel_shape s = { .zero = row.zero, .values = row.values, .values_most = row.values_most,
                             .whole = row.planes & CODE_BYTES, .nib = row.planes & CODE_NIB,
                             .two = row.planes & CODE_TWO, .one = row.planes & CODE_ONE,
                             .sub_nibbles = row.sub == SUB_NIBBLES, .plus = row.min == MIN_PLUS };
    if (!row.planes) return s;
    s.min = s.sub_nibbles ? PANEL_SUBMIN : row.min ? PANEL_MIN : PANEL_NO_MIN;
    s.sub = row.sub == SUB_PAIRS_6 || row.sub == SUB_SIX_32 ? 32 : row.sub ? 16 : 0;
    s.sub_step = !s.sub ? 0 : s.sub == 32 && !s.min ? 16 : 32;
    s.exponent = row.scale == SCALE_E8M0;
    s.d_groups = 1;
    s.bits = s.whole ? 8 : 4 * s.nib + 2 * s.two + s.one;
    s.step = (size_t)(512 * s.whole + 256 * s.nib + 128 * s.two + 64 * s.one);
    if (row.block == 256) {
        s.groups = 8;
        s.codes = PANEL_SUB + 8 * s.sub_step;
        s.m = s.min ? 32 : 0;
        s.bytes = s.codes + 8 * s.step;
    } else if (s.exponent || row.block == 64) {
        s.groups = 4;
        s.d_groups = s.exponent ? 1 : 2;
        s.d_step = s.exponent ? 16 : 32;
        s.codes = 64;
        s.bytes = 64 + 4 * s.step;
    } else if (s.min) {
        s.groups = 1;
        s.d = s.step;
        s.m = s.step + 32;
        s.bytes = s.step + 64;
    } else {
        s.groups = 2;
        s.d = 2 * s.step;
        s.d_step = 32;
        s.bytes = 2 * s.step + 64;
    }
    return s;
}

/* Scales of group g of a unit. */
PANEL_INLINE const uint8_t *panel_d(struct panel_shape s, const uint8_t *unit, size_t g)
{
    return unit + s.d + g / s.d_groups * s.d_step;
}
#endif
