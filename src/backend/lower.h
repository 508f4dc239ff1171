/* Lowering: a graph becomes phases, the same for every backend. What fuses is said at the head of
 * lower.c.
 *
 * A phase is either a list of row operations, done row by row without a barrier between them; a set
 * of linear layers that share one input; an attention; or the head. That is all the fusing there
 * is: q|k|v and gate|up become one phase, and everything between two of them one pass over each
 * row. A graph with a loss has more: linear layers backwards, of several inputs; gradients of parameters; attention
 * among the rows of the step, and its gradient; and the loss, which takes the rows that ask some at a time. */
#ifndef BACKEND_LOWER_H
#define BACKEND_LOWER_H
#include "base/arena.h"
#include "base/status.h"
#include "graph/graph.h"

/* What linear layers read a value as, besides float32. A given row that only layers with a kernel of
 * their own for given rows read needs no codes, a written row no bf16 but where FORM_BF16_WRITTEN says so. */
enum form { FORM_CODES = 1, FORM_CODES_GIVEN = 2, FORM_BF16 = 4, FORM_BF16_WRITTEN = 8 };

enum row_op {
    ROW_EMBED, ROW_NORM, ROW_ROPE, ROW_ACT, ROW_ACT_MUL, ROW_MUL, ROW_ADD, ROW_BIAS, ROW_SCALE,
    ROW_SOFTCAP, ROW_QUANT, ROW_STORE, ROW_ASK, ROW_ANGLES,
    ROW_COPY, ROW_WEIGH, ROW_UNASK, ROW_DOTS, ROW_NORM_BACK, ROW_ACT_BACK, ROW_ACT_MUL_BACK, ROW_SOFTCAP_BACK
};

struct row_instr {
    enum row_op op;
    const struct graph_node *node;
    int32_t in, in2, out; /* values                                                          */
    /* Of ROW_ACT_MUL_BACK: in and in2 are gate and up, in3 the gradient of y = act(gate) * up; out, out2 and out3 are
     * those of gate and up, and y or GRAPH_NONE. Of the others all GRAPH_NONE. */
    int32_t in3, out2, out3;
};

enum phase_kind {
    PHASE_ROWS, PHASE_LINEAR, PHASE_ATTENTION, PHASE_HEAD,
    PHASE_BACK,                   /* linear layers backwards                                      */
    PHASE_GRAD,                   /* sinks                                                        */
    PHASE_SEE, PHASE_SEE_BACK,
    /* Of `count` rows that ask, from `first` on: their logits; those of the asks that they are to be like; their own
     * become gradients; the gradient of what the head
     * read; and of the head, where it is trained. */
    PHASE_LOGITS, PHASE_LIKE, PHASE_LOSS, PHASE_LOSS_BACK, PHASE_LOSS_GRAD
};

enum { MAX_PARTS = 4 };

struct phase {
    enum phase_kind kind;
    enum rows_kind rows;
    uint32_t first, count; /* PHASE_ROWS: row instructions; of the loss: rows                */
    uint32_t n_parts; /* PHASE_LINEAR; PHASE_HEAD: 1, or 0 where other nodes made the logits  */
    /* Of the head: out is GRAPH_NONE where nobody reads its value, bias where it has none. Of a sink: `in` is dy, and
     * the node says the rest. PHASE_SEE: out, and in param what stands beside it or GRAPH_NONE. PHASE_SEE_BACK: out of
     * the parts are dq, dk and dv, GRAPH_NONE where they are not made. */
    struct { int32_t in, out, param, bias; const struct graph_node *node; } part[MAX_PARTS];
    const struct graph_node *node; /* PHASE_ATTENTION, PHASE_SEE ..., of the loss; PHASE_HEAD: the softcap or NULL */
    int32_t capped; /* PHASE_HEAD: the softcap's value, GRAPH_NONE where nobody reads it       */
};

/* Values that are others with some rows changed are in the same place (lower.c: sets). */

/* A value's place in the memory of values, in bytes from its beginning: float32 rows, and the forms in which
 * linear layers read it (kernels/kernels.h: struct act). Row r of an array begins r * ld elements behind its
 * first; those of `sum` are 2 * ldd apart. */
struct value_place {
    size_t f, ld;
    size_t q, ldq;
    size_t d, s, sum, ldd;
    size_t h;            /* bf16, ldq apart */
    uint8_t forms;       /* enum form */
};

struct lowered {
    struct phase *phases;
    struct row_instr *rows;
    struct value_place *place; /* [n_values]; of values that are never written all zero            */
    size_t n_phases, n_rows;
    bool ends_in_head;         /* the last phase is for answers made of logits alone               */
    struct value_place logits; /* of the loss's rows at a time; where there is no loss all zero     */
    struct value_place like;   /* of what these are to be like; with rule.likes                     */
};

struct lower_rules {
    uint32_t max_rows, max_asks;
    bool strict;               /* both roles read the forms of written rows                        */
    uint8_t (*forms)(const void *ud, int32_t param);   /* enum form, in which a linear layer with this
                                                          weight reads rows of two roles            */
    const void *ud;
    /* Of a backend that trains; else NULL, and graphs with a loss are refused by name. The forms in which a weight's
     * transposed reads rows. */
    uint8_t (*forms_back)(const void *ud, int32_t param);
    bool likes;                /* program_limits.likes                                             */
    bool sets;                 /* it runs the rows of sets; else graphs that have some are refused by name */
};

/* Takes phases, instructions and places from `own` and the memory of values from `values`, which may be the
 * same arena; with own->base NULL it only measures both, and out has the counts. */
stretto_status lower(const struct graph *g, const struct lower_rules *r, struct lowered *out,
                     struct arena *own, struct arena *values, struct error *err);
#endif
