/* Any bytes, with the right check behind them, as a file of what guessing learned for a vocabulary of
 * 40 tokens: refused with words and nothing changed, or taken; what was taken is written and read
 * again as the same bytes. */
#include "decode/learned.h"
#include "base/memory.h"
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 40, WHICH = 7, TOKENS = 64 };

static void fresh(struct learned *x)
{
    struct arena a = { 0 };
    for (int real = 0; real < 2; real++) {
        if (real) a = (struct arena){ .base = x->memory.base, .cap = a.top };
        if (real && !a.base) a.base = mem_map(a.cap);
        if (real && x->memory.base) memset(a.base, 0, a.cap);
        if (!real) *x = (struct learned){ .memory = x->memory };
        suffix_store_plan(&x->store, &a, TOKENS);
        recycle_memory_plan(&x->recycled, &a, VOCAB);
    }
    x->memory = a;
    calibration_init(&x->calibration);
}

static struct buffer bytes_of(const struct learned *x)
{
    struct buffer b = buffer_make(LEARNED_BYTES);
    if (learned_write(x, WHICH, &b) != STRETTO_OK) abort();
    return b;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct learned x, y;
    static struct buffer empty;
    struct error err = { 0 };
    if (!empty.data) { fresh(&y); empty = bytes_of(&y); }
    unsigned char *whole = malloc(size + 8);
    if (!whole) return 0;
    memcpy(whole, data, size);
    uint64_t check = learned_check(data, size);
    for (int i = 0; i < 8; i++) whole[size + (size_t)i] = (unsigned char)(check >> (8 * i));
    fresh(&x);
    stretto_status s = learned_read(&x, WHICH, whole, size + 8, &err);
    struct buffer first = bytes_of(&x);
    if (s != STRETTO_OK) {
        if (!err.text[0] || first.len != empty.len || memcmp(first.data, empty.data, first.len) != 0)
            abort();
    } else {
        fresh(&y);
        if (learned_read(&y, WHICH, first.data, first.len, &err) != STRETTO_OK) abort();
        struct buffer second = bytes_of(&y);
        if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0) abort();
        buffer_done(&second);
    }
    buffer_done(&first);
    free(whole);
    return 0;
}
