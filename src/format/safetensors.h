/* The tensors of one safetensors file, for readers that know what they are called: model folders
 * (hf.c), heads (engine/companion.h). */
#ifndef FORMAT_SAFETENSORS_H
#define FORMAT_SAFETENSORS_H
#include "base/file.h"
#include "format/source.h"

/* One tensor of a safetensors header. Names and kinds are views; shape in file order, outermost
 * first. */
struct st_tensor {
    const char *name;
    size_t name_n;
    char dtype[16];
    uint64_t shape[SOURCE_MAX_DIMS];
    size_t n_dims;                      /* may exceed SOURCE_MAX_DIMS: then shape is cut off */
    const unsigned char *data;
    size_t bytes;
};

/* Calls `each` for every tensor of a mapped file; its first failure ends the walk. `path` is for
 * words. */
typedef stretto_status st_visit(void *ctx, const struct st_tensor *t, struct error *err);
stretto_status safetensors_read(const struct file_map *m, const char *path, st_visit *each,
                                void *ctx, struct error *err);
/* A text of "__metadata__", in memory of the caller's (mem_free). E_FORMAT where there is no such text. */
stretto_status safetensors_about(const struct file_map *m, const char *path, const char *key, char **out,
                                 struct error *err);
#endif
