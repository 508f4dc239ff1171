/* Writes any model this program opens as a GGUF file of one element type, row by row with bounded
 * memory: numbers are rounded to the nearest, blocks have the scales that a search finds
 * (tensor/encode.h), and what rounding lost is told by type. What comes out of a Hugging Face folder
 * is what llama.cpp expects of the family: rows of llama's q and k in pairs, Gemma's norms plus one,
 * q|k|v and gate|up fused where its files have them fused. */
#ifndef FORMAT_CONVERT_H
#define FORMAT_CONVERT_H
#include "base/log.h"
#include "base/progress.h"
#include "base/status.h"
#include "tensor/dtype.h"
#include <signal.h>
#include <stdbool.h>

struct source;
struct gguf_writer;

struct convert_options {
    enum dtype type;
    bool force;                 /* replace an existing file                                       */
    /* Writes the tokenizer of a Hugging Face folder as metadata (text/tokenizer_gguf.h); rooms
     * below this one know tokenizers, so the caller brings it. NULL: without a tokenizer. */
    stretto_status (*tokenizer)(const struct source *src, struct gguf_writer *w, struct error *err);
    const char *const *notes;   /* pairs of a key and a text that the file gets too, NULL behind the last; NULL: none */
    /* Calls fn(ud, i) for every i below n, in any order, on as many threads as it likes; NULL: here. The file is
     * the same whoever does it. */
    void (*each)(void *threads, size_t n, void (*fn)(void *ud, size_t i), void *ud);
    void *threads;
    struct progress progress;
    struct log log;
    const volatile sig_atomic_t *cancel;        /* may be NULL; not 0: stop and leave nothing     */
};

/* Vectors stay float32, as do position and type embeddings; where rows do not fit the blocks, a
 * tensor gets the type that the row names instead, in the end f16, which is said aloud. A value
 * that is not finite, or that the type cannot hold, is an error. */
stretto_status convert(const char *in, const char *out, const struct convert_options *o,
                       struct error *err);
#endif
