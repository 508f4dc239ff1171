/* Statistics of linear layers' inputs as files: llama.cpp's imatrix in GGUF, which its tools read and write, and
 * whatever else struct input_stats has, in tensors of our own beside it that they ignore.
 *
 *   general.type                "imatrix"
 *   imatrix.datasets            names of the texts; imatrix.chunk_count, imatrix.chunk_size: windows, tokens of one
 *   WEIGHT.in_sum2 [n, m]       sums of squares, float32; m matrices of experts, here 1
 *   WEIGHT.counts [1, m]        rows that they are sums of
 *   WEIGHT.in_rest [n, 3]       ours: what float32 loses of in_sum2; sums of x, and what it loses of those
 *   WEIGHT.in_most [n]          largest |x|
 *   WEIGHT.in_gram [n, n]       sums of x x^T
 *   stretto.stats.same          pairs of weights: the first's input is the second's, which alone has in_gram
 *
 * What is read back is what was written, bit for bit. */
#ifndef COMPRESS_IMATRIX_H
#define COMPRESS_IMATRIX_H
#include "compress/calibrate.h"
#include "compress/stats.h"
#include <stdbool.h>

struct imatrix_about {
    const char *const *datasets;   /* names, for people */
    size_t n_datasets;
    uint32_t windows, window;      /* how many, and tokens of one */
};

/* ---- writing -------------------------------------------------------------------------------- */

struct imatrix_writer;

struct imatrix_write_options {
    struct imatrix_about about;
    bool gram;                     /* 4 bytes for each pair of channels of each input */
    bool force;                    /* replace an existing file */
};

/* For all linear layers of the model's graph. The file appears when it is finished; gguf_write.h. */
stretto_status imatrix_writer_open(struct imatrix_writer **out, const char *path, const struct model *m,
                                   const struct imatrix_write_options *o, struct error *err);
/* Bytes of the whole file. */
uint64_t imatrix_writer_bytes(const struct imatrix_writer *w);
/* Statistics of a weight; NULL or of no rows: there are none, which llama.cpp takes for equal importance. */
stretto_status imatrix_write(struct imatrix_writer *w, const char *param, const struct input_stats *s,
                             struct error *err);
/* All that the walk has of the piece it saw last. */
stretto_status imatrix_write_piece(struct imatrix_writer *w, const struct calibration *c, struct error *err);
/* Weights that were not written count as having no statistics. */
stretto_status imatrix_finish(struct imatrix_writer *w, struct error *err);
/* Without finish nothing is left behind. NULL is fine. */
void imatrix_writer_close(struct imatrix_writer *w);

/* ---- reading -------------------------------------------------------------------------------- */

struct imatrix;

/* A file of ours or of llama.cpp's. E_FORMAT with a sentence where it is neither, or holds what cannot be sums of
 * squares. Experts are added up. */
stretto_status imatrix_open(struct imatrix **out, const char *path, struct error *err);
void imatrix_close(struct imatrix *x);         /* NULL is fine */
struct imatrix_about imatrix_about(const struct imatrix *x);
size_t imatrix_count(const struct imatrix *x);
const char *imatrix_name(const struct imatrix *x, size_t i);
/* As long as the file is open. What the file does not have is NULL: sum, most, gram. gram is mapped: read only. */
const struct input_stats *imatrix_stats(const struct imatrix *x, size_t i);
const struct input_stats *imatrix_find(const struct imatrix *x, const char *param);      /* NULL: it has none */
/* The pages of a gram are given back; they come again when they are read. */
void imatrix_release(const struct input_stats *s);
/* Every weight that both have must have as many inputs; E_FORMAT with the name, and where there is none at all. */
stretto_status imatrix_check(const struct imatrix *x, const struct model *m, struct error *err);
#endif
