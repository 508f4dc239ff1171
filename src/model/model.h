/* A model: an opened file, its tokenizer, its graph and its weights as the backend wants them.
 * Immutable once open, shared by engines and threads. */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H
#include "backend/backend.h"
#include "cluster/team.h"
#include "format/source.h"
#include "graph/binding.h"
#include "model/family.h"
#include "text/tokenizer.h"

struct model_open_options {
    unsigned threads;     /* for packing; 0 = what the machine allows                     */
    const char *level;    /* ceiling of the kernels, NULL = none                          */
    bool reference;       /* the float32 path                                             */
    bool vocabulary_only; /* tokenizer and metadata, no weights                           */
    void (*progress)(void *ud, uint64_t done, uint64_t total);
    void (*log)(void *ud, const char *line); /* from the thread that opens                     */
    void *ud;
    const volatile int *cancel;
    uint64_t memory;      /* bytes that weights may take; 0 = what the machine has        */
};

struct model {
    struct source *source;
    struct tokenizer *tokenizer; /* NULL when the file carries none                              */
    const struct family *family;
    struct config config;
    struct graph graph;
    struct weights *weights;
    const struct backend *backend;
    uint64_t tensor_bytes; /* of the file's tensors                                        */
    double load_seconds;
    bool reference;
};

stretto_status model_open(struct model **out, const char *path, const struct model_open_options *o,
                          struct error *err);
void model_close(struct model *m);
/* A parameter of the file, as a binding's find (graph/binding.h); ud is the model. */
stretto_status model_param(void *ud, const char *name, uint32_t n_in, uint32_t n_out,
                           struct param_bytes *out, struct error *err);
#endif
