/* What rows bring into a graph, made on this machine whatever the device: their vectors, looked up in the
 * mapped file, and the angles of their positions. The same bits for every backend. */
#ifndef BACKEND_INPUT_H
#define BACKEND_INPUT_H
#include "backend/backend.h"
#include "graph/binding.h"
#include "graph/graph.h"
#include "graph/step.h"

/* E_ARG where a step is more than a program takes, or asks what its graph does not compute. */
stretto_status input_check(const struct graph *g, const struct program_limits *l, const struct step *s,
                           struct error *err);
/* The vector of `width` that embedding node n gives row `row`; table NULL for EMBED_VECTOR. */
void input_embed(const struct graph_node *n, const struct param_bytes *table, const struct step *s,
                 size_t row, size_t width, float *out);
/* The row of its table that embedding node n looks up for a row that brings no vector. */
size_t input_table_row(const struct graph_node *n, const struct step *s, size_t row);
/* The factors of a program's angles. */
const float *input_factors(const struct rope_table *r, const struct program_limits *l);
/* n_rot / 2 cosines, then sines. */
void input_angles(const struct rope_table *r, const struct program_limits *l, int32_t position, float *cs);
#endif
