#include "format/content.h"
#include "base/blake2b.h"
#include "format/extend.h"
#include <string.h>

static void digits(struct blake2b *b, char out[CONTENT_DIGITS])
{
    unsigned char digest[16];
    blake2b_end(b, digest);
    for (size_t i = 0; i < sizeof digest; i++) {
        out[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    out[32] = '\0';
}

void content_of(const void *bytes, size_t n, char out[CONTENT_DIGITS])
{
    struct blake2b b;
    blake2b_begin(&b, 16);
    blake2b_add(&b, bytes, n);
    digits(&b, out);
}

void source_content(const struct source *s, char out[CONTENT_DIGITS])
{
    struct blake2b b;
    blake2b_begin(&b, 16);
    for (size_t i = 0; i < source_tensor_count(s); i++) {
        const struct source_tensor *t = source_tensor_plain(s, source_tensor_at(s, i));
        const uint64_t about[] = { (uint64_t)t->type, t->n_dims, t->dims[0], t->dims[1], t->bytes };
        blake2b_add(&b, t->name, strlen(t->name) + 1);
        blake2b_add(&b, about, sizeof about);
        /* The rows of a slice that is stored turned lie apart; the first of its kind begins all of them. */
        if (!t->stride) blake2b_add(&b, t->data, t->bytes);
    }
    digits(&b, out);
}
