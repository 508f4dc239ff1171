#include "serve/ring.h"

static struct record *at(const struct ring *r, uint32_t place)
{
    return (struct record *)(void *)(r->data + place % RING_BYTES);
}

struct record *ring_take(struct ring *r, size_t bytes, uint32_t kind)
{
    uint32_t place = atomic_load_explicit(&r->written, memory_order_relaxed), room = ring_room(r);
    uint32_t end = RING_BYTES - place % RING_BYTES;
    if (bytes > RING_RECORD - sizeof(struct record)) return NULL;
    uint32_t n = (uint32_t)((bytes + sizeof(struct record) + 7) & ~(size_t)7);
    if (n > end) {                             /* the rest up to the end is skipped */
        if (room < end + n) return NULL;
        *at(r, place) = (struct record){ end, 0 };
        ring_put(r, at(r, place));
    } else if (room < n) return NULL;
    struct record *x = at(r, atomic_load_explicit(&r->written, memory_order_relaxed));
    *x = (struct record){ n, kind };
    return x;
}

void ring_put(struct ring *r, const struct record *x)
{
    atomic_fetch_add_explicit(&r->written, x->bytes, memory_order_release);
}

const struct record *ring_look(struct ring *r)
{
    for (;;) {
        uint32_t place = atomic_load_explicit(&r->read, memory_order_relaxed);
        if (atomic_load_explicit(&r->written, memory_order_acquire) == place) return NULL;
        const struct record *x = at(r, place);
        if (x->kind) return x;
        ring_drop(r, x);
    }
}

void ring_drop(struct ring *r, const struct record *x)
{
    atomic_fetch_add(&r->read, x->bytes);
}
