/* One pass from a model to a new GGUF file: its tensors under the same names, each as it was or changed, written
 * in any order; its metadata with changes. All of squeezing is such passes: one that makes the model smaller in
 * shape, one that folds scales, one that writes codes.
 *
 * The file is called OUT.part until it is whole. A pass that is interrupted leaves OUT.part and OUT.state; the
 * same pass asked for again goes on behind the last tensor that was written whole. Anything else that goes wrong
 * leaves nothing. */
#ifndef COMPRESS_REWRITE_H
#define COMPRESS_REWRITE_H
#include "base/log.h"
#include "graph/binding.h"
#include "model/model.h"
#include <stdbool.h>

/* A tensor on its way. Until rewrite_begin, type, dims and drop may be changed: dims[0] inputs, dims[1] outputs. */
struct rewrite_tensor {
    const struct source_tensor *from;   /* in the source                                                 */
    const char *name;
    const char *param;                  /* what a graph calls it: of a fused one its first slice's name */
    enum dtype type;                    /* from->type at first                                       */
    uint32_t n_dims;
    uint64_t dims[SOURCE_MAX_DIMS];
    bool drop;
    bool done;                          /* written: by this call or the one that was interrupted     */
};

struct rewrite;

struct rewrite_options {
    const char *recipe;     /* what the pass does, as text: an interrupted one is resumed only by the same      */
    bool force;             /* replace an existing OUT                                               */
    size_t unlisted;        /* bytes that may be written before the journal lists them; 0: 64 MB     */
    struct log log;
};

/* m is of a GGUF file, opened with graph_only or whole; a folder is converted first (format/convert.h). Every tensor
 * of the file is listed, also those that the graph does not name; fused ones whole. */
stretto_status rewrite_open(struct rewrite **out, const struct model *m, const char *path,
                            const struct rewrite_options *o, struct error *err);
/* Without finish: an interrupted pass is kept when `keep`, and removed otherwise. What an earlier one left is only
 * touched by rewrite_begin. NULL is fine. */
void rewrite_close(struct rewrite *r, bool keep);

size_t rewrite_count(const struct rewrite *r);
struct rewrite_tensor *rewrite_at(struct rewrite *r, size_t i);
/* By name, or by that of a slice of a fused one. NULL: there is none. */
struct rewrite_tensor *rewrite_find(struct rewrite *r, const char *name);
/* Metadata: replaces the source's key, or adds one. Keys beginning with "." belong to the architecture. NULL
 * value: the key is left out. */
void rewrite_put_u32(struct rewrite *r, const char *key, uint32_t v);
void rewrite_put_bool(struct rewrite *r, const char *key, bool v);
void rewrite_put_f32(struct rewrite *r, const char *key, float v);
void rewrite_put_string(struct rewrite *r, const char *key, const char *v);
void rewrite_put_u32s(struct rewrite *r, const char *key, const uint32_t *v, size_t n);
/* A string that is set once more, when figures are known: room bytes are kept for it in the header. */
void rewrite_reserve_string(struct rewrite *r, const char *key, size_t room);

/* Header and places; the list and the metadata are final from here on. */
stretto_status rewrite_begin(struct rewrite *r, struct error *err);
uint64_t rewrite_file_bytes(const struct rewrite *r);
/* The source's numbers of a tensor as float32, [outputs][inputs], in the caller's memory. E_FORMAT with its name
 * where one is not finite. */
stretto_status rewrite_read(const struct rewrite *r, const char *name, float *out, struct error *err);
/* Rows [first, first + n) of it alone. */
stretto_status rewrite_read_rows(const struct rewrite *r, const char *name, uint64_t first, size_t n, float *out,
                                 struct error *err);
/* A tensor's bytes, whole. */
stretto_status rewrite_write(struct rewrite *r, const char *name, const void *bytes, size_t n, struct error *err);
/* The source's bytes as they are. */
stretto_status rewrite_copy(struct rewrite *r, const char *name, struct error *err);
/* Weights as they now are: those that were written from the new file, the others from the source. Lives as long
 * as the pass; shapes must be the source's. */
struct binding rewrite_binding(struct rewrite *r);
stretto_status rewrite_finish(struct rewrite *r, struct error *err);
/* After finish: the string that rewrite_reserve_string made room for, cut where the room ends. */
stretto_status rewrite_set_string(const char *path, const char *key, const char *value, struct error *err);
#endif
