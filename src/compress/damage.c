#include "compress/damage.h"
#include "base/memory.h"
#include <math.h>

/* The first row that holds a value that is not finite, or -1. */
static int64_t damaged_row(const struct source_tensor *t, float *row)
{
    size_t width = (size_t)t->dims[0];
    uint64_t rows = t->dims[1] * t->dims[2] * t->dims[3];
    size_t step = dtype_bytes(t->type, t->stride ? t->stride : width);
    for (uint64_t r = 0; r < rows; r++) {
        dtype_table[t->type].decode((const unsigned char *)t->data + r * step, row, width);
        for (size_t i = 0; i < width; i++)
            if (!isfinite(row[i])) return (int64_t)r;
    }
    return -1;
}

stretto_status damage_blame(const struct source *source, stretto_status s, struct error *err)
{
    if (s != STRETTO_E_NAN || !source) return s;
    for (size_t i = 0; i < source_tensor_count(source); i++) {
        const struct source_tensor *t = source_tensor_at(source, i);
        float *row = t->transposed ? NULL : mem_alloc((size_t)t->dims[0] * sizeof *row);
        int64_t bad = row ? damaged_row(t, row) : -1;
        mem_free(row);
        if (bad < 0) continue;
        error_clear(err);
        return fail(err, STRETTO_E_FORMAT, "%s: tensor %s holds a value that is not finite (row %lld)",
                    source_path(source), t->name, (long long)bad);
    }
    return s;
}
