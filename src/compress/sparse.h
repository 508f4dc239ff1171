/* A pass that puts zeros in place of weights (prune.h) and lets those that stay share values (codebook.h), layer
 * by layer, each with the statistics of what it reads behind layers that are pruned already. Embedding, head,
 * norms and biases stay. */
#ifndef COMPRESS_SPARSE_H
#define COMPRESS_SPARSE_H
#include "compress/calibrate.h"
#include "compress/prune.h"

struct sparse_options {
    struct prune_options prune;
    unsigned share;         /* then: so many values shared by a weight (codebook.h); 0: no         */
    struct calibrate_options calibrate;     /* `gram` is set here                                  */
    bool force;                             /* replace an existing file                            */
};

/* m: of a GGUF file, opened with graph_only or whole. Weights keep their type; those in blocks of codes, which have
 * no place for so many zeros, become float16. `report` may be NULL. */
stretto_status sparse_write(const struct model *m, const char *path, const struct sparse_options *o,
                            struct prune_report *report, struct error *err);
#endif
