/* Writes a GGUF v3 file with bounded memory: metadata first, then the list of tensors, then their bytes, in the
 * same order or, as every tensor has its place by then, in any. The file is called PATH.part until it is whole;
 * then it takes its name in one step. Whatever goes wrong before, nothing is left behind, unless who writes
 * wants to go on later. */
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
/* The same for who goes on with what was interrupted: what an earlier writer left under PATH.part is there until
 * gguf_begin_data, and gguf_resume_data may find that it fits. */
stretto_status gguf_writer_reopen(struct gguf_writer **out, const char *path, bool force,
                                  struct error *err);
/* Without finish before: the unfinished file is removed, but for what a reopened writer has not begun to change.
 * NULL is fine. */
void gguf_writer_close(struct gguf_writer *w);
/* The same, and the unfinished file stays. */
void gguf_writer_leave(struct gguf_writer *w);
const char *gguf_part_path(const struct gguf_writer *w);

/* Metadata. Failures are kept and reported by gguf_begin_data, so that a list of keys reads as one.
 */
void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v);
void gguf_put_f32(struct gguf_writer *w, const char *key, float v);
void gguf_put_bool(struct gguf_writer *w, const char *key, bool v);
void gguf_put_string(struct gguf_writer *w, const char *key, const char *p, size_t n);
/* Arrays of 32-bit numbers. */
void gguf_put_u32s(struct gguf_writer *w, const char *key, const uint32_t *v, size_t n);
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
/* Writes the header and reserves the disk space of the whole file. Places are known from here on. */
stretto_status gguf_begin_data(struct gguf_writer *w, struct error *err);
/* Instead, for a reopened writer: *same tells whether PATH.part has all its bytes and begins with the header that
 * gguf_begin_data would write; then it is gone on with. Otherwise nothing has happened. */
stretto_status gguf_resume_data(struct gguf_writer *w, bool *same, struct error *err);
/* Where the bytes of the tensor announced as number i (from 0) begin in the file, and how many there are. */
uint64_t gguf_place(const struct gguf_writer *w, size_t i, uint64_t *bytes);
/* The next bytes of the tensors, in the order announced; a tensor must be full before the next
 * begins. */
stretto_status gguf_write(struct gguf_writer *w, const void *p, size_t n, struct error *err);
/* All bytes of tensor i, at once; not beside gguf_write. */
stretto_status gguf_write_tensor(struct gguf_writer *w, size_t i, const void *p, size_t n, struct error *err);
/* Tensor i is in a resumed file already. */
void gguf_written(struct gguf_writer *w, size_t i);
/* What was written is on the disk. */
stretto_status gguf_sync(struct gguf_writer *w, struct error *err);
/* All bytes must have been written. Flushes to disk and gives the file its name. */
stretto_status gguf_finish(struct gguf_writer *w, struct error *err);

/* Changes a string in a finished file of one part, in its place: shorter values are filled up with spaces,
 * longer ones cut after a whole character. */
stretto_status gguf_set_string(const char *path, const char *key, const char *p, size_t n, struct error *err);

/* Metadata of an opened file that another file keeps: all but what describes the old file itself (its type, its
 * parts). `without` may leave out more. */
struct source;
void gguf_put_kept(struct gguf_writer *w, const struct source *s, bool (*without)(void *ud, const char *key),
                   void *ud);
#endif
