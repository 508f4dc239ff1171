/* Differentiation: a graph with a loss from a graph with logits. It has the forward's nodes, then nodes that
 * make the gradients of its values, the last layer first, and sinks that add to the gradients of the trained
 * parameters. A step is then rows with targets; its answers are losses.
 *
 * A value gets a gradient where a trained parameter is among what it was made of, so layers below the lowest
 * trained parameter cost nothing. Recomputation is nodes: what is not kept of the forward is repeated in front of
 * the nodes that read it, and lowering knows nothing of it; gradients have the same bits whatever is kept.
 *
 * Rows see rows of their step (struct step: ranges) instead of a cache. Parameters keep their numbers. */
#ifndef GRAPH_DIFFERENTIATE_H
#define GRAPH_DIFFERENTIATE_H
#include "graph/graph.h"

/* What is kept of the forward for the backward nodes. Norms, activations and their products are repeated always. */
enum keep {
    KEEP_VALUES,   /* the others                                                              */
    KEEP_LAYERS    /* what layers read of each other; a layer is run again before it is differentiated: a third more of
                      the forward's time, memory of one layer                                 */
};
struct differentiate {
    const uint8_t *trained; /* [n_params]; none: a graph that answers losses                  */
    enum keep keep;
};

/* E_UNSUP, and a sentence, where there is no loss (no logits), or an operation has no gradient. */
stretto_status differentiate(struct graph *out, const struct graph *forward, const struct differentiate *what,
                             struct error *err);
#endif
