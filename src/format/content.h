/* What tells one thing from another by what is in it: 32 digits of BLAKE2b. */
#ifndef FORMAT_CONTENT_H
#define FORMAT_CONTENT_H
#include "format/source.h"

enum { CONTENT_DIGITS = 33 };

void content_of(const void *bytes, size_t n, char out[CONTENT_DIGITS]);
/* Of a model: names, shapes and bytes of all its tensors, without what extend.h added. All of it is read. */
void source_content(const struct source *s, char out[CONTENT_DIGITS]);
#endif
