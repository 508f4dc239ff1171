/* Zeros in place of weights: which of them, and what the others become. A dense file gains nothing by zeros, neither
 * bytes nor speed (docs/squeeze.md): these are the published methods to compare with, and the first step of
 * Deep Compression (arXiv 1510.00149).
 *
 * magnitude  the smallest |w| of the whole weight
 * wanda      the smallest |w_ij| * norm of input j, of each row (arXiv 2306.11695)
 * sparsegpt  the smallest w_ij^2 / U_jj^2 of 128 columns at a time, U^T U the inverse of the inputs' second moments;
 *            what a zero changes is made up for by the columns behind it (arXiv 2301.00774) */
#ifndef COMPRESS_PRUNE_H
#define COMPRESS_PRUNE_H
#include "compress/stats.h"
#include "compress/workers.h"
#include <stdbool.h>

enum prune_score { PRUNE_MAGNITUDE, PRUNE_WANDA, PRUNE_SPARSEGPT };

struct prune_options {
    enum prune_score score;
    double sparsity;        /* share of zeros, 0 <= s < 1; of whole tiles where there are any; not of a pattern */
    unsigned keep, of;      /* of each `of` neighbours in a row `keep` stay, as 2 of 4; of 0: no pattern       */
    unsigned tile_rows, tile_columns; /* zeros come as tiles of this size; 0: as single weights                */
    double damp;            /* of the mean of the moments' diagonal, added to it; 0: 0.01                      */
    double shrink;          /* of the moments towards what is known better (gram.h); 0: as tokens are few or many,
                               below 0: not                                                                    */
};
void prune_defaults(struct prune_options *o);

/* What is prepared once for all layers that read one value. */
struct prune;
/* s: needed by wanda and, with its gram, by sparsegpt. E_ARG with a sentence where the options do not fit n_in. */
stretto_status prune_open(struct prune **out, struct workers *w, const struct input_stats *s, uint32_t n_in,
                          const struct prune_options *o, struct error *err);
void prune_close(struct prune *p);

struct prune_report { uint64_t zeros, weights; };
/* weight [rows][n_in] in place. The same bits whatever the number of threads. E_FORMAT with the row where a weight
 * is no finite number. */
stretto_status prune_rows(const struct prune *p, float *weight, size_t rows, struct prune_report *report,
                          struct error *err);

/* "0.5", "50%": a share below 1; "2:4": keep of `of`; false: neither. */
bool prune_share(const char *text, double *share);
bool prune_pattern(const char *text, unsigned *keep, unsigned *of);
/* false: no such score. */
bool prune_score_find(const char *name, enum prune_score *out);
#endif
