/* The global half of suffix decoding: finished answers of every session of an engine, in a ring: when
 * it is full the oldest tokens go. */
#ifndef DECODE_SUFFIX_H
#define DECODE_SUFFIX_H
#include "decode/ngram.h"
#include <stddef.h>

enum { SUFFIX_STORE_TOKENS = 1 << 18 };

struct suffix_store { struct ngram_index index; };

void suffix_store_plan(struct suffix_store *s, struct arena *a, uint32_t tokens);
/* Adds one text. */
void suffix_store_add(struct suffix_store *s, const int32_t *tokens, size_t n);
#endif
