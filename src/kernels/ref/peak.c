/* The roofs of plain C. */
#include "kernels/ref/ref.h"
#include <string.h>

static inline int32_t int8_step(int32_t sum, const uint8_t *p)
{
    int8_t w;
    memcpy(&w, p, sizeof w);
    return sum + w * w;
}

static inline float f32_step(float sum, const uint8_t *p)
{
    float w;
    memcpy(&w, p, sizeof w);
    return sum + w * w;
}

PEAK_FUNCTION(peak_int8, int32_t, 0, 8, int8_step, 1)
PEAK_FUNCTION(peak_f32, float, 0, 8, f32_step, 1)

void peak_init_ref(struct kernels *k)
{
    k->peak[ARITHMETIC_INT8] = peak_int8;
    k->peak[ARITHMETIC_F32] = peak_f32;
}
