/* Any bytes as the journal of an interrupted pass: what is listed are tensors there are, and reading stops where
 * lines do. */
#include "compress/journal.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { N = 20 };
    unsigned char listed[N + 1] = { 0 };
    uint64_t hash[N];
    listed[N] = 77;
    size_t good = journal_parse((const char *)data, size, 0x0123456789abcdefu, N, listed, hash);
    if (good > size || listed[N] != 77) abort();
    if (good && data[good - 1] != '\n') abort();
    for (size_t i = 0; i < N; i++)
        if (listed[i] > 1 || (listed[i] && !good)) abort();
    return 0;
}
