/* Writes a GGUF v3 file front to back with bounded memory: metadata first, then the list of
 * tensors, then their bytes in the same order. The file is called PATH.part until it is whole; then
 * it takes its name in one step. Whatever goes wrong before, nothing is left behind. */
#ifndef FORMAT_GGUF_WRITE_H
#define FORMAT_GGUF_WRITE_H
#include "base/status.h"
#include "tensor/dtype.h"
#include <stdbool.h>
#include <stddef.h>

struct gguf_writer;

/* `force` allows an existing PATH to be replaced, at the very end. */
stretto_status gguf_writer_open(struct gguf_writer **out, const char *path, bool force,
                                struct error *err);
/* Without finish before: the unfinished file is removed. NULL is fine. */
void gguf_writer_close(struct gguf_writer *w);

/* Metadata. Failures are kept and reported by gguf_begin_data, so that a list of keys reads as one.
 */
void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v);
void gguf_put_f32(struct gguf_writer *w, const char *key, float v);
void gguf_put_bool(struct gguf_writer *w, const char *key, bool v);
void gguf_put_string(struct gguf_writer *w, const char *key, const char *p, size_t n);
/* Arrays of 32-bit numbers. */
void gguf_put_i32s(struct gguf_writer *w, const char *key, const int32_t *v, size_t n);
void gguf_put_f32s(struct gguf_writer *w, const char *key, const float *v, size_t n);
/* An array of exactly n strings: then n times gguf_put_item. */
void gguf_put_strings(struct gguf_writer *w, const char *key, size_t n);
void gguf_put_item(struct gguf_writer *w, const char *p, size_t n);
/* A value as it stands in another file: type numbers of GGUF, bytes without an array's header. */
void gguf_put_value(struct gguf_writer *w, const char *key, uint32_t type, uint32_t element,
                    size_t n, const void *raw, size_t bytes);

/* Announces a tensor; dims[0] is the contiguous one. */
stretto_status gguf_put_tensor(struct gguf_writer *w, const char *name, enum dtype type,
                               uint32_t n_dims, const uint64_t *dims, struct error *err);
/* Bytes of the whole file, once all tensors are announced. */
uint64_t gguf_file_bytes(const struct gguf_writer *w);
/* Writes the header and reserves the disk space of the whole file. */
stretto_status gguf_begin_data(struct gguf_writer *w, struct error *err);
/* The next bytes of the tensors, in the order announced; a tensor must be full before the next
 * begins. */
stretto_status gguf_write(struct gguf_writer *w, const void *p, size_t n, struct error *err);
/* All bytes must have been written. Flushes to disk and gives the file its name. */
stretto_status gguf_finish(struct gguf_writer *w, struct error *err);
#endif
