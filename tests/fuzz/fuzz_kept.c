/* Any bytes as a file of compiled kernels, once as they are and once with their own key and the right check behind
 * them: refused, or the image lies within them and is all of them. */
#include "backend/gpu/kept.h"
#include <stdlib.h>
#include <string.h>

static uint64_t number(const unsigned char *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

static void look(const unsigned char *file, size_t n)
{
    struct kept_key key = { { 0, 0 } };
    size_t at = 0, bytes = 0;
    if (n >= KEPT_HEADER) key = (struct kept_key){ { number(file + 8), number(file + 16) } };
    if (!kept_read(file, n, key, &at, &bytes)) return;
    if (!bytes || at > n || bytes > n - at || at + bytes + KEPT_FOOTER != n) abort();
    if (number(file + at + bytes) != kept_check(file, at + bytes)) abort();
    key.word[0]++;
    if (kept_read(file, n, key, &at, &bytes)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *file = malloc(size + KEPT_FOOTER);
    if (!file) return 0;
    memcpy(file, data, size);
    unsigned char *exact = malloc(size ? size : 1);         /* so that reading behind it is seen */
    if (exact) {
        memcpy(exact, data, size);
        look(exact, size);
    }
    free(exact);
    uint64_t check = kept_check(file, size);
    for (int i = 0; i < KEPT_FOOTER; i++) file[size + (size_t)i] = (unsigned char)(check >> 8 * i);
    look(file, size + KEPT_FOOTER);
    free(file);
    return 0;
}
