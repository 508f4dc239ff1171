/* Records of bytes from one thread to another, without a lock: each in one piece, read where it lies and
 * dropped afterwards. Never grows; who writes asks first for room. */
#ifndef SERVE_RING_H
#define SERVE_RING_H
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { RING_BYTES = 1 << 18, RING_RECORD = 1 << 16 };  /* of a ring; of a record at most */

struct record { uint32_t bytes, kind; };       /* bytes: with this head, a multiple of 8; kind 0: skipped */

struct ring {
    unsigned char *data;                       /* [RING_BYTES], 8-aligned */
    _Atomic uint32_t written, read;            /* bytes ever, modulo 2^32 */
};

/* Bytes that are free; as records do not wrap, those of several records fit if twice RING_RECORD more are. */
static inline uint32_t ring_room(const struct ring *r)
{
    return RING_BYTES - (atomic_load_explicit(&r->written, memory_order_relaxed) -
                         atomic_load(&r->read));
}

/* The writer: a place for a record of `bytes` behind its head, or NULL; ring_put makes it visible. */
struct record *ring_take(struct ring *r, size_t bytes, uint32_t kind);
void ring_put(struct ring *r, const struct record *x);

/* The reader: the oldest record, or NULL; ring_drop gives its bytes back. */
const struct record *ring_look(struct ring *r);
void ring_drop(struct ring *r, const struct record *x);
#endif
