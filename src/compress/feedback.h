/* Codes with error feedback: rows of a weight become blocks of a type so that the answers of the linear layer
 * change least on what it was seen to read, not the weights. GPTQ (arXiv 2210.17323) on the fixed scales of the
 * published formats, in the order of falling importance; then scales are refitted under the same metric, and codes
 * move one step where that helps. */
#ifndef COMPRESS_FEEDBACK_H
#define COMPRESS_FEEDBACK_H
#include "compress/stats.h"
#include "compress/workers.h"
#include "tensor/dtype.h"

/* How codes are chosen. */
enum encode_method {
    ENCODE_PLAIN,    /* the published rounding of the type                                          */
    ENCODE_SEARCH,   /* scales searched, weighted by the importance of inputs (tensor/encode.h)     */
    ENCODE_FEEDBACK  /* the whole of it                                                             */
};

struct feedback_options {
    enum encode_method method;
    double damp;         /* of the mean of the metric's diagonal, added to it; 0: the default        */
    unsigned refits;     /* rounds of scale refit; sweeps: of moving codes; as they were measured best */
    unsigned sweeps;
};
void feedback_defaults(struct feedback_options *o);

/* What is prepared once for all layers that read one value. */
struct metric;
/* s NULL, or without gram: what the method can do without. Damping rises until the factor exists. */
stretto_status metric_open(struct metric **out, struct workers *w, const struct input_stats *s, uint32_t n_in,
                           const struct feedback_options *o, struct error *err);
void metric_close(struct metric *m);

/* Sums over the rows of e H e^T, e the error of a row and H the mean of x x^T: the mean square by which answers
 * change; and of w H w^T, to divide by. Without a gram H is diagonal, without statistics the identity. */
struct encode_report { double plain, searched, kept, whole; };

/* weight [rows][n_in], n_in a multiple of the block; blocks: rows * dtype_bytes(t, n_in). The same bits whatever
 * the number of threads. E_FORMAT and a sentence with the row where a weight is no finite number. `report` may be
 * NULL. */
stretto_status feedback_encode(struct workers *w, const struct metric *m, enum dtype t, const float *weight,
                               size_t rows, void *blocks, struct encode_report *report, struct error *err);
#endif
