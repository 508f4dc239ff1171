/* A backend that computes in integers alone from the embedding to the logits: the arithmetic of a machine without
 * floating point, on the CPU. What is computed is said in fixed.h and rows.h; here is who does it. Floating point
 * stands at the ends: scales and codes are made of a file's weights when they are uploaded, tokens are looked up as
 * float32, and hidden states and logits are given out so.
 *
 *   weights      int8 codes with a scale for each output: the largest of its weights is 127
 *   linear       reads int8 codes with a scale for each row, made of the row's largest number or, where the
 *                device has static scales, by that of the weight; sums in int32 (exact); requantised to a row
 *   keys, values int8 codes with a scale for each token and head; queries int16
 *   attention    all scores of a row, their largest, 2^x of the differences, sums in 64 bits: integers add up to
 *                the same in any order, so rows, threads and pages cannot change bits */
#ifndef BACKEND_INTEGER_INTEGER_H
#define BACKEND_INTEGER_INTEGER_H
#include "backend/answers.h"
#include "backend/backend.h"
#include "backend/integer/rows.h"
#include "backend/lower.h"
#include "cluster/team.h"
#include "graph/binding.h"
#include "graph/step.h"
#include "kernels/kernels.h"
#include <stdatomic.h>

/* Inputs of a linear layer, so that 127 * 127 * n < 2^31; numbers of a head, so that 32767 * 127 * n < 2^31. */
enum { INTEGER_INPUTS = 133144, INTEGER_HEAD = 512, INTEGER_WIDTH = 1 << 20 };

struct integer_device {
    struct device device;
    struct team *team;
    struct kernels kernels; /* whose code_sums is all that is used                              */
    uint64_t memory;        /* the most that may be taken; 0: what the machine has              */
    atomic_uint_fast64_t taken;
};

struct weight {
    uint32_t n_in, n_out;
    const int8_t *code;       /* [n_out][ld]; NULL: it is no linear layer's                     */
    size_t ld;
    const int32_t *m;         /* [n_out] scales m * 2^e                                         */
    int32_t e;
    struct scale input, inverse; /* of what it reads, where that is known beforehand; else m is 0 */
    struct vector vector;     /* a vector's elements                                            */
    struct param_bytes table; /* rows for lookups: the file's own bytes                         */
};

struct weights {
    struct integer_device *device;
    struct weight *weight;    /* [n], by graph parameter                                        */
    size_t n;
    atomic_uint_fast64_t *seen; /* [n] the largest number that it read, as the bits of a double */
    void *memory;
    size_t bytes;
};

/* A value's rows: numbers with an exponent each, codes with a scale each. */
struct place {
    int32_t *x, *e;
    size_t ld;
    int8_t *code;
    size_t ldq;
    struct scale *scale;
};

/* What a node's numbers become. */
struct numbers {
    struct norm norm;
    struct vector bias;
    struct scale by;          /* OP_SCALE; OP_ATTENTION: of scores, with log2(e) where there is no cap */
    struct scale cap, of_cap; /* softcap_of                                                     */
};

/* Phases (lower.h), with a linear one in two and an attention too: sums, then rows of them. */
enum stage_kind { STAGE_ROWS, STAGE_LINEAR, STAGE_REQUANTISE, STAGE_ATTENTION, STAGE_HEADS, STAGE_HEAD };
struct stage { enum stage_kind kind; const struct phase *phase; };

/* Of a thread. */
struct scratch {
    int64_t *p;                        /* [widest row]                                          */
    float *f;                          /* [widest row], or logits [HEAD_ROWS][HEAD_COLS]        */
    int32_t *sum;                      /* [HEAD_ROWS][HEAD_COLS]                                */
    int32_t *score, *slot;             /* [positions of a sequence]                             */
    int16_t *query;                    /* [head_dim]                                            */
    int64_t *acc;                      /* [head_dim]                                            */
};

/* Pages of a layer group: [max_pages][layers][kv_heads] of (scales of 64 keys, of 64 values, codes of both). */
struct page_pool { unsigned char *pages; size_t head_bytes, page_bytes, bytes; };

struct program {
    const struct graph *g;
    const struct weights *w;
    struct integer_device *device;
    unsigned threads;
    struct program_limits limits;

    struct lowered low;
    struct stage *stages;
    size_t n_stages;
    struct place *place;               /* [n_values]                                            */
    struct numbers *numbers;           /* [n_nodes]                                             */
    uint64_t *turn[ROPE_TABLES];       /* of each pair: rows.h                                  */
    struct scale magnitude[ROPE_TABLES];
    int32_t *angles[ROPE_TABLES];      /* [max_rows][n_rot]                                     */
    int32_t *head_e;                   /* [max_rows][most heads]: exponents of an attention's heads */
    uint32_t most_heads;
    struct scratch *scratch;           /* [threads + 1], the last for what one thread does alone */
    struct best *best;                 /* [threads][max_asks]                                   */
    struct step_top *top;
    atomic_uint_fast32_t *tickets;     /* [n_stages]                                            */
    void *memory;                      /* everything above, one block                           */
    size_t bytes;

    struct page_pool pool[GRAPH_GROUPS];

    /* the step that is running */
    const struct step *step;
    struct answer *const *answers;
    size_t next, n_run;
    atomic_int stop;
};

enum { HEAD_COLS = 128, HEAD_ROWS = 16, LINEAR_COLS = 32 };

extern const struct backend backend_integer;

static inline struct row row_at(const struct place *v, size_t r) { return (struct row){ v->x + r * v->ld, v->e + r }; }

/* weights.c */
stretto_status integer_upload(struct weights **out, struct device *on, const struct graph *g, const struct binding *b,
                              const struct upload_options *o, struct error *err);
void integer_weights_close(struct weights *w);
/* A number as a scale; m is negative where it is. */
struct scale scale_of(double x);

/* scales.c */
void scales_see(const struct program *p, int32_t param, struct scale s);
stretto_status scales_read(struct weights *w, const struct graph *g, const char *path, struct error *err);

/* program.c */
stretto_status integer_plan(struct device *d, const struct graph *g, const struct weights *w,
                            const struct program_limits *l, struct program_bytes *out, struct error *err);
stretto_status integer_compile(struct program **out, struct device *d, const struct graph *g, const struct weights *w,
                               const struct program_limits *l, struct error *err);
void integer_program_close(struct program *p);

/* run.c */
stretto_status integer_run(struct program *p, const struct step *s, struct answer *const *answers, struct error *err);

/* attention.c. Keys and values of a head in a page: */
struct kept { struct scale *k, *v; int8_t *k_code, *v_code; };
static inline size_t kept_bytes(size_t head_dim)
{
    return 2 * PAGE_SLOTS * (sizeof(struct scale) + ((head_dim + 7) & ~(size_t)7));
}
static inline struct kept kept_of(const struct program *p, uint32_t group, int32_t page, uint32_t member, uint32_t head)
{
    const struct page_pool *x = &p->pool[group];
    const struct layer_group *g = &p->g->group[group];
    unsigned char *at = x->pages + (size_t)page * x->page_bytes + ((size_t)member * g->kv_heads + head) * x->head_bytes;
    struct scale *k = (struct scale *)(void *)at;
    int8_t *code = (int8_t *)(k + 2 * PAGE_SLOTS);
    return (struct kept){ k, k + PAGE_SLOTS, code, code + (size_t)PAGE_SLOTS * g->head_dim };
}
void heads_store(const struct program *p, const struct row_instr *r, size_t row);
/* One row's queries that share a head of keys and values; then the row's heads get one exponent. */
void heads_attend(const struct program *p, const struct phase *ph, size_t row, uint32_t head, struct scratch *s);
void heads_join(const struct program *p, const struct phase *ph, size_t row);
#endif
