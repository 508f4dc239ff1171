/* Partition: a graph is cut between two layers, so that its parts can run on different devices, one after the
 * other. A cut is where all that is read behind it is one value of all rows: the residual stream. The part
 * before it answers that value as every row's hidden state; the part behind it begins with a row's vector
 * (graph_input, step.h). The whole's answers are the last part's.
 *
 * A part is a graph as any other: the same nodes, parameters and rope tables; values, layers and layer groups
 * are numbered anew. */
#ifndef GRAPH_PARTITION_H
#define GRAPH_PARTITION_H
#include "graph/graph.h"

struct graph_part {
    struct graph graph;
    uint32_t first, layers;      /* of the whole: first .. first + layers                      */
    int32_t group[GRAPH_GROUPS]; /* the whole's layer groups here; GRAPH_NONE: no layer of it  */
};

/* Layers first .. end of the whole. What stands before the layers belongs to a part that begins at 0, what
 * stands behind them to one that ends at g->layers. E_UNSUP, and a sentence, where the graph cannot be cut
 * there. */
stretto_status graph_cut(struct graph_part *out, const struct graph *g, uint32_t first, uint32_t end,
                         struct error *err);
void graph_part_done(struct graph_part *p);

/* Nodes of the whole before the cut in front of layer `layer`: 0 for layer 0, all of them for g->layers. The value
 * that crosses it goes to *value (GRAPH_NONE at both ends). */
stretto_status graph_cut_find(const struct graph *g, uint32_t layer, size_t *nodes, int32_t *value,
                              struct error *err);
#endif
