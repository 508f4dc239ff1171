/* Codes with error feedback: rows of a weight become blocks of a type so that the answers of the linear layer
 * change least on what it was seen to read, not the weights. GPTQ (arXiv 2210.17323), a block of the published format
 * at a time in the order of falling importance: each block's scales are chosen when its turn comes, by what it then
 * costs; after that codes and scales move where that lowers the error of the whole row. */
#ifndef COMPRESS_FEEDBACK_H
#define COMPRESS_FEEDBACK_H
#include "compress/rtn.h"
#include "compress/stats.h"
#include "compress/workers.h"
#include "tensor/dtype.h"

/* How codes are chosen. */
enum encode_method {
    ENCODE_PLAIN,    /* the published rounding of the type                                          */
    ENCODE_SEARCH,   /* scales searched, weighted by the importance of inputs (tensor/encode.h)     */
    ENCODE_FEEDBACK, /* the whole of it                                                             */
    ENCODE_RTN       /* rtn.h where the type is rtn_type(bits), and plain otherwise                 */
};

struct feedback_options {
    enum encode_method method;
    double damp;         /* of the mean of the metric's diagonal, added to it; 0: the default        */
    double shrink;       /* of the metric towards its diagonal and few strongest directions; 0: as tokens are
                            few, below 0: not at all                                                 */
    unsigned refits;     /* further rounds of choosing the scales of a block                         */
    unsigned sweeps;     /* of moving codes and scales once all blocks are written                   */
    unsigned bits;       /* of ENCODE_RTN                                                            */
    enum rtn_share share;
};
void feedback_defaults(struct feedback_options *o);

/* What is prepared once for all layers that read one value. */
struct metric;
/* s is borrowed until metric_close. NULL, or without gram: what the method can do without. o NULL: the defaults.
 * Damping rises until the factor exists. E_FORMAT where the statistics are no finite numbers. */
stretto_status metric_open(struct metric **out, struct workers *w, const struct input_stats *s, uint32_t n_in,
                           const struct feedback_options *o, struct error *err);
void metric_close(struct metric *m);

/* Sums over the rows of e H e^T, e the error of a row and H the mean of x x^T as it was measured: the mean square
 * by which answers change; and of w H w^T, to divide by. Without a gram H is diagonal, without statistics the
 * identity. */
struct encode_report { double plain, searched, kept, whole; };

/* weight [rows][n_in], n_in a multiple of the block; blocks: rows * dtype_bytes(t, n_in). The same bits whatever
 * the number of threads. E_FORMAT and a sentence with the row where a weight is no finite number. `report` may be
 * NULL; of a large weight it is made from some rows. Types of one shape of block share a factor: write all layers of
 * one type before those of the next. */
stretto_status feedback_encode(struct workers *w, struct metric *m, enum dtype t, const float *weight, size_t rows,
                               void *blocks, struct encode_report *report, struct error *err);
#endif
