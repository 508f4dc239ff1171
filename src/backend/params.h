/* What backends do alike with a graph's parameters when they upload them: what each is used for, whether
 * it can be read, its columns as panels are made of them, its elements as a vector. */
#ifndef BACKEND_PARAMS_H
#define BACKEND_PARAMS_H
#include "base/status.h"
#include "graph/binding.h"
#include "graph/graph.h"

/* linear[i]: a linear layer's weight; table[i]: looked up by row. A parameter that is neither is a vector. */
void params_used(const struct graph *g, bool *linear, bool *table);
stretto_status param_check(const struct param_bytes *s, const char *name, struct error *err);
/* E_NOMEM where `bytes` of weights are more than the device has (0: not known), in a sentence that ends with what
 * that is and what to do. */
stretto_status params_fit(uint64_t bytes, uint64_t have, bool reference, const char *advice, struct error *err);

/* The n_in elements of a vector. */
stretto_status param_vector(const struct param_bytes *s, float *to);

/* Up to 16 columns of a weight as the file has them, one output each, `stride` bytes apart. */
struct linear_columns { enum dtype type; const void *at; size_t stride, n; };
/* n columns from `col` on: in place or, where the tensor is stored transposed, gathered into scratch of n
 * columns. */
struct linear_columns param_columns(const struct param_bytes *s, uint32_t col, uint32_t n, void *scratch);
/* A panel of that type: the columns' own, or float32. scratch: 16 * n_in floats, for the latter. */
void columns_pack(const struct linear_columns *from, enum dtype type, uint32_t n_in, float *scratch,
                  void *panel);
/* Panel `panel` of n_panels has been made: gives back the file's pages that are behind it, now and then. */
void param_release(const struct param_bytes *s, uint32_t panel, uint32_t n_panels);
/* All of its panels have been made: gives back memory that is `once`. */
void param_release_whole(const struct param_bytes *s);
#endif
