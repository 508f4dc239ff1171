/* GGUF files coded without loss for disk and download. The tensors' bytes are taken apart into fields (the bytes of
 * scales by their place in a block, codes, exponents, the rest) and each field is coded by how often each value occurs
 * in some 1 MiB of a tensor (rans.h). Fields that this does not make smaller stay as they are.
 *
 * A packed file is a GGUF file without tensors whose architecture is "stretto-packed", so that other readers refuse it
 * by that name; behind its keys lies what docs/gguf-keys.md describes. source_open opens it as the file it was made
 * of: all of it is decoded into memory then, by several threads, every piece held against its checksum. */
#ifndef FORMAT_PACK_H
#define FORMAT_PACK_H
#include "base/file.h"
#include "base/progress.h"
#include "base/status.h"

struct pack_options {
    bool force;                            /* replace OUT */
    struct progress progress;
    const volatile int *cancel;            /* may be NULL */
};
struct pack_report { uint64_t bytes, packed; double seconds; };

/* in: one GGUF file that is whole. out appears when it is whole. */
stretto_status pack_file(const char *in, const char *out, const struct pack_options *o, struct pack_report *report,
                         struct error *err);
/* The file that was packed, bit for bit. */
stretto_status unpack_file(const char *in, const char *out, const struct pack_options *o,
                           struct pack_report *report, struct error *err);

/* For the reader of GGUF: what was packed, in memory that mem_unmap gives back. */
struct pack_image { unsigned char *data; size_t bytes; };
bool pack_is(const struct file_map *file);
stretto_status pack_decode(const struct file_map *file, const char *path, struct pack_image *out, struct error *err);
#endif
