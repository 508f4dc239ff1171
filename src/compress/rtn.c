#include "compress/rtn.h"
#include "tensor/blocks.h"
#include <math.h>

enum dtype rtn_type(unsigned bits)
{
    if (bits < 2 || bits > 8) return DT_COUNT;
    return bits <= 4 ? DT_Q4_0 : bits == 5 ? DT_Q5_0 : DT_Q8_0;
}

static float most_of(const float *x, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i]));
    return most;
}

static void write_block(const struct dtype_info *t, const float *x, float most, float highest, unsigned char *to)
{
    float values[BLOCK_MOST];
    struct block_scales k = { .d = block_kept(t, most / highest, 0) };
    for (size_t i = 0; i < t->block; i++) {
        float v = k.d != 0 ? rintf(x[i] / k.d) : 0;
        values[i] = v > highest ? highest : v < -highest ? -highest : v;
    }
    block_put_scales(t, to, &k);
    block_put_values(t, to, values);
}

stretto_status rtn_encode(unsigned bits, enum rtn_share share, const float *weight, size_t rows, size_t n,
                          void *blocks, struct error *err)
{
    enum dtype type = rtn_type(bits);
    if (type == DT_COUNT) return fail(err, STRETTO_E_ARG, "codes have 2 to 8 bits, not %u", bits);
    const struct dtype_info *t = &dtype_table[type];
    if (n % t->block) return fail(err, STRETTO_E_ARG, "rows of %zu numbers are no whole groups of %u", n, t->block);
    for (size_t i = 0; i < rows * n; i++)
        if (!isfinite(weight[i]))
            return fail(err, STRETTO_E_FORMAT, "row %zu holds a value that is no finite number", i / n);
    float highest = (float)((1 << (bits - 1)) - 1), most = share == RTN_TENSOR ? most_of(weight, rows * n) : 0;
    unsigned char *to = blocks;
    for (size_t r = 0; r < rows; r++, weight += n) {
        if (share == RTN_ROW) most = most_of(weight, n);
        for (size_t at = 0; at < n; at += t->block, to += t->bytes) {
            if (share == RTN_GROUP) most = most_of(weight + at, t->block);
            write_block(t, weight + at, most, highest, to);
        }
    }
    return STRETTO_OK;
}
