/* Adapters as nodes: low-rank additions to linear layers, arXiv 2106.09685. Behind a layer y = W x stand
 *
 *   A x  [rank]  ->  times scale  ->  B of it  [n_out]  ->  y + that
 *
 * all ordinary linear layers, so an adapter is trained, lowered, quantised and split as anything else is, and nobody
 * below the graph knows of adapters. Either on all rows; or on those of a set, which the step names, each times a
 * weight of its own (graph.h: ROWS_SETS): x is picked there, and rows that are in no set go through the base's nodes
 * alone. Parameters are called WEIGHT.lora_a ([rank][n_in]) and WEIGHT.lora_b ([n_out][rank]), as in llama.cpp's files;
 * those of a further adapter K of the same graph WEIGHT.lora_a.K. */
#ifndef GRAPH_ADAPT_H
#define GRAPH_ADAPT_H
#include "graph/graph.h"

struct adapt_pair {
    char weight[GRAPH_NAME]; /* of a linear layer: "blk.0.attn_q.weight"                              */
    uint32_t rank, adapter;  /* adapter: which of the graph's, from 0                                  */
    float scale;
    bool chosen;             /* on rows of set number `adapter` alone                                  */
};

/* A graph of its own: g's nodes with the pairs' behind every linear layer that has their weight (the head of a model
 * with a tied table too). Pairs of one weight are added in their order. E_ARG with the name where there is no such
 * layer, or a pair twice. */
stretto_status adapt(const struct graph *g, const struct adapt_pair *pairs, size_t n, struct graph *out,
                     struct error *err);

/* "WEIGHT.lora_a" and the like; false where it does not fit. side: 'a' or 'b'. */
bool adapt_name(char out[GRAPH_NAME], const struct adapt_pair *p, char side);
/* Whether a parameter is an adapter's. */
bool adapt_owns(const char *param);
#endif
