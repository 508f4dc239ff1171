/* What the readers of this room (gguf.c, hf.c) fill and source.c answers from.
 *
 * Metadata of every format is kept as GGUF values: a type number and little-endian bytes, either
 * in the mapped file or in the pool. So getters, `info` and `convert` know one representation. */
#ifndef FORMAT_SOURCE_INT_H
#define FORMAT_SOURCE_INT_H
#include "base/file.h"
#include "format/pack.h"
#include "format/source.h"

/* Value types by their GGUF numbers. */
enum value_type {
    V_U8,
    V_I8,
    V_U16,
    V_I16,
    V_U32,
    V_I32,
    V_F32,
    V_BOOL,
    V_STRING,
    V_ARRAY,
    V_U64,
    V_I64,
    V_F64,
    V_COUNT
};

/* Limits on everything counted. Generous against real files (the largest vocabularies have 10^6
 * entries, the deepest models some 10^4 tensors), small against memory. */
enum {
    MAX_KEYS = 1 << 16,
    MAX_KEY_LENGTH = 1024,
    MAX_ARRAY_DEPTH = 4,
    MAX_TENSORS = 1 << 17,
    MAX_NAME_LENGTH = 255,
    MAX_PARTS = 1024,
    MAX_VOCABULARY = 1 << 24 /* elements of a string array, all arrays of a file together */
};

struct meta {
    const char *name;                   /* first: see names.h */
    enum value_type type, element;      /* element: of arrays */
    const unsigned char *raw;           /* the scalar, the characters, or the first element */
    size_t raw_bytes;                   /* of the value without an array's or string's header */
    size_t n;                           /* elements of an array, characters of a string, else 1 */
    const uint32_t *at; /* arrays of strings: where element i's length stands in raw */
};

/* Memory that lives as long as the source: names, small values, indexes. */
struct chunk;
struct pool { struct chunk *first; };
void *pool_take(struct pool *p, size_t bytes); /* 16-byte aligned, zeroed; NULL when out */
char *pool_strndup(struct pool *p, const char *s, size_t n);
void pool_done(struct pool *p);

struct folder_file { const char *name; struct file_map map; };

struct source {
    char *path;
    const char *format;
    char arch[64];
    bool rope_halves, norm_plus_one;
    bool window_usual;                  /* models of the family have windows, and all programs know it */
    size_t n_other_side;                /* tensors that were left out as those of a side that sees */
    const char *pooling_refusal;        /* what a folder asks for and nobody does; NULL: nothing */
    struct file_map *maps;              /* weight files */
    size_t n_maps;
    struct folder_file *files;          /* the small files of a Hugging Face folder */
    size_t n_files;
    struct source_tensor *tensors;
    size_t n_tensors, cap_tensors;
    struct source_tensor *stored; /* fused tensors as they lie in the file, where slices of them */
    size_t n_stored, cap_stored;        /* stand in `tensors` instead */
    struct meta *keys;
    size_t n_keys, cap_keys;
    uint32_t *tensor_order, *key_order; /* indexes sorted by name */
    struct pack_image image;            /* of a packed file: what it was, decoded; tensors lie in it */
    struct source_tensor *plain;        /* of tensors that were extended: as the file has them */
    size_t n_plain;
    bool spent;                         /* weights in the image were given back to the system */
    struct pool pool;
};

/* The reader of one format; on failure source_open closes `s`. */
stretto_status gguf_read(struct source *s, struct error *err);
stretto_status hf_read(struct source *s, struct error *err);

/* Grow by one; NULL when memory is out (already recorded in err). */
struct source_tensor *source_add_tensor(struct source *s, struct error *err);
struct meta *source_add_key(struct source *s, struct error *err);

/* Sorts the indexes; a name that stands twice is E_FORMAT. Keys must be indexed before they can be
 * got. */
stretto_status source_index_keys(struct source *s, struct error *err);
stretto_status source_index_tensors(struct source *s, struct error *err);

const struct meta *source_meta(const struct source *s, const char *key);
stretto_status source_no_memory(const struct source *s, struct error *err);

/* Replaces fused tensors by slices, from the metadata. Before the tensor
 * index. */
stretto_status source_unfuse(struct source *s, struct error *err);

/* Fills t->bytes from type and dims; E_FORMAT when a dimension is zero, a product overflows or a
 * row is not whole blocks. `where` names the file in the message. */
stretto_status tensor_measure(struct source_tensor *t, const char *where, struct error *err);
#endif
