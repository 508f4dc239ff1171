/* Inside of compress/workers.h: what its three files share. */
#ifndef COMPRESS_WORKERS_INT_H
#define COMPRESS_WORKERS_INT_H
#include "cluster/team.h"
#include "compress/workers.h"
#include "kernels/kernels.h"

/* Rows and columns of a square that is worked on at once, by one thread; and the rows that are solved without the
 * help of kernels. */
enum { WORKERS_BLOCK = 128, WORKERS_SUB = 16, WORKERS_SCRATCH = WORKERS_BLOCK * WORKERS_BLOCK };

struct workers {
    struct team *team;
    unsigned threads;
    struct kernels k;
    double *scratch;       /* [threads][WORKERS_SCRATCH] */
};

static inline size_t workers_least(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t workers_blocks(size_t n, size_t block) { return (n + block - 1) / block; }

/* workers_each, and each call gets memory for WORKERS_SCRATCH doubles that is its own meanwhile. */
void workers_share(struct workers *w, size_t n, void (*fn)(void *ud, size_t i, double *scratch), void *ud);
#endif
