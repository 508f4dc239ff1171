/* What people are told of phases (lower.h), whatever the backend: a name, and what they need at least. */
#ifndef BACKEND_PHASES_H
#define BACKEND_PHASES_H
#include "backend/lower.h"
#include "graph/step.h"

/* "attn_q/attn_k/attn_v", "norm+quantize", "attention", "head". */
void phase_name(const struct graph *g, const struct lowered *low, const struct phase *ph, char *name,
                size_t size);

struct phase_reader {
    const struct graph *g;
    const struct lowered *low;
    const struct step *step;
    const void *ud;                    /* given to these:                                          */
    double (*param_bytes)(const void *ud, int32_t param);   /* of a weight, as the file has it     */
    double (*row_bytes)(const void *ud, int32_t param);     /* of a table's row                    */
    double (*kv_bytes)(const void *ud, uint32_t group);     /* of a token's key and value in a head */
};
/* Adds the bytes that the phase must read and write in this step, and its multiply-adds. */
void phase_needs(const struct phase_reader *x, const struct phase *ph, double *bytes, double *macs);
#endif
