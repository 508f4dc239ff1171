/* The header of a safetensors file; the tensors' bytes follow it in the order of the list. */
#ifndef FORMAT_SAFETENSORS_WRITE_H
#define FORMAT_SAFETENSORS_WRITE_H
#include "base/buffer.h"
#include "format/safetensors.h"

/* Appends the length and the header, with spaces up to a multiple of eight. Of each tensor name, dtype, shape
 * and bytes are read. about: NULL, or pairs of a key and a value, NULL behind the last: "__metadata__". E_NOMEM, or
 * E_FULL where the buffer's most is passed. */
stretto_status safetensors_header(struct buffer *out, const struct st_tensor *list, size_t n,
                                  const char *const *about);
#endif
