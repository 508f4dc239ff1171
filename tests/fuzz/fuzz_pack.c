/* Any bytes as what rans_encode wrote, for as many bytes as the first two say: n bytes or a refusal; and as fields
 * of every type, which must come back. */
#include "format/pack_fields.h"
#include "format/rans.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void blocks(enum dtype type, const uint8_t *data, size_t size)
{
    static uint8_t streams[3 << 17], back[1 << 17];
    struct fields f;
    fields_of(type, &f);
    size_t n = size / f.block;
    if (n * f.block > sizeof back || fields_bytes(&f, n) > sizeof streams) return;
    fields_split(&f, data, n, streams);
    fields_join(&f, streams, n, back);
    if (memcmp(back, data, n * f.block) != 0) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t out[1 << 16], coded[1 << 19], again[1 << 16];
    if (size < 2) return 0;
    size_t n = data[0] | (size_t)data[1] << 8;
    if (rans_decode(data + 2, size - 2, out, n)) {
        size_t bytes = rans_encode(out, n, coded);
        if (bytes && (!rans_decode(coded, bytes, again, n) || memcmp(out, again, n) != 0)) abort();
    }
    for (int t = 0; t <= DT_COUNT; t++)
        if (t == DT_COUNT || dtype_table[t].block) blocks((enum dtype)t, data, size);
    return 0;
}
