/* One layer of a model, or a part of it, as a program of its own: vectors go in, vectors come out, as float32 all
 * the way. The embedding belongs to the first layer, norm and head to the last. */
#ifndef COMPRESS_PIECE_H
#define COMPRESS_PIECE_H
#include "backend/backend.h"
#include "graph/binding.h"

/* Places of a layer, in the order in which a text passes them. */
enum piece_place {
    PIECE_IN,       /* the residual stream before the layer; token ids before the first              */
    PIECE_ATTENDED, /* what attn_output reads, */
    PIECE_MIXED,    /* and what it answers                                                           */
    PIECE_MIDDLE,   /* the residual stream between attention and feed-forward                        */
    PIECE_FED,      /* what ffn_down reads, */
    PIECE_MADE,     /* and what it answers                                                           */
    PIECE_OUT       /* the residual stream behind the layer; of the last one logits                  */
};

struct piece;

/* From a place (IN or MIDDLE) to a later one, for texts of up to `window` tokens. The binding is read now and not
 * again; graph and device are borrowed. */
stretto_status piece_open(struct piece **out, struct device *d, const struct graph *g, uint32_t layer,
                          enum piece_place from, enum piece_place to, const struct binding *b, uint32_t window,
                          struct error *err);
/* A whole layer with its weights as they are in a step; `asks` rows of a text are answered at once at most. */
stretto_status piece_open_step(struct piece **out, struct device *d, const struct graph *g, uint32_t layer,
                               const struct binding *b, uint32_t window, uint32_t asks, unsigned threads,
                               struct error *err);
/* A linear layer alone, for one row that is written, with its weight as it is in a step: rows [n_in] come in,
 * [n_out] come out. */
stretto_status piece_open_linear(struct piece **out, struct device *d, uint32_t n_in, uint32_t n_out,
                                 const struct binding *b, unsigned threads, struct error *err);
void piece_close(struct piece *p);
/* Numbers of a row that comes out. */
uint32_t piece_width(const struct piece *p);
/* A text of n tokens, read as a prompt: ids into the first layer, rows [n][width] into the others. out: rows
 * [n][piece_width], of logits only those from row `first` on. */
stretto_status piece_run(struct piece *p, const int32_t *ids, const float *rows, uint32_t n, uint32_t first,
                         float *out, struct error *err);
#endif
