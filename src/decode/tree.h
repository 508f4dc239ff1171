/* The merged guesses of one step, a tree below the last certain token. Every strategy adds
 * its paths; equal tokens below the same parent are one node, so what two strategies agree on costs
 * one row. The trie then becomes rows of a step whose parents are its edges, and one step verifies
 * all of it (tree attention: SpecInfer arXiv 2305.09781; merged strategies: arXiv 2411.04975). */
#ifndef DECODE_TREE_H
#define DECODE_TREE_H
#include "base/arena.h"
#include <stdbool.h>

enum {
    TREE_ROOT = -1,    /* parent: the last certain token itself, row 0 of the sequence       */
    TREE_FULL = -2,    /* tree_add: no place left, or too deep; tree_find: no such child   */
    TREE_NODES = 256,  /* nodes a tree holds                                                */
    TREE_ROWS = 48,    /* rows besides row 0 that a step may spend on one sequence           */
    CONFIDENCE_BUCKETS = 16, /* buckets of confidence of a strategy's guesses                        */
    STRATEGIES_MOST = 8   /* strategies there may be                                            */
};

struct guess_node {
    int32_t token, parent;  /* parent: an earlier node, or TREE_ROOT                             */
    int32_t child, sibling; /* first child, next sibling; -1: none                                */
    float p;                /* chance that it is right if its parent is, as calibrated            */
    float path;             /* product of p from the root down to here; tree_weigh makes it      */
    uint32_t depth;         /* 1: follows the last certain token                                  */
    uint32_t strategies;       /* bit s: strategy s proposed it                                        */
    uint8_t bucket_of[STRATEGIES_MOST]; /* the class each strategy gave it                            */
    bool wanted;            /* its strategy needs its answer even if p is low (Jacobi, lookahead)   */
    bool foretold;          /* a row ahead of the step before said it (strategy.h)                */
    int32_t row;            /* its row among the sequence's rows of the step, 1..; 0: not sent    */
    int32_t answer;         /* the token the model says comes after it; -1 where not sent         */
};

struct guess_tree {
    struct guess_node *node;           /* [TREE_NODES] */
    uint32_t n, deepest;               /* deepest: no node may stand deeper                    */
    int32_t first;                     /* first child of the root, -1: none                    */
    int32_t order[TREE_ROWS];         /* nodes sent, parents first; row i + 1 is order[i]     */
    uint32_t n_sent;
};

void tree_plan(struct guess_tree *d, struct arena *a);
/* Empty, for guesses of at most `deepest` tokens. */
void tree_clear(struct guess_tree *d, uint32_t deepest);
/* The child of `parent` that stands for token, or TREE_FULL when there is none. */
int32_t tree_find(const struct guess_tree *d, int32_t parent, int32_t token);
/* Adds token below parent, or joins the node that is there: p becomes the larger of the two.
 * Returns the node, or TREE_FULL. */
int32_t tree_add(struct guess_tree *d, int32_t parent, int32_t token, unsigned strategy, unsigned bucket,
                  float p);
/* Makes every node's `path`. Siblings whose chances sum to more than one are scaled down to it. */
void tree_weigh(struct guess_tree *d);
/* path values of a weighed tree in descending order, at most n: what the controller weighs against
 * the cost of rows. */
uint32_t tree_gains(const struct guess_tree *d, float *path, uint32_t n);
/* The same of nodes that are not wanted. */
uint32_t tree_gains_beside(const struct guess_tree *d, float *path, uint32_t n);
/* Chooses at most n nodes of a weighed tree, best path first, parents before children (greedy is
 * optimal: a child's path is never above its parent's); `wanted` nodes and their ancestors come
 * before all others. Fills order and row, the likeliest child right behind its parent, so that a
 * chain stays a chain of rows. Returns how many. */
uint32_t tree_select(struct guess_tree *d, uint32_t n);
#endif
