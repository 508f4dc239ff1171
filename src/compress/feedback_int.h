/* What the files of feedback share: a metric with its factor, a type as they see it, and a slab of rows on its
 * way. Errors are measured as e H e^T, e a row's errors and H the sum of x x^T over what the layer was seen to
 * read; with U the upper Cholesky factor of the inverse of H this is the squared length of e U^-1. */
#ifndef COMPRESS_FEEDBACK_INT_H
#define COMPRESS_FEEDBACK_INT_H
#include "compress/feedback.h"
#include "tensor/blocks.h"
#include "tensor/fit.h"
#include <stdbool.h>

struct metric {
    uint32_t n;
    struct feedback_options o;
    uint64_t rows;
    float *importance;      /* [n] mean of x^2, above 0; NULL: unknown                               */
    const float *gram;      /* [n][n] borrowed; NULL: unknown                                        */
    const float *h;         /* [n][n] what errors are made small by: gram, or own, which is shrunk   */
    float *own;
    /* Of the type that was written last: columns in the order in which they get codes, whole blocks in falling
     * importance, and so the groups of a block and the columns of a group. The factor in that order. */
    size_t unit, group;
    uint32_t *order;        /* [n]                                                                   */
    double *u;              /* [n][n] upper                                                          */
};

/* A type of codes. A unit is a block; all groups of a block are next to each other in the order. */
struct codec {
    enum dtype type;
    const struct dtype_info *t;
    struct grid grid;
    size_t unit, group, groups;
    bool min, super;
    struct block_limits limits;
};

struct slab {
    struct workers *w;
    const struct metric *m;
    const struct codec *c;
    const float *weight;    /* [rows][n]                                                             */
    unsigned char *blocks;  /* [rows][n / unit][bytes of a block]                                    */
    size_t rows, n;
    size_t at;              /* the unit now: a place in the order, or a column in sweeps             */
    double *work;           /* [rows][n] weights in order, with the feedback of what has codes       */
    double *errors;         /* [unit][rows] e U^-1 of the unit now                                   */
    float *local;           /* [n][group] the factor within each group, its diagonal inverted        */
    float *slope;           /* [rows][n] e H                                                         */
    float *delta;           /* [unit][rows] changes of e in the unit now                             */
};

enum { SLAB_SOME = 8, SLAB_ROWS = 4096 };      /* rows of a piece of work; of a slab, at most        */

struct codec codec_of(enum dtype t);
/* The value of the grid nearest to v. */
static inline double codec_nearest(const struct codec *c, double v)
{
    const struct grid *g = &c->grid;
    v = v > (double)g->low ? v : (double)g->low;
    v = v < (double)g->high ? v : (double)g->high;
    if (g->values) return (double)g->near[(int)((v - (double)g->low) * 2)];
    return v + 0x1.8p52 - 0x1.8p52;
}

/* Order and factor for blocks of `unit` columns in groups of `group`. */
stretto_status metric_factor(struct metric *m, struct workers *w, size_t unit, size_t group, struct error *err);

/* Scales and codes of all rows, one unit after the other, each with the feedback of those before it. */
void slab_follow(struct slab *s);
/* Blocks are changed where that lowers e H e^T, one after the other, `sweeps` times over. */
void slab_sweep(struct slab *s, unsigned sweeps);
/* slope = e H for the blocks as they are. e: [n][rows], scratch. */
void slab_slope(struct slab *s, const float *h, float *e);
/* fn for every SLAB_SOME rows: workers_each with rows first..end. */
void slab_each(struct slab *s, void (*row)(struct slab *s, size_t r));
#endif
