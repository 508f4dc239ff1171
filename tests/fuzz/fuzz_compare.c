/* Any bytes as a file of bench results: refused with words, or rows with speeds. */
#include "eval/compare.h"
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct compare_file f;
    struct error err = {0};
    if (compare_read(&f, (const char *)data, size, &err) != STRETTO_OK) {
        if (f.rows || f.n || !err.text[0]) abort();
        return 0;
    }
    if (f.n == 0 || f.n > COMPARE_ROWS) abort();
    for (size_t i = 0; i < f.n; i++) {
        const struct compare_row *r = &f.rows[i];
        if (!r->name[0] || r->n == 0 || r->n > COMPARE_SAMPLES || r->variance < 0) abort();
        struct compare_change c = compare_rows(r, r);
        if (c.slower || c.faster || isnan(c.ratio)) abort();
    }
    compare_done(&f);
    return 0;
}
