/* An opened model file, whatever its format: named metadata and named tensors over mapped bytes.
 *
 * The names and shapes are those of GGUF ("blk.0.attn_q.weight", "llama.block_count"), so
 * everything below this room knows one vocabulary; a Hugging Face folder is translated here,
 * without conversion of its bytes. Bytes we do not trust end in this room: every offset, count and
 * product has been checked when source_open returns. Lifetime: file. Immutable after open, may be
 * shared by threads. */
#ifndef FORMAT_SOURCE_H
#define FORMAT_SOURCE_H
#include "base/status.h"
#include "tensor/dtype.h"
#include <stdbool.h>

struct source;                       /* opaque */

enum { SOURCE_MAX_DIMS = 4 };

struct source_tensor {
    const char *name;
    enum dtype type;
    uint32_t n_dims;
    uint64_t dims[SOURCE_MAX_DIMS];  /* dims[0] is the contiguous one (GGUF order): a linear layer's
                                        weight is { in, out }; unused ones are 1 */
    const void *data; /* in the mapped file, at any alignment: read it through dtype_table */
    size_t bytes;
    /* Hugging Face checkpoints of llama keep q/k in half-split order and GGUF in interleaved pairs:
     * rows are NOT permuted here; `source_rope_halves` tells the builder instead. GPT-2's Conv1D
     * weights are stored { out, in } in Hugging Face files: */
    bool transposed; /* data is [in][out], out contiguous; dims are still { in, out } */
    /* A slice of a fused tensor (phi-3 qkv, GPT-2 c_attn) is simply another tensor whose data
     * points inside the fused one when rows are contiguous; `stride` is the distance in elements
     * between rows of the stored matrix, 0 when contiguous. */
    size_t stride;
    bool memory;     /* of the source's own, no mapped file's: its pages are never given back */
};

/* path: a .gguf file (split files: the first of them), or a folder with config.json and
 * safetensors, or a folder with tokenizer.json alone (vocabulary only, no tensors). */
stretto_status source_open(struct source **out, const char *path, struct error *err);
void source_close(struct source *s);

const char *source_path(const struct source *s);
const char *source_format(const struct source *s); /* "GGUF v3", "safetensors" ... for people  */
/* Architecture name of GGUF: "llama", "qwen2", "gemma3", "bert" ...; "" when it names none. */
const char *source_arch(const struct source *s);
/* True when q/k weights are stored for rotation by halves (Hugging Face llama) although the
 * family's GGUF files store them for adjacent pairs. */
bool source_rope_halves(const struct source *s);
/* How many tensors were left out because they belong to the side that sees, of a model whose text side is
 * used. */
size_t source_other_side(const struct source *s);
/* True when RMS norms are stored as w although their output is scaled by w + 1 (Gemma in Hugging
 * Face folders; its GGUF files store w + 1). */
bool source_norm_plus_one(const struct source *s);

/* Whether t is `whole`, or a slice of it. */
bool source_within(const struct source_tensor *t, const struct source_tensor *whole);

size_t source_tensor_count(const struct source *s);
const struct source_tensor *source_tensor_at(const struct source *s, size_t i);
uint64_t source_elements(const struct source_tensor *t);
/* The type that most of its elements have; F32 where there are none. */
enum dtype source_main_type(const struct source *s);
const struct source_tensor *source_tensor_find(const struct source *s,
                                               const char *name); /* or NULL */

/* The tensors as they lie in the file, fused ones whole, in the place of their first slice: [*n + spare], to be
 * freed with mem_free. */
stretto_status source_stored(const struct source *s, size_t spare, struct source_tensor **list, size_t *n,
                             struct error *err);

/* Metadata. Keys beginning with "." are prefixed by the architecture (".block_count" ->
 * "llama.block_count"). Getters convert between number kinds when the value is exact; false when
 * the key is absent or has another kind. Strings are not NUL-terminated in files: {p, n} views. */
struct source_str { const char *p; size_t n; };
bool source_has(const struct source *s, const char *key);
bool source_u64(const struct source *s, const char *key, uint64_t *out);
bool source_f64(const struct source *s, const char *key, double *out);
bool source_bool(const struct source *s, const char *key, bool *out);
bool source_string(const struct source *s, const char *key, struct source_str *out);

/* Arrays: `count` elements of one kind. Element getters are O(1). */
enum source_kind {
    SOURCE_NONE,
    SOURCE_U64,
    SOURCE_I64,
    SOURCE_F64,
    SOURCE_BOOL,
    SOURCE_STRING,
    SOURCE_ARRAY
};
bool source_array(const struct source *s, const char *key, enum source_kind *kind, size_t *count);
bool source_array_string(const struct source *s, const char *key, size_t i, struct source_str *out);
bool source_array_i64(const struct source *s, const char *key, size_t i, int64_t *out);
bool source_array_f64(const struct source *s, const char *key, size_t i, double *out);

/* The number, or the one that every element of an array is: some files say one for each layer. */
bool source_each_u64(const struct source *s, const char *key, uint64_t *out);

/* Iterate all metadata for `info` and `convert`. */
size_t source_key_count(const struct source *s);
const char *source_key_at(const struct source *s, size_t i, enum source_kind *kind);

/* A packed file is decoded into memory of its own, and a page of it that is given back is gone. Whoever gives weights
 * back says so; from then on source_tensor_whole refuses, and tells to open the file again. */
bool source_decoded(const struct source *s);
/* Of the files with its weights, unpacked. */
uint64_t source_bytes(const struct source *s);
/* Pages of the mapped file that t, one of its tensors, was read from go back to the system; what has memory of its own
 * keeps it. */
void source_release(const struct source *s, const struct source_tensor *t);
void source_spend(struct source *s);
stretto_status source_tensor_whole(const struct source *s, struct error *err);

/* For Hugging Face folders: text of a file of the folder ("tokenizer.json",
 * "chat_template.jinja"), a view of mapped bytes; false when there is none (always for GGUF). */
bool source_file(const struct source *s, const char *name, struct source_str *out);
#endif
