/* The merged draft of one step: a trie of guesses below the last certain token. Every source adds
 * its paths; equal tokens below the same parent are one node, so what two sources agree on costs
 * one row. The trie then becomes rows of a step whose parents are its edges, and one step verifies
 * all of it (tree attention: SpecInfer arXiv 2305.09781; merged sources: arXiv 2411.04975). */
#ifndef DECODE_DRAFT_H
#define DECODE_DRAFT_H
#include "base/arena.h"
#include <stdbool.h>

enum {
    DRAFT_ROOT = -1,    /* parent: the last certain token itself, row 0 of the sequence       */
    DRAFT_FULL = -2,    /* draft_add: no place left, or too deep; draft_find: no such child   */
    DRAFT_NODES = 256,  /* nodes a draft holds                                                */
    DRAFT_ROWS = 48,    /* rows besides row 0 that a step may spend on one sequence           */
    DRAFT_BUCKETS = 16, /* classes of confidence of a source's guesses                        */
    DRAFT_SOURCES = 8   /* strategies there may be                                            */
};

struct draft_node {
    int32_t token, parent;  /* parent: an earlier node, or DRAFT_ROOT                             */
    int32_t child, sibling; /* first child, next sibling; -1: none                                */
    float p;                /* chance that it is right if its parent is, as calibrated            */
    float path;             /* product of p from the root down to here; draft_weigh makes it      */
    uint32_t depth;         /* 1: follows the last certain token                                  */
    uint32_t sources;       /* bit s: source s proposed it                                        */
    uint8_t bucket_of[DRAFT_SOURCES]; /* the class each source gave it                            */
    bool wanted;            /* its source needs its answer even if p is low (Jacobi, lookahead)   */
    int32_t row;            /* its row among the sequence's rows of the step, 1..; 0: not sent    */
    int32_t answer;         /* the token the model says comes after it; -1 where not sent         */
};

struct draft {
    struct draft_node *node;           /* [DRAFT_NODES] */
    uint32_t n, deepest;               /* deepest: no node may stand deeper                    */
    int32_t first;                     /* first child of the root, -1: none                    */
    int32_t order[DRAFT_ROWS];         /* nodes sent, parents first; row i + 1 is order[i]     */
    uint32_t n_sent;
};

void draft_plan(struct draft *d, struct arena *a);
/* Empty, for guesses of at most `deepest` tokens. */
void draft_clear(struct draft *d, uint32_t deepest);
/* The child of `parent` that stands for token, or DRAFT_FULL when there is none. */
int32_t draft_find(const struct draft *d, int32_t parent, int32_t token);
/* Adds token below parent, or joins the node that is there: p becomes the larger of the two.
 * Returns the node, or DRAFT_FULL. */
int32_t draft_add(struct draft *d, int32_t parent, int32_t token, unsigned source, unsigned bucket,
                  float p);
/* Makes every node's `path`. Siblings whose chances sum to more than one are scaled down to it. */
void draft_weigh(struct draft *d);
/* path values of a weighed draft in descending order, at most n: what the controller weighs against
 * the cost of rows. */
uint32_t draft_gains(const struct draft *d, float *path, uint32_t n);
/* Chooses at most n nodes of a weighed draft, best path first, parents before children (greedy is
 * optimal: a child's path is never above its parent's); `wanted` nodes and their ancestors come
 * before all others. Fills order and row, the likeliest child right behind its parent, so that a
 * chain stays a chain of rows. Returns how many. */
uint32_t draft_select(struct draft *d, uint32_t n);
#endif
