/* A Hugging Face folder from another one and a GGUF file that was made of it (convert.h) and changed since: the
 * weights of the file as model.safetensors, under the names and in the order of rows that the folder has; config.json
 * with the sizes that are others now; everything else of the folder, tokenizer and templates, as it is. */
#ifndef FORMAT_HF_WRITE_H
#define FORMAT_HF_WRITE_H
#include "base/progress.h"
#include "base/status.h"
#include "tensor/dtype.h"
#include <signal.h>

struct hf_write_options {
    enum dtype type;                    /* of all weights: F32, F16 or BF16                                  */
    struct progress progress;
    const volatile int *cancel;         /* may be NULL                                                       */
};

/* out: a folder that is not there, or is empty; it appears when it is whole and is called OUT.part until then. E_UNSUP
 * with what it is that a folder cannot say: layers that differ in size, tensors that it has no name for. */
stretto_status hf_write(const char *folder, const char *gguf, const char *out, const struct hf_write_options *o,
                        struct error *err);
#endif
