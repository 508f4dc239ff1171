/* y = W x with float weights for any vector width: y = fmaf(w[k], x[k], y), k ascending, in every lane,
 * so the blocking of wide_tile.h moves no bit. */
#ifndef KERNELS_WIDE_FLOAT_H
#define KERNELS_WIDE_FLOAT_H
#include "kernels/wide_brain12.h"
#include "kernels/wide_tile.h"

#define FLOAT_TYPE(T)                                                                                    \
    static void wide_linear_##T(const void *panels, size_t n_panels, size_t k, const struct act *x,      \
                                size_t rows, float *y, size_t ldy)                                       \
    {                                                                                                    \
        float_linear(DT_##T, panels, panel_bytes(DT_##T, k), n_panels, k, x, rows, y, ldy, false);       \
    }
FLOAT_TYPE(F32)
FLOAT_TYPE(F16)
FLOAT_TYPE(BF16)

static void wide_times_f32(const float *panels, size_t apart, size_t n_panels, size_t k, const float *x, size_t ldx,
                           size_t rows, float *y, size_t ldy, bool more)
{
    struct act act = { .f = x, .ldf = ldx };
    float_linear(DT_F32, panels, apart * sizeof *panels, n_panels, k, &act, rows, y, ldy, more);
}

static inline void wide_float_init(struct kernels *k, const char *level)
{
    k->linear[DT_F32] = wide_linear_F32;
    k->linear[DT_F16] = wide_linear_F16;
    k->linear[DT_BF16] = wide_linear_BF16;
    k->times = wide_times_f32;
    wide_brain12_init(k, level);
    k->linear_level[DT_F32] = k->linear_level[DT_F16] = k->linear_level[DT_BF16] = level;
}
#endif
