/* A cursor over bytes we do not trust. It never reads past `end`; after the first short read every
 * later one yields zero and `bad` stays set, so a parser may read a whole header and test once. */
#ifndef BASE_READER_H
#define BASE_READER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct reader { const unsigned char *p, *end; bool bad; };

static inline const void *read_bytes(struct reader *r, size_t n)
{
    if (r->bad || n > (size_t)(r->end - r->p)) { r->bad = true; return NULL; }
    const void *at = r->p;
    r->p += n;
    return at;
}

/* Little-endian unsigned number of n <= 8 bytes. */
static inline uint64_t read_le(struct reader *r, size_t n)
{
    const unsigned char *at = read_bytes(r, n);
    uint64_t v = 0;
    if (at) for (size_t i = n; i-- > 0;) v = v << 8 | at[i];
    return v;
}

static inline uint64_t read_u64(struct reader *r) { return read_le(r, 8); }
static inline uint32_t read_u32(struct reader *r) { return (uint32_t)read_le(r, 4); }

/* A count read from the file, refused when the bytes left could not hold it. */
static inline size_t read_count(struct reader *r, size_t item_min)
{
    uint64_t n = read_u64(r);
    if (n > (size_t)(r->end - r->p) / item_min) { r->bad = true; return 0; }
    return (size_t)n;
}
#endif
