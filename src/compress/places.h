/* Where a model is free: values that linear layers read, made by something that passes a factor on. Channel c of such a
 * value may be divided by any factor where it is made, and multiplied by it in the columns of those who read it; the
 * model stays the same. The places follow from the graph alone: what made a value, and who else reads it.
 *
 *   norm      -> q, k, v; gate, up   the norm's weight and bias, of any family whose norm nobody else reads
 *   up        -> down                rows of up (and its bias) where the feed-forward part multiplies: what the
 *                                    gate makes is a factor. Behind a GELU alone there is no such place
 *   values    -> attn_output         rows of the values' projection; heads that share values share factors. Inside
 *                                    a head not only factors but any orthogonal matrix is free (QuaRot, SpinQuant's
 *                                    R2: arXiv 2404.00456, 2405.16406) */
#ifndef COMPRESS_PLACES_H
#define COMPRESS_PLACES_H
#include "graph/graph.h"

enum { PLACE_READERS = 16 };
enum place_kind { PLACE_NORM, PLACE_LINEAR, PLACE_VALUES };

struct place {
    const char *why;        /* NULL: it is free; otherwise why it is not, in words                    */
    enum place_kind kind;
    int32_t layer;
    int32_t value;          /* what is read                                                     */
    int32_t weight, bias;   /* parameters of who makes it; bias GRAPH_NONE: none                  */
    uint32_t width;         /* columns of those who read it                                     */
    uint32_t channels;      /* factors: of the maker's rows                                     */
    uint32_t head_dim, sharing;     /* PLACE_VALUES: of a head; heads of queries that share a factor */
};

/* One for every value that linear layers read, in the graph's order; mem_free gives them back. */
stretto_status places_find(struct place **out, size_t *n, const struct graph *g, struct error *err);

/* Which factor a column has. */
static inline uint32_t place_channel(const struct place *p, uint32_t column)
{
    if (p->kind != PLACE_VALUES) return column;
    return column / p->head_dim / p->sharing * p->head_dim + column % p->head_dim;
}

/* The next node from *at on that reads the place's value, and *at behind it; NULL: there are no more. */
const struct graph_node *place_reader(const struct graph *g, const struct place *p, size_t *at);
#endif
