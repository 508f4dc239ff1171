/* An adapter becomes part of its model: W + scale * B A for each weight that it changes, in a new file. The others are
 * the source's, bit for bit. Where weights are codes they are coded anew (tensor/encode.h), which loses something; what
 * that is, measures judge.h, with the adapters beside the model as the original. */
#ifndef COMPRESS_MERGE_H
#define COMPRESS_MERGE_H
#include "base/log.h"
#include "base/progress.h"
#include "model/adapters.h"

struct merge_options {
    const struct model_adapter *adapters; size_t n_adapters;   /* paths and scales                        */
    enum dtype type;                    /* of all matrices, F32, F16 or BF16; DT_COUNT: each as it was     */
    bool force;                         /* replace what is there                                           */
    struct progress progress;
    struct log log;
    const volatile int *cancel;         /* may be NULL                                                     */
};
struct merge_report { uint32_t changed, tensors; bool coded; uint64_t bytes; };

/* path: a GGUF file. E_ARG: an adapter of another model; E_UNSUP: one that acts on some rows alone, which no weight can
 * say. The file is whole or not there. */
stretto_status merge_write(const char *path, const char *out, const struct merge_options *o,
                           struct merge_report *report, struct error *err);
#endif
