/* A piece of a tensor as streams of bytes that are each coded for themselves, and back. */
#ifndef FORMAT_PACK_FIELDS_H
#define FORMAT_PACK_FIELDS_H
#include "tensor/dtype.h"
#include <stdbool.h>

enum { FIELDS_MOST = 260 };

/* How blocks of a type are taken apart. block: bytes; type DT_COUNT: bytes without meaning. */
struct fields {
    size_t block, n;                   /* n streams                                            */
    bool rotated;                      /* numbers are rotated left by a bit: exponents become a byte */
    bool joined;                       /* codes of several planes become a byte each           */
    uint16_t each[FIELDS_MOST];        /* bytes of a block in stream i                         */
    uint16_t from[FIELDS_MOST];        /* where they stand in the block, unless joined         */
    struct dtype_info info;
};

void fields_of(enum dtype type, struct fields *f);
/* blocks: n of f->block bytes each; out: the streams one after the other, stream i has n * each[i] bytes. */
void fields_split(const struct fields *f, const uint8_t *blocks, size_t n, uint8_t *out);
void fields_join(const struct fields *f, const uint8_t *streams, size_t n, uint8_t *blocks);
/* Bytes of all streams of n blocks; more than the blocks' where codes become bytes. */
size_t fields_bytes(const struct fields *f, size_t n);
#endif
