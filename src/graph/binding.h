/* The graph names parameters; a binding supplies their bytes: an open file, later an adapter or a
 * trainer's master weights. */
#ifndef GRAPH_BINDING_H
#define GRAPH_BINDING_H
#include "base/status.h"
#include "tensor/dtype.h"
#include <stdbool.h>

struct param_bytes {
    enum dtype type;
    uint32_t n_in, n_out; /* n_out rows (outputs) of n_in elements; a vector has n_out 1     */
    const void *data;
    size_t row_bytes; /* from one row to the next                                        */
    bool transposed;  /* data is [n_in][n_out] instead, row_bytes from one n_in to the next */
    float add;        /* added to every element of a vector (norm weights stored minus 1) */
    bool memory;      /* not a mapped file: its pages are never given back */
    bool once;        /* memory whose pages are gone once given back: all at once, when nobody reads them */
};

struct binding {
    void *ud;
    /* Finds a parameter of the given shape; n_out 0 accepts any number of rows. */
    stretto_status (*find)(void *ud, const char *name, uint32_t n_in, uint32_t n_out,
                           struct param_bytes *out, struct error *err);
};
#endif
