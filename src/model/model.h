/* A model: an opened file, its tokenizer, its graph and its weights as its device wants them.
 * Immutable once open, shared by engines and threads. Its engines, and companions of theirs, run on
 * its device, which it borrows from who opened it or, where none was given, opens for itself. */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H
#include "backend/split.h"
#include "format/source.h"
#include "graph/binding.h"
#include "model/adapters.h"
#include "model/family.h"
#include "text/tokenizer.h"

struct more_tokens;

struct model_open_options {
    struct device *device; /* borrowed, also by other models; NULL = one of its own, as follows */
    const struct split_ask *split; /* instead: over these devices, borrowed too, or NULL. Where the first has
                                      room for all, the model is on it alone (backend/split.h)      */
    const char *level;     /* ceiling of the kernels, NULL = none                         */
    uint64_t memory;       /* bytes that may be taken; 0 = what the machine has           */
    unsigned threads;      /* for packing; 0 = what the device has                        */
    bool reference;       /* the float32 path                                             */
    const char *scales;   /* upload_options.scales, or NULL                               */
    const struct model_adapter *adapters; size_t n_adapters; /* their paths and scales     */
    const struct more_tokens *more; /* that the file gets first (format/extend.h), or NULL      */
    bool vocabulary_only; /* tokenizer and metadata, no weights                           */
    bool graph_only;      /* those and the graph: for who reads weights layer by layer    */
    void (*progress)(void *ud, uint64_t done, uint64_t total);
    void (*log)(void *ud, const char *line); /* from the thread that opens                     */
    void *ud;
    const volatile int *cancel;
};

struct model {
    struct source *source;
    struct tokenizer *tokenizer; /* NULL when the file carries none                              */
    const struct family *family;
    struct config config;
    struct graph graph;
    struct weights *weights;
    struct device *device;       /* NULL when opened without weights                             */
    bool owns_device;
    struct split_shares shares;  /* n 0: nobody asked for several devices                        */
    uint64_t tensor_bytes; /* of the file's tensors                                        */
    double load_seconds;
    bool reference;
    bool loads;                  /* weights were asked for: a packed source is spent by that      */
    struct model_adapter *adapters; /* whose nodes are in the graph                        */
    size_t n_adapters;
};

stretto_status model_open(struct model **out, const char *path, const struct model_open_options *o,
                          struct error *err);
void model_close(struct model *m);
/* Gives back the pages of the file that weights and rows of tables were read from; they come again when they are
 * read. A row brings its neighbours, so a table that is looked up in is soon in memory whole. */
void model_release(const struct model *m);
/* A parameter of the file, as a binding's find (graph/binding.h); ud is the model. */
stretto_status model_param(void *ud, const char *name, uint32_t n_in, uint32_t n_out,
                           struct param_bytes *out, struct error *err);
#endif
